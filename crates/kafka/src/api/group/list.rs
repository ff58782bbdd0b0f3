//! ListGroups (16). v4: by state. v5: by type.

use millstream_broker::acl::Operation;
use millstream_broker::groups::{ListFilter, Listed};
use millstream_wire::list_groups_response::ListedGroup;
use millstream_wire::{ListGroupsRequest, ListGroupsResponse, StrBytes};

use super::wire;
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: ListGroupsRequest) -> ListGroupsResponse {
    let texts = |texts: &[StrBytes]| texts.iter().map(|text| text.as_str().to_owned()).collect();
    let filter =
        ListFilter { states: texts(&request.states_filter), types: texts(&request.types_filter) };
    match call.broker().list_groups(&filter).await {
        Ok(listed) => {
            let of_all = call.may(Operation::Describe, Resource::Cluster);
            let is_told = |one: &&Listed| {
                of_all || call.may(Operation::Describe, Resource::Group(&one.group))
            };
            let groups = listed.iter().filter(is_told).map(group).collect();
            ListGroupsResponse { groups, ..ListGroupsResponse::default() }
        }
        Err(error) => ListGroupsResponse { error_code: error.code().code(), ..Default::default() },
    }
}

fn group(listed: &Listed) -> ListedGroup {
    ListedGroup {
        group_id: wire(&listed.group),
        protocol_type: wire(&listed.protocol_type),
        group_state: StrBytes::from(listed.state.name()),
        group_type: StrBytes::from(listed.group_type.name()),
    }
}
