//! A data directory: whose it is, who uses it, and what is where.
//!
//! ```text
//! reserve   space that is set aside
//! backup    in a copy that `backup` made: what belongs to it, with checksums
//! lock      held by the one process that uses the directory; says which
//! cluster   whose directory it is, and in which format
//! journal/  the journals of all sessions
//! meta/     the metadata log
//! blobs/    segments and checkpoints
//! ```

mod backup;
mod manifest;
mod read_only;
mod repair;
mod restore;

pub use manifest::{Manifest, ManifestError, Part};
pub use restore::RestoreError;

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use millstream_record::file::{FILE_HEADER_SIZE, FileError, FileHeader, FileKind};
use millstream_types::ClusterId;

use crate::blob::LocalBlobStore;
use crate::disk::{Disk, ReadOnlyDisk, RealDisk, SimDisk, read_whole, write_whole};
use crate::file_journal::{FileJournalStore, JournalSettings};
use crate::journal::JournalError;
use crate::meta::LocalMetaLog;
use crate::reserve::{Reserve, Use};
use crate::world::Env;

const LOCK: &str = "lock";
const CLUSTER: &str = "cluster";

/// An open data directory. It is locked until this and everything opened from it is dropped.
#[derive(Clone, Debug)]
pub struct DataDir {
    disk: Arc<dyn Disk>,
    reserve: Arc<Reserve>,
    env: Env,
    cluster: ClusterId,
    is_new: bool,
    /// Whether damaged files are opened as far as they can be.
    lenient: bool,
    flaws: Vec<Flaw>,
}

/// A file that is damaged in what it says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flaw {
    /// The file, below the data directory.
    pub file: String,
    /// What is wrong with it.
    pub why: String,
}

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Somebody else uses it.
    #[error(
        "the data directory {place} is in use by {holder}: stop that process, or choose another \
         directory with --data-dir"
    )]
    InUse {
        /// Which directory.
        place: String,
        /// Who has it, as far as is known.
        holder: String,
    },
    /// It is none, or not one that this program can read.
    #[error("{place}/cluster: {error}{}", advice(place, *.error))]
    Format {
        /// Which directory.
        place: String,
        /// What is wrong.
        error: FileError,
    },
    /// There is data without the file that says whose it is.
    #[error(
        "{place} holds data of Millstream, but its `cluster` file is missing: restore that file \
         from a backup, run `millstream log repair --data-dir {place}`, or choose another directory \
         with --data-dir"
    )]
    Headless {
        /// Which directory.
        place: String,
    },
    /// It was to be filled, and there is something in it.
    #[error(
        "{place} is not empty: name a directory that is empty or not there yet (what is in this one \
         is never overwritten)"
    )]
    NotEmpty {
        /// Which directory.
        place: String,
    },
    /// The disk failed.
    #[error("the data directory {place} can't be used: {error}")]
    Storage {
        /// Which directory.
        place: String,
        /// What the disk said.
        error: io::Error,
    },
}

impl DataDirError {
    /// Whether a repair may help.
    const fn is_damage(&self) -> bool {
        match self {
            Self::Format { error, .. } => !error.is_of_another_release(),
            Self::Headless { .. } => true,
            Self::InUse { .. } | Self::NotEmpty { .. } | Self::Storage { .. } => false,
        }
    }
}

/// What helps where the cluster file is damaged. One of another release says itself what to do.
fn advice(place: &str, error: FileError) -> String {
    if error.is_of_another_release() {
        return String::new();
    }
    format!("; `millstream log repair --data-dir {place}` says what can be done")
}

impl DataDir {
    /// Opens the directory `path`, or makes it. Blocks.
    ///
    /// # Errors
    ///
    /// [`DataDirError`]; each says what to do.
    pub fn open(path: &Path, env: Env) -> Result<Self, DataDirError> {
        let place = path.display().to_string();
        match RealDisk::open(path) {
            Ok(disk) => Self::open_on(Arc::new(disk), env, &place),
            Err(error) => Err(DataDirError::Storage { place, error }),
        }
    }

    /// A new directory in memory, which is gone when it is dropped.
    ///
    /// # Errors
    ///
    /// None in practice; the type is that of [`DataDir::open`].
    pub fn in_memory(env: Env) -> Result<Self, DataDirError> {
        Self::open_on(SimDisk::new(0).mount(), env, "in memory")
    }

    /// Opens the directory that is the root of `disk`, or makes it. `place` is for people.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open`].
    pub fn open_on(disk: Arc<dyn Disk>, env: Env, place: &str) -> Result<Self, DataDirError> {
        lock(&*disk, place)?;
        Self::of(disk, env, place, false)
    }

    /// The directory that is the root of `disk`, locked or not; damaged as it may be, if that is asked
    /// for.
    fn of(disk: Arc<dyn Disk>, env: Env, place: &str, lenient: bool) -> Result<Self, DataDirError> {
        let mut flaws = Vec::new();
        let found = match cluster(&*disk, &env, place) {
            Err(error) if lenient && error.is_damage() => {
                let flaw = Flaw { file: CLUSTER.to_owned(), why: error.to_string() };
                flaws.push(flaw);
                repair::guess_cluster(&*disk).map(|cluster| (cluster, false)).ok_or(error)
            }
            found => found,
        };
        let (cluster, is_new) = found?;
        let reserve = Reserve::without_reserve(Arc::clone(&disk));
        Ok(Self { disk, reserve, env, cluster, is_new, lenient, flaws })
    }

    /// The same directory with a reserve of `bytes`: see [`Reserve`]. What was opened before does not
    /// draw on it. Blocks.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn with_reserve(mut self, bytes: u64) -> io::Result<Self> {
        self.reserve = Reserve::open(Arc::clone(&self.disk), bytes)?;
        Ok(self)
    }

    /// The space on its disk.
    #[must_use]
    pub fn reserve(&self) -> Arc<Reserve> {
        Arc::clone(&self.reserve)
    }

    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// The cluster that the directory belongs to.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// Whether it was made just now.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// Opens the journals.
    ///
    /// # Errors
    ///
    /// As [`FileJournalStore::open`].
    pub async fn journals(
        &self,
        settings: JournalSettings,
    ) -> Result<Arc<FileJournalStore>, JournalError> {
        let (env, lenient) = (self.env.clone(), self.lenient);
        // Who looks or repairs changes nothing in a journal: a seal could hide what is there.
        let looked_at = lenient.then(|| {
            let disk = Arc::new(ReadOnlyDisk::new(Arc::clone(&self.disk)));
            Reserve::without_reserve(disk)
        });
        let reserve = looked_at.as_ref().unwrap_or(&self.reserve);
        FileJournalStore::open_in(reserve, env, self.cluster, settings, lenient).await
    }

    /// Opens the blobs. Blocks.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn blobs(&self) -> io::Result<Arc<LocalBlobStore>> {
        Ok(Arc::new(LocalBlobStore::open_in(&self.reserve)?))
    }

    /// Opens the metadata log.
    #[must_use]
    pub fn meta(&self) -> Arc<LocalMetaLog> {
        let disk = self.reserve.disk(Use::Metadata);
        Arc::new(LocalMetaLog::new(disk, self.env.clone(), self.cluster))
    }
}

/// Takes the directory's lock.
fn lock(disk: &dyn Disk, place: &str) -> Result<(), DataDirError> {
    let place = place.to_owned();
    let owner = format!("process {}", std::process::id());
    match disk.lock(LOCK, &owner) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            let holder = match error.to_string() {
                holder if holder.is_empty() => "another process".to_owned(),
                holder => holder,
            };
            Err(DataDirError::InUse { place, holder })
        }
        Err(error) => Err(DataDirError::Storage { place, error }),
    }
}

/// Reads the cluster file, or makes it in an empty directory. Whether it was made.
fn cluster(disk: &dyn Disk, env: &Env, place: &str) -> Result<(ClusterId, bool), DataDirError> {
    let place = place.to_owned();
    // What a process that was killed has renamed is to be seen, but may still be undone.
    let synced = disk.sync_dir("");
    match synced.and_then(|()| read_whole(disk, CLUSTER, 1 << 16)) {
        Ok(bytes) => match FileHeader::decode(&bytes, FileKind::Cluster) {
            Ok(header) => Ok((header.cluster, false)),
            Err(error) => Err(DataDirError::Format { place, error }),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let has_data = |dir| disk.list(dir).map(|entries| !entries.is_empty());
            for dir in ["journal", "meta", "blobs"] {
                match has_data(dir) {
                    Ok(false) => {}
                    Ok(true) => return Err(DataDirError::Headless { place }),
                    Err(error) => return Err(DataDirError::Storage { place, error }),
                }
            }
            let cluster = env.uuid();
            match write_cluster(disk, cluster) {
                Ok(()) => Ok((cluster, true)),
                Err(error) => Err(DataDirError::Storage { place, error }),
            }
        }
        Err(error) => Err(DataDirError::Storage { place, error }),
    }
}

/// Says whose directory it is.
fn write_cluster(disk: &dyn Disk, cluster: ClusterId) -> io::Result<()> {
    let header = FileHeader { kind: FileKind::Cluster, cluster, numbers: [0; 4] };
    let bytes: [u8; FILE_HEADER_SIZE] = header.encode();
    write_whole(disk, CLUSTER, &[&bytes])
}
