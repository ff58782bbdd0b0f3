//! Time, randomness and tasks.

mod real;
mod seeded;
mod steady;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use millstream_types::{Monotonic, Timestamp, Uuid};
use tokio::sync::oneshot;

pub use seeded::HandClock;

/// Two clocks and a way to wait.
pub trait Clock: Debug + Send + Sync {
    /// A clock that never goes back. Timeouts use it.
    fn monotonic(&self) -> Monotonic;

    /// The time of day. Record timestamps and persisted deadlines use it.
    fn wall(&self) -> Timestamp;

    /// The time of day that retention and expiry go by: where [`Clock::wall`] was set by more than
    /// five minutes, the earlier of that and what it would be otherwise. A restart confirms a step.
    fn expiry(&self) -> Timestamp;

    /// Completes at `deadline` or soon after; at once when it has passed.
    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()>;
}

/// A source of randomness.
pub trait Random: Debug + Send + Sync {
    /// Fills `bytes` with random ones.
    fn fill(&self, bytes: &mut [u8]);
}

/// Where work runs.
pub trait Spawn: Debug + Send + Sync {
    /// Runs `task` to its end, beside the caller. `name` is for people.
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>);

    /// Runs `work`, which keeps a processor busy for long, where it holds up no task, and completes
    /// when it is done. Only a few run at a time, since such work takes memory too; others wait.
    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()>;
}

/// The world as one run of the program sees it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Env {
    /// The clocks.
    pub clock: Arc<dyn Clock>,
    /// The randomness.
    pub random: Arc<dyn Random>,
    /// The tasks.
    pub tasks: Arc<dyn Spawn>,
}

impl Env {
    /// Completes after `time`.
    pub fn sleep(&self, time: Duration) -> BoxFuture<'static, ()> {
        self.clock.sleep_until(self.clock.monotonic().plus(time))
    }

    /// Runs `task` beside the caller.
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(name, Box::pin(task));
    }

    /// What `work` comes to, which keeps a processor busy for long: it runs beside the tasks, a few
    /// at a time.
    pub async fn compute<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (tell, told) = oneshot::channel();
        let work = move || {
            // Who has stopped waiting does not mind.
            let _ = tell.send(work());
        };
        self.tasks.compute(Box::new(work)).await;
        match told.await {
            Ok(done) => done,
            // It was never run, because the runtime is going down, and whoever waits goes with it.
            Err(_) => std::future::pending().await,
        }
    }

    /// A fresh identifier.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        let mut bytes = [0; 16];
        self.random.fill(&mut bytes);
        Uuid::from_random(bytes)
    }
}
