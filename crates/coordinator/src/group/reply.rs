//! What a coordinator of groups answers: one error enum per operation, so that the edge gives
//! each its number in one exhaustive match.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use millstream_types::{LeaderEpoch, Offset, TopicId};

use super::consumer::{Assignor, Partitions};
use super::streams::{Assignment, Endpoint, InternalTopic, Status};
use crate::host::HostFailure;

/// The answer to a [`super::Command`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// To a join.
    Join(Result<Joined, JoinRefused>),
    /// To a sync.
    Sync(Result<Synced, SyncError>),
    /// To a heartbeat.
    Heartbeat(Result<(), HeartbeatError>),
    /// To a heartbeat of a consumer group.
    ConsumerHeartbeat(Result<ConsumerBeat, ConsumerHeartbeatError>),
    /// To a heartbeat of a streams group.
    StreamsHeartbeat(Result<StreamsBeat, StreamsHeartbeatError>),
    /// To a leave: one result per leaver, in the order asked.
    Leave(Result<Vec<Result<(), LeaveMemberError>>, LeaveError>),
    /// To a commit: per topic, in the order asked, and per partition, in the order asked.
    Commit(Result<Vec<CommittedTopic>, CommitError>),
    /// To a deletion of offsets: per topic and partition, in the order asked.
    DeleteOffsets(Result<Vec<DeletedTopic>, DeleteOffsetsError>),
    /// To a deletion of groups, in the order asked.
    DeleteGroups(Vec<(Arc<str>, Result<(), DeleteGroupError>)>),
}

/// The outcome of a commit for one topic: its name, and per partition its number and result.
pub type CommittedTopic = (Arc<str>, Vec<(i32, Result<(), CommitPartitionError>)>);

/// The outcome of a deletion for one topic: its name, and per partition its number and result.
pub type DeletedTopic = (Arc<str>, Vec<(i32, Result<(), DeletePartitionError>)>);

/// The member is part of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Joined {
    /// The member's id.
    pub member: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// What the protocols are for.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// Who computes the assignment; empty when there is none.
    pub leader: Arc<str>,
    /// The leader need not compute an assignment: the stored one stands.
    pub skip_assignment: bool,
    /// For the leader: everybody in the group. Empty for others.
    pub members: Vec<JoinedMember>,
}

/// A member as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedMember {
    /// The member's id.
    pub member: Arc<str>,
    /// The static member's own name.
    pub instance: Option<Arc<str>>,
    /// What it said for the chosen protocol.
    pub metadata: Bytes,
}

/// The member is not part of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRefused {
    /// The id that the reply names: a new one with [`JoinError::MemberIdRequired`].
    pub member: Arc<str>,
    /// Why.
    pub error: JoinError,
}

/// Why a join failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// The group has no name.
    InvalidGroupId,
    /// The session timeout is outside what the coordinator allows.
    InvalidSessionTimeout,
    /// No such member: join again as a newcomer.
    UnknownMember,
    /// Another client has taken over this static member's name: stop.
    FencedInstance,
    /// No protocol that every member speaks, or another protocol type, or none at all.
    InconsistentProtocol,
    /// Join again with the id given.
    MemberIdRequired,
    /// The group has as many members as are allowed.
    GroupFull,
    /// The same member has sent a newer join, which will be answered instead.
    Superseded,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// The member's assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Synced {
    /// What the protocols are for.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// What the leader wrote for this member; empty when it wrote nothing.
    pub assignment: Bytes,
}

/// Why a sync failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncError {
    /// The group has no name.
    InvalidGroupId,
    /// No such member: join again as a newcomer.
    UnknownMember,
    /// Another client has taken over this static member's name: stop.
    FencedInstance,
    /// The group is in another generation: join again.
    IllegalGeneration,
    /// The member believes in another protocol than the group's.
    InconsistentProtocol,
    /// A new generation is being formed: join again.
    RebalanceInProgress,
    /// The same member has sent a newer sync, which will be answered instead.
    Superseded,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// Why a heartbeat failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeartbeatError {
    /// The group has no name.
    InvalidGroupId,
    /// No such member: join again as a newcomer.
    UnknownMember,
    /// Another client has taken over this static member's name: stop.
    FencedInstance,
    /// The group is in another generation: join again.
    IllegalGeneration,
    /// A new generation is being formed: join again. The member's session goes on.
    RebalanceInProgress,
}

/// What a member of a consumer group is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerBeat {
    /// The member's id.
    pub member: Arc<str>,
    /// The member's epoch from now on.
    pub epoch: i32,
    /// When it is to send the next heartbeat, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What it may read, all of it; `None` when that is what it was told last.
    pub assignment: Option<Partitions>,
}

/// Why a heartbeat of a consumer group failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumerHeartbeatError {
    /// Consumer groups are not served (`group.coordinator.rebalance.protocols`).
    NotServed,
    /// The request contradicts itself.
    Invalid(&'static str),
    /// No such group, or one of another type.
    GroupNotFound,
    /// No such member: join again.
    UnknownMember,
    /// The member's epoch is not what it was told: it owns nothing any more and must join again.
    FencedEpoch {
        /// The member's epoch.
        known: i32,
        /// The epoch that it says.
        said: i32,
    },
    /// Another member bears this name and has not left.
    UnreleasedInstance,
    /// Another client has taken over this static member's name: stop.
    FencedInstance,
    /// The group has as many members, or they say as much, as is allowed.
    GroupFull,
    /// There is no such assignor.
    UnsupportedAssignor {
        /// The assignor that was asked for.
        name: Arc<str>,
        /// Those that there are.
        known: String,
    },
    /// It cannot be read, and why.
    InvalidRegex(String),
    /// The coordinator's host failed.
    Host(HostFailure),
}

impl fmt::Display for ConsumerHeartbeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotServed => f.write_str(
                "The consumer protocol is switched off: see group.coordinator.rebalance.protocols.",
            ),
            Self::Invalid(why) => f.write_str(why),
            Self::GroupNotFound => f.write_str("There is no such consumer group."),
            Self::UnknownMember => f.write_str("The group has no such member: join again."),
            Self::FencedEpoch { known, said } => write!(
                f,
                "The member is in epoch {known} and not in {said}: it must give up its partitions \
                 and join again."
            ),
            Self::UnreleasedInstance => {
                f.write_str("Another member of the group has this instance id and has not left.")
            }
            Self::FencedInstance => f.write_str("Another member has taken over this instance id."),
            Self::GroupFull => f.write_str("The group takes no more members."),
            Self::UnsupportedAssignor { name, known } => {
                write!(f, "There is no assignor {name}; there are {known}.")
            }
            Self::InvalidRegex(why) => {
                write!(f, "SubscribedTopicRegex is not a regular expression of RE2: {why}")
            }
            Self::Host(_) => f.write_str("The group cannot be written now."),
        }
    }
}

/// What a member of a streams group is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamsBeat {
    /// The member's id.
    pub member: Arc<str>,
    /// The member's epoch from now on.
    pub epoch: i32,
    /// When it is to send the next heartbeat, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// The tasks that it may have, all of them; `None` when that is what it was told last.
    pub assignment: Option<Assignment>,
    /// What is to be said of the group.
    pub statuses: Vec<Status>,
    /// The epoch of what is said of where tasks are.
    pub endpoints_epoch: i32,
    /// Where tasks are; `None` when that is what the member was told last.
    pub endpoints: Option<Vec<EndpointPartitions>>,
    /// Topics that the host is to make, with the number of their partitions.
    pub missing: Vec<InternalTopic>,
}

/// The partitions whose tasks are where queries are answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPartitions {
    /// Where that is.
    pub endpoint: Endpoint,
    /// The partitions of active tasks, by topic.
    pub active: BTreeMap<Arc<str>, Vec<i32>>,
    /// The partitions of standby tasks, by topic.
    pub standby: BTreeMap<Arc<str>, Vec<i32>>,
}

/// Why a heartbeat of a streams group failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamsHeartbeatError {
    /// Streams groups are not served (`group.coordinator.rebalance.protocols`).
    NotServed,
    /// The request contradicts itself, or the group.
    Invalid(Cow<'static, str>),
    /// The topology can't be.
    InvalidTopology(String),
    /// The topology's number is none.
    InvalidTopologyEpoch(i32),
    /// No such group, or one of another type.
    GroupNotFound,
    /// No such member: join again.
    UnknownMember,
    /// The member's epoch is not what it was told: it has no tasks any more and must join again.
    FencedEpoch {
        /// The member's epoch.
        known: i32,
        /// The epoch that it says.
        said: i32,
    },
    /// Another member bears this name and has not left.
    UnreleasedInstance,
    /// Another client has taken over this static member's name: stop.
    FencedInstance,
    /// The group has as many members, or they say as much, as is allowed.
    GroupFull,
    /// The coordinator's host failed.
    Host(HostFailure),
}

impl fmt::Display for StreamsHeartbeatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotServed => f.write_str(
                "The streams protocol is switched off: see group.coordinator.rebalance.protocols.",
            ),
            Self::Invalid(why) => f.write_str(why),
            Self::InvalidTopology(why) => f.write_str(why),
            Self::InvalidTopologyEpoch(epoch) => {
                write!(f, "The topology's epoch is {epoch}, but must not be negative.")
            }
            Self::GroupNotFound => f.write_str("There is no such streams group."),
            Self::UnknownMember => f.write_str("The group has no such member: join again."),
            Self::FencedEpoch { known, said } => write!(
                f,
                "The member is in epoch {known} and not in {said}: it must give up its tasks and \
                 join again."
            ),
            Self::UnreleasedInstance => {
                f.write_str("Another member of the group has this instance id and has not left.")
            }
            Self::FencedInstance => f.write_str("Another member has taken over this instance id."),
            Self::GroupFull => f.write_str("The group takes no more members."),
            Self::Host(_) => f.write_str("The group cannot be written now."),
        }
    }
}

/// Why nobody could leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveError {
    /// The group has no name.
    InvalidGroupId,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// Why one member could not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveMemberError {
    /// No such member.
    UnknownMember,
    /// Another client has taken over this static member's name.
    FencedInstance,
}

/// Why no offset was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitError {
    /// No such group, and the commit names a generation. (Old protocol versions know this as an
    /// illegal generation.)
    GroupNotFound,
    /// No such member; or an outsider's commit while the group has members.
    UnknownMember,
    /// Another client has taken over this static member's name: stop.
    FencedInstance,
    /// The group is in another generation: join again.
    IllegalGeneration,
    /// The member has joined a generation but does not know its assignment yet.
    RebalanceInProgress,
    /// The member of a consumer group has been told another epoch since.
    StaleEpoch,
    /// The request is of a version that does not know consumer groups.
    NotServed,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// Why the offset of one partition was not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitPartitionError {
    /// The client's note is too long.
    MetadataTooLarge,
}

/// Why no offset was forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteOffsetsError {
    /// No such group.
    GroupNotFound,
    /// The group has members, and what they read cannot be known.
    NonEmptyGroup,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// Why one offset was not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeletePartitionError {
    /// A member of the group reads the topic.
    SubscribedToTopic,
}

/// Why a group was not forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeleteGroupError {
    /// No such group.
    GroupNotFound,
    /// The group has members.
    NonEmptyGroup,
    /// The coordinator's host failed.
    Host(HostFailure),
}

/// The offset of one partition, as fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// The partition's number.
    pub index: i32,
    /// `None` when nothing is stored.
    pub committed: Result<Option<Committed>, FetchError>,
}

/// A stored offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The next offset to read.
    pub offset: Offset,
    /// The leader epoch of the last record read, -1 when not known.
    pub leader_epoch: LeaderEpoch,
    /// The client's own note.
    pub metadata: Arc<str>,
    /// The identity of the topic, where the commit named it.
    pub topic_id: Option<TopicId>,
}

/// Why the offset of one partition cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchError {
    /// A transaction that would change it is open, and only settled offsets were asked for.
    Unstable,
}

/// Why no offset is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FetchRefused {
    /// No such member.
    UnknownMember,
    /// The member has been told another epoch since.
    StaleEpoch,
}

/// The state of a group, as clients and tools know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupState {
    /// No members.
    Empty,
    /// Waiting for members to join.
    PreparingRebalance,
    /// Waiting for the leader's assignment.
    CompletingRebalance,
    /// Every member has its assignment.
    Stable,
    /// A consumer group whose target assignment is behind.
    Assigning,
    /// A consumer group of which a member is on the way to its target.
    Reconciling,
    /// A streams group whose topics are not as its topology needs them.
    NotReady,
}

impl GroupState {
    /// The name that clients and tools know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::PreparingRebalance => "PreparingRebalance",
            Self::CompletingRebalance => "CompletingRebalance",
            Self::Stable => "Stable",
            Self::Assigning => "Assigning",
            Self::Reconciling => "Reconciling",
            Self::NotReady => "NotReady",
        }
    }
}

/// The type of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum GroupType {
    /// Its members agree among themselves who reads what.
    Classic,
    /// The coordinator decides (KIP-848).
    Consumer,
    /// The instances of a Kafka Streams application (KIP-1071).
    Streams,
}

impl GroupType {
    /// The name that clients and tools know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Classic => "classic",
            Self::Consumer => "consumer",
            Self::Streams => "streams",
        }
    }
}

/// A consumer group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerDescription {
    /// Its state.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub target_epoch: i32,
    /// Who assigns.
    pub assignor: Assignor,
    /// The members.
    pub members: Vec<DescribedConsumer>,
}

/// A member of a consumer group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedConsumer {
    /// The member's id.
    pub member: Arc<str>,
    /// The static member's own name.
    pub instance: Option<Arc<str>>,
    /// Where it is.
    pub rack: Option<Arc<str>>,
    /// Its epoch.
    pub epoch: i32,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from.
    pub client_host: Arc<str>,
    /// The topics that it names.
    pub topics: Vec<Arc<str>>,
    /// The topics that it describes.
    pub regex: Option<Arc<str>>,
    /// What it may read.
    pub assigned: Vec<NamedPartitions>,
    /// What it is to read.
    pub target: Vec<NamedPartitions>,
    /// Whether it speaks the classic protocol.
    pub classic: bool,
}

/// Partitions of a topic that there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPartitions {
    /// The topic's identity.
    pub topic: TopicId,
    /// The topic's name.
    pub name: Arc<str>,
    /// The partitions.
    pub indexes: Vec<i32>,
}

/// A group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its state.
    pub state: GroupState,
    /// What the protocols are for; empty when only offsets are kept.
    pub protocol_type: Arc<str>,
    /// The chosen protocol, in a stable group; empty otherwise.
    pub protocol: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// Who computes the assignment, if the group has members.
    pub leader: Option<Arc<str>>,
    /// The members.
    pub members: Vec<DescribedMember>,
}

/// A member, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedMember {
    /// The member's id.
    pub member: Arc<str>,
    /// The static member's own name.
    pub instance: Option<Arc<str>>,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from.
    pub client_host: Arc<str>,
    /// What it said for the chosen protocol, in a stable group; empty otherwise.
    pub metadata: Bytes,
    /// Its assignment, in a stable group; empty otherwise.
    pub assignment: Bytes,
}

/// A group, listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The group.
    pub group: Arc<str>,
    /// What the protocols are for; empty when only offsets are kept.
    pub protocol_type: Arc<str>,
    /// Its state.
    pub state: GroupState,
    /// Its type.
    pub group_type: GroupType,
}

impl Reply {
    /// The same reply after the host could not store what it depends on: refusals stand,
    /// successes turn into failures.
    #[must_use]
    pub(super) fn failed(self, why: HostFailure) -> Self {
        match self {
            Self::Join(Ok(_)) => {
                Self::Join(Err(JoinRefused { member: Arc::from(""), error: JoinError::Host(why) }))
            }
            Self::Sync(Ok(_)) => Self::Sync(Err(SyncError::Host(why))),
            Self::ConsumerHeartbeat(Ok(_)) => {
                Self::ConsumerHeartbeat(Err(ConsumerHeartbeatError::Host(why)))
            }
            Self::StreamsHeartbeat(Ok(_)) => {
                Self::StreamsHeartbeat(Err(StreamsHeartbeatError::Host(why)))
            }
            Self::Leave(Ok(_)) => Self::Leave(Err(LeaveError::Host(why))),
            Self::Commit(Ok(_)) => Self::Commit(Err(CommitError::Host(why))),
            Self::DeleteOffsets(Ok(_)) => Self::DeleteOffsets(Err(DeleteOffsetsError::Host(why))),
            Self::DeleteGroups(results) => Self::DeleteGroups(
                results
                    .into_iter()
                    .map(|(group, result)| (group, result.and(Err(DeleteGroupError::Host(why)))))
                    .collect(),
            ),
            refused => refused,
        }
    }
}
