//! When to try again what has failed.

use std::time::Duration;

use millstream_types::Monotonic;

/// The pause after the first failure; each further one doubles it.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// It is doubled at most so often: 16 s.
const DOUBLINGS_MAX: u32 = 4;

/// How often something failed in a row, and until when it is left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Backoff {
    failures: u32,
    until: Monotonic,
}

impl Backoff {
    /// It failed again. Returns how often now.
    pub(crate) fn failed(&mut self, now: Monotonic) -> u32 {
        let pause = PAUSE_MIN * (1 << self.failures.min(DOUBLINGS_MAX));
        self.failures = self.failures.saturating_add(1);
        self.until = now.plus(pause);
        self.failures
    }

    /// Whether it is to be left alone at `now`.
    pub(crate) fn holds(&self, now: Monotonic) -> bool {
        now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let mut backoff = Backoff::default();
        let mut now = Monotonic::default();
        assert!(!backoff.holds(now));
        for (failures, seconds) in (1..).zip([1, 2, 4, 8, 16, 16, 16]) {
            assert_eq!(backoff.failed(now), failures);
            let end = now.plus(Duration::from_secs(seconds));
            assert!(backoff.holds(Monotonic(end.0 - 1)));
            assert!(!backoff.holds(end));
            now = end;
        }
    }
}
