//! Memory that direct IO can use.

use std::ops::Range;

use bytes::Bytes;
use millstream_record::journal::BLOCK;

const ALIGNMENT: usize = BLOCK as usize;

/// Bytes whose address and length are multiples of 4,096: a part of a longer allocation, which
/// never moves.
#[derive(Debug)]
pub struct AlignedBuffer {
    memory: Vec<u8>,
    start: usize,
    size: usize,
}

impl AlignedBuffer {
    /// Zeros, at least `size` of them.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let size = size.next_multiple_of(ALIGNMENT);
        let memory = vec![0; size + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, size }
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.size
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.memory.get(self.start..self.start + self.size).unwrap_or_default()
    }

    /// The bytes, to be changed.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.memory.get_mut(self.start..self.start + self.size).unwrap_or_default()
    }

    /// A part of the bytes, without copying them; what of `range` is past the end is left out.
    #[must_use]
    pub fn into_bytes(self, range: Range<usize>) -> Bytes {
        let end = range.end.min(self.size);
        let start = range.start.min(end);
        Bytes::from(self.memory).slice(self.start + start..self.start + end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_and_length_are_aligned() {
        for size in [0, 1, 4095, 4096, 4097, 100_000] {
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
}
