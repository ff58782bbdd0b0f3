//! Length-prefixed frames out of a byte stream, with bounded memory.

use bytes::{Buf as _, Bytes, BytesMut};

/// The length prefix of every request and response: a big-endian `i32`.
pub(crate) const LENGTH_SIZE: usize = 4;

/// What the first read of an idle connection may take, in bytes.
const READ_BYTES_MIN: usize = 8 * 1024;

/// How much room is made before the bytes are there: a peer that only announces a large frame
/// gets no more than this.
const READ_BYTES_AHEAD: usize = 1024 * 1024;

/// A frame's length is negative or above the limit: the peer speaks something else, or means harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadLength(pub(crate) i32);

/// Bytes received and not yet taken as frames.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    frame_bytes_max: usize,
}

impl Frames {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), frame_bytes_max }
    }

    /// The next whole frame without its length prefix, left in place; `None` when it is not all
    /// here.
    pub(crate) fn peek(&self) -> Result<Option<&[u8]>, BadLength> {
        let Some(length) = self.length()? else { return Ok(None) };
        Ok(self.buffer.get(LENGTH_SIZE..LENGTH_SIZE + length))
    }

    /// Takes what [`Frames::peek`] showed, without copying it.
    pub(crate) fn take(&mut self) -> Result<Option<Bytes>, BadLength> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.buffer.len() < LENGTH_SIZE + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_SIZE);
        Ok(Some(self.buffer.split_to(length).freeze()))
    }

    /// Where the next bytes are to be read to. Room for the rest of the frame that has begun, but
    /// only so far ahead of what has really come.
    pub(crate) fn room(&mut self) -> Result<&mut BytesMut, BadLength> {
        let missing = match self.length()? {
            Some(length) => (LENGTH_SIZE + length).saturating_sub(self.buffer.len()),
            None => 0,
        };
        if self.buffer.capacity() - self.buffer.len() < missing.clamp(1, READ_BYTES_AHEAD) {
            self.buffer.reserve(missing.clamp(READ_BYTES_MIN, READ_BYTES_AHEAD));
        }
        Ok(&mut self.buffer)
    }

    fn length(&self) -> Result<Option<usize>, BadLength> {
        let Some(prefix) = self.buffer.first_chunk::<LENGTH_SIZE>() else { return Ok(None) };
        let length = i32::from_be_bytes(*prefix);
        match usize::try_from(length) {
            Ok(size) if size <= self.frame_bytes_max => Ok(Some(size)),
            _ => Err(BadLength(length)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BufMut as _;
    use proptest::prelude::*;

    fn feed(frames: &mut Frames, bytes: &[u8]) {
        for chunk in bytes.chunks(READ_BYTES_MIN) {
            frames.room().expect("a legal length").put_slice(chunk);
        }
    }

    #[test]
    fn an_announced_giant_gets_no_memory() {
        let mut frames = Frames::new(100 << 20);
        feed(&mut frames, &(90_i32 << 20).to_be_bytes());
        assert!(frames.room().expect("legal").capacity() <= 2 * READ_BYTES_AHEAD);
    }

    #[test]
    fn bad_lengths_are_named() {
        for (length, limit) in [(-1, 10), (11, 10), (i32::MIN, 10), (i32::MAX, 100 << 20)] {
            let mut frames = Frames::new(limit);
            frames.buffer.put_i32(length);
            assert_eq!(frames.take(), Err(BadLength(length)));
            assert_eq!(frames.peek(), Err(BadLength(length)));
        }
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20),
            cut in 1..50_usize,
        ) {
            let mut wire = Vec::new();
            for body in &bodies {
                wire.extend(i32::try_from(body.len()).expect("small").to_be_bytes());
                wire.extend(body);
            }
            let mut frames = Frames::new(300);
            let mut got = Vec::new();
            for chunk in wire.chunks(cut) {
                feed(&mut frames, chunk);
                while let Some(frame) = frames.take().expect("legal") {
                    got.push(frame.to_vec());
                }
            }
            prop_assert_eq!(got, bodies);
        }
    }
}
