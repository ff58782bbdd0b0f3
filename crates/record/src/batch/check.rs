//! What a batch must satisfy before the log may take it.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use std::time::Duration;

use crc_fast::{CrcAlgorithm, checksum};
use millstream_types::{Cursor, DecodeError, Timestamp, limits};

use super::error::{BatchError, RecordFault};
use super::header::{
    BatchHeader, CHECKED_FROM, HEADER_SIZE, LENGTH_OVERHEAD, MAGIC, TimestampType,
};
use crate::compression::Compression;
use crate::record::{Record, RecordIter};

/// How [`super::ValidBatch::check`] is to judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    /// The largest batch, in bytes as sent (`max.message.bytes`).
    pub batch_bytes_max: usize,
    /// What a batch may decompress to, in bytes.
    pub decompressed_bytes_max: usize,
    /// Whether the records of compressed batches are walked even when nothing else asks for it
    /// (`record.validation=full`).
    pub full: bool,
    /// Whether each record must have a key: the topic is compacted.
    pub keys_required: bool,
    /// Whose batch it is.
    pub origin: Origin,
    /// How far timestamps may be from now; `None` when the log sets them itself, or for no limit.
    pub timestamps: Option<TimestampBounds>,
}

/// Whose batch it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Sent by a client: no control batches and no append times; offset deltas 0 to n-1 without
    /// holes; a sequence number and epoch with each producer id, and a producer id in each
    /// transaction. The base offset may be anything: it is overwritten.
    Client,
    /// Made by ourselves, or stored before: control batches, holes and empty batches are allowed.
    Internal,
}

/// How far timestamps may be from now. Records without a timestamp (-1) are not judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimestampBounds {
    /// The time of the append.
    pub now: Timestamp,
    /// How long before (`message.timestamp.before.max.ms`).
    pub before_max: Duration,
    /// How long after (`message.timestamp.after.max.ms`).
    pub after_max: Duration,
}

impl Check {
    /// For clients' batches, with the default limits and without bounds on timestamps.
    #[must_use]
    pub const fn client() -> Self {
        Self {
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            decompressed_bytes_max: limits::BATCH_BYTES_CEILING,
            full: false,
            keys_required: false,
            origin: Origin::Client,
            timestamps: None,
        }
    }

    /// For batches of our own, or from disk: only the ceiling limits their size.
    #[must_use]
    pub const fn internal() -> Self {
        Self {
            batch_bytes_max: limits::BATCH_BYTES_CEILING,
            origin: Origin::Internal,
            ..Self::client()
        }
    }
}

impl TimestampBounds {
    fn allow(&self, timestamp: Timestamp) -> bool {
        let after = i128::from(timestamp.0).saturating_sub(i128::from(self.now.0));
        timestamp == Timestamp::NONE
            || (after <= millis(self.after_max)
                && after.saturating_neg() <= millis(self.before_max))
    }
}

fn millis(duration: Duration) -> i128 {
    i128::try_from(duration.as_millis()).unwrap_or(i128::MAX)
}

/// Reads the length and format version at the start of `bytes`: the whole size of the batch that
/// starts there.
pub(super) fn size_at(bytes: &[u8]) -> Result<usize, BatchError> {
    let mut cursor = Cursor::new(bytes);
    cursor.i64("base_offset").map_err(truncated)?;
    let batch_length = cursor.i32("batch_length").map_err(truncated)?;
    cursor.i32("leader_epoch").map_err(truncated)?;
    // In the old formats this byte has the same place.
    let magic = cursor.i8("magic").map_err(truncated)?;
    if magic != MAGIC {
        return Err(BatchError::UnsupportedMagic(magic));
    }
    match usize::try_from(batch_length).map(|length| length.saturating_add(LENGTH_OVERHEAD)) {
        Ok(size) if size >= HEADER_SIZE => Ok(size),
        _ => Err(BatchError::Length { batch_length }),
    }
}

/// Decodes the header of the one batch in `bytes` and checks what surrounds its records: format
/// version, length, checksum, the range of its counts.
pub(super) fn open(bytes: &[u8], bytes_max: usize) -> Result<BatchHeader, BatchError> {
    let size = size_at(bytes)?;
    if size > bytes_max {
        return Err(BatchError::TooLarge { bytes: size, bytes_max });
    }
    let header = BatchHeader::decode(bytes).map_err(truncated)?;
    match bytes.len().checked_sub(size) {
        None => return Err(BatchError::Truncated { field: "records" }),
        Some(0) => {}
        Some(bytes) => return Err(BatchError::TrailingBytes { bytes }),
    }
    let computed = crc(bytes);
    if computed != header.crc {
        return Err(BatchError::Crc { stored: header.crc, computed });
    }
    let BatchHeader { records_count, last_offset_delta, .. } = header;
    let room = i64::from(last_offset_delta).saturating_add(1);
    if records_count < 0 || last_offset_delta < 0 || i64::from(records_count) > room {
        return Err(BatchError::Count { records_count, last_offset_delta });
    }
    header.attributes.compression()?;
    Ok(header)
}

/// The checksum of a whole batch.
pub(crate) fn crc(batch: &[u8]) -> u32 {
    let checked = batch.get(CHECKED_FROM..).unwrap_or_default();
    // A 32-bit checksum comes in the low half of 64 bits.
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, checked)).unwrap_or(0)
}

fn truncated(error: DecodeError) -> BatchError {
    BatchError::Truncated { field: error.field() }
}

impl Check {
    /// What the header alone can tell against a batch.
    pub(super) fn header(&self, header: &BatchHeader) -> Result<(), BatchError> {
        if self.origin == Origin::Internal {
            return Ok(());
        }
        let BatchHeader { records_count, last_offset_delta, attributes, .. } = *header;
        if records_count < 1
            || i64::from(records_count).checked_sub(1) != Some(i64::from(last_offset_delta))
        {
            return Err(BatchError::Count { records_count, last_offset_delta });
        }
        if attributes.is_control() {
            return Err(BatchError::Control);
        }
        if attributes.timestamp_type() == TimestampType::LogAppendTime {
            return Err(BatchError::TimestampType);
        }
        match header.has_producer() {
            true if header.base_sequence < 0 => {
                Err(BatchError::Producer { field: "base_sequence" })
            }
            true if header.producer_epoch.0 < 0 => {
                Err(BatchError::Producer { field: "producer_epoch" })
            }
            false if attributes.is_transactional() => {
                Err(BatchError::Producer { field: "producer_id" })
            }
            _ => Ok(()),
        }
    }

    /// Whether the records themselves have to be looked at.
    pub(super) fn walks(&self, header: &BatchHeader) -> bool {
        // Some clients leave the header's max timestamp unset; look-ups by time need it.
        let max_is_suspect = header.attributes.timestamp_type() == TimestampType::CreateTime
            && (header.max_timestamp == Timestamp::NONE
                || (header.max_timestamp < header.base_timestamp
                    && !header.attributes.has_delete_horizon()));
        header.attributes.compression() == Ok(Compression::None)
            || self.full
            || self.keys_required
            || max_is_suspect
    }

    /// Looks at each record. Returns the true max timestamp.
    pub(super) fn walk(
        &self,
        header: &BatchHeader,
        records: &[u8],
    ) -> Result<Timestamp, BatchError> {
        let mut max = Timestamp::NONE;
        for (record, index) in RecordIter::new(header, records).zip(0..) {
            max = max.max(self.judge(header, &record?, index)?);
        }
        Ok(max)
    }

    /// All records that the topic does not take, at most `refused_max`; as far as they decode.
    pub(super) fn refused(
        &self,
        header: &BatchHeader,
        records: &[u8],
        refused_max: usize,
    ) -> Vec<BatchError> {
        RecordIter::new(header, records)
            .map_while(Result::ok)
            .zip(0..)
            .filter_map(|(record, index)| self.judge(header, &record, index).err())
            .take(refused_max)
            .collect()
    }

    /// Whether the topic takes this record, one that decodes. Returns its timestamp.
    fn judge(
        &self,
        header: &BatchHeader,
        record: &Record<'_>,
        index: i32,
    ) -> Result<Timestamp, BatchError> {
        if self.keys_required && record.key.is_none() {
            return Err(BatchError::InvalidRecord { index, why: RecordFault::NoKey });
        }
        let timestamp = record.timestamp(header);
        if self.timestamps.is_some_and(|bounds| !bounds.allow(timestamp)) {
            return Err(BatchError::Timestamp { index: Some(index), timestamp });
        }
        Ok(timestamp)
    }

    /// The timestamps of a batch that is not walked: those of its header.
    pub(super) fn header_timestamps(&self, header: &BatchHeader) -> Result<(), BatchError> {
        let Some(bounds) = self.timestamps else { return Ok(()) };
        for timestamp in [header.base_timestamp, header.max_timestamp] {
            if !bounds.allow(timestamp) {
                return Err(BatchError::Timestamp { index: None, timestamp });
            }
        }
        Ok(())
    }
}
