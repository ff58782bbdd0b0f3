//! OffsetDelete (47): forget a group's offsets of topics that it does not read any more.

use millstream_broker::TopicRef;
use millstream_broker::groups::{Command, DeleteOffsets, DeletedTopic, Reply};
use millstream_wire::offset_delete_request::OffsetDeleteRequestTopic;
use millstream_wire::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use millstream_wire::{ErrorCode, OffsetDeleteRequest, OffsetDeleteResponse};

use super::{owned, wire};
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: OffsetDeleteRequest) -> OffsetDeleteResponse {
    let group = owned(&request.group_id);
    let exists = |topic: &&OffsetDeleteRequestTopic| {
        call.broker().topic(TopicRef::Name(&topic.name)).is_some()
    };
    let (known, unknown): (Vec<_>, Vec<_>) = request.topics.iter().partition(exists);
    let topics = known.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index);
        (owned(&topic.name), partitions.collect())
    });
    let command =
        Command::DeleteOffsets(DeleteOffsets { group: group.clone(), topics: topics.collect() });
    match call.broker().group(&group, command).await {
        Ok(Reply::DeleteOffsets(Ok(deleted))) => {
            let mut topics: Vec<_> = deleted.into_iter().map(answer).collect();
            topics.extend(unknown.into_iter().map(missing));
            OffsetDeleteResponse { topics, ..OffsetDeleteResponse::default() }
        }
        Ok(Reply::DeleteOffsets(Err(error))) => failed(error.code()),
        Ok(_) => failed(ErrorCode::UnknownServerError),
        Err(error) => failed(error.code()),
    }
}

fn answer((name, partitions): DeletedTopic) -> OffsetDeleteResponseTopic {
    let partitions = partitions.into_iter().map(|(partition_index, result)| {
        let error_code = result.err().map_or(0, |error| error.code().code());
        OffsetDeleteResponsePartition { partition_index, error_code }
    });
    OffsetDeleteResponseTopic { name: wire(&name), partitions: partitions.collect() }
}

fn missing(topic: &OffsetDeleteRequestTopic) -> OffsetDeleteResponseTopic {
    let partitions = topic.partitions.iter().map(|partition| OffsetDeleteResponsePartition {
        partition_index: partition.partition_index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
    });
    OffsetDeleteResponseTopic { name: topic.name.clone(), partitions: partitions.collect() }
}

fn failed(error: ErrorCode) -> OffsetDeleteResponse {
    OffsetDeleteResponse { error_code: error.code(), ..OffsetDeleteResponse::default() }
}
