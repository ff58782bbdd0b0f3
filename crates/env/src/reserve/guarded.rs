//! A disk whose users get a part of the reserve when they find no space.

use std::io::{self, ErrorKind, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Reserve;
use crate::disk::{Access, Caching, DirEntry, Disk, DiskFile, Space};

/// What a new name or folder takes, in bytes: a block.
const NAME_BYTES: u64 = 4096;

/// See the module.
#[derive(Debug)]
pub(super) struct Guarded {
    pub(super) inner: Arc<dyn Disk>,
    pub(super) reserve: Arc<Reserve>,
    /// How much of the reserve stays.
    pub(super) floor: u64,
}

#[derive(Debug)]
struct GuardedFile {
    inner: Arc<dyn DiskFile>,
    reserve: Arc<Reserve>,
    floor: u64,
}

/// Runs `work` until it finds space, or there is none to be had.
fn with_room<T>(
    reserve: &Reserve,
    floor: u64,
    bytes: u64,
    mut work: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        let generation = reserve.generation();
        match work() {
            Err(error)
                if error.kind() == ErrorKind::StorageFull
                    && reserve.make_room(bytes, floor, generation) => {}
            done => return done,
        }
    }
}

impl Guarded {
    fn with_room<T>(&self, work: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        with_room(&self.reserve, self.floor, NAME_BYTES, work)
    }
}

impl Disk for Guarded {
    fn in_memory(&self) -> bool {
        self.inner.in_memory()
    }

    fn pause(&self) -> Option<BoxFuture<'static, ()>> {
        self.inner.pause()
    }

    fn open(&self, path: &str, access: Access, caching: Caching) -> io::Result<Arc<dyn DiskFile>> {
        let inner = self.with_room(|| self.inner.open(path, access, caching))?;
        let (reserve, floor) = (Arc::clone(&self.reserve), self.floor);
        Ok(Arc::new(GuardedFile { inner, reserve, floor }))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.with_room(|| self.inner.create_dir(path))
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        self.inner.remove_dir(path)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.with_room(|| self.inner.rename(from, to))
    }

    fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        self.with_room(|| self.inner.publish(from, to))
    }

    fn os_path(&self, path: &str) -> Option<PathBuf> {
        self.inner.os_path(path)
    }

    fn link(&self, source: &Path, to: &str) -> io::Result<()> {
        self.with_room(|| self.inner.link(source, to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        // Not tried again: see the rules of `disk`.
        self.inner.sync_dir(dir)
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<()> {
        self.inner.lock(path, owner)
    }

    fn space(&self) -> io::Result<Option<Space>> {
        self.inner.space()
    }
}

impl DiskFile for GuardedFile {
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(out, position)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()> {
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        // What was written before the space ended is written again.
        with_room(&self.reserve, self.floor, bytes, || self.inner.write_at(parts, position))
    }

    fn sync(&self) -> io::Result<()> {
        // Not tried again: see the rules of `disk`.
        self.inner.sync()
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        let bytes = size.saturating_sub(self.inner.size()?);
        with_room(&self.reserve, self.floor, bytes, || self.inner.resize(size))
    }

    fn drop_cache(&self) {
        self.inner.drop_cache();
    }
}
