//! A disk that is only looked at: what is written to it goes nowhere.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::{Access, Caching, DirEntry, Disk, DiskFile, Space};

/// Another disk, which nobody can change through this one. Changes are swallowed, not refused: who
/// opens a store tidies up after a crash and seals what was not sealed, and goes on with what it
/// has in memory; all of that works here and leaves no trace. Only the lock is real.
#[derive(Debug)]
pub struct ReadOnlyDisk {
    inner: Arc<dyn Disk>,
}

#[derive(Debug)]
struct ReadOnlyFile {
    inner: Arc<dyn DiskFile>,
}

/// What a new file is here: empty, whatever is written to it.
#[derive(Debug)]
struct Nowhere;

impl ReadOnlyDisk {
    /// The same disk, safe from its user.
    #[must_use]
    pub fn new(inner: Arc<dyn Disk>) -> Self {
        Self { inner }
    }
}

impl Disk for ReadOnlyDisk {
    fn in_memory(&self) -> bool {
        self.inner.in_memory()
    }

    fn pause(&self) -> Option<BoxFuture<'static, ()>> {
        self.inner.pause()
    }

    fn open(&self, path: &str, access: Access, caching: Caching) -> io::Result<Arc<dyn DiskFile>> {
        if access == Access::Create {
            return Ok(Arc::new(Nowhere));
        }
        let inner = self.inner.open(path, Access::Read, caching)?;
        Ok(Arc::new(ReadOnlyFile { inner }))
    }

    fn create_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn remove_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        self.inner.list(dir)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn publish(&self, _: &str, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn os_path(&self, path: &str) -> Option<PathBuf> {
        self.inner.os_path(path)
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &str) -> io::Result<()> {
        Ok(())
    }

    fn space(&self) -> io::Result<Option<Space>> {
        self.inner.space()
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<()> {
        self.inner.lock(path, owner)
    }
}

impl DiskFile for ReadOnlyFile {
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize> {
        self.inner.read_at(out, position)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        self.inner.size()
    }

    fn resize(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) {
        self.inner.drop_cache();
    }
}

impl DiskFile for Nowhere {
    fn read_at(&self, _: &mut [u8], _: u64) -> io::Result<usize> {
        Ok(0)
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn size(&self) -> io::Result<u64> {
        Ok(0)
    }

    fn resize(&self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn drop_cache(&self) {}
}
