//! FindCoordinator (10): which node coordinates a group or a transactional id.
//!
//! v1: key types (0 group, 1 transaction). v4: several keys. v6: share groups (2). There is one
//! node, so the answer is this one; asking also sets the coordinator up.

use millstream_broker::acl::Operation;
use millstream_wire::find_coordinator_response::Coordinator;
use millstream_wire::{ErrorCode, FindCoordinatorRequest, FindCoordinatorResponse, StrBytes};

use crate::api::authorize::{Resource, WHY};
use crate::api::repeats::distinct;
use crate::dispatch::Call;

const BATCHED_SINCE: i16 = 4;
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;

pub(crate) async fn handle(call: Call, request: FindCoordinatorRequest) -> FindCoordinatorResponse {
    let key_type = request.key_type;
    let batched = call.version >= BATCHED_SINCE;
    let keys = if batched {
        distinct(request.coordinator_keys, StrBytes::clone)
    } else {
        vec![request.key]
    };
    // Nothing is set up for those who may not use it.
    let may_any = keys.iter().any(|key| check(&call, key_type, key).is_ok());
    let ready = if may_any { set_up(&call, key_type).await } else { (ErrorCode::None, "") };
    let found = |key: StrBytes| {
        let (error, why) = check(&call, key_type, &key).err().unwrap_or(ready);
        coordinator(&call, key, error, why)
    };
    let mut coordinators = keys.into_iter().map(found);
    if batched {
        let coordinators = coordinators.collect();
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let only = coordinators.next().unwrap_or_default();
    FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..FindCoordinatorResponse::default()
    }
}

/// Whether the client may know of that group or transactional id.
fn check(call: &Call, key_type: i8, key: &str) -> Result<(), (ErrorCode, &'static str)> {
    let resource = match key_type {
        GROUP => Resource::Group(key),
        TRANSACTION => Resource::TransactionalId(key),
        _ => return Ok(()),
    };
    call.check(Operation::Describe, resource).map_err(|error| (error, WHY))
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
