//! AlterPartitionReassignments (45): moves partitions to other brokers (KIP-455). There is one: what
//! is assigned to it is there already, and no move is ever under way.
//!
//! v1: whether the number of replicas may change (KIP-860).

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::{Topic, TopicRef};
use millstream_wire::alter_partition_reassignments_request::ReassignablePartition;
use millstream_wire::alter_partition_reassignments_response::{
    ReassignablePartitionResponse, ReassignableTopicResponse,
};
use millstream_wire::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ErrorCode, StrBytes,
};

use super::bounded;
use crate::api::authorize::Resource;
use crate::dispatch::{Call, Outcome};
use crate::errors::{Refusal, text};

pub(crate) async fn handle(
    call: Call,
    request: AlterPartitionReassignmentsRequest,
) -> Outcome<AlterPartitionReassignmentsResponse> {
    if let Err(close) = bounded(request.topics.iter().map(|topic| topic.partitions.len())) {
        return Outcome::Close(close);
    }
    if let Err((error, why)) = call.require(Operation::Alter, Resource::Cluster) {
        return AlterPartitionReassignmentsResponse {
            error_code: error.code(),
            error_message: Some(why),
            ..AlterPartitionReassignmentsResponse::default()
        }
        .into();
    }
    let node = call.broker().node().id.0;
    let topics = request.topics.into_iter().map(|asked| {
        let topic = call.broker().topic(TopicRef::Name(&asked.name));
        let reassign = |partition: ReassignablePartition| {
            let index = partition.partition_index;
            respond(index, check(topic.as_ref(), &partition, node))
        };
        let partitions = asked.partitions.into_iter().map(reassign).collect();
        ReassignableTopicResponse { name: asked.name, partitions }
    });
    let response = AlterPartitionReassignmentsResponse {
        allow_replication_factor_change: request.allow_replication_factor_change,
        error_message: None,
        responses: topics.collect(),
        ..AlterPartitionReassignmentsResponse::default()
    };
    response.into()
}

/// Whether the partition is where it is to be: it can't come anywhere else.
fn check(
    topic: Option<&Arc<Topic>>,
    asked: &ReassignablePartition,
    node: i32,
) -> Result<(), Refusal> {
    let refuse = |error: ErrorCode, why: &'static str| Err((error, StrBytes::from(why)));
    let Some(topic) = topic else {
        return refuse(ErrorCode::UnknownTopicOrPartition, "there is no such topic");
    };
    if topic.partition(asked.partition_index).is_none() {
        return refuse(ErrorCode::UnknownTopicOrPartition, "there is no such partition");
    }
    let Some(replicas) = &asked.replicas else {
        return refuse(ErrorCode::NoReassignmentInProgress, "nothing is being reassigned");
    };
    if let Some(other) = replicas.iter().find(|replica| **replica != node) {
        let why = format_args!("there is no broker {other}: {node} is the only one");
        return Err((ErrorCode::InvalidReplicaAssignment, text(&why)));
    }
    match replicas.len() {
        1 => Ok(()),
        0 => refuse(ErrorCode::InvalidReplicaAssignment, "a partition needs a replica"),
        _ => refuse(ErrorCode::InvalidReplicaAssignment, "a broker holds one replica at most"),
    }
}

fn respond(index: i32, checked: Result<(), Refusal>) -> ReassignablePartitionResponse {
    let (error, error_message) = checked.err().unzip();
    ReassignablePartitionResponse {
        partition_index: index,
        error_code: error.unwrap_or(ErrorCode::None).code(),
        error_message,
    }
}
