//! AlterConfigs (33): replaces what was set; what is not named gets its default back.

use millstream_wire::alter_configs_request::AlterConfigsResource;
use millstream_wire::alter_configs_response::AlterConfigsResourceResponse;
use millstream_wire::{AlterConfigsRequest, AlterConfigsResponse, ErrorCode, StrBytes};

use super::target;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mut response = AlterConfigsResponse::default();
    for resource in request.resources {
        let altered = alter(&call, &resource, request.validate_only).await;
        let (error, message) = altered.err().unzip();
        response.responses.push(AlterConfigsResourceResponse {
            error_code: error.unwrap_or(ErrorCode::None).code(),
            error_message: message.map(StrBytes::from),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
        });
    }
    response
}

async fn alter(
    call: &Call,
    resource: &AlterConfigsResource,
    only_validate: bool,
) -> Result<(), (ErrorCode, String)> {
    let target = target(resource.resource_type, &resource.resource_name)?;
    let named = resource.configs.iter().filter_map(|config| {
        let value = config.value.as_ref()?;
        Some((config.name.as_str().to_owned(), value.as_str().to_owned()))
    });
    let replaced = call.broker().replace_configs(&target, named.collect(), only_validate).await;
    replaced.map_err(|error| (error.code(), error.to_string()))
}
