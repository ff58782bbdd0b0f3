//! Snappy: raw, or in the framing of the Java library snappy-java ("xerial").
//!
//! ```text
//! xerial: 82 53 4e 41 50 50 59 00 ("\x82SNAPPY\0"), version i32, compatible version i32,
//!         then blocks: length i32, that many bytes of raw snappy
//! ```
//!
//! A raw stream can't start like that: after `82 53`, its length, `4e` would be a copy, and there
//! is nothing to copy yet.

use millstream_types::Cursor;

use super::{Compression, CompressionError};

const CODEC: Compression = Compression::Snappy;
const CORRUPT: CompressionError = CompressionError::Corrupt(CODEC);

const XERIAL_MAGIC: &[u8] = b"\x82SNAPPY\0";
/// Magic, and the two versions (both 1) that snappy-java writes and no reader has ever needed.
const XERIAL_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// What snappy-java cuts its input into, in bytes.
const XERIAL_BLOCK: usize = 32 * 1024;

/// No snappy byte gives more: a copy of 64 bytes takes three.
const RATIO_MAX: usize = 22;

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut out = Vec::new();
    if !input.starts_with(XERIAL_MAGIC) {
        decompress_block(input, &mut out, limit)?;
        return Ok(out);
    }
    let mut rest = input;
    while !rest.is_empty() {
        let mut cursor = Cursor::new(rest);
        // Streams may be put one behind the other; no block's length starts with 0x82.
        if rest.starts_with(XERIAL_MAGIC) {
            cursor.bytes(XERIAL_HEADER.len(), "xerial_header").map_err(|_| CORRUPT)?;
        } else {
            let length = cursor.i32("xerial_block").map_err(|_| CORRUPT)?;
            let length = usize::try_from(length).map_err(|_| CORRUPT)?;
            let block = cursor.bytes(length, "xerial_block").map_err(|_| CORRUPT)?;
            decompress_block(block, &mut out, limit)?;
        }
        rest = cursor.rest();
    }
    Ok(out)
}

fn decompress_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), CompressionError> {
    // The library takes no bytes for an empty block; a block has at least its length.
    if block.is_empty() {
        return Err(CORRUPT);
    }
    let size = snap::raw::decompress_len(block).map_err(|_| CORRUPT)?;
    if size > block.len().saturating_mul(RATIO_MAX) {
        return Err(CORRUPT);
    }
    let from = out.len();
    let to = from.saturating_add(size);
    if to > limit {
        return Err(CompressionError::TooLarge { limit });
    }
    out.resize(to, 0);
    let room = out.get_mut(from..).unwrap_or_default();
    match snap::raw::Decoder::new().decompress(block, room) {
        Ok(written) if written == size => Ok(()),
        _ => Err(CORRUPT),
    }
}

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let mut encoder = snap::raw::Encoder::new();
    let mut out = Vec::with_capacity(XERIAL_HEADER.len().saturating_add(input.len() / 2));
    out.extend_from_slice(XERIAL_HEADER);
    let mut scratch = vec![0; snap::raw::max_compress_len(XERIAL_BLOCK.min(input.len()))];
    for block in input.chunks(XERIAL_BLOCK) {
        let written =
            encoder.compress(block, &mut scratch).map_err(|_| CompressionError::Failed(CODEC))?;
        let length = i32::try_from(written).map_err(|_| CompressionError::Failed(CODEC))?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(scratch.get(..written).unwrap_or_default());
    }
    Ok(out)
}
