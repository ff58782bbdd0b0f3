//! A batch that has been checked, whole: the only thing that a log takes.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use bytes::Bytes;
use millstream_types::{LeaderEpoch, Offset, Timestamp};

use super::check::{self, Check};
use super::error::BatchError;
use super::header::{
    ASSIGNED_SIZE, BatchHeader, CHECKED_FROM, HEADER_SIZE, LENGTH_OVERHEAD, TimestampType,
};
use super::stored::StoredBatch;
use crate::compression::{Compression, compress, decompress};
use crate::record::Records;

/// A batch that has been checked, whole: the only thing that a log takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidBatch {
    /// Invariant: what the first bytes of `bytes` decode to.
    header: BatchHeader,
    /// Invariant: one whole batch with a right checksum.
    bytes: Bytes,
}

impl ValidBatch {
    /// Checks one batch. Nothing is copied, unless its max timestamp is found to be wrong: then a
    /// corrected copy is made, with a new checksum. One pass computes the checksum, one more walks
    /// the records of uncompressed batches. Compressed ones are walked when keys are required, when
    /// the check is `full`, or when their max timestamp is missing or below the base.
    ///
    /// # Errors
    ///
    /// The first fact that speaks against the batch; see [`BatchError`].
    pub fn check(bytes: Bytes, how: &Check) -> Result<Self, BatchError> {
        let header = check::open(&bytes, how.batch_bytes_max)?;
        how.header(&header)?;
        let batch = Self { header, bytes };
        if !how.walks(&header) {
            how.header_timestamps(&header)?;
            return Ok(batch);
        }
        let records = batch.records(how.decompressed_bytes_max)?;
        let max_timestamp = how.walk(&header, records.bytes())?;
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime
            || max_timestamp == header.max_timestamp
        {
            return Ok(batch);
        }
        Ok(batch.with_header(BatchHeader { max_timestamp, ..header }))
    }

    /// All records for whose sake `how` refuses a batch, the first `refused_max` of them: producers
    /// are told of each, so that they can send the others again. Empty when it is the batch itself
    /// that is refused, or a record that does not decode.
    #[must_use]
    pub fn refused(bytes: &Bytes, how: &Check, refused_max: usize) -> Vec<BatchError> {
        let Ok(header) = check::open(bytes, how.batch_bytes_max) else { return Vec::new() };
        let body = bytes.slice(HEADER_SIZE.min(bytes.len())..);
        let Ok(records) = records(&header, body, how.decompressed_bytes_max) else {
            return Vec::new();
        };
        how.refused(&header, records.bytes(), refused_max)
    }

    /// The decoded header, as sent: neither offset nor leader epoch is assigned yet.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All bytes of the batch.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records, decompressed to at most `limit` bytes if they are compressed, else without a
    /// copy.
    ///
    /// # Errors
    ///
    /// [`BatchError::Compression`] when they don't decompress within the limit.
    pub fn records(&self, limit: usize) -> Result<Records, BatchError> {
        records(&self.header, self.bytes.slice(HEADER_SIZE.min(self.bytes.len())..), limit)
    }

    /// A copy under log-append time: every record counts as appended at `now`.
    #[must_use]
    pub fn with_log_append_time(&self, now: Timestamp) -> Self {
        let attributes = self.header.attributes.with_timestamp_type(TimestampType::LogAppendTime);
        self.with_header(BatchHeader { attributes, max_timestamp: now, ..self.header })
    }

    /// The same records in another compression; the batch itself when it is in that one already.
    /// Records that were compressed are walked.
    ///
    /// # Errors
    ///
    /// As [`ValidBatch::records`]; [`BatchError::InvalidRecord`] when a compressed batch turns out
    /// to hold bad records; [`BatchError::TooLarge`] when the new batch's length doesn't fit its
    /// field.
    pub fn recompress(
        &self,
        to: Compression,
        level: Option<i32>,
        limit: usize,
    ) -> Result<Self, BatchError> {
        let from = self.header.attributes.compression()?;
        if from == to {
            return Ok(self.clone());
        }
        let records = self.records(limit)?;
        if from != Compression::None {
            records.iter().try_for_each(|record| record.map(drop))?;
        }
        let mut batch = vec![0; HEADER_SIZE];
        if to == Compression::None {
            batch.extend_from_slice(records.bytes());
        } else {
            batch.extend_from_slice(&compress(to, level, records.bytes())?);
        }
        let attributes = self.header.attributes.with_compression(to);
        seal(BatchHeader { attributes, ..self.header }, batch)
    }

    /// The batch as the log stores it, at `base` and under `epoch`. Nothing is copied.
    #[must_use]
    pub fn assign(&self, base: Offset, epoch: LeaderEpoch) -> StoredBatch {
        let header = BatchHeader { base_offset: base, leader_epoch: epoch, ..self.header };
        let mut assigned = [0; ASSIGNED_SIZE];
        for (to, from) in assigned.iter_mut().zip(header.encode()) {
            *to = from;
        }
        StoredBatch { assigned, rest: self.bytes.slice(ASSIGNED_SIZE.min(self.bytes.len())..) }
    }

    /// A copy under another header of the same length; its checksum is computed.
    fn with_header(&self, header: BatchHeader) -> Self {
        let mut batch = self.bytes.to_vec();
        let header = write_header(header, &mut batch);
        Self { header, bytes: batch.into() }
    }
}

/// Makes a batch of a header and of `batch`, which has the records where they belong and room for
/// the header before them. Length and checksum are computed.
pub(crate) fn seal(header: BatchHeader, mut batch: Vec<u8>) -> Result<ValidBatch, BatchError> {
    let size = batch.len();
    let too_large = BatchError::TooLarge { bytes: size, bytes_max: BATCH_SIZE_MAX };
    let length = size.checked_sub(LENGTH_OVERHEAD).ok_or(too_large)?;
    let batch_length = i32::try_from(length).map_err(|_| too_large)?;
    let header = write_header(BatchHeader { batch_length, ..header }, &mut batch);
    Ok(ValidBatch { header, bytes: batch.into() })
}

/// The largest batch that the length field can describe: 2^31-1 bytes and what it doesn't count.
pub(crate) const BATCH_SIZE_MAX: usize = 0x7fff_ffff + LENGTH_OVERHEAD;

fn write_header(header: BatchHeader, batch: &mut [u8]) -> BatchHeader {
    put_header(&header, batch);
    debug_assert!(batch.len() > CHECKED_FROM, "a batch has a header");
    let header = BatchHeader { crc: check::crc(batch), ..header };
    put_header(&header, batch);
    header
}

fn put_header(header: &BatchHeader, batch: &mut [u8]) {
    if let Some(head) = batch.first_chunk_mut::<HEADER_SIZE>() {
        *head = header.encode();
    }
}

/// The records of a batch with this header, whose bytes after the header are `body`.
pub(super) fn records(
    header: &BatchHeader,
    body: Bytes,
    limit: usize,
) -> Result<Records, BatchError> {
    let records = match header.attributes.compression()? {
        Compression::None => body,
        // What compaction has emptied has no stream either.
        _ if header.records_count == 0 && body.is_empty() => body,
        codec => decompress(codec, &body, limit)?.into(),
    };
    Ok(Records::new(*header, records))
}
