//! A run: consecutive batches of one partition inside a blob, and where everything about it lies.
//!
//! ```text
//!  0  topic            16 bytes
//! 16  partition        i32
//! 20  flags            u32   bit 0: dense (every offset from base to end is in a batch)
//!                            bit 1: compacted (of each key only the newest record up to its end)
//! 24  base             i64   the first offset
//! 32  end              i64   one past the last offset
//! 40  position         u64   of the first batch, in bytes from the start of the blob
//! 48  len              u64   of all batches, in bytes
//! 56  index position   u64   of the run's index, in bytes from the start of the blob
//! 64  index len        u32   in bytes
//! 68  index checksum   u32   CRC-32C of the index
//! 72  max timestamp    i64   milliseconds; -1 when no record has one
//! 80  max timestamp at i64   base offset of the first batch that has it
//! ```
//!
//! All integers are big-endian. Laws: decoding is total; `decode(encode(run)) == run`; unknown flags
//! are refused, because a reader that does not know them would serve wrong offsets.

use millstream_types::{Cursor, DecodeError, Offset, PartitionId, Timestamp, Uuid};

/// The encoded size of a [`Run`], in bytes.
pub const RUN_SIZE: usize = 88;

const FLAG_DENSE: u32 = 1;
const FLAG_COMPACTED: u32 = 2;

/// Consecutive batches of one partition, laid out in a blob back to back as on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Whose batches they are.
    pub partition: PartitionId,
    /// The first offset.
    pub base: Offset,
    /// One past the last offset. Above `base`.
    pub end: Offset,
    /// Whether no offset between `base` and `end` is missing (compaction makes holes).
    pub dense: bool,
    /// Whether compaction wrote it: no key of it occurs again in it, or in such runs before it.
    /// Offsets may be missing before it, too. A program that knows no compaction refuses it.
    pub compacted: bool,
    /// Where the first batch starts, in bytes from the start of the blob.
    pub position: u64,
    /// The size of all batches, in bytes. Above 0.
    pub len: u64,
    /// Where the run's index starts, in bytes from the start of the blob.
    pub index_position: u64,
    /// The size of the index, in bytes.
    pub index_len: u32,
    /// The index's CRC-32C.
    pub index_crc: u32,
    /// The largest timestamp of any record; [`Timestamp::NONE`] when none has one.
    pub max_timestamp: Timestamp,
    /// The base offset of the first batch that holds `max_timestamp`.
    pub max_timestamp_at: Offset,
}

impl Run {
    /// Appends the encoded run to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.partition.topic.0);
        out.extend_from_slice(&self.partition.index.to_be_bytes());
        let dense = if self.dense { FLAG_DENSE } else { 0 };
        let compacted = if self.compacted { FLAG_COMPACTED } else { 0 };
        out.extend_from_slice(&(dense | compacted).to_be_bytes());
        out.extend_from_slice(&self.base.0.to_be_bytes());
        out.extend_from_slice(&self.end.0.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
        out.extend_from_slice(&self.len.to_be_bytes());
        out.extend_from_slice(&self.index_position.to_be_bytes());
        out.extend_from_slice(&self.index_len.to_be_bytes());
        out.extend_from_slice(&self.index_crc.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp.0.to_be_bytes());
        out.extend_from_slice(&self.max_timestamp_at.0.to_be_bytes());
    }

    /// Reads a run.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes end early, a flag is unknown, or offsets or ranges make no
    /// sense.
    pub fn decode(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let topic = Uuid(cursor.array("run.topic")?);
        let index = cursor.i32("run.partition")?;
        let flags = cursor.u32("run.flags")?;
        if flags & !(FLAG_DENSE | FLAG_COMPACTED) != 0 {
            return Err(DecodeError::Invalid { field: "run.flags" });
        }
        let run = Self {
            partition: PartitionId { topic, index },
            dense: flags & FLAG_DENSE != 0,
            compacted: flags & FLAG_COMPACTED != 0,
            base: Offset(cursor.i64("run.base")?),
            end: Offset(cursor.i64("run.end")?),
            position: cursor.u64("run.position")?,
            len: cursor.u64("run.len")?,
            index_position: cursor.u64("run.index_position")?,
            index_len: cursor.u32("run.index_len")?,
            index_crc: cursor.u32("run.index_crc")?,
            max_timestamp: Timestamp(cursor.i64("run.max_timestamp")?),
            max_timestamp_at: Offset(cursor.i64("run.max_timestamp_at")?),
        };
        if run.base.0 < 0 || run.end <= run.base {
            return Err(DecodeError::Invalid { field: "run.end" });
        }
        if run.len == 0 || run.position.checked_add(run.len).is_none() {
            return Err(DecodeError::Invalid { field: "run.len" });
        }
        if run.index_position.checked_add(u64::from(run.index_len)).is_none() {
            return Err(DecodeError::Invalid { field: "run.index_len" });
        }
        Ok(run)
    }
}
