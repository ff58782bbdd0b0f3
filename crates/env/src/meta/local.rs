//! The metadata log in files of a local disk.
//!
//! ```text
//! meta/<first>.log       entries from number <first> on, in blocks of 4,096 bytes
//! meta/<upto>.snapshot   the state up to entry <upto>
//! meta/*.tmp             left behind by a crash
//! ```
//!
//! There is one log file. A snapshot is written first; then a new log file with the entries that it
//! does not cover takes the place of the old one. The last entry may be torn by a power cut: it
//! was not acknowledged, and is cut off. Anything else that can't be read is corruption.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use millstream_record::crc32c;
use millstream_record::file::{FILE_HEADER_SIZE, FileError, FileHeader, FileKind};
use millstream_record::journal::{BLOCK, align_up};
use millstream_record::meta::{META_ENTRY_MAX, META_HEADER_SIZE, MetaHeader};
use millstream_types::ClusterId;

use super::{MetaContents, MetaError, MetaLog, MetaSnapshot};
use crate::data_dir::Flaw;
use crate::disk::{Access, Caching, Disk, DiskFile, read_whole, write_whole};
use crate::util::{blocking, lock};
use crate::world::Env;

mod look;

const DIR: &str = "meta";

/// The most bytes that the log's file or a snapshot may have.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// The metadata log in the folder `meta` of a local disk.
#[derive(Debug)]
pub struct LocalMetaLog {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    env: Env,
    cluster: ClusterId,
    /// Nothing before the first `load`, and after something failed: then nobody knows what is on
    /// the disk until it is read again.
    state: Mutex<Option<State>>,
    /// Bytes written, in whole blocks.
    written: AtomicU64,
}

#[derive(Debug)]
struct State {
    file: Arc<dyn DiskFile>,
    /// The number of the log file's first entry.
    first: u64,
    salt: u64,
    /// Where each entry starts, and its bytes with the header.
    places: BTreeMap<u64, (u64, u64)>,
    /// Where the next entry will be.
    end: u64,
    next: u64,
}

struct Found {
    snapshots: Vec<u64>,
    logs: Vec<u64>,
}

impl LocalMetaLog {
    /// A log in the folder `meta` of `disk`; nothing is read yet.
    #[must_use]
    pub fn new(disk: Arc<dyn Disk>, env: Env, cluster: ClusterId) -> Self {
        let (state, written) = (Mutex::new(None), AtomicU64::new(0));
        Self { inner: Arc::new(Inner { disk, env, cluster, state, written }) }
    }

    /// Reads what can be read, damaged as it may be: what is there of snapshot and entries, and what is
    /// wrong with the rest. Changes nothing.
    ///
    /// # Errors
    ///
    /// [`MetaError::Storage`] when the disk fails.
    pub async fn look(&self) -> Result<(MetaContents, Vec<Flaw>), MetaError> {
        self.run(Inner::look).await
    }

    /// Has everything that is there, damaged as it may be, replaced by `state`. When this is interrupted,
    /// what was there still is, or `state` is all there is; [`LocalMetaLog::look`] finds either.
    ///
    /// # Errors
    ///
    /// [`MetaError`] when the disk fails.
    pub async fn rewrite(&self, state: Bytes) -> Result<(), MetaError> {
        self.run(move |inner| inner.rewrite(state)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, MetaError> + Send + 'static,
    ) -> Result<T, MetaError> {
        let inner = Arc::clone(&self.inner);
        blocking(&self.inner.disk, move || work(&inner)).await
    }
}

impl MetaLog for LocalMetaLog {
    fn append(&self, at: u64, entry: Bytes) -> BoxFuture<'_, Result<(), MetaError>> {
        Box::pin(self.run(move |inner| inner.append(at, &entry)))
    }

    fn load(&self) -> BoxFuture<'_, Result<MetaContents, MetaError>> {
        Box::pin(self.run(Inner::load))
    }

    fn written(&self) -> u64 {
        self.inner.written.load(Ordering::Relaxed)
    }

    fn snapshot(&self, snapshot: MetaSnapshot) -> BoxFuture<'_, Result<(), MetaError>> {
        Box::pin(self.run(move |inner| inner.snapshot(&snapshot)))
    }
}

impl Inner {
    fn append(&self, at: u64, entry: &[u8]) -> Result<(), MetaError> {
        self.with_state(|state| {
            if at < state.next {
                return Err(MetaError::Taken(at));
            }
            if at > state.next {
                let next = state.next;
                return Err(MetaError::Storage(format!("entry {at} is not the next, {next} is")));
            }
            if entry.len() > META_ENTRY_MAX {
                let why = format!("entry {at} has more than {META_ENTRY_MAX} bytes");
                return Err(MetaError::Storage(why));
            }
            let size = write_entry(&*state.file, state.end, at, state.salt, entry)
                .and_then(|size| state.file.sync().map(|()| size))
                .map_err(storage)?;
            self.wrote(size);
            state.places.insert(at, (state.end, size));
            state.end = align_up(state.end + size);
            state.next += 1;
            Ok(())
        })
    }

    fn snapshot(&self, snapshot: &MetaSnapshot) -> Result<(), MetaError> {
        self.with_state(|state| {
            let upto = snapshot.upto;
            if upto >= state.next {
                let why = format!("there is no entry {upto} that a snapshot could contain");
                return Err(MetaError::Storage(why));
            }
            if upto + 1 < state.first {
                // A later one is there already.
                return Ok(());
            }
            self.write_snapshot(snapshot)?;
            *state = self.new_log(upto + 1, Some(state)).map_err(storage)?;
            self.clean(&self.find()?, Some(upto), upto + 1)
        })
    }

    fn write_snapshot(&self, snapshot: &MetaSnapshot) -> Result<(), MetaError> {
        let MetaSnapshot { upto, state } = snapshot;
        let header = FileHeader {
            kind: FileKind::Snapshot,
            cluster: self.cluster,
            numbers: [*upto, state.len() as u64, crc32c(state).into(), 0],
        };
        write_whole(&*self.disk, &snapshot_path(*upto), &[&header.encode(), state])
            .map_err(storage)?;
        self.wrote((FILE_HEADER_SIZE + state.len()) as u64);
        Ok(())
    }

    fn rewrite(&self, state: Bytes) -> Result<(), MetaError> {
        *lock(&self.state) = None;
        let found = self.find()?;
        let ((_, entries), _) = self.look()?;
        let numbers = found.snapshots.iter().chain(&found.logs).copied();
        let numbers = numbers.chain(entries.iter().map(|(number, _)| *number));
        // Above all that was ever seen: it covers that, however much of it is left.
        let upto = numbers.max().unwrap_or(0).saturating_add(1);
        self.write_snapshot(&MetaSnapshot { upto, state })?;
        self.new_log(upto + 1, None).map_err(storage)?;
        self.clean(&self.find()?, Some(upto), upto + 1)
    }

    fn load(&self) -> Result<MetaContents, MetaError> {
        let mut current = lock(&self.state);
        *current = None;
        self.disk.create_dir(DIR).map_err(storage)?;
        // What a process that was killed has renamed is to be seen, but may still be undone, and
        // what it replaced is removed below.
        self.disk.sync_dir(DIR).map_err(storage)?;
        let found = self.find()?;
        let snapshot = found.snapshots.iter().max().map(|&upto| self.read_snapshot(upto));
        let snapshot = snapshot.transpose()?;
        let upto = snapshot.as_ref().map(|snapshot| snapshot.upto);
        let (state, entries) = match found.logs.iter().max() {
            Some(&first) => {
                if first > upto.map_or(1, |upto| upto + 1) {
                    let why = format!("the snapshot before entry {first} is missing");
                    return Err(MetaError::Corrupt(why));
                }
                self.read_log(first)?
            }
            // The log that a snapshot replaces is removed after the one behind it was made.
            None => match upto {
                Some(upto) => {
                    let why = format!("the log that belongs to the snapshot {upto} is missing");
                    return Err(MetaError::Corrupt(why));
                }
                None => (self.new_log(1, None).map_err(storage)?, Vec::new()),
            },
        };
        if upto.is_some_and(|upto| upto >= state.next) {
            let why = format!("the log ends at entry {}, before its snapshot", state.next - 1);
            return Err(MetaError::Corrupt(why));
        }
        self.clean(&found, upto, state.first)?;
        // What is returned may be built upon, so it must be durable.
        state.file.sync().map_err(storage)?;
        *current = Some(state);
        let covered = upto.unwrap_or(0);
        Ok((snapshot, entries.into_iter().filter(|&(number, _)| number > covered).collect()))
    }

    /// Runs `work` on the state, and forgets the state when storage fails: what is on the disk is
    /// then found out by the next `load`.
    fn with_state(
        &self,
        work: impl FnOnce(&mut State) -> Result<(), MetaError>,
    ) -> Result<(), MetaError> {
        let mut current = lock(&self.state);
        if current.is_none() {
            drop(current);
            self.load()?;
            current = lock(&self.state);
        }
        let Some(state) = current.as_mut() else {
            return Err(MetaError::Storage("the metadata log was not loaded".to_owned()));
        };
        let (before, done) = (state.next, work(state));
        let refused = matches!(done, Err(MetaError::Taken(_)));
        if done.is_err() && !refused {
            tracing::warn!(next = before, "the metadata log failed and will be read again");
            *current = None;
        }
        done
    }

    fn wrote(&self, bytes: u64) {
        self.written.fetch_add(align_up(bytes), Ordering::Relaxed);
    }

    fn find(&self) -> Result<Found, MetaError> {
        let mut found = Found { snapshots: Vec::new(), logs: Vec::new() };
        for entry in self.disk.list(DIR).map_err(storage)? {
            let number = |suffix| entry.name.strip_suffix(suffix).and_then(|n| n.parse().ok());
            if let Some(upto) = number(".snapshot") {
                found.snapshots.push(upto);
            } else if let Some(first) = number(".log") {
                found.logs.push(first);
            }
        }
        Ok(found)
    }

    /// Removes what is superseded.
    fn clean(&self, found: &Found, upto: Option<u64>, first: u64) -> Result<(), MetaError> {
        let old = found.snapshots.iter().filter(|&&old| Some(old) != upto);
        let snapshots = old.map(|&old| snapshot_path(old));
        let logs = found.logs.iter().filter(|&&old| old != first).map(|&old| log_path(old));
        for path in snapshots.chain(logs) {
            self.disk.remove(&path).map_err(storage)?;
        }
        Ok(())
    }

    fn read_snapshot(&self, upto: u64) -> Result<MetaSnapshot, MetaError> {
        let path = snapshot_path(upto);
        let bytes = read_whole(&*self.disk, &path, FILE_BYTES_MAX).map_err(storage)?;
        let header = FileHeader::decode(&bytes, FileKind::Snapshot)
            .and_then(|header| header.of(self.cluster))
            .map_err(|error| refused(&path, error))?;
        let state = Bytes::from(bytes).slice(FILE_HEADER_SIZE..);
        let [number, size, checksum, _] = header.numbers;
        let told = (upto, state.len() as u64, u64::from(crc32c(&state)));
        if (number, size, checksum) != told {
            return Err(MetaError::Corrupt(format!("{path} is not what was written")));
        }
        Ok(MetaSnapshot { upto, state })
    }

    fn read_log(&self, first: u64) -> Result<(State, Vec<(u64, Bytes)>), MetaError> {
        let path = log_path(first);
        let file = self.disk.open(&path, Access::Write, Caching::Cached).map_err(storage)?;
        // After a failed flush, the cache may show what the medium does not have.
        file.drop_cache();
        let bytes = read_whole(&*self.disk, &path, FILE_BYTES_MAX).map_err(storage)?;
        let header = FileHeader::decode(&bytes, FileKind::Meta)
            .and_then(|header| header.of(self.cluster))
            .map_err(|error| refused(&path, error))?;
        let [number, salt, ..] = header.numbers;
        if number != first {
            return Err(MetaError::Corrupt(format!("{path} starts with entry {number}")));
        }
        let bytes = Bytes::from(bytes);
        let places = BTreeMap::new();
        let mut state = State { file, first, salt, places, end: BLOCK, next: first };
        let mut entries = Vec::new();
        while let Some(entry) = entry_at(&bytes, state.end, salt, state.next) {
            let size = (META_HEADER_SIZE + entry.len()) as u64;
            state.places.insert(state.next, (state.end, size));
            entries.push((state.next, entry));
            state.end = align_up(state.end + size);
            state.next += 1;
        }
        check_rest(&bytes, &state, &path)?;
        // Whatever is left of a torn entry must not be found behind a shorter one later.
        if bytes.len() as u64 > state.end {
            state.file.resize(state.end).map_err(storage)?;
        }
        Ok((state, entries))
    }

    /// Makes the log file that starts with entry `first`, and copies what `old` has from there on.
    fn new_log(&self, first: u64, old: Option<&State>) -> io::Result<State> {
        let mut salt = [0; 8];
        self.env.random.fill(&mut salt);
        let salt = u64::from_be_bytes(salt);
        let path = log_path(first);
        let temporary = format!("{path}.tmp");
        match self.disk.remove(&temporary) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = self.disk.open(&temporary, Access::Create, Caching::Cached)?;
        let numbers = [first, salt, 0, 0];
        let header = FileHeader { kind: FileKind::Meta, cluster: self.cluster, numbers };
        let mut block = header.encode().to_vec();
        block.resize(BLOCK as usize, 0);
        file.write_at(&[IoSlice::new(&block)], 0)?;
        self.wrote(BLOCK);
        let next = old.map_or(first, |old| old.next);
        let places = BTreeMap::new();
        let mut state = State { file, first, salt, places, end: BLOCK, next };
        for (&number, &(at, size)) in old.iter().flat_map(|old| old.places.range(first..)) {
            let Some(old) = old else { break };
            let mut entry = vec![0; usize::try_from(size).map_err(io::Error::other)?];
            if old.file.read_at(&mut entry, at)? < entry.len() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let entry = entry.get(META_HEADER_SIZE..).unwrap_or_default();
            let size = write_entry(&*state.file, state.end, number, salt, entry)?;
            self.wrote(size);
            state.places.insert(number, (state.end, size));
            state.end = align_up(state.end + size);
        }
        state.file.sync()?;
        self.disk.rename(&temporary, &path)?;
        self.disk.sync_dir(DIR)?;
        Ok(state)
    }
}

/// Writes an entry and zeros to the next block; returns its size with its header.
fn write_entry(
    file: &dyn DiskFile,
    at: u64,
    number: u64,
    salt: u64,
    entry: &[u8],
) -> io::Result<u64> {
    let header = MetaHeader::new(number, salt, entry).encode();
    let size = (header.len() + entry.len()) as u64;
    let padding = vec![0; usize::try_from(align_up(size) - size).map_err(io::Error::other)?];
    let parts = [IoSlice::new(&header), IoSlice::new(entry), IoSlice::new(&padding)];
    file.write_at(&parts, at)?;
    Ok(size)
}

/// The entry `number`, if it is intact at `at`.
fn entry_at(bytes: &Bytes, at: u64, salt: u64, number: u64) -> Option<Bytes> {
    let at = usize::try_from(at).ok()?;
    let header = MetaHeader::decode(bytes.get(at..)?, salt).ok()?;
    let start = at + META_HEADER_SIZE;
    let entry = bytes.get(start..start.checked_add(header.length)?)?;
    (header.number == number && header.covers(entry)).then(|| bytes.slice_ref(entry))
}

/// Refuses a log in which something can't be read, and something after it can: entries are written
/// one after the other, so that only the last one may be torn.
fn check_rest(bytes: &Bytes, state: &State, path: &str) -> Result<(), MetaError> {
    let mut at = state.end + BLOCK;
    while at < bytes.len() as u64 {
        let header = usize::try_from(at)
            .ok()
            .and_then(|at| MetaHeader::decode(bytes.get(at..)?, state.salt).ok());
        // That it was begun says that the one before was finished. The salt says that it was.
        if let Some(later) = header.filter(|header| header.number > state.next) {
            return Err(MetaError::Corrupt(format!(
                "entry {} in {path} can't be read, though entry {} was written after it",
                state.next, later.number
            )));
        }
        at += BLOCK;
    }
    Ok(())
}

fn storage(error: io::Error) -> MetaError {
    MetaError::Storage(error.to_string())
}

fn refused(path: &str, error: FileError) -> MetaError {
    let why = format!("{path}: {error}");
    match error {
        FileError::Truncated | FileError::Checksum(_) | FileError::Magic(_) => {
            MetaError::Corrupt(why)
        }
        _ => MetaError::Storage(why),
    }
}

fn log_path(first: u64) -> String {
    format!("{DIR}/{first:020}.log")
}

fn snapshot_path(upto: u64) -> String {
    format!("{DIR}/{upto:020}.snapshot")
}
