//! AlterClientQuotas (49): limits what clients may use of the broker (KIP-546).

use millstream_broker::acl::Operation;
use millstream_broker::quota::{Change, Entity, Name};
use millstream_wire::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millstream_wire::alter_client_quotas_response::{
    EntityData as AnsweredEntity, EntryData as AnsweredEntry,
};
use millstream_wire::{AlterClientQuotasRequest, AlterClientQuotasResponse, ErrorCode, StrBytes};

use super::describe_client_quotas::part_of;
use super::invalid;
use crate::api::authorize::Resource;
use crate::api::repeats::{TWICE, repeated};
use crate::audit::detail;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal};

pub(crate) async fn handle(
    call: Call,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let twice = repeated(request.entries.iter().filter_map(|entry| entity(&entry.entity).ok()));
    let mut response = AlterClientQuotasResponse::default();
    for entry in request.entries {
        let may = call.require(Operation::AlterConfigs, Resource::Cluster);
        let altered = match may.and_then(|()| entity(&entry.entity)) {
            Ok(entity) if twice.contains(&entity) => Err(invalid(TWICE)),
            Ok(entity) => alter(&call, entity, &entry, request.validate_only).await,
            Err(refused) => Err(refused),
        };
        let (error, error_message) = altered.err().unzip();
        let error = error.unwrap_or(ErrorCode::None);
        if !request.validate_only {
            note(&call, &entry, error);
        }
        let error_code = error.code();
        let answered = entry.entity.into_iter().map(|part| AnsweredEntity {
            entity_type: part.entity_type,
            entity_name: part.entity_name,
        });
        let entity = answered.collect();
        response.entries.push(AnsweredEntry { error_code, error_message, entity });
    }
    response
}

fn note(call: &Call, entry: &EntryData, error: ErrorCode) {
    let part = |part: &EntityData| {
        let name = part.entity_name.as_ref().map_or("<default>", StrBytes::as_str);
        format!("{}={name}", part.entity_type)
    };
    let entity = entry.entity.iter().map(part).collect::<Vec<_>>().join(",");
    call.note_change(Operation::AlterConfigs, ("Quota", &entity), error, || {
        let ops = entry.ops.iter();
        let change = |op: &OpData| match op.remove {
            true => detail(&op.key, "removed"),
            false => detail(&op.key, op.value),
        };
        ops.map(change).collect()
    });
}

async fn alter(
    call: &Call,
    entity: Entity,
    entry: &EntryData,
    only_validate: bool,
) -> Result<(), Refusal> {
    let changes = entry.ops.iter().map(change).collect();
    let altered = call.broker().alter_quotas(entity, changes, only_validate).await;
    altered.map_err(|error| refusal(&error))
}

fn change(op: &OpData) -> Change {
    Change { of: op.key.as_str().to_owned(), to: (!op.remove).then_some(op.value) }
}

fn entity(parts: &[EntityData]) -> Result<Entity, Refusal> {
    let mut entity = Entity::default();
    for part in parts {
        let place = match part_of(&part.entity_type)? {
            "user" => &mut entity.user,
            "client-id" => &mut entity.client_id,
            _ => &mut entity.address,
        };
        let name = match &part.entity_name {
            Some(name) => Name::Is(name.as_str().into()),
            None => Name::Default,
        };
        if place.replace(name).is_some() {
            return Err(invalid(format_args!("`{}` is named twice", part.entity_type)));
        }
    }
    Ok(entity)
}
