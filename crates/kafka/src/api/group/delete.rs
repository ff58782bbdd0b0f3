//! DeleteGroups (42): forget groups that have no members. v3: says why not.

use millstream_broker::acl::Operation;
use millstream_broker::groups::{Command, DeleteGroups, Reply};
use millstream_wire::delete_groups_response::DeletableGroupResult;
use millstream_wire::{DeleteGroupsRequest, DeleteGroupsResponse, ErrorCode, StrBytes};

use super::owned;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: DeleteGroupsRequest) -> DeleteGroupsResponse {
    let mut response = DeleteGroupsResponse::default();
    for group_id in request.groups_names {
        let error = delete(&call, &group_id).await;
        call.note_change(Operation::Delete, ("Group", &group_id), error, Vec::new);
        let error_code = error.code();
        response.results.push(DeletableGroupResult {
            group_id,
            error_code,
            ..DeletableGroupResult::default()
        });
    }
    response
}

/// One at a time: groups of one request may belong to different shards.
async fn delete(call: &Call, group: &StrBytes) -> ErrorCode {
    if let Err(error) = call.check(Operation::Delete, Resource::Group(group)) {
        return error;
    }
    let group = owned(group);
    let command = Command::DeleteGroups(DeleteGroups { groups: vec![group.clone()] });
    match call.broker().group(&group, command).await {
        Ok(Reply::DeleteGroups(results)) => match results.into_iter().next() {
            Some((_, Ok(()))) => ErrorCode::None,
            Some((_, Err(error))) => error.code(),
            None => ErrorCode::UnknownServerError,
        },
        Ok(_) => ErrorCode::UnknownServerError,
        Err(error) => error.code(),
    }
}
