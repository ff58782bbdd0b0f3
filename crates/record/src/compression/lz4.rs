//! lz4 frames.
//!
//! ```text
//! frame:  magic 04 22 4d 18, flags u8, block size u8, [content size u64], [dictionary u32],
//!         header checksum u8, blocks, [content checksum u32]
//! block:  size u32 (top bit: stored as it is; 0: the end), bytes, [block checksum u32]
//! flags:  bits 7-6 version 1, 5 independent blocks, 4 block checksums, 3 content size,
//!         2 content checksum, 0 dictionary
//! ```
//!
//! Integers are little-endian, checksums are xxHash32 (the header's: its second byte). Reading is
//! done here, over the library's blocks, because the library's own frame reader takes the end of
//! the input at a block's border for the end of the frame. Other clients link their blocks and add
//! checksums; the Java client refuses linked blocks, so none are written.

use std::io::Write;

use lz4_flex::block::{DecompressError, decompress_into_with_dict};
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use millstream_types::{Cursor, DecodeError};

use super::{Compression, CompressionError};

const CODEC: Compression = Compression::Lz4;
const CORRUPT: CompressionError = CompressionError::Corrupt(CODEC);

const MAGIC: u32 = 0x184d_2204;
const SKIPPABLE: std::ops::RangeInclusive<u32> = 0x184d_2a50..=0x184d_2a5f;

const VERSION_MASK: u8 = 0b1100_0000;
const VERSION: u8 = 0b0100_0000;
const INDEPENDENT: u8 = 1 << 5;
const BLOCK_CHECKSUM: u8 = 1 << 4;
const CONTENT_SIZE: u8 = 1 << 3;
const CONTENT_CHECKSUM: u8 = 1 << 2;
const RESERVED: u8 = 1 << 1;
const DICTIONARY: u8 = 1;

/// The top bit of a block's size: its bytes are stored as they are.
const STORED: u32 = 1 << 31;
/// How far back a linked block may reach, in bytes.
const WINDOW: usize = 64 * 1024;
/// No byte of a block gives more.
const RATIO_MAX: usize = 255;
/// What a block may give beyond that, its first token's literals and last match included.
const RATIO_SLACK: usize = 64;

struct Frame {
    independent: bool,
    block_checksum: bool,
    content_checksum: bool,
    content_size: Option<u64>,
    block_max: usize,
}

/// What has been written, in a buffer whose tail is already zeroed, so that many small blocks don't
/// each clear a large one.
struct Output {
    buffer: Vec<u8>,
    filled: usize,
    limit: usize,
}

pub(super) fn decompress(input: &[u8], limit: usize) -> Result<Vec<u8>, CompressionError> {
    let mut output = Output { buffer: Vec::new(), filled: 0, limit };
    let mut cursor = Cursor::new(input);
    let mut frames = 0_usize;
    while !cursor.is_empty() {
        let magic = u32_le(&mut cursor)?;
        if SKIPPABLE.contains(&magic) {
            let length = usize::try_from(u32_le(&mut cursor)?).map_err(|_| CORRUPT)?;
            cursor.bytes(length, "skippable").map_err(corrupt)?;
        } else if magic == MAGIC {
            frames = frames.saturating_add(1);
            let frame = Frame::decode(&mut cursor)?;
            frame.decompress(&mut cursor, &mut output)?;
        } else {
            return Err(CORRUPT);
        }
    }
    if frames == 0 {
        return Err(CORRUPT);
    }
    output.buffer.truncate(output.filled);
    Ok(output.buffer)
}

pub(super) fn compress(input: &[u8]) -> Result<Vec<u8>, CompressionError> {
    let info = FrameInfo::new().block_mode(BlockMode::Independent).block_size(BlockSize::Max64KB);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    let written = encoder.write_all(input).and_then(|()| encoder.flush());
    written.map_err(|_| CompressionError::Failed(CODEC))?;
    encoder.finish().map_err(|_| CompressionError::Failed(CODEC))
}

impl Frame {
    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, CompressionError> {
        let start = cursor.rest();
        let flags = cursor.u8("flags").map_err(corrupt)?;
        let block_size = cursor.u8("block_size").map_err(corrupt)?;
        if flags & VERSION_MASK != VERSION || flags & (RESERVED | DICTIONARY) != 0 {
            return Err(CORRUPT);
        }
        let block_max = match block_size {
            0x40 => 64 << 10,
            0x50 => 256 << 10,
            0x60 => 1 << 20,
            0x70 => 4 << 20,
            _ => return Err(CORRUPT),
        };
        let content_size = if flags & CONTENT_SIZE == 0 {
            None
        } else {
            Some(u64::from_le_bytes(cursor.array("content_size").map_err(corrupt)?))
        };
        let descriptor = start.len().saturating_sub(cursor.remaining());
        let computed = xxh32(start.get(..descriptor).unwrap_or_default());
        let [_, _, second, _] = computed.to_be_bytes();
        if cursor.u8("header_checksum").map_err(corrupt)? != second {
            return Err(CORRUPT);
        }
        Ok(Self {
            independent: flags & INDEPENDENT != 0,
            block_checksum: flags & BLOCK_CHECKSUM != 0,
            content_checksum: flags & CONTENT_CHECKSUM != 0,
            content_size,
            block_max,
        })
    }

    fn decompress(
        &self,
        cursor: &mut Cursor<'_>,
        output: &mut Output,
    ) -> Result<(), CompressionError> {
        let start = output.filled;
        loop {
            let size = u32_le(cursor)?;
            if size == 0 {
                break;
            }
            let length = usize::try_from(size & !STORED).map_err(|_| CORRUPT)?;
            if length > self.block_max {
                return Err(CORRUPT);
            }
            let block = cursor.bytes(length, "block").map_err(corrupt)?;
            if self.block_checksum && u32_le(cursor)? != xxh32(block) {
                return Err(CORRUPT);
            }
            if size & STORED == 0 {
                let from = if self.independent { output.filled } else { start };
                output.decompress(block, from, self.block_max)?;
            } else {
                output.push(block)?;
            }
        }
        let content = output.buffer.get(start..output.filled).unwrap_or_default();
        if self.content_size.is_some_and(|size| u64::try_from(content.len()) != Ok(size)) {
            return Err(CORRUPT);
        }
        if self.content_checksum && u32_le(cursor)? != xxh32(content) {
            return Err(CORRUPT);
        }
        Ok(())
    }
}

impl Output {
    /// Makes room for `size` bytes, or as many of them as the limit allows.
    fn reserve(&mut self, size: usize) -> usize {
        let room = size.min(self.limit.saturating_sub(self.filled));
        let end = self.filled.saturating_add(room);
        if self.buffer.len() < end {
            self.buffer.resize(end, 0);
        }
        room
    }

    fn push(&mut self, stored: &[u8]) -> Result<(), CompressionError> {
        if self.reserve(stored.len()) < stored.len() {
            return Err(CompressionError::TooLarge { limit: self.limit });
        }
        let end = self.filled.saturating_add(stored.len());
        if let Some(room) = self.buffer.get_mut(self.filled..end) {
            room.copy_from_slice(stored);
        }
        self.filled = end;
        Ok(())
    }

    /// Appends what `block` holds; it may refer to what was written since `from`.
    fn decompress(
        &mut self,
        block: &[u8],
        from: usize,
        block_max: usize,
    ) -> Result<(), CompressionError> {
        let most = block.len().saturating_mul(RATIO_MAX).saturating_add(RATIO_SLACK);
        let wanted = most.min(block_max);
        let room = self.reserve(wanted);
        let (done, tail) = self.buffer.split_at_mut(self.filled);
        let window = done.get(from.max(done.len().saturating_sub(WINDOW))..).unwrap_or_default();
        let tail = tail.get_mut(..room).unwrap_or_default();
        match decompress_into_with_dict(block, tail, window) {
            Ok(written) => {
                self.filled = self.filled.saturating_add(written);
                Ok(())
            }
            Err(DecompressError::OutputTooSmall { .. }) if room < wanted => {
                Err(CompressionError::TooLarge { limit: self.limit })
            }
            Err(_) => Err(CORRUPT),
        }
    }
}

fn u32_le(cursor: &mut Cursor<'_>) -> Result<u32, CompressionError> {
    cursor.array("u32").map(u32::from_le_bytes).map_err(corrupt)
}

fn corrupt(_: DecodeError) -> CompressionError {
    CORRUPT
}

const PRIME_1: u32 = 0x9e37_79b1;
const PRIME_2: u32 = 0x85eb_ca77;
const PRIME_3: u32 = 0xc2b2_ae3d;
const PRIME_4: u32 = 0x27d4_eb2f;
const PRIME_5: u32 = 0x1656_67b1;

/// xxHash, 32 bits, seed 0.
fn xxh32(bytes: &[u8]) -> u32 {
    let (stripes, rest) = bytes.as_chunks::<16>();
    let mut hash = if stripes.is_empty() {
        PRIME_5
    } else {
        let mut lanes = [PRIME_1.wrapping_add(PRIME_2), PRIME_2, 0, 0_u32.wrapping_sub(PRIME_1)];
        for stripe in stripes {
            let (words, _) = stripe.as_chunks::<4>();
            for (lane, word) in lanes.iter_mut().zip(words) {
                *lane = lane
                    .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_2))
                    .rotate_left(13)
                    .wrapping_mul(PRIME_1);
            }
        }
        let turns = [1, 7, 12, 18];
        lanes
            .iter()
            .zip(turns)
            .fold(0_u32, |sum, (lane, turn)| sum.wrapping_add(lane.rotate_left(turn)))
    };
    // The length counts modulo 2^32.
    let [_, _, _, _, a, b, c, d] = u64::try_from(bytes.len()).unwrap_or(0).to_be_bytes();
    hash = hash.wrapping_add(u32::from_be_bytes([a, b, c, d]));
    let (words, tail) = rest.as_chunks::<4>();
    for word in words {
        hash = hash
            .wrapping_add(u32::from_le_bytes(*word).wrapping_mul(PRIME_3))
            .rotate_left(17)
            .wrapping_mul(PRIME_4);
    }
    for &byte in tail {
        hash = hash
            .wrapping_add(u32::from(byte).wrapping_mul(PRIME_5))
            .rotate_left(11)
            .wrapping_mul(PRIME_1);
    }
    hash = (hash ^ (hash >> 15)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 13)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xxh32_matches_published_values() {
        // Computed with the Python package xxhash 4.1: xxh32(..., seed=0).
        let long: Vec<u8> = (0..=255).collect();
        assert_eq!(xxh32(b""), 0x02cc_5d05);
        assert_eq!(xxh32(b"a"), 0x550d_7456);
        assert_eq!(xxh32(b"abc"), 0x32d1_53ff);
        assert_eq!(xxh32(b"Nobody inspects the spammish repetition"), 0xe229_3b2f);
        assert_eq!(xxh32(&long), 0x5944_1253);
    }
    /// A frame with these flags, its header checksum right, around blocks.
    fn frame(flags: u8, content_size: Option<u64>, blocks: &[(u32, &[u8])]) -> Vec<u8> {
        let mut descriptor = vec![VERSION | flags, 0x40];
        descriptor.extend(content_size.map(u64::to_le_bytes).into_iter().flatten());
        let checksum = xxh32(&descriptor).to_be_bytes()[2];
        let mut out = [&MAGIC.to_le_bytes(), &descriptor[..], &[checksum]].concat();
        for (size, bytes) in blocks {
            out.extend(size.to_le_bytes());
            out.extend(*bytes);
        }
        out.extend([0; 4]);
        out
    }

    /// "abcd" as literals, then four bytes copied from four back, then "e" as the last literals.
    const OWN: &[u8] = &[0x40, b'a', b'b', b'c', b'd', 4, 0, 0x10, b'e'];
    /// Four bytes copied from nine back, which lie in the block before, then "f".
    const BACK: &[u8] = &[0x00, 9, 0, 0x10, b'f'];

    #[test]
    fn frames() {
        let corrupt = Err(CORRUPT);
        let ok = |text: &[u8]| Ok(text.to_vec());
        let (own, back, stored) = ((9, OWN), (5, BACK), (STORED | 2, b"xy".as_slice()));
        let independent = frame(INDEPENDENT, None, &[own, stored]);
        let mut wrong_checksum = independent.clone();
        wrong_checksum[6] ^= 1;
        let skippable = [&0x184d_2a53_u32.to_le_bytes()[..], &[3, 0, 0, 0], b"any"].concat();
        let overlong = vec![0; (64 << 10) + 1];
        let rows = [
            (independent.clone(), ok(b"abcdabcdexy")),
            (wrong_checksum, corrupt.clone()),
            (frame(0, None, &[own, back]), ok(b"abcdabcdeabcdf")),
            // Independent blocks may not look back, nor may the first block of a second frame.
            (frame(INDEPENDENT, None, &[own, back]), corrupt.clone()),
            ([frame(0, None, &[own]), frame(0, None, &[back])].concat(), corrupt.clone()),
            (frame(CONTENT_SIZE, Some(11), &[own, stored]), ok(b"abcdabcdexy")),
            (frame(CONTENT_SIZE, Some(12), &[own, stored]), corrupt.clone()),
            (frame(DICTIONARY, None, &[]), corrupt.clone()),
            (frame(RESERVED, None, &[]), corrupt.clone()),
            (frame(0, None, &[]), ok(b"")),
            ([&skippable[..], &independent].concat(), ok(b"abcdabcdexy")),
            (skippable, corrupt.clone()),
            (frame(0, None, &[(STORED | 0x1_0001, &overlong)]), corrupt.clone()),
        ];
        for (at, (frame, expected)) in rows.into_iter().enumerate() {
            assert_eq!(decompress(&frame, 1 << 20), expected, "row {at}");
        }
    }

    /// A block that holds more than a block may is damaged, whatever the limit.
    #[test]
    fn blocks_hold_no_more_than_the_frame_says() {
        // One literal, then a run of 300 times 255 bytes, each a copy of the one before.
        let run = [&[0x1f, b'a', 1, 0][..], &[255; 300], &[0, 0x10, b'b']].concat();
        let size = u32::try_from(run.len()).unwrap();
        assert_eq!(decompress(&frame(0, None, &[(size, &run)]), 1 << 20), Err(CORRUPT));
        let limit = 1000;
        let expected = Err(CompressionError::TooLarge { limit });
        assert_eq!(decompress(&frame(0, None, &[(size, &run)]), limit), expected);
    }
}
