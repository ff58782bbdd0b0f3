//! SyncGroup (14): hand in or collect the assignment of a generation.
//!
//! v3: static members. v5: protocol type and name, checked and told.

use bytes::Bytes;
use millstream_broker::acl::Operation;
use millstream_broker::groups::{Command, Reply, Sync};
use millstream_wire::{ErrorCode, SyncGroupRequest, SyncGroupResponse};

use super::{owned, owned_option, speaker, wire_option};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

const PROTOCOL_SINCE: i16 = 5;

pub(crate) async fn handle(mut call: Call, request: SyncGroupRequest) -> SyncGroupResponse {
    if let Err(error) = call.check(Operation::Read, Resource::Group(&request.group_id)) {
        return failed(error);
    }
    let names_protocol = request.protocol_type.is_some() && request.protocol_name.is_some();
    if call.version >= PROTOCOL_SINCE && !names_protocol {
        return failed(ErrorCode::InconsistentGroupProtocol);
    }
    let sync = sync(request);
    let group = sync.speaker.group.clone();
    // It may wait for long, but not with the request.
    call.room = None;
    match call.broker().group(&group, Command::Sync(sync)).await {
        Ok(Reply::Sync(Ok(synced))) => SyncGroupResponse {
            protocol_type: wire_option(synced.protocol_type.as_ref()),
            protocol_name: wire_option(synced.protocol.as_ref()),
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Ok(Reply::Sync(Err(error))) => failed(error.code()),
        Ok(_) => failed(ErrorCode::UnknownServerError),
        Err(error) => failed(error.code()),
    }
}

/// What the request says, in memory of its own.
fn sync(request: SyncGroupRequest) -> Sync {
    let instance = request.group_instance_id.as_ref();
    let assignments = request.assignments.iter();
    Sync {
        speaker: speaker(&request.group_id, &request.member_id, instance, request.generation_id),
        protocol_type: owned_option(request.protocol_type.as_ref()),
        protocol: owned_option(request.protocol_name.as_ref()),
        assignments: assignments
            .map(|each| (owned(&each.member_id), Bytes::copy_from_slice(&each.assignment)))
            .collect(),
    }
}

fn failed(error: ErrorCode) -> SyncGroupResponse {
    SyncGroupResponse { error_code: error.code(), ..SyncGroupResponse::default() }
}
