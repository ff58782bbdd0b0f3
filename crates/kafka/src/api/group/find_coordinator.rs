//! FindCoordinator (10): which node coordinates a group or a transactional id.
//!
//! v1: key types (0 group, 1 transaction). v4: several keys. v6: share groups (2). There is one
//! node, so the answer is this one; asking also sets the coordinator up.

use millstream_wire::find_coordinator_response::Coordinator;
use millstream_wire::{ErrorCode, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes};

use crate::api::repeats::distinct;
use crate::dispatch::Call;

const BATCHED_SINCE: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) async fn handle(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let (error, message) = set_up(&call, request.key_type).await;
    let found = |key| coordinator(&call, key, error, message);
    if call.version >= BATCHED_SINCE {
        let keys = distinct(request.coordinator_keys, StrBytes::clone);
        let coordinators = keys.into_iter().map(found).collect();
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let only = found(request.key);
    FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..FindCoordinatorResponse::default()
    }
}

async fn set_up(call: &Call, key_type: i8) -> (ErrorCode, &'static str) {
    let set_up = match key_type {
        GROUP => call.broker().set_up_groups().await,
        TRANSACTION => call.broker().set_up_transactions().await,
        _ => {
            let why = "only coordinators of groups and transactions are served";
            return (ErrorCode::InvalidRequest, why);
        }
    };
    match set_up {
        Ok(()) => (ErrorCode::None, ""),
        Err(error) => {
            tracing::warn!(%error, "the coordinator can't be set up");
            (ErrorCode::CoordinatorNotAvailable, "the coordinator can't be set up now")
        }
    }
}

fn coordinator(call: &Call, key: StrBytes, error: ErrorCode, why: &'static str) -> Coordinator {
    let known = error == ErrorCode::None;
    let (host, port) = if known { call.advertised() } else { (StrBytes::default(), -1) };
    Coordinator {
        key,
        error_code: error.code(),
        error_message: (!known).then(|| StrBytes::from(why)),
        node_id: if known { call.broker().node().id.0 } else { -1 },
        host,
        port,
    }
}
