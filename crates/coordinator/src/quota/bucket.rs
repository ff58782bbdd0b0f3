//! What has been used of a limit of late.

use std::time::Duration;

use millstream_types::Monotonic;

use super::Limit;

/// More is not remembered of what was used too much: a client waits no longer than this, however small
/// the limit and however large its request.
pub const DEBT_MAX: Duration = Duration::from_secs(60 * 60);

/// The use of one limit. Each use makes it busy for as long as the limit allows for that much; who comes
/// while it is busy for longer than a burst may take has to wait. Two numbers that never grow stand for
/// what Kafka keeps samples of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    busy_until: Monotonic,
}

impl Bucket {
    /// Notes that `amount` was used, in the unit of `limit`. Returns how long whoever used it is to wait
    /// before the next time: nothing as long as all of it fits into `burst` at the limit's rate.
    pub fn charge(
        &mut self,
        now: Monotonic,
        amount: f64,
        limit: Limit,
        burst: Duration,
    ) -> Duration {
        let takes = Duration::try_from_secs_f64((amount / limit.get()).max(0.0));
        let ahead = self.busy_until.since(now).saturating_add(takes.unwrap_or(DEBT_MAX));
        self.busy_until = now.plus(ahead.min(burst + DEBT_MAX));
        self.wait(now, burst)
    }

    /// How long to wait before the next use.
    #[must_use]
    pub fn wait(&self, now: Monotonic, burst: Duration) -> Duration {
        self.busy_until.since(now).saturating_sub(burst)
    }

    /// Whether nothing of late counts any more.
    #[must_use]
    pub fn is_idle(&self, now: Monotonic) -> bool {
        self.busy_until <= now
    }
}
