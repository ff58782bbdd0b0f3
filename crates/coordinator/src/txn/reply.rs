//! What a coordinator of transactions answers: one error enum per operation, so that the edge
//! gives each its number in one exhaustive match.

use std::sync::Arc;

use millstream_types::{ProducerEpoch, ProducerId, Timestamp};

use crate::host::HostFailure;

/// The answer to a [`super::Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// For the host, not for the client: give the same command again, with a producer id that
    /// nobody has. Nothing has changed.
    NeedsProducerId,
    /// To an init.
    Init(Result<Producer, InitError>),
    /// To an enlistment: nothing. To the question: the partitions that are not enlisted.
    AddPartitions(Result<Vec<(Arc<str>, i32)>, AddPartitionsError>),
    /// To an end: who the producer is from now on, if it speaks the second version.
    End(Result<Producer, EndError>),
    /// To the host's report.
    Marked(Result<(), MarkedError>),
}

/// Who a producer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Producer {
    /// Its id.
    pub id: ProducerId,
    /// Its epoch: who has a lower one is fenced.
    pub epoch: ProducerEpoch,
}

/// Why nobody became the producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// The transactional id is empty.
    InvalidId,
    /// The timeout is not above zero, or longer than the coordinator allows.
    InvalidTimeout,
    /// Another producer has taken over since: stop.
    Fenced,
    /// A transaction of this id is being ended: try again. When it comes with records, the running
    /// transaction has just been aborted; once its markers are written, the same command succeeds.
    Concurrent,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// Why partitions were not enlisted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddPartitionsError {
    /// The transactional id is empty.
    InvalidId,
    /// The transactional id is not known, or belongs to another producer id.
    UnknownProducer,
    /// Another producer has taken over, or the epoch is over: stop.
    Fenced,
    /// The transaction before is being ended: try again.
    Concurrent,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// Why a transaction was not ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndError {
    /// The transactional id is empty.
    InvalidId,
    /// The transactional id is not known, or belongs to another producer id.
    UnknownProducer,
    /// Another producer has taken over, or the epoch is over: stop.
    Fenced,
    /// The same end is being carried out: try again.
    Concurrent,
    /// There is no transaction, or it has ended in the other way.
    InvalidState,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// Why a report of markers was of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MarkedError {
    /// No such order: the transaction is complete already.
    NotOrdered,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// Where a transactional id is in the life of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransactionState {
    /// It has a producer and has had no transaction with it.
    Empty,
    /// A transaction runs.
    Ongoing,
    /// It is decided that the transaction commits; markers are being written.
    PrepareCommit,
    /// It is decided that the transaction aborts; markers are being written.
    PrepareAbort,
    /// The last transaction has committed.
    CompleteCommit,
    /// The last transaction has aborted.
    CompleteAbort,
}

impl TransactionState {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Empty,
        Self::Ongoing,
        Self::PrepareCommit,
        Self::PrepareAbort,
        Self::CompleteCommit,
        Self::CompleteAbort,
    ];

    /// The name that clients and tools know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Ongoing => "Ongoing",
            Self::PrepareCommit => "PrepareCommit",
            Self::PrepareAbort => "PrepareAbort",
            Self::CompleteCommit => "CompleteCommit",
            Self::CompleteAbort => "CompleteAbort",
        }
    }

    /// Whether clients may ask for a state of this name. Two that Kafka passes through are among
    /// them; nothing is ever in one of those.
    #[must_use]
    pub fn is_known(name: &str) -> bool {
        Self::ALL.iter().any(|state| state.name() == name)
            || ["Dead", "PrepareEpochFence"].contains(&name)
    }

    /// Whether markers are to be written.
    pub(super) const fn is_prepare(self) -> bool {
        matches!(self, Self::PrepareCommit | Self::PrepareAbort)
    }
}

/// Markers to write: all of one transaction, which is decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MarkerOrder {
    /// The transactional id.
    pub id: Arc<str>,
    /// The producer.
    pub producer: ProducerId,
    /// The epoch of the markers: the partitions take nothing below it from now on, and with `v2`
    /// it is above that of the records.
    pub epoch: ProducerEpoch,
    /// Commit rather than abort.
    pub commit: bool,
    /// Where. May be empty.
    pub partitions: Vec<(Arc<str>, i32)>,
    /// The epoch is above that of the writer, so that a partition may insist on it.
    pub v2: bool,
}

/// A running transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OngoingTransaction {
    /// The transactional id.
    pub id: Arc<str>,
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The partitions that are enlisted.
    pub partitions: Vec<(Arc<str>, i32)>,
    /// Whether a write has enlisted one by itself.
    pub v2: bool,
}

/// A transactional id, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its state.
    pub state: TransactionState,
    /// How long a transaction may take, in milliseconds.
    pub timeout_ms: i32,
    /// When the last transaction began; `None` before the producer's first one.
    pub started: Option<Timestamp>,
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The topics and partitions of the transaction.
    pub topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// A transactional id, listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The transactional id.
    pub id: Arc<str>,
    /// The producer.
    pub producer: ProducerId,
    /// Its state.
    pub state: TransactionState,
}

impl Reply {
    /// The same reply after the host could not store what it depends on: refusals stand,
    /// successes turn into failures.
    #[must_use]
    pub fn failed(self, why: HostFailure) -> Self {
        match self {
            Self::Init(Ok(_)) => Self::Init(Err(InitError::Host(why))),
            Self::AddPartitions(Ok(_)) => Self::AddPartitions(Err(AddPartitionsError::Host(why))),
            Self::End(Ok(_)) => Self::End(Err(EndError::Host(why))),
            Self::Marked(Ok(())) => Self::Marked(Err(MarkedError::Host(why))),
            refused => refused,
        }
    }
}
