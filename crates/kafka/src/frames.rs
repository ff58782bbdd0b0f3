//! Length-prefixed frames out of a byte stream, with bounded memory.

use bytes::buf::Limit;
use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

/// The length prefix of every request and response: a big-endian `i32`.
pub(crate) const LENGTH_SIZE: usize = 4;

/// A request of so many bytes, in bytes, is read without asking for room: so much a connection may
/// have in any case. It is also what is read at a time while nothing has come.
pub(crate) const SMALL_BYTES_MAX: usize = 8 * 1024;

/// How much room is made before the bytes are there: a peer that only announces a large frame
/// gets no more than this.
const READ_BYTES_AHEAD: usize = 1024 * 1024;

/// A larger frame, in bytes, has its memory to itself: a small one behind it, kept by somebody,
/// would keep all of it.
const SHARED_BYTES_MAX: usize = 64 * 1024;

/// A frame's length is negative or above the limit: the peer speaks something else, or means harm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadLength(pub(crate) i32);

/// One request as it came.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The request, without its length prefix.
    pub(crate) bytes: Bytes,
    /// What keeping any part of it keeps: the size of the allocation that it lies in, in bytes.
    pub(crate) pinned: usize,
}

/// Bytes received and not yet taken as frames. While there are none, it has no memory.
#[derive(Debug)]
pub(crate) struct Frames {
    buffer: BytesMut,
    /// The size of the allocation under `buffer`, in bytes.
    allocated: usize,
    frame_bytes_max: usize,
}

impl Frames {
    pub(crate) fn new(frame_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), allocated: 0, frame_bytes_max }
    }

    /// From now on no larger frame is taken, in bytes.
    pub(crate) fn limit(&mut self, frame_bytes_max: usize) {
        self.frame_bytes_max = frame_bytes_max;
    }

    /// Whether nothing has come that was not taken.
    pub(crate) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    /// How many bytes have come that were not taken.
    pub(crate) fn len(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole frame without its length prefix, left in place; `None` when it is not all
    /// here.
    pub(crate) fn peek(&self) -> Result<Option<&[u8]>, BadLength> {
        let Some(length) = self.length()? else { return Ok(None) };
        Ok(self.buffer.get(LENGTH_SIZE..LENGTH_SIZE + length))
    }

    /// The length of the next frame, once it is known, and what has come of it, its length prefix
    /// apart.
    pub(crate) fn head(&self) -> Result<Option<(usize, &[u8])>, BadLength> {
        let Some(length) = self.length()? else { return Ok(None) };
        let came = self.buffer.get(LENGTH_SIZE..).unwrap_or_default();
        Ok(Some((length, came.get(..length).unwrap_or(came))))
    }

    /// Takes what [`Frames::peek`] showed, without copying it.
    pub(crate) fn take(&mut self) -> Result<Option<Frame>, BadLength> {
        let Some(length) = self.length()? else { return Ok(None) };
        if self.buffer.len() < LENGTH_SIZE + length {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_SIZE);
        let pinned = self.allocated;
        let bytes = self.buffer.split_to(length).freeze();
        if length > SHARED_BYTES_MAX || self.buffer.is_empty() {
            // `room` has kept what follows out of it, but for what came before the length was known.
            self.buffer = BytesMut::from(self.buffer.as_ref());
            self.allocated = self.buffer.capacity();
        }
        Ok(Some(Frame { bytes, pinned }))
    }

    /// Takes in what came while nothing was here.
    pub(crate) fn put(&mut self, came: &[u8]) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::with_capacity(came.len());
            self.allocated = self.buffer.capacity();
        }
        self.buffer.extend_from_slice(came);
        self.allocated = self.allocated.max(self.buffer.capacity());
    }

    /// Where the next bytes are to be read to, when some are here already. Room for the rest of the
    /// frame that has begun, but only so far ahead of what has really come.
    pub(crate) fn room(&mut self) -> Result<Limit<&mut BytesMut>, BadLength> {
        let length = self.length()?;
        let size = LENGTH_SIZE + length.unwrap_or_default();
        let missing = size.saturating_sub(self.buffer.len());
        if length.is_some() && missing == 0 {
            // A whole frame waits for its turn: there is nothing to make room for.
            return Ok((&mut self.buffer).limit(0));
        }
        if self.buffer.capacity() - self.buffer.len() < missing.clamp(1, READ_BYTES_AHEAD) {
            let before = self.buffer.as_ptr();
            self.buffer.reserve(missing.clamp(SMALL_BYTES_MAX, READ_BYTES_AHEAD));
            if self.buffer.as_ptr() != before {
                self.allocated = 0;
            }
            self.allocated = self.allocated.max(self.buffer.capacity());
        }
        let most = if size > LENGTH_SIZE + SHARED_BYTES_MAX { missing } else { usize::MAX };
        Ok((&mut self.buffer).limit(most))
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
    use proptest::prelude::*;

    /// Reads as a connection does, `cut` bytes at a time: takes what is whole before it reads on.
    fn feed(frames: &mut Frames, wire: &[u8], cut: usize) -> Vec<Frame> {
        let (mut got, mut rest) = (Vec::new(), wire);
        while !rest.is_empty() {
            let taken = come(frames, rest, cut).expect("a legal length");
            rest = &rest[taken..];
            while let Some(frame) = frames.take().expect("legal") {
                got.push(frame);
            }
        }
        got
    }

    /// Takes in as much of `rest` as comes at once: at most `cut` bytes. Returns how many.
    fn come(frames: &mut Frames, rest: &[u8], cut: usize) -> Result<usize, BadLength> {
        if frames.is_empty() {
            let taken = rest.len().min(cut).min(SMALL_BYTES_MAX);
            frames.put(&rest[..taken]);
            return Ok(taken);
        }
        let mut room = frames.room()?;
        let taken = room.chunk_mut().len().min(cut).min(rest.len());
        assert!(taken > 0, "there is no room");
        room.put_slice(&rest[..taken]);
        Ok(taken)
    }

    fn wire(lengths: &[usize]) -> Vec<u8> {
        let mut wire = Vec::new();
        for &length in lengths {
            wire.extend(i32::try_from(length).expect("small").to_be_bytes());
            wire.resize(wire.len() + length, 7);
        }
        wire
    }

    #[test]
    fn an_announced_giant_gets_no_memory() {
        let mut frames = Frames::new(100 << 20);
        feed(&mut frames, &(90_i32 << 20).to_be_bytes(), 100);
        assert!(frames.room().expect("legal").get_ref().capacity() <= 2 * READ_BYTES_AHEAD);
    }

    #[test]
    fn a_large_frame_takes_its_memory_with_it() {
        let lengths = [400, 99 << 20, 400, 70_000, 400];
        for cut in [5_000, 1 << 20] {
            let mut frames = Frames::new(100 << 20);
            let got = feed(&mut frames, &wire(&lengths), cut);
            assert_eq!(got.iter().map(|frame| frame.bytes.len()).collect::<Vec<_>>(), lengths);
            for frame in &got {
                let most = if frame.bytes.len() < 1_000 { 2 * SHARED_BYTES_MAX } else { 130 << 20 };
                assert!((frame.bytes.len()..=most).contains(&frame.pinned), "{}", frame.pinned);
            }
            let large = got[1].bytes.as_ptr().addr();
            let inside = large..large + got[1].pinned;
            assert!(!inside.contains(&got[2].bytes.as_ptr().addr()), "it shares the memory");
            assert!(
                frames.buffer.capacity() <= 2 * SHARED_BYTES_MAX,
                "the idle connection keeps it"
            );
        }
    }

    #[test]
    fn small_frames_say_what_they_share() {
        let got = feed(&mut Frames::new(100_000), &wire(&[400, 300]), 1 << 20);
        assert_eq!(got.iter().map(|frame| frame.pinned).collect::<Vec<_>>(), [708; 2]);
        let got = feed(&mut Frames::new(100_000), &wire(&[60_000]), 1 << 20);
        assert!(got[0].pinned >= 60_000);
    }

    #[test]
    fn bad_lengths_are_named() {
        for (length, limit) in [(-1, 10), (11, 10), (i32::MIN, 10), (i32::MAX, 100 << 20)] {
            let mut frames = Frames::new(limit);
            frames.buffer.put_i32(length);
            assert_eq!(frames.take().err(), Some(BadLength(length)));
            assert_eq!(frames.peek(), Err(BadLength(length)));
        }
    }

    /// Fuzz target: `cargo test` runs it briefly, `cargo xtask test --long` for minutes.
    #[test]
    fn fuzz_frames() {
        const FRAME_BYTES_MAX: usize = 200_000;
        type Input = (Vec<(u32, bool)>, Vec<u16>, Vec<u8>);
        bolero::check!().with_type::<Input>().with_iterations(300).for_each(
            |(lengths, cuts, raw)| {
                let mut wire = raw.clone();
                let mut lengths = lengths.iter().take(20).map(|(length, large)| {
                    let most = if *large { FRAME_BYTES_MAX + 10 } else { 300 };
                    usize::try_from(*length).expect("64 bits") % most
                });
                if raw.len() < LENGTH_SIZE {
                    wire = self::wire(&lengths.by_ref().collect::<Vec<_>>());
                }
                let expected = cut_by_hand(&wire, FRAME_BYTES_MAX);
                assert_eq!(cut_as_it_comes(&wire, FRAME_BYTES_MAX, cuts), expected);
            },
        );
    }

    /// The frames of `wire`, and the length that ends it.
    type Cut = (Vec<Vec<u8>>, Option<BadLength>);

    fn cut_by_hand(mut wire: &[u8], most: usize) -> Cut {
        let mut frames = Vec::new();
        while let Some(prefix) = wire.first_chunk::<LENGTH_SIZE>() {
            let length = i32::from_be_bytes(*prefix);
            let Some(size) = usize::try_from(length).ok().filter(|size| *size <= most) else {
                return (frames, Some(BadLength(length)));
            };
            let Some(frame) = wire.get(LENGTH_SIZE..LENGTH_SIZE + size) else { break };
            frames.push(frame.to_vec());
            wire = &wire[LENGTH_SIZE + size..];
        }
        (frames, None)
    }

    fn cut_as_it_comes(wire: &[u8], most: usize, cuts: &[u16]) -> Cut {
        let (mut frames, mut got, mut rest) = (Frames::new(most), Vec::new(), wire);
        let mut cuts = cuts.iter().copied().chain([u16::MAX]).cycle();
        while !rest.is_empty() {
            let cut = usize::from(cuts.next().expect("endless")).max(1);
            let taken = match come(&mut frames, rest, cut) {
                Ok(taken) => taken,
                Err(bad) => return (got, Some(bad)),
            };
            rest = &rest[taken..];
            let bound = 2 * (most + READ_BYTES_AHEAD);
            assert!(frames.buffer.capacity() <= bound, "{} bytes", frames.buffer.capacity());
            loop {
                match frames.take() {
                    Ok(Some(frame)) => {
                        assert!(frame.pinned >= frame.bytes.len());
                        got.push(frame.bytes.to_vec());
                    }
                    Ok(None) => break,
                    Err(bad) => return (got, Some(bad)),
                }
            }
            assert!(!frames.is_empty() || frames.buffer.capacity() == 0, "idle, with a buffer");
        }
        (got, None)
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
            let got: Vec<_> = feed(&mut frames, &wire, cut).iter().map(|f| f.bytes.to_vec()).collect();
            prop_assert_eq!(got, bodies);
        }
    }
}
