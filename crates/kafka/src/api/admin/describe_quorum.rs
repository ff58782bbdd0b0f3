//! DescribeQuorum (55): who keeps the cluster's metadata, and how far they are (KIP-595). This node
//! does, alone; the "epoch" is its session, the "offset" the number of the next entry of its metadata
//! log. It has no listener for controllers, so that it names none.
//!
//! v1: times. v2: directories and listeners (KIP-853).

use millstream_broker::acl::Operation;
use millstream_types::Uuid;
use millstream_wire::describe_quorum_request::{PartitionData as Asked, TopicData as AskedTopic};
use millstream_wire::describe_quorum_response::{Node, PartitionData, ReplicaState, TopicData};
use millstream_wire::{DescribeQuorumRequest, DescribeQuorumResponse, ErrorCode};

use super::bounded;
use crate::api::authorize::Resource;
use crate::dispatch::{Call, Outcome};

/// What Kafka calls the log of its metadata: one topic of one partition.
const METADATA_TOPIC: &str = "__cluster_metadata";

const NODES_SINCE: i16 = 2;

pub(crate) async fn handle(
    call: Call,
    request: DescribeQuorumRequest,
) -> Outcome<DescribeQuorumResponse> {
    if let Err(close) = bounded(request.topics.iter().map(|topic| topic.partitions.len())) {
        return Outcome::Close(close);
    }
    if let Err(error) = call.check(Operation::Describe, Resource::Cluster) {
        let error_code = error.code();
        return DescribeQuorumResponse { error_code, ..DescribeQuorumResponse::default() }.into();
    }
    // As in Kafka: who asks for anything beside it gets nothing.
    let mut found = match request.topics.as_slice() {
        [only] if is_metadata(only) => Some(describe(&call).await),
        _ => None,
    };
    let topics = request.topics.into_iter().map(|asked| {
        let answer =
            |partition: Asked| found.take().unwrap_or_else(|| unknown(partition.partition_index));
        let partitions = asked.partitions.into_iter().map(answer).collect();
        TopicData { topic_name: asked.topic_name, partitions }
    });
    let node = Node { node_id: call.broker().node().id.0, listeners: Vec::new() };
    let response = DescribeQuorumResponse {
        error_message: None,
        topics: topics.collect(),
        nodes: if call.version >= NODES_SINCE { vec![node] } else { Vec::new() },
        ..DescribeQuorumResponse::default()
    };
    response.into()
}

/// Whether that is the one partition of the metadata.
fn is_metadata(asked: &AskedTopic) -> bool {
    let is_first = |partition: &Asked| partition.partition_index == 0;
    asked.topic_name == METADATA_TOPIC
        && matches!(asked.partitions.as_slice(), [only] if is_first(only))
}

async fn describe(call: &Call) -> PartitionData {
    let node = call.broker().node().id.0;
    let (session, next) = call.broker().metadata_end().await;
    let end = i64::try_from(next).unwrap_or(i64::MAX);
    let now = call.broker().env().clock.wall().0;
    let voter = ReplicaState {
        replica_id: node,
        replica_directory_id: Uuid::NIL,
        log_end_offset: end,
        last_fetch_timestamp: now,
        last_caught_up_timestamp: now,
    };
    PartitionData {
        partition_index: 0,
        error_message: None,
        leader_id: node,
        leader_epoch: i32::try_from(session.0).unwrap_or(i32::MAX),
        high_watermark: end,
        current_voters: vec![voter],
        ..PartitionData::default()
    }
}

fn unknown(index: i32) -> PartitionData {
    PartitionData {
        partition_index: index,
        error_code: ErrorCode::UnknownTopicOrPartition.code(),
        error_message: Some("only the cluster's metadata have a quorum".into()),
        ..PartitionData::default()
    }
}
