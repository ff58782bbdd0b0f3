//! The compressions of record batches: bounded decompression, and compression that every client
//! reads.
//!
//! | id | name | read | written |
//! | --- | --- | --- | --- |
//! | 1 | gzip | RFC 1952, several members | one member |
//! | 2 | snappy | raw, and xerial's framing | xerial's framing, as the Java client |
//! | 3 | lz4 | frames, linked or independent blocks, all checksums | one frame, independent blocks |
//! | 4 | zstd | RFC 8878, several frames, windows up to 128 MiB | one frame |
//!
//! Laws, each a test in `tests/compression_laws.rs`:
//!
//! * *Round trip*: what [`compress`] wrote, [`decompress`] gives back, at every level.
//! * *Bounded*: no input gives more than `limit` bytes; what holds exactly `limit` bytes is read,
//!   what holds one more is [`CompressionError::TooLarge`].
//! * *Total*: no input makes decompression panic.
//! * *Truncation*: no proper prefix of what [`compress`] wrote decompresses to the whole of it.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

mod gzip;
mod lz4;
mod snappy;
mod zstd;

use std::fmt;
use std::io::{self, Read};
use std::str::FromStr;

/// How the records of a batch are compressed; the number is the one in the attributes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Compression {
    /// Not at all.
    #[default]
    None = 0,
    /// Slow, small, everywhere.
    Gzip = 1,
    /// Fast, moderate.
    Snappy = 2,
    /// Fastest.
    Lz4 = 3,
    /// The best of both, from Kafka 2.1 on.
    Zstd = 4,
}

/// Why bytes could not be decompressed or compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompressionError {
    /// They are not what the codec writes, or are cut short.
    Corrupt(Compression),
    /// They would decompress to more than `limit` bytes.
    TooLarge {
        /// What was allowed.
        limit: usize,
    },
    /// The codec could not compress (it was refused memory, or the input is larger than it takes).
    Failed(Compression),
}

impl Compression {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// The number in a batch's attributes.
    #[must_use]
    pub const fn id(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Gzip => 1,
            Self::Snappy => 2,
            Self::Lz4 => 3,
            Self::Zstd => 4,
        }
    }

    /// The compression with this number, if there is one.
    #[must_use]
    pub const fn from_id(id: u8) -> Option<Self> {
        match id {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The name in Kafka's `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A name that no compression has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCompression;

impl fmt::Display for UnknownCompression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a compression: use none, gzip, snappy, lz4 or zstd")
    }
}

impl std::error::Error for UnknownCompression {}

impl FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Self, UnknownCompression> {
        Self::ALL.into_iter().find(|codec| codec.name() == text).ok_or(UnknownCompression)
    }
}

/// Decompresses all of `input`, to at most `limit` bytes. Memory stays within a small multiple of
/// what comes out, plus what the codec itself needs.
///
/// # Errors
///
/// [`CompressionError::TooLarge`] when there would be more than `limit` bytes;
/// [`CompressionError::Corrupt`] when `input` is not whole and valid.
pub fn decompress(
    codec: Compression,
    input: &[u8],
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None if input.len() > limit => Err(CompressionError::TooLarge { limit }),
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => gzip::decompress(input, limit),
        Compression::Snappy => snappy::decompress(input, limit),
        Compression::Lz4 => lz4::decompress(input, limit),
        Compression::Zstd => zstd::decompress(input, limit),
    }
}

/// Compresses `input` into what every client reads. `level` is the codec's own (gzip 1 to 9, zstd
/// -131072 to 22), drawn into its range; snappy and lz4 have none. Without one, the codec's default
/// is taken, as Kafka does.
///
/// # Errors
///
/// [`CompressionError::Failed`], for want of memory or beyond a codec's 4 GiB.
pub fn compress(
    codec: Compression,
    level: Option<i32>,
    input: &[u8],
) -> Result<Vec<u8>, CompressionError> {
    match codec {
        Compression::None => Ok(input.to_vec()),
        Compression::Gzip => gzip::compress(input, level),
        Compression::Snappy => snappy::compress(input),
        Compression::Lz4 => lz4::compress(input),
        Compression::Zstd => zstd::compress(input, level),
    }
}

/// Reads a codec's stream to its end, but never more than one byte beyond the limit.
fn read_bounded(
    codec: Compression,
    reader: impl Read,
    hint: usize,
    limit: usize,
) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::with_capacity(hint.min(limit));
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    let read = reader.take(most).read_to_end(&mut out);
    if out.len() > limit {
        return Err(CompressionError::TooLarge { limit });
    }
    match read {
        Ok(_) => Ok(out),
        Err(error) => Err(fault(codec, &error)),
    }
}

fn fault(codec: Compression, error: &io::Error) -> CompressionError {
    match error.kind() {
        io::ErrorKind::OutOfMemory => CompressionError::Failed(codec),
        _ => CompressionError::Corrupt(codec),
    }
}

impl fmt::Display for CompressionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Corrupt(codec) => write!(f, "the {codec} stream is damaged or cut short"),
            Self::TooLarge { limit } => write!(f, "more than {limit} bytes when decompressed"),
            Self::Failed(codec) => write!(f, "{codec} failed"),
        }
    }
}

impl std::error::Error for CompressionError {}
