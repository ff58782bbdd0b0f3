//! InitProducerId (22): an id for an idempotent producer.
//!
//! v3: the id and epoch of a producer that recovers. v4: a fenced producer is told so. Transactional
//! ids are refused: transactions are not served yet.

use millstream_types::{ProducerEpoch, ProducerId};
use millstream_wire::{ErrorCode, InitProducerIdRequest, InitProducerIdResponse};

use crate::dispatch::Call;

pub(crate) async fn handle(call: Call, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let has_id = ProducerId(request.producer_id) != ProducerId::NONE;
    let has_epoch = ProducerEpoch(request.producer_epoch) != ProducerEpoch::NONE;
    let (error, id, epoch) = if has_id != has_epoch {
        (ErrorCode::InvalidRequest, ProducerId::NONE, ProducerEpoch::NONE)
    } else if request.transactional_id.is_some() {
        (ErrorCode::UnsupportedVersion, ProducerId::NONE, ProducerEpoch::NONE)
    } else {
        // An idempotent producer that lost its sequence asks with the id it had, and gets a new
        // one, as from Kafka: nobody can fence it, so nothing is to be kept.
        match call.broker().new_producer_id().await {
            Ok(id) => (ErrorCode::None, id, ProducerEpoch(0)),
            Err(_) => (ErrorCode::CoordinatorNotAvailable, ProducerId::NONE, ProducerEpoch::NONE),
        }
    };
    InitProducerIdResponse {
        error_code: error.code(),
        producer_id: id.0,
        producer_epoch: epoch.0,
        ..InitProducerIdResponse::default()
    }
}
