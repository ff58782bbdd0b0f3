//! The world as it is.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use millstream_types::{Monotonic, Timestamp};
use tokio::runtime::Handle;

use super::steady::Steady;
use super::{Clock, Env, Random, Spawn};
use crate::util::lock;

/// The machine's clocks.
#[derive(Debug)]
struct RealClock {
    start: Instant,
    steady: Mutex<Steady>,
}

/// The operating system's randomness.
#[derive(Debug)]
struct RealRandom;

/// Tasks of a tokio runtime.
#[derive(Debug)]
struct RealTasks {
    runtime: Handle,
}

impl Env {
    /// The machine's clocks and randomness; tasks run on `runtime`.
    #[must_use]
    pub fn real(runtime: Handle) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the real clock")]
        let start = Instant::now();
        let steady = Mutex::new(Steady::new(wall(), Monotonic(0)));
        Self {
            clock: Arc::new(RealClock { start, steady }),
            random: Arc::new(RealRandom),
            tasks: Arc::new(RealTasks { runtime }),
        }
    }
}

impl Clock for RealClock {
    fn monotonic(&self) -> Monotonic {
        Monotonic(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    fn wall(&self) -> Timestamp {
        wall()
    }

    fn expiry(&self) -> Timestamp {
        let (wall, monotonic) = (wall(), self.monotonic());
        lock(&self.steady).now(wall, monotonic)
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()> {
        let wake = self.start.checked_add(Duration::from_nanos(deadline.0));
        Box::pin(async move {
            match wake {
                Some(wake) => tokio::time::sleep_until(wake.into()).await,
                // Past the end of time as the machine counts it.
                None => std::future::pending().await,
            }
        })
    }
}

fn wall() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "this is the real clock")]
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

impl Random for RealRandom {
    fn fill(&self, bytes: &mut [u8]) {
        // Without randomness there are no identifiers, and nothing can be done safely.
        #[expect(clippy::expect_used, reason = "no caller could do anything about it")]
        getrandom::fill(bytes).expect("the operating system gives no randomness");
    }
}

impl Spawn for RealTasks {
    fn spawn(&self, _name: &'static str, task: BoxFuture<'static, ()>) {
        drop(self.runtime.spawn(task));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_passes_and_tasks_run() {
        let env = Env::real(Handle::current());
        let before = env.clock.monotonic();
        let (done, wait) = tokio::sync::oneshot::channel();
        let inner = env.clone();
        env.spawn("test", async move {
            inner.sleep(Duration::from_millis(1)).await;
            let _ = done.send(());
        });
        wait.await.unwrap();
        assert!(env.clock.monotonic().since(before) >= Duration::from_millis(1));
        assert!(env.clock.wall() > Timestamp(1_700_000_000_000));
        assert_ne!(env.uuid(), env.uuid());
    }
}
