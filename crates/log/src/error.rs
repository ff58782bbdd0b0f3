//! Why the log refused, one type per operation.

use millstream_env::{BlobError, JournalError, MetaError};
use millstream_types::{
    DecodeError, LeaderEpoch, Lsn, Offset, PartitionId, ProducerEpoch, ProducerId, SessionId,
};

use crate::partition::Ends;

/// The session ended (its journal failed, was fenced or was closed) before it was known whether
/// the append is durable. It may or may not be found after recovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the session is over: what was not durable yet may be lost")]
pub struct SessionOver;

/// Why nothing was appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// An idempotent producer's batch is neither the next one nor one of its last five.
    #[error("producer {producer} sent sequence number {found} where {expected} comes next")]
    OutOfOrderSequence {
        /// Who sent it.
        producer: ProducerId,
        /// The sequence number that the batch should have begun with.
        expected: i32,
        /// What it began with.
        found: i32,
    },
    /// A batch of the same producer with a lower sequence number was refused just now, and nothing
    /// else is known of it here: that one must come first. A retry will do.
    #[error(
        "producer {producer} sent sequence number {found}; {refused} was refused and comes first"
    )]
    OutOfTurn {
        /// Who sent it.
        producer: ProducerId,
        /// The sequence number of the batch that was refused.
        refused: i32,
        /// What the batch began with.
        found: i32,
    },
    /// A newer incarnation of the producer has written already.
    #[error("producer {producer} has epoch {current}, and {found} is older")]
    InvalidProducerEpoch {
        /// Who sent it.
        producer: ProducerId,
        /// Its newest epoch.
        current: ProducerEpoch,
        /// The batch's epoch.
        found: ProducerEpoch,
    },
    /// A producer with an open transaction sent a batch outside of it.
    #[error("producer {producer} has an open transaction and wrote outside of it")]
    InvalidTxnState {
        /// Who sent it.
        producer: ProducerId,
    },
    /// A batch of a transaction that is not open in this partition: it has ended, or its coordinator
    /// was not told of the partition.
    #[error(
        "producer {producer} has no transaction with epoch {epoch} open in this partition: begin one, \
         or add the partition to it, before you write"
    )]
    NotEnlisted {
        /// Who sent it.
        producer: ProducerId,
        /// The batch's epoch.
        epoch: ProducerEpoch,
    },
    /// A coordinator that has been replaced wrote a transaction marker.
    #[error("coordinator epoch {current} has written for producer {producer}; {found} is older")]
    CoordinatorFenced {
        /// Whose transaction it was.
        producer: ProducerId,
        /// The newest coordinator epoch.
        current: i32,
        /// The marker's.
        found: i32,
    },
    /// The journal has no room for produced records; it comes back as data is laid out.
    #[error("the journal is full")]
    Full,
    /// The disk is full. It is for what must go on and what gives space back; clients' records are
    /// taken again when there is space.
    #[error(
        "the disk is full: records are refused until there is space again. Delete records or \
         topics, shorten their retention, or make the disk larger"
    )]
    DiskFull,
    /// The session is over; another must be opened.
    #[error(transparent)]
    SessionOver(#[from] SessionOver),
    /// The partition was deleted, or is led by another node.
    #[error("this node does not lead the partition")]
    NotLeader,
    /// There was no batch, or its header makes no sense.
    #[error("the batch is corrupt: {0}")]
    Corrupt(#[from] DecodeError),
    /// The journal refused for a reason of its storage.
    #[error("the journal refused: {0}")]
    Storage(String),
}

impl AppendError {
    /// Whether the same batch may be taken later.
    pub(crate) const fn passes(&self) -> bool {
        match self {
            Self::Full
            | Self::DiskFull
            | Self::SessionOver(_)
            | Self::Storage(_)
            | Self::OutOfTurn { .. } => true,
            Self::OutOfOrderSequence { .. }
            | Self::InvalidProducerEpoch { .. }
            | Self::InvalidTxnState { .. }
            | Self::NotEnlisted { .. }
            | Self::CoordinatorFenced { .. }
            | Self::NotLeader
            | Self::Corrupt(_) => false,
        }
    }
}

/// Why nothing was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The offset is below the log start or above the log end.
    #[error("offset {offset} is not between {} and {}", ends.log_start, ends.high_watermark)]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// What there is.
        ends: Ends,
    },
    /// What is stored is not what was written. Readers may go on at `upto`.
    #[error("{partition}: offsets {from} to {upto} are corrupt: {why}")]
    Corrupt {
        /// The partition.
        partition: PartitionId,
        /// The first offset that can't be read.
        from: Offset,
        /// The next offset that may be readable.
        upto: Offset,
        /// What is wrong.
        why: String,
    },
    /// The storage below failed; a retry may help.
    #[error("the storage failed: {0}")]
    Storage(String),
    /// The partition was deleted, or is led by another node.
    #[error("this node does not lead the partition")]
    NotLeader,
}

/// Why records were not deleted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeleteError {
    /// The offset is above the high watermark, or negative.
    #[error("offset {offset} is above the high watermark {high_watermark}")]
    OutOfRange {
        /// What was asked for.
        offset: Offset,
        /// The most that could be.
        high_watermark: Offset,
    },
    /// The deletion could not be written.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why the log could not be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The journal could not be sealed, replayed or created.
    #[error("journal of session {session}: {why}")]
    Journal {
        /// Whose journal.
        session: SessionId,
        /// What is wrong.
        why: JournalError,
    },
    /// The checkpoint that the metadata log names can't be read.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// Frames that the checkpoint relies on are not in the journal.
    #[error(
        "the journal of session {session} does not reach position {lsn}, which the newest \
         checkpoint relies on: it is lost, or another one is in its place. Put back the journal \
         that belongs to this data (is something not mounted?), or restore a backup of all of it"
    )]
    JournalLost {
        /// Whose journal.
        session: SessionId,
        /// The position.
        lsn: Lsn,
    },
    /// A blob store operation failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A frame says what this program does not understand, or what can't be.
    #[error("{partition}: {why}")]
    Frame {
        /// What the frame is about.
        partition: PartitionId,
        /// What is wrong.
        why: String,
    },
}

/// Why a round of maintenance (layout, checkpoint) failed. Nothing is lost; it is tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaintenanceError {
    /// The session is over.
    #[error(transparent)]
    SessionOver(#[from] SessionOver),
    /// A blob could not be written or removed.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The journal refused.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The trim could not be made known.
    #[error(transparent)]
    Meta(#[from] MetaError),
    /// Batches to lay out can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A layout entry could not be appended.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl MaintenanceError {
    /// Whether there was no room, for blobs or for frames.
    pub(crate) const fn is_full(&self) -> bool {
        matches!(self, Self::Blob(BlobError::Full) | Self::Append(AppendError::Full))
    }
}

/// The newest epoch below or at one that was asked for, and where it ends.
pub type EpochEnd = (LeaderEpoch, Offset);
