//! DescribeTopicPartitions (75): topics and their partitions, a page at a time (KIP-966).
//!
//! Topics come by name. An answer has at most as many partitions as the client wants and
//! `max.request.partition.size.limit` allows; its cursor says where the next one goes on. A topic that
//! is not there counts as one partition, so that a page has an end whatever is asked for.

use std::collections::BTreeSet;

use millstream_broker::acl::Operation;
use millstream_broker::{Topic, TopicRef};
use millstream_wire::describe_topic_partitions_request::Cursor as Asked;
use millstream_wire::describe_topic_partitions_response::{
    Cursor, DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use millstream_wire::{
    DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, ErrorCode, StrBytes,
};

use crate::api::authorize::{NOT_ASKED, Resource};
use crate::dispatch::Call;

pub(crate) async fn handle(
    call: Call,
    request: DescribeTopicPartitionsRequest,
) -> DescribeTopicPartitionsResponse {
    let cursor = request.cursor.as_ref();
    let from = cursor.map_or("", |cursor| cursor.topic_name.as_str());
    let names: BTreeSet<String> = if request.topics.is_empty() {
        let all = call.broker().topics();
        let wanted = all.iter().filter(|topic| &*topic.name >= from);
        let told = wanted.filter(|topic| may_describe(&call, &topic.name));
        told.map(|topic| topic.name.to_string()).collect()
    } else {
        let named = request.topics.iter().map(|topic| topic.name.as_str());
        named.filter(|name| *name >= from).map(str::to_owned).collect()
    };
    if cursor.is_some_and(|cursor| !is_valid(cursor, &request, &names)) {
        return refused(request);
    }
    let wanted = usize::try_from(request.response_partition_limit).unwrap_or(0);
    let limit = wanted.min(call.broker().config().described_partitions_max).max(1);
    page(&call, names, cursor, limit)
}

/// A cursor names a topic that is asked for, if any are.
fn is_valid(
    cursor: &Asked,
    request: &DescribeTopicPartitionsRequest,
    names: &BTreeSet<String>,
) -> bool {
    let is_asked = request.topics.is_empty() || names.contains(cursor.topic_name.as_str());
    is_asked && cursor.partition_index >= 0
}

fn page(
    call: &Call,
    names: BTreeSet<String>,
    cursor: Option<&Asked>,
    limit: usize,
) -> DescribeTopicPartitionsResponse {
    let mut response = DescribeTopicPartitionsResponse::default();
    let mut left = limit;
    for name in names {
        let start = cursor.filter(|cursor| cursor.topic_name.as_str() == name);
        let start = start.map_or(0, |cursor| cursor.partition_index);
        if left == 0 {
            response.next_cursor =
                Some(Cursor { topic_name: StrBytes::from(name), partition_index: 0 });
            break;
        }
        let topic = match call.topic(Operation::Describe, TopicRef::Name(&name)) {
            Ok(topic) => topic,
            Err(error) => {
                response.topics.push(failed(call, name, error));
                left -= 1;
                continue;
            }
        };
        let partitions = partitions(call, &topic, start, left);
        left -= partitions.len();
        let next = partitions.last().map(|last| last.partition_index + 1);
        response.topics.push(DescribeTopicPartitionsResponseTopic {
            error_code: ErrorCode::None.code(),
            name: Some(StrBytes::from(name.clone())),
            topic_id: topic.id,
            is_internal: topic.internal,
            partitions,
            topic_authorized_operations: call.operations_on(Resource::Topic(&topic.name)),
        });
        if let Some(next) = next.filter(|next| topic.partition(*next).is_some()) {
            response.next_cursor =
                Some(Cursor { topic_name: StrBytes::from(name), partition_index: next });
            break;
        }
    }
    response
}

/// At most `limit` partitions of `topic` from number `start` on.
fn partitions(
    call: &Call,
    topic: &Topic,
    start: i32,
    limit: usize,
) -> Vec<DescribeTopicPartitionsResponsePartition> {
    let node = call.broker().node().id.0;
    let numbered = topic.partitions().iter().zip(0..);
    let wanted = numbered.skip(usize::try_from(start).unwrap_or(0)).take(limit);
    let described = wanted.map(|(partition, index)| DescribeTopicPartitionsResponsePartition {
        error_code: ErrorCode::None.code(),
        partition_index: index,
        leader_id: node,
        leader_epoch: partition.ends().epoch.0,
        replica_nodes: vec![node],
        isr_nodes: vec![node],
        eligible_leader_replicas: Some(Vec::new()),
        last_known_elr: Some(Vec::new()),
        offline_replicas: Vec::new(),
    });
    described.collect()
}

fn may_describe(call: &Call, name: &str) -> bool {
    call.may(Operation::Describe, Resource::Topic(name))
}

fn failed(call: &Call, name: String, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    let (error, operations) = match call.broker().check_topic_name(&name) {
        _ if error == ErrorCode::TopicAuthorizationFailed => (error, NOT_ASKED),
        Ok(()) => (error, call.operations_on(Resource::Topic(&name))),
        Err(_) => (ErrorCode::InvalidTopicException, call.operations_on(Resource::Topic(&name))),
    };
    DescribeTopicPartitionsResponseTopic {
        error_code: error.code(),
        name: Some(StrBytes::from(name)),
        topic_authorized_operations: operations,
        ..DescribeTopicPartitionsResponseTopic::default()
    }
}

/// There is no place for an error but at a topic: the first one that is asked for stands for all.
fn refused(request: DescribeTopicPartitionsRequest) -> DescribeTopicPartitionsResponse {
    let topics = request.topics.into_iter().take(1);
    let topics = topics.map(|topic| DescribeTopicPartitionsResponseTopic {
        error_code: ErrorCode::InvalidRequest.code(),
        name: Some(topic.name),
        ..DescribeTopicPartitionsResponseTopic::default()
    });
    DescribeTopicPartitionsResponse {
        topics: topics.collect(),
        ..DescribeTopicPartitionsResponse::default()
    }
}
