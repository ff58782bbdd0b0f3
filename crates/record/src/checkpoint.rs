//! Checkpoints: the states of all partitions as of a position in a session's journal, or of those
//! that have changed since the checkpoint before.
//!
//! ```text
//! header   64 bytes, see [`crate::file`]; its numbers are the session and the position
//! former   only with the critical flag 2 in the header: a chunk whose body is names of blobs,
//!          length u16 | name, and whose head counts those
//! chunk    any number of:
//!    0  len         u32  bytes of the body; 0 ends the checkpoint
//!    4  partitions  u32  how many states the body holds; in the last chunk, how many there were
//!    8  checksum    u32  CRC-32C of bytes 0..8 of the chunk and of the body
//!   12  body        states, one after the other
//!
//! state:
//!   topic 16 | partition i32 | applied u64 | log start i64 | log end i64 | last append time i64
//!   epochs    u32 x { epoch i32 | start i64 }
//!   producers u32 x { id i64 | epoch i16 | coordinator epoch i32 | used i64 | transaction i64,
//!                     batches u8 x { first sequence i32 | last sequence i32 | first offset i64
//!                                    | last offset i64 | log append time i64 } }
//!   aborted   u32 x { producer i64 | first i64 | last i64 }
//!   segments  u32 x segment, see [`crate::layout`]
//!   backlog   u32 x { session u64 | lsn u64 | len u32 | base i64 | last i64 | size u32
//!                     | max timestamp i64 }
//!   lost      u32 x range, see [`crate::layout`]; only with the critical flag 1 in the header
//! ```
//!
//! Flag 1 is set when there is a lost range anywhere: a checkpoint of an undamaged log can be
//! read by programs that know nothing of losses, one of a damaged log is refused by them.
//!
//! Flag 2 makes it a delta: it holds the states that have changed since the last of the checkpoints
//! that it names, oldest first, of which the first is whole. What a partition's state is says the
//! newest of them that has it. Programs that know nothing of deltas refuse one; a whole checkpoint
//! has the same bytes as before there were any.
//!
//! A checkpoint need not be a moment: each state says up to where in the journal it was changed
//! (`applied`, a position in the journal of the session in the same file's header), and replay skips
//! the frames below. Chunks bound the memory of writer and reader by
//! the largest single state. Laws: decoding is total and bounded by the bytes that are there;
//! `decode(encode(state)) == state`; a cut or a flipped bit is refused.

use bytes::Bytes;
use millstream_types::{
    ClusterId, Cursor, DecodeError, LeaderEpoch, Lsn, Offset, PartitionId, ProducerEpoch,
    ProducerId, SessionId, Timestamp, Uuid,
};

use crate::checksum::Crc;
use crate::file::{FileError, FileHeader, FileKind};
use crate::index::AbortedTxn;
use crate::layout::{BLOB_NAME_LEN_MAX, LostRange, SegmentRef};

/// The critical flag of the header: states have lists of what was lost.
const CRITICAL_LOST: u16 = 1;
/// The critical flag of the header: it is a delta, and says to what.
const CRITICAL_DELTA: u16 = 2;

/// The size of a chunk's head in bytes.
pub const CHUNK_HEAD_SIZE: usize = 12;

/// A chunk is ended when its body has so many bytes.
pub const CHUNK_BYTES: usize = 1024 * 1024;

/// How many of a producer's batches are remembered, so that a retry of one is recognised (Kafka
/// producers have at most five requests in flight).
pub const PRODUCER_BATCHES: usize = 5;

/// The state of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartitionImage {
    /// Whose state it is.
    pub id: PartitionId,
    /// The end of the last frame of the checkpoint's session that changed it.
    pub applied: Lsn,
    /// The first offset that is not deleted.
    pub log_start: Offset,
    /// The offset of the next record.
    pub log_end: Offset,
    /// The newest time that was given to a record as log-append time, or [`Timestamp::NONE`].
    pub last_append_time: Timestamp,
    /// Where each leader epoch began, by epoch.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// The producers that are remembered, by id.
    pub producers: Vec<ProducerImage>,
    /// Aborted transactions above the log start, by marker.
    pub aborted: Vec<AbortedTxn>,
    /// Where the batches lie that were laid out, by offset.
    pub segments: Vec<SegmentRef>,
    /// Where the others lie in journals, by offset.
    pub backlog: Vec<BacklogImage>,
    /// Batches that can't be read any more, by offset.
    pub lost: Vec<LostRange>,
}

/// What is remembered of a producer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProducerImage {
    /// Its id.
    pub id: ProducerId,
    /// Its newest epoch.
    pub epoch: ProducerEpoch,
    /// The epoch of the coordinator that wrote its last marker; -1 before the first.
    pub coordinator_epoch: i32,
    /// When it last wrote, wall time.
    pub used: Timestamp,
    /// Where its open transaction begins, if it has one.
    pub transaction: Option<Offset>,
    /// Its newest batches of this epoch, oldest first; at most [`PRODUCER_BATCHES`].
    pub batches: Vec<SentBatch>,
}

/// A batch of an idempotent producer, as far as a retry must be answered like the original.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SentBatch {
    /// The sequence number of its first record.
    pub base_sequence: i32,
    /// The sequence number of its last record.
    pub last_sequence: i32,
    /// The offset of its first record.
    pub base: Offset,
    /// The offset of its last record.
    pub last: Offset,
    /// The log-append time it was given, or [`Timestamp::NONE`].
    pub log_append_time: Timestamp,
}

/// A batch that lies in a journal and nowhere else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BacklogImage {
    /// The session whose journal holds its frame.
    pub session: SessionId,
    /// The frame's position.
    pub lsn: Lsn,
    /// The frame's length in bytes.
    pub len: u32,
    /// The offset of the first record.
    pub base: Offset,
    /// The offset of the last record.
    pub last: Offset,
    /// The batch's size in bytes.
    pub size: u32,
    /// The batch's largest timestamp.
    pub max_timestamp: Timestamp,
}

/// What a checkpoint begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointHeader {
    /// The cluster that it belongs to.
    pub cluster: ClusterId,
    /// The session that took it.
    pub session: SessionId,
    /// The position in the session's journal to replay from.
    pub lsn: Lsn,
    /// Whether states say what was lost.
    pub has_lost: bool,
    /// Whether it holds only what has changed since others, whose names come next.
    pub is_delta: bool,
}

/// Encodes a checkpoint piece by piece.
#[derive(Debug)]
pub struct CheckpointWriter {
    has_lost: bool,
    body: Vec<u8>,
    in_body: u32,
    partitions: u32,
}

/// What a chunk begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    /// The size of the body in bytes; 0 in the last chunk.
    pub len: u32,
    /// How many states, or names, it holds; in the last chunk, how many states the checkpoint holds.
    pub partitions: u32,
    crc: u32,
}

impl CheckpointWriter {
    /// A writer, and the checkpoint's first bytes. `former`: the checkpoints that a delta adds to,
    /// oldest first; of no meaning to others.
    #[must_use]
    pub fn new(header: CheckpointHeader, former: &[&str]) -> (Self, Bytes) {
        let CheckpointHeader { cluster, session, lsn, has_lost, is_delta } = header;
        let kind = FileKind::Checkpoint;
        let lost = if has_lost { CRITICAL_LOST } else { 0 };
        let delta = if is_delta { CRITICAL_DELTA } else { 0 };
        let header = FileHeader { kind, cluster, numbers: [session.0, lsn.0, 0, 0] };
        let mut head = header.encode_with(lost | delta).to_vec();
        if is_delta {
            head.extend_from_slice(&former_chunk(former));
        }
        let writer = Self { has_lost, body: Vec::new(), in_body: 0, partitions: 0 };
        (writer, head.into())
    }

    /// Adds a state; returns the bytes that come next when enough have gathered. What was lost is
    /// written only when the header says so.
    pub fn push(&mut self, image: &PartitionImage) -> Option<Bytes> {
        image.encode(&mut self.body, self.has_lost);
        self.in_body += 1;
        self.partitions += 1;
        (self.body.len() >= CHUNK_BYTES).then(|| self.chunk())
    }

    /// The last bytes.
    #[must_use]
    pub fn finish(mut self) -> Bytes {
        let mut out = if self.in_body > 0 { self.chunk().to_vec() } else { Vec::new() };
        out.extend_from_slice(&chunk_head(0, self.partitions, &[]));
        out.into()
    }

    fn chunk(&mut self) -> Bytes {
        let body = std::mem::take(&mut self.body);
        let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut out = Vec::with_capacity(CHUNK_HEAD_SIZE + body.len());
        out.extend_from_slice(&chunk_head(len, self.in_body, &body));
        out.extend_from_slice(&body);
        self.in_body = 0;
        out.into()
    }
}

impl CheckpointHeader {
    /// Reads a checkpoint's header.
    ///
    /// # Errors
    ///
    /// [`FileError`] when it is not a checkpoint, is damaged, or is of a newer format.
    pub fn decode(bytes: &[u8]) -> Result<Self, FileError> {
        let known = CRITICAL_LOST | CRITICAL_DELTA;
        let (header, critical) = FileHeader::decode_with(bytes, FileKind::Checkpoint, known)?;
        let [session, lsn, ..] = header.numbers;
        Ok(Self {
            cluster: header.cluster,
            session: SessionId(session),
            lsn: Lsn(lsn),
            has_lost: critical & CRITICAL_LOST != 0,
            is_delta: critical & CRITICAL_DELTA != 0,
        })
    }
}

impl ChunkHead {
    /// Reads a chunk's head.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when fewer than [`CHUNK_HEAD_SIZE`] bytes are there.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        Ok(Self {
            len: cursor.u32("chunk.len")?,
            partitions: cursor.u32("chunk.partitions")?,
            crc: cursor.u32("chunk.crc")?,
        })
    }

    /// Reads the chunk's states, of a checkpoint with this header.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when `body` is not the body that the head was written for.
    pub fn images(
        &self,
        header: &CheckpointHeader,
        body: &[u8],
    ) -> Result<Vec<PartitionImage>, DecodeError> {
        self.check(body)?;
        let mut cursor = Cursor::new(body);
        let mut images = Vec::new();
        while !cursor.is_empty() {
            images.push(PartitionImage::decode(&mut cursor, header.has_lost)?);
        }
        let counted = self.len == 0 || u32::try_from(images.len()) == Ok(self.partitions);
        if counted { Ok(images) } else { Err(DecodeError::Invalid { field: "chunk.partitions" }) }
    }

    /// Reads the names of the checkpoints that a delta adds to, oldest first: what its first chunk
    /// holds. There is at least one.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when `body` is not the body that the head was written for.
    pub fn former(&self, body: &[u8]) -> Result<Vec<Box<str>>, DecodeError> {
        self.check(body)?;
        let mut cursor = Cursor::new(body);
        let mut names = Vec::new();
        while !cursor.is_empty() {
            let invalid = DecodeError::Invalid { field: "former.name" };
            let len = usize::from(cursor.u16("former.name")?);
            let name = cursor.bytes(len, "former.name")?;
            if len == 0 || len > BLOB_NAME_LEN_MAX {
                return Err(invalid);
            }
            names.push(std::str::from_utf8(name).map_err(|_| invalid)?.into());
        }
        let counted = !names.is_empty() && u32::try_from(names.len()) == Ok(self.partitions);
        if counted { Ok(names) } else { Err(DecodeError::Invalid { field: "former.count" }) }
    }

    fn check(&self, body: &[u8]) -> Result<(), DecodeError> {
        let whole = u32::try_from(body.len()).is_ok_and(|len| len == self.len);
        if whole && chunk_crc(self.len, self.partitions, body) == self.crc {
            Ok(())
        } else {
            Err(DecodeError::Invalid { field: "chunk.crc" })
        }
    }
}

impl PartitionImage {
    /// Appends the encoded state to `out`, with what was lost if `has_lost`.
    pub fn encode(&self, out: &mut Vec<u8>, has_lost: bool) {
        out.extend_from_slice(&self.id.topic.0);
        out.extend_from_slice(&self.id.index.to_be_bytes());
        out.extend_from_slice(&self.applied.0.to_be_bytes());
        put_i64s(out, [self.log_start.0, self.log_end.0, self.last_append_time.0]);
        put_count(out, self.epochs.len());
        for (epoch, start) in &self.epochs {
            out.extend_from_slice(&epoch.0.to_be_bytes());
            put_i64s(out, [start.0]);
        }
        put_count(out, self.producers.len());
        for producer in &self.producers {
            producer.encode(out);
        }
        put_count(out, self.aborted.len());
        for txn in &self.aborted {
            put_i64s(out, [txn.producer.0, txn.first.0, txn.last.0]);
        }
        put_count(out, self.segments.len());
        for segment in &self.segments {
            segment.encode(out);
        }
        put_count(out, self.backlog.len());
        for batch in &self.backlog {
            batch.encode(out);
        }
        if has_lost {
            put_count(out, self.lost.len());
            for range in &self.lost {
                range.encode(out);
            }
        }
    }

    /// Reads a state, with what was lost if `has_lost`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes end early or a value makes no sense.
    pub fn decode(cursor: &mut Cursor<'_>, has_lost: bool) -> Result<Self, DecodeError> {
        let topic = Uuid(cursor.array("state.topic")?);
        let index = cursor.i32("state.partition")?;
        let image = Self {
            id: PartitionId { topic, index },
            applied: Lsn(cursor.u64("state.applied")?),
            log_start: Offset(cursor.i64("state.log_start")?),
            log_end: Offset(cursor.i64("state.log_end")?),
            last_append_time: Timestamp(cursor.i64("state.last_append_time")?),
            epochs: list(cursor, "state.epochs", |c| {
                Ok((LeaderEpoch(c.i32("epoch")?), Offset(c.i64("epoch.start")?)))
            })?,
            producers: list(cursor, "state.producers", ProducerImage::decode)?,
            aborted: list(cursor, "state.aborted", AbortedTxn::decode)?,
            segments: list(cursor, "state.segments", SegmentRef::decode)?,
            backlog: list(cursor, "state.backlog", BacklogImage::decode)?,
            lost: match has_lost {
                true => list(cursor, "state.lost", LostRange::decode)?,
                false => Vec::new(),
            },
        };
        if image.log_start.0 < 0 || image.log_end < image.log_start {
            return Err(DecodeError::Invalid { field: "state.log_end" });
        }
        Ok(image)
    }
}

impl ProducerImage {
    fn encode(&self, out: &mut Vec<u8>) {
        put_i64s(out, [self.id.0]);
        out.extend_from_slice(&self.epoch.0.to_be_bytes());
        out.extend_from_slice(&self.coordinator_epoch.to_be_bytes());
        put_i64s(out, [self.used.0, self.transaction.map_or(-1, |first| first.0)]);
        let kept = self.batches.len().min(PRODUCER_BATCHES);
        out.push(u8::try_from(kept).unwrap_or(0));
        for batch in self.batches.iter().take(kept) {
            out.extend_from_slice(&batch.base_sequence.to_be_bytes());
            out.extend_from_slice(&batch.last_sequence.to_be_bytes());
            put_i64s(out, [batch.base.0, batch.last.0, batch.log_append_time.0]);
        }
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let id = ProducerId(cursor.i64("producer.id")?);
        let epoch = ProducerEpoch(cursor.i16("producer.epoch")?);
        let coordinator_epoch = cursor.i32("producer.coordinator_epoch")?;
        let used = Timestamp(cursor.i64("producer.used")?);
        let first = cursor.i64("producer.transaction")?;
        let transaction = (first >= 0).then_some(Offset(first));
        let kept = usize::from(cursor.u8("producer.batches")?);
        if kept > PRODUCER_BATCHES {
            return Err(DecodeError::Invalid { field: "producer.batches" });
        }
        let mut batches = Vec::with_capacity(kept);
        for _ in 0..kept {
            batches.push(SentBatch {
                base_sequence: cursor.i32("sent.base_sequence")?,
                last_sequence: cursor.i32("sent.last_sequence")?,
                base: Offset(cursor.i64("sent.base")?),
                last: Offset(cursor.i64("sent.last")?),
                log_append_time: Timestamp(cursor.i64("sent.log_append_time")?),
            });
        }
        Ok(Self { id, epoch, coordinator_epoch, used, transaction, batches })
    }
}

impl BacklogImage {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.session.0.to_be_bytes());
        out.extend_from_slice(&self.lsn.0.to_be_bytes());
        out.extend_from_slice(&self.len.to_be_bytes());
        put_i64s(out, [self.base.0, self.last.0]);
        out.extend_from_slice(&self.size.to_be_bytes());
        put_i64s(out, [self.max_timestamp.0]);
    }

    fn decode(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            session: SessionId(cursor.u64("backlog.session")?),
            lsn: Lsn(cursor.u64("backlog.lsn")?),
            len: cursor.u32("backlog.len")?,
            base: Offset(cursor.i64("backlog.base")?),
            last: Offset(cursor.i64("backlog.last")?),
            size: cursor.u32("backlog.size")?,
            max_timestamp: Timestamp(cursor.i64("backlog.max_timestamp")?),
        })
    }
}

/// Reads a counted list. Its memory grows with what was read, never with what the count claims.
fn list<'a, T>(
    cursor: &mut Cursor<'a>,
    field: &'static str,
    decode: impl Fn(&mut Cursor<'a>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = cursor.u32(field)?;
    let mut items = Vec::new();
    for _ in 0..count {
        items.push(decode(cursor)?);
    }
    Ok(items)
}

fn put_count(out: &mut Vec<u8>, count: usize) {
    out.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_i64s<const N: usize>(out: &mut Vec<u8>, values: [i64; N]) {
    for value in values {
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The chunk of a delta that says to what it is one.
fn former_chunk(names: &[&str]) -> Vec<u8> {
    let mut body = Vec::new();
    for name in names {
        let name = name.as_bytes();
        let name = name.get(..BLOB_NAME_LEN_MAX).unwrap_or(name);
        body.extend_from_slice(&u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes());
        body.extend_from_slice(name);
    }
    let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let count = u32::try_from(names.len()).unwrap_or(u32::MAX);
    [&chunk_head(len, count, &body), body.as_slice()].concat()
}

fn chunk_crc(len: u32, partitions: u32, body: &[u8]) -> u32 {
    Crc::new().and(&len.to_be_bytes()).and(&partitions.to_be_bytes()).and(body).value()
}

fn chunk_head(len: u32, partitions: u32, body: &[u8]) -> [u8; CHUNK_HEAD_SIZE] {
    let mut head = [0; CHUNK_HEAD_SIZE];
    let numbers = [len, partitions, chunk_crc(len, partitions, body)];
    for (at, number) in head.chunks_exact_mut(4).zip(numbers) {
        at.copy_from_slice(&number.to_be_bytes());
    }
    head
}

#[cfg(test)]
mod tests;
