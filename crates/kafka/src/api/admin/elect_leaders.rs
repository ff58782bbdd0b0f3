//! ElectLeaders (43): makes a replica the leader. There is one of each partition, and it leads: no
//! election is needed, ever.
//!
//! v0: the preferred replica. v1: or any that is alive (KIP-460).

use millstream_broker::TopicRef;
use millstream_broker::acl::Operation;
use millstream_wire::elect_leaders_request::TopicPartitions;
use millstream_wire::elect_leaders_response::{PartitionResult, ReplicaElectionResult};
use millstream_wire::{ElectLeadersRequest, ElectLeadersResponse, ErrorCode, StrBytes};

use super::bounded;
use crate::api::authorize::Resource;
use crate::dispatch::{Call, Outcome};

/// The preferred replica, or any.
const ELECTIONS: [i8; 2] = [0, 1];

pub(crate) async fn handle(
    call: Call,
    request: ElectLeadersRequest,
) -> Outcome<ElectLeadersResponse> {
    let named = request.topic_partitions.iter().flatten();
    if let Err(close) = bounded(named.map(|topic| topic.partitions.len())) {
        return Outcome::Close(close);
    }
    if let Err(error) = call.check(Operation::Alter, Resource::Cluster) {
        return refused(request, error).into();
    }
    if !ELECTIONS.contains(&request.election_type) {
        let error_code = ErrorCode::InvalidRequest.code();
        return ElectLeadersResponse { error_code, ..ElectLeadersResponse::default() }.into();
    }
    let results = match request.topic_partitions {
        Some(named) => named.into_iter().map(|topic| answer(&call, topic)).collect(),
        // Of all partitions only those are told where something was done.
        None => {
            let all = call.broker().topics().into_iter();
            let nothing = |topic: &str| ReplicaElectionResult {
                topic: StrBytes::from(topic.to_owned()),
                partition_result: Vec::new(),
            };
            all.map(|topic| nothing(&topic.name)).collect()
        }
    };
    let response = ElectLeadersResponse { replica_election_results: results, ..Default::default() };
    response.into()
}

/// The first version has no place for an error but at partitions.
fn refused(request: ElectLeadersRequest, error: ErrorCode) -> ElectLeadersResponse {
    let partition = |partition_id| PartitionResult {
        partition_id,
        error_code: error.code(),
        ..PartitionResult::default()
    };
    let named = request.topic_partitions.into_iter().flatten();
    let results = named.map(|asked| ReplicaElectionResult {
        topic: asked.topic,
        partition_result: asked.partitions.into_iter().map(partition).collect(),
    });
    ElectLeadersResponse {
        error_code: error.code(),
        replica_election_results: results.collect(),
        ..ElectLeadersResponse::default()
    }
}

fn answer(call: &Call, asked: TopicPartitions) -> ReplicaElectionResult {
    let topic = call.broker().topic(TopicRef::Name(&asked.topic));
    let elect = |index: i32| {
        let (error, why) = match &topic {
            None => (ErrorCode::UnknownTopicOrPartition, "there is no such topic"),
            Some(topic) if topic.partition(index).is_none() => {
                (ErrorCode::UnknownTopicOrPartition, "there is no such partition")
            }
            Some(_) => (ErrorCode::ElectionNotNeeded, "the only replica leads already"),
        };
        PartitionResult {
            partition_id: index,
            error_code: error.code(),
            error_message: Some(StrBytes::from(why)),
        }
    };
    let partition_result = asked.partitions.into_iter().map(elect).collect();
    ReplicaElectionResult { topic: asked.topic, partition_result }
}
