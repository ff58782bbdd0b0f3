//! ConsumerGroupDescribe (69): consumer groups, their members, and who reads what (KIP-848).
//!
//! v1: whether a member speaks the classic protocol.

use millstream_broker::acl::Operation;
use millstream_broker::groups::{ConsumerDescription, DescribedConsumer, NamedPartitions};
use millstream_wire::consumer_group_describe_response::{
    Assignment, DescribedGroup, Member, TopicPartitions,
};
use millstream_wire::{
    ConsumerGroupDescribeRequest, ConsumerGroupDescribeResponse, ErrorCode, StrBytes,
};

use super::{may_describe, wire, wire_option};
use crate::api::allowance::Allowance;
use crate::api::authorize::{NOT_ASKED, Resource};
use crate::api::repeats::distinct;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal, text};

const CLASSIC: i8 = 0;
const CONSUMER: i8 = 1;

/// What a member takes beside its partitions while the answer is made, in bytes.
const MEMBER_BYTES: usize = size_of::<Member>();

pub(crate) async fn handle(
    call: Call,
    request: ConsumerGroupDescribeRequest,
) -> ConsumerGroupDescribeResponse {
    let mut allowance = Allowance::new();
    let mut response = ConsumerGroupDescribeResponse::default();
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
            Err((error, why)) => DescribedGroup {
                error_code: error.code(),
                error_message: Some(why),
                group_id: group,
                ..DescribedGroup::default()
            },
        };
        response.groups.push(DescribedGroup { authorized_operations: operations, ..described });
    }
    response
}

async fn look_up(
    call: &Call,
    group: &StrBytes,
    allowance: &mut Allowance,
) -> Result<ConsumerDescription, Refusal> {
    if group.is_empty() {
        return Err((ErrorCode::InvalidGroupId, text(&"a group has a name")));
    }
    let found = call.broker().describe_consumer_group(group).await;
    let found = found.map_err(|error| refusal(&error))?.ok_or_else(|| {
        let why = format_args!("Group {group} is not a consumer group.");
        (ErrorCode::GroupIdNotFound, text(&why))
    })?;
    let members = found.members.iter();
    let of_members = members.flat_map(|one| {
        let named = one.assigned.iter().chain(&one.target).map(|of| &*of.name);
        named.chain(one.topics.iter().map(|topic| &**topic))
    });
    may_describe(call, of_members)?;
    let bytes_of = |all: &[NamedPartitions]| -> usize {
        all.iter()
            .map(|of| size_of::<TopicPartitions>() + of.name.len() + 4 * of.indexes.len())
            .sum()
    };
    let bytes = found.members.iter().map(|one| {
        let topics: usize =
            one.topics.iter().map(|topic| size_of::<StrBytes>() + topic.len()).sum();
        MEMBER_BYTES + topics + bytes_of(&one.assigned) + bytes_of(&one.target)
    });
    allowance.take(bytes.sum())?;
    Ok(found)
}

fn describe(group_id: StrBytes, found: ConsumerDescription) -> DescribedGroup {
    DescribedGroup {
        group_id,
        group_state: StrBytes::from(found.state.name()),
        group_epoch: found.epoch,
        assignment_epoch: found.target_epoch,
        assignor_name: StrBytes::from(found.assignor.name()),
        members: found.members.into_iter().map(member).collect(),
        ..DescribedGroup::default()
    }
}

fn member(found: DescribedConsumer) -> Member {
    Member {
        member_id: wire(&found.member),
        instance_id: wire_option(found.instance.as_ref()),
        rack_id: wire_option(found.rack.as_ref()),
        member_epoch: found.epoch,
        client_id: wire(&found.client_id),
        client_host: wire(&found.client_host),
        subscribed_topic_names: found.topics.iter().map(wire).collect(),
        subscribed_topic_regex: wire_option(found.regex.as_ref()),
        assignment: assignment(found.assigned),
        target_assignment: assignment(found.target),
        member_type: if found.classic { CLASSIC } else { CONSUMER },
    }
}

fn assignment(partitions: Vec<NamedPartitions>) -> Assignment {
    let topics = partitions.into_iter().map(|of| TopicPartitions {
        topic_id: of.topic,
        topic_name: wire(&of.name),
        partitions: of.indexes,
    });
    Assignment { topic_partitions: topics.collect() }
}
