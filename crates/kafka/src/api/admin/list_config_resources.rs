//! ListConfigResources (74): what configuration can be, or is, set on (KIP-1142).
//!
//! v0: subscriptions to client metrics alone, and without saying so. v1: of the types that are asked
//! for, or of all.

use millstream_broker::ConfigTarget;
use millstream_broker::acl::Operation;
use millstream_wire::list_config_resources_response::ConfigResource;
use millstream_wire::{
    ErrorCode, ListConfigResourcesRequest, ListConfigResourcesResponse, StrBytes,
};

use crate::api::authorize::Resource;
use crate::dispatch::Call;

// `ConfigResource.Type`.
const TOPIC: i8 = 2;
const BROKER: i8 = 4;
/// Log levels are not configured here: there is none of these.
const BROKER_LOGGER: i8 = 8;
const CLIENT_METRICS: i8 = 16;
const GROUP: i8 = 32;
const ALL: [i8; 5] = [TOPIC, BROKER, BROKER_LOGGER, CLIENT_METRICS, GROUP];

const TYPES_SINCE: i16 = 1;

pub(crate) async fn handle(
    call: Call,
    request: ListConfigResourcesRequest,
) -> ListConfigResourcesResponse {
    if let Err(error) = call.check(Operation::DescribeConfigs, Resource::Cluster) {
        return ListConfigResourcesResponse { error_code: error.code(), ..Default::default() };
    }
    let asked = &request.resource_types;
    if asked.iter().any(|kind| !ALL.contains(kind)) {
        let error_code = ErrorCode::UnsupportedVersion.code();
        return ListConfigResourcesResponse { error_code, ..Default::default() };
    }
    let is_wanted = |kind: i8| match call.version {
        ..TYPES_SINCE => kind == CLIENT_METRICS,
        _ => asked.is_empty() || asked.contains(&kind),
    };
    let resource = |resource_type: i8, name: String| ConfigResource {
        resource_name: StrBytes::from(name),
        resource_type,
    };
    let mut found = Vec::new();
    if is_wanted(TOPIC) {
        let all = call.broker().topics();
        found.extend(all.iter().map(|topic| resource(TOPIC, topic.name.to_string())));
    }
    if is_wanted(BROKER) {
        found.push(resource(BROKER, call.broker().node().id.0.to_string()));
    }
    let configured = call.broker().configured().into_iter().filter_map(|target| match target {
        ConfigTarget::ClientMetrics(name) => Some(resource(CLIENT_METRICS, name)),
        ConfigTarget::Group(name) => Some(resource(GROUP, name)),
        ConfigTarget::Topic(_)
        | ConfigTarget::Brokers
        | ConfigTarget::Broker(_)
        | ConfigTarget::BrokerLogger(_) => None,
    });
    found.extend(configured.filter(|resource| is_wanted(resource.resource_type)));
    ListConfigResourcesResponse { config_resources: found, ..Default::default() }
}
