//! Groups of the classic, the consumer and the streams protocol, and committed offsets.
//!
//! One [`Groups`] keeps all groups of one partition of `__consumer_offsets`. Its host
//!
//! 1. draws a [`Ticket`] for a request and calls [`Groups::handle`] (or [`Groups::tick`] when
//!    [`Effects::next_deadline`] has come);
//! 2. appends [`Effects::records`] to the partition and at once calls [`Groups::replay`] with each,
//!    in order, before anything else; or, if the append fails, [`Groups::append_failed`];
//! 3. sends [`Effects::replies`] when what was appended is durable. Replies to other tickets than
//!    the caller's may be among them: joins and syncs wait for each other.
//!
//! Offsets that are committed within a transaction ([`Command::CommitWithin`]) are staged; the marker
//! that the coordinator of transactions has appended to the same partition makes them count, or drops
//! them ([`Groups::end_transaction`]).
//!
//! A restart reads the partition into a [`Loading`], from which [`Loading::finish`] makes the
//! groups. What only reads ([`Groups::fetch_offsets`], [`Groups::describe`], [`Groups::list`]) is
//! answered at once; that answer, too, may depend on records that are not durable yet.
//!
//! Invariants:
//!
//! * Committed offsets and stored groups change only in `replay`, in the running coordinator as in
//!   a restarted one.
//! * A stable or empty group is, in memory, what its stored record says.
//! * Each ticket is answered exactly once.

mod command;
mod consumer;
mod join;
mod live;
mod members;
mod offsets;
mod record;
mod reply;
mod serve;
mod settings;
mod shard;
mod streams;
mod subscription;
#[cfg(test)]
mod tests;

pub use crate::host::{HostFailure, ReplayError, StoredRecord, partition_of};
pub use command::{
    Command, Commit, CommitPartition, CommitTopic, ConsumerHeartbeat, DeleteGroups, DeleteOffsets,
    FetchTopic, Heartbeat, Join, Leave, Leaver, ListFilter, Protocol, Reader, Speaker,
    StreamsHeartbeat, Sync, Ticket,
};
pub use consumer::{
    Asker, Assignor, GroupOverrides, NoWorld, Partitions, Pattern, Rights, StreamsOverrides, World,
};
pub use reply::{
    CommitError, CommitPartitionError, Committed, CommittedTopic, ConsumerBeat,
    ConsumerDescription, ConsumerHeartbeatError, DeleteGroupError, DeleteOffsetsError,
    DeletePartitionError, DeletedTopic, DescribedConsumer, DescribedMember, Description,
    EndpointPartitions, FetchError, FetchRefused, Fetched, GroupState, GroupType, HeartbeatError,
    JoinError, JoinRefused, Joined, JoinedMember, LeaveError, LeaveMemberError, Listed,
    NamedPartitions, Reply, StreamsBeat, StreamsHeartbeatError, SyncError, Synced,
};
pub use settings::{Bounded, ConsumerSettings, GroupSettings, Migration, StreamsSettings};
pub use shard::{Groups, Loading};
pub use streams::{
    Assignment as TaskAssignment, Copartition, DescribedStreamsMember, Endpoint, InternalTopic,
    Status as StreamsStatus, StatusCode as StreamsStatusCode, StreamsDescription, Subtopology,
    Tasks, Topology,
};

use millstream_types::{Monotonic, ProducerEpoch, ProducerId};

/// What follows from a command or from the passing of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[must_use = "records are to be appended and replayed, replies to be sent"]
pub struct Effects {
    /// To append, and then to replay, in order.
    pub records: Vec<StoredRecord>,
    /// Whose transaction the records are part of: they are appended as its own, and replayed with
    /// [`Groups::replay_within`].
    pub within: Option<(ProducerId, ProducerEpoch)>,
    /// To send when the records are durable.
    pub replies: Vec<(Ticket, Reply)>,
    /// When to call [`Groups::tick`], if nothing else happens before. The same as
    /// [`Groups::next_deadline`] at that time.
    pub next_deadline: Option<Monotonic>,
}

impl Effects {
    fn reply(&mut self, ticket: Ticket, reply: Reply) {
        self.replies.push((ticket, reply));
    }
}
