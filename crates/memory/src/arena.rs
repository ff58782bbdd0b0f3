//! Pieces of large chunks, for reads whose bytes go on to somebody else.
//!
//! ```text
//! chunk   | piece | piece |  piece  | not given out yet  |
//! ```
//!
//! A chunk gives out each of its bytes once, front to back. When the arena has gone on to the next chunk and
//! the last piece is gone, the chunk is used again from its beginning.

#![expect(unsafe_code, reason = "pieces of one chunk are borrowed independently of each other")]

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use memmap2::MmapRaw;

use crate::pages::raw;

/// The size of a chunk in bytes, and the most that a piece can have.
pub const CHUNK: usize = 4 * 1024 * 1024;

/// Where pieces begin: at multiples of so many bytes, as direct IO wants it.
const ALIGNMENT: usize = 4096;

/// Gives out pieces of memory. Clones give out the same.
#[derive(Clone, Debug)]
pub struct Arena {
    shared: Arc<Shared>,
}

/// A piece of memory that nobody else has. It holds whatever it held when somebody had it before.
#[derive(Debug)]
pub struct Piece {
    chunk: Arc<Chunk>,
    /// Within the chunk. Invariant: no other piece of it has any of these bytes.
    start: usize,
    size: usize,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    chunks_max: usize,
}

#[derive(Debug, Default)]
struct State {
    /// The chunk that pieces are taken of, and how much of it has been given out.
    current: Option<(Arc<Chunk>, usize)>,
    free: Vec<Memory>,
    /// The fewest that were free since the last [`Arena::trim`]: nobody has missed those.
    spare: usize,
    /// Chunks that the arena or pieces have, without those that are free.
    used: usize,
}

#[derive(Debug)]
struct Chunk {
    /// `None` only while it is dropped.
    memory: Option<Memory>,
    /// Gone when the arena is.
    home: Weak<Shared>,
}

/// Invariant: `CHUNK` bytes from `start` on are within the mapping.
#[derive(Debug)]
struct Memory {
    map: MmapRaw,
    start: usize,
}

impl Arena {
    /// An arena of at most so many chunks. It has none before it is used.
    #[must_use]
    pub fn new(chunks_max: usize) -> Self {
        Self { shared: Arc::new(Shared { state: Mutex::default(), chunks_max }) }
    }

    /// Memory for `size` bytes, at an address that is a multiple of 4,096; `None` when that is more than a
    /// [`CHUNK`], or all chunks are in use: one is as long as any of its pieces is.
    #[must_use]
    pub fn take(&self, size: usize) -> Option<Piece> {
        if size > CHUNK {
            return None;
        }
        let mut state = self.shared.state();
        if let Some((chunk, given)) = &mut state.current
            && *given + size <= CHUNK
        {
            let (chunk, start) = (Arc::clone(chunk), *given);
            *given = (start + size).next_multiple_of(ALIGNMENT);
            return Some(Piece { chunk, start, size });
        }
        let full = state.current.take();
        drop(state);
        // A chunk that goes locks the state to give its memory back.
        drop(full);
        state = self.shared.state();
        let chunk = self.shared.chunk(&mut state)?;
        let given = size.next_multiple_of(ALIGNMENT);
        let other = state.current.replace((Arc::clone(&chunk), given));
        drop(state);
        drop(other);
        Some(Piece { chunk, start: 0, size })
    }

    /// Gives back to the system what nobody has missed since the last time. To be called now and then.
    pub fn trim(&self) {
        let mut state = self.shared.state();
        let kept = state.free.len() - state.spare;
        let spare = state.free.split_off(kept);
        state.spare = kept;
        let is_unused = |(chunk, _): &mut (Arc<Chunk>, usize)| Arc::strong_count(chunk) == 1;
        let unused = state.current.take_if(is_unused);
        drop(state);
        // This takes a while.
        drop((spare, unused));
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn chunk(self: &Arc<Self>, state: &mut State) -> Option<Arc<Chunk>> {
        if state.used >= self.chunks_max {
            return None;
        }
        let memory = state.free.pop().or_else(Memory::new)?;
        state.spare = state.spare.min(state.free.len());
        state.used += 1;
        Some(Arc::new(Chunk { memory: Some(memory), home: Arc::downgrade(self) }))
    }

    fn give_back(&self, memory: Memory) {
        let mut state = self.state();
        state.used -= 1;
        state.free.push(memory);
    }
}

impl Drop for Chunk {
    fn drop(&mut self) {
        if let (Some(memory), Some(home)) = (self.memory.take(), self.home.upgrade()) {
            home.give_back(memory);
        }
    }
}

impl Memory {
    fn new() -> Option<Self> {
        raw(CHUNK).ok().map(|(map, start)| Self { map, start })
    }
}

impl Piece {
    /// Where it begins. A chunk has its memory until its last piece is gone.
    fn address(&self) -> Option<*mut u8> {
        let memory = self.chunk.memory.as_ref()?;
        Some(memory.map.as_mut_ptr().wrapping_add(memory.start + self.start))
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Some(address) = self.address() else { return &[] };
        // SAFETY: the bytes lie in the mapping, which is zeros at first and lives as long as the chunk. No other
        // piece has any of them, and who writes to them has this one borrowed exclusively.
        unsafe { std::slice::from_raw_parts(address, self.size) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        let Some(address) = self.address() else { return &mut [] };
        // SAFETY: as above; this piece is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(address, self.size) }
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn chunks_are_used_again_and_are_no_more_than_allowed() {
        let arena = Arena::new(2);
        assert!(arena.take(CHUNK + 1).is_none());
        let first = arena.take(CHUNK).unwrap();
        let second = arena.take(CHUNK).unwrap();
        assert!(arena.take(1).is_none(), "both chunks are in use");
        let address = first.as_ptr();
        drop(first);
        let again = arena.take(1).unwrap();
        assert_eq!(again.as_ptr(), address);
        drop((second, again));
        let free = || arena.shared.state().free.len();
        assert_eq!(free(), 1, "the other is being given out");
        arena.trim();
        assert_eq!(free(), 2, "both were in use a moment ago");
        arena.trim();
        assert_eq!(free(), 1, "nobody has missed the first since then");
        arena.trim();
        assert_eq!(free(), 0);
    }

    #[test]
    fn a_piece_outlives_its_arena() {
        let arena = Arena::new(1);
        let mut piece = arena.take(5000).unwrap();
        let shared = Arc::downgrade(&arena.shared);
        drop(arena);
        assert!(shared.upgrade().is_none(), "nothing else keeps it");
        piece.fill(9);
        assert_eq!(piece.iter().map(|&byte| u64::from(byte)).sum::<u64>(), 45_000);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        /// Whatever is taken and given back in whatever order: each piece keeps what was written to it.
        #[test]
        fn pieces_never_overlap(
            sizes in prop::collection::vec(0..CHUNK / 3, 1..60),
            dropped in prop::collection::vec(any::<prop::sample::Index>(), 60),
        ) {
            let arena = Arena::new(8);
            let mut pieces: Vec<(u8, Piece)> = Vec::new();
            for (number, (size, dropped)) in sizes.into_iter().zip(dropped).enumerate() {
                let mark = number as u8 + 1;
                match arena.take(size) {
                    Some(mut piece) => {
                        prop_assert_eq!(piece.as_ptr().align_offset(ALIGNMENT), 0);
                        prop_assert_eq!(piece.len(), size);
                        piece.fill(mark);
                        pieces.push((mark, piece));
                    }
                    None => prop_assert!(!pieces.is_empty()),
                }
                if number % 3 > 0 && !pieces.is_empty() {
                    let (mark, piece) = pieces.swap_remove(dropped.index(pieces.len()));
                    prop_assert!(piece.iter().all(|&byte| byte == mark));
                }
            }
            for (mark, piece) in pieces {
                prop_assert!(piece.iter().all(|&byte| byte == mark));
            }
        }
    }
}
