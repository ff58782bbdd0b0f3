//! What clients send, and what they make of what they read.

use bytes::Bytes;
use millstream_env::Dice;
use millstream_record::batch::{BatchError, StoredBatch, split};
use millstream_record::control::{ControlRecord, Outcome};
use millstream_record::{BatchBuilder, Compression};
use millstream_testkit::history::Value;
use millstream_types::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// What a batch may decompress to, in bytes.
const BATCH_BYTES_MAX: usize = 1 << 20;

/// What stands for a record without a value.
pub(crate) const TOMBSTONE: Value = Value(0);

/// A producer, as its batches name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Producer {
    pub(crate) id: ProducerId,
    pub(crate) epoch: ProducerEpoch,
}

/// What all batches of a client have in common.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchKind {
    pub(crate) producer: Option<Producer>,
    pub(crate) transactional: bool,
    pub(crate) compression: Compression,
}

/// A compression that may be sent in this version of Produce; most often none.
pub(crate) fn compression(dice: &mut Dice, version: i16) -> Compression {
    let all = Compression::ALL;
    match all.get(dice.below(10) as usize) {
        Some(Compression::Zstd) if version < 7 => Compression::None,
        drawn => drawn.copied().unwrap_or(Compression::None),
    }
}

/// A batch with these values.
pub(crate) fn batch(
    dice: &mut Dice,
    kind: &BatchKind,
    sequence: i32,
    now: Timestamp,
    records: &[(Option<&[u8]>, Value)],
) -> Result<Bytes, String> {
    let mut builder = BatchBuilder::new().compression(kind.compression, None);
    if let Some(producer) = kind.producer {
        builder = builder.producer(producer.id, producer.epoch, sequence);
    }
    if kind.transactional {
        builder = builder.transactional();
    }
    let padding = vec![b'.'; dice.below(400) as usize];
    for (key, value) in records {
        let bytes = [&value.0.to_be_bytes(), padding.as_slice()].concat();
        let bytes = (*value != TOMBSTONE).then_some(bytes.as_slice());
        builder.append(now, *key, bytes, &[]);
    }
    builder.build().map_err(|error| error.to_string())
}

/// A record as a consumer sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) offset: Offset,
    pub(crate) key: Option<Vec<u8>>,
    /// Nothing: a tombstone.
    pub(crate) value: Option<Value>,
}

/// What is read from `from` on, and where to go on. `aborted` says which transactions to leave out, if
/// any are to be.
pub(crate) fn read(
    records: &Bytes,
    from: Offset,
    mut aborted: Vec<(ProducerId, Offset)>,
) -> Result<(Vec<Seen>, Offset), String> {
    let mut seen = Vec::new();
    let mut leaving: Vec<ProducerId> = Vec::new();
    let mut next = from;
    for bytes in split(records) {
        let bytes = match bytes {
            // An answer may end within a batch.
            Err(BatchError::Truncated { .. }) => break,
            bytes => bytes.map_err(|error| error.to_string())?,
        };
        let batch = StoredBatch::from_bytes(bytes).map_err(|error| error.to_string())?;
        let header = batch.header().map_err(|error| error.to_string())?;
        next = next.max(header.last_offset().next());
        let begun = aborted.extract_if(.., |(_, first)| *first <= header.last_offset());
        leaving.extend(begun.map(|(producer, _)| producer));
        let records = batch.records(BATCH_BYTES_MAX).map_err(|error| error.to_string())?;
        for record in &records {
            let record = record.map_err(|error| error.to_string())?;
            let offset = record.offset(&header);
            if header.attributes.is_control() {
                let control = ControlRecord::decode(&record).map_err(|error| error.to_string())?;
                if matches!(control, ControlRecord::EndTransaction(end) if end.outcome == Outcome::Abort)
                {
                    leaving.retain(|producer| *producer != header.producer_id);
                }
            } else if offset >= from
                && !(header.attributes.is_transactional() && leaving.contains(&header.producer_id))
            {
                seen.push(of_record(offset, record.key, record.value)?);
            }
        }
    }
    Ok((seen, next))
}

fn of_record(offset: Offset, key: Option<&[u8]>, value: Option<&[u8]>) -> Result<Seen, String> {
    let number = |value: &[u8]| {
        let bytes = value.first_chunk::<8>();
        bytes.map(|bytes| Value(u64::from_be_bytes(*bytes))).ok_or("a value that nobody sends")
    };
    let value = value.map(number).transpose()?;
    Ok(Seen { offset, key: key.map(<[u8]>::to_vec), value })
}
