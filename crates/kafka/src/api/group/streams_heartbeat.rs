//! StreamsGroupHeartbeat (88): join with a topology, stay in and leave a streams group, and hear which
//! tasks to have (KIP-1071).
//!
//! Topics that the application needs for itself are made before this is answered; the answer still says
//! that they were missing, and the next one has tasks.
//!
//! v1: whether a description of the topology is wanted (never), and another field for the lag.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::groups::{
    Command, Copartition, Endpoint, EndpointPartitions, InternalTopic, Reply, StreamsBeat,
    StreamsHeartbeat, StreamsHeartbeatError, StreamsStatus, StreamsStatusCode, Subtopology,
    TaskAssignment, Tasks, Topology,
};
use millstream_broker::{TopicError, TopicRequest, is_internal};
use millstream_wire::streams_group_heartbeat_request as asked;
use millstream_wire::streams_group_heartbeat_response as told;
use millstream_wire::{
    ErrorCode, StrBytes, StreamsGroupHeartbeatRequest, StreamsGroupHeartbeatResponse,
};

use super::{may_describe, owned, owned_option, topics_of, wire};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::{Code as _, Refusal, refusal, text};

const STALE_TOPOLOGY: i8 = 0;
const MISSING_SOURCE_TOPICS: i8 = 1;
const INCORRECTLY_PARTITIONED_TOPICS: i8 = 2;
const MISSING_INTERNAL_TOPICS: i8 = 3;
const SHUTDOWN_APPLICATION: i8 = 4;
const ASSIGNMENT_DELAYED: i8 = 5;

pub(crate) async fn handle(
    call: Call,
    request: StreamsGroupHeartbeatRequest,
) -> StreamsGroupHeartbeatResponse {
    if let Err(refused) = call.require(Operation::Read, Resource::Group(&request.group_id)) {
        return failed(refused);
    }
    let group = owned(&request.group_id);
    let beat = match heartbeat(&call, request) {
        Ok(beat) => beat,
        Err(error) => return failed(refusal(&error)),
    };
    if let Err(refused) = check(&call, &beat).await {
        return failed(refused);
    }
    match call.broker().group(&group, Command::StreamsHeartbeat(beat)).await {
        Ok(Reply::StreamsHeartbeat(Ok(mut beat))) => {
            let failures = make_topics(&call, std::mem::take(&mut beat.missing)).await;
            accepted(beat, &failures)
        }
        Ok(Reply::StreamsHeartbeat(Err(error))) => failed(refusal(&error)),
        Ok(_) => failed((ErrorCode::UnknownServerError, StrBytes::default())),
        Err(error) => failed((error.code(), text(&error))),
    }
}

/// Whether the client may know of all topics of the topology: of the one that it brings, and of the group's,
/// which another member may have brought, and of whose topics it is told. Whoever leaves is told nothing.
async fn check(call: &Call, beat: &StreamsHeartbeat) -> Result<(), Refusal> {
    if !call.broker().authorizes() {
        return Ok(());
    }
    // What can't be looked at now is no group that could answer now.
    let known = match beat.epoch {
        ..0 => None,
        _ => call.broker().streams_topology(&beat.group).await.ok().flatten(),
    };
    let topologies = beat.topology.iter().chain(known.as_deref());
    let parts = topologies.flat_map(|topology| topology.subtopologies.values());
    may_describe(call, parts.flat_map(topics_of))
}

fn heartbeat(
    call: &Call,
    request: StreamsGroupHeartbeatRequest,
) -> Result<StreamsHeartbeat, StreamsHeartbeatError> {
    let invalid = |why: &'static str| Err(StreamsHeartbeatError::Invalid(why.into()));
    let tasks = (request.active_tasks, request.standby_tasks, request.warmup_tasks);
    let assignment = match tasks {
        (None, None, None) => None,
        (Some(active), Some(standby), Some(warmup)) => Some(TaskAssignment {
            active: to_tasks(&active),
            standby: to_tasks(&standby),
            warmup: to_tasks(&warmup),
        }),
        _ => return invalid("If one task-type is non-null, all must be non-null."),
    };
    let tags = request.client_tags.map(|tags| {
        tags.iter().map(|tag| (owned(&tag.key), owned(&tag.value))).collect::<BTreeMap<_, _>>()
    });
    Ok(StreamsHeartbeat {
        group: owned(&request.group_id),
        member: owned(&request.member_id),
        epoch: request.member_epoch,
        endpoints_epoch: request.endpoint_information_epoch,
        instance: owned_option(request.instance_id.as_ref()),
        rack: owned_option(request.rack_id.as_ref()),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topology: request.topology.map(topology).transpose()?,
        owned: assignment,
        process: owned_option(request.process_id.as_ref()),
        endpoint: request
            .user_endpoint
            .map(|endpoint| Endpoint { host: owned(&endpoint.host), port: endpoint.port }),
        tags,
        shutdown: request.shutdown_application,
        client_id: owned(&call.client_id),
        client_host: call.client_host(),
    })
}

fn to_tasks(ids: &[asked::TaskIds]) -> Tasks {
    let mut tasks = Tasks::new();
    for ids in ids.iter().filter(|ids| !ids.partitions.is_empty()) {
        tasks.entry(owned(&ids.subtopology_id)).or_default().extend(&ids.partitions);
    }
    tasks
}

fn topology(said: asked::Topology) -> Result<Topology, StreamsHeartbeatError> {
    let refuse = |why: String| Err(StreamsHeartbeatError::InvalidTopology(why));
    let mut subtopologies = BTreeMap::new();
    for part in said.subtopologies {
        let has_pattern =
            part.copartition_groups.iter().any(|it| !it.source_topic_regex.is_empty());
        if !part.source_topic_regex.is_empty() || has_pattern {
            let why = "Regular expressions for source topics are not supported yet.";
            return Err(StreamsHeartbeatError::Invalid(why.into()));
        }
        let id = owned(&part.subtopology_id);
        let subtopology = subtopology(part);
        let names = subtopology.sources.iter().chain(&subtopology.sinks);
        let internals = subtopology.repartitions.iter().chain(&subtopology.changelogs);
        let mut names = names.chain(internals.map(|topic| &topic.name));
        if let Some(name) = names.find(|name| is_internal(name)) {
            return refuse(format!(
                "Use of Kafka internal topics {name} in a Kafka Streams topology is prohibited."
            ));
        }
        if subtopologies.insert(Arc::clone(&id), subtopology).is_some() {
            return refuse(format!("Subtopology {id} is there twice."));
        }
    }
    Ok(Topology { epoch: said.epoch, subtopologies })
}

fn subtopology(part: asked::Subtopology) -> Subtopology {
    let groups = part.copartition_groups.into_iter();
    Subtopology {
        sources: part.source_topics.iter().map(owned).collect(),
        changelogs: part.state_changelog_topics.iter().map(internal_topic).collect(),
        sinks: part.repartition_sink_topics.iter().map(owned).collect(),
        repartitions: part.repartition_source_topics.iter().map(internal_topic).collect(),
        copartitions: groups
            .map(|group| Copartition {
                sources: group.source_topics,
                repartitions: group.repartition_source_topics,
            })
            .collect(),
    }
}

fn internal_topic(topic: &asked::TopicInfo) -> InternalTopic {
    let configs = topic.topic_configs.iter();
    InternalTopic {
        name: owned(&topic.name),
        partitions: topic.partitions,
        replicas: topic.replication_factor,
        configs: configs.map(|config| (owned(&config.key), owned(&config.value))).collect(),
    }
}

/// Makes topics; which could not be made, and why.
async fn make_topics(call: &Call, topics: Vec<InternalTopic>) -> Vec<String> {
    let mut failures = Vec::new();
    for topic in topics {
        if !call.may_create(&topic.name) {
            failures.push(format!("{} (you may not create it)", topic.name));
            continue;
        }
        let request = TopicRequest {
            name: topic.name.to_string(),
            partitions: Some(topic.partitions),
            replicas: (topic.replicas > 0).then_some(topic.replicas),
            configs: topic
                .configs
                .iter()
                .map(|(key, value)| (key.to_string(), Some(value.to_string())))
                .collect(),
            ..TopicRequest::default()
        };
        let made = call.broker().create_topic(request, false).await;
        let error = match &made {
            Ok(_) => ErrorCode::None,
            Err(error) => error.code(),
        };
        if error != ErrorCode::TopicAlreadyExists {
            call.note_change(Operation::Create, ("Topic", &topic.name), error, Vec::new);
        }
        match made {
            // Counted, but never held back: a member that is not heard of is thought to be gone.
            Ok(made) => call.mutates(usize::try_from(made.partitions).unwrap_or(0)),
            // Another member's heartbeat came first.
            Err(TopicError::Create(millstream_broker::CreateError::Exists)) => {}
            Err(error) => failures.push(format!("{} ({error})", topic.name)),
        }
    }
    failures
}

fn accepted(beat: StreamsBeat, failures: &[String]) -> StreamsGroupHeartbeatResponse {
    let assignment = beat.assignment.as_ref();
    let tasks = |of: fn(&TaskAssignment) -> &Tasks| assignment.map(|it| from_tasks(of(it)));
    StreamsGroupHeartbeatResponse {
        member_id: wire(&beat.member),
        member_epoch: beat.epoch,
        heartbeat_interval_ms: beat.heartbeat_interval_ms,
        status: Some(beat.statuses.iter().map(|it| status(it, failures)).collect()),
        active_tasks: tasks(|it| &it.active),
        standby_tasks: tasks(|it| &it.standby),
        warmup_tasks: tasks(|it| &it.warmup),
        endpoint_information_epoch: beat.endpoints_epoch,
        partitions_by_user_endpoint: beat
            .endpoints
            .map(|endpoints| endpoints.iter().map(endpoint_partitions).collect()),
        ..StreamsGroupHeartbeatResponse::default()
    }
}

fn status(status: &StreamsStatus, failures: &[String]) -> told::Status {
    let status_code = match status.code {
        StreamsStatusCode::StaleTopology => STALE_TOPOLOGY,
        StreamsStatusCode::MissingSources => MISSING_SOURCE_TOPICS,
        StreamsStatusCode::WrongPartitions => INCORRECTLY_PARTITIONED_TOPICS,
        StreamsStatusCode::MissingInternals => MISSING_INTERNAL_TOPICS,
        StreamsStatusCode::Shutdown => SHUTDOWN_APPLICATION,
        StreamsStatusCode::Delayed => ASSIGNMENT_DELAYED,
    };
    let status_detail = if status_code == MISSING_INTERNAL_TOPICS && !failures.is_empty() {
        text(&format_args!("{}; Creation failed: {}.", status.detail, failures.join(", ")))
    } else {
        text(&status.detail)
    };
    told::Status { status_code, status_detail }
}

fn from_tasks(tasks: &Tasks) -> Vec<told::TaskIds> {
    let ids = tasks.iter().map(|(id, indexes)| told::TaskIds {
        subtopology_id: wire(id),
        partitions: indexes.iter().copied().collect(),
    });
    ids.collect()
}

fn endpoint_partitions(of: &EndpointPartitions) -> told::EndpointToPartitions {
    let partitions = |all: &BTreeMap<Arc<str>, Vec<i32>>| {
        let all = all.iter().map(|(topic, indexes)| told::TopicPartition {
            topic: wire(topic),
            partitions: indexes.clone(),
        });
        all.collect()
    };
    told::EndpointToPartitions {
        user_endpoint: told::Endpoint { host: wire(&of.endpoint.host), port: of.endpoint.port },
        active_partitions: partitions(&of.active),
        standby_partitions: partitions(&of.standby),
    }
}

fn failed((error, why): Refusal) -> StreamsGroupHeartbeatResponse {
    StreamsGroupHeartbeatResponse {
        error_code: error.code(),
        error_message: Some(why),
        ..StreamsGroupHeartbeatResponse::default()
    }
}
