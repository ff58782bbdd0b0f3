//! Was what clients saw possible? A checker of histories: who sent, polled and committed what, and
//! when. It knows nothing of the system under test.
//!
//! A history is a list of [`Operation`]s of clients that do one thing at a time. Every value is sent
//! once in a history, so that a value that is seen says where it came from. Outcomes are
//! [`Outcome::Succeeded`], [`Outcome::Failed`] (it certainly has no effect) or
//! [`Outcome::Unknown`] (it may have its effect at any time, or never): when in doubt, unknown.
//!
//! [`recorded`] reads what real clients have written down.
//!
//! The rules are those by which Jepsen's workload for Kafka judges (jepsen.tests.kafka, and the
//! analyses of Redpanda 21.10 and Bufstream 0.1), in words of our own; [`Violation`] has them, one a
//! variant. Of transactions of Kafka's first protocol a delayed request makes some of them untrue in
//! every system: those are listed apart, as [`Report::inherent`].
//!
//! What is not judged: cycles of writes between transactions (Kafka's transactions do not isolate
//! writes from each other), and anything that depends on records that retention or compaction took
//! away (give each client [`Step::Assign`] after it).

mod explain;
mod flow;
mod index;
mod members;
mod offsets;
mod order;
pub mod recorded;
#[cfg(test)]
mod tests;
mod visible;

use std::fmt;

use millstream_types::Offset;

use index::Index;

/// A partition; the caller numbers those of all topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub u32);

/// What is sent: no two sends of a history send the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Value(pub u64);

/// A client: it does one thing at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Client(pub u32);

/// A consumer group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Group(pub u32);

/// The generation of a classic group, or the epoch of a member of a consumer group (KIP-848).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u32);

/// A moment of the history: the number of the event, of whatever client. No two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub u64);

/// An offset of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Place {
    /// The partition.
    pub partition: Partition,
    /// The offset.
    pub offset: Offset,
}

/// Something that a client did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Who.
    pub client: Client,
    /// When it began.
    pub begun: Moment,
    /// When the client knew the outcome.
    pub ended: Moment,
    /// Whether it was a transaction.
    pub kind: Kind,
    /// How it ended. Steps that read count whatever the outcome.
    pub outcome: Outcome,
    /// What it consisted of, in order.
    pub steps: Vec<Step>,
}

/// Whether an operation was a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Each of its steps stands alone.
    Plain,
    /// All of it or nothing.
    Transaction {
        /// It spoke the first protocol, before KIP-890.
        first_protocol: bool,
        /// When it asked to be committed, if it did.
        committing: Option<Moment>,
    },
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Acknowledged; a transaction was committed.
    Succeeded,
    /// It has and will have no effect; a transaction was aborted.
    Failed,
    /// Nobody can tell.
    Unknown,
}

/// A part of an operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A value was sent.
    Send {
        /// Where to.
        partition: Partition,
        /// What.
        value: Value,
        /// Where it went, if that was acknowledged.
        offset: Option<Offset>,
    },
    /// Records were polled.
    Poll {
        /// Only what is committed.
        committed: bool,
        /// What came, in order.
        records: Vec<(Place, Value)>,
    },
    /// The client's partitions or positions were changed: its next poll may come from anywhere.
    Assign,
    /// A group's offset was committed.
    Commit {
        /// The group.
        group: Group,
        /// Partition, and the next offset to read.
        place: Place,
    },
    /// The client was a member of a group, and had a partition.
    Hold {
        /// The group.
        group: Group,
        /// The generation, or the epoch of the member.
        epoch: Epoch,
        /// The partition.
        partition: Partition,
    },
    /// A group's committed offset was asked for, stable ones only.
    Fetch {
        /// The group.
        group: Group,
        /// The partition.
        partition: Partition,
        /// The answer; `None` when there was none.
        offset: Option<Offset>,
    },
}

/// What may be expected of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Producers were idempotent, so that no value may be there twice.
    pub idempotent: bool,
    /// At the end, everything was polled, to the end of every partition, and as committed where
    /// there are transactions.
    pub drained: bool,
}

/// What is wrong with a history.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Violation {
    /// One offset held two values.
    InconsistentOffset(Place, Value, Value),
    /// One value was at two places.
    Duplicate(Value, Place, Place),
    /// A value was polled that nobody sent.
    NeverSent(Value, Place),
    /// An acknowledged value was never polled, though a later offset was.
    Lost(Value, Place),
    /// An acknowledged value was never polled by the end of a drained history.
    Unseen(Value, Partition),
    /// A client's polls passed over a value that was there for it.
    PollSkipped(Client, Place, Value),
    /// A client polled an offset again, or went back: from the first place to the second.
    PollWentBack(Client, Place, Place),
    /// A client's later send has no higher offset than the one before.
    SendWentBack(Client, Place, Place),
    /// A value of an aborted transaction or a failed send was polled as committed.
    AbortedRead(Value, Place),
    /// A value was polled as committed before its transaction asked for it.
    EarlyRead(Value, Place),
    /// Of one transaction, the first value was polled as committed and the second passed over.
    TornTransaction(Value, Value),
    /// Transactions have read from each other in a circle: one value that each has read.
    CircularFlow(Vec<Value>),
    /// A group's offset was not the newest committed, but an older one, or none.
    OffsetWentBack(Group, Partition, Option<Offset>),
    /// A group's offset was that of an aborted transaction or a failed commit.
    AbortedOffset(Group, Place),
    /// A group's offset was one that nobody had committed by then.
    NeverCommitted(Group, Place),
    /// Two members of a group had the same partition in the same epoch.
    HeldTwice(Group, Partition, Epoch, Client, Client),
    /// The first client committed for a partition that it had lost to the second.
    CommittedByFormer(Group, Partition, Client, Client),
    /// A member's epoch went back: from the first to the second.
    EpochWentBack(Group, Client, Epoch, Epoch),
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What must not be, sorted.
    pub violations: Vec<Violation>,
    /// What a delayed request can cause with the first protocol in every system: lost writes,
    /// aborted and early reads and torn transactions, of transactions that spoke it. Sorted.
    pub inherent: Vec<Violation>,
}

/// Judges a history.
#[must_use]
pub fn check(operations: &[Operation], expected: Expected) -> Report {
    let index = Index::new(operations);
    let mut found = index.contradictions(expected);
    found.extend(order::check(operations, &index));
    found.extend(visible::check(operations, &index, expected));
    found.extend(flow::check(operations, &index));
    found.extend(offsets::check(operations));
    found.extend(members::check(operations));
    found.sort();
    found.dedup();
    let (inherent, violations) =
        found.into_iter().partition(|it| index.is_inherent(operations, it));
    Report { violations, inherent }
}

impl Report {
    /// Whether nothing at all was found.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.violations.is_empty() && self.inherent.is_empty()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {} of partition {}", self.offset, self.partition.0)
    }
}

impl Violation {
    /// Writes what concerns the offsets and members of a group.
    fn fmt_of_group(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OffsetWentBack(group, partition, offset) => {
                let (group, partition) = (group.0, partition.0);
                write!(
                    f,
                    "group {group} was told {offset:?} for partition {partition}, and there was a newer commit"
                )
            }
            Self::AbortedOffset(group, at) => {
                write!(f, "group {} was told {at}, which was not committed", group.0)
            }
            Self::NeverCommitted(group, at) => {
                write!(f, "group {} was told {at}, which nobody had asked to commit", group.0)
            }
            Self::HeldTwice(group, partition, epoch, one, other) => {
                let (group, partition, epoch) = (group.0, partition.0, epoch.0);
                write!(
                    f,
                    "in epoch {epoch} of group {group}, clients {} and {} both had partition {partition}",
                    one.0, other.0
                )
            }
            Self::CommittedByFormer(group, partition, former, client) => {
                let (group, partition, former) = (group.0, partition.0, former.0);
                write!(
                    f,
                    "client {former} committed partition {partition} for group {group} when client {} had it",
                    client.0
                )
            }
            Self::EpochWentBack(group, client, from, to) => {
                let (client, from, to) = (client.0, from.0, to.0);
                write!(f, "client {client} was in epoch {to} of group {} after {from}", group.0)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InconsistentOffset(at, one, other) => {
                write!(f, "{at} held {} and {}", one.0, other.0)
            }
            Self::Duplicate(value, one, other) => {
                write!(f, "{} was at {one} and at {other}", value.0)
            }
            Self::NeverSent(value, at) => write!(f, "{} at {at} was never sent", value.0),
            Self::Lost(value, at) => {
                write!(f, "{} at {at} was acknowledged and never polled; later ones were", value.0)
            }
            Self::Unseen(value, partition) => {
                write!(f, "{} in partition {} was never polled", value.0, partition.0)
            }
            Self::PollSkipped(client, at, value) => {
                write!(f, "client {} passed over {} at {at}", client.0, value.0)
            }
            Self::PollWentBack(client, from, to) => {
                write!(f, "client {} polled {to} after {from}", client.0)
            }
            Self::SendWentBack(client, from, to) => {
                write!(f, "client {} wrote to {to} after {from}", client.0)
            }
            Self::AbortedRead(value, at) => {
                write!(f, "{} at {at} was not committed, and was polled", value.0)
            }
            Self::EarlyRead(value, at) => {
                write!(f, "{} at {at} was polled before it was to be committed", value.0)
            }
            Self::TornTransaction(seen, missing) => {
                write!(f, "of one transaction, {} was polled and {} was not", seen.0, missing.0)
            }
            Self::CircularFlow(values) => {
                write!(f, "transactions have read from each other: {values:?}")
            }
            of_a_group => of_a_group.fmt_of_group(f),
        }
    }
}
