//! Blobs as files of a local disk.
//!
//! ```text
//! blobs/<name>.blob    a blob; the slashes of its name are folders
//! blobs/<name>.tmp<n>  one that is being written, or was when the process died
//! ```
//!
//! Neither a dot nor a tilde is legal in a name, so that these never meet. A blob is written under
//! its temporary name, flushed, and then linked to its own, which fails if that is taken; the
//! folder is flushed before anybody is told. A blob that was deleted may come back after a power
//! cut, and one whose creation was interrupted may be there: neither is referred to by anything.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use millstream_memory::Arena;
use millstream_record::journal::BLOCK;

use super::{BlobError, BlobName, BlobStore, Created, Space};
use crate::disk::{Access, AlignedBuffer, Caching, Disk, DiskFile, parent};
use crate::reserve::{Reserve, Use};
use crate::util::blocking;

const DIR: &str = "blobs";
const SUFFIX: &str = ".blob";

/// What the names of checkpoints begin with.
const URGENT: &str = "checkpoint/";

/// How much is written at a time, in bytes. The journal writes up to 8 MiB at a time: with less than half of
/// that, layout falls behind it on a busy disk (measured: 325 MB/s produced with 1 MiB, 477 with 4).
const CHUNK: usize = millstream_memory::CHUNK;

/// So many blobs are written at a time from memory that is used over and over.
const WRITTEN_CHUNKS: usize = 4;

/// At most so much of what was read at once is in such memory: 64 MiB. What readers ask for beyond that, in
/// memory as it comes.
const READ_CHUNKS: usize = 16;

/// So much is written when what comes next is not there yet, in bytes.
const DRAINED_MIN: usize = 128 * 1024;

/// Reads of so many bytes go around the page cache: filling it costs more than the disk does (measured: 0.95
/// CPU-seconds per GiB that clients read back, around it 0.7), and who reads that much at once goes on to
/// what comes next.
const DIRECT_MIN: u64 = 64 * 1024;

/// How often a folder is made anew when it is removed, being empty, before a file comes into it.
const ATTEMPTS: usize = 8;

/// Blobs in the folder `blobs` of a local disk.
#[derive(Debug)]
pub struct LocalBlobStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    disk: Arc<dyn Disk>,
    /// The same for checkpoints, without which nothing is ever given back: they may use up the reserve.
    urgent: Arc<dyn Disk>,
    next_temporary: AtomicU64,
    /// For what is written, and for what is read until it is sent.
    written: Arena,
    read: Arena,
}

/// A blob that is being written.
struct Upload {
    inner: Arc<Inner>,
    name: BlobName,
    path: String,
    file: Arc<dyn DiskFile>,
    chunk: AlignedBuffer,
    filled: usize,
    written: u64,
    /// Whether the temporary name is gone.
    is_published: bool,
}

impl LocalBlobStore {
    /// Opens the store and removes what a crash left half written. Blocks.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn open(disk: Arc<dyn Disk>) -> io::Result<Self> {
        Self::open_in(&Reserve::without_reserve(disk))
    }

    /// The same on a disk of which a part is set aside. Blocks.
    pub(crate) fn open_in(reserve: &Arc<Reserve>) -> io::Result<Self> {
        let (disk, urgent) = (reserve.disk(Use::Segments), reserve.disk(Use::Metadata));
        urgent.create_dir(DIR)?;
        let next_temporary = AtomicU64::new(0);
        let (written, read) = (Arena::new(WRITTEN_CHUNKS), Arena::new(READ_CHUNKS));
        let inner = Inner { disk, urgent, next_temporary, written, read };
        for (path, _) in inner.walk(DIR)? {
            if !path.ends_with(SUFFIX) {
                inner.disk.remove(&path)?;
            }
        }
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Takes over a blob of `other` without copying it, by a second name for the same file: it never changes,
    /// and each of the two goes when its own store deletes it. Returns whether that could be done: they must
    /// be on one file system, and that must have such names.
    ///
    /// # Errors
    ///
    /// [`BlobError::NotFound`] when `other` has no such blob, [`BlobError::Full`].
    pub async fn link(&self, other: &Self, name: &BlobName) -> Result<bool, BlobError> {
        let path = path(name);
        let Some(source) = other.inner.disk.os_path(&path) else { return Ok(false) };
        let inner = Arc::clone(&self.inner);
        let linked = blocking(&self.inner.disk, move || {
            inner.disk.create_dir(parent(&path))?;
            inner.disk.link(&source, &path)?;
            inner.disk.sync_dir(parent(&path))
        });
        match linked.await {
            Ok(()) => Ok(true),
            Err(error) => match failed(name, &error) {
                BlobError::Storage { .. } => Ok(false),
                known => Err(known),
            },
        }
    }

    async fn upload_all(
        &self,
        name: BlobName,
        mut body: BoxStream<'static, Result<Bytes, BlobError>>,
    ) -> Result<u64, BlobError> {
        let disk = &self.inner.disk;
        let inner = Arc::clone(&self.inner);
        let mut upload = blocking(disk, move || Upload::begin(inner, name)).await?;
        loop {
            // While nothing comes, what has come is written.
            let next = match body.next().now_or_never() {
                Some(next) => next,
                None => {
                    upload = upload.drain().await?;
                    body.next().await
                }
            };
            let Some(piece) = next else { break };
            upload = upload.put(piece?).await?;
        }
        let size = upload.written + upload.filled as u64;
        let name = upload.name.clone();
        match blocking(disk, move || upload.finish()).await? {
            Created::New => Ok(size),
            Created::Exists => {
                let why = "there is a blob of that name, and names are never reused".to_owned();
                Err(BlobError::Storage { name, why })
            }
        }
    }
}

impl BlobStore for LocalBlobStore {
    fn create(
        &self,
        name: BlobName,
        body: Vec<Bytes>,
    ) -> BoxFuture<'_, Result<Created, BlobError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(blocking(&self.inner.disk, move || {
            let mut upload = Upload::begin(inner, name)?;
            for piece in body {
                upload.put_now(&piece)?;
            }
            upload.finish()
        }))
    }

    fn upload(
        &self,
        name: BlobName,
        body: BoxStream<'static, Result<Bytes, BlobError>>,
    ) -> BoxFuture<'_, Result<u64, BlobError>> {
        Box::pin(self.upload_all(name, body))
    }

    fn get(
        &self,
        name: BlobName,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'_, Result<Bytes, BlobError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(blocking(&self.inner.disk, move || {
            inner.read(&name, range).map_err(|error| failed(&name, &error))
        }))
    }

    fn forget(&self, name: &BlobName) -> BoxFuture<'_, ()> {
        let (inner, path) = (Arc::clone(&self.inner), path(name));
        Box::pin(blocking(&self.inner.disk, move || {
            if let Ok(file) = inner.disk.open(&path, Access::Read, Caching::Cached) {
                file.drop_cache();
            }
        }))
    }

    fn sync(&self, names: Vec<BlobName>) -> BoxFuture<'_, Result<(), BlobError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(blocking(&self.inner.disk, move || {
            // What has its name was flushed before; the name may not have been.
            let folder = |name: &BlobName| (parent(&path(name)).to_owned(), name.clone());
            let folders: BTreeMap<_, _> = names.iter().map(folder).collect();
            folders.into_iter().try_for_each(|(folder, name)| {
                inner.disk.sync_dir(&folder).map_err(|error| failed(&name, &error))
            })
        }))
    }

    fn trim(&self) {
        self.inner.written.trim();
        self.inner.read.trim();
    }

    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(BlobName, u64)>, BlobError>> {
        let inner = Arc::clone(&self.inner);
        let prefix = prefix.to_owned();
        Box::pin(blocking(&self.inner.disk, move || {
            // No name stands for a whole listing; the prefix says best what was looked for.
            inner.list(&prefix).map_err(|error| failed(&BlobName(prefix.into()), &error))
        }))
    }

    fn space(&self) -> BoxFuture<'_, Result<Option<Space>, BlobError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(blocking(&self.inner.disk, move || {
            inner.disk.space().map_err(|error| failed(&BlobName(DIR.into()), &error))
        }))
    }

    fn delete(&self, names: Vec<BlobName>) -> BoxFuture<'_, Result<(), BlobError>> {
        let inner = Arc::clone(&self.inner);
        Box::pin(blocking(&self.inner.disk, move || {
            names
                .iter()
                .try_for_each(|name| inner.delete(name).map_err(|error| failed(name, &error)))
        }))
    }
}

impl Inner {
    fn read(&self, name: &BlobName, range: Option<Range<u64>>) -> io::Result<Bytes> {
        let wanted = range.as_ref().map_or(u64::MAX, |range| range.end.saturating_sub(range.start));
        let caching = if wanted < DIRECT_MIN { Caching::Cached } else { Caching::Direct };
        let file = self.disk.open(&path(name), Access::Read, caching)?;
        let size = file.size()?;
        let range = range.unwrap_or(0..size);
        let end = range.end.min(size);
        let start = range.start.min(end);
        // Direct IO wants whole blocks; of the last one there is only a part.
        let from = start - start % BLOCK;
        let whole = usize::try_from(end - from).map_err(io::Error::other)?;
        let mut buffer = AlignedBuffer::new_in(&self.read, whole);
        let read = file.read_at(buffer.bytes_mut(), from)?;
        if read < whole {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(buffer.into_bytes((start - from) as usize..whole))
    }

    fn list(&self, prefix: &str) -> io::Result<Vec<(BlobName, u64)>> {
        let dir = match parent(prefix) {
            "" => DIR.to_owned(),
            folder => format!("{DIR}/{folder}"),
        };
        let name = |path: &str| {
            let name = path.strip_prefix(DIR)?.strip_prefix('/')?.strip_suffix(SUFFIX)?;
            BlobName::new(name).filter(|name| name.as_str().starts_with(prefix))
        };
        let all = self.walk(&dir)?;
        let mut found: Vec<_> =
            all.into_iter().filter_map(|(path, size)| Some((name(&path)?, size))).collect();
        found.sort_unstable();
        Ok(found)
    }

    /// All files below `dir`, with their sizes.
    fn walk(&self, dir: &str) -> io::Result<Vec<(String, u64)>> {
        let mut found = Vec::new();
        let mut dirs = vec![dir.to_owned()];
        while let Some(dir) = dirs.pop() {
            for entry in self.disk.list(&dir)? {
                let path = format!("{dir}/{}", entry.name);
                match entry.is_dir {
                    true => dirs.push(path),
                    false => found.push((path, entry.size)),
                }
            }
        }
        Ok(found)
    }

    fn delete(&self, name: &BlobName) -> io::Result<()> {
        let path = path(name);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // The folders of deleted topics would add up.
        let mut dir = parent(&path);
        while dir.len() > DIR.len() && self.disk.list(dir)?.is_empty() {
            self.disk.remove_dir(dir)?;
            dir = parent(dir);
        }
        Ok(())
    }
}

impl Upload {
    fn begin(inner: Arc<Inner>, name: BlobName) -> Result<Self, BlobError> {
        let number = inner.next_temporary.fetch_add(1, Ordering::Relaxed);
        let path = format!("{DIR}/{name}.tmp{number}");
        let is_urgent = name.as_str().starts_with(URGENT);
        let disk = if is_urgent { &inner.urgent } else { &inner.disk };
        let mut attempt = 0;
        let opened = loop {
            attempt += 1;
            let made = disk.create_dir(parent(&path));
            let opened = made.and_then(|()| disk.open(&path, Access::Create, Caching::Direct));
            match opened {
                Err(error) if error.kind() == ErrorKind::NotFound && attempt < ATTEMPTS => {}
                opened => break opened,
            }
        };
        let file = opened.map_err(|error| failed(&name, &error))?;
        let chunk = AlignedBuffer::new_in(&inner.written, CHUNK);
        Ok(Self { inner, name, path, file, chunk, filled: 0, written: 0, is_published: false })
    }

    /// Adds `piece`, and leaves the async thread where something is to be written.
    async fn put(mut self, piece: Bytes) -> Result<Self, BlobError> {
        if self.filled + piece.len() < CHUNK {
            self.put_now(&piece)?;
            return Ok(self);
        }
        let disk = Arc::clone(&self.inner.disk);
        blocking(&disk, move || self.put_now(&piece).map(|()| self)).await
    }

    /// Writes what has come, but for the rest of a block, if it is enough to be worth a write.
    async fn drain(mut self) -> Result<Self, BlobError> {
        if self.filled < DRAINED_MIN {
            return Ok(self);
        }
        let disk = Arc::clone(&self.inner.disk);
        blocking(&disk, move || {
            let rest = self.filled % BLOCK as usize;
            let whole = self.filled - rest;
            let mut kept = [0; BLOCK as usize];
            kept[..rest].copy_from_slice(&self.chunk.bytes()[whole..self.filled]);
            self.filled = whole;
            self.write_chunk().map_err(|error| failed(&self.name, &error))?;
            self.chunk.bytes_mut()[..rest].copy_from_slice(&kept[..rest]);
            self.filled = rest;
            Ok(self)
        })
        .await
    }

    fn put_now(&mut self, mut piece: &[u8]) -> Result<(), BlobError> {
        while !piece.is_empty() {
            let (now, later) = piece.split_at(piece.len().min(CHUNK - self.filled));
            let end = self.filled + now.len();
            self.chunk.bytes_mut()[self.filled..end].copy_from_slice(now);
            self.filled = end;
            piece = later;
            if self.filled == CHUNK {
                self.write_chunk().map_err(|error| failed(&self.name, &error))?;
            }
        }
        Ok(())
    }

    /// Writes what is filled of the chunk, and zeros to the next block.
    fn write_chunk(&mut self) -> io::Result<()> {
        let padded = self.filled.next_multiple_of(4096);
        let chunk = self.chunk.bytes_mut();
        chunk[self.filled..padded].fill(0);
        self.file.write_at(&[IoSlice::new(&chunk[..padded])], self.written)?;
        self.written += self.filled as u64;
        self.filled = 0;
        Ok(())
    }

    fn finish(mut self) -> Result<Created, BlobError> {
        match self.write_rest() {
            Ok(()) => Ok(Created::New),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // It may have been put there by a process that was killed before this.
                let synced = self.inner.disk.sync_dir(parent(&self.path));
                synced.map_err(|error| failed(&self.name, &error))?;
                Ok(Created::Exists)
            }
            Err(error) => Err(failed(&self.name, &error)),
        }
    }

    fn write_rest(&mut self) -> io::Result<()> {
        let size = self.written + self.filled as u64;
        if self.filled > 0 {
            let cut = !self.filled.is_multiple_of(4096);
            self.write_chunk()?;
            if cut {
                self.file.resize(size)?;
            }
        }
        self.file.sync()?;
        let path = path(&self.name);
        self.inner.disk.publish(&self.path, &path)?;
        self.is_published = true;
        self.inner.disk.sync_dir(parent(&path))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if !self.is_published {
            // Best effort: what stays is removed at the next start.
            let _ = self.inner.disk.remove(&self.path);
        }
    }
}

fn path(name: &BlobName) -> String {
    format!("{DIR}/{name}{SUFFIX}")
}

fn failed(name: &BlobName, error: &io::Error) -> BlobError {
    match error.kind() {
        ErrorKind::NotFound => BlobError::NotFound(name.clone()),
        ErrorKind::StorageFull => BlobError::Full,
        _ => BlobError::Storage { name: name.clone(), why: error.to_string() },
    }
}
