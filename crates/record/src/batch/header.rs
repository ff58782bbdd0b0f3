//! The fixed 61 bytes in front of a batch's records.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use millstream_types::{
    Cursor, DecodeError, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp,
};

use super::error::BatchError;
use crate::compression::Compression;

/// The bytes of a batch before its records.
pub const HEADER_SIZE: usize = 61;

/// The first bytes of a batch, which the log assigns: base offset, length, leader epoch.
pub const ASSIGNED_SIZE: usize = 16;

/// The only version of the batch format that is read or written.
pub const MAGIC: i8 = 2;

/// The bytes of a batch that its length field doesn't count: base offset and length.
pub(super) const LENGTH_OVERHEAD: usize = 12;

/// Where the checksum starts to cover: the attributes.
pub(super) const CHECKED_FROM: usize = 21;

/// The least value of the length field: a header without records.
const BATCH_LENGTH_MIN: i32 = 49;

const _: () = assert!(HEADER_SIZE - LENGTH_OVERHEAD == 49);

/// A decoded batch header. Magic is not kept: it is always [`MAGIC`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// The offset of the first record that the batch was written with.
    pub base_offset: Offset,
    /// The batch's bytes after this field; at least 49 in a decoded header.
    pub batch_length: i32,
    /// The epoch of the leader that appended it; -1 before that.
    pub leader_epoch: LeaderEpoch,
    /// CRC32C of the batch from the attributes on.
    pub crc: u32,
    /// Compression, kind of timestamp, and what the batch is for.
    pub attributes: Attributes,
    /// The last offset less the base offset; compaction leaves it as it was.
    pub last_offset_delta: i32,
    /// What the records' timestamp deltas count from.
    pub base_timestamp: Timestamp,
    /// The latest timestamp of the records, or the append time.
    pub max_timestamp: Timestamp,
    /// Who produced it, for deduplication and transactions.
    pub producer_id: ProducerId,
    /// The producer's incarnation.
    pub producer_epoch: ProducerEpoch,
    /// The sequence number of the first record; -1 when the batch is not idempotent.
    pub base_sequence: i32,
    /// How many records there are.
    pub records_count: i32,
}

/// The attribute bits of a batch.
///
/// ```text
/// bits 0-2  compression        bit 3  timestamps are append times   bit 4  transactional
/// bit 5     control batch      bit 6  base timestamp is the delete horizon
/// ```
///
/// Other bits have no meaning; they are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Attributes(pub u16);

/// What the timestamps of a batch mean.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// When the producer made each record.
    #[default]
    CreateTime,
    /// When the log took the batch: the header's max timestamp, for every record.
    LogAppendTime,
}

const COMPRESSION_MASK: u16 = 0x07;
const LOG_APPEND_TIME: u16 = 1 << 3;
const TRANSACTIONAL: u16 = 1 << 4;
const CONTROL: u16 = 1 << 5;
const DELETE_HORIZON: u16 = 1 << 6;

impl Attributes {
    /// The records' compression.
    ///
    /// # Errors
    ///
    /// [`BatchError::UnknownCompression`] for the three numbers that have no codec; never in a
    /// batch that was checked.
    pub const fn compression(self) -> Result<Compression, BatchError> {
        let [_, low] = self.0.to_be_bytes();
        let id = low & 0x07;
        match Compression::from_id(id) {
            Some(compression) => Ok(compression),
            None => Err(BatchError::UnknownCompression(id)),
        }
    }

    /// What the timestamps mean.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & LOG_APPEND_TIME == 0 {
            TimestampType::CreateTime
        } else {
            TimestampType::LogAppendTime
        }
    }

    /// Whether the batch belongs to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & TRANSACTIONAL != 0
    }

    /// Whether the batch holds control records (see [`crate::control`]), which no consumer shows.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & CONTROL != 0
    }

    /// Whether compaction has put the time from which tombstones may go in the base timestamp.
    #[must_use]
    pub const fn has_delete_horizon(self) -> bool {
        self.0 & DELETE_HORIZON != 0
    }

    /// With this compression.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self((self.0 & !COMPRESSION_MASK) | u16::from_be_bytes([0, compression.id()]))
    }

    /// With this kind of timestamp.
    #[must_use]
    pub const fn with_timestamp_type(self, kind: TimestampType) -> Self {
        self.with(LOG_APPEND_TIME, matches!(kind, TimestampType::LogAppendTime))
    }

    /// With the transactional bit as given.
    #[must_use]
    pub const fn with_transactional(self, set: bool) -> Self {
        self.with(TRANSACTIONAL, set)
    }

    /// With the control bit as given.
    #[must_use]
    pub const fn with_control(self, set: bool) -> Self {
        self.with(CONTROL, set)
    }

    /// With the delete-horizon bit as given.
    #[must_use]
    pub const fn with_delete_horizon(self, set: bool) -> Self {
        self.with(DELETE_HORIZON, set)
    }

    const fn with(self, bit: u16, set: bool) -> Self {
        Self(if set { self.0 | bit } else { self.0 & !bit })
    }
}

impl BatchHeader {
    /// Decodes the header at the start of `bytes`; what follows it is not looked at, and counts,
    /// deltas and checksum are not judged.
    ///
    /// # Errors
    ///
    /// `Truncated` when `bytes` is shorter than [`HEADER_SIZE`]; `Invalid` when the magic is not
    /// [`MAGIC`] or the length is too small for a header.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let base_offset = Offset(cursor.i64("base_offset")?);
        let batch_length = cursor.i32("batch_length")?;
        let leader_epoch = LeaderEpoch(cursor.i32("leader_epoch")?);
        if cursor.i8("magic")? != MAGIC {
            return Err(DecodeError::Invalid { field: "magic" });
        }
        if batch_length < BATCH_LENGTH_MIN {
            return Err(DecodeError::Invalid { field: "batch_length" });
        }
        Ok(Self {
            base_offset,
            batch_length,
            leader_epoch,
            crc: cursor.u32("crc")?,
            attributes: Attributes(cursor.u16("attributes")?),
            last_offset_delta: cursor.i32("last_offset_delta")?,
            base_timestamp: Timestamp(cursor.i64("base_timestamp")?),
            max_timestamp: Timestamp(cursor.i64("max_timestamp")?),
            producer_id: ProducerId(cursor.i64("producer_id")?),
            producer_epoch: ProducerEpoch(cursor.i16("producer_epoch")?),
            base_sequence: cursor.i32("base_sequence")?,
            records_count: cursor.i32("records_count")?,
        })
    }

    /// Encodes the header as it is, its checksum included.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut out = [0; HEADER_SIZE];
        let mut rest = out.as_mut_slice();
        put(&mut rest, self.base_offset.0.to_be_bytes());
        put(&mut rest, self.batch_length.to_be_bytes());
        put(&mut rest, self.leader_epoch.0.to_be_bytes());
        put(&mut rest, MAGIC.to_be_bytes());
        put(&mut rest, self.crc.to_be_bytes());
        put(&mut rest, self.attributes.0.to_be_bytes());
        put(&mut rest, self.last_offset_delta.to_be_bytes());
        put(&mut rest, self.base_timestamp.0.to_be_bytes());
        put(&mut rest, self.max_timestamp.0.to_be_bytes());
        put(&mut rest, self.producer_id.0.to_be_bytes());
        put(&mut rest, self.producer_epoch.0.to_be_bytes());
        put(&mut rest, self.base_sequence.to_be_bytes());
        put(&mut rest, self.records_count.to_be_bytes());
        debug_assert!(rest.is_empty(), "the header has exactly {HEADER_SIZE} bytes");
        out
    }

    /// The whole batch's bytes, this header included.
    #[must_use]
    pub fn size(&self) -> usize {
        usize::try_from(self.batch_length).unwrap_or(0).saturating_add(LENGTH_OVERHEAD)
    }

    /// The offset of the last record that the batch was written with.
    #[must_use]
    pub fn last_offset(&self) -> Offset {
        self.base_offset.plus(i64::from(self.last_offset_delta))
    }

    /// The sequence number of the last record, which wraps from 2^31-1 to 0; -1 when there is
    /// none.
    #[must_use]
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return -1;
        }
        self.base_sequence.wrapping_add(self.last_offset_delta) & i32::MAX
    }

    /// Whether the batch takes part in deduplication.
    #[must_use]
    pub fn has_producer(&self) -> bool {
        self.producer_id > ProducerId::NONE
    }

    /// The offset of a record `delta` after the base offset.
    #[must_use]
    pub fn offset_of(&self, delta: i32) -> Offset {
        self.base_offset.plus(i64::from(delta))
    }

    /// The timestamp of a record whose own is `delta` after the base: under log-append time the
    /// batch's, whatever the record says. Wraps, as in Kafka's own clients.
    #[must_use]
    pub const fn timestamp_of(&self, delta: i64) -> Timestamp {
        match self.attributes.timestamp_type() {
            TimestampType::CreateTime => Timestamp(self.base_timestamp.0.wrapping_add(delta)),
            TimestampType::LogAppendTime => self.max_timestamp,
        }
    }
}

fn put<const N: usize>(rest: &mut &mut [u8], value: [u8; N]) {
    if let Some((head, tail)) = std::mem::take(rest).split_first_chunk_mut::<N>() {
        *head = value;
        *rest = tail;
    }
}
