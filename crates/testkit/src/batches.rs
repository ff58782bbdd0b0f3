//! What a batch is to hold, drawn at random, and the batch made of it.

use bytes::Bytes;
use millstream_record::batch::BatchHeader;
use millstream_record::{BatchBuilder, Compression, Header};
use millstream_types::{ProducerEpoch, ProducerId, Timestamp};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

/// What a batch is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Its compression.
    pub compression: Compression,
    /// Producer id, epoch and base sequence.
    pub producer: Option<(i64, i16, i32)>,
    /// Whether it is part of a transaction; only with a producer.
    pub transactional: bool,
    /// Its records; at least one.
    pub records: Vec<RecordPlan>,
}

/// What a record is to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordPlan {
    /// Offsets left out before it, as compaction does.
    pub hole: u8,
    /// In milliseconds; may be anything.
    pub timestamp: i64,
    /// Key, or null.
    pub key: Option<Vec<u8>>,
    /// Value, or null.
    pub value: Option<Vec<u8>>,
    /// Headers in order; keys may repeat.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Plan {
    /// The batch, as a client would send it.
    #[must_use]
    pub fn build(&self) -> Bytes {
        let mut builder = BatchBuilder::new().compression(self.compression, None);
        if let Some((id, epoch, sequence)) = self.producer {
            builder = builder.producer(ProducerId(id), ProducerEpoch(epoch), sequence);
            if self.transactional {
                builder = builder.transactional();
            }
        }
        let mut delta = 0;
        for record in &self.records {
            delta += i32::from(record.hole);
            record.append(&mut builder, delta);
            delta += 1;
        }
        builder.build().unwrap()
    }

    /// The latest timestamp of its records; none is earlier than -1 for a batch.
    #[must_use]
    pub fn max_timestamp(&self) -> Timestamp {
        let latest = self.records.iter().map(|record| record.timestamp).max();
        Timestamp(latest.unwrap_or(-1).max(-1))
    }
}

impl RecordPlan {
    /// A record with a timestamp and a value.
    #[must_use]
    pub fn new(timestamp: i64, value: &str) -> Self {
        let value = Some(value.as_bytes().to_vec());
        Self { hole: 0, timestamp, key: None, value, headers: Vec::new() }
    }

    fn append(&self, builder: &mut BatchBuilder, delta: i32) {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(key, value)| Header { key, value: value.as_deref() })
            .collect();
        builder.append_at(
            delta,
            Timestamp(self.timestamp),
            self.key.as_deref(),
            self.value.as_deref(),
            &headers,
        );
    }
}

/// Any compression.
pub fn compression() -> impl Strategy<Value = Compression> {
    select(Compression::ALL.as_slice())
}

/// A batch as a client may send it: without holes.
pub fn client_plan() -> impl Strategy<Value = Plan> {
    plan(Just(0_u8))
}

/// A batch as a log may hold it: with the holes that compaction leaves.
pub fn stored_plan() -> impl Strategy<Value = Plan> {
    plan(prop_oneof![3 => Just(0_u8), 1 => any::<u8>()])
}

fn plan(hole: impl Strategy<Value = u8>) -> impl Strategy<Value = Plan> {
    let producer = option::of((0..=i64::MAX, 0..=i16::MAX, 0..=i32::MAX));
    (compression(), producer, any::<bool>(), vec(record(hole), 1..8)).prop_map(
        |(compression, producer, transactional, records)| Plan {
            compression,
            producer,
            transactional,
            records,
        },
    )
}

fn record(hole: impl Strategy<Value = u8>) -> impl Strategy<Value = RecordPlan> {
    let timestamp = prop_oneof![
        8 => 1_600_000_000_000..1_800_000_000_000_i64,
        1 => Just(-1),
        1 => any::<i64>(),
    ];
    let bytes = || option::of(payload());
    let header = (select(["a", "a", "b", ""].as_slice()), option::of(vec(any::<u8>(), 0..5)))
        .prop_map(|(key, value)| (key.as_bytes().to_vec(), value));
    (hole, timestamp, bytes(), bytes(), vec(header, 0..4)).prop_map(
        |(hole, timestamp, key, value, headers)| RecordPlan {
            hole,
            timestamp,
            key,
            value,
            headers,
        },
    )
}

/// Bytes that compress, and bytes that don't.
pub fn payload() -> impl Strategy<Value = Vec<u8>> {
    let repeats = (vec(any::<u8>(), 1..12), 0..80_usize).prop_map(|(unit, n)| unit.repeat(n));
    prop_oneof![3 => vec(any::<u8>(), 0..40), 1 => repeats]
}

/// A stored batch with up to four of its bytes changed, and often a checksum that fits again, so
/// that decoders are tried beyond the checksum.
pub fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    (stored_plan(), changes, any::<prop::sample::Index>(), 0..4_u8).prop_map(
        |(plan, changes, cut, how)| {
            let mut bytes = plan.build().to_vec();
            for (at, byte) in changes {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            if how == 0 {
                bytes.truncate(cut.index(bytes.len()));
            } else {
                refit(&mut bytes);
            }
            bytes
        },
    )
}

/// Makes length and checksum of a batch fit its bytes again, after a test has changed them.
pub fn refit(batch: &mut [u8]) {
    let length = i32::try_from(batch.len() - 12).unwrap();
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crate::oracle::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The header of a batch that a test has made, which can't fail to decode.
#[must_use]
pub fn header_of(batch: &[u8]) -> BatchHeader {
    BatchHeader::decode(batch).unwrap()
}
