//! A log that no session has open: read whole, and checked, without changing anything.
//!
//! For those who look into a data directory while no server uses it. [`Offline::load`] takes the
//! checkpoint and the journals' frames as opening would, but goes on where that has to refuse:
//! what is damaged becomes a [`Finding`]. [`Offline::read`] then yields a partition's batches in
//! order, wherever they lie, and what can't be read in between. [`Offline::check_blobs`] looks at
//! what segments say of themselves, and for blobs that nothing refers to.
//!
//! Memory holds what a running log's would without its tail: a few words for each segment and for
//! each batch in the journals, and a window of what is being read.

mod blobs;
mod finding;
mod load;
mod read;
mod repair;
mod run;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use millstream_env::{BlobName, BlobStore, FrameAt, JournalStore};
use millstream_record::checkpoint::ProducerImage;
use millstream_record::index::AbortedTxn;
use millstream_record::layout::{LostRange, SegmentRef};
use millstream_record::{BatchHeader, StoredBatch};
use millstream_types::{ClusterId, Lsn, Offset, PartitionId, SessionId, Timestamp};

use crate::chain::Chain;
use crate::epochs::Epochs;
use crate::error::OpenError;
pub use finding::{Finding, FindingKind, Place};
pub use read::Reader;
pub use repair::{Plan, PlannedLoss, RepairError};

/// What an offline log stands on; see [`Offline::load`].
#[derive(Debug)]
pub struct OfflineStores {
    /// Journals.
    pub journals: Arc<dyn JournalStore>,
    /// Segments and checkpoints.
    pub blobs: Arc<dyn BlobStore>,
    /// The cluster that every blob must name.
    pub cluster: ClusterId,
}

/// See the module.
#[derive(Debug)]
pub struct Offline {
    stores: OfflineStores,
    /// The newest checkpoint and those that it adds to, as far as that could be read.
    checkpoints: Vec<BlobName>,
    /// Whether it could not.
    is_blind: bool,
    partitions: BTreeMap<PartitionId, Stored>,
    sessions: Vec<SessionPart>,
    findings: Vec<Finding>,
    reach: BTreeMap<SessionId, Lsn>,
}

/// What is there of one session's journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionPart {
    /// The session.
    pub session: SessionId,
    /// The first position that there is a file for.
    pub start: Lsn,
    /// The first position that is not part of it.
    pub end: Lsn,
    /// Whether it was sealed; if not, `end` is the first thing that can't be read.
    pub sealed: bool,
    /// How many intact frames it holds, needed or not.
    pub frames: u64,
}

/// What is stored of one partition.
#[derive(Debug, Default)]
pub struct Stored {
    /// The end of the last frame of the checkpoint's session that its state has seen.
    applied: Lsn,
    log_start: Offset,
    /// The newest log start that a frame names.
    floor: Offset,
    log_end: Offset,
    epochs: Epochs,
    /// By offset.
    segments: Vec<SegmentRef>,
    /// What was given up, by offset.
    lost: Vec<LostRange>,
    /// By offset.
    backlog: VecDeque<Journaled>,
    /// Producers, aborted transactions and the newest append time as the checkpoint has them.
    producers: Vec<ProducerImage>,
    aborted: Vec<AbortedTxn>,
    last_append_time: Timestamp,
    /// What producers have sent after the checkpoint.
    sent: Vec<BatchHeader>,
}

/// A batch that lies in a journal only.
#[derive(Clone, Copy, Debug)]
struct Journaled {
    at: FrameAt,
    base: Offset,
    last: Offset,
    size: u32,
}

/// A batch and where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredAt {
    /// The batch, its checksum verified.
    pub batch: StoredBatch,
    /// Its header.
    pub header: BatchHeader,
    /// Where it lies.
    pub place: Place,
}

/// The checkpoints that `newest` adds to, oldest first: who copies it needs them, too. Reads only it.
///
/// # Errors
///
/// [`OpenError`] when it can't be read.
pub async fn added_to(
    store: &dyn BlobStore,
    cluster: ClusterId,
    newest: BlobName,
) -> Result<Vec<BlobName>, OpenError> {
    Chain::former(store, cluster, newest).await
}

impl Offline {
    /// What was found to be wrong while loading.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// The journals, oldest session first.
    #[must_use]
    pub fn sessions(&self) -> &[SessionPart] {
        &self.sessions
    }

    /// Every blob that is needed: checkpoints, segments and packs. Names that no store can hold
    /// are left out.
    #[must_use]
    pub fn blobs(&self) -> BTreeSet<BlobName> {
        let segments = self.partitions.values().flat_map(|stored| &stored.segments);
        let named = segments.filter_map(|segment| BlobName::new(&segment.blob));
        named.chain(self.checkpoints.iter().cloned()).collect()
    }

    /// How far the journal of each session must reach for the checkpoint to hold.
    #[must_use]
    pub const fn reach(&self) -> &BTreeMap<SessionId, Lsn> {
        &self.reach
    }

    /// What is stored of a partition.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<&Stored> {
        self.partitions.get(&id)
    }

    /// Reads a partition's batches from the one that holds `from` on, or from the log start.
    #[must_use]
    pub fn read(&self, id: PartitionId, from: Offset) -> Option<Reader<'_>> {
        Some(Reader::new(&self.stores, id, self.partitions.get(&id)?, from))
    }
}

impl Stored {
    /// The first offset that is not deleted.
    #[must_use]
    pub const fn log_start(&self) -> Offset {
        self.log_start
    }

    /// The offset of the next record.
    #[must_use]
    pub const fn log_end(&self) -> Offset {
        self.log_end
    }

    /// How many segments and parts of packs it has.
    #[must_use]
    pub fn segments(&self) -> usize {
        self.segments.len()
    }

    /// The size of its batches, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let laid = self.segments.iter().map(|segment| segment.run.len);
        let journaled = self.backlog.iter().map(|batch| u64::from(batch.size));
        laid.chain(journaled).fold(0, u64::saturating_add)
    }
}
