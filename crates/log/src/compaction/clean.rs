//! What compaction keeps: decided batch by batch, front to back.
//!
//! The rules are Kafka's (`Cleaner`, `CleanedTransactionMetadata`):
//!
//! * Of each key the newest record stays, as far as aborted transactions are not counted: their records
//!   go, and hide nothing. A record without a key has no place in a compacted topic, and goes.
//! * A batch that keeps a tombstone gets a delete horizon, `delete.retention.ms` from then. The first
//!   compaction after that takes the tombstone out.
//! * The end of a transaction gets a horizon when none of its records is left, and goes likewise.
//! * The last batch of what is compacted stays, and a producer's last one, be they empty: offsets do not
//!   go back, and a sequence number is not forgotten.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_record::batch::{Horizon, Retained};
use millstream_record::control::{ControlRecord, EndTransaction, Outcome};
use millstream_record::index::AbortedTxn;
use millstream_record::{BatchError, BatchHeader, Record, StoredBatch};
use millstream_types::limits::BATCH_BYTES_CEILING;
use millstream_types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::keys::Keys;

/// What holds for all of one compaction of a partition.
#[derive(Debug)]
pub(crate) struct Rules {
    pub(crate) now: Timestamp,
    pub(crate) delete_retention: Duration,
    pub(crate) aborted: Aborted,
    /// The newest batch of each producer that is remembered: its last offset, or, of one that has
    /// written nothing else, the epoch of its last end of a transaction.
    pub(crate) producers: BTreeMap<ProducerId, LastOf>,
}

/// See [`Rules::producers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastOf {
    Data(Offset),
    Marker(ProducerEpoch),
}

/// Aborted transactions, to be found by what belongs to them.
#[derive(Debug, Default)]
pub(crate) struct Aborted(BTreeMap<ProducerId, Vec<AbortedTxn>>);

/// What was met on the way to where compaction is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Met {
    /// Producers of which records were met since their last end of a transaction.
    open: BTreeSet<ProducerId>,
    /// Markers of aborted transactions of which there is nothing left.
    pub(crate) forgotten: Vec<Offset>,
    /// Whether something in front can't be read: then nothing that may hide or end what is there goes.
    pub(crate) is_damaged: bool,
    pub(crate) counts: Counts,
}

/// For people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) records_read: u64,
    pub(crate) records_kept: u64,
    /// Records without a key.
    pub(crate) keyless: u64,
    /// Batches whose records can't be read: a faulty producer has compressed them.
    pub(crate) unreadable: u64,
}

impl Aborted {
    /// Of one producer they do not overlap.
    pub(crate) fn new(all: Vec<AbortedTxn>) -> Self {
        let mut by_producer: BTreeMap<ProducerId, Vec<AbortedTxn>> = BTreeMap::new();
        for txn in all {
            by_producer.entry(txn.producer).or_default().push(txn);
        }
        for txns in by_producer.values_mut() {
            txns.sort_unstable_by_key(|txn| txn.last);
        }
        Self(by_producer)
    }

    /// The one of this producer that an offset is in, its marker included.
    fn at(&self, producer: ProducerId, offset: Offset) -> Option<&AbortedTxn> {
        let txns = self.0.get(&producer)?;
        let txn = txns.get(txns.partition_point(|txn| txn.last < offset))?;
        (txn.first <= offset).then_some(txn)
    }

    /// Whether the batch's records were aborted.
    pub(crate) fn has(&self, header: &BatchHeader) -> bool {
        header.attributes.is_transactional()
            && self.at(header.producer_id, header.base_offset).is_some()
    }
}

/// Notes the keys of a batch's records. Returns whether there was room for them; records that can't be
/// read are left out.
pub(crate) fn note_keys(
    batch: &StoredBatch,
    header: &BatchHeader,
    aborted: &Aborted,
    keys: &mut Keys,
) -> bool {
    if header.attributes.is_control() || aborted.has(header) {
        return true;
    }
    let Ok(records) = batch.records(BATCH_BYTES_CEILING) else { return true };
    let mut keyed = records.iter().filter_map(Result::ok);
    keyed.all(|record| record.key.is_none_or(|key| keys.put(key, record.offset(header))))
}

impl Rules {
    /// What is left of the next batch; `None`: not even its header. `is_last`: it is the last one of
    /// what is written in one piece.
    ///
    /// # Errors
    ///
    /// [`BatchError`] that no batch can have which was read.
    pub(crate) fn clean(
        &self,
        batch: StoredBatch,
        header: &BatchHeader,
        is_last: bool,
        keys: &Keys,
        met: &mut Met,
    ) -> Result<Option<StoredBatch>, BatchError> {
        met.counts.records_read += u64::from(header.records_count.unsigned_abs());
        let left = if header.attributes.is_control() {
            self.clean_control(&batch, header, met)?
        } else if self.aborted.has(header) {
            met.open.insert(header.producer_id);
            Retained::Nothing
        } else {
            if header.attributes.is_transactional() {
                met.open.insert(header.producer_id);
            }
            self.clean_data(&batch, header, keys, met)
        };
        let kept = match left {
            Retained::Same => Some(batch),
            Retained::Changed(changed) => Some(changed),
            Retained::Nothing if !is_last && !self.is_last_of_producer(header) => None,
            Retained::Nothing if header.records_count == 0 => Some(batch),
            Retained::Nothing => Some(batch.emptied()?),
        };
        let records = kept.as_ref().and_then(|kept| kept.header().ok());
        let records = records.map_or(0, |header| header.records_count.unsigned_abs());
        met.counts.records_kept += u64::from(records);
        Ok(kept)
    }

    /// A batch whose records can't be read stays: it may hold anything.
    fn clean_data(
        &self,
        batch: &StoredBatch,
        header: &BatchHeader,
        keys: &Keys,
        met: &mut Met,
    ) -> Retained {
        let is_past = self.is_past(header, met);
        let mut keyless = 0;
        let keep = |header: &BatchHeader, record: &Record<'_>| {
            let Some(key) = record.key else {
                keyless += 1;
                return false;
            };
            let offset = record.offset(header);
            let is_newest = keys.newest(key).is_none_or(|newest| newest <= offset);
            is_newest && (record.value.is_some() || !is_past)
        };
        let horizon = match met.is_damaged {
            true => Horizon::Never,
            false => Horizon::ForTombstones(self.now.plus(self.delete_retention)),
        };
        let left = batch.retain(BATCH_BYTES_CEILING, horizon, keep).unwrap_or_else(|_| {
            met.counts.unreadable += 1;
            Retained::Same
        });
        met.counts.keyless += keyless;
        left
    }

    fn clean_control(
        &self,
        batch: &StoredBatch,
        header: &BatchHeader,
        met: &mut Met,
    ) -> Result<Retained, BatchError> {
        let is_over = match end_of(batch)? {
            Some(Some(end)) => self.is_over(header, end, met),
            // Something else that may matter to somebody.
            Some(None) => false,
            // It was emptied before.
            None => return Ok(Retained::Nothing),
        };
        if !is_over || met.is_damaged {
            return Ok(Retained::Same);
        }
        if self.is_past(header, met) {
            return Ok(Retained::Nothing);
        }
        let horizon = Horizon::Always(self.now.plus(self.delete_retention));
        batch.retain(BATCH_BYTES_CEILING, horizon, |_, _| true)
    }

    /// Whether nothing is left of the transaction that ends here.
    fn is_over(&self, header: &BatchHeader, end: EndTransaction, met: &mut Met) -> bool {
        let is_over = !met.open.remove(&header.producer_id);
        if is_over && end.outcome == Outcome::Abort && !met.is_damaged {
            let txn = self.aborted.at(header.producer_id, header.base_offset);
            met.forgotten.extend(txn.map(|txn| txn.last));
        }
        is_over
    }

    /// Whether the batch's delete horizon has come.
    fn is_past(&self, header: &BatchHeader, met: &Met) -> bool {
        let has_horizon = header.attributes.has_delete_horizon();
        has_horizon && header.base_timestamp <= self.now && !met.is_damaged
    }

    fn is_last_of_producer(&self, header: &BatchHeader) -> bool {
        self.producers.get(&header.producer_id).is_some_and(|last| match last {
            LastOf::Data(offset) => header.last_offset() == *offset,
            LastOf::Marker(epoch) => {
                header.attributes.is_control() && header.producer_epoch == *epoch
            }
        })
    }
}

/// The end of a transaction that a control batch tells of, if it is that; `None`: it is empty.
#[expect(clippy::option_option, reason = "no record, another record, an end")]
fn end_of(batch: &StoredBatch) -> Result<Option<Option<EndTransaction>>, BatchError> {
    let records = batch.records(BATCH_BYTES_CEILING)?;
    let Some(first) = records.iter().next() else { return Ok(None) };
    Ok(Some(match ControlRecord::decode(&first?) {
        Ok(ControlRecord::EndTransaction(end)) => Some(end),
        Ok(ControlRecord::LeaderChange { .. } | ControlRecord::Other { .. }) | Err(_) => None,
    }))
}

#[cfg(test)]
mod tests {
    use millstream_record::{BatchBuilder, ValidBatch};
    use millstream_types::LeaderEpoch;

    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);
    const PRODUCER: ProducerId = ProducerId(7);

    fn rules(aborted: Vec<AbortedTxn>) -> Rules {
        Rules {
            now: NOW,
            delete_retention: Duration::from_secs(10),
            aborted: Aborted::new(aborted),
            producers: BTreeMap::new(),
        }
    }

    fn at(offset: i64, batch: &ValidBatch) -> StoredBatch {
        batch.assign(Offset(offset), LeaderEpoch(0))
    }

    /// One batch with records of these keys.
    fn data(offset: i64, keys: &[Option<&[u8]>], is_transactional: bool) -> StoredBatch {
        let mut batch = BatchBuilder::new().producer(PRODUCER, ProducerEpoch(0), 0);
        if is_transactional {
            batch = batch.transactional();
        }
        for key in keys {
            batch.append(Timestamp(5), *key, Some(b"v"), &[]);
        }
        at(offset, &batch.build_valid().unwrap())
    }

    fn end(offset: i64, outcome: Outcome) -> StoredBatch {
        let end = EndTransaction { outcome, coordinator_epoch: 0 };
        at(offset, &end.batch(PRODUCER, ProducerEpoch(0), Timestamp(5)).unwrap())
    }

    fn clean(rules: &Rules, batch: &StoredBatch, met: &mut Met) -> Option<StoredBatch> {
        let header = batch.header().unwrap();
        rules.clean(batch.clone(), &header, false, &Keys::new(1 << 10, 10, [0; 16]), met).unwrap()
    }

    fn has_horizon(batch: Option<StoredBatch>) -> bool {
        batch.unwrap().header().unwrap().attributes.has_delete_horizon()
    }

    #[test]
    fn a_record_without_a_key_goes_and_is_counted() {
        let mut met = Met::default();
        let batch = data(0, &[None, Some(b"k"), None], false);
        let left = clean(&rules(Vec::new()), &batch, &mut met).unwrap();
        let records = left.records(1 << 10).unwrap();
        let keys: Vec<_> = records.iter().map(|record| record.unwrap().key.is_some()).collect();
        assert_eq!(keys, [true]);
        let Counts { records_read, records_kept, keyless, .. } = met.counts;
        assert_eq!((records_read, records_kept, keyless), (3, 1, 2));
    }

    #[test]
    fn each_end_of_a_transaction_is_about_what_came_since_the_one_before() {
        let (rules, mut met) = (rules(Vec::new()), Met::default());
        let first = data(0, &[Some(b"k")], true);
        assert_eq!(clean(&rules, &first, &mut met), Some(first));
        assert!(!has_horizon(clean(&rules, &end(1, Outcome::Commit), &mut met)));
        // Of the second transaction nothing was left before.
        assert!(has_horizon(clean(&rules, &end(2, Outcome::Commit), &mut met)));
    }

    #[test]
    fn behind_damage_no_end_of_a_transaction_goes_or_is_forgotten() {
        let aborted = AbortedTxn { producer: PRODUCER, first: Offset(0), last: Offset(1) };
        let rules = rules(vec![aborted]);
        for is_damaged in [false, true] {
            let mut met = Met { is_damaged, ..Met::default() };
            let marker = end(1, Outcome::Abort);
            let left = clean(&rules, &marker, &mut met);
            assert_eq!(has_horizon(left), !is_damaged);
            assert_eq!(met.forgotten, if is_damaged { vec![] } else { vec![Offset(1)] });
        }
    }

    /// The same under this horizon.
    fn under(batch: &StoredBatch, horizon: i64) -> StoredBatch {
        let horizon = Horizon::Always(Timestamp(horizon));
        match batch.retain(1 << 10, horizon, |_, _| true) {
            Ok(Retained::Changed(changed)) => changed,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_tombstone_goes_when_its_horizon_has_come_and_nothing_in_front_is_damaged() {
        let mut batch = BatchBuilder::new();
        batch.append(Timestamp(5), Some(b"k"), None, &[]);
        let batch = at(0, &batch.build_valid().unwrap());
        for (horizon, is_damaged, goes) in
            [(NOW.0, false, true), (NOW.0 + 1, false, false), (NOW.0, true, false)]
        {
            let mut met = Met { is_damaged, ..Met::default() };
            let left = clean(&rules(Vec::new()), &under(&batch, horizon), &mut met);
            assert_eq!(left.is_none(), goes, "{horizon} {is_damaged}");
        }
    }

    #[test]
    fn the_last_end_of_a_transaction_of_a_producer_stays_without_its_record() {
        let marker = under(&end(1, Outcome::Commit), NOW.0);
        for (epoch, stays) in [(0, true), (1, false)] {
            let mut rules = rules(Vec::new());
            rules.producers.insert(PRODUCER, LastOf::Marker(ProducerEpoch(epoch)));
            let left = clean(&rules, &marker, &mut Met::default());
            let records = left.map(|left| left.header().unwrap().records_count);
            assert_eq!(records, stays.then_some(0), "epoch {epoch}");
        }
    }
}
