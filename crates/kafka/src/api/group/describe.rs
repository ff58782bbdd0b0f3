//! DescribeGroups (15): state and members of groups.
//!
//! v3: authorised operations. v4: instance ids. v6: an unknown group is an error, not `Dead`.

use millstream_broker::acl::Operation;
use millstream_broker::groups::Description;
use millstream_wire::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use millstream_wire::{DescribeGroupsRequest, DescribeGroupsResponse, ErrorCode, StrBytes};

use super::{wire, wire_option};
use crate::api::allowance::Allowance;
use crate::api::authorize::{NOT_ASKED, Resource};
use crate::api::repeats::distinct;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal, text};

const NOT_FOUND_SINCE: i16 = 6;
const DEAD: &str = "Dead";

/// What a member takes beside what it said and was told while the answer is made, in bytes.
const MEMBER_BYTES: usize = size_of::<DescribedGroupMember>();

pub(crate) async fn handle(call: Call, request: DescribeGroupsRequest) -> DescribeGroupsResponse {
    let mut allowance = Allowance::new();
    let mut response = DescribeGroupsResponse::default();
    for group in distinct(request.groups, StrBytes::clone) {
        let may = call.require(Operation::Describe, Resource::Group(&group));
        let asked = request.include_authorized_operations && may.is_ok();
        let operations =
            if asked { call.operations_on(Resource::Group(&group)) } else { NOT_ASKED };
        let found = match may {
            Ok(()) => look_up(&call, &group, &mut allowance).await,
            Err(refused) => Err(refused),
        };
        let described = match found {
            Ok(Some(found)) => describe(group, found),
            Ok(None) => dead(call.version, group),
            Err((error, why)) => DescribedGroup {
                error_code: error.code(),
                error_message: (call.version >= NOT_FOUND_SINCE).then_some(why),
                group_id: group,
                ..DescribedGroup::default()
            },
        };
        let described = DescribedGroup { authorized_operations: operations, ..described };
        response.groups.push(described);
    }
    response
}

async fn look_up(
    call: &Call,
    group: &StrBytes,
    allowance: &mut Allowance,
) -> Result<Option<Description>, Refusal> {
    let found = call.broker().describe_group(group).await.map_err(|error| refusal(&error))?;
    let members = found.iter().flat_map(|found| &found.members);
    let bytes = members.map(|one| MEMBER_BYTES + one.metadata.len() + one.assignment.len());
    allowance.take(bytes.sum())?;
    Ok(found)
}

fn describe(group_id: StrBytes, found: Description) -> DescribedGroup {
    let members = found.members.into_iter().map(|member| DescribedGroupMember {
        member_id: wire(&member.member),
        group_instance_id: wire_option(member.instance.as_ref()),
        client_id: wire(&member.client_id),
        client_host: wire(&member.client_host),
        member_metadata: member.metadata,
        member_assignment: member.assignment,
    });
    DescribedGroup {
        group_id,
        group_state: StrBytes::from(found.state.name()),
        protocol_type: wire(&found.protocol_type),
        protocol_data: wire(&found.protocol),
        members: members.collect(),
        ..DescribedGroup::default()
    }
}

fn dead(version: i16, group_id: StrBytes) -> DescribedGroup {
    let missing = version >= NOT_FOUND_SINCE;
    DescribedGroup {
        error_code: if missing { ErrorCode::GroupIdNotFound.code() } else { 0 },
        error_message: missing.then(|| text(&format_args!("Group {group_id} not found."))),
        group_id,
        group_state: StrBytes::from(DEAD),
        ..DescribedGroup::default()
    }
}
