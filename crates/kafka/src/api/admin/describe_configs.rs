//! DescribeConfigs (32): every setting of a resource, where it comes from, and what it means.
//!
//! v1: synonyms and sources. v3: types and documentation.

use millstream_broker::config::Described;
use millstream_wire::describe_configs_request::DescribeConfigsResource;
use millstream_wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use millstream_wire::{DescribeConfigsRequest, DescribeConfigsResponse, ErrorCode, StrBytes};

use super::target;
use crate::dispatch::Call;
use crate::errors::Code as _;

/// What the client wants beside values.
#[derive(Clone, Copy)]
struct Extras {
    synonyms: bool,
    documentation: bool,
}

pub(crate) async fn handle(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let extras =
        Extras { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let describe = |resource| describe(&call, resource, extras);
    let results = request.resources.into_iter().map(describe).collect();
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

fn describe(
    call: &Call,
    resource: DescribeConfigsResource,
    extras: Extras,
) -> DescribeConfigsResult {
    let (error, message, configs) = match look_up(call, &resource) {
        Ok(found) => (ErrorCode::None, None, found),
        Err((error, why)) => (error, Some(StrBytes::from(why)), Vec::new()),
    };
    DescribeConfigsResult {
        error_code: error.code(),
        error_message: message,
        resource_type: resource.resource_type,
        resource_name: resource.resource_name,
        configs: configs.into_iter().map(|config| entry(config, extras)).collect(),
    }
}

fn look_up(
    call: &Call,
    resource: &DescribeConfigsResource,
) -> Result<Vec<Described>, (ErrorCode, String)> {
    let target = target(resource.resource_type, &resource.resource_name)?;
    let keys: Option<Vec<&str>> = resource
        .configuration_keys
        .as_ref()
        .map(|keys| keys.iter().map(StrBytes::as_str).collect());
    let found = call.broker().describe_configs(&target, keys.as_deref());
    found.map_err(|error| (error.code(), error.to_string()))
}

fn entry(config: Described, extras: Extras) -> DescribeConfigsResourceResult {
    let synonyms = config.synonyms.into_iter().filter(|_| extras.synonyms);
    DescribeConfigsResourceResult {
        name: StrBytes::from(config.name),
        value: config.value.map(StrBytes::from),
        read_only: config.read_only,
        config_source: config.source as i8,
        is_sensitive: config.sensitive,
        synonyms: synonyms
            .map(|synonym| DescribeConfigsSynonym {
                name: StrBytes::from(synonym.name),
                value: synonym.value.map(StrBytes::from),
                source: synonym.source as i8,
            })
            .collect(),
        config_type: config.config_type as i8,
        documentation: extras.documentation.then(|| StrBytes::from(config.documentation)),
    }
}
