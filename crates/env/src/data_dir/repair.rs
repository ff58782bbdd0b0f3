//! Opening a data directory to repair it, and setting files aside.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

use millstream_record::file::{FILE_HEADER_SIZE, FileHeader, FileKind};
use millstream_types::ClusterId;

use super::{CLUSTER, DataDir, DataDirError, Flaw, lock};
use crate::disk::{Access, Caching, Disk, RealDisk, parent, read_whole, write_whole};
use crate::world::Env;

/// Where files are that a repair has set aside, a folder for each repair.
const QUARANTINE: &str = "quarantine";

/// Copies are made of files of at most so many bytes.
const COPY_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

impl DataDir {
    /// Opens the directory `path`, which nobody may be using, with all the damage that there is: files
    /// are opened as far as they can be. Blocks.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open_read_only`], and when no file tells whose it is.
    pub fn open_to_repair(path: &Path, env: Env) -> Result<Self, DataDirError> {
        let place = path.display().to_string();
        let disk = RealDisk::open(path)
            .map_err(|error| DataDirError::Storage { place: place.clone(), error })?;
        Self::open_to_repair_on(Arc::new(disk), env, &place)
    }

    /// The same with the directory that is the root of `disk`. `place` is for people.
    ///
    /// # Errors
    ///
    /// As [`DataDir::open_to_repair`].
    pub fn open_to_repair_on(
        disk: Arc<dyn Disk>,
        env: Env,
        place: &str,
    ) -> Result<Self, DataDirError> {
        lock(&*disk, place)?;
        Self::of(disk, env, place, true)
    }

    /// What is wrong with the files that say what the directory is, where it was opened all the same.
    #[must_use]
    pub fn flaws(&self) -> &[Flaw] {
        &self.flaws
    }

    /// Writes the file that says whose the directory is. Blocks.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn write_identity(&self) -> io::Result<()> {
        let cluster = self.cluster;
        let header = FileHeader { kind: FileKind::Cluster, cluster, numbers: [0; 4] };
        write_whole(&*self.disk, CLUSTER, &[&header.encode()])
    }

    /// A folder for what a repair sets aside, that is not there yet. Blocks.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn new_quarantine(&self) -> io::Result<String> {
        let numbers = self.disk.list(QUARANTINE)?;
        let numbers = numbers.iter().filter_map(|entry| entry.name.parse::<u64>().ok());
        Ok(format!("{QUARANTINE}/{}", numbers.max().unwrap_or(0) + 1))
    }

    /// Moves files, given below the data directory, below `folder`. Those that are not there are
    /// passed over. Blocks.
    ///
    /// # Errors
    ///
    /// What the disk says; some may have been moved.
    pub fn set_aside(&self, folder: &str, files: &[String]) -> io::Result<()> {
        for file in files {
            let to = format!("{folder}/{file}");
            self.disk.create_dir(parent(&to))?;
            match self.disk.rename(file, &to) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                moved => moved?,
            }
            // It must be in one of the two places whatever happens: first where it comes to.
            self.disk.sync_dir(parent(&to))?;
            self.disk.sync_dir(parent(file))?;
        }
        Ok(())
    }

    /// Copies the files of the metadata log below `folder`. Blocks.
    ///
    /// # Errors
    ///
    /// What the disk says.
    pub fn copy_metadata_aside(&self, folder: &str) -> io::Result<()> {
        let files = self.disk.list("meta")?;
        let paths: Vec<_> = files.iter().map(|file| format!("meta/{}", file.name)).collect();
        for path in &paths {
            let bytes = read_whole(&*self.disk, path, COPY_BYTES_MAX)?;
            let to = format!("{folder}/{path}");
            self.disk.create_dir(parent(&to))?;
            write_whole(&*self.disk, &to, &[&bytes])?;
        }
        Ok(())
    }
}

/// Whose the directory is, by what else is in it.
pub(super) fn guess_cluster(disk: &dyn Disk) -> Option<ClusterId> {
    for (dir, kind) in [("meta", FileKind::Meta), ("journal", FileKind::Journal)] {
        for entry in disk.list(dir).ok()? {
            let path = format!("{dir}/{}", entry.name);
            let Ok(file) = disk.open(&path, Access::Read, Caching::Cached) else { continue };
            let mut head = [0; FILE_HEADER_SIZE];
            if file.read_at(&mut head, 0).is_ok()
                && let Ok(header) = FileHeader::decode(&head, kind)
            {
                return Some(header.cluster);
            }
        }
    }
    None
}
