//! Segments and packs: blobs that hold runs of batches for good.
//!
//! ```text
//! header       64 bytes, see [`crate::file`]
//! batches      of the first run, back to back exactly as on the wire; then of the next run
//! indexes      one per run, see [`crate::index`]
//! directory    one [`Run`] of 88 bytes per run, in the order of their batches
//! footer       32 bytes:
//!    0  directory position  u64
//!    8  directory len       u32  bytes
//!   12  runs                u32
//!   16  directory checksum  u32  CRC-32C of the directory
//!   20  footer checksum     u32  CRC-32C of bytes 0..20 of the footer
//!   24  magic               8 bytes, "MSTRsegf"
//! ```
//!
//! A blob with one run is a segment, one with runs of several partitions a pack; there is no other
//! difference. Batches carry their own checksums, indexes have theirs in the run. Readers know the
//! run from a layout frame or a checkpoint; directory and footer make the blob tell by itself what
//! is in it. Everything is written front to back, so that a blob of any size can be streamed.

use bytes::Bytes;
use millstream_types::{ClusterId, Cursor, DecodeError, Offset, PartitionId, SessionId, Timestamp};

use crate::checksum::crc32c;
use crate::file::{FILE_HEADER_SIZE, FileHeader, FileKind};
use crate::index::{AbortedTxn, Place, RunIndex};
use crate::run::{RUN_SIZE, Run};

/// The size of a blob's footer in bytes.
pub const FOOTER_SIZE: usize = 32;

const FOOTER_MAGIC: [u8; 8] = *b"MSTRsegf";
const FOOTER_SUMMED: usize = 20;

/// Where a blob's directory lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footer {
    /// The directory's first byte, from the start of the blob.
    pub directory_position: u64,
    /// The directory's size in bytes: [`RUN_SIZE`] for each run.
    pub directory_len: u32,
    /// Its CRC-32C.
    pub directory_crc: u32,
}

/// Keeps the books of a blob while its batches are written: the caller writes the bytes in the
/// same order as it tells the writer of them.
#[derive(Debug)]
pub struct SegmentWriter {
    position: u64,
    /// Whether the next batch begins a run, whosever it is.
    is_ended: bool,
    runs: Vec<(Run, RunIndex)>,
}

/// What [`SegmentWriter::finish`] yields.
#[derive(Debug)]
pub struct Finished {
    /// Indexes, directory and footer: the blob's last bytes.
    pub tail: Bytes,
    /// The runs, in the order of their batches.
    pub runs: Vec<Run>,
}

impl SegmentWriter {
    /// A writer, and the blob's first bytes.
    #[must_use]
    pub fn new(cluster: ClusterId, session: SessionId) -> (Self, Bytes) {
        let header =
            FileHeader { kind: FileKind::Segment, cluster, numbers: [session.0, 0, 0, 0] }.encode();
        let (position, is_ended) = (FILE_HEADER_SIZE as u64, false);
        let writer = Self { position, is_ended, runs: Vec::new() };
        (writer, Bytes::copy_from_slice(&header))
    }

    /// Notes the next batch of `partition`, which belongs to the last run if that is of the same
    /// partition and starts a new one if not. `place.size` is above 0, offsets rise.
    pub fn push(&mut self, partition: PartitionId, place: &Place) {
        let is_ended = std::mem::take(&mut self.is_ended);
        let is_same = |(run, _): &(Run, RunIndex)| run.partition == partition;
        let goes_on = !is_ended && self.runs.last().is_some_and(is_same);
        if !goes_on {
            self.runs.push((
                Run {
                    partition,
                    base: place.base,
                    end: place.base,
                    dense: true,
                    compacted: false,
                    position: self.position,
                    len: 0,
                    index_position: 0,
                    index_len: 0,
                    index_crc: 0,
                    max_timestamp: Timestamp::NONE,
                    max_timestamp_at: place.base,
                },
                RunIndex::default(),
            ));
        }
        if let Some((run, index)) = self.runs.last_mut() {
            index.push(run.len, place);
            run.dense &= run.end == place.base;
            run.end = place.last.next();
            run.len += place.size;
            if place.max_timestamp > run.max_timestamp {
                run.max_timestamp = place.max_timestamp;
                run.max_timestamp_at = place.base;
            }
        }
        self.position += place.size;
    }

    /// Adds the transactions whose abort markers are among the last run's batches.
    pub fn set_aborted(&mut self, aborted: Vec<AbortedTxn>) {
        if let Some((_, index)) = self.runs.last_mut() {
            index.set_aborted(aborted);
        }
    }

    /// Ends the last run: the next batch begins another, also when it is of the same partition.
    pub fn end_run(&mut self) {
        self.is_ended = true;
    }

    /// Marks the last run as one in and before which offsets may be missing.
    pub fn set_sparse(&mut self) {
        if let Some((run, _)) = self.runs.last_mut() {
            run.dense = false;
        }
    }

    /// Marks the last run as compacted.
    pub fn set_compacted(&mut self) {
        if let Some((run, _)) = self.runs.last_mut() {
            run.compacted = true;
        }
    }

    /// Ends the blob.
    #[must_use]
    pub fn finish(self) -> Finished {
        let mut tail = Vec::new();
        let mut runs = Vec::with_capacity(self.runs.len());
        for (mut run, index) in self.runs {
            let from = tail.len();
            index.encode(&mut tail);
            let encoded = tail.get(from..).unwrap_or_default();
            run.index_position = self.position + from as u64;
            run.index_len = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
            run.index_crc = crc32c(encoded);
            runs.push(run);
        }
        let mut directory = Vec::with_capacity(runs.len() * RUN_SIZE);
        for run in &runs {
            run.encode(&mut directory);
        }
        let footer = Footer {
            directory_position: self.position + tail.len() as u64,
            directory_len: u32::try_from(directory.len()).unwrap_or(u32::MAX),
            directory_crc: crc32c(&directory),
        };
        tail.extend_from_slice(&directory);
        tail.extend_from_slice(&footer.encode());
        Finished { tail: tail.into(), runs }
    }
}

impl Footer {
    /// The footer's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; FOOTER_SIZE] {
        let runs = self.directory_len / RUN_SIZE as u32;
        let mut out = Vec::with_capacity(FOOTER_SIZE);
        out.extend_from_slice(&self.directory_position.to_be_bytes());
        out.extend_from_slice(&self.directory_len.to_be_bytes());
        out.extend_from_slice(&runs.to_be_bytes());
        out.extend_from_slice(&self.directory_crc.to_be_bytes());
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(&FOOTER_MAGIC);
        let mut bytes = [0; FOOTER_SIZE];
        bytes.copy_from_slice(&out);
        bytes
    }

    /// Reads a footer: the last [`FOOTER_SIZE`] bytes of a blob.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes are too few, are damaged, or are not a footer.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let summed =
            bytes.get(..FOOTER_SUMMED).ok_or(DecodeError::Truncated { field: "footer" })?;
        let mut cursor = Cursor::new(bytes);
        let footer = Self {
            directory_position: cursor.u64("footer.directory_position")?,
            directory_len: cursor.u32("footer.directory_len")?,
            directory_crc: {
                cursor.u32("footer.runs")?;
                cursor.u32("footer.directory_crc")?
            },
        };
        let crc = cursor.u32("footer.crc")?;
        if cursor.array::<8>("footer.magic")? != FOOTER_MAGIC {
            return Err(DecodeError::Invalid { field: "footer.magic" });
        }
        if crc != crc32c(summed) || !(footer.directory_len as usize).is_multiple_of(RUN_SIZE) {
            return Err(DecodeError::Invalid { field: "footer.crc" });
        }
        Ok(footer)
    }

    /// Reads the runs that the directory lists.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when `directory` is not what the footer says.
    pub fn runs(&self, directory: &[u8]) -> Result<Vec<Run>, DecodeError> {
        if directory.len() != self.directory_len as usize || crc32c(directory) != self.directory_crc
        {
            return Err(DecodeError::Invalid { field: "directory.crc" });
        }
        let mut cursor = Cursor::new(directory);
        let mut runs = Vec::new();
        while !cursor.is_empty() {
            runs.push(Run::decode(&mut cursor)?);
        }
        Ok(runs)
    }
}

/// Reads a run's index, checking it against what the run says of it.
///
/// # Errors
///
/// [`DecodeError`] when `bytes` are not the run's index.
pub fn decode_index(run: &Run, bytes: &[u8]) -> Result<RunIndex, DecodeError> {
    if bytes.len() != run.index_len as usize || crc32c(bytes) != run.index_crc {
        return Err(DecodeError::Invalid { field: "index.crc" });
    }
    let index = RunIndex::decode(bytes)?;
    let fits = index
        .entries()
        .first()
        .is_some_and(|first| first.offset == run.base && first.position == 0)
        && index
            .entries()
            .last()
            .is_some_and(|last| last.offset < run.end && last.position < run.len);
    if fits { Ok(index) } else { Err(DecodeError::Invalid { field: "index.entries" }) }
}

/// A place from its numbers, for callers that have them apart.
#[must_use]
pub const fn place(base: Offset, last: Offset, max_timestamp: Timestamp, size: u64) -> Place {
    Place { base, last, max_timestamp, size }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_types::Uuid;

    fn partition(index: i32) -> PartitionId {
        PartitionId { topic: Uuid([7; 16]), index }
    }

    fn blob(batches: &[(i32, i64, i64, u64, i64)]) -> (Vec<u8>, Vec<Run>) {
        let (mut writer, head) = SegmentWriter::new(Uuid([1; 16]), SessionId(3));
        let mut blob = head.to_vec();
        for &(of, base, last, size, time) in batches {
            writer.push(partition(of), &place(Offset(base), Offset(last), Timestamp(time), size));
            blob.resize(blob.len() + usize::try_from(size).unwrap(), 0xbb);
        }
        let finished = writer.finish();
        blob.extend_from_slice(&finished.tail);
        (blob, finished.runs)
    }

    #[test]
    fn a_blob_tells_by_itself_what_is_in_it() {
        let (blob, runs) =
            blob(&[(0, 0, 4, 100, 9), (0, 5, 5, 50, 7), (1, 10, 10, 70, -1), (1, 12, 12, 70, 3)]);
        let footer = Footer::decode(&blob[blob.len() - FOOTER_SIZE..]).unwrap();
        let at = usize::try_from(footer.directory_position).unwrap();
        let directory = &blob[at..at + footer.directory_len as usize];
        assert_eq!(footer.runs(directory).unwrap(), runs);
        assert_eq!(FileHeader::decode(&blob, FileKind::Segment).unwrap().numbers[0], 3);
        let told: Vec<_> = runs
            .iter()
            .map(|r| (r.partition.index, r.base.0, r.end.0, r.dense, r.position, r.len))
            .collect();
        assert_eq!(told, [(0, 0, 6, true, 64, 150), (1, 10, 13, false, 214, 140)]);
        assert_eq!((runs[0].max_timestamp.0, runs[0].max_timestamp_at.0), (9, 0));
        assert_eq!((runs[1].max_timestamp.0, runs[1].max_timestamp_at.0), (3, 12));
        for run in &runs {
            let from = usize::try_from(run.index_position).unwrap();
            let index = decode_index(run, &blob[from..from + run.index_len as usize]).unwrap();
            assert_eq!(index.entries()[0].offset, run.base);
        }
    }

    #[test]
    fn every_flipped_bit_behind_the_batches_is_refused() {
        let (blob, runs) = blob(&[(0, 0, 4, 10, 9), (1, 3, 3, 10, 1)]);
        let read = |blob: &[u8]| -> Result<(), DecodeError> {
            let footer = Footer::decode(&blob[blob.len() - FOOTER_SIZE..])?;
            let at = usize::try_from(footer.directory_position).unwrap();
            let directory = blob
                .get(at..at + footer.directory_len as usize)
                .ok_or(DecodeError::Truncated { field: "directory" })?;
            for run in footer.runs(directory)? {
                let from = usize::try_from(run.index_position).unwrap();
                decode_index(&run, &blob[from..from + run.index_len as usize])?;
            }
            Ok(())
        };
        assert_eq!(read(&blob), Ok(()));
        let from = usize::try_from(runs[0].index_position).unwrap();
        for at in from..blob.len() {
            // The count of runs is summed as well, but nobody reads it.
            for bit in 0..8 {
                let mut damaged = blob.clone();
                damaged[at] ^= 1 << bit;
                assert!(read(&damaged).is_err(), "byte {at} bit {bit}");
            }
        }
    }
}
