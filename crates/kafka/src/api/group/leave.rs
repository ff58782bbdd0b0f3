//! LeaveGroup (13): members leave. v3: several, also by instance id, for administrators. v5: the
//! reason, for people.

use millstream_broker::acl::Operation;
use millstream_broker::groups::{Command, Leave, Leaver, Reply};
use millstream_wire::leave_group_request::MemberIdentity;
use millstream_wire::leave_group_response::MemberResponse;
use millstream_wire::{ErrorCode, LeaveGroupRequest, LeaveGroupResponse};

use super::{owned, owned_option};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

const BATCHED_SINCE: i16 = 3;

pub(crate) async fn handle(call: Call, request: LeaveGroupRequest) -> LeaveGroupResponse {
    if let Err(error) = call.check(Operation::Read, Resource::Group(&request.group_id)) {
        return failed(error);
    }
    let batched = call.version >= BATCHED_SINCE;
    let leavers = if batched {
        request.members
    } else {
        vec![MemberIdentity { member_id: request.member_id, ..MemberIdentity::default() }]
    };
    let members = leavers.iter().map(|leaver| Leaver {
        member: owned(&leaver.member_id),
        instance: owned_option(leaver.group_instance_id.as_ref()),
    });
    let group = owned(&request.group_id);
    let command = Command::Leave(Leave { group: group.clone(), members: members.collect() });
    let results = match call.broker().group(&group, command).await {
        Ok(Reply::Leave(Ok(results))) => results,
        Ok(Reply::Leave(Err(error))) => return failed(error.code()),
        Ok(_) => return failed(ErrorCode::UnknownServerError),
        Err(error) => return failed(error.code()),
    };
    let codes = results.into_iter().map(|result| match result {
        Ok(()) => ErrorCode::None,
        Err(error) => error.code(),
    });
    if !batched {
        return failed(codes.into_iter().next().unwrap_or(ErrorCode::None));
    }
    let members = leavers.into_iter().zip(codes).map(|(leaver, error)| MemberResponse {
        member_id: leaver.member_id,
        group_instance_id: leaver.group_instance_id,
        error_code: error.code(),
    });
    LeaveGroupResponse { members: members.collect(), ..LeaveGroupResponse::default() }
}

fn failed(error: ErrorCode) -> LeaveGroupResponse {
    LeaveGroupResponse { error_code: error.code(), ..LeaveGroupResponse::default() }
}
