//! Who may ask what: one table says which operation on which resource each API needs (KIP-11 and those
//! after it; Kafka's "authorization primitives").
//!
//! Handlers ask [`Call::may`] for what the table lists for their API, and for nothing else: what is not
//! listed is refused, and `millstream/tests/authorisation.rs` walks the table against every API that is
//! served. Topics and groups that a request names are answered one by one. What somebody may not
//! describe, he is not told of: names are refused before it is looked whether there is anything of
//! that name, and left out where all are asked for. Ids of topics are no secret, as in Kafka.

use std::sync::Arc;

use millstream_broker::acl::{CLUSTER_NAME, Operation, ResourceType, Who};
use millstream_broker::groups::Asker;
use millstream_broker::{Topic, TopicRef};
use millstream_wire::{ApiKey, ErrorCode, StrBytes};

use crate::dispatch::Call;
use crate::errors::Refusal;

/// A right that an API needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    /// What may be done.
    pub operation: Operation,
    /// To which kind of resource.
    pub resource: ResourceType,
    /// For what it is needed, if not for each resource that the request names: for people.
    pub note: &'static str,
}

/// The rights that an API needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The API.
    pub api: ApiKey,
    /// What it needs.
    pub rights: &'static [Right],
}

macro_rules! needs {
    ($($api:ident: $($operation:ident $resource:ident $($note:literal)?),*;)+) => {
        /// What each API needs, by its number.
        pub const NEEDS: &[Needs] = &[$(Needs {
            api: ApiKey::$api,
            rights: &[$(Right {
                operation: Operation::$operation,
                resource: ResourceType::$resource,
                note: concat!($($note)?),
            }),*],
        }),+];
    };
}

needs! {
    Produce: Write Topic, Write TransactionalId "within a transaction";
    Fetch: Read Topic;
    ListOffsets: Describe Topic;
    Metadata:
        Describe Topic "others are left out where all are asked for",
        Create Cluster "to make topics by asking for them; or on the topic",
        Create Topic "or on the cluster",
        Describe Cluster "to be told what may be done to the cluster";
    OffsetCommit: Read Group, Read Topic;
    OffsetFetch:
        Describe Group, Describe Topic "others are left out where all are asked for";
    FindCoordinator: Describe Group "of groups", Describe TransactionalId "of transactional ids";
    JoinGroup:
        Read Group,
        Describe Topic "where the broker assigns partitions; others are left out";
    Heartbeat: Read Group;
    LeaveGroup: Read Group;
    SyncGroup: Read Group;
    DescribeGroups: Describe Group;
    ListGroups: Describe Cluster "of all groups", Describe Group "others are left out";
    SaslHandshake:;
    ApiVersions:;
    CreateTopics:
        Create Cluster "or on the topic", Create Topic "or on the cluster",
        DescribeConfigs Topic "to be told its configuration";
    DeleteTopics: Delete Topic, Describe Topic;
    DeleteRecords: Delete Topic;
    InitProducerId:
        Write TransactionalId "with a transactional id",
        IdempotentWrite Cluster "without one; or WRITE on any topic",
        Write Topic "without a transactional id: on any; or IDEMPOTENT_WRITE on the cluster";
    OffsetForLeaderEpoch: Describe Topic;
    AddPartitionsToTxn:
        Write TransactionalId "up to version 3", Write Topic "up to version 3",
        ClusterAction Cluster "from version 4 on, which is for brokers";
    AddOffsetsToTxn: Write TransactionalId, Read Group;
    EndTxn: Write TransactionalId;
    WriteTxnMarkers: Alter Cluster "or CLUSTER_ACTION", ClusterAction Cluster "or ALTER";
    TxnOffsetCommit: Write TransactionalId, Read Group, Read Topic;
    DescribeAcls: Describe Cluster;
    CreateAcls: Alter Cluster;
    DeleteAcls: Alter Cluster;
    DescribeConfigs:
        DescribeConfigs Topic "of topics", DescribeConfigs Group "of groups",
        DescribeConfigs Cluster "of brokers and client metrics";
    AlterConfigs:
        AlterConfigs Topic "of topics", AlterConfigs Group "of groups",
        AlterConfigs Cluster "of brokers and client metrics";
    AlterReplicaLogDirs: Alter Cluster;
    DescribeLogDirs: Describe Cluster;
    SaslAuthenticate:;
    CreatePartitions: Alter Topic;
    CreateDelegationToken: CreateTokens User "for others";
    RenewDelegationToken:;
    ExpireDelegationToken:;
    DescribeDelegationToken:
        Describe DelegationToken "of others; or DESCRIBE_TOKENS on their owner",
        DescribeTokens User "of others; or DESCRIBE on the token";
    DeleteGroups: Delete Group;
    ElectLeaders: Alter Cluster;
    IncrementalAlterConfigs:
        AlterConfigs Topic "of topics", AlterConfigs Group "of groups",
        AlterConfigs Cluster "of brokers and client metrics";
    AlterPartitionReassignments: Alter Cluster;
    ListPartitionReassignments: Describe Cluster;
    OffsetDelete: Delete Group, Read Topic;
    DescribeClientQuotas: DescribeConfigs Cluster;
    AlterClientQuotas: AlterConfigs Cluster;
    DescribeUserScramCredentials: Describe Cluster;
    AlterUserScramCredentials: Alter Cluster;
    DescribeQuorum: Describe Cluster;
    UpdateFeatures: Alter Cluster;
    DescribeCluster: Describe Cluster "to be told what may be done to the cluster";
    DescribeProducers: Read Topic;
    DescribeTransactions:
        Describe TransactionalId, Describe Topic "others are left out";
    ListTransactions: Describe TransactionalId "others are left out";
    ConsumerGroupHeartbeat:
        Read Group,
        Describe Topic "of those that are subscribed to by name; others that match are left out";
    ConsumerGroupDescribe: Describe Group, Describe Topic "of all that the group reads";
    GetTelemetrySubscriptions:;
    PushTelemetry:;
    ListConfigResources: DescribeConfigs Cluster;
    DescribeTopicPartitions: Describe Topic "others are left out where all are asked for";
    StreamsGroupHeartbeat:
        Read Group, Describe Topic "of all of the topology, the group's included",
        Create Cluster "to have topics made that are missing; or on the topic",
        Create Topic "or on the cluster";
    StreamsGroupDescribe: Describe Group, Describe Topic "of all of the topology";
}

/// What somebody may do something to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
    /// By its id.
    DelegationToken(&'a str),
    /// As `User:name`.
    User(&'a str),
    Cluster,
}

/// What authorised operations are when nobody has asked.
pub(crate) const NOT_ASKED: i32 = i32::MIN;

/// What can be done to a topic, a group and the cluster (`AclEntry.supportedOperations`).
const OF_TOPICS: &[Operation] = &[
    Operation::Read,
    Operation::Write,
    Operation::Create,
    Operation::Delete,
    Operation::Alter,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
];
const OF_GROUPS: &[Operation] = &[
    Operation::Read,
    Operation::Delete,
    Operation::Describe,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
];
const OF_TRANSACTIONAL_IDS: &[Operation] =
    &[Operation::Write, Operation::Describe, Operation::TwoPhaseCommit];
const OF_CLUSTERS: &[Operation] = &[
    Operation::Create,
    Operation::Alter,
    Operation::Describe,
    Operation::ClusterAction,
    Operation::DescribeConfigs,
    Operation::AlterConfigs,
    Operation::IdempotentWrite,
];

impl<'a> Resource<'a> {
    pub(crate) const fn kind(self) -> ResourceType {
        match self {
            Self::Topic(_) => ResourceType::Topic,
            Self::Group(_) => ResourceType::Group,
            Self::TransactionalId(_) => ResourceType::TransactionalId,
            Self::DelegationToken(_) => ResourceType::DelegationToken,
            Self::User(_) => ResourceType::User,
            Self::Cluster => ResourceType::Cluster,
        }
    }

    pub(crate) const fn name(self) -> &'a str {
        match self {
            Self::Topic(name)
            | Self::Group(name)
            | Self::TransactionalId(name)
            | Self::DelegationToken(name)
            | Self::User(name) => name,
            Self::Cluster => CLUSTER_NAME,
        }
    }

    /// What somebody is told who may not do what he asks to it.
    pub(crate) const fn denied(self) -> ErrorCode {
        match self {
            Self::Topic(_) => ErrorCode::TopicAuthorizationFailed,
            Self::Group(_) => ErrorCode::GroupAuthorizationFailed,
            Self::TransactionalId(_) => ErrorCode::TransactionalIdAuthorizationFailed,
            Self::DelegationToken(_) | Self::User(_) => {
                ErrorCode::DelegationTokenAuthorizationFailed
            }
            Self::Cluster => ErrorCode::ClusterAuthorizationFailed,
        }
    }

    const fn operations(self) -> &'static [Operation] {
        match self {
            Self::Topic(_) => OF_TOPICS,
            Self::Group(_) => OF_GROUPS,
            Self::TransactionalId(_) => OF_TRANSACTIONAL_IDS,
            Self::DelegationToken(_) => &[Operation::Describe],
            Self::User(_) => &[Operation::CreateTokens, Operation::DescribeTokens],
            Self::Cluster => OF_CLUSTERS,
        }
    }
}

/// Whether the table lists it for `api`.
fn is_listed(api: ApiKey, operation: Operation, resource: ResourceType) -> bool {
    let needs = NEEDS.iter().find(|needs| needs.api == api);
    needs.is_some_and(|needs| {
        needs.rights.iter().any(|right| right.operation == operation && right.resource == resource)
    })
}

/// For people; the code says to programs what is missing on what.
pub(crate) const WHY: &str = "you lack the right: an access rule (ACL) has to allow it";

impl Call {
    fn who(&self) -> Who<'_> {
        Who { user: self.principal().name(), address: self.address() }
    }

    /// Whether the client may do `operation` to `resource`, which the table has to list for this API. To
    /// leave something out, or to look for another right: nobody is told, and it is noted nowhere.
    pub(crate) fn may(&self, operation: Operation, resource: Resource<'_>) -> bool {
        if !self.broker().authorizes() {
            return true;
        }
        is_listed(self.api, operation, resource.kind())
            && self.broker().may(self.who(), operation, resource.kind(), resource.name())
    }

    /// The same, and what is answered if not, which is noted.
    pub(crate) fn check(
        &self,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), ErrorCode> {
        if self.may(operation, resource) {
            return Ok(());
        }
        self.note_denial(operation, resource);
        Err(resource.denied())
    }

    /// The same with words.
    pub(crate) fn require(
        &self,
        operation: Operation,
        resource: Resource<'_>,
    ) -> Result<(), Refusal> {
        self.check(operation, resource).map_err(|_| self.denial(resource))
    }

    /// What somebody is told, in words, who may not do what he asks to `resource`.
    pub(crate) fn denial(&self, resource: Resource<'_>) -> Refusal {
        (resource.denied(), StrBytes::from_static(WHY))
    }

    /// Whether the client may do `operation` to any topic that there may be.
    pub(crate) fn may_on_any_topic(&self, operation: Operation) -> bool {
        let resource = ResourceType::Topic;
        is_listed(self.api, operation, resource)
            && self.broker().may_on_any(self.who(), operation, resource)
    }

    /// The client as groups ask about it: which topics he may know of.
    pub(crate) fn asker(&self) -> Option<Asker> {
        debug_assert!(is_listed(self.api, Operation::Describe, ResourceType::Topic));
        self.broker().asker(self.who())
    }

    /// Whether the client may make a topic of that name; if not, it is noted.
    pub(crate) fn may_create(&self, topic: &str) -> bool {
        self.may(Operation::Create, Resource::Cluster)
            || self.check(Operation::Create, Resource::Topic(topic)).is_ok()
    }

    /// The topic that is meant, if the client may do `operation` to it. By name, he who may not is not
    /// told whether it is there.
    pub(crate) fn topic(
        &self,
        operation: Operation,
        wanted: TopicRef<'_>,
    ) -> Result<Arc<Topic>, ErrorCode> {
        match wanted {
            TopicRef::Name(name) => {
                self.check(operation, Resource::Topic(name))?;
                self.broker().topic(wanted).ok_or(ErrorCode::UnknownTopicOrPartition)
            }
            TopicRef::Id(_) => {
                let topic = self.broker().topic(wanted).ok_or(ErrorCode::UnknownTopicId)?;
                self.check(operation, Resource::Topic(&topic.name))?;
                Ok(topic)
            }
        }
    }

    /// What the client may do to `resource`, as the protocol tells it: a bit for each operation.
    pub(crate) fn operations_on(&self, resource: Resource<'_>) -> i32 {
        let is_allowed = |operation: &&Operation| {
            self.broker().may(self.who(), **operation, resource.kind(), resource.name())
        };
        let allowed = resource.operations().iter().filter(is_allowed);
        allowed.fold(0, |bits, operation| bits | 1 << operation.number())
    }

    /// The same for the cluster, which only those are told who may describe it.
    pub(crate) fn cluster_operations(&self) -> i32 {
        if self.may(Operation::Describe, Resource::Cluster) {
            self.operations_on(Resource::Cluster)
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dispatch::SERVED;

    #[test]
    fn the_table_has_a_line_for_each_api_that_is_served() {
        let listed: Vec<_> = NEEDS.iter().map(|needs| needs.api).collect();
        let served: Vec<_> = SERVED.iter().map(|served| served.api).collect();
        assert_eq!(listed, served);
    }

    #[test]
    fn each_right_is_one_that_its_resource_has() {
        for right in NEEDS.iter().flat_map(|needs| needs.rights) {
            let resource = match right.resource {
                ResourceType::Topic => Resource::Topic(""),
                ResourceType::Group => Resource::Group(""),
                ResourceType::TransactionalId => Resource::TransactionalId(""),
                ResourceType::DelegationToken => Resource::DelegationToken(""),
                ResourceType::User => Resource::User(""),
                ResourceType::Cluster => Resource::Cluster,
            };
            assert!(resource.operations().contains(&right.operation), "{right:?}");
        }
    }

    #[test]
    fn operations_are_told_in_kafkas_bits() {
        let bits = |resource: Resource<'_>| {
            resource.operations().iter().fold(0, |bits, operation| bits | 1 << operation.number())
        };
        // As Apache Kafka tells somebody who may do everything.
        assert_eq!(bits(Resource::Topic("")), 3_576);
        assert_eq!(bits(Resource::Group("")), 3_400);
        assert_eq!(bits(Resource::Cluster), 8_096);
    }
}
