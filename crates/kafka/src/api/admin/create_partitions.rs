//! CreatePartitions (37): raises the number of partitions of topics. v3: refused where a quota is used up.

use millstream_broker::TopicRef;
use millstream_broker::acl::Operation;
use millstream_wire::create_partitions_request::CreatePartitionsTopic;
use millstream_wire::create_partitions_response::CreatePartitionsTopicResult;
use millstream_wire::{CreatePartitionsRequest, CreatePartitionsResponse, ErrorCode};

use super::{invalid, may_mutate};
use crate::api::authorize::Resource;
use crate::api::repeats::{TWICE, distinct, repeated};
use crate::audit::detail;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal};

const QUOTA_SINCE: i16 = 3;

pub(crate) async fn handle(
    call: Call,
    request: CreatePartitionsRequest,
) -> CreatePartitionsResponse {
    let twice = repeated(request.topics.iter().map(|topic| topic.name.clone()));
    let mut response = CreatePartitionsResponse::default();
    for topic in distinct(request.topics, |topic| topic.name.clone()) {
        let added = if twice.contains(&topic.name) {
            Err(invalid(TWICE))
        } else {
            add(&call, &topic, request.validate_only).await
        };
        let (error, error_message) = added.err().unzip();
        if !request.validate_only {
            let error = error.unwrap_or(ErrorCode::None);
            let count = || vec![detail("partitions", topic.count)];
            call.note_change(Operation::Alter, ("Topic", &topic.name), error, count);
        }
        response.results.push(CreatePartitionsTopicResult {
            name: topic.name,
            error_code: error.unwrap_or(ErrorCode::None).code(),
            error_message,
        });
    }
    response
}

async fn add(
    call: &Call,
    topic: &CreatePartitionsTopic,
    only_validate: bool,
) -> Result<(), Refusal> {
    call.require(Operation::Alter, Resource::Topic(&topic.name))?;
    may_mutate(call, QUOTA_SINCE)?;
    let present = call.broker().topic(TopicRef::Name(&topic.name));
    let present = present.map_or(0, |topic| topic.partitions().len());
    let assigned = topic.assignments.as_ref().map(Vec::len);
    let added =
        call.broker().add_partitions(&topic.name, topic.count, assigned, only_validate).await;
    added.map_err(|error| refusal(&error))?;
    if !only_validate {
        let total = usize::try_from(topic.count).unwrap_or(0);
        call.mutates(total.saturating_sub(present));
    }
    Ok(())
}
