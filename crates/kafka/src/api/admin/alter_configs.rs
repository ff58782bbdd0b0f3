//! AlterConfigs (33): replaces what was set; what is not named gets its default back.

use millstream_broker::acl::Operation;
use millstream_wire::alter_configs_request::AlterConfigsResource;
use millstream_wire::alter_configs_response::AlterConfigsResourceResponse;
use millstream_wire::{AlterConfigsRequest, AlterConfigsResponse, ErrorCode};

use super::{invalid, may_configure, note_configs, null, target};
use crate::api::repeats::{TWICE, repeated};
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal};

pub(crate) async fn handle(call: Call, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let key =
        |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let twice = repeated(request.resources.iter().map(key));
    let mut response = AlterConfigsResponse::default();
    for resource in request.resources {
        let altered = if twice.contains(&key(&resource)) {
            Err(invalid(TWICE))
        } else {
            alter(&call, &resource, request.validate_only).await
        };
        let (error, message) = altered.err().unzip();
        if !request.validate_only {
            let names = resource.configs.iter().map(|config| &config.name);
            note_configs(
                &call,
                (resource.resource_type, &resource.resource_name),
                error.unwrap_or(ErrorCode::None),
                names,
            );
        }
        response.responses.push(AlterConfigsResourceResponse {
            error_code: error.unwrap_or(ErrorCode::None).code(),
            error_message: message,
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
) -> Result<(), Refusal> {
    let (kind, name) = (resource.resource_type, &resource.resource_name);
    may_configure(call, Operation::AlterConfigs, kind, name)?;
    let named = resource.configs.iter().map(|config| {
        let value = config.value.as_ref().ok_or_else(|| null(&config.name))?;
        Ok((config.name.as_str().to_owned(), value.as_str().to_owned()))
    });
    let named = named.collect::<Result<Vec<_>, Refusal>>()?;
    let target = target(call.broker(), kind, name)?;
    let replaced = call.broker().replace_configs(&target, named, only_validate).await;
    replaced.map_err(|error| refusal(&error))
}
