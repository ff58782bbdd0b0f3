//! CreatePartitions (37): raises the number of partitions of topics.

use millstream_wire::create_partitions_request::CreatePartitionsTopic;
use millstream_wire::create_partitions_response::CreatePartitionsTopicResult;
use millstream_wire::{CreatePartitionsRequest, CreatePartitionsResponse, StrBytes};

use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let mut response = CreatePartitionsResponse::default();
    for topic in request.topics {
        response.results.push(add(&call, topic, request.validate_only).await);
    }
    response
}

async fn add(
    call: &Call,
    topic: CreatePartitionsTopic,
    only_validate: bool,
) -> CreatePartitionsTopicResult {
    let assigned = topic.assignments.as_ref().map(Vec::len);
    let added =
        call.broker().add_partitions(&topic.name, topic.count, assigned, only_validate).await;
    let (error_code, error_message) = match added {
        Ok(()) => (0, None),
        Err(error) => (error.code().code(), Some(StrBytes::from(error.to_string()))),
    };
    CreatePartitionsTopicResult { name: topic.name, error_code, error_message }
}
