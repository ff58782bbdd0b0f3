//! Reading a metadata log with all the damage that there is.

use bytes::Bytes;
use millstream_record::file::{FileHeader, FileKind};
use millstream_record::journal::{BLOCK, align_up};
use millstream_record::meta::{META_HEADER_SIZE, MetaHeader};

use super::{FILE_BYTES_MAX, Inner, log_path, refused, snapshot_path, storage};
use crate::data_dir::Flaw;
use crate::disk::read_whole;
use crate::meta::{MetaContents, MetaError};

/// Where the salt is in an entry's header.
const SALT_AT: usize = 16;

impl Inner {
    pub(super) fn look(&self) -> Result<(MetaContents, Vec<Flaw>), MetaError> {
        let found = self.find()?;
        let mut flaws = Vec::new();
        let mut snapshots = found.snapshots;
        snapshots.sort_unstable();
        let mut snapshot = None;
        for upto in snapshots.into_iter().rev() {
            match self.read_snapshot(upto) {
                Ok(read) => {
                    snapshot = Some(read);
                    break;
                }
                Err(MetaError::Corrupt(why)) => flaws.push(Flaw { file: snapshot_path(upto), why }),
                Err(error) => return Err(error),
            }
        }
        let covered = snapshot.as_ref().map_or(0, |snapshot| snapshot.upto);
        let mut entries = Vec::new();
        let log = found.logs.iter().max().copied();
        if let Some(first) = log {
            entries = self.look_at_log(first, &mut flaws)?;
        }
        let next = entries.last().map(|(number, _)| number + 1).or(log);
        if snapshot.is_some() && next.is_none_or(|next| next <= covered) {
            // A repair was interrupted, or somebody has removed the log.
            let why = format!("the log that belongs to the snapshot {covered} is missing");
            flaws.push(Flaw { file: log_path(covered + 1), why });
        }
        entries.retain(|(number, _)| *number > covered);
        let mut expected = covered + 1;
        for (number, _) in &entries {
            if *number > expected {
                let missing = match number - expected {
                    1 => format!("entry {expected} can't be read"),
                    _ => format!("entries {expected} to {} can't be read", number - 1),
                };
                let file = log_path(found.logs.iter().max().copied().unwrap_or(1));
                flaws.push(Flaw { file, why: missing });
            }
            expected = number + 1;
        }
        Ok(((snapshot, entries), flaws))
    }

    /// The entries that can be read, wherever they begin.
    fn look_at_log(
        &self,
        first: u64,
        flaws: &mut Vec<Flaw>,
    ) -> Result<Vec<(u64, Bytes)>, MetaError> {
        let path = log_path(first);
        let bytes = Bytes::from(read_whole(&*self.disk, &path, FILE_BYTES_MAX).map_err(storage)?);
        let header = FileHeader::decode(&bytes, FileKind::Meta);
        let salt = match header.and_then(|header| header.of(self.cluster)) {
            Ok(header) => header.numbers[1],
            Err(error) if error.is_of_another_release() => return Err(refused(&path, error)),
            Err(error) => {
                let salt = salt_of(&bytes).unwrap_or_default();
                flaws.push(Flaw { file: path, why: error.to_string() });
                salt
            }
        };
        let mut entries: Vec<(u64, Bytes)> = Vec::new();
        let mut at = BLOCK;
        while at < bytes.len() as u64 {
            let next = entries.last().map_or(0, |(number, _)| number + 1);
            match any_entry_at(&bytes, at, salt).filter(|(number, _)| *number >= next) {
                Some((number, entry)) => {
                    at = align_up(at + (META_HEADER_SIZE + entry.len()) as u64);
                    entries.push((number, entry));
                }
                None => at += BLOCK,
            }
        }
        Ok(entries)
    }
}

/// The entry that is intact at `at`, if any.
fn any_entry_at(bytes: &Bytes, at: u64, salt: u64) -> Option<(u64, Bytes)> {
    let at = usize::try_from(at).ok()?;
    let header = MetaHeader::decode(bytes.get(at..)?, salt).ok()?;
    let start = at + META_HEADER_SIZE;
    let entry = bytes.get(start..start.checked_add(header.length)?)?;
    header.covers(entry).then(|| (header.number, bytes.slice_ref(entry)))
}

/// The salt that the first entry names, unchecked.
fn salt_of(bytes: &[u8]) -> Option<u64> {
    let at = usize::try_from(BLOCK).ok()? + SALT_AT;
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}
