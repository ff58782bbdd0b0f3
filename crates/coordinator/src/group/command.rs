//! What a coordinator of groups is asked: the protocol's words, without its versions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, TopicId, Uuid};

use super::consumer::{Asker, Partitions};
use super::streams::{Assignment, Endpoint, Topology};

/// Names one request that waits for its reply. The host draws tickets and never uses one twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A request that changes groups. What only reads is a method of [`super::Groups`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Become a member, or stay one in the next generation. May wait.
    Join(Join),
    /// Hand in (leader) or collect (everyone) the assignment of a generation. May wait.
    Sync(Sync),
    /// Stay a member.
    Heartbeat(Heartbeat),
    /// Members leave, or are removed by an administrator.
    Leave(Leave),
    /// Join, stay in or leave a consumer group (KIP-848).
    ConsumerHeartbeat(ConsumerHeartbeat),
    /// Join, stay in or leave a streams group (KIP-1071).
    StreamsHeartbeat(StreamsHeartbeat),
    /// Store offsets.
    Commit(Commit),
    /// Store offsets when this producer's transaction commits, and not before.
    CommitWithin(ProducerId, ProducerEpoch, Commit),
    /// Forget offsets of topics that the group does not read any more.
    DeleteOffsets(DeleteOffsets),
    /// Forget groups that have no members.
    DeleteGroups(DeleteGroups),
}

/// Become a member, or stay one in the next generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Join {
    /// The group.
    pub group: Arc<str>,
    /// The member's id from an earlier reply; empty for a newcomer.
    pub member: Arc<str>,
    /// The static member's own name (`group.instance.id`).
    pub instance: Option<Arc<str>>,
    /// The client's name for itself; a newcomer's member id starts with it.
    pub client_id: Arc<str>,
    /// Where the client connects from, for people to read.
    pub client_host: Arc<str>,
    /// How long the member may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// How long the member may take to join again in a rebalance, in milliseconds. The first
    /// protocol version has none and means the session timeout.
    pub rebalance_timeout_ms: i32,
    /// What the protocols are for, such as `consumer`.
    pub protocol_type: Arc<str>,
    /// The assignment protocols that the member can speak, best first.
    pub protocols: Vec<Protocol>,
    /// Whether a newcomer must come back with the id it is given before it counts.
    pub require_known_member_id: bool,
    /// Whether the client understands that a leader need not compute an assignment.
    pub can_skip_assignment: bool,
    /// Randomness for the member id of a newcomer.
    pub fresh: Uuid,
    /// Who speaks, if there is something that he may not know of: where the coordinator assigns partitions, he gets
    /// none of that.
    pub asker: Option<Asker>,
}

/// One assignment protocol that a member can speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Protocol {
    /// Its name, such as `range`.
    pub name: Arc<str>,
    /// What the leader gets to see of the member, such as its subscription.
    pub metadata: Bytes,
}

/// Who speaks, in requests of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Speaker {
    /// The group.
    pub group: Arc<str>,
    /// The member's id; empty when the request comes from outside the group.
    pub member: Arc<str>,
    /// The static member's own name.
    pub instance: Option<Arc<str>>,
    /// The generation that the member believes to be current; -1 when it is in none.
    pub generation: i32,
}

impl Speaker {
    /// Whether it says nothing of itself, as producers that know of no members.
    pub(super) fn is_nobody(&self) -> bool {
        self.member.is_empty() && self.instance.is_none() && self.generation < 0
    }
}

/// Hand in or collect the assignment of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sync {
    /// Who speaks.
    pub speaker: Speaker,
    /// What the member believes the group's protocol type to be, if it says.
    pub protocol_type: Option<Arc<str>>,
    /// What the member believes the chosen protocol to be, if it says.
    pub protocol: Option<Arc<str>>,
    /// From the leader: what each member is to do. A member that is not named gets nothing to do.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// Stay a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Who speaks.
    pub speaker: Speaker,
}

/// Members leave, or are removed by an administrator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leave {
    /// The group.
    pub group: Arc<str>,
    /// Who leaves.
    pub members: Vec<Leaver>,
}

/// One who leaves: by member id, or (an administrator's request) by instance alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Leaver {
    /// The member's id; empty when only the instance is known.
    pub member: Arc<str>,
    /// The static member's own name.
    pub instance: Option<Arc<str>>,
}

/// Join, stay in or leave a consumer group. What is `None` is as the member said before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerHeartbeat {
    /// The group.
    pub group: Arc<str>,
    /// The member's id; empty where the client leaves it to the coordinator to draw one.
    pub member: Arc<str>,
    /// 0 to join, -1 to leave, -2 to leave for a while; else the epoch that the member was told.
    pub epoch: i32,
    /// The static member's own name.
    pub instance: Option<Arc<str>>,
    /// Where the member is, for assignments that care.
    pub rack: Option<Arc<str>>,
    /// How long the member may take to give up partitions, in milliseconds; -1 as before.
    pub rebalance_timeout_ms: i32,
    /// The topics that it names.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// The topics that it describes by a regular expression; empty for none.
    pub regex: Option<Arc<str>>,
    /// The assignor that it would like.
    pub assignor: Option<Arc<str>>,
    /// The partitions that it owns.
    pub owned: Option<Partitions>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from, for people to read.
    pub client_host: Arc<str>,
    /// Randomness for the id of a member that has none.
    pub fresh: Uuid,
    /// Who speaks, if there is something that he may not know of: he is not assigned topics of that kind.
    pub asker: Option<Asker>,
}

/// Join, stay in or leave a streams group. What is `None` is as the member said before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsHeartbeat {
    /// The group.
    pub group: Arc<str>,
    /// The member's id.
    pub member: Arc<str>,
    /// 0 to join, -1 to leave, -2 to leave for a while; else the epoch that the member was told.
    pub epoch: i32,
    /// The epoch of what the member was told last of where tasks are; -1 for nothing.
    pub endpoints_epoch: i32,
    /// The static member's own name.
    pub instance: Option<Arc<str>>,
    /// Where the member is.
    pub rack: Option<Arc<str>>,
    /// How long the member may take to give up tasks, in milliseconds; -1 as before.
    pub rebalance_timeout_ms: i32,
    /// From who joins: what the application consists of.
    pub topology: Option<Topology>,
    /// The tasks that it has.
    pub owned: Option<Assignment>,
    /// The process that it is part of.
    pub process: Option<Arc<str>>,
    /// Where it answers queries.
    pub endpoint: Option<Endpoint>,
    /// What it says of where it is.
    pub tags: Option<BTreeMap<Arc<str>, Arc<str>>>,
    /// Whether all members are to shut down.
    pub shutdown: bool,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from, for people to read.
    pub client_host: Arc<str>,
}

/// Store offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Who speaks. Outsiders (no member, no instance, generation -1) may commit while the group
    /// has no members.
    pub speaker: Speaker,
    /// How long to keep the offsets, in milliseconds, where an old client says so itself.
    pub retention_ms: Option<i64>,
    /// Whether the request is of a version that knows members' epochs.
    pub speaks_epochs: bool,
    /// The offsets.
    pub topics: Vec<CommitTopic>,
}

/// Offsets of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitTopic {
    /// The topic's name, under which offsets are kept.
    pub name: Arc<str>,
    /// The topic's identity, where the client named the topic by it: kept beside the offset, so
    /// that an offset for a deleted topic is not taken for its namesake's.
    pub id: Option<TopicId>,
    /// The offsets.
    pub partitions: Vec<CommitPartition>,
}

/// The offset of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitPartition {
    /// The partition's number.
    pub index: i32,
    /// The next offset to read.
    pub offset: Offset,
    /// The leader epoch of the last record read, -1 when not known.
    pub leader_epoch: LeaderEpoch,
    /// The client's own note.
    pub metadata: Arc<str>,
}

/// Forget offsets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteOffsets {
    /// The group.
    pub group: Arc<str>,
    /// Topics and partitions.
    pub topics: Vec<(Arc<str>, Vec<i32>)>,
}

/// Forget groups that have no members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteGroups {
    /// The groups; all of one shard.
    pub groups: Vec<Arc<str>>,
}

/// Who asks for offsets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reader {
    /// The member's id, if it says so.
    pub member: Option<Arc<str>>,
    /// The epoch that it was told; -1 for who is not a member.
    pub epoch: i32,
}

/// Which offsets are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchTopic {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's identity, where the client named the topic by it.
    pub id: Option<TopicId>,
    /// The partitions.
    pub partitions: Vec<i32>,
}

/// Which groups to list. Empty means any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Names of states, in any case.
    pub states: Vec<String>,
    /// Names of types, in any case.
    pub types: Vec<String>,
}
