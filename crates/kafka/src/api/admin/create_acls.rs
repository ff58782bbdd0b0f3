//! CreateAcls (30): adds access rules. One that is there already is no error.
//!
//! v2, v3: nothing new here; users as resources (KIP-373).

use millstream_broker::acl::{Binding, Draft, Operation, PatternType, Permission, ResourceType};
use millstream_wire::create_acls_request::AclCreation;
use millstream_wire::create_acls_response::AclCreationResult;
use millstream_wire::{CreateAclsRequest, CreateAclsResponse, ErrorCode};

use super::describe_acls::{check_on, in_words, known};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal, text};

pub(crate) async fn handle(call: Call, request: CreateAclsRequest) -> CreateAclsResponse {
    let may = call.require(Operation::Alter, Resource::Cluster).and_then(|()| check_on(&call));
    let read = |creation| may.clone().and_then(|()| rule(creation));
    let rules: Vec<_> = request.creations.iter().map(read).collect();
    let wanted: Vec<_> = rules.iter().flatten().cloned().collect();
    // All that mean something in one change.
    let added = if wanted.is_empty() { Ok(()) } else { call.broker().add_acls(wanted).await };
    let added = added.map_err(|error| refusal(&error));
    let results = rules.into_iter().map(|rule| {
        let outcome = rule
            .as_ref()
            .map_err(|(error, _)| *error)
            .and(added.as_ref().map_err(|(error, _)| *error));
        let text = rule.as_ref().map_or_else(|_| String::new(), in_words);
        call.note_change(
            Operation::Create,
            ("Acl", &text),
            outcome.err().unwrap_or(ErrorCode::None),
            Vec::new,
        );
        let (error, error_message) = rule.and_then(|_| added.clone()).err().unzip();
        let error_code = error.unwrap_or(ErrorCode::None).code();
        AclCreationResult { error_code, error_message }
    });
    CreateAclsResponse { results: results.collect(), ..CreateAclsResponse::default() }
}

fn rule(creation: &AclCreation) -> Result<Binding, Refusal> {
    let draft = Draft {
        resource: known("resource", creation.resource_type, ResourceType::numbered)?,
        pattern: known("pattern", creation.resource_pattern_type, PatternType::numbered)?,
        name: &creation.resource_name,
        principal: &creation.principal,
        host: &creation.host,
        operation: known("operation", creation.operation, Operation::numbered)?,
        permission: known("permission", creation.permission_type, Permission::numbered)?,
    };
    Binding::new(&draft).map_err(|error| (ErrorCode::InvalidRequest, text(&error)))
}
