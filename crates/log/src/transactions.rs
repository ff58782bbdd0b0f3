//! Which transactions of a partition are open, and which were aborted.

use std::collections::BTreeMap;

use millstream_record::index::AbortedTxn;
use millstream_types::{Offset, ProducerId};

/// The transactions of one partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Transactions {
    /// First offset and producer of each open one.
    open: BTreeMap<Offset, ProducerId>,
    /// Marker offset and first offset of those whose marker is not durable yet: until it is, a
    /// crash may leave them open, so nobody may see their end.
    ending: BTreeMap<Offset, Offset>,
    /// Aborted ones, by marker.
    aborted: Vec<AbortedTxn>,
}

impl Transactions {
    pub(crate) fn from_parts(
        open: impl Iterator<Item = (Offset, ProducerId)>,
        aborted: Vec<AbortedTxn>,
    ) -> Self {
        Self { open: open.collect(), ending: BTreeMap::new(), aborted }
    }

    pub(crate) fn aborted(&self) -> &[AbortedTxn] {
        &self.aborted
    }

    /// `producer` has a transaction that began at `first`.
    pub(crate) fn begin(&mut self, first: Offset, producer: ProducerId) {
        self.open.insert(first, producer);
    }

    /// The transaction that began at `first` was ended by the marker at `marker`.
    pub(crate) fn end(
        &mut self,
        first: Offset,
        marker: Offset,
        producer: ProducerId,
        commit: bool,
    ) {
        self.open.remove(&first);
        self.ending.insert(marker, first);
        if !commit {
            self.aborted.push(AbortedTxn { producer, first, last: marker });
        }
    }

    /// Everything below `high_watermark` is durable.
    pub(crate) fn advance(&mut self, high_watermark: Offset) {
        if !self.ending.is_empty() {
            self.ending = self.ending.split_off(&high_watermark);
        }
    }

    /// The end of what readers of committed data may see.
    pub(crate) fn last_stable(&self, high_watermark: Offset) -> Offset {
        let open = self.open.keys().next().copied();
        let ending = self.ending.values().min().copied();
        open.into_iter().chain(ending).fold(high_watermark, Offset::min)
    }

    /// Forgets aborted transactions that lie below `log_start` as a whole.
    pub(crate) fn trim(&mut self, log_start: Offset) {
        let gone = self.aborted.partition_point(|txn| txn.last < log_start);
        self.aborted.drain(..gone);
    }

    /// Forgets aborted transactions, given by their markers in order, of which no record is left.
    pub(crate) fn forget(&mut self, markers: &[Offset]) {
        self.aborted.retain(|txn| markers.binary_search(&txn.last).is_err());
    }

    /// The aborted transactions that have an offset in `from..upto`.
    pub(crate) fn aborted_in(&self, from: Offset, upto: Offset) -> Vec<AbortedTxn> {
        let after = self.aborted.partition_point(|txn| txn.last < from);
        let rest = self.aborted.get(after..).unwrap_or_default();
        rest.iter().filter(|txn| txn.first < upto).copied().collect()
    }

    /// The aborted transactions whose markers lie in `from..upto`.
    pub(crate) fn markers_in(&self, from: Offset, upto: Offset) -> Vec<AbortedTxn> {
        self.aborted.iter().filter(|txn| txn.last >= from && txn.last < upto).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ProducerId = ProducerId(1);
    const TWO: ProducerId = ProducerId(2);

    #[test]
    fn the_last_stable_offset_waits_for_the_marker_to_be_durable() {
        let mut txns = Transactions::default();
        assert_eq!(txns.last_stable(Offset(10)), Offset(10));
        txns.begin(Offset(3), ONE);
        txns.begin(Offset(5), TWO);
        assert_eq!(txns.last_stable(Offset(10)), Offset(3));
        assert_eq!(txns.last_stable(Offset(2)), Offset(2));
        txns.end(Offset(3), Offset(10), ONE, true);
        txns.advance(Offset(10));
        assert_eq!(txns.last_stable(Offset(10)), Offset(3), "the marker itself is not durable");
        txns.advance(Offset(11));
        assert_eq!(txns.last_stable(Offset(11)), Offset(5));
    }

    /// Pitfall 41.
    #[test]
    fn aborted_transactions_are_found_by_overlap_and_trimmed_as_a_whole() {
        let mut txns = Transactions::default();
        for (first, marker, producer) in [(0, 9, ONE), (4, 12, TWO), (20, 25, ONE)] {
            txns.begin(Offset(first), producer);
            txns.end(Offset(first), Offset(marker), producer, false);
        }
        let firsts = |from, upto| -> Vec<i64> {
            let found = txns.aborted_in(Offset(from), Offset(upto));
            found.iter().map(|txn| txn.first.0).collect()
        };
        for (from, upto, found) in [
            (0, 1, vec![0]),
            (0, 30, vec![0, 4, 20]),
            (9, 10, vec![0, 4]),
            (10, 20, vec![4]),
            (13, 20, vec![]),
            (13, 21, vec![20]),
        ] {
            assert_eq!(firsts(from, upto), found, "{from}..{upto}");
        }
        txns.trim(Offset(10));
        assert_eq!(txns.aborted().len(), 2);
    }
}
