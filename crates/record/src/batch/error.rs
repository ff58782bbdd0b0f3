//! Why a batch is refused: facts, for the edge to turn into error codes.

use std::fmt;

use millstream_types::{DecodeError, Timestamp};

use crate::compression::CompressionError;

/// Why a batch is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchError {
    /// The bytes end inside the batch.
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// The length field is smaller than a header.
    Length {
        /// What it says.
        batch_length: i32,
    },
    /// There are bytes after the one batch.
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// The batch has a format version other than 2; 0 and 1 are the message sets of clients from
    /// before 2017.
    UnsupportedMagic(i8),
    /// The batch is larger than it may be.
    TooLarge {
        /// Its size in bytes.
        bytes: usize,
        /// What is allowed.
        bytes_max: usize,
    },
    /// The checksum doesn't match the bytes.
    Crc {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// The attributes name a compression that doesn't exist.
    UnknownCompression(u8),
    /// The records could not be decompressed, or not within the limit.
    Compression(CompressionError),
    /// The count of records is negative, zero where there must be some, or doesn't fit the range
    /// of offsets.
    Count {
        /// The header's count.
        records_count: i32,
        /// The header's last offset delta.
        last_offset_delta: i32,
    },
    /// A client sent a control batch.
    Control,
    /// A batch with a producer id has no sequence number or producer epoch, or a transactional one
    /// has no producer id.
    Producer {
        /// The field that is missing.
        field: &'static str,
    },
    /// A client sent a batch that claims append time.
    TimestampType,
    /// A timestamp is too far from now.
    Timestamp {
        /// The record, from 0; `None` when the header alone was judged.
        index: Option<i32>,
        /// Its timestamp.
        timestamp: Timestamp,
    },
    /// A record is not valid.
    InvalidRecord {
        /// The record, from 0.
        index: i32,
        /// What is wrong with it.
        why: RecordFault,
    },
}

/// What is wrong with a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordFault {
    /// It doesn't decode; `Truncated` also when the batch has fewer records than it counts.
    Malformed(DecodeError),
    /// Its offset delta is not the next one, or outside the batch's range.
    OffsetDelta(i32),
    /// It has no key, and the topic is compacted.
    NoKey,
    /// There are bytes after the last record.
    TrailingBytes(usize),
}

impl BatchError {
    /// The record that is at fault, from 0, if one is.
    #[must_use]
    pub const fn record_index(self) -> Option<i32> {
        match self {
            Self::InvalidRecord { index, .. } => Some(index),
            Self::Timestamp { index, .. } => index,
            _ => None,
        }
    }
}

impl From<CompressionError> for BatchError {
    fn from(error: CompressionError) -> Self {
        Self::Compression(error)
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { field } => write!(f, "the batch ends inside `{field}`"),
            Self::Length { batch_length } => {
                write!(f, "a batch length of {batch_length} is too small for a header")
            }
            Self::TrailingBytes { bytes } => write!(f, "{bytes} bytes follow the batch"),
            Self::UnsupportedMagic(magic) => {
                write!(f, "message format {magic} is not supported; version 2 is")
            }
            Self::TooLarge { bytes, bytes_max } => {
                write!(f, "the batch has {bytes} bytes; at most {bytes_max} are allowed")
            }
            Self::Crc { stored, computed } => {
                write!(f, "checksum {computed:#010x} where the header says {stored:#010x}")
            }
            Self::UnknownCompression(id) => write!(f, "there is no compression {id}"),
            Self::Compression(error) => error.fmt(f),
            Self::Count { records_count, last_offset_delta } => write!(
                f,
                "{records_count} records don't fit a last offset delta of {last_offset_delta}"
            ),
            Self::Control => f.write_str("clients may not write control batches"),
            Self::Producer { field } => write!(f, "the batch lacks a `{field}`"),
            Self::TimestampType => f.write_str("clients may not set append time"),
            Self::Timestamp { index: Some(index), timestamp } => {
                write!(f, "record {index}: timestamp {timestamp} is out of range")
            }
            Self::Timestamp { index: None, timestamp } => {
                write!(f, "timestamp {timestamp} is out of range")
            }
            Self::InvalidRecord { index, why } => write!(f, "record {index}: {why}"),
        }
    }
}

impl std::error::Error for BatchError {}

impl fmt::Display for RecordFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Malformed(error) => error.fmt(f),
            Self::OffsetDelta(delta) => write!(f, "offset delta {delta} is out of order"),
            Self::NoKey => f.write_str("a record of a compacted topic needs a key"),
            Self::TrailingBytes(bytes) => write!(f, "{bytes} bytes follow the last record"),
        }
    }
}
