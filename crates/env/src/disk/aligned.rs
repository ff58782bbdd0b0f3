//! Memory that direct IO can use.

use std::ops::Range;

use bytes::Bytes;
use millstream_memory::{Arena, Pages, Piece};
use millstream_record::journal::BLOCK;

const ALIGNMENT: usize = BLOCK as usize;

/// Buffers of at least so many bytes lie on huge pages.
const HUGE_FROM: usize = 1024 * 1024;

/// Buffers of at least so many bytes are pieces of an arena.
const PIECE_FROM: usize = 64 * 1024;

/// Bytes whose address and length are multiples of 4,096: a part of a longer allocation, which
/// never moves.
#[derive(Debug)]
pub struct AlignedBuffer {
    memory: Memory,
    start: usize,
    size: usize,
}

#[derive(Debug)]
enum Memory {
    Heap(Vec<u8>),
    Pages(Pages),
    Piece(Piece),
}

impl AlignedBuffer {
    /// Zeros, at least `size` of them.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.next_multiple_of(ALIGNMENT);
        let pages = (size >= HUGE_FROM).then(|| Pages::new(size).ok()).flatten();
        let memory = match pages {
            Some(pages) => Memory::Pages(pages),
            None => Memory::Heap(vec![0; size + ALIGNMENT]),
        };
        let start = memory.bytes().as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, size }
    }

    /// At least `size` bytes from `arena`, if it has any and they are not few: a small buffer would keep a whole
    /// chunk from being used again. What they hold is left from before.
    #[must_use]
    pub fn new_in(arena: &Arena, size: usize) -> Self {
        let size = size.next_multiple_of(ALIGNMENT);
        match (size >= PIECE_FROM).then(|| arena.take(size)).flatten() {
            Some(piece) => Self { memory: Memory::Piece(piece), start: 0, size },
            None => Self::new(size),
        }
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.bytes().get(self.start..self.start + self.size).unwrap_or_default()
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let memory = match &mut self.memory {
            Memory::Heap(memory) => memory.as_mut_slice(),
            Memory::Pages(memory) => memory,
            Memory::Piece(memory) => memory,
        };
        memory.get_mut(self.start..self.start + self.size).unwrap_or_default()
    }

    /// A part of the bytes, without copying them; what of `range` is past the end is left out.
    #[must_use]
    pub fn into_bytes(self, range: Range<usize>) -> Bytes {
        let end = range.end.min(self.size);
        let start = range.start.min(end);
        let memory = match self.memory {
            Memory::Heap(memory) => Bytes::from(memory),
            Memory::Pages(memory) => Bytes::from_owner(memory),
            Memory::Piece(memory) => Bytes::from_owner(memory),
        };
        memory.slice(self.start + start..self.start + end)
    }
}

impl Memory {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Heap(memory) => memory,
            Self::Pages(memory) => memory,
            Self::Piece(memory) => memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_and_length_are_aligned() {
        for size in [0, 1, 4095, 4096, 4097, 100_000, HUGE_FROM, 5_000_000] {
            let mut buffer = AlignedBuffer::new(size);
            assert_eq!(buffer.bytes().as_ptr().align_offset(ALIGNMENT), 0);
            assert_eq!(buffer.size(), size.next_multiple_of(ALIGNMENT));
            assert_eq!(buffer.bytes_mut().len(), buffer.size());
            let end = buffer.size();
            if let Some(last) = buffer.bytes_mut().last_mut() {
                *last = 7;
                assert_eq!(buffer.into_bytes(end - 1..end + 9).as_ref(), [7]);
            }
        }
    }

    #[test]
    fn pieces_of_an_arena_are_aligned_and_few_bytes_are_no_piece() {
        let arena = Arena::new(1);
        for size in [0, 100, PIECE_FROM, PIECE_FROM + 1, 1_000_000, 100_000_000] {
            let mut buffer = AlignedBuffer::new_in(&arena, size);
            assert_eq!(buffer.bytes().as_ptr().align_offset(ALIGNMENT), 0, "{size}");
            assert_eq!(buffer.bytes_mut().len(), size.next_multiple_of(ALIGNMENT), "{size}");
            let is_piece = matches!(buffer.memory, Memory::Piece(_));
            assert_eq!(is_piece, (PIECE_FROM..=1_000_000).contains(&size), "{size}");
            buffer.bytes_mut().fill(5);
            assert!(buffer.into_bytes(1..size).iter().all(|&byte| byte == 5), "{size}");
        }
    }
}
