//! DescribeConfigs (32): every setting of a resource, where it comes from, and what it means. What
//! is named twice is described once.
//!
//! v1: synonyms and sources. v3: types and documentation.

use std::collections::HashMap;

use millstream_broker::acl::Operation;
use millstream_broker::config::Described;
use millstream_wire::describe_configs_request::DescribeConfigsResource;
use millstream_wire::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use millstream_wire::{DescribeConfigsRequest, DescribeConfigsResponse, ErrorCode, StrBytes};

use super::{may_configure, target};
use crate::api::allowance::Allowance;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal};

/// What an entry takes beside its texts while the answer is made, in bytes; synonyms are smaller.
const ENTRY_BYTES: usize = size_of::<DescribeConfigsResourceResult>();

/// What the client wants beside values.
#[derive(Clone, Copy)]
struct Extras {
    synonyms: bool,
    documentation: bool,
}

pub(crate) async fn handle(call: Call, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let extras =
        Extras { synonyms: request.include_synonyms, documentation: request.include_documentation };
    let mut allowance = Allowance::new();
    let describe = |resource| describe(&call, resource, extras, &mut allowance);
    let results = distinct(request.resources).into_iter().map(describe).collect();
    DescribeConfigsResponse { results, ..DescribeConfigsResponse::default() }
}

/// Each resource once, with all the keys that are asked for.
fn distinct(resources: Vec<DescribeConfigsResource>) -> Vec<DescribeConfigsResource> {
    let mut places = HashMap::new();
    let mut distinct: Vec<DescribeConfigsResource> = Vec::with_capacity(resources.len());
    for resource in resources {
        let key = (resource.resource_type, resource.resource_name.clone());
        let place = *places.entry(key).or_insert(distinct.len());
        match distinct.get_mut(place) {
            None => distinct.push(resource),
            Some(known) => {
                let both = known.configuration_keys.take().zip(resource.configuration_keys);
                // No keys, or an empty list of them, mean all.
                let some = both.filter(|(these, those)| !these.is_empty() && !those.is_empty());
                known.configuration_keys = some.map(|(mut these, those)| {
                    these.extend(those);
                    these
                });
            }
        }
    }
    distinct
}

fn describe(
    call: &Call,
    resource: DescribeConfigsResource,
    extras: Extras,
    allowance: &mut Allowance,
) -> DescribeConfigsResult {
    let (error, message, configs) = match look_up(call, &resource, extras, allowance) {
        Ok(found) => (ErrorCode::None, None, found),
        Err((error, why)) => (error, Some(why), Vec::new()),
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
    extras: Extras,
    allowance: &mut Allowance,
) -> Result<Vec<Described>, Refusal> {
    let (kind, name) = (resource.resource_type, &resource.resource_name);
    may_configure(call, Operation::DescribeConfigs, kind, name)?;
    let target = target(call.broker(), kind, name)?;
    let keys: Option<Vec<&str>> = resource
        .configuration_keys
        .as_ref()
        .map(|keys| keys.iter().map(StrBytes::as_str).collect());
    let found = call.broker().describe_configs(&target, keys.as_deref());
    let found = found.map_err(|error| refusal(&error))?;
    allowance.take(found.iter().map(|config| bytes_of(config, extras)).sum())?;
    Ok(found)
}

fn bytes_of(config: &Described, extras: Extras) -> usize {
    let bytes = |name: &str, value: &Option<String>| {
        ENTRY_BYTES + name.len() + value.as_ref().map_or(0, String::len)
    };
    let synonyms = config.synonyms.iter().filter(|_| extras.synonyms);
    let synonyms: usize = synonyms.map(|synonym| bytes(synonym.name, &synonym.value)).sum();
    let documentation = if extras.documentation { config.documentation.len() } else { 0 };
    bytes(config.name, &config.value) + synonyms + documentation
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
