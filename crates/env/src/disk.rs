//! The disk as the local implementations see it: files of bytes, names, and what is durable when.
//!
//! A private seam below the public one: [`RealDisk`] is a directory of the file system, [`SimDisk`]
//! a disk in memory whose power can be cut. Calls block, but for those of a disk in memory.
//!
//! What a caller may rely on, and no more:
//!
//! * written bytes are durable after [`DiskFile::sync`], in units of 512 bytes before;
//! * a name is created, changed or gone for good after [`Disk::sync_dir`]; before that, a power cut
//!   may undo any of a directory's changes and keep others;
//! * after a failed sync nobody knows what is durable, and another sync does not mend it.

mod aligned;
mod read_only;
mod real;
mod sim;

use std::fmt::Debug;
use std::io::{self, IoSlice};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use aligned::AlignedBuffer;
pub use read_only::ReadOnlyDisk;
pub use real::RealDisk;
pub use sim::{Fault, FaultAt, Operation, SimDisk};

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// It exists and is read.
    Read,
    /// It exists and is read and written.
    Write,
    /// It does not exist, and is read and written.
    Create,
}

/// Whether the operating system's page cache stands between the file and its user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Caching {
    /// It does.
    Cached,
    /// It does not, where the file system can do that. Memory, positions and lengths of all reads
    /// and writes are multiples of 4,096 bytes.
    Direct,
}

/// What a directory holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// The name in the directory.
    pub name: String,
    /// Its size in bytes; zero for a directory.
    pub size: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
}

/// How much room a disk has, for all who share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total: u64,
    /// What this process can still use, in bytes.
    pub usable: u64,
}

/// Names and files under one root. Paths are relative to it, their parts joined by slashes.
pub trait Disk: Debug + Send + Sync {
    /// Whether calls return at once, so that they may be made on an async thread.
    fn in_memory(&self) -> bool;

    /// What passes before each piece of work on a disk in memory that plays a slow one; `None` when
    /// nothing does.
    fn pause(&self) -> Option<BoxFuture<'static, ()>> {
        None
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// `NotFound`, `AlreadyExists`, or what the storage says.
    fn open(&self, path: &str, access: Access, caching: Caching) -> io::Result<Arc<dyn DiskFile>>;

    /// Makes a directory and its parents, durably; no error when they are there.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Removes a directory if it is empty; otherwise does nothing.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn remove_dir(&self, path: &str) -> io::Result<()>;

    /// What is in a directory, by name; nothing when it does not exist.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn list(&self, dir: &str) -> io::Result<Vec<DirEntry>>;

    /// Renames a file within a directory, replacing what has the new name.
    ///
    /// # Errors
    ///
    /// `NotFound`, or what the storage says.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Renames a file within a directory, unless the new name is taken.
    ///
    /// # Errors
    ///
    /// `AlreadyExists`, `NotFound`, or what the storage says.
    fn publish(&self, from: &str, to: &str) -> io::Result<()>;

    /// Where a file lies for the operating system, if it is one of its files.
    fn os_path(&self, path: &str) -> Option<PathBuf> {
        let _ = path;
        None
    }

    /// Gives a file of the operating system, `source`, a name here as well, unless that is taken. From then
    /// on it has both.
    ///
    /// # Errors
    ///
    /// `Unsupported`, `CrossesDevices`, `AlreadyExists`, `NotFound`, or what the storage says.
    fn link(&self, source: &Path, to: &str) -> io::Result<()> {
        let _ = (source, to);
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Removes a file's name. Who has it open can go on reading.
    ///
    /// # Errors
    ///
    /// `NotFound`, or what the storage says.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names of a directory durable.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn sync_dir(&self, dir: &str) -> io::Result<()>;

    /// How much room there is; `None` where nothing but memory bounds it.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn space(&self) -> io::Result<Option<Space>>;

    /// Takes the lock on the file `path`, which is created if needed, without waiting. It is given
    /// back when the last handle on this disk is dropped. `owner` is written into the file for
    /// people to read.
    ///
    /// # Errors
    ///
    /// `WouldBlock` with what the present owner wrote when it is taken, or what the storage says.
    fn lock(&self, path: &str, owner: &str) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Debug + Send + Sync {
    /// Reads into `out` from `position` on; short only at the end of the file.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn read_at(&self, out: &mut [u8], position: u64) -> io::Result<usize>;

    /// Writes all of `parts`, one after the other.
    ///
    /// # Errors
    ///
    /// What the storage says; any part of the bytes may have been written.
    fn write_at(&self, parts: &[IoSlice<'_>], position: u64) -> io::Result<()>;

    /// Makes what was written, and the file's length, durable.
    ///
    /// # Errors
    ///
    /// What the storage says; see the module's rules.
    fn sync(&self) -> io::Result<()>;

    /// The file's length in bytes.
    ///
    /// # Errors
    ///
    /// What the storage says.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file or makes it longer by zeros; space for those is set aside where the file
    /// system can do that.
    ///
    /// # Errors
    ///
    /// `StorageFull`, or what the storage says.
    fn resize(&self, size: u64) -> io::Result<()>;

    /// Forgets what is cached and not to be written, so that later reads come from the medium.
    /// After a failed sync, the cache may hold what the medium does not.
    fn drop_cache(&self);
}

/// The parent of a path; the root when it has none.
pub(crate) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// Reads a whole file of at most `size_max` bytes.
pub(crate) fn read_whole(disk: &dyn Disk, path: &str, size_max: u64) -> io::Result<Vec<u8>> {
    let file = disk.open(path, Access::Read, Caching::Cached)?;
    let size = file.size()?;
    if size > size_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path} is too large")));
    }
    let size = usize::try_from(size).map_err(io::Error::other)?;
    let mut bytes = vec![0; size];
    let read = file.read_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(bytes)
}

/// Puts a whole small file under a name, durably, replacing what has it: a crash leaves the old
/// file or the new one.
pub(crate) fn write_whole(disk: &dyn Disk, path: &str, parts: &[&[u8]]) -> io::Result<()> {
    let temporary = format!("{path}.tmp");
    match disk.remove(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = disk.open(&temporary, Access::Create, Caching::Cached)?;
    let slices: Vec<_> = parts.iter().map(|part| IoSlice::new(part)).collect();
    file.write_at(&slices, 0)?;
    file.sync()?;
    disk.rename(&temporary, path)?;
    disk.sync_dir(parent(path))
}
