//! AddOffsetsToTxn (25): a producer of the first protocol enlists a group's offsets in its
//! transaction.
//!
//! v2: a fenced producer is told so. v4: errors after which a transaction can be aborted.

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::txn::{AddPartitions, Command, Reply};
use millstream_types::{ProducerEpoch, ProducerId};
use millstream_wire::{AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, ErrorCode};

use super::add_code;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let id = &request.transactional_id;
    let may = call
        .check(Operation::Write, Resource::TransactionalId(id))
        .and_then(|()| call.check(Operation::Read, Resource::Group(&request.group_id)));
    let error = match may {
        Ok(()) => add(&call, &request).await,
        Err(error) => error,
    };
    AddOffsetsToTxnResponse { error_code: error.code(), ..AddOffsetsToTxnResponse::default() }
}

async fn add(call: &Call, request: &AddOffsetsToTxnRequest) -> ErrorCode {
    if request.group_id.as_str().is_empty() {
        return ErrorCode::InvalidGroupId;
    }
    let Some(offsets) = call.broker().offsets_partition(&request.group_id) else {
        return ErrorCode::CoordinatorNotAvailable;
    };
    let command = Command::AddPartitions(AddPartitions {
        id: Arc::from(request.transactional_id.as_str()),
        producer: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
        partitions: vec![offsets],
        verify_only: false,
        v2: false,
    });
    match call.broker().transaction(command).await {
        Ok(Reply::AddPartitions(Ok(_))) => ErrorCode::None,
        Ok(Reply::AddPartitions(Err(error))) => add_code(call.version, error),
        Ok(_) => ErrorCode::UnknownServerError,
        Err(error) => error.code(),
    }
}
