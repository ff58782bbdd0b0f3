//! OffsetDelete (47): forget a group's offsets of topics that it does not read any more.

use std::sync::Arc;

use millstream_broker::TopicRef;
use millstream_broker::acl::Operation;
use millstream_broker::groups::{Command, DeleteOffsets, DeletedTopic, Reply};
use millstream_wire::offset_delete_request::OffsetDeleteRequestTopic;
use millstream_wire::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use millstream_wire::{ErrorCode, OffsetDeleteRequest, OffsetDeleteResponse, StrBytes};

use super::owned;
use crate::api::authorize::Resource;
use crate::audit::detail;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = request.group_id.clone();
    let response = delete(&call, request).await;
    note(&call, &group, &response);
    response
}

/// Which topics' offsets were deleted of a group, and the first error.
fn note(call: &Call, group: &StrBytes, response: &OffsetDeleteResponse) {
    let partitions = response.topics.iter().flat_map(|topic| &topic.partitions);
    let errors = partitions.map(|partition| partition.error_code).chain([response.error_code]);
    let error = ErrorCode::or_unknown(errors.filter(|error| *error != 0).min().unwrap_or(0));
    let topics = || {
        let topics = response.topics.iter();
        topics.map(|topic| detail(&topic.name, "offsets deleted")).collect()
    };
    call.note_change(Operation::Delete, ("Group", group), error, topics);
}

async fn delete(call: &Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    if let Err(error) = call.check(Operation::Delete, Resource::Group(&request.group_id)) {
        return failed(error);
    }
    let group = owned(&request.group_id);
    let mut response = OffsetDeleteResponse::default();
    let mut topics = Vec::new();
    for topic in request.topics {
        let (known, answer) = prepare(call, topic);
        topics.push(known);
        response.topics.push(answer);
    }
    let command = Command::DeleteOffsets(DeleteOffsets { group: group.clone(), topics });
    match call.broker().group(&group, command).await {
        Ok(Reply::DeleteOffsets(Ok(deleted))) => {
            finish(&mut response, deleted);
            response
        }
        Ok(Reply::DeleteOffsets(Err(error))) => failed(error.code()),
        Ok(_) => failed(ErrorCode::UnknownServerError),
        Err(error) => failed(error.code()),
    }
}

/// The partitions of a topic that are there, and the answer, in which all others are refused.
fn prepare(
    call: &Call,
    request: OffsetDeleteRequestTopic,
) -> ((Arc<str>, Vec<i32>), OffsetDeleteResponseTopic) {
    let topic = call.topic(Operation::Read, TopicRef::Name(&request.name));
    let mut known = Vec::with_capacity(request.partitions.len());
    let mut partitions = Vec::with_capacity(request.partitions.len());
    for partition in request.partitions {
        let partition_index = partition.partition_index;
        let error = match topic.as_ref().map(|topic| topic.partition(partition_index)) {
            Err(error) => *error,
            Ok(None) => ErrorCode::UnknownTopicOrPartition,
            Ok(Some(_)) => {
                known.push(partition_index);
                ErrorCode::None
            }
        };
        let error_code = error.code();
        partitions.push(OffsetDeleteResponsePartition { partition_index, error_code });
    }
    ((owned(&request.name), known), OffsetDeleteResponseTopic { name: request.name, partitions })
}

/// Fills in what the coordinator says of the partitions that it was given, in their order.
fn finish(response: &mut OffsetDeleteResponse, deleted: Vec<DeletedTopic>) {
    let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
    let given = partitions.filter(|partition| partition.error_code == 0);
    let mut results = deleted.into_iter().flat_map(|(_, partitions)| partitions);
    for partition in given {
        let error = match results.next() {
            Some((_, Ok(()))) => ErrorCode::None,
            Some((_, Err(error))) => error.code(),
            None => ErrorCode::UnknownServerError,
        };
        partition.error_code = error.code();
    }
}

fn failed(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: error.code(), ..OffsetDeleteResponse::default() }
}
