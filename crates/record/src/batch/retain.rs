//! Leaving records out of a stored batch: what compaction does to one.
//!
//! Offsets, producer, epoch, sequence numbers and compression stay as they are, and so does the last
//! offset delta: a batch covers the offsets that it was written with, whatever is left of it. As in
//! Kafka, the time from which tombstones and ends of transactions may go, the delete horizon, takes
//! the place of the base timestamp (attribute bit 6), and the records' differences count from it.
//!
//! Laws, tested here and in the engine: what is kept decodes to what it was, timestamps included; a
//! batch of which nothing is left out and that gets no horizon is the same bytes.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use std::ops::Range;

use millstream_types::Timestamp;

use super::error::{BatchError, RecordFault};
use super::header::{BatchHeader, HEADER_SIZE, TimestampType};
use super::stored::StoredBatch;
use super::valid::seal;
use crate::compression::{Compression, compress};
use crate::record::{Record, Records, put_with_delta};

/// Whether a batch that has no delete horizon gets one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// No.
    Never,
    /// This one, if a tombstone is kept.
    ForTombstones(Timestamp),
    /// This one: it is the end of a transaction of which nothing else is left.
    Always(Timestamp),
}

/// What is left of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retained {
    /// All of it, as it is.
    Same,
    /// Less of it, or under a delete horizon.
    Changed(StoredBatch),
    /// No record.
    Nothing,
}

/// Which records are kept.
#[derive(Default)]
struct Kept {
    /// Their bytes, by place in the decompressed records; neighbours are one range.
    ranges: Vec<Range<usize>>,
    count: i32,
    max_timestamp: Timestamp,
    has_tombstone: bool,
}

impl StoredBatch {
    /// The batch with only those records that `keep` wants, which sees them in order. `limit` bounds
    /// what it decompresses to, in bytes.
    ///
    /// # Errors
    ///
    /// As [`StoredBatch::records`], and when a record doesn't decode.
    pub fn retain(
        &self,
        limit: usize,
        horizon: Horizon,
        keep: impl FnMut(&BatchHeader, &Record<'_>) -> bool,
    ) -> Result<Retained, BatchError> {
        let records = self.records(limit)?;
        let header = *records.header();
        let kept = Kept::find(&records, keep)?;
        if kept.count == 0 {
            return Ok(Retained::Nothing);
        }
        let horizon = match horizon {
            _ if header.attributes.has_delete_horizon() => None,
            Horizon::Never => None,
            Horizon::ForTombstones(time) => kept.has_tombstone.then_some(time),
            Horizon::Always(time) => Some(time),
        };
        if kept.count == header.records_count && horizon.is_none() {
            return Ok(Retained::Same);
        }
        let left = match horizon {
            Some(horizon) => kept.under_horizon(&records, horizon)?,
            None => kept.bytes(&records),
        };
        let stamped = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let attributes = header.attributes;
        let header = BatchHeader {
            attributes: attributes
                .with_delete_horizon(horizon.is_some() || attributes.has_delete_horizon()),
            base_timestamp: horizon.unwrap_or(header.base_timestamp),
            max_timestamp: if stamped { header.max_timestamp } else { kept.max_timestamp },
            records_count: kept.count,
            ..header
        };
        pack(header, &left).map(Retained::Changed)
    }

    /// The batch without its records, so that its offsets and its producer's sequence numbers stay
    /// known.
    ///
    /// # Errors
    ///
    /// [`BatchError::Truncated`], never for a batch that has been checked.
    pub fn emptied(&self) -> Result<Self, BatchError> {
        let header =
            self.header().map_err(|error| BatchError::Truncated { field: error.field() })?;
        let attributes =
            header.attributes.with_compression(Compression::None).with_delete_horizon(false);
        let base_timestamp = Timestamp::NONE;
        pack(BatchHeader { attributes, base_timestamp, records_count: 0, ..header }, &[])
    }
}

impl Kept {
    fn find(
        records: &Records,
        mut keep: impl FnMut(&BatchHeader, &Record<'_>) -> bool,
    ) -> Result<Self, BatchError> {
        let header = records.header();
        let size = records.bytes().len();
        let mut kept = Self { max_timestamp: Timestamp::NONE, ..Self::default() };
        let mut iter = records.iter();
        let mut from = 0;
        while let Some(record) = iter.next() {
            let record = record?;
            let upto = size.saturating_sub(iter.bytes_left());
            if keep(header, &record) {
                match kept.ranges.last_mut().filter(|last| last.end == from) {
                    Some(last) => last.end = upto,
                    None => kept.ranges.push(from..upto),
                }
                kept.count = kept.count.saturating_add(1);
                kept.max_timestamp = kept.max_timestamp.max(record.timestamp(header));
                kept.has_tombstone |= record.value.is_none();
            }
            from = upto;
        }
        Ok(kept)
    }

    fn bytes(&self, records: &Records) -> Vec<u8> {
        let all = records.bytes();
        let parts = self.ranges.iter().filter_map(|range| all.get(range.clone()));
        parts.fold(Vec::new(), |mut out, part| {
            out.extend_from_slice(part);
            out
        })
    }

    /// The kept records with timestamps that count from `horizon`.
    fn under_horizon(&self, records: &Records, horizon: Timestamp) -> Result<Vec<u8>, BatchError> {
        let all = records.bytes();
        let base = records.header().base_timestamp;
        let mut out = Vec::with_capacity(all.len());
        let mut ranges = self.ranges.iter();
        let mut range = ranges.next();
        let mut iter = records.iter();
        let (mut from, mut index) = (0_usize, 0_i32);
        while let Some(record) = iter.next() {
            let record = record?;
            let upto = all.len().saturating_sub(iter.bytes_left());
            if range.is_some_and(|range| range.end <= from) {
                range = ranges.next();
            }
            if range.is_some_and(|range| range.contains(&from)) {
                let time = base.0.wrapping_add(record.timestamp_delta);
                let bytes = all.get(from..upto).unwrap_or_default();
                put_with_delta(&mut out, bytes, time.wrapping_sub(horizon.0)).map_err(|error| {
                    let why = RecordFault::Malformed(error);
                    BatchError::InvalidRecord { index, why }
                })?;
            }
            from = upto;
            index = index.saturating_add(1);
        }
        Ok(out)
    }
}

/// The stored batch of a header and of its records, which are not compressed yet.
fn pack(header: BatchHeader, records: &[u8]) -> Result<StoredBatch, BatchError> {
    let mut batch = vec![0; HEADER_SIZE];
    match header.attributes.compression()? {
        Compression::None => batch.extend_from_slice(records),
        codec => batch.extend_from_slice(&compress(codec, None, records)?),
    }
    let (base, epoch) = (header.base_offset, header.leader_epoch);
    Ok(seal(header, batch)?.assign(base, epoch))
}

#[cfg(test)]
mod tests {
    use millstream_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
    use proptest::prelude::*;

    use super::*;
    use crate::batch::ValidBatch;
    use crate::builder::BatchBuilder;
    use crate::record::Header;

    /// Key, value and timestamp of a record.
    type Row = (u8, Option<Vec<u8>>, i64);

    /// Offset, timestamp, key, value of each record.
    type Seen = Vec<(i64, i64, Vec<u8>, Option<Vec<u8>>)>;

    const LIMIT: usize = 1 << 20;

    fn batch(rows: &[Row], codec: Compression, appended_at: Option<i64>) -> StoredBatch {
        let mut builder = BatchBuilder::new().compression(codec, None).producer(
            ProducerId(4),
            ProducerEpoch(1),
            10,
        );
        for (key, value, time) in rows {
            let headers = [Header { key: b"h", value: Some(&[*key]) }];
            builder.append(Timestamp(*time), Some(&[*key]), value.as_deref(), &headers);
        }
        let valid: ValidBatch = builder.build_valid().unwrap();
        let valid =
            appended_at.map_or(valid.clone(), |at| valid.with_log_append_time(Timestamp(at)));
        valid.assign(Offset(100), LeaderEpoch(3))
    }

    fn seen(batch: &StoredBatch) -> Seen {
        let records = batch.records(LIMIT).unwrap();
        let header = *records.header();
        let seen = records.iter().map(|record| {
            let record = record.unwrap();
            assert_eq!(record.headers().len(), 1);
            let at = record.timestamp(&header);
            let value = record.value.map(<[u8]>::to_vec);
            (record.offset(&header).0, at.0, record.key.unwrap().to_vec(), value)
        });
        seen.collect()
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let value = proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40));
        proptest::collection::vec((0..8_u8, value, -1..2_000_000_i64), 1..30)
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_it_was(
            rows in rows(), wanted: u8, codec in 0..5_u8, horizon in 0..3_u8,
            at in 0..1_i64 << 42, appended_at in proptest::option::of(0..1_i64 << 42),
        ) {
            let codec = Compression::from_id(codec).unwrap();
            let stored = batch(&rows, codec, appended_at);
            let before = stored.header().unwrap();
            let horizon = match horizon {
                0 => Horizon::Never,
                1 => Horizon::ForTombstones(Timestamp(at)),
                _ => Horizon::Always(Timestamp(at)),
            };
            let keep = |key: u8| wanted & (1 << key) != 0;
            let kept: Seen = seen(&stored).into_iter().filter(|row| keep(row.2[0])).collect();
            let left = stored.retain(LIMIT, horizon, |_, record| keep(record.key.unwrap()[0])).unwrap();
            let tombstone = kept.iter().any(|row| row.3.is_none());
            let set = match horizon {
                Horizon::Never => false,
                Horizon::ForTombstones(_) => tombstone,
                Horizon::Always(_) => true,
            };
            let left = match left {
                Retained::Nothing => {
                    prop_assert!(kept.is_empty());
                    return Ok(());
                }
                Retained::Same => {
                    prop_assert!(!set && kept.len() == rows.len());
                    stored
                }
                Retained::Changed(left) => {
                    prop_assert!(set || kept.len() < rows.len());
                    left
                }
            };
            prop_assert_eq!(seen(&left), kept.clone());
            let after = StoredBatch::from_bytes(left.to_bytes()).unwrap().header().unwrap();
            prop_assert_eq!(after.attributes.has_delete_horizon(), set);
            prop_assert_eq!(after.attributes.compression().unwrap(), codec);
            if set {
                prop_assert_eq!(after.base_timestamp, Timestamp(at));
            }
            let newest = kept.iter().map(|row| row.1).max().unwrap();
            prop_assert_eq!(after.max_timestamp, Timestamp(newest));
            let same = |header: BatchHeader| (
                header.base_offset, header.last_offset_delta, header.leader_epoch,
                header.producer_id, header.producer_epoch, header.base_sequence,
            );
            prop_assert_eq!(same(after), same(before));
            // A horizon stays what it is.
            let again = left.retain(LIMIT, Horizon::Always(Timestamp(7)), |_, _| true).unwrap();
            prop_assert_eq!(again == Retained::Same, set);
        }
    }

    #[test]
    fn an_emptied_batch_has_its_offsets_and_its_producer() {
        for codec in Compression::ALL {
            let rows = [(1, None, 5), (2, Some(vec![1]), 9)];
            let stored = batch(&rows, codec, None);
            let left = stored.retain(LIMIT, Horizon::Always(Timestamp(77)), |_, _| true).unwrap();
            let Retained::Changed(left) = left else { panic!("{left:?}") };
            let empty = StoredBatch::from_bytes(left.emptied().unwrap().to_bytes()).unwrap();
            let header = empty.header().unwrap();
            assert_eq!((header.base_offset, header.last_offset()), (Offset(100), Offset(101)));
            assert_eq!((header.records_count, header.last_sequence()), (0, 11));
            assert_eq!((header.base_timestamp.0, header.max_timestamp.0), (-1, 9));
            assert!(!header.attributes.has_delete_horizon());
            assert!(seen(&empty).is_empty());
            assert_eq!(empty.size(), HEADER_SIZE);
            assert_eq!(empty.retain(LIMIT, Horizon::Never, |_, _| true), Ok(Retained::Nothing));
        }
    }
}
