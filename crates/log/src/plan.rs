//! What to lay out now: a pure function of what waits in the journal and how full that is.

use std::time::Duration;

use millstream_types::PartitionId;

use crate::settings::LogSettings;

/// What a partition has in the journal only, as far as that is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Backlog {
    pub(crate) partition: PartitionId,
    pub(crate) bytes: u64,
    /// How long the oldest of it has waited, at least.
    pub(crate) age: Duration,
    /// The age at which it is due.
    pub(crate) due: Duration,
    /// The most bytes of one run.
    pub(crate) run_bytes_max: u64,
}

/// One blob to write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// The next run of one partition.
    Segment(PartitionId),
    /// The next runs of several partitions.
    Pack(Vec<PartitionId>),
}

/// Why things are laid out now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pressure {
    /// It is time to look: what is large enough or old enough is due.
    None,
    /// The tail fills up: what makes a run of a fair size is due as long as it need not be read back
    /// from the journal.
    Tail,
    /// The journal needs its space back, or somebody asks: everything is due.
    Journal,
}

/// What to write, in order.
pub(crate) fn plan(backlogs: &[Backlog], pressure: Pressure, settings: &LogSettings) -> Vec<Job> {
    let all = pressure == Pressure::Journal;
    let mut jobs = Vec::new();
    let mut small: Vec<&Backlog> = Vec::new();
    for backlog in backlogs.iter().filter(|backlog| backlog.bytes > 0) {
        let mut left = backlog.bytes;
        let enough = settings.segment_bytes_min.min(backlog.run_bytes_max).max(1);
        while left >= enough {
            jobs.push(Job::Segment(backlog.partition));
            left = left.saturating_sub(backlog.run_bytes_max.max(1));
        }
        let is_fair = pressure == Pressure::Tail && backlog.bytes >= settings.fair_run_bytes;
        // A rest of a large run goes on its own when its time comes.
        if left == backlog.bytes && (all || is_fair || backlog.age >= backlog.due) {
            small.push(backlog);
        } else if left > 0 && left < backlog.bytes && all {
            jobs.push(Job::Segment(backlog.partition));
        }
    }
    let mut pack = Vec::new();
    let mut bytes = 0;
    for backlog in small {
        if !pack.is_empty() && bytes + backlog.bytes > settings.pack_bytes_max {
            jobs.push(Job::Pack(std::mem::take(&mut pack)));
            bytes = 0;
        }
        bytes += backlog.bytes;
        pack.push(backlog.partition);
    }
    if !pack.is_empty() {
        jobs.push(Job::Pack(pack));
    }
    jobs
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_types::Uuid;

    fn id(index: i32) -> PartitionId {
        PartitionId { topic: Uuid([1; 16]), index }
    }

    #[track_caller]
    fn check(pressure: Pressure, backlogs: &[(u64, u64)], jobs: &[Result<i32, &[i32]>]) {
        let settings = LogSettings {
            segment_bytes_min: 100,
            pack_bytes_max: 50,
            fair_run_bytes: 20,
            ..LogSettings::default()
        };
        let backlogs: Vec<_> = (0..)
            .zip(backlogs)
            .map(|(index, &(bytes, age))| Backlog {
                partition: id(index),
                bytes,
                age: Duration::from_secs(age),
                due: Duration::from_secs(10),
                run_bytes_max: 200,
            })
            .collect();
        let expected: Vec<_> = jobs
            .iter()
            .map(|job| match job {
                Ok(index) => Job::Segment(id(*index)),
                Err(pack) => Job::Pack(pack.iter().map(|index| id(*index)).collect()),
            })
            .collect();
        assert_eq!(plan(&backlogs, pressure, &settings), expected, "{backlogs:?}");
    }

    #[test]
    fn large_runs_go_alone_small_ones_together_when_due() {
        check(Pressure::None, &[(0, 99), (99, 9), (100, 0)], &[Ok(2)]);
        check(Pressure::None, &[(30, 10), (30, 9), (20, 11), (1, 10)], &[Err(&[0, 2]), Err(&[3])]);
        check(
            Pressure::Journal,
            &[(30, 0), (0, 0), (60, 0), (10, 0)],
            &[Err(&[0]), Err(&[2]), Err(&[3])],
        );
        // What is still in memory and worth a run.
        check(Pressure::Tail, &[(30, 0), (19, 0), (20, 0), (100, 0)], &[Ok(3), Err(&[0, 2])]);
        // Runs have a largest size; what is left of the last waits unless space is needed.
        check(Pressure::None, &[(450, 0)], &[Ok(0), Ok(0)]);
        check(Pressure::Journal, &[(450, 0)], &[Ok(0), Ok(0), Ok(0)]);
    }
}
