//! OffsetFetch (9): a group's committed offsets.
//!
//! v2: null topics mean all; an error for the whole answer. v5: leader epochs. v7: only settled
//! offsets. v8: several groups. v9: member epochs of the consumer protocol. v10: topics by id.

use std::collections::HashSet;
use std::sync::Arc;

use millstream_broker::TopicRef;
use millstream_broker::acl::Operation;
use millstream_broker::groups::{Committed, FetchTopic, Fetched, Reader};
use millstream_wire::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use millstream_wire::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions,
    OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use millstream_wire::{ErrorCode, OffsetFetchRequest, OffsetFetchResponse, StrBytes};

use super::wire;
use crate::api::allowance::Allowance;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

const ALL_SINCE: i16 = 2;
const ERROR_SINCE: i16 = 2;
const GROUPS_SINCE: i16 = 8;
const TOPIC_IDS_SINCE: i16 = 10;

/// What a partition takes beside the note on its offset while the answer is made, in bytes.
const PARTITION_BYTES: usize = size_of::<OffsetFetchResponsePartitions>();

pub(crate) async fn handle(call: Call, request: OffsetFetchRequest) -> OffsetFetchResponse {
    let stable = request.require_stable;
    if call.version >= GROUPS_SINCE {
        let mut allowance = Allowance::new();
        let mut seen = HashSet::new();
        let mut groups = Vec::with_capacity(request.groups.len());
        for group in request.groups {
            groups.push(if seen.insert(group.group_id.clone()) {
                fetch(&call, group, stable, &mut allowance).await
            } else {
                failed(group.group_id, ErrorCode::InvalidRequest)
            });
        }
        return OffsetFetchResponse { groups, ..OffsetFetchResponse::default() };
    }
    let all = request.topics.is_none() && call.version >= ALL_SINCE;
    let topics: Option<Vec<_>> =
        (!all).then(|| request.topics.into_iter().flatten().map(grouped).collect());
    let asked = topics.clone().filter(|_| call.version < ERROR_SINCE);
    let group = OffsetFetchRequestGroup {
        group_id: request.group_id,
        topics,
        ..OffsetFetchRequestGroup::default()
    };
    let mut group = fetch(&call, group, stable, &mut Allowance::new()).await;
    if let Some(asked) = asked.filter(|_| group.error_code != 0) {
        group.topics = asked.into_iter().map(|topic| refused(topic, group.error_code)).collect();
    }
    OffsetFetchResponse {
        error_code: group.error_code,
        topics: group.topics.into_iter().map(ungrouped).collect(),
        ..OffsetFetchResponse::default()
    }
}

async fn fetch(
    call: &Call,
    request: OffsetFetchRequestGroup,
    stable: bool,
    allowance: &mut Allowance,
) -> OffsetFetchResponseGroup {
    if let Err(error) = call.check(Operation::Describe, Resource::Group(&request.group_id)) {
        return failed(request.group_id, error);
    }
    let by_id = call.version >= TOPIC_IDS_SINCE;
    let known: Option<Vec<_>> = request
        .topics
        .as_ref()
        .map(|topics| topics.iter().map(|topic| resolve(call, topic, by_id)).collect());
    let asked: Option<Vec<FetchTopic>> =
        known.as_ref().map(|known| known.iter().flatten().cloned().collect());
    let reader = Reader {
        member: request.member_id.as_ref().map(super::owned),
        epoch: request.member_epoch,
    };
    let fetched = call.broker().group_offsets(&request.group_id, &reader, asked.as_deref(), stable);
    let fetched = fetched.await.map_err(|error| error.code()).and_then(|fetched| {
        let fetched = fetched.map_err(|refused| refused.code())?;
        allowance.take(bytes_of(&fetched)).map_err(|(error, _)| error)?;
        Ok(fetched)
    });
    let fetched = match fetched {
        Ok(fetched) => fetched,
        Err(error) => return failed(request.group_id, error),
    };
    let topics = match (request.topics, known) {
        (Some(topics), Some(known)) => {
            let mut fetched = fetched.into_iter();
            let answers = topics.into_iter().zip(known).map(|(topic, known)| match known {
                Ok(_) => answer(topic, fetched.next().map(|(_, partitions)| partitions)),
                Err(error) => refused(topic, error.code()),
            });
            answers.collect()
        }
        _ => fetched.into_iter().filter_map(|(name, all)| whole(call, &name, all, by_id)).collect(),
    };
    OffsetFetchResponseGroup { group_id: request.group_id, topics, ..Default::default() }
}

fn failed(group_id: StrBytes, error: ErrorCode) -> OffsetFetchResponseGroup {
    OffsetFetchResponseGroup { group_id, error_code: error.code(), ..Default::default() }
}

/// What the partitions take while the answer is made, in bytes.
fn bytes_of(fetched: &[(Arc<str>, Vec<Fetched>)]) -> usize {
    let partitions = fetched.iter().flat_map(|(_, partitions)| partitions);
    let notes = partitions.map(|fetched| match &fetched.committed {
        Ok(Some(committed)) => committed.metadata.len(),
        Ok(None) | Err(_) => 0,
    });
    notes.map(|note| PARTITION_BYTES + note).sum()
}

/// The topic as the coordinator knows it; by name, it need not be there any more.
fn resolve(
    call: &Call,
    topic: &OffsetFetchRequestTopics,
    by_id: bool,
) -> Result<FetchTopic, ErrorCode> {
    let partitions = topic.partition_indexes.clone();
    if !by_id {
        call.check(Operation::Describe, Resource::Topic(&topic.name))?;
        return Ok(FetchTopic { name: super::owned(&topic.name), id: None, partitions });
    }
    let found = call.topic(Operation::Describe, TopicRef::Id(topic.topic_id))?;
    Ok(FetchTopic { name: found.name.clone(), id: Some(found.id), partitions })
}

fn answer(
    topic: OffsetFetchRequestTopics,
    fetched: Option<Vec<Fetched>>,
) -> OffsetFetchResponseTopics {
    let partitions = fetched.into_iter().flatten().map(partition).collect();
    OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions }
}

fn refused(topic: OffsetFetchRequestTopics, error_code: i16) -> OffsetFetchResponseTopics {
    let partitions = topic.partition_indexes.iter().map(|&partition_index| {
        OffsetFetchResponsePartitions { partition_index, error_code, ..nothing() }
    });
    let partitions = partitions.collect();
    OffsetFetchResponseTopics { name: topic.name, topic_id: topic.topic_id, partitions }
}

/// One of all topics of a group. By id, those that do not exist any more can't be named.
fn whole(
    call: &Call,
    name: &Arc<str>,
    fetched: Vec<Fetched>,
    by_id: bool,
) -> Option<OffsetFetchResponseTopics> {
    if !call.may(Operation::Describe, Resource::Topic(name)) {
        return None;
    }
    let found = call.broker().topic(TopicRef::Name(name));
    let topic_id = found.map(|topic| topic.id);
    if by_id && topic_id.is_none() {
        return None;
    }
    Some(OffsetFetchResponseTopics {
        name: wire(name),
        topic_id: topic_id.unwrap_or_default(),
        partitions: fetched.into_iter().map(partition).collect(),
    })
}

fn partition(fetched: Fetched) -> OffsetFetchResponsePartitions {
    let partition_index = fetched.index;
    match fetched.committed {
        Ok(Some(Committed { offset, leader_epoch, metadata, .. })) => {
            OffsetFetchResponsePartitions {
                partition_index,
                committed_offset: offset.0,
                committed_leader_epoch: leader_epoch.0,
                metadata: Some(wire(&metadata)),
                error_code: 0,
            }
        }
        Ok(None) => OffsetFetchResponsePartitions { partition_index, ..nothing() },
        Err(error) => OffsetFetchResponsePartitions {
            partition_index,
            error_code: error.code().code(),
            ..nothing()
        },
    }
}

/// Nothing committed is no error: offset -1.
fn nothing() -> OffsetFetchResponsePartitions {
    OffsetFetchResponsePartitions {
        committed_offset: -1,
        committed_leader_epoch: -1,
        metadata: Some(StrBytes::default()),
        ..OffsetFetchResponsePartitions::default()
    }
}

fn grouped(topic: OffsetFetchRequestTopic) -> OffsetFetchRequestTopics {
    OffsetFetchRequestTopics {
        name: topic.name,
        partition_indexes: topic.partition_indexes,
        ..OffsetFetchRequestTopics::default()
    }
}

fn ungrouped(topic: OffsetFetchResponseTopics) -> OffsetFetchResponseTopic {
    let partitions = topic.partitions.into_iter().map(|each| OffsetFetchResponsePartition {
        partition_index: each.partition_index,
        committed_offset: each.committed_offset,
        committed_leader_epoch: each.committed_leader_epoch,
        metadata: each.metadata,
        error_code: each.error_code,
    });
    OffsetFetchResponseTopic { name: topic.name, partitions: partitions.collect() }
}
