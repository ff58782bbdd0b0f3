//! Making batches: for the client, for coordinators, for compaction, for tests.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use std::fmt;

use bytes::Bytes;
use millstream_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, limits, varint};

use crate::batch::{Attributes, BatchError, BatchHeader, HEADER_SIZE, ValidBatch, seal};
use crate::compression::{Compression, CompressionError, compress};
use crate::record::{Header, Parts};

/// Builds one batch, record by record. A record that can't be taken makes [`BatchBuilder::build`]
/// fail.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    attributes: Attributes,
    level: Option<i32>,
    producer_id: ProducerId,
    producer_epoch: ProducerEpoch,
    base_sequence: i32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    records_count: i32,
    last_offset_delta: i32,
    /// Room for the header, then the records, uncompressed.
    batch: Vec<u8>,
    fault: Option<BuildError>,
}

/// Why a batch could not be built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BuildError {
    /// It has no records.
    Empty,
    /// Its records come to more than [`limits::BATCH_BYTES_CEILING`] bytes.
    TooLarge,
    /// A record's offset delta is not above the one before.
    OffsetDelta(i32),
    /// The codec failed.
    Compression(CompressionError),
}

impl BatchBuilder {
    /// An empty batch: not compressed, neither idempotent nor transactional.
    #[must_use]
    pub fn new() -> Self {
        Self {
            attributes: Attributes::default(),
            level: None,
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: -1,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            records_count: 0,
            last_offset_delta: -1,
            batch: vec![0; HEADER_SIZE],
            fault: None,
        }
    }

    /// Compressed, at the codec's own `level` or at its default; see [`compress`].
    #[must_use]
    pub fn compression(self, codec: Compression, level: Option<i32>) -> Self {
        Self { attributes: self.attributes.with_compression(codec), level, ..self }
    }

    /// From a producer. `base_sequence` is the first record's; -1 for transaction markers.
    #[must_use]
    pub fn producer(self, id: ProducerId, epoch: ProducerEpoch, base_sequence: i32) -> Self {
        Self { producer_id: id, producer_epoch: epoch, base_sequence, ..self }
    }

    /// As a part of the producer's transaction.
    #[must_use]
    pub fn transactional(self) -> Self {
        Self { attributes: self.attributes.with_transactional(true), ..self }
    }

    /// As a control batch; see [`crate::control`].
    #[must_use]
    pub fn control(self) -> Self {
        Self { attributes: self.attributes.with_control(true), ..self }
    }

    /// Adds a record at the next offset. Returns the size that the batch has so far, uncompressed,
    /// in bytes.
    pub fn append(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        match self.last_offset_delta.checked_add(1) {
            Some(offset_delta) => self.append_at(offset_delta, timestamp, key, value, headers),
            None => self.fail(BuildError::TooLarge),
        }
    }

    /// Adds a record at this many offsets after the base, which must be beyond the last one's.
    /// Returns as [`BatchBuilder::append`].
    pub fn append_at(
        &mut self,
        offset_delta: i32,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        if offset_delta <= self.last_offset_delta {
            return self.fail(BuildError::OffsetDelta(offset_delta));
        }
        let base_timestamp = if self.is_empty() { timestamp } else { self.base_timestamp };
        let timestamp_delta = timestamp.0.wrapping_sub(base_timestamp.0);
        let parts = Parts { timestamp_delta, offset_delta, key, value, headers };
        let size = parts.body_size().saturating_add(varint::LEN_MAX_32);
        if self.batch.len().saturating_add(size) > limits::BATCH_BYTES_CEILING {
            return self.fail(BuildError::TooLarge);
        }
        parts.encode(&mut self.batch);
        self.base_timestamp = base_timestamp;
        self.max_timestamp = self.max_timestamp.max(timestamp);
        self.last_offset_delta = offset_delta;
        // Never more than offset deltas, which fit.
        self.records_count = self.records_count.saturating_add(1);
        self.size()
    }

    /// The size that the batch has so far, uncompressed, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.batch.len()
    }

    /// How many records it has so far.
    #[must_use]
    pub const fn records_count(&self) -> i32 {
        self.records_count
    }

    /// Whether it has no records so far.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records_count == 0
    }

    /// The finished batch, at base offset 0 and without a leader epoch.
    ///
    /// # Errors
    ///
    /// When there are no records, when one could not be taken, or when the codec fails.
    pub fn build(self) -> Result<Bytes, BuildError> {
        self.build_valid().map(|batch| batch.bytes().clone())
    }

    /// As [`BatchBuilder::build`], ready for a log: what was built need not be checked.
    ///
    /// # Errors
    ///
    /// As [`BatchBuilder::build`].
    pub fn build_valid(self) -> Result<ValidBatch, BuildError> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        if self.is_empty() {
            return Err(BuildError::Empty);
        }
        let header = self.header();
        let codec = self.attributes.compression().unwrap_or_default();
        let mut batch = self.batch;
        if codec != Compression::None {
            let records = batch.get(HEADER_SIZE..).unwrap_or_default();
            let compressed =
                compress(codec, self.level, records).map_err(BuildError::Compression)?;
            batch.truncate(HEADER_SIZE);
            batch.extend_from_slice(&compressed);
        }
        seal(header, batch).map_err(|error| match error {
            BatchError::Compression(error) => BuildError::Compression(error),
            _ => BuildError::TooLarge,
        })
    }

    /// All but length and checksum.
    fn header(&self) -> BatchHeader {
        BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: LeaderEpoch::NONE,
            crc: 0,
            attributes: self.attributes,
            last_offset_delta: self.last_offset_delta,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer_id,
            producer_epoch: self.producer_epoch,
            base_sequence: self.base_sequence,
            records_count: self.records_count,
        }
    }

    fn fail(&mut self, fault: BuildError) -> usize {
        self.fault.get_or_insert(fault);
        self.size()
    }
}

impl Default for BatchBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("a batch needs at least one record"),
            Self::TooLarge => {
                write!(f, "a batch has at most {} bytes", limits::BATCH_BYTES_CEILING)
            }
            Self::OffsetDelta(delta) => write!(f, "offset delta {delta} is out of order"),
            Self::Compression(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BuildError {}
