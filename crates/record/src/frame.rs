//! Journal frames: what the one journal of a node holds.
//!
//! ```text
//!  0  length     u32  bytes of the body
//!  4  kind       u8   1 batch, 2 layout; reserved: 3 reference to a batch elsewhere, 4 release
//!                     and 5 adopt (a partition changes hands), 6 seal
//!  5  flags      u8   bit 0: urgent
//!  6  zero       u16
//!  8  session    u64
//! 16  position   u64  of this frame in the session's stream
//! 24  topic      16 bytes, the topic's id
//! 40  partition  i32
//! 44  checksum   u32  CRC32C of bytes 0..44 and what of the body nothing else covers
//! 48  body
//! ```
//!
//! The body of a batch is the batch as on the wire. Its own CRC32C covers it from byte 21 on, so
//! that the frame's checksum covers bytes 0..21 of it (base offset, length, leader epoch, magic,
//! the CRC) and record bytes are not summed twice on the way in; on the way out both are checked.
//! Every other body, also one of a kind that this program does not know, is covered whole.
//!
//! Laws: decoding is total and allocates nothing; `decode(encode(f)) == f`; every proper prefix is
//! `Truncated`; any flipped bit is refused; so are the bytes of another session or position.

use std::fmt;

use bytes::Bytes;
use millstream_types::limits::BATCH_BYTES_CEILING;
use millstream_types::{Cursor, DecodeError, Lsn, PartitionId, SessionId, Uuid};

use crate::batch::{ASSIGNED_SIZE, StoredBatch};
use crate::checksum::{Crc, crc32c};
use crate::fixed::Fixed;

/// The size of a frame's header in bytes.
pub const FRAME_HEADER_SIZE: usize = 48;

/// The most bytes that a frame's body may have.
pub const FRAME_BODY_MAX: usize = BATCH_BYTES_CEILING;

/// What of a batch its own CRC32C does not cover, in bytes from its start.
const BATCH_PREFIX_SIZE: usize = 21;
/// Where in a batch its CRC32C is.
const BATCH_CRC_AT: usize = 17;
/// What the length field of a batch does not count.
const BATCH_UNCOUNTED: usize = 12;
/// The smallest batch: its header.
const BATCH_SIZE_MIN: usize = 61;

const KIND_BATCH: u8 = 1;
const KIND_LAYOUT: u8 = 2;
const FLAG_URGENT: u8 = 1;

/// One entry of the journal, before it has a position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The partition that it is about.
    pub partition: PartitionId,
    /// What it says.
    pub body: FrameBody,
    /// Whether it may use the reserved space (deletion, commits, layout, metadata).
    pub urgent: bool,
}

/// How much of the space that a journal keeps back a frame may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Urgency {
    /// None of it: what clients produce.
    Client,
    /// A part of it: what must go on while clients are refused, offset commits above all.
    Internal,
    /// All of it: what gives space back. It must find room whatever else was written.
    Layout,
}

/// What a frame says. The tags are persisted and must be kept stable.
///
/// Reserved for later: 3 `RefBatch` (a batch whose bytes are in another session's journal), 4
/// `Release` and 5 `Adopt` (a partition's state on its way from one node to another), 6 `Seal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FrameBody {
    /// Tag 1: records were appended.
    Batch(StoredBatch),
    /// Tag 2: an encoded entry of the log crate about its own layout (`LogStart`,
    /// `SegmentCommitted`, `SegmentsReplaced`); opaque to the journal.
    Layout(Bytes),
}

/// A frame's bytes, in three parts so that the body need not be copied to be encoded.
#[derive(Clone, Copy, Debug)]
pub struct EncodedFrame<'a> {
    /// The header.
    pub head: [u8; FRAME_HEADER_SIZE],
    /// The body's parts, in order.
    pub body: [&'a [u8]; 2],
}

/// Why bytes are not taken for a frame, or a frame can't be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrameError {
    /// The frame is longer than the bytes at hand.
    Truncated {
        /// How many bytes are needed to go on: the header, or the whole frame.
        needed: usize,
    },
    /// These are not the bytes of the frame at that position, or they were damaged.
    Damaged(&'static str),
    /// An intact frame of a kind that this program does not know.
    Unknown {
        /// Its tag.
        kind: u8,
    },
    /// The body can't be stored: too long, or not a whole batch.
    Unfit(&'static str),
}

impl Frame {
    /// Which part of the reserve the frame may use.
    #[must_use]
    pub const fn urgency(&self) -> Urgency {
        match (&self.body, self.urgent) {
            (_, false) => Urgency::Client,
            (FrameBody::Batch(_), true) => Urgency::Internal,
            (FrameBody::Layout(_), true) => Urgency::Layout,
        }
    }

    /// How many bytes [`Frame::encode`] yields.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        let [first, second] = self.body.parts();
        FRAME_HEADER_SIZE + first.len() + second.len()
    }

    /// The frame's bytes at `position` of `session`'s journal. A batch's records are not read.
    ///
    /// # Errors
    ///
    /// [`FrameError::Unfit`] when the body could not be read back: longer than [`FRAME_BODY_MAX`],
    /// or a batch whose length field does not tell its length.
    pub fn encode(
        &self,
        session: SessionId,
        position: Lsn,
    ) -> Result<EncodedFrame<'_>, FrameError> {
        let body = self.body.parts();
        let size = body[0].len() + body[1].len();
        let length = u32::try_from(size).map_err(|_| FrameError::Unfit("body length"))?;
        if size > FRAME_BODY_MAX {
            return Err(FrameError::Unfit("body length"));
        }
        let (kind, covered) = match &self.body {
            FrameBody::Batch(batch) => (KIND_BATCH, batch_prefix(batch, size)?),
            FrameBody::Layout(layout) => (KIND_LAYOUT, [layout.as_ref(), &[]]),
        };
        let flags = if self.urgent { FLAG_URGENT } else { 0 };
        let head = Fixed::new()
            .put(&length.to_be_bytes())
            .put(&[kind, flags, 0, 0])
            .put(&session.0.to_be_bytes())
            .put(&position.0.to_be_bytes())
            .put(&self.partition.topic.0)
            .put(&self.partition.index.to_be_bytes());
        let checksum = Crc::new().and(head.filled()).and(covered[0]).and(covered[1]).value();
        Ok(EncodedFrame { head: head.put(&checksum.to_be_bytes()).whole(), body })
    }

    /// Reads the frame at the start of `bytes`, which must be the one at `position` of `session`'s
    /// journal. What follows it is not looked at; its body is a slice of `bytes`.
    ///
    /// # Errors
    ///
    /// [`FrameError`], never [`FrameError::Unfit`].
    pub fn decode(
        bytes: &Bytes,
        session: SessionId,
        position: Lsn,
    ) -> Result<(Self, usize), FrameError> {
        let header = Header::decode(bytes)?;
        if header.session != session {
            return Err(FrameError::Damaged("session"));
        }
        if header.position != position {
            return Err(FrameError::Damaged("position"));
        }
        let size = FRAME_HEADER_SIZE + header.length;
        if bytes.len() < size {
            return Err(FrameError::Truncated { needed: size });
        }
        let body = bytes.slice(FRAME_HEADER_SIZE..size);
        let head = bytes.get(..FRAME_HEADER_SIZE - 4).unwrap_or_default();
        let covered = match header.kind {
            KIND_BATCH => body.get(..BATCH_PREFIX_SIZE).ok_or(FrameError::Damaged("batch"))?,
            _ => body.as_ref(),
        };
        if Crc::new().and(head).and(covered).value() != header.checksum {
            return Err(FrameError::Damaged("checksum"));
        }
        // Intact from here on: what is not known was written by a newer program.
        if header.flags & !FLAG_URGENT != 0 || header.zero != 0 {
            return Err(FrameError::Unknown { kind: header.kind });
        }
        let body = match header.kind {
            KIND_BATCH => FrameBody::Batch(decode_batch(&body)?),
            KIND_LAYOUT => FrameBody::Layout(body),
            kind => return Err(FrameError::Unknown { kind }),
        };
        let urgent = header.flags & FLAG_URGENT != 0;
        Ok((Self { partition: header.partition, body, urgent }, size))
    }
}

impl FrameBody {
    fn parts(&self) -> [&[u8]; 2] {
        match self {
            Self::Batch(batch) => [&batch.assigned, &batch.rest],
            Self::Layout(layout) => [layout, &[]],
        }
    }
}

struct Header {
    length: usize,
    kind: u8,
    flags: u8,
    zero: u16,
    session: SessionId,
    position: Lsn,
    partition: PartitionId,
    checksum: u32,
}

impl Header {
    fn decode(bytes: &[u8]) -> Result<Self, FrameError> {
        let truncated = |_: DecodeError| FrameError::Truncated { needed: FRAME_HEADER_SIZE };
        let head = bytes
            .get(..FRAME_HEADER_SIZE)
            .ok_or(FrameError::Truncated { needed: FRAME_HEADER_SIZE })?;
        let mut cursor = Cursor::new(head);
        let length = cursor.u32("length").map_err(truncated)?;
        let length = usize::try_from(length).map_err(|_| FrameError::Damaged("length"))?;
        if length > FRAME_BODY_MAX {
            return Err(FrameError::Damaged("length"));
        }
        Ok(Self {
            length,
            kind: cursor.u8("kind").map_err(truncated)?,
            flags: cursor.u8("flags").map_err(truncated)?,
            zero: cursor.u16("zero").map_err(truncated)?,
            session: SessionId(cursor.u64("session").map_err(truncated)?),
            position: Lsn(cursor.u64("position").map_err(truncated)?),
            partition: PartitionId {
                topic: Uuid(cursor.array("topic").map_err(truncated)?),
                index: cursor.i32("partition").map_err(truncated)?,
            },
            checksum: cursor.u32("checksum").map_err(truncated)?,
        })
    }
}

/// What of the batch the frame's checksum covers.
fn batch_prefix(batch: &StoredBatch, size: usize) -> Result<[&[u8]; 2], FrameError> {
    if size < BATCH_SIZE_MIN {
        return Err(FrameError::Unfit("batch size"));
    }
    if !tells_its_length(&batch.assigned, size) {
        return Err(FrameError::Unfit("batch length"));
    }
    let more = batch.rest.get(..BATCH_PREFIX_SIZE - ASSIGNED_SIZE).unwrap_or_default();
    Ok([&batch.assigned, more])
}

fn decode_batch(body: &Bytes) -> Result<StoredBatch, FrameError> {
    let damaged = FrameError::Damaged("batch");
    if body.len() < BATCH_SIZE_MIN || !tells_its_length(body, body.len()) {
        return Err(damaged);
    }
    let crc = body.get(BATCH_CRC_AT..BATCH_PREFIX_SIZE).ok_or(damaged)?;
    let covered = body.get(BATCH_PREFIX_SIZE..).ok_or(damaged)?;
    if crc32c(covered).to_be_bytes() != crc {
        return Err(FrameError::Damaged("batch checksum"));
    }
    let assigned = *body.first_chunk::<ASSIGNED_SIZE>().ok_or(damaged)?;
    Ok(StoredBatch { assigned, rest: body.slice(ASSIGNED_SIZE..) })
}

/// Whether the length field of the batch that starts with `head` says that it has `size` bytes.
fn tells_its_length(head: &[u8], size: usize) -> bool {
    let told = head.get(8..BATCH_UNCOUNTED).and_then(|told| <[u8; 4]>::try_from(told).ok());
    let told = told.and_then(|told| usize::try_from(i32::from_be_bytes(told)).ok());
    told.is_some_and(|told| told + BATCH_UNCOUNTED == size)
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed } => write!(f, "the frame is cut: it needs {needed} bytes"),
            Self::Damaged(field) => write!(f, "the frame is damaged ({field})"),
            Self::Unknown { kind } => write!(
                f,
                "the frame is of kind {kind}, which this program does not know: start the \
                 release of Millstream that wrote it, or a newer one"
            ),
            Self::Unfit(field) => write!(f, "the frame can't be stored ({field})"),
        }
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests;
