//! AddPartitionsToTxn (24): a producer of the first protocol enlists partitions in its transaction.
//!
//! v2: a fenced producer is told so. v4: several transactions, and only to ask; for brokers, which
//! verify with it what producers send them. v5: errors after which a transaction can be aborted.

use std::collections::HashMap;
use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::txn::{AddPartitions, Command, Reply};
use millstream_broker::{TopicRef, is_internal};
use millstream_types::{ProducerEpoch, ProducerId};
use millstream_wire::add_partitions_to_txn_request::{
    AddPartitionsToTxnTopic, AddPartitionsToTxnTransaction,
};
use millstream_wire::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnResult, AddPartitionsToTxnTopicResult,
};
use millstream_wire::{AddPartitionsToTxnRequest, AddPartitionsToTxnResponse, ErrorCode};

use super::add_code;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

const BATCHED_SINCE: i16 = 4;

/// What is answered for a partition.
type Told<'a> = dyn Fn(&(Arc<str>, i32)) -> ErrorCode + 'a;

pub(crate) async fn handle(
    call: Call,
    request: AddPartitionsToTxnRequest,
) -> AddPartitionsToTxnResponse {
    let mut response = AddPartitionsToTxnResponse::default();
    if call.version < BATCHED_SINCE {
        let only = AddPartitionsToTxnTransaction {
            transactional_id: request.v3_and_below_transactional_id,
            producer_id: request.v3_and_below_producer_id,
            producer_epoch: request.v3_and_below_producer_epoch,
            verify_only: false,
            topics: request.v3_and_below_topics,
        };
        response.results_by_topic_v3_and_below = add(&call, only).await.topic_results;
        return response;
    }
    if let Err(error) = call.check(Operation::ClusterAction, Resource::Cluster) {
        response.error_code = error.code();
        return response;
    }
    for transaction in request.transactions {
        response.results_by_transaction.push(add(&call, transaction).await);
    }
    response
}

async fn add(call: &Call, asked: AddPartitionsToTxnTransaction) -> AddPartitionsToTxnResult {
    let named = || {
        asked.topics.iter().flat_map(|topic| {
            topic.partitions.iter().map(|index| (Arc::<str>::from(topic.name.as_str()), *index))
        })
    };
    // Brokers have asked whether it may be done.
    let by_client = call.version < BATCHED_SINCE;
    let answer = |told: &Told<'_>| AddPartitionsToTxnResult {
        transactional_id: asked.transactional_id.clone(),
        topic_results: asked.topics.iter().map(|topic| result(topic, told)).collect(),
    };
    if by_client
        && let Err(error) =
            call.check(Operation::Write, Resource::TransactionalId(&asked.transactional_id))
    {
        return answer(&|_| error);
    }
    let wrong =
        named().filter_map(|one| check(call, &one, by_client).err().map(|error| (one, error)));
    let wrong: HashMap<_, _> = wrong.collect();
    if !wrong.is_empty() {
        // All or none, so that the producer knows what it has.
        return answer(&|one| wrong.get(one).copied().unwrap_or(ErrorCode::OperationNotAttempted));
    }
    let command = Command::AddPartitions(AddPartitions {
        id: Arc::from(asked.transactional_id.as_str()),
        producer: ProducerId(asked.producer_id),
        epoch: ProducerEpoch(asked.producer_epoch),
        partitions: named().collect(),
        verify_only: asked.verify_only,
        v2: false,
    });
    match call.broker().transaction(command).await {
        Ok(Reply::AddPartitions(Ok(not_added))) => answer(&|one| match not_added.contains(one) {
            true => ErrorCode::TransactionAbortable,
            false => ErrorCode::None,
        }),
        Ok(Reply::AddPartitions(Err(error))) => answer(&|_| add_code(call.version, error)),
        Ok(_) => answer(&|_| ErrorCode::UnknownServerError),
        Err(error) => answer(&|_| error.code()),
    }
}

fn check(call: &Call, (topic, index): &(Arc<str>, i32), by_client: bool) -> Result<(), ErrorCode> {
    if by_client {
        // Nobody's records belong there but ours, and a transaction ends with a record.
        if is_internal(topic) {
            return Err(ErrorCode::TopicAuthorizationFailed);
        }
        call.check(Operation::Write, Resource::Topic(topic))?;
    }
    let topic = call.broker().topic(TopicRef::Name(topic));
    let partition = topic.as_ref().and_then(|topic| topic.partition(*index));
    partition.map(|_| ()).ok_or(ErrorCode::UnknownTopicOrPartition)
}

fn result(topic: &AddPartitionsToTxnTopic, told: &Told<'_>) -> AddPartitionsToTxnTopicResult {
    let name: Arc<str> = Arc::from(topic.name.as_str());
    let each = topic.partitions.iter().map(|&partition_index| AddPartitionsToTxnPartitionResult {
        partition_index,
        partition_error_code: told(&(Arc::clone(&name), partition_index)).code(),
    });
    AddPartitionsToTxnTopicResult { name: topic.name.clone(), results_by_partition: each.collect() }
}
