//! DescribeAcls (29): the access rules that a filter wants.
//!
//! v2, v3: nothing new here; users as resources (KIP-373).

use std::collections::BTreeMap;

use millstream_broker::acl::{
    Binding, Filter, Operation, PatternFilter, PatternType, Permission, ResourceType,
};
use millstream_wire::describe_acls_response::{AclDescription, DescribeAclsResource};
use millstream_wire::{DescribeAclsRequest, DescribeAclsResponse, ErrorCode, StrBytes};

use super::invalid;
use crate::api::allowance::Allowance;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Refusal;

/// "Any", in all of Kafka's enumerations.
const ANY: i8 = 1;
/// "Any pattern that speaks of the resource".
const MATCH: i8 = 2;

/// What a rule takes in memory besides its texts, at most, in bytes.
const RULE_BYTES: usize = size_of::<AclDescription>() + size_of::<DescribeAclsResource>();

pub(crate) async fn handle(call: Call, request: DescribeAclsRequest) -> DescribeAclsResponse {
    match describe(&call, request) {
        Ok(resources) => DescribeAclsResponse {
            error_message: None,
            resources,
            ..DescribeAclsResponse::default()
        },
        Err((error, why)) => DescribeAclsResponse {
            error_code: error.code(),
            error_message: Some(why),
            ..DescribeAclsResponse::default()
        },
    }
}

fn describe(
    call: &Call,
    request: DescribeAclsRequest,
) -> Result<Vec<DescribeAclsResource>, Refusal> {
    call.require(Operation::Describe, Resource::Cluster)?;
    check_on(call)?;
    let filter = filter(Asked {
        resource: request.resource_type_filter,
        pattern: request.pattern_type_filter,
        operation: request.operation,
        permission: request.permission_type,
        name: request.resource_name_filter,
        principal: request.principal_filter,
        host: request.host_filter,
    })?;
    let mut allowance = Allowance::new();
    let mut resources: BTreeMap<_, Vec<AclDescription>> = BTreeMap::new();
    for rule in call.broker().acls(&filter) {
        let texts = rule.name.len() + rule.user.len() + rule.host.text().len();
        allowance.take(RULE_BYTES + texts)?;
        let described = AclDescription {
            principal: StrBytes::from(rule.principal()),
            host: StrBytes::from(rule.host.text().to_owned()),
            operation: rule.operation.number(),
            permission_type: rule.permission.number(),
        };
        resources.entry((rule.resource, rule.pattern, rule.name)).or_default().push(described);
    }
    let each =
        resources.into_iter().map(|((resource, pattern, name), acls)| DescribeAclsResource {
            resource_type: resource.number(),
            resource_name: StrBytes::from(name.as_ref().to_owned()),
            pattern_type: pattern.number(),
            acls,
        });
    Ok(each.collect())
}

/// Rules can be told and changed only where they count.
pub(super) fn check_on(call: &Call) -> Result<(), Refusal> {
    if call.broker().authorizes() {
        return Ok(());
    }
    let why =
        "access rules are off: start the broker with authorizer.class.name and super.users set";
    Err((ErrorCode::SecurityDisabled, StrBytes::from_static(why)))
}

/// A rule in words, such as `Allow User:ann Read Topic orders- (Prefixed) from *`.
pub(super) fn in_words(rule: &Binding) -> String {
    let Binding { permission, operation, resource, name, pattern, host, .. } = rule;
    let who = rule.principal();
    format!("{permission} {who} {operation} {resource} {name} ({pattern}) from {}", host.text())
}

/// A filter as the protocol writes it.
pub(super) struct Asked {
    pub(super) resource: i8,
    pub(super) pattern: i8,
    pub(super) operation: i8,
    pub(super) permission: i8,
    pub(super) name: Option<StrBytes>,
    pub(super) principal: Option<StrBytes>,
    pub(super) host: Option<StrBytes>,
}

/// What it means.
pub(super) fn filter(asked: Asked) -> Result<Filter, Refusal> {
    let text = |text: Option<StrBytes>| text.map(|text| text.as_str().into());
    let pattern = match asked.pattern {
        ANY => PatternFilter::Any,
        MATCH => PatternFilter::Match,
        number => PatternFilter::Is(known("pattern", number, PatternType::numbered)?),
    };
    Ok(Filter {
        resource: some("resource", asked.resource, ResourceType::numbered)?,
        pattern,
        name: text(asked.name),
        principal: text(asked.principal),
        host: text(asked.host),
        operation: some("operation", asked.operation, Operation::numbered)?,
        permission: some("permission", asked.permission, Permission::numbered)?,
    })
}

fn some<T>(
    what: &str,
    number: i8,
    numbered: impl Fn(i8) -> Option<T>,
) -> Result<Option<T>, Refusal> {
    if number == ANY { Ok(None) } else { known(what, number, numbered).map(Some) }
}

/// The value of an enumeration that has that number.
pub(super) fn known<T>(
    what: &str,
    number: i8,
    numbered: impl Fn(i8) -> Option<T>,
) -> Result<T, Refusal> {
    numbered(number)
        .ok_or_else(|| invalid(format_args!("there is no {what} of the number {number} here")))
}
