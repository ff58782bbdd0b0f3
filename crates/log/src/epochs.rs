//! Where each leader epoch of a partition begins.

use millstream_types::{LeaderEpoch, Offset};

use crate::error::EpochEnd;

/// Epochs and their first offsets; both rise strictly.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Epochs(Vec<(LeaderEpoch, Offset)>);

impl Epochs {
    pub(crate) const fn new(entries: Vec<(LeaderEpoch, Offset)>) -> Self {
        Self(entries)
    }

    pub(crate) fn entries(&self) -> &[(LeaderEpoch, Offset)] {
        &self.0
    }

    /// Notes that the batch at `base` was appended in `epoch`.
    pub(crate) fn apply(&mut self, epoch: LeaderEpoch, base: Offset) {
        if self.0.last().is_none_or(|(last, _)| *last < epoch) {
            self.0.push((epoch, base));
        }
    }

    /// The epoch in which `offset` was written.
    pub(crate) fn at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.0.partition_point(|(_, start)| *start <= offset);
        Some(self.0.get(after.checked_sub(1)?)?.0)
    }

    /// Forgets epochs that ended at or before `log_start`.
    pub(crate) fn trim(&mut self, log_start: Offset) {
        let after = self.0.partition_point(|(_, start)| *start <= log_start);
        if let Some(gone) = after.checked_sub(1).filter(|gone| *gone > 0) {
            self.0.drain(..gone);
        }
        if let Some(first) = self.0.first_mut() {
            first.1 = first.1.max(log_start);
        }
    }

    /// The largest epoch at or below `asked`, and where it ends, as Kafka's
    /// `LeaderEpochFileCache.endOffsetFor` answers: the running epoch `current` ends at `end`, and
    /// of one that is not known yet nothing is known.
    pub(crate) fn end_of(&self, asked: LeaderEpoch, current: LeaderEpoch, end: Offset) -> EpochEnd {
        if asked == LeaderEpoch::NONE || asked > current {
            return (LeaderEpoch::NONE, Offset(-1));
        }
        if asked == current {
            return (current, end);
        }
        // The running epoch may have no batch yet; then it begins at the end.
        let after = self.0.partition_point(|(epoch, _)| *epoch <= asked);
        let next_start = self.0.get(after).map_or(end, |(_, start)| *start).min(end);
        let floor = after.checked_sub(1).and_then(|at| self.0.get(at)).map(|(epoch, _)| *epoch);
        (floor.unwrap_or(asked), next_start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs() -> Epochs {
        let mut epochs = Epochs::default();
        for (epoch, base) in [(1, 0), (1, 5), (3, 10), (6, 20), (6, 30)] {
            epochs.apply(LeaderEpoch(epoch), Offset(base));
        }
        epochs
    }

    /// Pitfall 47.
    #[test]
    fn end_of_answers_as_kafka_does() {
        for (asked, current, answer) in [
            (-1, 6, (-1, -1)),
            (0, 6, (0, 0)),
            (1, 6, (1, 10)),
            (2, 6, (1, 10)),
            (3, 6, (3, 20)),
            (5, 6, (3, 20)),
            (6, 6, (6, 40)),
            (7, 6, (-1, -1)),
            // Epoch 8 runs and has no batch yet.
            (6, 8, (6, 40)),
            (7, 8, (6, 40)),
            (8, 8, (8, 40)),
        ] {
            let (epoch, end) =
                epochs().end_of(LeaderEpoch(asked), LeaderEpoch(current), Offset(40));
            assert_eq!((epoch.0, end.0), answer, "asked {asked} of {current}");
        }
    }

    #[test]
    fn at_is_the_epoch_of_the_batch() {
        for (offset, epoch) in [(0, 1), (9, 1), (10, 3), (19, 3), (20, 6), (99, 6)] {
            assert_eq!(epochs().at(Offset(offset)), Some(LeaderEpoch(epoch)), "{offset}");
        }
    }

    #[test]
    fn trim_keeps_the_epoch_that_the_log_starts_in() {
        for (log_start, kept) in [
            (0, vec![(1, 0), (3, 10), (6, 20)]),
            (5, vec![(1, 5), (3, 10), (6, 20)]),
            (10, vec![(3, 10), (6, 20)]),
            (25, vec![(6, 25)]),
        ] {
            let mut epochs = epochs();
            epochs.trim(Offset(log_start));
            let seen: Vec<_> = epochs.entries().iter().map(|(e, o)| (e.0, o.0)).collect();
            assert_eq!(seen, kept, "{log_start}");
        }
    }
}
