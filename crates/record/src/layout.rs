//! Layout entries: what journal frames of kind 2 say about where a partition's batches lie.
//!
//! ```text
//! 0  tag  u8
//! 1  body
//!
//! 1 LogStart           offset i64
//! 2 SegmentCommitted   segment
//! 3 SegmentsReplaced   removed u32 | base offset i64 for each | added u32 | segment for each
//! 4 Lost               range
//! 5 Compacted          as SegmentsReplaced | forgotten u32 | marker offset i64 for each
//!
//! segment:  name length u16 | name | written i64 | run, see [`crate::run`]
//! range:    from i64 | upto i64 | max timestamp i64
//! ```
//!
//! There is no manifest: these entries, replayed over a checkpoint, are the list of segments. An
//! unknown tag is refused, because skipping one would resurrect or lose data: a program that is
//! older than tag 4 refuses a journal in which something was lost, one that is older than tag 5 one in
//! which something was compacted, and no other. Laws: decoding is
//! total and reads all there is; `decode(encode(entry)) == entry`.

use bytes::Bytes;
use millstream_types::{Cursor, DecodeError, Offset, Timestamp};

use crate::run::Run;

/// The longest name of a blob, in bytes.
pub const BLOB_NAME_LEN_MAX: usize = 1024;

const TAG_LOG_START: u8 = 1;
const TAG_SEGMENT_COMMITTED: u8 = 2;
const TAG_SEGMENTS_REPLACED: u8 = 3;
const TAG_LOST: u8 = 4;
const TAG_COMPACTED: u8 = 5;

/// A run in a named blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentRef {
    /// The blob's name.
    pub blob: Box<str>,
    /// When it was written, wall time: the age of a run whose records have no timestamps.
    pub written: Timestamp,
    /// Where in the blob, and which offsets.
    pub run: Run,
}

/// Consecutive batches that can't be read any more, and that nobody tries to read again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostRange {
    /// The first offset.
    pub from: Offset,
    /// One past the last offset. Above `from`.
    pub upto: Offset,
    /// The largest timestamp that one of the records had; [`Timestamp::NONE`] when none had one.
    pub max_timestamp: Timestamp,
}

/// What a partition's layout did. The tags are persisted and must be kept stable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayoutEntry {
    /// Tag 1: everything below the offset is deleted (retention, `DeleteRecords`).
    LogStart(Offset),
    /// Tag 2: batches of the partition are now in a blob, which is durable.
    SegmentCommitted(SegmentRef),
    /// Tag 3: segments that hold the same batches as others take their place (merging).
    SegmentsReplaced {
        /// The base offsets of those that go.
        removed: Vec<Offset>,
        /// Those that come, by offset.
        added: Vec<SegmentRef>,
    },
    /// Tag 4: batches that were in the journal only turned out to be damaged there. Layout goes on
    /// behind them, and whoever reads them is told.
    Lost(LostRange),
    /// Tag 5: segments take the place of others of which they hold what compaction keeps.
    Compacted {
        /// The base offsets of those that go.
        removed: Vec<Offset>,
        /// Those that come, by offset.
        added: Vec<SegmentRef>,
        /// The markers of aborted transactions of which no record is left: readers need not hear of
        /// them any more.
        forgotten: Vec<Offset>,
    },
}

impl SegmentRef {
    /// Appends the encoded reference to `out`. Names longer than [`BLOB_NAME_LEN_MAX`] are cut.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let name = self.blob.as_bytes();
        let name = name.get(..BLOB_NAME_LEN_MAX).unwrap_or(name);
        out.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(name);
        out.extend_from_slice(&self.written.0.to_be_bytes());
        self.run.encode(out);
    }

    /// Reads a reference.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes end early, the name is not a name, or the run makes no sense.
    pub fn decode(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let len = usize::from(cursor.u16("segment.name")?);
        let name = cursor.bytes(len, "segment.name")?;
        let invalid = DecodeError::Invalid { field: "segment.name" };
        if len == 0 || len > BLOB_NAME_LEN_MAX {
            return Err(invalid);
        }
        let blob = std::str::from_utf8(name).map_err(|_| invalid)?.into();
        let written = Timestamp(cursor.i64("segment.written")?);
        Ok(Self { blob, written, run: Run::decode(cursor)? })
    }
}

impl LostRange {
    /// Appends the encoded range to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.from.0, self.upto.0, self.max_timestamp.0] {
            out.extend_from_slice(&number.to_be_bytes());
        }
    }

    /// Reads a range.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes end early or it is none.
    pub fn decode(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let range = Self {
            from: Offset(cursor.i64("lost.from")?),
            upto: Offset(cursor.i64("lost.upto")?),
            max_timestamp: Timestamp(cursor.i64("lost.max_timestamp")?),
        };
        let is_one = range.from.0 >= 0 && range.from < range.upto;
        if is_one { Ok(range) } else { Err(DecodeError::Invalid { field: "lost.upto" }) }
    }
}

impl LayoutEntry {
    /// The entry's bytes.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::new();
        match self {
            Self::LogStart(offset) => {
                out.push(TAG_LOG_START);
                out.extend_from_slice(&offset.0.to_be_bytes());
            }
            Self::SegmentCommitted(segment) => {
                out.push(TAG_SEGMENT_COMMITTED);
                segment.encode(&mut out);
            }
            Self::SegmentsReplaced { removed, added } => {
                out.push(TAG_SEGMENTS_REPLACED);
                put_replaced(&mut out, removed, added);
            }
            Self::Lost(range) => {
                out.push(TAG_LOST);
                range.encode(&mut out);
            }
            Self::Compacted { removed, added, forgotten } => {
                out.push(TAG_COMPACTED);
                put_replaced(&mut out, removed, added);
                put_offsets(&mut out, forgotten);
            }
        }
        out.into()
    }

    /// Reads an entry.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes end early or go on, or say what this program does not know.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let entry = match cursor.u8("layout.tag")? {
            TAG_LOG_START => Self::LogStart(Offset(cursor.i64("layout.log_start")?)),
            TAG_SEGMENT_COMMITTED => Self::SegmentCommitted(SegmentRef::decode(&mut cursor)?),
            TAG_SEGMENTS_REPLACED => {
                let (removed, added) = replaced(&mut cursor)?;
                Self::SegmentsReplaced { removed, added }
            }
            TAG_LOST => Self::Lost(LostRange::decode(&mut cursor)?),
            TAG_COMPACTED => {
                let (removed, added) = replaced(&mut cursor)?;
                let forgotten = offsets(&mut cursor, "layout.forgotten")?;
                Self::Compacted { removed, added, forgotten }
            }
            _ => return Err(DecodeError::Invalid { field: "layout.tag" }),
        };
        if cursor.is_empty() { Ok(entry) } else { Err(DecodeError::Invalid { field: "layout" }) }
    }
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_offsets(out: &mut Vec<u8>, offsets: &[Offset]) {
    put_count(out, offsets.len());
    for offset in offsets {
        out.extend_from_slice(&offset.0.to_be_bytes());
    }
}

fn put_replaced(out: &mut Vec<u8>, removed: &[Offset], added: &[SegmentRef]) {
    put_offsets(out, removed);
    put_count(out, added.len());
    for segment in added {
        segment.encode(out);
    }
}

fn offsets(cursor: &mut Cursor<'_>, field: &'static str) -> Result<Vec<Offset>, DecodeError> {
    let mut offsets = Vec::new();
    for _ in 0..cursor.u32(field)? {
        offsets.push(Offset(cursor.i64(field)?));
    }
    Ok(offsets)
}

fn replaced(cursor: &mut Cursor<'_>) -> Result<(Vec<Offset>, Vec<SegmentRef>), DecodeError> {
    let removed = offsets(cursor, "layout.removed")?;
    let mut added = Vec::new();
    for _ in 0..cursor.u32("layout.added")? {
        added.push(SegmentRef::decode(cursor)?);
    }
    Ok((removed, added))
}
