//! DescribeClientQuotas (48): what limits clients (KIP-546).

use millstream_broker::acl::Operation;
use millstream_broker::quota::{Entity, Filter, Limits, Match};
use millstream_wire::describe_client_quotas_request::ComponentData;
use millstream_wire::describe_client_quotas_response::{EntityData, EntryData, ValueData};
use millstream_wire::{
    DescribeClientQuotasRequest, DescribeClientQuotasResponse, ErrorCode, StrBytes,
};

use super::invalid;
use crate::api::allowance::Allowance;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::{Refusal, text};

// `MatchType`s.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;

/// What there are quotas of, as the protocol calls it.
const PARTS: [&str; 3] = ["user", "client-id", "ip"];

/// What an entry takes in memory besides its texts, at most, in bytes.
const ENTRY_BYTES: usize = 512;

pub(crate) async fn handle(
    call: Call,
    request: DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    match describe(&call, &request) {
        Ok(entries) => DescribeClientQuotasResponse {
            entries: Some(entries),
            ..DescribeClientQuotasResponse::default()
        },
        Err((error, why)) => DescribeClientQuotasResponse {
            error_code: error.code(),
            error_message: Some(why),
            entries: None,
            ..DescribeClientQuotasResponse::default()
        },
    }
}

fn describe(call: &Call, request: &DescribeClientQuotasRequest) -> Result<Vec<EntryData>, Refusal> {
    call.require(Operation::DescribeConfigs, Resource::Cluster)?;
    let filter = filter(request)?;
    let mut allowance = Allowance::new();
    let mut entries = Vec::new();
    for (entity, limits) in call.broker().quotas(&filter) {
        let entry = entry(&entity, &limits);
        let names = entry.entity.iter().filter_map(|part| part.entity_name.as_ref());
        allowance.take(ENTRY_BYTES + names.map(StrBytes::len).sum::<usize>())?;
        entries.push(entry);
    }
    Ok(entries)
}

fn entry(entity: &Entity, limits: &Limits) -> EntryData {
    let parts = PARTS.into_iter().zip([&entity.user, &entity.client_id, &entity.address]);
    let parts = parts.filter_map(|(entity_type, part)| {
        let entity_name =
            part.as_ref()?.as_option().map(|name| StrBytes::from(name.as_ref().to_owned()));
        Some(EntityData { entity_type: StrBytes::from(entity_type), entity_name })
    });
    let values = limits
        .iter()
        .map(|(of, limit)| ValueData { key: StrBytes::from(of.name()), value: limit.get() });
    EntryData { entity: parts.collect(), values: values.collect() }
}

fn filter(request: &DescribeClientQuotasRequest) -> Result<Filter, Refusal> {
    let mut filter = Filter { strict: request.strict, ..Filter::default() };
    for component in &request.components {
        let wanted = wanted(component)?;
        let place = match part_of(&component.entity_type)? {
            "user" => &mut filter.user,
            "client-id" => &mut filter.client_id,
            _ => &mut filter.address,
        };
        if place.replace(wanted).is_some() {
            return Err(invalid(format_args!("`{}` is named twice", component.entity_type)));
        }
    }
    if filter.address.is_some() && (filter.user.is_some() || filter.client_id.is_some()) {
        return Err(invalid("an address can't be combined with a user or a client id"));
    }
    Ok(filter)
}

fn wanted(component: &ComponentData) -> Result<Match, Refusal> {
    match (component.match_type, &component.r#match) {
        (EXACT, Some(name)) => Ok(Match::Is(name.as_str().into())),
        (DEFAULT, None) => Ok(Match::Default),
        (SPECIFIED, None) => Ok(Match::Any),
        (EXACT | DEFAULT | SPECIFIED, _) => {
            Err(invalid("a name belongs to the exact kind of match, and only to that"))
        }
        (other, _) => Err(invalid(format_args!("there is no kind of match {other}"))),
    }
}

/// The part of an entity that the protocol calls `name`.
pub(super) fn part_of(name: &StrBytes) -> Result<&'static str, Refusal> {
    let known = PARTS.into_iter().find(|part| *part == name.as_str());
    known.ok_or_else(|| {
        let why =
            text(&format_args!("there are no quotas of `{name}`, only of user, client-id, ip"));
        (ErrorCode::InvalidRequest, why)
    })
}
