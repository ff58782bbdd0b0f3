//! zstd (RFC 8878).

use super::{Compression, CompressionError, read_bounded};

const CODEC: Compression = Compression::Zstd;

/// Windows of up to 128 MiB, which is what level 22 uses and every client reads. The memory is
/// only touched as output is written to it, and that is bounded.
const WINDOW_LOG_MAX: u32 = 27;

/// What text shrinks by, roughly: the first guess for the output's size.
const RATIO_HINT: usize = 4;

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    // The library takes no bytes for no frames; a stream has at least one.
    if input.is_empty() {
        return Err(CompressionError::Corrupt(CODEC));
    }
    let mut decoder = zstd::stream::read::Decoder::with_buffer(input)
        .map_err(|_| CompressionError::Failed(CODEC))?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(|_| CompressionError::Failed(CODEC))?;
    read_bounded(CODEC, decoder, input.len().saturating_mul(RATIO_HINT), limit)
}

pub(super) fn compress(input: &[u8], level: Option<i32>) -> Result<Vec<u8>, CompressionError> {
    let range = zstd::compression_level_range();
    let level = level.unwrap_or(zstd::DEFAULT_COMPRESSION_LEVEL);
    zstd::bulk::compress(input, level.clamp(*range.start(), *range.end()))
        .map_err(|_| CompressionError::Failed(CODEC))
}
