//! StreamsGroupDescribe (89): streams groups, their topologies and members, and who has which tasks
//! (KIP-1071).
//!
//! v1: the description of a topology, which nobody keeps here, and the assignor.

use millstream_broker::acl::Operation;
use millstream_broker::groups::{
    DescribedStreamsMember, InternalTopic, StreamsDescription, Subtopology, TaskAssignment, Tasks,
    Topology,
};
use millstream_wire::streams_group_describe_response as told;
use millstream_wire::{
    ErrorCode, StrBytes, StreamsGroupDescribeRequest, StreamsGroupDescribeResponse,
};

use super::{may_describe, topics_of, wire, wire_option};
use crate::api::allowance::Allowance;
use crate::api::authorize::{NOT_ASKED, Resource};
use crate::api::repeats::distinct;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal, text};

/// The assignor, as Kafka names it.
const ASSIGNOR: &str = "sticky";

/// What a member takes beside its texts and tasks while the answer is made, in bytes.
const MEMBER_BYTES: usize = size_of::<told::Member>();
/// The same of a topic.
const TOPIC_BYTES: usize = size_of::<told::TopicInfo>();

pub(crate) async fn handle(
    call: Call,
    request: StreamsGroupDescribeRequest,
) -> StreamsGroupDescribeResponse {
    let mut allowance = Allowance::new();
    let mut response = StreamsGroupDescribeResponse::default();
    for group in distinct(request.group_ids, StrBytes::clone) {
        let may = call.require(Operation::Describe, Resource::Group(&group));
        let asked = request.include_authorized_operations && may.is_ok();
        let operations =
            if asked { call.operations_on(Resource::Group(&group)) } else { NOT_ASKED };
        let found = match may {
            Ok(()) => look_up(&call, &group, &mut allowance).await,
            Err(refused) => Err(refused),
        };
        let described = match found {
            Ok(found) => describe(group, found),
            Err((error, why)) => told::DescribedGroup {
                error_code: error.code(),
                error_message: Some(why),
                group_id: group,
                ..told::DescribedGroup::default()
            },
        };
        response
            .groups
            .push(told::DescribedGroup { authorized_operations: operations, ..described });
    }
    response
}

async fn look_up(
    call: &Call,
    group: &StrBytes,
    allowance: &mut Allowance,
) -> Result<StreamsDescription, Refusal> {
    if group.is_empty() {
        return Err((ErrorCode::InvalidGroupId, text(&"a group has a name")));
    }
    let found = call.broker().describe_streams_group(group).await;
    let found = found.map_err(|error| refusal(&error))?.ok_or_else(|| {
        let why = format_args!("Group {group} is not a streams group.");
        (ErrorCode::GroupIdNotFound, text(&why))
    })?;
    let parts = found.topology.iter().flat_map(|topology| topology.subtopologies.values());
    may_describe(call, parts.flat_map(topics_of))?;
    let members: usize = found.members.iter().map(member_bytes).sum();
    let topology: usize = found.topology.iter().map(topology_bytes).sum();
    allowance.take(members + topology)?;
    Ok(found)
}

fn member_bytes(member: &DescribedStreamsMember) -> usize {
    let of = |tasks: &Tasks| -> usize {
        tasks.iter().map(|(id, all)| size_of::<told::TaskIds>() + id.len() + 4 * all.len()).sum()
    };
    let of = |all: &TaskAssignment| of(&all.active) + of(&all.standby) + of(&all.warmup);
    let tags = member.tags.iter().map(|(key, value)| TOPIC_BYTES + key.len() + value.len());
    MEMBER_BYTES + of(&member.assigned) + of(&member.target) + tags.sum::<usize>()
}

fn topology_bytes(topology: &Topology) -> usize {
    let parts = topology.subtopologies.values().map(|part| {
        let names = part.sources.iter().chain(&part.sinks);
        let names = names.map(|name| size_of::<StrBytes>() + name.len());
        let topics = part.repartitions.iter().chain(&part.changelogs).map(|topic| {
            let configs = topic.configs.iter();
            let configs = configs.map(|(key, value)| TOPIC_BYTES + key.len() + value.len());
            TOPIC_BYTES + topic.name.len() + configs.sum::<usize>()
        });
        names.chain(topics).sum::<usize>()
    });
    parts.sum()
}

fn describe(group_id: StrBytes, found: StreamsDescription) -> told::DescribedGroup {
    told::DescribedGroup {
        group_id,
        group_state: StrBytes::from(found.state.name()),
        group_epoch: found.epoch,
        assignment_epoch: found.target_epoch,
        topology: found.topology.as_ref().map(topology),
        members: found.members.iter().map(member).collect(),
        assignor_name: Some(StrBytes::from(ASSIGNOR)),
        ..told::DescribedGroup::default()
    }
}

fn topology(topology: &Topology) -> told::Topology {
    let parts = topology.subtopologies.iter();
    let parts = parts.map(|(id, part)| subtopology(wire(id), part));
    told::Topology { epoch: topology.epoch, subtopologies: Some(parts.collect()) }
}

fn subtopology(subtopology_id: StrBytes, part: &Subtopology) -> told::Subtopology {
    let sorted = |names: &[std::sync::Arc<str>]| {
        let mut names: Vec<_> = names.iter().map(wire).collect();
        names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        names
    };
    told::Subtopology {
        subtopology_id,
        source_topics: sorted(&part.sources),
        repartition_sink_topics: sorted(&part.sinks),
        state_changelog_topics: part.changelogs.iter().map(topic_info).collect(),
        repartition_source_topics: part.repartitions.iter().map(topic_info).collect(),
    }
}

fn topic_info(topic: &InternalTopic) -> told::TopicInfo {
    let configs = topic.configs.iter();
    told::TopicInfo {
        name: wire(&topic.name),
        partitions: topic.partitions,
        replication_factor: topic.replicas,
        topic_configs: configs
            .map(|(key, value)| told::KeyValue { key: wire(key), value: wire(value) })
            .collect(),
    }
}

fn member(found: &DescribedStreamsMember) -> told::Member {
    let tags = found.tags.iter();
    told::Member {
        member_id: wire(&found.member),
        member_epoch: found.epoch,
        instance_id: wire_option(found.instance.as_ref()),
        rack_id: wire_option(found.rack.as_ref()),
        client_id: wire(&found.client_id),
        client_host: wire(&found.client_host),
        topology_epoch: found.topology_epoch,
        process_id: wire(&found.process),
        user_endpoint: found
            .endpoint
            .as_ref()
            .map(|it| told::Endpoint { host: wire(&it.host), port: it.port }),
        client_tags: tags
            .map(|(key, value)| told::KeyValue { key: wire(key), value: wire(value) })
            .collect(),
        assignment: assignment(&found.assigned),
        target_assignment: assignment(&found.target),
        ..told::Member::default()
    }
}

fn assignment(of: &TaskAssignment) -> told::Assignment {
    told::Assignment {
        active_tasks: task_ids(&of.active),
        standby_tasks: task_ids(&of.standby),
        warmup_tasks: task_ids(&of.warmup),
    }
}

fn task_ids(tasks: &Tasks) -> Vec<told::TaskIds> {
    let ids = tasks.iter().map(|(id, indexes)| told::TaskIds {
        subtopology_id: wire(id),
        partitions: indexes.iter().copied().collect(),
    });
    ids.collect()
}
