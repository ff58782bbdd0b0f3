//! DeleteRecords (21): deletes the records before an offset; -1 means all that are visible.

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::{Newest, Topic, TopicRef};
use millstream_types::Offset;
use millstream_wire::delete_records_request::DeleteRecordsPartition;
use millstream_wire::delete_records_response::{
    DeleteRecordsPartitionResult, DeleteRecordsTopicResult,
};
use millstream_wire::{DeleteRecordsRequest, DeleteRecordsResponse, ErrorCode};

use crate::dispatch::Call;
use crate::errors::Code as _;

const HIGH_WATERMARK: i64 = -1;

pub(crate) async fn handle(call: Call, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut newest = Newest::default();
    let mut response = DeleteRecordsResponse::default();
    for topic in request.topics {
        let found = call.topic(Operation::Delete, TopicRef::Name(&topic.name));
        let delete = |asked: &DeleteRecordsPartition| {
            let deleted = delete(&call, &found, asked, &mut newest);
            respond(asked.partition_index, deleted)
        };
        let partitions = topic.partitions.iter().map(delete).collect();
        response.topics.push(DeleteRecordsTopicResult { name: topic.name, partitions });
    }
    if call.broker().wait_durable(newest).await.is_err() {
        let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code == 0) {
            *partition = respond(partition.partition_index, Err(ErrorCode::KafkaStorageError));
        }
    }
    response.topics.iter().for_each(|topic| note(&call, topic));
    response
}

/// Of each topic what was deleted of it, and the first error.
fn note(call: &Call, topic: &DeleteRecordsTopicResult) {
    let errors = topic.partitions.iter().map(|partition| partition.error_code);
    let error = ErrorCode::or_unknown(errors.filter(|error| *error != 0).min().unwrap_or(0));
    call.note_change(Operation::Delete, ("Topic", &topic.name), error, || {
        let deleted = topic.partitions.iter().filter(|partition| partition.error_code == 0);
        let before = |partition: &DeleteRecordsPartitionResult| {
            let name = format!("records of partition {}", partition.partition_index);
            (name, format!("before {}", partition.low_watermark))
        };
        deleted.map(before).collect()
    });
}

fn delete(
    call: &Call,
    topic: &Result<Arc<Topic>, ErrorCode>,
    asked: &DeleteRecordsPartition,
    newest: &mut Newest,
) -> Result<Offset, ErrorCode> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    let before = (asked.offset != HIGH_WATERMARK).then_some(Offset(asked.offset));
    let deleted = call.broker().delete_records(topic, asked.partition_index, before);
    let (log_start, depends) = deleted.map_err(|error| error.code())?;
    newest.join(depends);
    Ok(log_start)
}

fn respond(index: i32, deleted: Result<Offset, ErrorCode>) -> DeleteRecordsPartitionResult {
    DeleteRecordsPartitionResult {
        partition_index: index,
        low_watermark: deleted.map_or(-1, |log_start| log_start.0),
        error_code: deleted.err().unwrap_or(ErrorCode::None).code(),
    }
}
