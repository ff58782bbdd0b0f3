//! A Kafka client: producer, consumer and admin, over sockets or in process.
//!
//! * [`Connection`]: one stream to one broker; versions negotiated, requests pipelined.
//! * [`Cluster`]: who leads what, connections to them, trying again.
//! * [`Admin`]: topics, configurations, groups, offsets, access rules.
//! * [`Producer`]: records or whole batches in, offsets out; idempotent.
//! * [`Consumer`]: batches or records of partitions, by offset or in a group.
//!
//! Works against every broker that speaks the Kafka protocol. Time, randomness and tasks come from
//! [`millstream_env::Env`], streams from a [`Connector`].

mod admin;
mod cluster;
mod connection;
mod connector;
mod consumer;
mod error;
mod producer;

pub use admin::{
    AclFilter, AclOperation, AclPattern, AclPermission, AclResource, AclRule, Admin,
    CommittedOffset, ConfigChange, ConfigEntry, ConfigSource, CreatedTopic, DelegationToken,
    FoundOffset, GroupDescription, GroupListing, GroupMember, Isolation, NewCredential, NewToken,
    NewTopic, OffsetSpec, QuotaEntity, QuotaLimits, QuotaPart, Resource, UserListing,
};
pub use cluster::{
    Backoff, Broker, Cluster, ClusterSettings, Coordinated, Lane, LaneOwner, Metadata, Partition,
    Retry, Target, Topic, TopicName, TopicPartition,
};
pub use connection::{ApiVersions, Connection, ConnectionSettings, LoginSettings, Pending};
pub use connector::{
    Address, BadAddress, Connector, DEFAULT_PORT, Duplex, InProcess, TcpConnector,
};
pub use consumer::{
    AssignedMember, Assignment, Assignor, Consumer, ConsumerSettings, FetchedBatch, FetchedRecord,
    FetchedRecordIter, FetchedRecords, GroupSettings, Polled, Reset, Start, Subscriptions,
};
pub use error::Error;
pub use producer::{
    Acks, Delivered, Delivery, Producer, ProducerRecord, ProducerSettings, murmur2,
    partition_for_key,
};
