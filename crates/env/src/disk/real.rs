//! A directory of the file system.

#![expect(
    clippy::disallowed_methods,
    reason = "this is the one place that touches the file system"
)]

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use rustix::fs::{FallocateFlags, FlockOperation, OFlags};

use crate::util::lock;

use super::{Access, AlignedBuffer, Caching, DirEntry, Disk, DiskFile, Space};

/// The most parts that one system call takes (Linux: `IOV_MAX`).
const PARTS_MAX: usize = 1024;

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    direct: bool,
    /// Locked while it is open.
    lock: Mutex<Option<File>>,
}

#[derive(Debug)]
struct RealFile {
    file: File,
    direct: bool,
}

impl RealDisk {
    /// Opens the directory `root` and makes it if needed. Finds out whether the file system can do
    /// direct IO.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn open(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        make_dirs(&root)?;
        let direct = direct_works(&root);
        if !direct {
            tracing::info!(path = %root.display(), "no direct IO here: using the page cache");
        }
        Ok(Self { root, direct, lock: Mutex::new(None) })
    }

    /// The same without direct IO, as on a file system that has none.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn open_cached(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        make_dirs(&root)?;
        Ok(Self { root, direct: false, lock: Mutex::new(None) })
    }

    /// Opens the directory `root`, which must be there, to read what somebody else may be writing:
    /// nothing is tried out in it but whether `probe`, a file in it, can be opened for direct IO.
    ///
    /// # Errors
    ///
    /// What the file system says.
    pub fn open_beside(root: &Path, probe: &str) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        let direct = open_file(&root.join(probe), Access::Read, true).is_ok();
        Ok(Self { root, direct, lock: Mutex::new(None) })
    }

    /// Whether files opened as [`Caching::Direct`] go around the page cache.
    #[must_use]
    pub const fn is_direct(&self) -> bool {
        self.direct
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }
}

impl Disk for RealDisk {
    fn in_memory(&self) -> bool {
        false
    }

    fn open(&self, path: &str, access: Access, caching: Caching) -> io::Result<Arc<dyn DiskFile>> {
        let direct = self.direct && caching == Caching::Direct;
        let file = open_file(&self.path(path), access, direct)?;
        Ok(Arc::new(RealFile { file, direct }))
    }

    fn create_dir(&self, path: &str) -> io::Result<()> {
        make_dirs(&self.path(path))
    }

    fn remove_dir(&self, path: &str) -> io::Result<()> {
        match fs::remove_dir(self.path(path)) {
            Err(error) => match error.kind() {
                ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty => Ok(()),
                _ => Err(error),
            },
            Ok(()) => Ok(()),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>> {
        let entries = match fs::read_dir(self.path(dir)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            // A name that is not text is none of ours.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let about = match entry.metadata() {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                about => about?,
            };
            let is_dir = about.is_dir();
            found.push(DirEntry { name, size: if is_dir { 0 } else { about.len() }, is_dir });
        }
        found.sort_unstable();
        Ok(found)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn publish(&self, from: &str, to: &str) -> io::Result<()> {
        // A hard link is refused when the name is taken; a plain rename would replace.
        fs::hard_link(self.path(from), self.path(to))?;
        fs::remove_file(self.path(from))
    }

    fn os_path(&self, path: &str) -> Option<PathBuf> {
        Some(self.path(path))
    }

    fn link(&self, source: &Path, to: &str) -> io::Result<()> {
        fs::hard_link(source, self.path(to))
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        fs::remove_file(self.path(path))
    }

    fn sync_dir(&self, dir: &str) -> io::Result<()> {
        File::open(self.path(dir))?.sync_all()
    }

    fn space(&self) -> io::Result<Option<Space>> {
        let found = rustix::fs::statvfs(&self.root)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Some(Space { total: bytes(found.f_blocks), usable: bytes(found.f_bavail) }))
    }

    fn lock(&self, path: &str, owner: &str) -> io::Result<()> {
        let path = self.path(path);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                let _ = (&mut file).take(1024).read_to_string(&mut holder);
                return Err(io::Error::new(ErrorKind::WouldBlock, holder.trim().to_owned()));
            }
            Err(error) => return Err(error.into()),
        }
        // For people only. On a full disk it may not fit, and that must keep nobody from making room.
        match file.set_len(0).and_then(|()| file.write_all(owner.as_bytes())) {
            Err(error) if error.kind() != ErrorKind::StorageFull => return Err(error),
            _ => {}
        }
        *lock(&self.lock) = Some(file);
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn read_at(&self, mut out: &mut [u8], mut position: u64) -> io::Result<usize> {
        let mut read = 0;
        while !out.is_empty() {
            match self.file.read_at(out, position) {
                Ok(0) => break,
                Ok(count) => {
                    read += count;
                    position += count as u64;
                    out = out.get_mut(count..).unwrap_or_default();
                    // Direct reads must stay aligned; a short one is the end of the file.
                    if self.direct && !count.is_multiple_of(512) {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(read)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], mut position: u64) -> io::Result<()> {
        for parts in parts.chunks(PARTS_MAX) {
            let mut parts = parts.to_vec();
            let mut rest = parts.as_mut_slice();
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(&self.file, rest, position) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(count) => {
                        position += count as u64;
                        IoSlice::advance_slices(&mut rest, count);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn resize(&self, size: u64) -> io::Result<()> {
        let present = self.size()?;
        if size > present {
            let grown = size - present;
            match rustix::fs::fallocate(&self.file, FallocateFlags::empty(), present, grown) {
                Ok(()) => return Ok(()),
                // Not every file system can set space aside.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.file.set_len(size)
    }

    fn drop_cache(&self) {
        // Best effort: it is only advice, and a direct file has nothing cached.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

fn open_file(path: &Path, access: Access, direct: bool) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(access != Access::Read).create_new(access == Access::Create);
    if direct {
        options.custom_flags(i32::try_from(OFlags::DIRECT.bits()).map_err(io::Error::other)?);
    }
    options.open(path)
}

/// Whether a block can be written around the page cache in `root`.
fn direct_works(root: &Path) -> bool {
    let probe = root.join("direct-io-probe.tmp");
    let _ = fs::remove_file(&probe);
    let block = AlignedBuffer::new(1);
    let works = match open_file(&probe, Access::Create, true)
        .and_then(|file| file.write_all_at(block.bytes(), 0))
    {
        // What a full disk can't take it could have taken directly.
        Err(error) => error.kind() == ErrorKind::StorageFull,
        Ok(()) => true,
    };
    let _ = fs::remove_file(&probe);
    works
}

/// Makes a directory and its parents; each is durable before something is put into it.
fn make_dirs(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        make_dirs(parent)?;
        match fs::create_dir(path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        File::open(parent)?.sync_all()?;
    }
    Ok(())
}
