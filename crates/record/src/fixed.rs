//! Headers of fixed size, put together without allocating.

/// `N` bytes, filled from the front.
pub(crate) struct Fixed<const N: usize> {
    bytes: [u8; N],
    filled: usize,
}

impl<const N: usize> Fixed<N> {
    pub(crate) const fn new() -> Self {
        Self { bytes: [0; N], filled: 0 }
    }

    /// Appends `part`. That all parts fill the whole exactly is a property of the code, which its
    /// first use in a test shows.
    pub(crate) fn put(mut self, part: &[u8]) -> Self {
        let end = self.filled + part.len();
        debug_assert!(end <= N, "a header of {N} bytes has no room for {end}");
        if let Some(room) = self.bytes.get_mut(self.filled..end) {
            room.copy_from_slice(part);
        }
        self.filled = end;
        self
    }

    /// What is filled so far.
    pub(crate) fn filled(&self) -> &[u8] {
        self.bytes.get(..self.filled).unwrap_or_default()
    }

    /// All of it.
    pub(crate) fn whole(self) -> [u8; N] {
        debug_assert!(self.filled == N, "a header of {N} bytes got {}", self.filled);
        self.bytes
    }
}
