//! TxnOffsetCommit (28): stores a group's offsets when a producer's transaction commits.
//!
//! v2: leader epochs. v3: on behalf of which member (KIP-447). v4: errors after which a transaction can
//! be aborted. v5: enlists the group's offsets by itself (KIP-890). v6, topics by id, is not stable yet.

use std::sync::Arc;

use millstream_broker::TopicRef;
use millstream_broker::acl::Operation;
use millstream_broker::groups::{
    Command, Commit, CommitError, CommitPartition, CommitTopic, CommittedTopic, HostFailure, Reply,
};
use millstream_types::{LeaderEpoch, Offset, ProducerEpoch, ProducerId};
use millstream_wire::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_wire::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use millstream_wire::{ErrorCode, TxnOffsetCommitRequest, TxnOffsetCommitResponse};

use super::enlist_code;
use crate::api::authorize::Resource;
use crate::api::group::{fill_in, owned, speaker};
use crate::dispatch::Call;
use crate::errors::Code as _;

const ABORTABLE_SINCE: i16 = 4;
const IMPLICIT_SINCE: i16 = 5;
/// Older clients take an unavailable coordinator for one that loads (KAFKA-7296).
const LOADING_SINCE: i16 = 2;

pub(crate) async fn handle(call: Call, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let mut response = TxnOffsetCommitResponse::default();
    let mut topics = Vec::new();
    let id = &request.transactional_id;
    let may = call
        .check(Operation::Write, Resource::TransactionalId(id))
        .and_then(|()| call.check(Operation::Read, Resource::Group(&request.group_id)));
    for topic in &request.topics {
        let (given, answer) = prepare(&call, topic, may);
        topics.extend(given);
        response.topics.push(answer);
    }
    if !topics.is_empty() {
        let done = commit(&call, &request, topics).await;
        let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        fill_in(partitions.map(|partition| &mut partition.error_code), done);
    }
    response
}

async fn commit(
    call: &Call,
    request: &TxnOffsetCommitRequest,
    topics: Vec<CommitTopic>,
) -> Result<Vec<CommittedTopic>, ErrorCode> {
    if request.group_id.as_str().is_empty() {
        return Err(ErrorCode::InvalidGroupId);
    }
    let broker = call.broker();
    let offsets = broker.offsets_partition(&request.group_id).ok_or(ErrorCode::NotCoordinator)?;
    let producer = (ProducerId(request.producer_id), ProducerEpoch(request.producer_epoch));
    let implicit = call.version >= IMPLICIT_SINCE;
    broker
        .enlist(&request.transactional_id, producer, std::iter::once(offsets), implicit)
        .map_err(|error| enlist_code(error, call.version >= ABORTABLE_SINCE))?;
    let speaker = speaker(
        &request.group_id,
        &request.member_id,
        request.group_instance_id.as_ref(),
        request.generation_id_or_member_epoch,
    );
    let group = speaker.group.clone();
    let commit = Commit { speaker, speaks_epochs: true, retention_ms: None, topics };
    match broker.group(&group, Command::CommitWithin(producer.0, producer.1, commit)).await {
        Ok(Reply::Commit(Ok(done))) => Ok(done),
        Ok(Reply::Commit(Err(error))) => Err(code(call.version, error)),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(error) => Err(error.code()),
    }
}

fn code(version: i16, error: CommitError) -> ErrorCode {
    match error {
        CommitError::GroupNotFound => ErrorCode::IllegalGeneration,
        CommitError::Host(HostFailure::Unavailable) if version < LOADING_SINCE => {
            ErrorCode::CoordinatorNotAvailable
        }
        other => other.code(),
    }
}

/// What the coordinator is to store for a topic, and the answer, in which all partitions that are not
/// there are refused already.
fn prepare(
    call: &Call,
    request: &TxnOffsetCommitRequestTopic,
    may: Result<(), ErrorCode>,
) -> (Option<CommitTopic>, TxnOffsetCommitResponseTopic) {
    let topic = may.and_then(|()| call.topic(Operation::Read, TopicRef::Name(&request.name)));
    let mut known = Vec::with_capacity(request.partitions.len());
    let mut answers = Vec::with_capacity(request.partitions.len());
    for partition in &request.partitions {
        let partition_index = partition.partition_index;
        let error = match topic.as_ref().map(|topic| topic.partition(partition_index)) {
            Err(error) => *error,
            Ok(None) => ErrorCode::UnknownTopicOrPartition,
            Ok(Some(_)) => {
                known.push(stored(partition));
                ErrorCode::None
            }
        };
        let error_code = error.code();
        answers.push(TxnOffsetCommitResponsePartition { partition_index, error_code });
    }
    let given = topic.ok().filter(|_| !known.is_empty()).map(|topic| CommitTopic {
        name: topic.name.clone(),
        id: None,
        partitions: known,
    });
    let answer = TxnOffsetCommitResponseTopic {
        name: request.name.clone(),
        partitions: answers,
        ..TxnOffsetCommitResponseTopic::default()
    };
    (given, answer)
}

fn stored(partition: &TxnOffsetCommitRequestPartition) -> CommitPartition {
    CommitPartition {
        index: partition.partition_index,
        offset: Offset(partition.committed_offset),
        leader_epoch: LeaderEpoch(partition.committed_leader_epoch),
        metadata: partition.committed_metadata.as_ref().map_or_else(|| Arc::from(""), owned),
    }
}
