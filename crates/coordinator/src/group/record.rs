//! What is stored: Kafka's own records of `__consumer_offsets`.
//!
//! | key | value | lifetime |
//! |---|---|---|
//! | offset: group, topic, partition | [`StoredOffset`] | until deleted or expired |
//! | group: group | [`StoredGroup`] | until the group is empty and has no offsets left |
//! | six of a consumer group | [`ConsumerFact`] | the same, or until the member leaves |
//! | six of a streams group | [`StreamsFact`] | the same |
//!
//! A value of `None` forgets the key. Key and value each start with their version (`i16`); for the
//! key that number says what the record is.

use std::sync::Arc;

use bytes::Bytes;
use millstream_types::{LeaderEpoch, Offset, Timestamp, TopicId};

use crate::host::{ReplayError, StoredRecord};

use super::consumer::state::ConsumerFact;
use super::streams::state::StreamsFact;

mod codec;
mod consumer;
mod streams;

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fact {
    /// The offset of one partition, or that there is none any more.
    Offset { group: Arc<str>, topic: Arc<str>, partition: i32, value: Option<StoredOffset> },
    /// A group, or that there is none any more.
    Group { group: Arc<str>, value: Option<StoredGroup> },
    /// A part of a consumer group.
    Consumer { group: Arc<str>, fact: ConsumerFact },
    /// A part of a streams group.
    Streams { group: Arc<str>, fact: StreamsFact },
}

/// A committed offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredOffset {
    pub(super) offset: Offset,
    pub(super) leader_epoch: LeaderEpoch,
    pub(super) metadata: Arc<str>,
    pub(super) committed_at: Timestamp,
    /// When it expires, where the client said so itself.
    pub(super) expires_at: Option<Timestamp>,
    pub(super) topic_id: Option<TopicId>,
}

/// A group as of the end of its last rebalance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredGroup {
    /// `None` when the group only keeps offsets.
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) generation: i32,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    /// Since when it has been in this state; `None` in old records.
    pub(super) since: Option<Timestamp>,
    pub(super) members: Vec<StoredMember>,
}

/// A member of a stored group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredMember {
    pub(super) member: Arc<str>,
    pub(super) instance: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) session_timeout_ms: i32,
    pub(super) subscription: Bytes,
    pub(super) assignment: Bytes,
}

impl Fact {
    /// Adds the fact to `records`.
    pub(super) fn put(&self, records: &mut Vec<StoredRecord>) {
        match codec::encode(self) {
            Ok(record) => records.push(record),
            Err(error) => debug_assert!(false, "texts are bounded: {error}"),
        }
    }

    /// Reads a record; `None` when it says something that only a newer coordinator knows.
    ///
    /// # Errors
    ///
    /// When the bytes are not what a coordinator writes.
    pub(super) fn decode(record: &StoredRecord) -> Result<Option<Self>, ReplayError> {
        codec::decode(record).map_err(ReplayError)
    }
}
