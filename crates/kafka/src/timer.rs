//! The one timer of a connection.

use futures_util::future::BoxFuture;
use millstream_env::Env;
use millstream_types::Monotonic;

/// A deadline that does not come.
pub(crate) const NEVER: Monotonic = Monotonic(u64::MAX);

/// A timer whose deadline moves with every request. It is set anew only when it has rung, or is to ring
/// earlier, so that a request costs no timer.
pub(crate) struct Timer {
    env: Env,
    set: Option<(Monotonic, BoxFuture<'static, ()>)>,
}

impl Timer {
    pub(crate) const fn new(env: Env) -> Self {
        Self { env, set: None }
    }

    /// What the clock shows.
    pub(crate) fn now(&self) -> Monotonic {
        self.env.clock.monotonic()
    }

    /// Completes when the clock shows `deadline` or later. Loses nothing when it is dropped before.
    pub(crate) async fn reach(&mut self, deadline: Monotonic) {
        if deadline == NEVER {
            return std::future::pending().await;
        }
        while self.now() < deadline {
            let set = match self.set.take().filter(|(at, _)| *at <= deadline) {
                Some(set) => set,
                None => (deadline, self.env.clock.sleep_until(deadline)),
            };
            let (_, rings) = self.set.insert(set);
            rings.await;
            self.set = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn it_rings_at_the_deadline_whatever_it_was_set_to() {
        const SECOND: Duration = Duration::from_secs(1);
        let (env, clock) = Env::seeded(1);
        let start = env.clock.monotonic();
        let mut timer = Timer::new(env);
        let mut rings = |seconds| {
            let deadline = start.plus(SECOND * seconds);
            timer.reach(deadline).now_or_never().is_some()
        };
        assert!(!rings(3));
        assert!(!rings(5), "it rings at three seconds first");
        clock.advance(SECOND * 4);
        assert!(!rings(5), "the deadline has moved");
        assert!(rings(4) && rings(2));
        assert!(!rings(100));
        assert!(!rings(6), "earlier than before");
        clock.advance(SECOND * 2);
        assert!(rings(6));
    }
}
