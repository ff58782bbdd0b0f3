//! DeleteAcls (31): removes the access rules that filters want. A rule that several want is told with the
//! first of them.
//!
//! v2, v3: nothing new here; users as resources (KIP-373).

use millstream_broker::acl::{Binding, Filter, Operation};
use millstream_wire::delete_acls_request::DeleteAclsFilter;
use millstream_wire::delete_acls_response::{DeleteAclsFilterResult, DeleteAclsMatchingAcl};
use millstream_wire::{DeleteAclsRequest, DeleteAclsResponse, ErrorCode, StrBytes};

use super::describe_acls::{Asked, check_on, filter, in_words};
use super::invalid;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal};

/// The most filters of one request: each is held against every rule.
const FILTERS_MAX: usize = 1_000;

pub(crate) async fn handle(call: Call, request: DeleteAclsRequest) -> DeleteAclsResponse {
    let may = check(&call, request.filters.len());
    let read = |asked| may.clone().and_then(|()| wanted(asked));
    let filters: Vec<_> = request.filters.into_iter().map(read).collect();
    let valid: Vec<_> = filters.iter().flatten().cloned().collect();
    let removed =
        if valid.is_empty() { Ok(Vec::new()) } else { call.broker().remove_acls(valid).await };
    let (mut removed, failed) = match removed {
        Ok(removed) => (removed.into_iter(), None),
        Err(error) => (Vec::new().into_iter(), Some(refusal(&error))),
    };
    for rule in removed.as_slice().iter().flatten() {
        call.note_change(Operation::Delete, ("Acl", &in_words(rule)), ErrorCode::None, Vec::new);
    }
    let results = filters.into_iter().map(|filter| match (filter, &failed) {
        (Err(refused), _) => refuse(refused),
        (Ok(_), Some(failed)) => refuse(failed.clone()),
        (Ok(_), None) => told(&removed.next().unwrap_or_default()),
    });
    DeleteAclsResponse { filter_results: results.collect(), ..DeleteAclsResponse::default() }
}

fn check(call: &Call, filters: usize) -> Result<(), Refusal> {
    call.require(Operation::Alter, Resource::Cluster)?;
    check_on(call)?;
    if filters > FILTERS_MAX {
        return Err(invalid(format_args!("a request has {FILTERS_MAX} filters at most")));
    }
    Ok(())
}

fn wanted(asked: DeleteAclsFilter) -> Result<Filter, Refusal> {
    filter(Asked {
        resource: asked.resource_type_filter,
        pattern: asked.pattern_type_filter,
        operation: asked.operation,
        permission: asked.permission_type,
        name: asked.resource_name_filter,
        principal: asked.principal_filter,
        host: asked.host_filter,
    })
}

fn told(removed: &[Binding]) -> DeleteAclsFilterResult {
    let rules = removed.iter().map(|rule| DeleteAclsMatchingAcl {
        error_code: ErrorCode::None.code(),
        error_message: None,
        resource_type: rule.resource.number(),
        resource_name: StrBytes::from(rule.name.as_ref().to_owned()),
        pattern_type: rule.pattern.number(),
        principal: StrBytes::from(rule.principal()),
        host: StrBytes::from(rule.host.text().to_owned()),
        operation: rule.operation.number(),
        permission_type: rule.permission.number(),
    });
    DeleteAclsFilterResult {
        error_code: ErrorCode::None.code(),
        error_message: None,
        matching_acls: rules.collect(),
    }
}

fn refuse((error, why): Refusal) -> DeleteAclsFilterResult {
    DeleteAclsFilterResult {
        error_code: error.code(),
        error_message: Some(why),
        matching_acls: Vec::new(),
    }
}
