//! Opening a data directory to look at it.

use std::io::{Error, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use super::{CLUSTER, DataDir, DataDirError, lock};
use crate::disk::{Disk, ReadOnlyDisk, RealDisk};
use crate::world::Env;

/// Where metadata are.
const META: &str = "meta";

impl DataDir {
    /// Opens the directory `path`, which nobody may be using, to read what it holds. It is locked
    /// like any other, and nothing but the lock's owner is written: stores opened from it keep
    /// what they would change (a seal, the removal of leftovers) to themselves. Blocks.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open`], and [`DataDirError::Storage`] when there is no such directory.
    pub fn open_read_only(path: &Path, env: Env) -> Result<Self, DataDirError> {
        let place = path.display().to_string();
        check(path)?;
        match RealDisk::open_cached(path) {
            Ok(disk) => Self::open_read_only_on(Arc::new(disk), env, &place),
            Err(error) => Err(DataDirError::Storage { place, error }),
        }
    }

    /// Opens the directory that is the root of `disk` to read what it holds. `place` is for people.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open_read_only`].
    pub fn open_read_only_on(
        disk: Arc<dyn Disk>,
        env: Env,
        place: &str,
    ) -> Result<Self, DataDirError> {
        lock(&*disk, place)?;
        Self::of(Arc::new(ReadOnlyDisk::new(disk)), env, place, false)
    }

    /// Opens the directory `path` as [`DataDir::open_read_only`] does, with all the damage that there
    /// is: files are opened as far as they can be, see [`DataDir::flaws`]. Blocks.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open_read_only`], and when no file tells whose it is.
    pub fn open_damaged(path: &Path, env: Env) -> Result<Self, DataDirError> {
        let place = path.display().to_string();
        if !path.join(META).is_dir() {
            check(path)?;
        }
        match RealDisk::open_cached(path) {
            Ok(disk) => Self::open_damaged_on(Arc::new(disk), env, &place),
            Err(error) => Err(DataDirError::Storage { place, error }),
        }
    }

    /// The same with the directory that is the root of `disk`. `place` is for people.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open_damaged`].
    pub fn open_damaged_on(
        disk: Arc<dyn Disk>,
        env: Env,
        place: &str,
    ) -> Result<Self, DataDirError> {
        lock(&*disk, place)?;
        Self::of(Arc::new(ReadOnlyDisk::new(disk)), env, place, true)
    }

    /// Opens the directory `path` beside whoever may be using it, to copy what it holds. It is not
    /// locked, and nothing is written. Blocks.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open_read_only`], but for the lock.
    pub fn open_beside(path: &Path, env: Env) -> Result<Self, DataDirError> {
        let place = path.display().to_string();
        check(path)?;
        match RealDisk::open_beside(path, CLUSTER) {
            Ok(disk) => Self::open_beside_on(Arc::new(disk), env, &place),
            Err(error) => Err(DataDirError::Storage { place, error }),
        }
    }

    /// The same with the directory that is the root of `disk`. `place` is for people.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open_beside`].
    pub fn open_beside_on(
        disk: Arc<dyn Disk>,
        env: Env,
        place: &str,
    ) -> Result<Self, DataDirError> {
        Self::of(Arc::new(ReadOnlyDisk::new(disk)), env, place, false)
    }
}

/// Refuses what is no data directory.
fn check(path: &Path) -> Result<(), DataDirError> {
    let failed = |error| DataDirError::Storage { place: path.display().to_string(), error };
    if path.join(CLUSTER).try_exists().map_err(failed)? {
        return Ok(());
    }
    let why = "it is no data directory of Millstream (there is no file `cluster` in it); \
               say which one with --data-dir";
    Err(failed(Error::new(ErrorKind::NotFound, why)))
}
