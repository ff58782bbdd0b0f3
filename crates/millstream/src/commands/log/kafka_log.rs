//! A partition's folder as Apache Kafka keeps it: `.log`, `.index` and `.timeindex` files.
//!
//! ```text
//! 00000000000000000000.log        batches back to back, as on the wire
//! 00000000000000000000.index      relative offset i32 | position i32
//! 00000000000000000000.timeindex  timestamp i64 | relative offset i32
//! ```
//!
//! The name is the base offset of the file's first batch; offsets in the indexes count from it.
//! An entry of the index names the last offset of a batch, and where that batch starts; one of the
//! time index says that no batch up to that offset is later than its timestamp. There is an entry
//! of each for about every 4 KiB. All as Kafka's own recovery writes them.

#![cfg_attr(
    test,
    expect(
        clippy::disallowed_methods,
        reason = "what is exported lies outside the data directory"
    )
)]

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use millstream_record::{BatchHeader, StoredBatch};
use millstream_types::{Offset, Timestamp};

/// The most bytes of one `.log` file (Kafka's default for `log.segment.bytes`).
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// There is an index entry when more bytes than these came since the last (Kafka's default for
/// `log.index.interval.bytes`).
const INDEX_INTERVAL_BYTES: u64 = 4096;

/// Writes one partition's folder.
#[derive(Debug)]
pub(super) struct KafkaLog {
    folder: PathBuf,
    file_bytes_max: u64,
    part: Option<Part>,
    files: u64,
}

/// One `.log` file and its indexes.
#[derive(Debug)]
struct Part {
    base: Offset,
    log: BufWriter<File>,
    size: u64,
    index: Vec<u8>,
    times: Vec<u8>,
    /// Where the batch of the last index entry starts.
    indexed: u64,
    /// The latest timestamp so far, and the last offset of the first batch that has it.
    newest: (Timestamp, Offset),
    /// The timestamp of the last entry of the time index.
    timed: Timestamp,
}

impl KafkaLog {
    /// A new folder, which may be there and must be empty.
    pub(super) fn create(folder: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(&folder)?;
        if fs::read_dir(&folder)?.next().is_some() {
            let why = "there is something in it already; export to an empty folder";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
        }
        Ok(Self { folder, file_bytes_max: FILE_BYTES_MAX, part: None, files: 0 })
    }

    /// Adds the next batch.
    pub(super) fn push(&mut self, header: &BatchHeader, batch: &StoredBatch) -> io::Result<()> {
        let (size, last) = (batch.size() as u64, header.last_offset());
        let is_full =
            |part: &Part| part.size + size > self.file_bytes_max || part.relative(last).is_none();
        if self.part.as_ref().is_some_and(is_full) {
            self.end_part()?;
        }
        let part = match &mut self.part {
            Some(part) => part,
            None => {
                self.files += 1;
                self.part.insert(Part::create(&self.folder, header.base_offset)?)
            }
        };
        part.push(header, batch)
    }

    /// Ends the folder; an empty partition starts at `start`. Returns how many `.log` files it has.
    pub(super) fn finish(mut self, start: Offset) -> io::Result<u64> {
        if self.part.is_none() {
            self.files += 1;
            self.part = Some(Part::create(&self.folder, start)?);
        }
        self.end_part()?;
        Ok(self.files)
    }

    fn end_part(&mut self) -> io::Result<()> {
        match self.part.take() {
            Some(part) => part.finish(&self.folder),
            None => Ok(()),
        }
    }
}

impl Part {
    fn create(folder: &Path, base: Offset) -> io::Result<Self> {
        let log = File::create_new(path(folder, base, "log"))?;
        Ok(Self {
            base,
            log: BufWriter::with_capacity(1024 * 1024, log),
            size: 0,
            index: Vec::new(),
            times: Vec::new(),
            indexed: 0,
            newest: (Timestamp::NONE, base),
            timed: Timestamp::NONE,
        })
    }

    fn relative(&self, offset: Offset) -> Option<i32> {
        i32::try_from(offset.0.checked_sub(self.base.0)?).ok()
    }

    fn push(&mut self, header: &BatchHeader, batch: &StoredBatch) -> io::Result<()> {
        let last = header.last_offset();
        if header.max_timestamp > self.newest.0 {
            self.newest = (header.max_timestamp, last);
        }
        if self.size - self.indexed > INDEX_INTERVAL_BYTES {
            let position = i32::try_from(self.size).map_err(io::Error::other)?;
            let offset = self.relative(last).ok_or(io::ErrorKind::InvalidData)?;
            self.index.extend(offset.to_be_bytes());
            self.index.extend(position.to_be_bytes());
            self.note_time()?;
            self.indexed = self.size;
        }
        for segment in batch.segments() {
            self.log.write_all(segment)?;
        }
        self.size += batch.size() as u64;
        Ok(())
    }

    /// Adds the latest timestamp to the time index, unless it is there.
    fn note_time(&mut self) -> io::Result<()> {
        let (timestamp, offset) = self.newest;
        if timestamp > self.timed {
            let offset = self.relative(offset).ok_or(io::ErrorKind::InvalidData)?;
            self.times.extend(timestamp.0.to_be_bytes());
            self.times.extend(offset.to_be_bytes());
            self.timed = timestamp;
        }
        Ok(())
    }

    fn finish(mut self, folder: &Path) -> io::Result<()> {
        self.note_time()?;
        self.log.flush()?;
        for (suffix, bytes) in [("index", &self.index), ("timeindex", &self.times)] {
            File::create_new(path(folder, self.base, suffix))?.write_all(bytes)?;
        }
        Ok(())
    }
}

fn path(folder: &Path, base: Offset, suffix: &str) -> PathBuf {
    folder.join(format!("{:020}.{suffix}", base.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_record::BatchBuilder;
    use millstream_types::LeaderEpoch;

    /// Base offset, timestamp and size of the value.
    fn export(max: u64, batches: &[(i64, i64, usize)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let mut log = KafkaLog::create(dir.path().join("t-0")).unwrap();
        log.file_bytes_max = max;
        for &(base, time, size) in batches {
            let mut builder = BatchBuilder::new();
            builder.append(Timestamp(time), None, Some(&vec![0; size]), &[]);
            builder.append(Timestamp(time - 1), None, None, &[]);
            let batch = builder.build_valid().unwrap().assign(Offset(base), LeaderEpoch(3));
            log.push(&batch.header().unwrap(), &batch).unwrap();
        }
        log.finish(Offset(0)).unwrap();
        dir
    }

    #[track_caller]
    fn check(dir: &tempfile::TempDir, base: i64, index: &[(i32, i32)], times: &[(i64, i32)]) {
        let read = |suffix| fs::read(path(&dir.path().join("t-0"), Offset(base), suffix)).unwrap();
        let expected = index.iter().flat_map(|(o, p)| [o.to_be_bytes(), p.to_be_bytes()]).flatten();
        assert_eq!(read("index"), expected.collect::<Vec<_>>());
        let expected = times.iter().flat_map(|(time, offset)| {
            [time.to_be_bytes().as_slice(), &offset.to_be_bytes()].concat()
        });
        assert_eq!(read("timeindex"), expected.collect::<Vec<_>>());
    }

    #[test]
    fn indexes_have_an_entry_for_each_interval() {
        // Two records, one with a value of so many bytes, make a batch of 77 bytes more.
        let size = 4096 - 77;
        let dir =
            export(1 << 20, &[(0, 50, size), (2, 40, 1), (4, 70, size), (6, 60, size), (8, 80, 5)]);
        let size_of = |name: &str| fs::metadata(dir.path().join("t-0").join(name)).unwrap().len();
        assert!(size_of("00000000000000000000.log") > 3 * 4096);
        // Exactly 4,096 bytes after the last entry is not yet more than the interval.
        check(&dir, 0, &[(5, 4172), (9, 12364)], &[(70, 5), (80, 9)]);
    }

    #[test]
    fn files_end_at_their_size_and_where_offsets_get_too_far() {
        let dir = export(200, &[(5, 1, 1), (7, 2, 1), (9, 3, 1)]);
        check(&dir, 5, &[], &[(2, 3)]);
        check(&dir, 9, &[], &[(3, 1)]);
        let far = i64::from(i32::MAX) + 6;
        let dir = export(1 << 20, &[(5, 1, 1), (far, -1, 1)]);
        check(&dir, 5, &[], &[(1, 1)]);
        check(&dir, far, &[], &[]);
    }

    #[test]
    fn what_is_there_is_not_overwritten() {
        let dir = export(200, &[]);
        check(&dir, 0, &[], &[]);
        assert!(KafkaLog::create(dir.path().join("t-0")).is_err());
    }
}
