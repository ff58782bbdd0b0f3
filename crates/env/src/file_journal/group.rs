//! Groups in the making: frames in memory that direct IO can use.

use std::io::IoSlice;
use std::ops::Range;

use millstream_memory::HUGE;
use millstream_record::journal::{
    BLOCK, GROUP_HEADER_SIZE, GroupHeader, GroupKind, Stream, align_up,
};
use millstream_types::Lsn;

use crate::disk::AlignedBuffer;

/// The size of one chunk of a group's memory in bytes. The system gives memory huge page by huge page when
/// it is touched, so that only what groups fill counts.
const CHUNK: usize = 16 * 1024 * 1024;

/// How large a group becomes before the next one is begun, in bytes, unless one frame is larger.
/// It bounds what is touched of a chunk, and with it the memory that is used over and over.
pub(super) const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// How many free chunks are kept.
const CHUNKS_FREE: usize = 3;

/// How many of them are kept when nothing is written, and how many bytes of each may have been
/// touched: the next small write needs no allocation.
const CHUNKS_IDLE: usize = 2;
const CHUNK_IDLE_BYTES: usize = HUGE;

const _: () = assert!(GROUP_BYTES < CHUNK);

/// Chunks that nobody uses now.
#[derive(Debug, Default)]
pub(super) struct Pool {
    free: Vec<Chunk>,
}

#[derive(Debug)]
struct Chunk {
    memory: AlignedBuffer,
    /// How much of it the system has given so far, in bytes.
    touched: usize,
}

/// A group that is not written yet.
#[derive(Debug)]
pub(super) struct Group {
    kind: GroupKind,
    position: u64,
    /// Header and frames, in bytes.
    size: usize,
    chunks: Vec<Chunk>,
}

impl Pool {
    pub(super) fn give_back(&mut self, group: Group) {
        let mut left = group.size.next_multiple_of(BLOCK as usize);
        for mut chunk in group.chunks {
            let filled = left.min(CHUNK);
            chunk.touched = chunk.touched.max(filled.next_multiple_of(HUGE));
            left -= filled;
            let is_usual = chunk.touched <= GROUP_BYTES && group.kind == GroupKind::Frames;
            if is_usual && self.free.len() < CHUNKS_FREE {
                self.free.push(chunk);
            }
        }
    }

    /// Gives back what an idle journal does not need.
    pub(super) fn shrink(&mut self) {
        self.free.retain(|chunk| chunk.touched <= CHUNK_IDLE_BYTES);
        self.free.truncate(CHUNKS_IDLE);
    }

    /// Whether there is more than an idle journal needs.
    pub(super) fn has_surplus(&self) -> bool {
        let is_large = |chunk: &Chunk| chunk.touched > CHUNK_IDLE_BYTES;
        self.free.len() > CHUNKS_IDLE || self.free.iter().any(is_large)
    }

    fn take(&mut self) -> Chunk {
        let new = || Chunk { memory: AlignedBuffer::new(CHUNK), touched: 0 };
        self.free.pop().unwrap_or_else(new)
    }
}

impl Group {
    /// An empty group at `position`.
    pub(super) fn new(kind: GroupKind, position: u64, pool: &mut Pool) -> Self {
        let chunk = match kind {
            GroupKind::Frames => pool.take(),
            GroupKind::Skip => Chunk { memory: AlignedBuffer::new(GROUP_HEADER_SIZE), touched: 0 },
        };
        Self { kind, position, size: GROUP_HEADER_SIZE, chunks: vec![chunk] }
    }

    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Where the next frame would be.
    pub(super) const fn end(&self) -> u64 {
        self.position + self.size as u64
    }

    /// The bytes of its frames.
    pub(super) const fn frames_size(&self) -> usize {
        self.size - GROUP_HEADER_SIZE
    }

    pub(super) const fn takes_frames(&self) -> bool {
        matches!(self.kind, GroupKind::Frames)
    }

    /// Copies `bytes` to the end.
    pub(super) fn put(&mut self, mut bytes: &[u8], pool: &mut Pool) {
        while !bytes.is_empty() {
            let at = self.size % CHUNK;
            if self.size / CHUNK == self.chunks.len() {
                self.chunks.push(pool.take());
            }
            let count = bytes.len().min(CHUNK - at);
            let (now, later) = bytes.split_at(count);
            if let Some(chunk) = self.chunks.last_mut() {
                chunk.memory.bytes_mut()[at..at + count].copy_from_slice(now);
            }
            self.size += count;
            bytes = later;
        }
    }

    /// Writes the header, and zeros after the last frame. Nothing is put in afterwards. The result
    /// is the size in bytes on disk.
    pub(super) fn finish(&mut self, stream: Stream, durable: Lsn) -> usize {
        let header = GroupHeader {
            kind: self.kind,
            position: Lsn(self.position),
            durable,
            // Groups end with their file or hold one frame, so that they are far smaller.
            length: u32::try_from(self.size - GROUP_HEADER_SIZE).unwrap_or(u32::MAX),
        };
        if let Some(first) = self.chunks.first_mut() {
            first.memory.bytes_mut()[..GROUP_HEADER_SIZE].copy_from_slice(&header.encode(stream));
        }
        let padded = align_up(self.size as u64) as usize;
        if let Some(last) = self.chunks.last_mut() {
            let at = (self.size - 1) % CHUNK + 1;
            last.memory.bytes_mut()[at..at + padded - self.size].fill(0);
        }
        padded
    }

    /// The memory of a range of the group's bytes on disk.
    pub(super) fn slices(&self, range: Range<usize>) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let in_chunk = at % CHUNK;
            let count = (CHUNK - in_chunk).min(range.end - at);
            let Some(chunk) = self.chunks.get(at / CHUNK) else { break };
            slices.push(IoSlice::new(&chunk.memory.bytes()[in_chunk..in_chunk + count]));
            at += count;
        }
        slices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_types::SessionId;

    #[test]
    fn a_group_is_its_header_its_frames_and_zeros() {
        let stream = Stream { session: SessionId(1), salt: 2 };
        for size in [1, 4048, 4049, 1 << 20, CHUNK - GROUP_HEADER_SIZE, CHUNK + 5] {
            let mut pool = Pool::default();
            let mut group = Group::new(GroupKind::Frames, 8192, &mut pool);
            let bytes: Vec<u8> = (0..size).map(|at| (at % 251) as u8 | 1).collect();
            for part in bytes.chunks(100_000) {
                group.put(part, &mut pool);
            }
            assert_eq!(group.end(), 8192 + (GROUP_HEADER_SIZE + size) as u64);
            let padded = group.finish(stream, Lsn(4096));
            let written: Vec<u8> =
                group.slices(0..padded).iter().flat_map(|slice| slice.to_vec()).collect();
            let header = GroupHeader::decode(&written, stream, Lsn(8192)).unwrap();
            assert_eq!(header.length as usize, size);
            assert_eq!(written[GROUP_HEADER_SIZE..GROUP_HEADER_SIZE + size], bytes);
            assert!(written[GROUP_HEADER_SIZE + size..].iter().all(|&byte| byte == 0));
            assert!(written.len().is_multiple_of(4096));
            let some: Vec<u8> =
                group.slices(4096.min(padded)..padded).iter().flat_map(|s| s.to_vec()).collect();
            assert_eq!(some, written[4096.min(padded)..]);
            pool.give_back(group);
            let stays = size + GROUP_HEADER_SIZE <= GROUP_BYTES;
            assert_eq!(pool.has_surplus(), stays && size > CHUNK_IDLE_BYTES);
            pool.shrink();
            assert!(!pool.has_surplus());
        }
    }
}
