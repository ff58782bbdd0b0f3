//! IncrementalAlterConfigs (44): patches what was set (KIP-339).

use millstream_broker::ConfigTarget;
use millstream_broker::config::{Change, Op};
use millstream_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use millstream_wire::incremental_alter_configs_response::AlterConfigsResourceResponse;
use millstream_wire::{
    ErrorCode, IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, StrBytes,
};

use super::target;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mut response = IncrementalAlterConfigsResponse::default();
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
    let target: ConfigTarget = target(resource.resource_type, &resource.resource_name)?;
    let changes = resource.configs.iter().map(change).collect::<Result<Vec<_>, _>>()?;
    let patched = call.broker().patch_configs(&target, changes, only_validate).await;
    patched.map_err(|error| (error.code(), error.to_string()))
}

fn change(config: &AlterableConfig) -> Result<Change, (ErrorCode, String)> {
    let name = config.name.as_str().to_owned();
    let value = config.value.as_ref().map(|value| value.as_str().to_owned());
    let op = match (config.config_operation, value) {
        (0, Some(value)) => Op::Set(value),
        (1, _) => Op::Delete,
        (2, Some(value)) => Op::Append(value),
        (3, Some(value)) => Op::Subtract(value),
        (0 | 2 | 3, None) => {
            return Err((ErrorCode::InvalidConfig, format!("`{name}` needs a value")));
        }
        (other, _) => {
            return Err((ErrorCode::InvalidRequest, format!("there is no operation {other}")));
        }
    };
    Ok(Change { name, op })
}
