//! Copying a data directory while a broker works in it, so that another can start on the copy.
//!
//! Blobs never change, so that most of the work is to copy them, or to give them a second name. The
//! rest comes in rounds. A round brings the copy of the journals up to what is durable now, and then
//! copies the metadata: in this order the metadata know every topic, session and producer id that the
//! journals speak of. Loading the copy says which blobs it needs. Meanwhile the broker may have taken a
//! checkpoint, merged segments or deleted old ones: then the metadata are ahead of the journals, or a
//! blob is gone, and another round begins. It has little to copy, for what is copied stays; rounds get
//! shorter until one is faster than the broker's next checkpoint.
//!
//! The copy holds everything that was acknowledged before it began, and all of it up to one position
//! of the journal: what came later is missing as after a power cut at that moment.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use futures_util::{StreamExt, stream};
use millstream_env::{
    BlobError, BlobName, BlobStore, DataDir, JournalCopy, JournalError, JournalSettings,
    LocalBlobStore,
};
use millstream_log::offline::{Finding, Offline, OfflineStores, added_to};
use millstream_types::Offset;

use crate::offline::StoredMetadata;

/// After so many rounds it is taken that the broker writes faster than it can be copied.
const ROUNDS_MAX: u32 = 20;

/// So often everything is copied before damage is believed: it may have come in on the way from the
/// disk.
const COPIES_MAX: u32 = 2;

/// How much of a blob is copied at a time, in bytes.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;

/// So many findings are told.
const FINDINGS_MAX: usize = 100;

/// What a backup is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BackupStep {
    /// Segments and checkpoints are copied: so many bytes, of so many.
    Blobs {
        /// How many are done.
        done: u64,
        /// How many there are.
        total: u64,
    },
    /// Journals and metadata are copied, for the n-th time.
    Journals {
        /// Which time, from 1.
        round: u32,
    },
    /// The copy is read and checked: so many bytes, of so many.
    Checked {
        /// How many are done.
        done: u64,
        /// How many there are.
        total: u64,
    },
}

/// Who hears it.
type Tell<'a> = &'a mut (dyn FnMut(BackupStep) + Send);

/// What a copy holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Partitions.
    pub partitions: u64,
    /// Batches.
    pub batches: u64,
    /// Records.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// How many rounds it took to copy it.
    pub rounds: u32,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no room for the copy.
    #[error("there is no room for the copy: free some, or choose another place")]
    Full,
    /// Round after round something was missing.
    #[error(
        "after {rounds} rounds the copy is still not consistent ({why}): if the server writes more \
         than can be copied meanwhile, try again when there is less load or choose a faster place; \
         if that does not help, something is damaged: `millstream log verify` on the stopped server \
         says what"
    )]
    NotConsistent {
        /// How many rounds.
        rounds: u32,
        /// What was wrong in the last of them.
        why: String,
    },
    /// The copy is not sound.
    #[error("{}", damages(.0))]
    Damaged(Vec<Finding>),
    /// The storage failed.
    #[error("{0}")]
    Storage(String),
}

/// Why a round ended early.
enum Stop {
    /// Another may get further.
    Again(String),
    /// None will.
    Failed(BackupError),
}

/// A copy in the making.
struct Copier<'a> {
    source: &'a DataDir,
    target: &'a DataDir,
    from: Arc<LocalBlobStore>,
    to: Arc<LocalBlobStore>,
    have: BTreeSet<BlobName>,
    journals: JournalCopy,
    /// How often the copying was begun.
    copies: u32,
}

/// Copies `source`, which a broker may be using, to `target`, which is empty, and checks the copy.
/// `source` was opened with [`DataDir::open_beside`], `target` with [`DataDir::create_copy`].
///
/// # Errors
///
/// [`BackupError`]; then `target` is of no use.
pub async fn backup(
    source: &DataDir,
    target: &DataDir,
    tell: Tell<'_>,
) -> Result<Checked, BackupError> {
    let mut copier = Copier {
        source,
        target,
        from: source.blobs().map_err(storage)?,
        to: target.blobs().map_err(storage)?,
        have: BTreeSet::new(),
        journals: JournalCopy::default(),
        copies: 1,
    };
    copier.blobs_ahead(tell).await?;
    let mut last = String::new();
    for round in 1..=ROUNDS_MAX {
        tell(BackupStep::Journals { round });
        match copier.round(tell).await {
            Ok(checked) => return Ok(Checked { rounds: round, ..checked }),
            Err(Stop::Failed(BackupError::Damaged(_))) if copier.copies < COPIES_MAX => {
                copier.begin_anew().await?;
            }
            Err(Stop::Failed(error)) => return Err(error),
            Err(Stop::Again(why)) => {
                tracing::debug!(round, why, "the copy is not consistent yet");
                last = why;
            }
        }
    }
    Err(BackupError::NotConsistent { rounds: ROUNDS_MAX, why: last })
}

/// Loads the data directory `dir`, which nobody uses, and checks everything in it.
///
/// # Errors
///
/// [`BackupError::Damaged`], or [`BackupError::Storage`] when it can't be read at all.
pub async fn verify(dir: &DataDir, tell: Tell<'_>) -> Result<Checked, BackupError> {
    let (metadata, offline) = load(dir).await.map_err(BackupError::Storage)?;
    check(&metadata, &offline, tell).await
}

impl Copier<'_> {
    /// Copies what is there now: most of it will be needed.
    async fn blobs_ahead(&mut self, tell: Tell<'_>) -> Result<(), BackupError> {
        let listed = self.from.list("").await.map_err(of_blobs)?;
        let total = listed.iter().map(|(_, size)| size).sum();
        let mut done = 0;
        for (name, size) in listed {
            match self.blob(name).await {
                // What is gone by now was not needed any more, or a round will say that it was.
                Ok(()) | Err(BlobError::NotFound(_)) => done += size,
                Err(error) => return Err(of_blobs(error)),
            }
            tell(BackupStep::Blobs { done, total });
        }
        Ok(())
    }

    /// Copies a blob, once; where both are on one file system, that takes no copy.
    async fn blob(&mut self, name: BlobName) -> Result<(), BlobError> {
        if self.have.contains(&name) {
            return Ok(());
        }
        if self.to.link(&self.from, &name).await? {
            self.have.insert(name);
            return Ok(());
        }
        let (from, wanted) = (Arc::clone(&self.from), name.clone());
        let pieces = stream::try_unfold(Some(0), move |at| {
            let (from, name) = (Arc::clone(&from), wanted.clone());
            async move {
                let Some(at) = at else { return Ok(None) };
                let piece = from.get(name, Some(at..at + PIECE_BYTES)).await?;
                let size = piece.len() as u64;
                Ok(Some((piece, (size == PIECE_BYTES).then_some(at + size))))
            }
        });
        self.to.upload(name.clone(), pieces.boxed()).await?;
        self.have.insert(name);
        Ok(())
    }

    async fn round(&mut self, tell: Tell<'_>) -> Result<Checked, Stop> {
        let again = |error: &dyn std::fmt::Display| Stop::Again(error.to_string());
        let settings = JournalSettings::default();
        let journals = self.source.journals(settings).await.map_err(|error| again(&error))?;
        match journals.copy_to(self.target, &mut self.journals).await {
            Ok(()) => {}
            Err(JournalError::Full) => return Err(Stop::Failed(BackupError::Full)),
            Err(error) => return Err(again(&error)),
        }
        match self.source.copy_meta_to(self.target).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => {
                return Err(Stop::Failed(BackupError::Full));
            }
            Err(error) => return Err(again(&error)),
        }
        let metadata = StoredMetadata::read(&*self.target.meta()).await;
        let metadata = metadata.map_err(|error| again(&error))?;
        if let Some(trim) = metadata.former.as_ref().and_then(|former| former.trim.as_ref()) {
            let (newest, cluster) = (trim.checkpoint.clone(), self.target.cluster());
            self.needed(newest.clone()).await?;
            let former = added_to(self.to.as_ref(), cluster, newest).await;
            for name in former.map_err(|error| again(&error))? {
                self.needed(name).await?;
            }
        }
        let (metadata, offline) = load(self.target).await.map_err(Stop::Again)?;
        for (session, lsn) in offline.reach() {
            let end = self.journals.end(*session).unwrap_or_default();
            if end < *lsn {
                let why = format!("the checkpoint needs session {session} up to {lsn}, not {end}");
                return Err(Stop::Again(why));
            }
        }
        for name in offline.blobs() {
            self.needed(name).await?;
        }
        let checked = check(&metadata, &offline, tell).await.map_err(Stop::Failed)?;
        self.remove_others(&offline).await.map_err(Stop::Failed)?;
        Ok(checked)
    }

    /// Forgets what was copied, so that all of it is copied again.
    async fn begin_anew(&mut self) -> Result<(), BackupError> {
        self.copies += 1;
        self.journals = JournalCopy::default();
        let copied = std::mem::take(&mut self.have).into_iter().collect();
        self.to.delete(copied).await.map_err(of_blobs)
    }

    /// Copies a blob that the copy can't do without.
    async fn needed(&mut self, name: BlobName) -> Result<(), Stop> {
        match self.blob(name).await {
            Ok(()) => Ok(()),
            Err(error @ BlobError::NotFound(_)) => Err(Stop::Again(error.to_string())),
            Err(error) => Err(Stop::Failed(of_blobs(error))),
        }
    }

    /// Removes what was copied and is not needed.
    async fn remove_others(&self, offline: &Offline) -> Result<(), BackupError> {
        let needed = offline.blobs();
        let others = self.have.iter().filter(|name| !needed.contains(name)).cloned().collect();
        self.to.delete(others).await.map_err(of_blobs)
    }
}

/// Loads a directory that nobody changes.
async fn load(dir: &DataDir) -> Result<(StoredMetadata, Offline), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let metadata = StoredMetadata::read(&*dir.meta()).await.map_err(|error| text(&error))?;
    let journals = dir.journals(JournalSettings::default()).await.map_err(|error| text(&error))?;
    let blobs = dir.blobs().map_err(|error| text(&error))?;
    let survey = journals.survey();
    let stores = OfflineStores { journals, blobs, cluster: dir.cluster() };
    let ids: Vec<_> = metadata.partitions().into_iter().map(|(id, _)| id).collect();
    let offline = Offline::load(stores, survey, metadata.former.clone(), ids).await;
    Ok((metadata, offline))
}

/// Reads everything that is stored.
async fn check(
    metadata: &StoredMetadata,
    offline: &Offline,
    tell: Tell<'_>,
) -> Result<Checked, BackupError> {
    let mut findings: Vec<Finding> = offline.findings().to_vec();
    findings.extend(offline.check_blobs().await);
    let ids: Vec<_> = metadata.partitions().into_iter().map(|(id, _)| id).collect();
    let stored = ids.iter().filter_map(|id| offline.partition(*id));
    let total = stored.map(millstream_log::offline::Stored::bytes).sum();
    let mut checked = Checked::default();
    for id in ids {
        checked.partitions += 1;
        let mut reader = offline.read(id, Offset::ZERO);
        while let Some(reader) = &mut reader
            && let Some(next) = reader.next().await
        {
            match next {
                Ok(found) => {
                    checked.batches += 1;
                    checked.records += u64::try_from(found.header.records_count).unwrap_or(0);
                    checked.bytes += found.batch.size() as u64;
                    tell(BackupStep::Checked { done: checked.bytes, total });
                }
                Err(finding) if findings.len() < FINDINGS_MAX => findings.push(finding),
                Err(_) => {}
            }
        }
    }
    findings.retain(|finding| !finding.kind.is_harmless());
    if findings.is_empty() { Ok(checked) } else { Err(BackupError::Damaged(findings)) }
}

/// What a copy that is not sound means to people.
fn damages(findings: &[Finding]) -> String {
    let mut text =
        "the copy is damaged, and probably what it was made of: stop the server and run \
                    `millstream log verify`, which names every record that is hit"
            .to_owned();
    for finding in findings.iter().take(3) {
        text.push_str("\n  found: ");
        text.push_str(&finding.why);
        if let Some(place) = &finding.place {
            text.push_str(&format!(" ({place})"));
        }
    }
    text
}

fn of_blobs(error: BlobError) -> BackupError {
    match error {
        BlobError::Full => BackupError::Full,
        other => BackupError::Storage(other.to_string()),
    }
}

fn storage(error: io::Error) -> BackupError {
    match error.kind() {
        ErrorKind::StorageFull => BackupError::Full,
        _ => BackupError::Storage(error.to_string()),
    }
}
