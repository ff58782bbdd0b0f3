//! JoinGroup (11): become a member, or stay one in the next generation.
//!
//! v1: rebalance timeout. v4: a newcomer comes back with the id it is given. v5: static members.
//! v7: protocol type. v8: the reason, for people. v9: the leader may skip the assignment.

use millstream_broker::acl::Operation;
use millstream_broker::groups::{Command, Join, Joined, Protocol, Reply};
use millstream_wire::join_group_response::JoinGroupResponseMember;
use millstream_wire::{ErrorCode, JoinGroupRequest, JoinGroupResponse, StrBytes};

use super::{owned, owned_option, wire, wire_option};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

const REBALANCE_TIMEOUT_SINCE: i16 = 1;
const KNOWN_MEMBER_ID_SINCE: i16 = 4;
const PROTOCOL_TYPE_SINCE: i16 = 7;
const SKIP_ASSIGNMENT_SINCE: i16 = 9;

pub(crate) async fn handle(mut call: Call, request: JoinGroupRequest) -> JoinGroupResponse {
    let group = owned(&request.group_id);
    let member = wire(&owned(&request.member_id));
    if let Err(error) = call.check(Operation::Read, Resource::Group(&request.group_id)) {
        return failed(call.version, member, error);
    }
    let command = Command::Join(join(&call, request));
    // It may wait for long, but not with the request.
    call.room = None;
    match call.broker().group(&group, command).await {
        Ok(Reply::Join(Ok(joined))) => accepted(call.version, joined),
        Ok(Reply::Join(Err(refused))) => {
            failed(call.version, wire(&refused.member), refused.error.code())
        }
        Ok(_) => failed(call.version, member, ErrorCode::UnknownServerError),
        Err(error) => failed(call.version, member, error.code()),
    }
}

fn join(call: &Call, request: JoinGroupRequest) -> Join {
    let rebalance_timeout_ms = if call.version >= REBALANCE_TIMEOUT_SINCE {
        request.rebalance_timeout_ms
    } else {
        request.session_timeout_ms
    };
    let protocols = request.protocols.into_iter();
    Join {
        group: owned(&request.group_id),
        member: owned(&request.member_id),
        instance: owned_option(request.group_instance_id.as_ref()),
        client_id: owned(&call.client_id),
        client_host: call.client_host(),
        session_timeout_ms: request.session_timeout_ms,
        rebalance_timeout_ms,
        protocol_type: owned(&request.protocol_type),
        protocols: protocols
            .map(|protocol| Protocol {
                name: owned(&protocol.name),
                metadata: bytes::Bytes::copy_from_slice(&protocol.metadata),
            })
            .collect(),
        require_known_member_id: call.version >= KNOWN_MEMBER_ID_SINCE,
        can_skip_assignment: call.version >= SKIP_ASSIGNMENT_SINCE,
        fresh: call.broker().env().uuid(),
        asker: call.asker(),
    }
}

fn accepted(version: i16, joined: Joined) -> JoinGroupResponse {
    let members = joined.members.into_iter();
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: wire_option(joined.protocol_type.as_ref()),
        protocol_name: protocol_name(version, wire_option(joined.protocol.as_ref())),
        leader: wire(&joined.leader),
        skip_assignment: joined.skip_assignment,
        member_id: wire(&joined.member),
        members: members
            .map(|member| JoinGroupResponseMember {
                member_id: wire(&member.member),
                group_instance_id: wire_option(member.instance.as_ref()),
                metadata: member.metadata,
            })
            .collect(),
        ..JoinGroupResponse::default()
    }
}

fn failed(version: i16, member_id: StrBytes, error: ErrorCode) -> JoinGroupResponse {
    JoinGroupResponse {
        error_code: error.code(),
        generation_id: -1,
        protocol_name: protocol_name(version, None),
        member_id,
        ..JoinGroupResponse::default()
    }
}

/// Null is allowed since the protocol type is told; before, "none" is empty.
fn protocol_name(version: i16, name: Option<StrBytes>) -> Option<StrBytes> {
    if version >= PROTOCOL_TYPE_SINCE { name } else { Some(name.unwrap_or_default()) }
}
