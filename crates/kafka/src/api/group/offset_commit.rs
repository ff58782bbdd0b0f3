//! OffsetCommit (8): store a group's offsets.
//!
//! v2-4: the client says how long to keep them. v6: leader epochs. v7: static members. v9: member
//! epochs of the consumer protocol. v10: topics by id.

use std::sync::Arc;

use millstream_broker::TopicRef;
use millstream_broker::acl::Operation;
use millstream_broker::groups::{
    Command, Commit, CommitError, CommitPartition, CommitTopic, Reply,
};
use millstream_types::{LeaderEpoch, Offset};
use millstream_wire::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millstream_wire::{ErrorCode, OffsetCommitRequest, OffsetCommitResponse};

use super::{fill_in, owned, speaker};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

const GROUP_NOT_FOUND_SINCE: i16 = 9;
/// Since which members may name their epoch.
const EPOCHS_SINCE: i16 = 9;
const TOPIC_IDS_SINCE: i16 = 10;

pub(crate) async fn handle(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let speaker = speaker(
        &request.group_id,
        &request.member_id,
        request.group_instance_id.as_ref(),
        request.generation_id_or_member_epoch,
    );
    let group = speaker.group.clone();
    let mut response = OffsetCommitResponse::default();
    let mut topics = Vec::new();
    let may = call.check(Operation::Read, Resource::Group(&request.group_id));
    for topic in request.topics {
        let (given, answer) = prepare(&call, topic, may);
        topics.extend(given);
        response.topics.push(answer);
    }
    if topics.is_empty() {
        return response;
    }
    let command = Command::Commit(Commit {
        speaker,
        speaks_epochs: call.version >= EPOCHS_SINCE,
        retention_ms: (request.retention_time_ms >= 0).then_some(request.retention_time_ms),
        topics,
    });
    let done = match call.broker().group(&group, command).await {
        Ok(Reply::Commit(Ok(done))) => Ok(done),
        Ok(Reply::Commit(Err(error))) => Err(code(call.version, error)),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(error) => Err(error.code()),
    };
    let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    fill_in(partitions.map(|partition| &mut partition.error_code), done);
    response
}

/// What the coordinator is to store for a topic, and the answer, in which all partitions that are
/// not there are refused already: an offset of one would stay, and puzzle people, for ever.
fn prepare(
    call: &Call,
    request: OffsetCommitRequestTopic,
    may: Result<(), ErrorCode>,
) -> (Option<CommitTopic>, OffsetCommitResponseTopic) {
    let by_id = call.version >= TOPIC_IDS_SINCE;
    let wanted = if by_id { TopicRef::Id(request.topic_id) } else { TopicRef::Name(&request.name) };
    let topic = may.and_then(|()| call.topic(Operation::Read, wanted));
    let mut known = Vec::with_capacity(request.partitions.len());
    let mut answers = Vec::with_capacity(request.partitions.len());
    for partition in request.partitions {
        let index = partition.partition_index;
        let error = match &topic {
            Err(error) => *error,
            Ok(topic) if topic.partition(index).is_none() => ErrorCode::UnknownTopicOrPartition,
            Ok(_) => {
                known.push(commit(&partition));
                ErrorCode::None
            }
        };
        let answer =
            OffsetCommitResponsePartition { partition_index: index, error_code: error.code() };
        answers.push(answer);
    }
    let given = topic.ok().filter(|_| !known.is_empty()).map(|topic| CommitTopic {
        name: topic.name.clone(),
        id: by_id.then_some(topic.id),
        partitions: known,
    });
    let (name, topic_id) = (request.name, request.topic_id);
    (given, OffsetCommitResponseTopic { name, topic_id, partitions: answers })
}

fn commit(partition: &OffsetCommitRequestPartition) -> CommitPartition {
    CommitPartition {
        index: partition.partition_index,
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.as_ref().map_or_else(|| Arc::from(""), owned),
    }
}

fn code(version: i16, error: CommitError) -> ErrorCode {
    match error {
        CommitError::GroupNotFound if version < GROUP_NOT_FOUND_SINCE => {
            ErrorCode::IllegalGeneration
        }
        other => other.code(),
    }
}
