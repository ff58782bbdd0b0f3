//! IncrementalAlterConfigs (44): patches what was set (KIP-339).

use millstream_broker::acl::Operation;
use millstream_broker::config::{Change, Op};
use millstream_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use millstream_wire::incremental_alter_configs_response::AlterConfigsResourceResponse;
use millstream_wire::{ErrorCode, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};

use super::{invalid, may_configure, note_configs, null, target};
use crate::api::repeats::{TWICE, repeated};
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal};

pub(crate) async fn handle(
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let key =
        |resource: &AlterConfigsResource| (resource.resource_type, resource.resource_name.clone());
    let twice = repeated(request.resources.iter().map(key));
    let mut response = IncrementalAlterConfigsResponse::default();
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
    let changes = resource.configs.iter().map(change).collect::<Result<Vec<_>, _>>()?;
    let target = target(call.broker(), kind, name)?;
    let patched = call.broker().patch_configs(&target, changes, only_validate).await;
    patched.map_err(|error| refusal(&error))
}

fn change(config: &AlterableConfig) -> Result<Change, Refusal> {
    let name = config.name.as_str().to_owned();
    let value = config.value.as_ref().map(|value| value.as_str().to_owned());
    let op = match (config.config_operation, value) {
        (0, Some(value)) => Op::Set(value),
        (1, _) => Op::Delete,
        (2, Some(value)) => Op::Append(value),
        (3, Some(value)) => Op::Subtract(value),
        (0 | 2 | 3, None) => return Err(null(&config.name)),
        (other, _) => return Err(invalid(format_args!("there is no operation {other}"))),
    };
    Ok(Change { name, op })
}
