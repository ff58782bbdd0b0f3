//! What a coordinator of transactions is asked: the protocol's words, without its versions.

use std::sync::Arc;

use millstream_types::{ProducerEpoch, ProducerId};

/// A request that changes transactions. What only reads is a method of [`super::Transactions`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Become the producer of a transactional id, and fence the one before.
    Init(Init),
    /// Enlist partitions in the producer's transaction, or ask whether they are.
    AddPartitions(AddPartitions),
    /// Commit or abort the producer's transaction.
    End(End),
    /// From the host: all markers of a [`super::MarkerOrder`] are appended.
    Marked {
        /// The transactional id.
        id: Arc<str>,
        /// The producer that the order named.
        producer: ProducerId,
        /// The epoch that the order named.
        epoch: ProducerEpoch,
    },
}

/// Become the producer of a transactional id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Init {
    /// The transactional id.
    pub id: Arc<str>,
    /// How long a transaction may take, in milliseconds.
    pub timeout_ms: i32,
    /// Who the caller was before, if it goes on after an error (KIP-360): it is refused when
    /// another producer has taken over since.
    pub expected: Option<(ProducerId, ProducerEpoch)>,
    /// A producer id that nobody has, after [`super::Reply::NeedsProducerId`].
    pub fresh: Option<ProducerId>,
}

/// Enlist partitions in the producer's transaction. With the first one the transaction begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddPartitions {
    /// The transactional id.
    pub id: Arc<str>,
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Topics and partition numbers; for offsets, the group's partition of `__consumer_offsets`.
    pub partitions: Vec<(Arc<str>, i32)>,
    /// Only ask which of them are not part of the transaction.
    pub verify_only: bool,
    /// Whether a write enlists the partition by itself (KIP-890: Produce 12 and TxnOffsetCommit 5).
    pub v2: bool,
}

/// Commit or abort the producer's transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// The transactional id.
    pub id: Arc<str>,
    /// The producer.
    pub producer: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// Commit rather than abort.
    pub commit: bool,
    /// Whether the producer takes a new epoch from the reply (KIP-890: EndTxn 5).
    pub v2: bool,
    /// A producer id that nobody has, after [`super::Reply::NeedsProducerId`].
    pub fresh: Option<ProducerId>,
}

/// Which transactional ids to list. Empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Names of states. One that is not known (see [`super::TransactionState::is_known`]) lets
    /// nothing through.
    pub states: Vec<String>,
    /// Producer ids.
    pub producer_ids: Vec<ProducerId>,
    /// Only those whose last transaction began longer ago, in milliseconds. As in Kafka, one that
    /// never began a transaction passes.
    pub duration_ms: Option<i64>,
}
