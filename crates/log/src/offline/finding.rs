//! What can be wrong with a stored log, and what that means.

use std::fmt;
use std::ops::Range;

use millstream_env::BlobName;
use millstream_types::{Lsn, Offset, PartitionId, SessionId};

/// Where something lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In a blob.
    Blob {
        /// The blob's name.
        name: BlobName,
        /// The byte in it.
        position: u64,
    },
    /// In a file of the data directory that is neither.
    File {
        /// Its path below the data directory.
        path: String,
    },
    /// In a journal.
    Journal {
        /// The session whose journal it is.
        session: SessionId,
        /// The position in it.
        position: Lsn,
    },
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What sort of thing.
    pub kind: FindingKind,
    /// Whose data it is, where that is known.
    pub partition: Option<PartitionId>,
    /// Which offsets are hit, where that is known.
    pub offsets: Option<Range<Offset>>,
    /// Where it is, where it is in one place.
    pub place: Option<Place>,
    /// What exactly was found.
    pub why: String,
}

/// What sort of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FindingKind {
    /// A batch is not what was written.
    Batch,
    /// Offsets of a partition that are in no batch.
    Gap,
    /// Batches of a partition that hold the same offsets.
    Overlap,
    /// An index of a segment is damaged, or does not fit its batches.
    Index,
    /// What a segment says of itself (header, directory, footer) is damaged or does not fit.
    Segment,
    /// A blob that a partition has batches in is not there.
    Missing,
    /// Records that were given up before, by the server or by a repair.
    Lost,
    /// What a file says of itself is damaged: whose it is, where a journal ended, metadata.
    Header,
    /// The checkpoint can't be read.
    Checkpoint,
    /// A part of a journal that recovery reads is damaged.
    Journal,
    /// An intact frame of a journal says what can't be.
    Frame,
    /// A part of a journal that recovery does not read is damaged.
    UnreadJournal,
    /// A blob that nothing refers to.
    Orphan,
    /// The storage failed when it was read.
    Storage,
}

impl FindingKind {
    /// Whether nothing is lost by it and nobody is kept from serving.
    #[must_use]
    pub const fn is_harmless(self) -> bool {
        matches!(self, Self::Orphan | Self::UnreadJournal | Self::Lost)
    }

    /// What it means, and what to do, in one sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Batch => {
                "these records can't be served: a consumer gets an error at these offsets, and \
                 goes on behind them when it seeks there; restore the file from a copy if there \
                 is one"
            }
            Self::Gap => "these records are lost; what lies before and after them is intact",
            Self::Overlap => "of these records more than one version is stored; the first counts",
            Self::Index => {
                "the records are intact and are served; the index is made anew from them whenever it \
                 is needed, which takes time: `millstream log repair` writes it anew"
            }
            Self::Segment => {
                "the records are intact as long as the journal or the checkpoint lists them, but \
                 the file can't tell by itself what it holds"
            }
            Self::Missing => {
                "these records are lost unless the file is put back: somebody or something has \
                 removed it"
            }
            Self::Lost => {
                "these records are lost, and that is known: a consumer gets an error at these \
                 offsets, and goes on behind them when it seeks there"
            }
            Self::Header => {
                "the server refuses to start; restore the file from a copy, or see what \
                 `millstream log repair` can do"
            }
            Self::Checkpoint => {
                "the server refuses to start, because it can't know which segments are whose; \
                 restore the file from a copy, or see what `millstream log repair` can do"
            }
            Self::Journal => {
                "this was on stable storage once, so it is damage and not the end of the journal: \
                 the server refuses to start rather than lose what follows; restore the file from \
                 a copy, or see what `millstream log repair` can do"
            }
            Self::Frame => {
                "the frame is intact and contradicts those before it: the server refuses to start; \
                 this is a bug, please report it"
            }
            Self::UnreadJournal => {
                "harmless: recovery does not read this part, and the batches in it that are still \
                 needed are checked one by one"
            }
            Self::Orphan => {
                "harmless: a crash left it behind, or what it held was deleted; the next start \
                 removes it"
            }
            Self::Storage => "the storage failed; look at its health before anything else",
        }
    }

    /// A short name for programs; never changes.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Batch => "damaged-batch",
            Self::Gap => "missing-offsets",
            Self::Overlap => "overlapping-offsets",
            Self::Index => "damaged-index",
            Self::Segment => "damaged-segment",
            Self::Missing => "missing-segment",
            Self::Lost => "lost-records",
            Self::Header => "damaged-header",
            Self::Checkpoint => "damaged-checkpoint",
            Self::Journal => "damaged-journal",
            Self::Frame => "impossible-frame",
            Self::UnreadJournal => "damaged-journal-unread",
            Self::Orphan => "orphan",
            Self::Storage => "storage-failure",
        }
    }
}

impl Finding {
    /// A finding that is about nothing in particular yet.
    #[must_use]
    pub fn new(kind: FindingKind, why: impl Into<String>) -> Self {
        Self { kind, partition: None, offsets: None, place: None, why: why.into() }
    }

    pub(super) fn of(self, partition: PartitionId) -> Self {
        Self { partition: Some(partition), ..self }
    }

    pub(super) fn offsets(self, offsets: Range<Offset>) -> Self {
        Self { offsets: Some(offsets), ..self }
    }

    /// The same, at a place.
    #[must_use]
    pub fn at(self, place: Place) -> Self {
        Self { place: Some(place), ..self }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob { name, position } => write!(f, "{name} at {position}"),
            Self::File { path } => f.write_str(path),
            Self::Journal { session, position } => {
                write!(f, "journal of session {session} at {position}")
            }
        }
    }
}
