//! Record batches as a rope: many pieces of shared bytes that make one field.

use std::fmt;

use bytes::{Bytes, BytesMut};

/// The bytes of a `records` field: one piece as it comes in with a request, many when a response is
/// put together from stored batches. No piece is copied until the socket takes it.
///
/// A clone costs a reference count per piece. Two ropes are equal when their bytes are, however
/// they are cut.
#[derive(Clone, Default)]
pub struct Records {
    first: Bytes,
    // Does not allocate while there is one piece only.
    rest: Vec<Piece>,
    len: usize,
}

/// What a stored batch differs in from what a client sent: offset, length and epoch.
const ASSIGNED_SIZE: usize = 16;

#[derive(Clone)]
enum Piece {
    Shared(Bytes),
    Assigned([u8; ASSIGNED_SIZE]),
}

/// A piece of a rope, to be written.
#[derive(Clone, Copy)]
pub(crate) enum PieceRef<'a> {
    Shared(&'a Bytes),
    Short(&'a [u8]),
}

impl Records {
    /// No bytes.
    #[must_use]
    pub const fn new() -> Self {
        Self { first: Bytes::new(), rest: Vec::new(), len: 0 }
    }

    /// How many bytes there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `piece` to the end, shared.
    pub fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.len += piece.len();
        if self.first.is_empty() && self.rest.is_empty() {
            self.first = piece;
        } else {
            self.rest.push(Piece::Shared(piece));
        }
    }

    /// Adds a stored batch: the sixteen bytes that the log assigned, and the rest, shared.
    pub fn push_batch(&mut self, assigned: [u8; ASSIGNED_SIZE], rest: Bytes) {
        self.len += ASSIGNED_SIZE;
        self.rest.push(Piece::Assigned(assigned));
        self.len += rest.len();
        self.rest.push(Piece::Shared(rest));
    }

    /// The pieces in order, none of them empty.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.piece_refs().map(|piece| match piece {
            PieceRef::Shared(bytes) => bytes.as_ref(),
            PieceRef::Short(bytes) => bytes,
        })
    }

    pub(crate) fn piece_refs(&self) -> impl Iterator<Item = PieceRef<'_>> {
        let first = (!self.first.is_empty()).then_some(PieceRef::Shared(&self.first));
        let rest = self.rest.iter().filter_map(|piece| match piece {
            Piece::Shared(bytes) => (!bytes.is_empty()).then_some(PieceRef::Shared(bytes)),
            Piece::Assigned(bytes) => Some(PieceRef::Short(bytes)),
        });
        first.into_iter().chain(rest)
    }

    /// All bytes in one piece: free when there is only one (so it is for what a request brought),
    /// a copy when there are more.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        if self.rest.is_empty() {
            return self.first.clone();
        }
        let mut whole = BytesMut::with_capacity(self.len);
        for piece in self.pieces() {
            whole.extend_from_slice(piece);
        }
        whole.freeze()
    }
}

impl From<Bytes> for Records {
    fn from(bytes: Bytes) -> Self {
        Self { len: bytes.len(), first: bytes, rest: Vec::new() }
    }
}

impl PartialEq for Records {
    fn eq(&self, other: &Self) -> bool {
        self.len == other.len && self.pieces().flatten().eq(other.pieces().flatten())
    }
}

impl Eq for Records {}

impl fmt::Debug for Records {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} bytes)", self.len)
    }
}
