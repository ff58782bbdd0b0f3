//! Trying again: how long to wait, and when to give up.

use std::time::Duration;

use millstream_env::Env;
use millstream_types::Monotonic;
use millstream_wire::ErrorCode;

use super::{Cluster, Target};
use crate::error::Error;

/// How waits between attempts grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// The first wait.
    pub first: Duration,
    /// The longest wait.
    pub most: Duration,
}

impl Default for Backoff {
    /// From 50 ms to one second.
    fn default() -> Self {
        Self { first: Duration::from_millis(50), most: Duration::from_secs(1) }
    }
}

impl Backoff {
    /// The wait after `failures` failures in a row: doubled each time, and then drawn between
    /// three and five quarters of that, so that clients which failed together do not return
    /// together.
    #[must_use]
    pub fn wait(&self, failures: u32, env: &Env) -> Duration {
        let doubled = self.first.saturating_mul(1 << failures.saturating_sub(1).min(16));
        let mut drawn = [0];
        env.random.fill(&mut drawn);
        let quarters = 0.75 + f64::from(drawn[0]) / f64::from(u8::MAX) / 2.0;
        doubled.min(self.most).mul_f64(quarters)
    }
}

/// One call that may take several attempts.
#[derive(Debug)]
pub struct Retry<'a> {
    cluster: &'a Cluster,
    target: Target,
    failures: u32,
    deadline: Monotonic,
    awaits_topics: bool,
}

/// How often a topic or partition that is not there is looked for: one that was just created shows
/// up within moments on every broker, one that was not never does.
const UNKNOWN_TOPIC_ATTEMPTS_MAX: u32 = 4;

impl<'a> Retry<'a> {
    pub(super) fn new(cluster: &'a Cluster, target: Target, patience: Duration) -> Self {
        let deadline = cluster.env().clock.monotonic().plus(patience);
        Self { cluster, target, failures: 0, deadline, awaits_topics: false }
    }

    /// With full patience for topics that are not there yet.
    #[must_use]
    pub fn awaiting_topics(self) -> Self {
        Self { awaits_topics: true, ..self }
    }

    /// Waits before the next attempt, and makes sure that it looks up anew where to go.
    ///
    /// # Errors
    ///
    /// `error` itself, when it will not go away or patience is at its end.
    pub async fn after(&mut self, error: Error) -> Result<(), Error> {
        if !error.is_retriable() || self.cluster.is_unknown_to_us(&error) {
            return Err(error);
        }
        self.failures += 1;
        let unknown = error.code() == Some(ErrorCode::UnknownTopicOrPartition);
        if unknown && !self.awaits_topics && self.failures >= UNKNOWN_TOPIC_ATTEMPTS_MAX {
            return Err(error);
        }
        let env = self.cluster.env();
        let wait = self.cluster.settings().backoff.wait(self.failures, env);
        if env.clock.monotonic().plus(wait) > self.deadline {
            return Err(error);
        }
        tracing::debug!(%error, ?wait, target = ?self.target, "trying again");
        self.cluster.forget(&self.target);
        env.sleep(wait).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waits_double_up_to_the_longest() {
        let env = Env::real(tokio::runtime::Handle::current());
        let backoff =
            Backoff { first: Duration::from_millis(100), most: Duration::from_millis(1_000) };
        for (failures, around) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (1_000_000, 1_000)] {
            let wait = backoff.wait(failures, &env).as_millis();
            assert!((around * 3 / 4..=around * 5 / 4).contains(&wait), "{failures}: {wait}");
        }
    }
}
