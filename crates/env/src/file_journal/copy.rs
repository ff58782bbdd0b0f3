//! Copying the journals while somebody else writes them.
//!
//! To copy a file that is being written is not atomic: what is read first may be older than what is
//! read last, and the copy looks damaged. So it is found out first up to where everything is intact;
//! that is copied, and a seal says that nothing comes after it. Bytes below that position never
//! change again, unless their file is recycled: then nobody needs them any more, and whoever copies
//! goes on with what has taken their place.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use millstream_record::journal::{BLOCK, JournalHeader, Seal, Stream, align_down, align_up};
use millstream_types::{Lsn, SessionId};

use super::FileJournalStore;
use super::files::{DIR, View, piece_of, piece_path, seal_path, storage};
use super::walk::live_end;
use crate::data_dir::DataDir;
use crate::disk::{Access, AlignedBuffer, Caching, Disk, DiskFile, write_whole};
use crate::journal::JournalError;
use crate::util::blocking;

/// How much is copied at a time, in bytes.
const CHUNK: u64 = 1024 * 1024;

/// What a copy of the journals has, from one round to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalCopy {
    /// Where each session is sealed in the copy.
    ends: BTreeMap<SessionId, Lsn>,
    /// By session and sequence, up to where a file was copied, also in rounds that failed later.
    pieces: BTreeMap<(SessionId, u64), u64>,
    /// What has been copied.
    bytes: u64,
}

/// A file of a session on its way.
struct Piece {
    from: Arc<dyn DiskFile>,
    to: Arc<dyn Disk>,
    stream: Stream,
    sequence: u64,
    area: u64,
    /// The part of the stream that is wanted of it, in whole blocks.
    start: u64,
    end: u64,
}

impl JournalCopy {
    /// Where a session ends in the copy; `None` when the copy knows nothing of it.
    #[must_use]
    pub fn end(&self, session: SessionId) -> Option<Lsn> {
        self.ends.get(&session).copied()
    }

    /// How many bytes have been copied in all rounds.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl FileJournalStore {
    /// Brings the copy of these journals in `target` up to now: it has all that was durable before
    /// the call, and is sealed behind what it has. `copy` is what the round before has left.
    ///
    /// # Errors
    ///
    /// [`JournalError::Full`] when there is no room for the copy. Otherwise a part of these journals
    /// could not be read: it was recycled meanwhile, and another round (with a store opened anew)
    /// gets further; or it is damaged, and no round does.
    pub async fn copy_to(
        &self,
        target: &DataDir,
        copy: &mut JournalCopy,
    ) -> Result<(), JournalError> {
        let to = Arc::clone(target.disk());
        to.create_dir(DIR).map_err(storage)?;
        let mut kept = BTreeSet::new();
        let mut ends: BTreeMap<_, _> = self.files.seals().into_iter().collect();
        for session in self.files.sessions() {
            // Of some sessions there is nothing but what is not needed any more.
            let Ok(view) = self.files.view(session) else { continue };
            let end = self.intact(&view, copy.end(session)).await?;
            for (sequence, file) in view.files.iter() {
                let start = sequence * view.area;
                if start >= end.0 {
                    break;
                }
                let id = (session, *sequence);
                let copied = copy.pieces.get(&id).copied().unwrap_or(0);
                let piece = Piece {
                    from: Arc::clone(file),
                    to: Arc::clone(&to),
                    stream: view.stream,
                    sequence: *sequence,
                    area: view.area,
                    start: start.max(align_down(copied)),
                    end: (start + view.area).min(align_up(end.0)),
                };
                let upto = end.0.min(start + view.area);
                match self.copy_piece(piece).await? {
                    Some(bytes) => {
                        copy.bytes += bytes;
                        copy.pieces.insert(id, upto);
                        kept.insert(id);
                    }
                    // Nobody needs it any more, nor what is before it.
                    None => kept.retain(|(of, _)| *of != session),
                }
            }
            ends.insert(session, end);
        }
        for (&session, &end) in &ends {
            if copy.ends.get(&session) != Some(&end) {
                let seal = Seal { cluster: self.files.cluster(), session, end };
                let (to, path) = (Arc::clone(&to), seal_path(session));
                let write = move || write_whole(&*to, &path, &[&seal.encode()]);
                blocking(&self.disk, write).await.map_err(storage)?;
            }
        }
        copy.ends = ends;
        copy.pieces.retain(|piece, _| kept.contains(piece));
        blocking(&self.disk, move || remove_others(&*to, &kept)).await
    }

    /// Up to where a session is intact, beginning from what is `known` to be.
    async fn intact(&self, view: &View, known: Option<Lsn>) -> Result<Lsn, JournalError> {
        let session = view.stream.session;
        let known = known.unwrap_or_default();
        if let Some(end) = self.files.sealed(session) {
            return Ok(end);
        }
        let view = view.clone();
        let end = blocking(&self.disk, move || live_end(&view, known)).await?;
        if end < known {
            let why = format!("session {session} can't be read below {known} any more");
            return Err(JournalError::Storage(why));
        }
        Ok(end)
    }

    /// Returns how many bytes were copied; `None` when the file has been recycled.
    async fn copy_piece(&self, piece: Piece) -> Result<Option<u64>, JournalError> {
        if piece.start >= piece.end {
            return Ok(Some(0));
        }
        let piece = Arc::new(piece);
        let opened = Arc::clone(&piece);
        let Some(file) = blocking(&self.disk, move || opened.open()).await? else {
            return Ok(None);
        };
        let mut at = piece.start;
        while at < piece.end {
            let upto = piece.end.min(at + CHUNK);
            let (part, file) = (Arc::clone(&piece), Arc::clone(&file));
            blocking(&self.disk, move || part.copy(&*file, at, upto)).await?;
            at = upto;
        }
        blocking(&self.disk, move || file.sync()).await.map_err(storage)?;
        Ok(Some(piece.end - piece.start))
    }
}

impl Piece {
    /// The file in the copy: that of an earlier round, or a new one that is as long as this. `None`
    /// when this has been recycled.
    fn open(&self) -> Result<Option<Arc<dyn DiskFile>>, JournalError> {
        let path = piece_path(self.stream.session, self.sequence);
        match self.to.open(&path, Access::Write, Caching::Direct) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            opened => return opened.map(Some).map_err(storage),
        }
        let mut block = AlignedBuffer::new(BLOCK as usize);
        self.read(block.bytes_mut(), 0)?;
        let header = JournalHeader::decode(block.bytes());
        let is_ours = header.is_ok_and(|header| {
            (header.session, header.salt, header.sequence, header.area)
                == (self.stream.session, self.stream.salt, self.sequence, self.area)
        });
        if !is_ours {
            return Ok(None);
        }
        let file = self.to.open(&path, Access::Create, Caching::Direct).map_err(storage)?;
        // The length first: what is not copied stays a hole.
        let zeros = AlignedBuffer::new(BLOCK as usize);
        file.write_at(&[IoSlice::new(zeros.bytes())], self.area).map_err(storage)?;
        file.write_at(&[IoSlice::new(block.bytes())], 0).map_err(storage)?;
        self.to.sync_dir(DIR).map_err(storage)?;
        Ok(Some(file))
    }

    /// Copies a part of the stream.
    fn copy(&self, to: &dyn DiskFile, from: u64, upto: u64) -> Result<(), JournalError> {
        let mut buffer = AlignedBuffer::new(usize::try_from(upto - from).unwrap_or(0));
        let position = BLOCK + from - self.sequence * self.area;
        self.read(buffer.bytes_mut(), position)?;
        to.write_at(&[IoSlice::new(buffer.bytes())], position).map_err(storage)
    }

    fn read(&self, out: &mut [u8], position: u64) -> Result<(), JournalError> {
        let wanted = out.len();
        match self.from.read_at(out, position).map_err(storage)? {
            read if read < wanted => Err(storage(ErrorKind::UnexpectedEof.into())),
            _ => Ok(()),
        }
    }
}

/// Removes files that an earlier round has copied and that are not needed any more.
fn remove_others(to: &dyn Disk, kept: &BTreeSet<(SessionId, u64)>) -> Result<(), JournalError> {
    for entry in to.list(DIR).map_err(storage)? {
        if piece_of(&entry.name).is_some_and(|piece| !kept.contains(&piece)) {
            to.remove(&format!("{DIR}/{}", entry.name)).map_err(storage)?;
        }
    }
    to.sync_dir(DIR).map_err(storage)
}
