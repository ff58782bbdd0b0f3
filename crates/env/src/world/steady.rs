//! The time that expiry goes by, which no step of the time of day can hurry.
//!
//! One wrong step of the wall clock, a week ahead, must not delete a week of records. So the step is
//! noticed against the monotonic clock, and until the two agree again, or the program is restarted,
//! expiry goes by whichever of "what the wall clock says" and "what it would say without the step" is
//! earlier. Nothing that is to be kept goes; what is to go may stay for longer.

use millstream_types::{Monotonic, Timestamp};

/// How far the clocks must part for a step, in milliseconds.
const STEP_MIN_MS: i64 = 5 * 60 * 1_000;

/// Time servers pull a clock by far less than one part in so many; that is followed.
const SLEW_DIVISOR: i64 = 200;

/// Compares the two clocks.
#[derive(Debug)]
pub(super) struct Steady {
    /// What the wall clock showed when the monotonic one was at zero, in milliseconds.
    base: i64,
    /// When `base` was last moved.
    moved: Monotonic,
    /// How far the wall clock has stepped, in milliseconds; zero when it has not.
    step: i64,
}

impl Steady {
    pub(super) const fn new(wall: Timestamp, monotonic: Monotonic) -> Self {
        Self { base: wall.0 - millis(monotonic), moved: monotonic, step: 0 }
    }

    /// The time that expiry goes by.
    pub(super) fn now(&mut self, wall: Timestamp, monotonic: Monotonic) -> Timestamp {
        let apart = wall.0.saturating_sub(millis(monotonic)).saturating_sub(self.base);
        if apart.saturating_abs() >= STEP_MIN_MS {
            self.stepped(apart);
            return wall.min(Timestamp(self.base.saturating_add(millis(monotonic))));
        }
        self.stepped(0);
        let slew = (millis(monotonic) - millis(self.moved)) / SLEW_DIVISOR;
        if slew > 0 {
            self.base += apart.clamp(-slew, slew);
            self.moved = monotonic;
        }
        wall
    }

    fn stepped(&mut self, step: i64) {
        // The clocks are read at slightly different times.
        if (step == 0) == (self.step == 0) {
            return;
        }
        self.step = step;
        if step == 0 {
            tracing::info!("the wall clock agrees with the monotonic one again");
        } else {
            tracing::warn!(
                seconds = step / 1_000,
                "the wall clock has been set: retention and expiry go by the time without that \
                 step. If the clock is right now, restart to confirm it"
            );
        }
    }
}

const fn millis(monotonic: Monotonic) -> i64 {
    (monotonic.0 / 1_000_000) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: i64 = 60 * 1_000;
    const DAY: i64 = 24 * 60 * MINUTE;

    /// After `passed` the wall clock shows `shown`, both since the start in milliseconds.
    #[track_caller]
    fn check(moments: &[(i64, i64, i64)]) {
        let begin = 1_767_225_600_000;
        let mut steady = Steady::new(Timestamp(begin), Monotonic(0));
        for &(passed, shown, expected) in moments {
            let monotonic = Monotonic(u64::try_from(passed).unwrap() * 1_000_000);
            let now = steady.now(Timestamp(begin + shown), monotonic);
            assert_eq!(now.0 - begin, expected, "after {passed} ms");
        }
    }

    #[test]
    fn small_differences_are_followed() {
        check(&[(0, 0, 0), (MINUTE, 3 * MINUTE, 3 * MINUTE), (2 * MINUTE, 0, 0)]);
        // A clock that is pulled by half a second in a thousand never steps.
        let mut moments = Vec::new();
        for minutes in 0..100_000 {
            let passed = minutes * MINUTE;
            moments.push((passed, passed + passed / 2_000, passed + passed / 2_000));
        }
        check(&moments);
    }

    #[test]
    fn a_step_ahead_hurries_nothing() {
        check(&[(1_000, 1_000, 1_000), (2_000, 2_000 + 8 * DAY, 2_000)]);
        check(&[(0, 8 * DAY, 0), (DAY, 9 * DAY, DAY), (2 * DAY, 2 * DAY, 2 * DAY)]);
    }

    #[test]
    fn a_step_back_hurries_nothing_either() {
        // Records that are stamped now are stamped by the clock as it is.
        check(&[(1_000, 1_000 - 8 * DAY, 1_000 - 8 * DAY), (2_000, 2_000, 2_000)]);
    }

    #[test]
    fn absurd_clocks_do_not_overflow() {
        check(&[(0, i64::MIN + 2_000_000_000_000, i64::MIN + 2_000_000_000_000)]);
        let mut steady = Steady::new(Timestamp(0), Monotonic(u64::MAX));
        assert_eq!(steady.now(Timestamp(i64::MAX), Monotonic(0)).0, -millis(Monotonic(u64::MAX)));
    }
}
