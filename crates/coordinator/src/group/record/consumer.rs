//! The bytes of [`ConsumerFact`]s.
//!
//! Kafka's brokers before 4.1 wrote down the topics of a group beside its epoch (key 4); a hash has
//! taken their place, and what they wrote is passed over.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use millstream_types::{Timestamp, TopicId};
use millstream_wire::consumer_group_current_member_assignment_value::TopicPartitions;
use millstream_wire::consumer_group_member_metadata_value::{
    ClassicMemberMetadata, ClassicProtocol,
};
use millstream_wire::consumer_group_target_assignment_member_value::TopicPartition;
use millstream_wire::stored::{StoredKey, decode_key, encode_key, encode_value};
use millstream_wire::{
    ConsumerGroupCurrentMemberAssignmentKey as CurrentKey,
    ConsumerGroupCurrentMemberAssignmentValue as CurrentValue,
    ConsumerGroupMemberMetadataKey as AboutKey, ConsumerGroupMemberMetadataValue as AboutValue,
    ConsumerGroupMetadataKey as EpochKey, ConsumerGroupMetadataValue as EpochValue,
    ConsumerGroupRegularExpressionKey as RegexKey,
    ConsumerGroupRegularExpressionValue as RegexValue,
    ConsumerGroupTargetAssignmentMemberKey as TargetKey,
    ConsumerGroupTargetAssignmentMemberValue as TargetValue,
    ConsumerGroupTargetAssignmentMetadataKey as TargetEpochKey,
    ConsumerGroupTargetAssignmentMetadataValue as TargetEpochValue, DecodeError, EncodeError,
    Message, StrBytes,
};

use super::Fact;
use super::codec::{kept, text, value};
use crate::group::consumer::member::{About, Classic, Current, MemberState, Owned, Partitions};
use crate::group::consumer::state::{ConsumerFact, GroupEpoch, Resolved, TargetEpoch};
use crate::host::StoredRecord;

/// The version of each value: there is no other yet.
const VERSION: i16 = 0;

pub(super) fn encode(group: &Arc<str>, fact: &ConsumerFact) -> Result<StoredRecord, EncodeError> {
    let group_id = text(group);
    match fact {
        ConsumerFact::Epoch(epoch) => record(
            &EpochKey { group_id },
            epoch
                .as_ref()
                .map(|epoch| EpochValue { epoch: epoch.epoch, metadata_hash: epoch.topics_hash }),
        ),
        ConsumerFact::About(member, about) => {
            record(&AboutKey { group_id, member_id: text(member) }, about.as_ref().map(about_value))
        }
        ConsumerFact::TargetEpoch(epoch) => record(
            &TargetEpochKey { group_id },
            epoch.as_ref().map(|epoch| TargetEpochValue {
                assignment_epoch: epoch.epoch,
                assignment_timestamp: epoch.at.0,
            }),
        ),
        ConsumerFact::Target(member, target) => {
            let key = TargetKey { group_id, member_id: text(member) };
            record(
                &key,
                target.as_ref().map(|target| TargetValue {
                    topic_partitions: target.iter().map(target_partitions).collect(),
                }),
            )
        }
        ConsumerFact::Current(member, current) => {
            let key = CurrentKey { group_id, member_id: text(member) };
            record(
                &key,
                current.as_ref().map(|current| CurrentValue {
                    member_epoch: current.epoch,
                    previous_member_epoch: current.previous_epoch,
                    state: current.state.number(),
                    assigned_partitions: current.assigned.iter().map(owned_partitions).collect(),
                    partitions_pending_revocation: current
                        .revoking
                        .iter()
                        .map(owned_partitions)
                        .collect(),
                }),
            )
        }
        ConsumerFact::Regex(regex, resolved) => {
            let key = RegexKey { group_id, regular_expression: text(regex) };
            record(
                &key,
                resolved.as_ref().map(|resolved| RegexValue {
                    topics: resolved.topics.iter().map(text).collect(),
                    version: resolved.version,
                    timestamp: resolved.at.0,
                }),
            )
        }
    }
}

pub(super) fn record<K: StoredKey, V: Message>(
    key: &K,
    value: Option<V>,
) -> Result<StoredRecord, EncodeError> {
    let value: Option<Bytes> = value.map(|value| encode_value(&value, VERSION)).transpose()?;
    Ok(StoredRecord { key: encode_key(key)?, value })
}

fn about_value(about: &About) -> AboutValue {
    let classic = about.classic.as_ref().map(|classic| ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: classic
            .protocols
            .iter()
            .map(|(name, said)| ClassicProtocol { name: text(name), metadata: said.clone() })
            .collect(),
    });
    AboutValue {
        instance_id: about.instance.as_ref().map(text),
        rack_id: about.rack.as_ref().map(text),
        client_id: text(&about.client_id),
        client_host: text(&about.client_host),
        subscribed_topic_names: about.topics.iter().map(text).collect(),
        subscribed_topic_regex: about.regex.as_ref().map(text),
        rebalance_timeout_ms: about.rebalance_timeout_ms,
        server_assignor: about.assignor.as_ref().map(text),
        classic_member_metadata: classic,
    }
}

fn target_partitions(
    (topic, indexes): (&TopicId, &std::collections::BTreeSet<i32>),
) -> TopicPartition {
    TopicPartition { topic_id: *topic, partitions: indexes.iter().copied().collect() }
}

fn owned_partitions((topic, indexes): (&TopicId, &BTreeMap<i32, i32>)) -> TopicPartitions {
    TopicPartitions {
        topic_id: *topic,
        partitions: indexes.keys().copied().collect(),
        assignment_epochs: Some(indexes.values().copied().collect()),
    }
}

pub(super) fn decode(kind: i16, record: &StoredRecord) -> Result<Option<Fact>, DecodeError> {
    let (group, fact) = match kind {
        EpochKey::TYPE => {
            let key: EpochKey = decode_key(&record.key)?;
            let epoch = value::<EpochValue>(record)?
                .map(|value| GroupEpoch { epoch: value.epoch, topics_hash: value.metadata_hash });
            (key.group_id, ConsumerFact::Epoch(epoch))
        }
        AboutKey::TYPE => {
            let key: AboutKey = decode_key(&record.key)?;
            let about = value::<AboutValue>(record)?.map(about);
            (key.group_id, ConsumerFact::About(kept(&key.member_id), about))
        }
        TargetEpochKey::TYPE => {
            let key: TargetEpochKey = decode_key(&record.key)?;
            let epoch = value::<TargetEpochValue>(record)?.map(|value| TargetEpoch {
                epoch: value.assignment_epoch,
                at: Timestamp(value.assignment_timestamp),
            });
            (key.group_id, ConsumerFact::TargetEpoch(epoch))
        }
        TargetKey::TYPE => {
            let key: TargetKey = decode_key(&record.key)?;
            let target = value::<TargetValue>(record)?.map(target);
            (key.group_id, ConsumerFact::Target(kept(&key.member_id), target))
        }
        CurrentKey::TYPE => {
            let key: CurrentKey = decode_key(&record.key)?;
            let current = value::<CurrentValue>(record)?.map(current);
            (key.group_id, ConsumerFact::Current(kept(&key.member_id), current))
        }
        RegexKey::TYPE => {
            let key: RegexKey = decode_key(&record.key)?;
            let resolved = value::<RegexValue>(record)?.map(|value| Resolved {
                topics: value.topics.iter().map(kept).collect(),
                version: value.version,
                at: Timestamp(value.timestamp),
            });
            (key.group_id, ConsumerFact::Regex(kept(&key.regular_expression), resolved))
        }
        _ => return Ok(None),
    };
    Ok(Some(Fact::Consumer { group: kept(&group), fact }))
}

fn about(value: AboutValue) -> About {
    let text = |text: Option<StrBytes>| text.as_ref().map(kept);
    let classic = value.classic_member_metadata.map(|classic| Classic {
        session_timeout_ms: classic.session_timeout_ms,
        protocols: classic
            .supported_protocols
            .iter()
            // Slices of the record would keep the whole batch in memory that it was read from.
            .map(|spoken| (kept(&spoken.name), Bytes::copy_from_slice(&spoken.metadata)))
            .collect(),
    });
    About {
        instance: text(value.instance_id),
        rack: text(value.rack_id),
        client_id: kept(&value.client_id),
        client_host: kept(&value.client_host),
        topics: value.subscribed_topic_names.iter().map(kept).collect(),
        regex: text(value.subscribed_topic_regex).filter(|regex| !regex.is_empty()),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        assignor: text(value.server_assignor),
        classic,
    }
}

fn target(value: TargetValue) -> Partitions {
    let mut target = Partitions::new();
    for topic in value.topic_partitions {
        target.entry(topic.topic_id).or_default().extend(topic.partitions);
    }
    target
}

fn current(value: CurrentValue) -> Current {
    let epoch = value.member_epoch;
    Current {
        epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::of(value.state),
        assigned: owned(value.assigned_partitions, epoch),
        revoking: owned(value.partitions_pending_revocation, epoch),
    }
}

/// Where an older coordinator did not write down when a partition was given, the member's own epoch
/// stands for it: no commit is accepted then that was not before.
fn owned(topics: Vec<TopicPartitions>, member_epoch: i32) -> Owned {
    let mut owned = Owned::new();
    for topic in topics {
        let epochs = topic.assignment_epochs.unwrap_or_default();
        let epochs = epochs.into_iter().chain(std::iter::repeat(member_epoch));
        owned.entry(topic.topic_id).or_default().extend(topic.partitions.into_iter().zip(epochs));
    }
    owned
}
