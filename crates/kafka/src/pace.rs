//! How many connections are accepted in a second.

use std::time::Duration;

use millstream_types::Monotonic;

const SECOND: Duration = Duration::from_secs(1);

/// Lets so many pass in a second, in bursts of at most as many.
#[derive(Debug)]
pub(crate) struct Pace {
    /// When all that have passed will have had their part of a second.
    busy_until: Monotonic,
}

impl Pace {
    /// Nobody has passed since `now`.
    pub(crate) const fn new(now: Monotonic) -> Self {
        Self { busy_until: now }
    }

    /// When the next one may pass, at `rate` in a second; `None` for now.
    pub(crate) fn next(&self, now: Monotonic, rate: usize) -> Option<Monotonic> {
        // After a second without anybody there may be a burst of one second's worth.
        let burst = SECOND.saturating_sub(part(rate));
        let ahead = self.busy_until.since(now);
        (ahead > burst).then(|| now.plus(ahead - burst))
    }

    /// One has passed.
    pub(crate) fn pass(&mut self, now: Monotonic, rate: usize) {
        self.busy_until = self.busy_until.max(now).plus(part(rate));
    }
}

/// A connection's part of a second. Where none is allowed, the limit is looked at again after one.
fn part(rate: usize) -> Duration {
    SECOND / u32::try_from(rate.max(1)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lets as many pass as may at `now`.
    fn pass(pace: &mut Pace, now: Monotonic, rate: usize) -> usize {
        let mut passed = 0;
        while pace.next(now, rate).is_none() && passed < 1_000 {
            pace.pass(now, rate);
            passed += 1;
        }
        passed
    }

    #[test]
    fn a_second_lets_as_many_pass_as_it_says() {
        let mut now = Monotonic(7);
        let mut pace = Pace::new(now);
        assert_eq!(pass(&mut pace, now, 10), 10, "a burst");
        let next = pace.next(now, 10).expect("no more now");
        assert_eq!(next, now.plus(SECOND / 10));
        assert_eq!(pass(&mut pace, next, 10), 1);
        now = now.plus(SECOND * 5);
        assert_eq!(pass(&mut pace, now, 10), 10, "no more than one second's worth");
        assert_eq!(pass(&mut pace, now.plus(SECOND / 2), 10), 5);
    }

    #[test]
    fn another_rate_counts_from_when_it_is_set() {
        let now = Monotonic(0);
        let mut pace = Pace::new(now);
        assert_eq!(pass(&mut pace, now, 1), 1);
        assert_eq!(pass(&mut pace, now, usize::MAX), 1_000, "no limit");
        assert!(pass(&mut pace, now.plus(SECOND), 100) > 0);
    }
}
