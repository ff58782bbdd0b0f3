//! What a consumer gets: batches, and the records in them.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_record::control::{ControlRecord, EndTransaction, Outcome};
use millstream_record::record::RecordIter;
use millstream_record::{BatchError, BatchHeader, Record, Records, StoredBatch};
use millstream_types::{Offset, ProducerId, Timestamp};
use millstream_wire::Records as Rope;

use crate::cluster::TopicPartition;
use crate::error::Error;

/// A batch as it was fetched. Its length, format and checksum have been checked.
#[derive(Clone, Debug)]
pub struct FetchedBatch {
    partition: TopicPartition,
    header: BatchHeader,
    batch: StoredBatch,
    from: Offset,
    high_watermark: Offset,
}

/// The records of a batch, decompressed.
#[derive(Clone, Debug)]
pub struct FetchedRecords {
    records: Records,
    from: Offset,
}

/// A record and where it is.
#[derive(Clone, Copy, Debug)]
pub struct FetchedRecord<'a> {
    /// Its offset.
    pub offset: Offset,
    /// Its time.
    pub timestamp: Timestamp,
    /// Key, value and headers.
    pub record: Record<'a>,
}

/// The records of [`FetchedRecords`].
#[derive(Debug)]
pub struct FetchedRecordIter<'a> {
    header: &'a BatchHeader,
    records: RecordIter<'a>,
    from: Offset,
}

impl FetchedBatch {
    /// Where it is from.
    #[must_use]
    pub const fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// Its header. The first records may lie before what was asked for; see
    /// [`FetchedBatch::from`].
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The first offset that was asked for: records before it don't count.
    #[must_use]
    pub const fn from(&self) -> Offset {
        self.from
    }

    /// The offset after the batch's last one.
    #[must_use]
    pub fn next_offset(&self) -> Offset {
        self.header.last_offset().next()
    }

    /// Where the partition ended when the batch was fetched.
    #[must_use]
    pub const fn high_watermark(&self) -> Offset {
        self.high_watermark
    }

    /// How many bytes it has, compressed.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.batch.size()
    }

    /// The batch in one piece: a copy.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.batch.to_bytes()
    }

    /// Its records, decompressed to at most `limit` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Records`] when they can't be decompressed within the limit.
    pub fn records(&self, limit: usize) -> Result<FetchedRecords, Error> {
        let records = self.batch.records(limit);
        let records = records.map_err(|error| wrong(&self.partition, error))?;
        Ok(FetchedRecords { records, from: self.from })
    }
}

fn wrong(partition: &TopicPartition, error: BatchError) -> Error {
    Error::Records { what: format!("partition {partition}"), why: error.to_string() }
}

impl FetchedRecords {
    /// The records from the wanted offset on.
    #[must_use]
    pub fn iter(&self) -> FetchedRecordIter<'_> {
        let (header, records) = (self.records.header(), self.records.iter());
        FetchedRecordIter { header, records, from: self.from }
    }

    /// The bytes that keys and values are slices of; `bytes().slice_ref(key)` keeps a key without
    /// a copy.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        self.records.bytes()
    }
}

impl<'a> IntoIterator for &'a FetchedRecords {
    type Item = Result<FetchedRecord<'a>, BatchError>;
    type IntoIter = FetchedRecordIter<'a>;

    fn into_iter(self) -> FetchedRecordIter<'a> {
        self.iter()
    }
}

impl<'a> Iterator for FetchedRecordIter<'a> {
    type Item = Result<FetchedRecord<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let record = match self.records.next()? {
                Ok(record) => record,
                Err(error) => return Some(Err(error)),
            };
            let offset = record.offset(self.header);
            if offset >= self.from {
                let timestamp = record.timestamp(self.header);
                return Some(Ok(FetchedRecord { offset, timestamp, record }));
            }
        }
    }
}

/// The aborted transactions that a Fetch answer names for a partition.
#[derive(Debug, Default)]
pub(super) struct Aborted {
    /// Producers, and where the transactions begin; the last one first.
    to_come: Vec<(Offset, ProducerId)>,
    /// Producers whose batches, from here to their next marker, are aborted.
    open: BTreeSet<ProducerId>,
}

impl Aborted {
    pub(super) fn new(transactions: impl IntoIterator<Item = (ProducerId, Offset)>) -> Self {
        let mut to_come: Vec<_> = transactions.into_iter().map(|(id, from)| (from, id)).collect();
        to_come.sort_unstable_by(|a, b| b.cmp(a));
        Self { to_come, open: BTreeSet::new() }
    }

    /// Whether the next batch belongs to one of them. Every batch has to be shown, in order.
    fn covers(&mut self, header: &BatchHeader, batch: &StoredBatch) -> bool {
        while let Some((_, id)) = self.to_come.pop_if(|(from, _)| *from <= header.last_offset()) {
            self.open.insert(id);
        }
        if header.attributes.is_control() {
            if is_abort(batch) {
                self.open.remove(&header.producer_id);
            }
            return false;
        }
        header.attributes.is_transactional() && self.open.contains(&header.producer_id)
    }
}

/// Whether a control batch is the marker of an aborted transaction.
fn is_abort(batch: &StoredBatch) -> bool {
    /// A marker has ten bytes; nothing larger is one.
    const MARKER_BYTES_MAX: usize = 4 << 10;
    let Ok(records) = batch.records(MARKER_BYTES_MAX) else { return false };
    let marker = records.iter().next().and_then(Result::ok);
    let marker = marker.and_then(|record| ControlRecord::decode(&record).ok());
    matches!(
        marker,
        Some(ControlRecord::EndTransaction(EndTransaction { outcome: Outcome::Abort, .. }))
    )
}

/// What a Fetch answer held for a partition from `from` on.
#[derive(Debug, Default)]
pub(super) struct Opened {
    /// Batches with records for the user.
    pub(super) batches: Vec<FetchedBatch>,
    /// The offset after everything that was there; `None` when there was nothing whole.
    pub(super) next: Option<Offset>,
}

/// Takes the records of a Fetch answer apart. Control batches, batches of transactions that are in
/// `aborted`, and batches that lie before `from`, are left out; a batch that is cut short at the
/// end is left for the next fetch.
pub(super) fn open(
    partition: &TopicPartition,
    records: &Rope,
    from: Offset,
    high_watermark: Offset,
    mut aborted: Aborted,
) -> Result<Opened, Error> {
    let mut opened = Opened::default();
    for bytes in millstream_record::batch::split(&records.to_bytes()) {
        let batch = match bytes.and_then(StoredBatch::from_bytes) {
            Ok(batch) => batch,
            Err(BatchError::Truncated { .. }) => break,
            Err(error) => return Err(wrong(partition, error)),
        };
        let header = batch
            .header()
            .map_err(|error| wrong(partition, BatchError::Truncated { field: error.field() }))?;
        let next = header.last_offset().next();
        let is_aborted = aborted.covers(&header, &batch);
        if next <= from {
            continue;
        }
        opened.next = opened.next.max(Some(next));
        if header.records_count > 0 && !header.attributes.is_control() && !is_aborted {
            let partition = partition.clone();
            opened.batches.push(FetchedBatch { partition, header, batch, from, high_watermark });
        }
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_record::{BatchBuilder, Check, Compression, ValidBatch};
    use millstream_types::{LeaderEpoch, ProducerEpoch};

    fn batch(base: i64, values: &[&str], control: bool) -> Bytes {
        let builder = BatchBuilder::new().compression(Compression::Lz4, None);
        let mut builder = if control { builder.control() } else { builder };
        for value in values {
            builder.append(Timestamp(1), None, Some(value.as_bytes()), &[]);
        }
        let valid = ValidBatch::check(builder.build().unwrap(), &Check::internal()).unwrap();
        valid.assign(Offset(base), LeaderEpoch(0)).to_bytes()
    }

    #[track_caller]
    fn check(records: &[Bytes], from: i64, expected: &[(i64, &str)], next: Option<i64>) {
        let rope = Rope::from(Bytes::from(records.concat()));
        let of = TopicPartition::new("t", 0);
        let opened = open(&of, &rope, Offset(from), Offset(99), Aborted::default()).unwrap();
        let mut found = Vec::new();
        for batch in &opened.batches {
            for record in &batch.records(1 << 20).unwrap() {
                let record = record.unwrap();
                let value = String::from_utf8(record.record.value.unwrap().to_vec()).unwrap();
                found.push((record.offset.0, value));
            }
        }
        let expected: Vec<_> = expected.iter().map(|&(at, v)| (at, v.to_owned())).collect();
        assert_eq!(found, expected);
        assert_eq!(opened.next, next.map(Offset));
    }

    #[test]
    fn records_from_the_wanted_offset_on() {
        let batches = [batch(10, &["a", "b", "c"], false), batch(20, &["d"], false)];
        check(&batches, 10, &[(10, "a"), (11, "b"), (12, "c"), (20, "d")], Some(21));
        check(&batches, 12, &[(12, "c"), (20, "d")], Some(21));
        check(&batches, 13, &[(20, "d")], Some(21));
        check(&batches, 21, &[], None);
        check(&[], 0, &[], None);
    }

    #[test]
    fn control_batches_are_stepped_over() {
        let batches = [batch(0, &["x"], true), batch(1, &["a"], false), batch(2, &["x"], true)];
        check(&batches, 0, &[(1, "a")], Some(3));
        check(&batches, 2, &[], Some(3));
    }

    #[test]
    fn a_batch_that_is_cut_short_is_left() {
        let whole = batch(0, &["a"], false);
        let cut = batch(1, &["b"], false);
        for len in [1, 20, cut.len() - 1] {
            check(&[whole.clone(), cut.slice(..len)], 0, &[(0, "a")], Some(1));
        }
    }

    #[test]
    fn a_damaged_batch_is_an_error() {
        let mut bytes = batch(0, &["a"], false).to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        let of = TopicPartition::new("t", 0);
        let rope = Rope::from(Bytes::from(bytes));
        let opened = open(&of, &rope, Offset(0), Offset(9), Aborted::default());
        let error = opened.unwrap_err();
        assert!(error.to_string().starts_with("partition t-0: "), "{error}");
    }

    #[test]
    fn aborted_transactions_are_left_out() {
        let epoch = ProducerEpoch(0);
        let data = |base, id, value: &str| {
            let builder = BatchBuilder::new().producer(ProducerId(id), epoch, 0).transactional();
            let mut builder = builder;
            builder.append(Timestamp(1), None, Some(value.as_bytes()), &[]);
            let valid = builder.build_valid().unwrap();
            valid.assign(Offset(base), LeaderEpoch(0)).to_bytes()
        };
        let marker = |base, id, outcome| {
            let marker = EndTransaction { outcome, coordinator_epoch: 0 };
            let valid = marker.batch(ProducerId(id), epoch, Timestamp(1)).unwrap();
            valid.assign(Offset(base), LeaderEpoch(0)).to_bytes()
        };
        let batches = [
            data(0, 7, "committed"),
            marker(1, 7, Outcome::Commit),
            data(2, 7, "aborted"),
            data(3, 8, "other"),
            marker(4, 7, Outcome::Abort),
            data(5, 7, "committed again"),
            batch(6, &["plain"], false),
        ];
        let rope = Rope::from(Bytes::from(batches.concat()));
        let aborted = Aborted::new([(ProducerId(7), Offset(2))]);
        let of = TopicPartition::new("t", 0);
        let opened = open(&of, &rope, Offset(0), Offset(7), aborted).unwrap();
        let offsets: Vec<_> = opened.batches.iter().map(|b| b.header().base_offset.0).collect();
        assert_eq!(offsets, [0, 3, 5, 6]);
    }
}
