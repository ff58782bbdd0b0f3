//! InitProducerId (22): an id for a producer, or the id that belongs to a transactional id.
//!
//! v3: the id and epoch of a producer that recovers (KIP-360). v4: a fenced producer is told so.

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::txn::{Command, Init, InitError, Producer, Reply};
use millstream_types::{ProducerEpoch, ProducerId};
use millstream_wire::{ErrorCode, InitProducerIdRequest, InitProducerIdResponse};

use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

const FENCED_SINCE: i16 = 4;
const NOBODY: Producer = Producer { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };

pub(crate) async fn handle(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let was = Producer {
        id: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
    };
    let given = if let Err(error) = check(&call, &request) {
        Err(error)
    } else if (was.id == ProducerId::NONE) != (was.epoch == ProducerEpoch::NONE) {
        Err(ErrorCode::InvalidRequest)
    } else if let Some(id) = &request.transactional_id {
        let init = Init {
            id: Arc::from(id.as_str()),
            timeout_ms: request.transaction_timeout_ms,
            expected: (was != NOBODY).then_some((was.id, was.epoch)),
            fresh: None,
        };
        transactional(&call, init).await
    } else {
        // An idempotent producer that lost its sequence asks with the id it had, and gets a new
        // one, as from Kafka: nobody can fence it, so nothing is to be kept.
        let id = call.broker().new_producer_id().await;
        id.map(|id| Producer { id, epoch: ProducerEpoch(0) })
            .map_err(|_| ErrorCode::CoordinatorNotAvailable)
    };
    let error = given.err().unwrap_or(ErrorCode::None);
    let producer = given.unwrap_or(NOBODY);
    InitProducerIdResponse {
        error_code: error.code(),
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.0,
        ..InitProducerIdResponse::default()
    }
}

/// Who writes under no transactional id needs no right of his own for it, if he may write at all.
fn check(call: &Call, request: &InitProducerIdRequest) -> Result<(), ErrorCode> {
    match &request.transactional_id {
        Some(id) => call.check(Operation::Write, Resource::TransactionalId(id)),
        None if call.may(Operation::IdempotentWrite, Resource::Cluster)
            || call.may_on_any_topic(Operation::Write) =>
        {
            Ok(())
        }
        None => call.check(Operation::IdempotentWrite, Resource::Cluster),
    }
}

async fn transactional(call: &Call, init: Init) -> Result<Producer, ErrorCode> {
    match call.broker().transaction(Command::Init(init)).await {
        Ok(Reply::Init(Ok(producer))) => Ok(producer),
        Ok(Reply::Init(Err(InitError::Fenced))) if call.version < FENCED_SINCE => {
            Err(ErrorCode::InvalidProducerEpoch)
        }
        Ok(Reply::Init(Err(error))) => Err(error.code()),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(error) => Err(error.code()),
    }
}
