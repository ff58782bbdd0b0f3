//! DescribeProducers (61): the producers that partitions remember (KIP-664). When one wrote last is
//! told by this broker's clock.

use std::collections::HashSet;
use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::log::ProducerInfo;
use millstream_broker::{Newest, Topic, TopicRef};
use millstream_wire::describe_producers_request::TopicRequest;
use millstream_wire::describe_producers_response::{
    PartitionResponse, ProducerState, TopicResponse,
};
use millstream_wire::{DescribeProducersRequest, DescribeProducersResponse, ErrorCode, StrBytes};

use super::bounded;
use crate::api::allowance::Allowance;
use crate::api::authorize::Resource;
use crate::dispatch::{Call, Outcome};
use crate::errors::{Refusal, text};

const NO_SEQUENCE: i32 = -1;
const NO_TRANSACTION: i64 = -1;

/// What a partition takes in an answer beside its producers, in bytes.
const PARTITION_BYTES: usize = size_of::<PartitionResponse>();

pub(crate) async fn handle(
    call: Call,
    request: DescribeProducersRequest,
) -> Outcome<DescribeProducersResponse> {
    if let Err(close) = bounded(request.topics.iter().map(|topic| topic.partition_indexes.len())) {
        return Outcome::Close(close);
    }
    let mut allowance = Allowance::new();
    let mut newest = Newest::default();
    let mut response = DescribeProducersResponse::default();
    for asked in request.topics {
        let found = find(&call, &asked);
        // A partition that is named twice is described once.
        let mut seen = HashSet::new();
        let indexes = asked.partition_indexes.iter().filter(|index| seen.insert(**index));
        let describe = |index: &i32| {
            let described = found.clone().and_then(|topic| {
                let (producers, depends) = producers(&topic, *index, &mut allowance)?;
                newest.join(depends);
                Ok(producers)
            });
            respond(*index, described)
        };
        let partitions = indexes.map(describe).collect();
        response.topics.push(TopicResponse { name: asked.name, partitions });
    }
    if call.broker().wait_durable(newest).await.is_err() {
        let partitions = response.topics.iter_mut().flat_map(|topic| &mut topic.partitions);
        for partition in partitions.filter(|partition| partition.error_code == 0) {
            let index = partition.partition_index;
            *partition = respond(index, Err((ErrorCode::KafkaStorageError, OVER.into())));
        }
    }
    response.into()
}

const OVER: &str = "the log is being recovered: ask again";

fn find(call: &Call, asked: &TopicRequest) -> Result<Arc<Topic>, Refusal> {
    call.require(Operation::Read, Resource::Topic(&asked.name))?;
    if let Some(topic) = call.broker().topic(TopicRef::Name(&asked.name)) {
        return Ok(topic);
    }
    match call.broker().check_topic_name(&asked.name) {
        Ok(()) => Err((ErrorCode::UnknownTopicOrPartition, "there is no such topic".into())),
        Err(error) => Err((ErrorCode::InvalidTopicException, text(&error))),
    }
}

fn producers(
    topic: &Topic,
    index: i32,
    allowance: &mut Allowance,
) -> Result<(Vec<ProducerState>, Newest), Refusal> {
    let partition = topic.partition(index).ok_or_else(|| {
        (ErrorCode::UnknownTopicOrPartition, StrBytes::from("there is no such partition"))
    })?;
    let count = partition.producer_count();
    allowance.take(PARTITION_BYTES + count * size_of::<ProducerState>())?;
    let (known, end) = partition.producers();
    let mut newest = Newest::default();
    newest.add(partition.session(), end);
    Ok((known.iter().map(state).collect(), newest))
}

fn state(known: &ProducerInfo) -> ProducerState {
    ProducerState {
        producer_id: known.id.0,
        producer_epoch: i32::from(known.epoch.0),
        last_sequence: known.batches.last().map_or(NO_SEQUENCE, |batch| batch.last_sequence),
        last_timestamp: known.used.0,
        coordinator_epoch: known.coordinator_epoch,
        current_txn_start_offset: known.transaction.map_or(NO_TRANSACTION, |first| first.0),
    }
}

fn respond(index: i32, described: Result<Vec<ProducerState>, Refusal>) -> PartitionResponse {
    let (error, message, active_producers) = match described {
        Ok(producers) => (ErrorCode::None, None, producers),
        Err((error, why)) => (error, Some(why), Vec::new()),
    };
    PartitionResponse {
        partition_index: index,
        error_code: error.code(),
        error_message: message,
        active_producers,
    }
}
