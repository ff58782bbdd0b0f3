//! gzip (RFC 1952).

use std::io::Write;

use super::{Compression, CompressionError, read_bounded};

const CODEC: Compression = Compression::Gzip;

/// What text shrinks by, roughly: the first guess for the output's size.
const RATIO_HINT: usize = 4;

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let hint = input.len().saturating_mul(RATIO_HINT);
    read_bounded(CODEC, flate2::bufread::MultiGzDecoder::new(input), hint, limit)
}

pub(super) fn compress(input: &[u8], level: Option<i32>) -> Result<Vec<u8>, CompressionError> {
    let level = match level {
        None => flate2::Compression::default(),
        Some(level) => flate2::Compression::new(level.clamp(1, 9).unsigned_abs()),
    };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder
        .write_all(input)
        .and_then(|()| encoder.finish())
        .map_err(|_| CompressionError::Failed(CODEC))
}
