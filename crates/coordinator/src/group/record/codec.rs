//! The bytes of [`Fact`]s, by the schemas in `wire`.

use std::sync::Arc;

use bytes::Bytes;
use millstream_types::{LeaderEpoch, Offset, Timestamp, TopicId};
use millstream_wire::group_metadata_value::MemberMetadata;
use millstream_wire::stored::{
    StoredKey, decode_key, decode_value, encode_key, encode_value, prefix,
};
use millstream_wire::{
    DecodeError, EncodeError, GroupMetadataKey, GroupMetadataValue, LegacyOffsetCommitKey, Message,
    OffsetCommitKey, OffsetCommitValue, StrBytes,
};

use super::consumer;
use super::streams;
use super::{Fact, StoredGroup, StoredMember, StoredOffset, StoredRecord};

/// The version that has an expiry of its own, and no leader epoch.
const OFFSET_WITH_EXPIRY: i16 = 1;
/// The version that has a leader epoch; the one that brokers before 4.1 can read.
const OFFSET_PLAIN: i16 = 3;
/// The version that has the topic's identity as well.
const OFFSET_WITH_TOPIC_ID: i16 = 4;
/// The version that has instances of members; the one that Kafka writes.
const GROUP: i16 = 3;

pub(super) fn encode(fact: &Fact) -> Result<StoredRecord, EncodeError> {
    match fact {
        Fact::Offset { group, topic, partition, value } => {
            let key =
                OffsetCommitKey { group: text(group), topic: text(topic), partition: *partition };
            let value = value.as_ref().map(encode_offset).transpose()?;
            Ok(StoredRecord { key: encode_key(&key)?, value })
        }
        Fact::Group { group, value } => {
            let key = GroupMetadataKey { group: text(group) };
            let value = value.as_ref().map(encode_group).transpose()?;
            Ok(StoredRecord { key: encode_key(&key)?, value })
        }
        Fact::Consumer { group, fact } => consumer::encode(group, fact),
        Fact::Streams { group, fact } => streams::encode(group, fact),
    }
}

fn encode_offset(offset: &StoredOffset) -> Result<Bytes, EncodeError> {
    let version = match (offset.expires_at, offset.topic_id) {
        (Some(_), _) => OFFSET_WITH_EXPIRY,
        (None, Some(_)) => OFFSET_WITH_TOPIC_ID,
        (None, None) => OFFSET_PLAIN,
    };
    let value = OffsetCommitValue {
        offset: offset.offset.0,
        leader_epoch: offset.leader_epoch.0,
        metadata: text(&offset.metadata),
        commit_timestamp: offset.committed_at.0,
        expire_timestamp: offset.expires_at.unwrap_or(Timestamp::NONE).0,
        topic_id: offset.topic_id.unwrap_or(TopicId::NIL),
    };
    encode_value(&value, version)
}

fn encode_group(group: &StoredGroup) -> Result<Bytes, EncodeError> {
    let member = |member: &StoredMember| MemberMetadata {
        member_id: text(&member.member),
        group_instance_id: member.instance.as_ref().map(text),
        client_id: text(&member.client_id),
        client_host: text(&member.client_host),
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: member.subscription.clone(),
        assignment: member.assignment.clone(),
    };
    let value = GroupMetadataValue {
        protocol_type: group.protocol_type.as_ref().map(text).unwrap_or_default(),
        generation: group.generation,
        protocol: group.protocol.as_ref().map(text),
        leader: group.leader.as_ref().map(text),
        current_state_timestamp: group.since.unwrap_or(Timestamp::NONE).0,
        members: group.members.iter().map(member).collect(),
    };
    encode_value(&value, GROUP)
}

pub(super) fn decode(record: &StoredRecord) -> Result<Option<Fact>, DecodeError> {
    match prefix(&record.key)? {
        // The same key, written by very old brokers.
        LegacyOffsetCommitKey::TYPE => {
            let key: LegacyOffsetCommitKey = decode_key(&record.key)?;
            decode_offset(record, &key.group, &key.topic, key.partition).map(Some)
        }
        OffsetCommitKey::TYPE => {
            let key: OffsetCommitKey = decode_key(&record.key)?;
            decode_offset(record, &key.group, &key.topic, key.partition).map(Some)
        }
        GroupMetadataKey::TYPE => {
            let key: GroupMetadataKey = decode_key(&record.key)?;
            let value = value::<GroupMetadataValue>(record)?.map(stored_group);
            Ok(Some(Fact::Group { group: kept(&key.group), value }))
        }
        kind => match consumer::decode(kind, record)? {
            Some(fact) => Ok(Some(fact)),
            None => streams::decode(kind, record),
        },
    }
}

pub(super) fn value<M: Message>(record: &StoredRecord) -> Result<Option<M>, DecodeError> {
    record.value.as_ref().map(decode_value).transpose()
}

fn decode_offset(
    record: &StoredRecord,
    group: &StrBytes,
    topic: &StrBytes,
    partition: i32,
) -> Result<Fact, DecodeError> {
    let value = value::<OffsetCommitValue>(record)?.map(|value| StoredOffset {
        offset: Offset(value.offset),
        leader_epoch: LeaderEpoch(value.leader_epoch),
        metadata: kept(&value.metadata),
        committed_at: Timestamp(value.commit_timestamp),
        expires_at: known(value.expire_timestamp),
        topic_id: Some(value.topic_id).filter(|id| *id != TopicId::NIL),
    });
    Ok(Fact::Offset { group: kept(group), topic: kept(topic), partition, value })
}

fn stored_group(value: GroupMetadataValue) -> StoredGroup {
    let member = |member: MemberMetadata| StoredMember {
        member: kept(&member.member_id),
        instance: member.group_instance_id.as_ref().map(kept),
        client_id: kept(&member.client_id),
        client_host: kept(&member.client_host),
        rebalance_timeout_ms: match member.rebalance_timeout {
            -1 => member.session_timeout,
            timeout => timeout,
        },
        session_timeout_ms: member.session_timeout,
        // Slices of the record would keep the whole batch in memory that it was read from.
        subscription: Bytes::copy_from_slice(&member.subscription),
        assignment: Bytes::copy_from_slice(&member.assignment),
    };
    StoredGroup {
        protocol_type: Some(kept(&value.protocol_type)).filter(|kind| !kind.is_empty()),
        generation: value.generation,
        protocol: value.protocol.as_ref().map(kept),
        leader: value.leader.as_ref().map(kept),
        since: known(value.current_state_timestamp),
        members: value.members.into_iter().map(member).collect(),
    }
}

/// -1 stands for no time.
fn known(time: i64) -> Option<Timestamp> {
    (time != Timestamp::NONE.0).then_some(Timestamp(time))
}

pub(super) fn text(text: &Arc<str>) -> StrBytes {
    StrBytes::from(text.to_string())
}

pub(super) fn kept(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}
