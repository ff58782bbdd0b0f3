//! DescribeTransactions (65): the state of transactional ids (KIP-664).

use millstream_broker::acl::Operation;
use millstream_broker::txn::Description;
use millstream_types::Timestamp;
use millstream_wire::describe_transactions_response::{TopicData, TransactionState};
use millstream_wire::{
    DescribeTransactionsRequest, DescribeTransactionsResponse, ErrorCode, StrBytes,
};

use crate::api::authorize::Resource;
use crate::api::repeats::distinct;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let mut response = DescribeTransactionsResponse::default();
    for id in distinct(request.transactional_ids, StrBytes::clone) {
        let described = look_up(&call, &id).await;
        response.transaction_states.push(match described {
            Ok(described) => told(&call, id, described),
            Err(error) => TransactionState {
                error_code: error.code(),
                transactional_id: id,
                ..TransactionState::default()
            },
        });
    }
    response
}

async fn look_up(call: &Call, id: &str) -> Result<Description, ErrorCode> {
    if id.is_empty() {
        return Err(ErrorCode::InvalidRequest);
    }
    call.check(Operation::Describe, Resource::TransactionalId(id))?;
    match call.broker().describe_transaction(id).await {
        Ok(described) => described.ok_or(ErrorCode::TransactionalIdNotFound),
        Err(error) => Err(error.code()),
    }
}

fn told(call: &Call, id: StrBytes, described: Description) -> TransactionState {
    // Of the last one when none runs.
    let started = described.started.unwrap_or(Timestamp::NONE);
    let is_told = |topic: &str| call.may(Operation::Describe, Resource::Topic(topic));
    let topics = described.topics.into_iter().filter(|(topic, _)| is_told(topic));
    let topics = topics.map(|(topic, partitions)| TopicData {
        topic: StrBytes::from(topic.as_ref().to_owned()),
        partitions,
    });
    TransactionState {
        error_code: ErrorCode::None.code(),
        transactional_id: id,
        transaction_state: StrBytes::from_static(described.state.name()),
        transaction_timeout_ms: described.timeout_ms,
        transaction_start_time_ms: started.0,
        producer_id: described.producer.0,
        producer_epoch: described.epoch.0,
        topics: topics.collect(),
    }
}
