//! The bytes of what is stored of streams groups.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::Timestamp;
use millstream_wire::stored::{StoredKey, decode_key};
use millstream_wire::streams_group_current_member_assignment_value::TaskIds as HeldIds;
use millstream_wire::streams_group_member_metadata_value::{Endpoint as EndpointValue, KeyValue};
use millstream_wire::streams_group_metadata_value::LastAssignmentConfig;
use millstream_wire::streams_group_target_assignment_member_value::TaskIds;
use millstream_wire::streams_group_topology_value::{
    CopartitionGroup, Subtopology as SubtopologyValue, TopicConfig, TopicInfo,
};
use millstream_wire::{
    DecodeError, EncodeError, StrBytes, StreamsGroupCurrentMemberAssignmentKey as CurrentKey,
    StreamsGroupCurrentMemberAssignmentValue as CurrentValue,
    StreamsGroupMemberMetadataKey as AboutKey, StreamsGroupMemberMetadataValue as AboutValue,
    StreamsGroupMetadataKey as GroupKey, StreamsGroupMetadataValue as GroupValue,
    StreamsGroupTargetAssignmentMemberKey as TargetKey,
    StreamsGroupTargetAssignmentMemberValue as TargetValue,
    StreamsGroupTargetAssignmentMetadataKey as TargetEpochKey,
    StreamsGroupTargetAssignmentMetadataValue as TargetEpochValue,
    StreamsGroupTopologyKey as TopologyKey, StreamsGroupTopologyValue as TopologyValue,
};

use super::Fact;
use super::codec::{kept, text, value};
use super::consumer::record;
use crate::group::consumer::member::MemberState;
use crate::group::consumer::state::TargetEpoch;
use crate::group::streams::member::{About, Current};
use crate::group::streams::state::{GroupFact, StreamsFact};
use crate::group::streams::tasks::{Held, Owned};
use crate::group::streams::{
    Assignment, Copartition, Endpoint, InternalTopic, Subtopology, Tasks, Topology,
};
use crate::host::StoredRecord;

pub(super) fn encode(group: &Arc<str>, fact: &StreamsFact) -> Result<StoredRecord, EncodeError> {
    let group_id = text(group);
    match fact {
        StreamsFact::Group(fact) => record(&GroupKey { group_id }, fact.as_ref().map(group_value)),
        StreamsFact::About(member, about) => {
            record(&AboutKey { group_id, member_id: text(member) }, about.as_ref().map(about_value))
        }
        StreamsFact::TargetEpoch(epoch) => {
            let value = epoch.as_ref().map(|epoch| TargetEpochValue {
                assignment_epoch: epoch.epoch,
                assignment_timestamp: epoch.at.0,
            });
            record(&TargetEpochKey { group_id }, value)
        }
        StreamsFact::Target(member, target) => {
            let key = TargetKey { group_id, member_id: text(member) };
            let value = target.as_ref().map(|target| TargetValue {
                active_tasks: task_ids(&target.active),
                standby_tasks: task_ids(&target.standby),
                warmup_tasks: task_ids(&target.warmup),
            });
            record(&key, value)
        }
        StreamsFact::Current(member, current) => {
            let key = CurrentKey { group_id, member_id: text(member) };
            record(&key, current.as_ref().map(current_value))
        }
        StreamsFact::Topology(topology) => {
            record(&TopologyKey { group_id }, topology.as_ref().map(topology_value))
        }
    }
}

fn group_value(fact: &GroupFact) -> GroupValue {
    let configs = fact.configs.iter();
    let configs =
        configs.map(|(key, value)| LastAssignmentConfig { key: text(key), value: text(value) });
    GroupValue {
        epoch: fact.epoch,
        metadata_hash: fact.topics_hash,
        validated_topology_epoch: fact.ready_epoch,
        last_assignment_configs: (!fact.configs.is_empty()).then(|| configs.collect()),
        stored_description_topology_epoch: fact.described_epoch,
        failed_description_topology_epoch: fact.undescribed_epoch,
    }
}

fn about_value(about: &About) -> AboutValue {
    let endpoint = about.endpoint.as_ref();
    AboutValue {
        instance_id: about.instance.as_ref().map(text),
        rack_id: about.rack.as_ref().map(text),
        client_id: text(&about.client_id),
        client_host: text(&about.client_host),
        rebalance_timeout_ms: about.rebalance_timeout_ms,
        topology_epoch: about.topology_epoch,
        process_id: text(&about.process),
        user_endpoint: endpoint.map(|it| EndpointValue { host: text(&it.host), port: it.port }),
        client_tags: about
            .tags
            .iter()
            .map(|(key, value)| KeyValue { key: text(key), value: text(value) })
            .collect(),
    }
}

fn task_ids(tasks: &Tasks) -> Vec<TaskIds> {
    let ids = tasks.iter().map(|(id, indexes)| TaskIds {
        subtopology_id: text(id),
        partitions: indexes.iter().copied().collect(),
    });
    ids.collect()
}

fn current_value(current: &Current) -> CurrentValue {
    CurrentValue {
        member_epoch: current.epoch,
        previous_member_epoch: current.previous_epoch,
        state: current.state.number(),
        active_tasks: owned_ids(&current.assigned.active),
        standby_tasks: held_ids(&current.assigned.standby),
        warmup_tasks: held_ids(&current.assigned.warmup),
        active_tasks_pending_revocation: owned_ids(&current.revoking.active),
        standby_tasks_pending_revocation: held_ids(&current.revoking.standby),
        warmup_tasks_pending_revocation: held_ids(&current.revoking.warmup),
    }
}

fn owned_ids(owned: &Owned) -> Vec<HeldIds> {
    let ids = owned.iter().map(|(id, indexes)| HeldIds {
        subtopology_id: text(id),
        partitions: indexes.keys().copied().collect(),
        assignment_epochs: Some(indexes.values().copied().collect()),
    });
    ids.collect()
}

fn held_ids(tasks: &Tasks) -> Vec<HeldIds> {
    let ids = tasks.iter().map(|(id, indexes)| HeldIds {
        subtopology_id: text(id),
        partitions: indexes.iter().copied().collect(),
        assignment_epochs: None,
    });
    ids.collect()
}

fn topology_value(topology: &Topology) -> TopologyValue {
    let texts = |all: &[Arc<str>]| all.iter().map(text).collect();
    let topics = |all: &[InternalTopic]| all.iter().map(topic_info).collect();
    let parts = topology.subtopologies.iter().map(|(id, part)| SubtopologyValue {
        subtopology_id: text(id),
        source_topics: texts(&part.sources),
        source_topic_regex: Vec::new(),
        state_changelog_topics: topics(&part.changelogs),
        repartition_sink_topics: texts(&part.sinks),
        repartition_source_topics: topics(&part.repartitions),
        copartition_groups: part
            .copartitions
            .iter()
            .map(|group| CopartitionGroup {
                source_topics: group.sources.clone(),
                source_topic_regex: Vec::new(),
                repartition_source_topics: group.repartitions.clone(),
            })
            .collect(),
    });
    TopologyValue { epoch: topology.epoch, subtopologies: parts.collect() }
}

fn topic_info(topic: &InternalTopic) -> TopicInfo {
    let configs = topic.configs.iter();
    TopicInfo {
        name: text(&topic.name),
        partitions: topic.partitions,
        replication_factor: topic.replicas,
        topic_configs: configs
            .map(|(key, value)| TopicConfig { key: text(key), value: text(value) })
            .collect(),
    }
}

pub(super) fn decode(kind: i16, record: &StoredRecord) -> Result<Option<Fact>, DecodeError> {
    let (group, fact) = match kind {
        GroupKey::TYPE => {
            let key: GroupKey = decode_key(&record.key)?;
            (key.group_id, StreamsFact::Group(value::<GroupValue>(record)?.map(group_fact)))
        }
        AboutKey::TYPE => {
            let key: AboutKey = decode_key(&record.key)?;
            let about = value::<AboutValue>(record)?.map(about);
            (key.group_id, StreamsFact::About(kept(&key.member_id), about))
        }
        TargetEpochKey::TYPE => {
            let key: TargetEpochKey = decode_key(&record.key)?;
            let epoch = value::<TargetEpochValue>(record)?.map(|value| TargetEpoch {
                epoch: value.assignment_epoch,
                at: Timestamp(value.assignment_timestamp),
            });
            (key.group_id, StreamsFact::TargetEpoch(epoch))
        }
        TargetKey::TYPE => {
            let key: TargetKey = decode_key(&record.key)?;
            let target = value::<TargetValue>(record)?.map(|value| Assignment {
                active: tasks(&value.active_tasks),
                standby: tasks(&value.standby_tasks),
                warmup: tasks(&value.warmup_tasks),
            });
            (key.group_id, StreamsFact::Target(kept(&key.member_id), target))
        }
        CurrentKey::TYPE => {
            let key: CurrentKey = decode_key(&record.key)?;
            let current = value::<CurrentValue>(record)?.map(|value| current(&value));
            (key.group_id, StreamsFact::Current(kept(&key.member_id), current))
        }
        TopologyKey::TYPE => {
            let key: TopologyKey = decode_key(&record.key)?;
            (key.group_id, StreamsFact::Topology(value::<TopologyValue>(record)?.map(topology)))
        }
        _ => return Ok(None),
    };
    Ok(Some(Fact::Streams { group: kept(&group), fact }))
}

fn group_fact(value: GroupValue) -> GroupFact {
    let configs = value.last_assignment_configs.unwrap_or_default();
    GroupFact {
        epoch: value.epoch,
        topics_hash: value.metadata_hash,
        ready_epoch: value.validated_topology_epoch,
        configs: configs.iter().map(|it| (kept(&it.key), kept(&it.value))).collect(),
        described_epoch: value.stored_description_topology_epoch,
        undescribed_epoch: value.failed_description_topology_epoch,
    }
}

fn about(value: AboutValue) -> About {
    let text = |text: Option<StrBytes>| text.as_ref().map(kept);
    let tags = value.client_tags.iter();
    About {
        instance: text(value.instance_id),
        rack: text(value.rack_id),
        client_id: kept(&value.client_id),
        client_host: kept(&value.client_host),
        rebalance_timeout_ms: value.rebalance_timeout_ms,
        topology_epoch: value.topology_epoch,
        process: kept(&value.process_id),
        endpoint: value
            .user_endpoint
            .map(|endpoint| Endpoint { host: kept(&endpoint.host), port: endpoint.port }),
        tags: tags.map(|tag| (kept(&tag.key), kept(&tag.value))).collect(),
    }
}

fn tasks(ids: &[TaskIds]) -> Tasks {
    let mut tasks = Tasks::new();
    for ids in ids {
        tasks.entry(kept(&ids.subtopology_id)).or_default().extend(&ids.partitions);
    }
    tasks
}

fn held(ids: &[HeldIds]) -> Tasks {
    let mut tasks = Tasks::new();
    for ids in ids {
        tasks.entry(kept(&ids.subtopology_id)).or_default().extend(&ids.partitions);
    }
    tasks
}

fn current(value: &CurrentValue) -> Current {
    let epoch = value.member_epoch;
    Current {
        epoch,
        previous_epoch: value.previous_member_epoch,
        state: MemberState::of(value.state),
        assigned: Held {
            active: owned(&value.active_tasks, epoch),
            standby: held(&value.standby_tasks),
            warmup: held(&value.warmup_tasks),
        },
        revoking: Held {
            active: owned(&value.active_tasks_pending_revocation, epoch),
            standby: held(&value.standby_tasks_pending_revocation),
            warmup: held(&value.warmup_tasks_pending_revocation),
        },
    }
}

/// Where an older coordinator did not write down when a task was given, the member's own epoch stands
/// for it.
fn owned(ids: &[HeldIds], member_epoch: i32) -> Owned {
    let mut owned = Owned::new();
    for ids in ids {
        let epochs = ids.assignment_epochs.iter().flatten().copied();
        let epochs = epochs.chain(std::iter::repeat(member_epoch));
        let given = ids.partitions.iter().copied().zip(epochs);
        owned.entry(kept(&ids.subtopology_id)).or_default().extend(given);
    }
    owned
}

fn topology(value: TopologyValue) -> Topology {
    let texts = |all: &[StrBytes]| all.iter().map(kept).collect();
    let parts = value.subtopologies.into_iter().map(|part| {
        let copartitions = part.copartition_groups.into_iter();
        let subtopology = Subtopology {
            sources: texts(&part.source_topics),
            changelogs: part.state_changelog_topics.iter().map(topic).collect(),
            sinks: texts(&part.repartition_sink_topics),
            repartitions: part.repartition_source_topics.iter().map(topic).collect(),
            copartitions: copartitions
                .map(|group| Copartition {
                    sources: group.source_topics,
                    repartitions: group.repartition_source_topics,
                })
                .collect(),
        };
        (kept(&part.subtopology_id), subtopology)
    });
    let subtopologies: BTreeMap<_, _> = parts.collect();
    Topology { epoch: value.epoch, subtopologies }
}

fn topic(info: &TopicInfo) -> InternalTopic {
    let configs = info.topic_configs.iter();
    InternalTopic {
        name: kept(&info.name),
        partitions: info.partitions,
        replicas: info.replication_factor,
        configs: configs.map(|it| (kept(&it.key), kept(&it.value))).collect(),
    }
}
