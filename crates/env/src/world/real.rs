//! The world as it is.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use millstream_types::{Monotonic, Timestamp};
use std::sync::Arc;
use tokio::runtime::Handle;

use super::{Clock, Env, Random, Spawn};

/// The machine's clocks.
#[derive(Debug)]
struct RealClock {
    start: Instant,
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
        Self {
            clock: Arc::new(RealClock { start }),
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
        #[expect(clippy::disallowed_methods, reason = "this is the real clock")]
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
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
