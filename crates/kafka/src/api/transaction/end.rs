//! EndTxn (26): commits or aborts a producer's transaction.
//!
//! v2: a fenced producer is told so. v4: errors after which a transaction can be aborted. v5: the
//! producer goes on with another epoch, and with another id when its epochs are used up (KIP-890).

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::txn::{Command, End, EndError, Producer, Reply};
use millstream_types::{ProducerEpoch, ProducerId};
use millstream_wire::{EndTxnRequest, EndTxnResponse, ErrorCode};

use super::FENCED_SINCE;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

const EPOCHS_SINCE: i16 = 5;

pub(crate) async fn handle(call: Call, request: EndTxnRequest) -> EndTxnResponse {
    let id = &request.transactional_id;
    let ended = match call.check(Operation::Write, Resource::TransactionalId(id)) {
        Ok(()) => end(&call, &request).await,
        Err(error) => Err(error),
    };
    let nobody = Producer { id: ProducerId::NONE, epoch: ProducerEpoch::NONE };
    let error = ended.err().unwrap_or(ErrorCode::None);
    let producer = ended.unwrap_or(nobody);
    EndTxnResponse {
        error_code: error.code(),
        producer_id: producer.id.0,
        producer_epoch: producer.epoch.0,
        ..EndTxnResponse::default()
    }
}

async fn end(call: &Call, request: &EndTxnRequest) -> Result<Producer, ErrorCode> {
    let command = Command::End(End {
        id: Arc::from(request.transactional_id.as_str()),
        producer: ProducerId(request.producer_id),
        epoch: ProducerEpoch(request.producer_epoch),
        commit: request.committed,
        v2: call.version >= EPOCHS_SINCE,
        fresh: None,
    });
    match call.broker().transaction(command).await {
        Ok(Reply::End(Ok(producer))) => Ok(producer),
        Ok(Reply::End(Err(EndError::Fenced))) if call.version < FENCED_SINCE => {
            Err(ErrorCode::InvalidProducerEpoch)
        }
        Ok(Reply::End(Err(error))) => Err(error.code()),
        Ok(_) => Err(ErrorCode::UnknownServerError),
        Err(error) => Err(error.code()),
    }
}
