//! OffsetCommit (8): store a group's offsets.
//!
//! v2-4: the client says how long to keep them. v6: leader epochs. v7: static members. v9: member
//! epochs of the consumer protocol. v10: topics by id.

use std::sync::Arc;

use millstream_broker::TopicRef;
use millstream_broker::groups::{
    Command, Commit, CommitError, CommitPartition, CommitTopic, CommittedTopic, Reply,
};
use millstream_types::{LeaderEpoch, Offset};
use millstream_wire::offset_commit_request::OffsetCommitRequestTopic;
use millstream_wire::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use millstream_wire::{ErrorCode, OffsetCommitRequest, OffsetCommitResponse};

use super::{owned, speaker};
use crate::dispatch::Call;
use crate::errors::Code as _;

const GROUP_NOT_FOUND_SINCE: i16 = 9;
const TOPIC_IDS_SINCE: i16 = 10;

pub(crate) async fn handle(call: Call, request: OffsetCommitRequest) -> OffsetCommitResponse {
    let speaker = speaker(
        &request.group_id,
        &request.member_id,
        request.group_instance_id.as_ref(),
        request.generation_id_or_member_epoch,
    );
    let group = speaker.group.clone();
    let topics: Vec<_> = request.topics.iter().map(|topic| commit(&call, topic)).collect();
    let command = Command::Commit(Commit {
        speaker,
        retention_ms: (request.retention_time_ms >= 0).then_some(request.retention_time_ms),
        topics: topics.iter().filter_map(|topic| topic.as_ref().ok().cloned()).collect(),
    });
    let done = match call.broker().group(&group, command).await {
        Ok(Reply::Commit(Ok(done))) => Ok(done),
        Ok(Reply::Commit(Err(error))) => Err(code(call.version, error)),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(error) => Err(error.code()),
    };
    // The coordinator answers for the topics it was given, in their order.
    let mut done = done.map(Vec::into_iter);
    let topics = request.topics.into_iter().zip(topics).map(|(topic, given)| match given {
        Err(error) => respond(topic, Err(error)),
        Ok(_) => match &mut done {
            Ok(done) => respond(topic, done.next().ok_or(ErrorCode::UnknownServerError)),
            Err(error) => respond(topic, Err(*error)),
        },
    });
    OffsetCommitResponse { topics: topics.collect(), ..OffsetCommitResponse::default() }
}

/// What the coordinator is to store for a topic, or why it is not asked to.
fn commit(call: &Call, request: &OffsetCommitRequestTopic) -> Result<CommitTopic, ErrorCode> {
    let by_id = call.version >= TOPIC_IDS_SINCE;
    let (wanted, missing) = if by_id {
        (TopicRef::Id(request.topic_id), ErrorCode::UnknownTopicId)
    } else {
        (TopicRef::Name(&request.name), ErrorCode::UnknownTopicOrPartition)
    };
    let topic = call.broker().topic(wanted).ok_or(missing)?;
    let partitions = request.partitions.iter().map(|partition| CommitPartition {
        index: partition.partition_index,
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.as_ref().map_or_else(|| Arc::from(""), owned),
    });
    Ok(CommitTopic {
        name: topic.name.clone(),
        id: by_id.then_some(topic.id),
        partitions: partitions.collect(),
    })
}

fn code(version: i16, error: CommitError) -> ErrorCode {
    match error {
        CommitError::GroupNotFound if version < GROUP_NOT_FOUND_SINCE => {
            ErrorCode::IllegalGeneration
        }
        other => other.code(),
    }
}

fn respond(
    request: OffsetCommitRequestTopic,
    done: Result<CommittedTopic, ErrorCode>,
) -> OffsetCommitResponseTopic {
    let partitions = match done {
        Ok((_, partitions)) => partitions
            .into_iter()
            .map(|(partition_index, result)| OffsetCommitResponsePartition {
                partition_index,
                error_code: result.err().map_or(0, |error| error.code().code()),
            })
            .collect(),
        Err(error) => request
            .partitions
            .iter()
            .map(|partition| OffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: error.code(),
            })
            .collect(),
    };
    OffsetCommitResponseTopic { name: request.name, topic_id: request.topic_id, partitions }
}
