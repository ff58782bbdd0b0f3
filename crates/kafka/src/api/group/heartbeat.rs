//! Heartbeat (12): stay a member. v3: static members.

use millstream_broker::acl::Operation;
use millstream_broker::groups::{Command, Heartbeat, Reply};
use millstream_wire::{ErrorCode, HeartbeatRequest, HeartbeatResponse};

use super::speaker;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: HeartbeatRequest) -> HeartbeatResponse {
    let error = match call.check(Operation::Read, Resource::Group(&request.group_id)) {
        Ok(()) => beat(&call, &request).await,
        Err(error) => error,
    };
    HeartbeatResponse { error_code: error.code(), ..HeartbeatResponse::default() }
}

async fn beat(call: &Call, request: &HeartbeatRequest) -> ErrorCode {
    let instance = request.group_instance_id.as_ref();
    let speaker = speaker(&request.group_id, &request.member_id, instance, request.generation_id);
    let group = speaker.group.clone();
    match call.broker().group(&group, Command::Heartbeat(Heartbeat { speaker })).await {
        Ok(Reply::Heartbeat(Ok(()))) => ErrorCode::None,
        Ok(Reply::Heartbeat(Err(error))) => error.code(),
        Ok(_) => ErrorCode::UnknownServerError,
        Err(error) => error.code(),
    }
}
