//! The world as it is.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use millstream_types::{Monotonic, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::steady::Steady;
use super::{Clock, Env, Random, Spawn};
use crate::util::lock;

/// How many computations run at a time. Each may hold two batches of 100 MiB.
const COMPUTATIONS_MAX: usize = 2;

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
    computations: Arc<Semaphore>,
}

impl Env {
    /// The machine's clocks and randomness; tasks run on `runtime`.
    #[must_use]
    pub fn real(runtime: Handle) -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the real clock")]
        let start = Instant::now();
        let steady = Mutex::new(Steady::new(wall(), Monotonic(0)));
        let computations = Arc::new(Semaphore::new(COMPUTATIONS_MAX));
        Self {
            clock: Arc::new(RealClock { start, steady }),
            random: Arc::new(RealRandom),
            tasks: Arc::new(RealTasks { runtime, computations }),
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

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        let (runtime, computations) = (self.runtime.clone(), Arc::clone(&self.computations));
        Box::pin(async move {
            // It is never closed. The permit goes with the work, also when nobody waits any more.
            let Ok(permit) = computations.acquire_owned().await else { return };
            let run = move || {
                work();
                drop(permit);
            };
            if let Err(error) = runtime.spawn_blocking(run).await
                && let Ok(panic) = error.try_into_panic()
            {
                std::panic::resume_unwind(panic);
            }
        })
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

    /// On a runtime with one thread, which is free for tasks meanwhile.
    #[tokio::test]
    async fn computations_hold_up_no_task_and_are_few_at_a_time() {
        let env = Env::real(Handle::current());
        let (begun, mut begins) = tokio::sync::mpsc::unbounded_channel();
        let mut running = Vec::new();
        for number in 0..=COMPUTATIONS_MAX {
            let (end, ends) = std::sync::mpsc::channel();
            let begun = begun.clone();
            let work = move || {
                let _ = begun.send(number);
                let _ = ends.recv();
                number
            };
            let mut computation = Box::pin({
                let env = env.clone();
                async move { env.compute(work).await }
            });
            assert!(futures_util::poll!(&mut computation).is_pending());
            running.push((end, computation));
        }
        let mut first = Vec::new();
        for _ in 0..COMPUTATIONS_MAX {
            first.push(begins.recv().await.unwrap());
        }
        first.sort_unstable();
        assert_eq!(first, (0..COMPUTATIONS_MAX).collect::<Vec<_>>());
        assert!(begins.try_recv().is_err(), "the last one waits");
        for (number, (end, computation)) in running.into_iter().enumerate() {
            end.send(()).unwrap();
            assert_eq!(computation.await, number);
        }
        assert_eq!(begins.recv().await, Some(COMPUTATIONS_MAX));
    }
}
