//! Putting a backup into an empty directory.

use std::io::{self, ErrorKind, IoSlice};
use std::path::Path;
use std::sync::Arc;

use millstream_record::Crc;

use super::backup::{CHUNK, MANIFEST, MANIFEST_BYTES_MAX, claim};
use super::{CLUSTER, DataDir, DataDirError, Manifest, ManifestError, Part};
use crate::disk::{Access, Caching, Disk, DiskFile, RealDisk, parent, read_whole};
use crate::util::blocking;

/// Why a backup was not restored. What was written by then is no data directory.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is no manifest.
    #[error(
        "{place} holds no finished backup (there is no file `{MANIFEST}` in it): name the directory \
         that `millstream backup` has written to its end"
    )]
    NoBackup {
        /// Which directory.
        place: String,
    },
    /// The manifest can't be read.
    #[error("{place}/{MANIFEST}: {error}")]
    Manifest {
        /// Which directory.
        place: String,
        /// What is wrong.
        error: ManifestError,
    },
    /// The place to restore to can't be had.
    #[error(transparent)]
    Target(#[from] DataDirError),
    /// A file is not what was backed up.
    #[error("{path} is not what was backed up ({why}): this backup is damaged, take another one")]
    Damaged {
        /// Which file.
        path: String,
        /// How it differs.
        why: String,
    },
    /// A disk failed.
    #[error("{path}: {error}")]
    Storage {
        /// Which file.
        path: String,
        /// What the disk said.
        error: io::Error,
    },
}

impl DataDir {
    /// Puts the backup in `from` into the directory `to`, which must be empty or not be there: every
    /// file, with its checksum checked. `tell` hears how many bytes are done, and of how many.
    ///
    /// # Errors
    ///
    /// [`RestoreError`]; then `to` may hold files, but no server takes it for a data directory.
    pub async fn restore(
        from: &Path,
        to: &Path,
        tell: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Manifest, RestoreError> {
        let place = |path: &Path| path.display().to_string();
        let failed = |path: &Path, error| RestoreError::Storage { path: place(path), error };
        let source = RealDisk::open_beside(from, MANIFEST).map_err(|error| failed(from, error))?;
        // Before the target is made: a wrong name should leave nothing behind.
        let manifest = read(&source, &place(from))?;
        let target = RealDisk::open(to).map_err(|error| failed(to, error))?;
        put(Arc::new(source), &place(from), Arc::new(target), &place(to), manifest, tell).await
    }

    /// The same between the roots of two disks.
    ///
    /// # Errors
    ///
    /// As [`DataDir::restore`].
    pub async fn restore_on(
        from: Arc<dyn Disk>,
        to: Arc<dyn Disk>,
        tell: &mut (dyn FnMut(u64, u64) + Send),
    ) -> Result<Manifest, RestoreError> {
        let manifest = read(&*from, "the backup")?;
        put(from, "the backup", to, "the target", manifest, tell).await
    }
}

fn read(from: &dyn Disk, place: &str) -> Result<Manifest, RestoreError> {
    let place = place.to_owned();
    let bytes = match read_whole(from, MANIFEST, MANIFEST_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(RestoreError::NoBackup { place });
        }
        Err(error) => return Err(RestoreError::Storage { path: place, error }),
    };
    let text = String::from_utf8_lossy(&bytes);
    Manifest::decode(&text).map_err(|error| RestoreError::Manifest { place, error })
}

async fn put(
    from: Arc<dyn Disk>,
    from_place: &str,
    to: Arc<dyn Disk>,
    to_place: &str,
    manifest: Manifest,
    tell: &mut (dyn FnMut(u64, u64) + Send),
) -> Result<Manifest, RestoreError> {
    claim(&*to, to_place)?;
    let (total, mut done) = (manifest.bytes(), 0);
    // The file that makes it a data directory comes last.
    let (last, first): (Vec<_>, Vec<_>) =
        manifest.parts.iter().partition(|part| part.path == CLUSTER);
    for part in first.into_iter().chain(last) {
        let (source, target, copied) = (Arc::clone(&from), Arc::clone(&to), part.clone());
        let place = format!("{from_place}/{}", part.path);
        blocking(&to, move || copy(&*source, &*target, &copied, place)).await?;
        done += part.size;
        tell(done, total);
    }
    Ok(manifest)
}

fn copy(from: &dyn Disk, to: &dyn Disk, part: &Part, place: String) -> Result<(), RestoreError> {
    let damaged = |why: String| RestoreError::Damaged { path: place.clone(), why };
    let read_failed = |error: io::Error| match error.kind() {
        ErrorKind::NotFound => damaged("it is missing".to_owned()),
        _ => RestoreError::Storage { path: place.clone(), error },
    };
    let write_failed = |error| RestoreError::Storage { path: part.path.clone(), error };
    let source = from.open(&part.path, Access::Read, Caching::Cached).map_err(read_failed)?;
    let size = source.size().map_err(read_failed)?;
    if size != part.size {
        return Err(damaged(format!("it has {size} bytes instead of {}", part.size)));
    }
    let folder = parent(&part.path);
    to.create_dir(folder).map_err(write_failed)?;
    let target = to.open(&part.path, Access::Create, Caching::Cached).map_err(write_failed)?;
    target.resize(size).map_err(write_failed)?;
    let checksum = copy_bytes(&*source, &*target, size).map_err(write_failed)?;
    if checksum != part.checksum {
        // No server may take it for good, whatever else is there.
        to.remove(&part.path).map_err(write_failed)?;
        return Err(damaged("its checksum is another".to_owned()));
    }
    target.sync().map_err(write_failed)?;
    to.sync_dir(folder).map_err(write_failed)
}

/// Copies what is not zero; the target is as long already. Returns the checksum of all.
fn copy_bytes(from: &dyn DiskFile, to: &dyn DiskFile, size: u64) -> io::Result<u32> {
    let mut chunk = vec![0; CHUNK];
    let (mut at, mut checksum) = (0, Crc::new());
    while at < size {
        let read = from.read_at(&mut chunk, at)?;
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let bytes = chunk.get(..read).unwrap_or_default();
        checksum = checksum.and(bytes);
        if bytes.iter().any(|byte| *byte != 0) {
            to.write_at(&[IoSlice::new(bytes)], at)?;
        }
        at += read as u64;
    }
    Ok(checksum.value())
}
