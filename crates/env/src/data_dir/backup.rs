//! The directory that a backup is written to.
//!
//! It becomes a data directory when its `cluster` file is written, and a backup when its manifest is;
//! both come last, so that nobody takes half a copy for a whole one.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use millstream_record::Crc;
use millstream_types::ClusterId;

use super::{CLUSTER, DataDir, DataDirError, LOCK, Manifest, Part, lock, write_cluster};
use crate::disk::{Access, Caching, Disk, RealDisk, read_whole, write_whole};
use crate::reserve::Reserve;
use crate::util::blocking;
use crate::world::Env;

/// The name of the manifest.
pub(super) const MANIFEST: &str = "backup";

/// The largest manifest, in bytes: some millions of files.
pub(super) const MANIFEST_BYTES_MAX: u64 = 1 << 30;

/// The largest file of the metadata log that is copied, in bytes.
const META_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// How much is read at a time, in bytes.
pub(super) const CHUNK: usize = 1024 * 1024;

const META: &str = "meta";

impl DataDir {
    /// Makes the directory `path`, which must be empty or not be there, to hold a copy of what
    /// `cluster` has. Until [`DataDir::publish`] it is of no use to anybody. Blocks.
    ///
    /// # Errors
    ///
    /// [`DataDirError::NotEmpty`], or as [`DataDir::open`].
    pub fn create_copy(path: &Path, env: Env, cluster: ClusterId) -> Result<Self, DataDirError> {
        let place = path.display().to_string();
        match RealDisk::open(path) {
            Ok(disk) => Self::create_copy_on(Arc::new(disk), env, &place, cluster),
            Err(error) => Err(DataDirError::Storage { place, error }),
        }
    }

    /// The same with the directory that is the root of `disk`. `place` is for people.
    ///
    /// # Errors
    ///
    /// As [`DataDir::create_copy`].
    pub fn create_copy_on(
        disk: Arc<dyn Disk>,
        env: Env,
        place: &str,
        cluster: ClusterId,
    ) -> Result<Self, DataDirError> {
        claim(&*disk, place)?;
        let reserve = Reserve::without_reserve(Arc::clone(&disk));
        Ok(Self { disk, reserve, env, cluster, is_new: true, lenient: false, flaws: Vec::new() })
    }

    /// Copies the metadata log, which somebody else may be writing, to `target`, in place of what an
    /// earlier call has copied. Whether the copy is whole shows when it is loaded.
    ///
    /// # Errors
    ///
    /// `NotFound` when a file was replaced meanwhile: another call gets further. Or what the disks
    /// say.
    pub async fn copy_meta_to(&self, target: &Self) -> io::Result<()> {
        let (from, to) = (Arc::clone(&self.disk), Arc::clone(&target.disk));
        blocking(&self.disk, move || copy_meta(&*from, &*to)).await
    }

    /// Makes a finished copy a backup: writes down what belongs to it, with checksums that are taken
    /// of what is stored now. `tell` hears how many bytes have been read, and of how many.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub async fn publish(&self, tell: &mut (dyn FnMut(u64, u64) + Send)) -> io::Result<Manifest> {
        let (disk, cluster) = (Arc::clone(&self.disk), self.cluster);
        blocking(&self.disk, move || write_cluster(&*disk, cluster)).await?;
        let disk = Arc::clone(&self.disk);
        let files = blocking(&self.disk, move || files(&*disk)).await?;
        let total = files.iter().map(|(_, size)| size).sum();
        let (mut parts, mut done) = (Vec::new(), 0);
        for (path, size) in files {
            let disk = Arc::clone(&self.disk);
            let part = blocking(&self.disk, move || part(&*disk, path)).await?;
            parts.push(part);
            done += size;
            tell(done, total);
        }
        let manifest = Manifest { cluster: self.cluster, parts };
        let (disk, bytes) = (Arc::clone(&self.disk), manifest.encode());
        blocking(&self.disk, move || write_whole(&*disk, MANIFEST, &[bytes.as_bytes()])).await?;
        Ok(manifest)
    }
}

/// Takes an empty directory for oneself.
pub(super) fn claim(disk: &dyn Disk, place: &str) -> Result<(), DataDirError> {
    let failed = |error| DataDirError::Storage { place: place.to_owned(), error };
    let present = disk.list("").map_err(failed)?;
    // Who uses it, or is about to fill it, holds the lock; a directory of something else is left alone.
    let is_ours = |name: &str| name == LOCK || name == CLUSTER;
    if present.is_empty() || present.iter().any(|entry| is_ours(&entry.name)) {
        lock(disk, place)?;
    }
    match present.iter().all(|entry| entry.name == LOCK) {
        true => Ok(()),
        false => Err(DataDirError::NotEmpty { place: place.to_owned() }),
    }
}

fn copy_meta(from: &dyn Disk, to: &dyn Disk) -> io::Result<()> {
    to.create_dir(META)?;
    for old in to.list(META)? {
        to.remove(&format!("{META}/{}", old.name))?;
    }
    // The newest of both kinds; the others are being removed.
    let found = from.list(META)?;
    for suffix in [".snapshot", ".log"] {
        let names = found.iter().map(|entry| &entry.name).filter(|name| name.ends_with(suffix));
        if let Some(name) = names.max() {
            let path = format!("{META}/{name}");
            let bytes = read_whole(from, &path, META_BYTES_MAX)?;
            write_whole(to, &path, &[&bytes])?;
        }
    }
    to.sync_dir(META)
}

/// All files that belong to a backup, with their sizes, by path.
fn files(disk: &dyn Disk) -> io::Result<Vec<(String, u64)>> {
    let mut found = Vec::new();
    let mut dirs = vec![String::new()];
    while let Some(dir) = dirs.pop() {
        for entry in disk.list(&dir)? {
            let path = if dir.is_empty() { entry.name } else { format!("{dir}/{}", entry.name) };
            match entry.is_dir {
                true => dirs.push(path),
                false if path == LOCK || path == MANIFEST => {}
                false => found.push((path, entry.size)),
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn part(disk: &dyn Disk, path: String) -> io::Result<Part> {
    let file = disk.open(&path, Access::Read, Caching::Cached)?;
    let size = file.size()?;
    let mut chunk = vec![0; CHUNK];
    let (mut at, mut checksum) = (0, Crc::new());
    while at < size {
        let read = file.read_at(&mut chunk, at)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        checksum = checksum.and(chunk.get(..read).unwrap_or_default());
        at += read as u64;
    }
    Ok(Part { path, size, checksum: checksum.value() })
}
