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
