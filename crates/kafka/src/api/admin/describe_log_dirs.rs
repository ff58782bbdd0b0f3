//! DescribeLogDirs (35): what each partition takes of the disk, and how much there is. What is asked
//! for and not there is left out.
//!
//! v3: an error for the whole answer. v4: the room on the disk. v5: whether new partitions stay away
//! from it (KIP-1066).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::{Topic, TopicRef};
use millstream_wire::describe_log_dirs_request::DescribableLogDirTopic;
use millstream_wire::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use millstream_wire::{DescribeLogDirsRequest, DescribeLogDirsResponse, ErrorCode, StrBytes};

use crate::api::authorize::Resource;
use crate::dispatch::Call;

/// What the room is where nobody can say.
const UNKNOWN: i64 = -1;

pub(crate) async fn handle(call: Call, request: DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    if let Err(error) = call.check(Operation::Describe, Resource::Cluster) {
        // Before version 3 he is told of no directory, and not why.
        return DescribeLogDirsResponse { error_code: error.code(), ..Default::default() };
    }
    let log_dir = StrBytes::from(call.broker().config().data_place.clone());
    let result = match call.broker().space().await {
        Ok(space) => {
            let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
            DescribeLogDirsResult {
                log_dir,
                topics: topics(&call, request.topics),
                total_bytes: space.map_or(UNKNOWN, |space| bytes(space.total)),
                usable_bytes: space.map_or(UNKNOWN, |space| bytes(space.usable)),
                ..DescribeLogDirsResult::default()
            }
        }
        Err(error) => {
            tracing::warn!(%error, "the room on the disk can't be told");
            let error_code = ErrorCode::KafkaStorageError.code();
            DescribeLogDirsResult { error_code, log_dir, ..DescribeLogDirsResult::default() }
        }
    };
    DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
}

fn topics(call: &Call, asked: Option<Vec<DescribableLogDirTopic>>) -> Vec<DescribeLogDirsTopic> {
    let Some(asked) = asked else {
        let all = call.broker().topics();
        return all.iter().filter_map(|topic| describe(topic, None)).collect();
    };
    // Each once, however often it is named.
    let mut named: BTreeMap<&str, BTreeSet<i32>> = BTreeMap::new();
    for topic in &asked {
        named.entry(topic.topic.as_str()).or_default().extend(&topic.partitions);
    }
    let found = named.iter().filter_map(|(name, partitions)| {
        let topic: Arc<Topic> = call.broker().topic(TopicRef::Name(name))?;
        describe(&topic, Some(partitions))
    });
    found.collect()
}

/// What there is of `wanted`, or of all; `None` when that is nothing.
fn describe(topic: &Topic, wanted: Option<&BTreeSet<i32>>) -> Option<DescribeLogDirsTopic> {
    let numbered = topic.partitions().iter().zip(0..);
    let found = numbered.filter(|(_, index)| wanted.is_none_or(|wanted| wanted.contains(index)));
    let described = found.map(|(partition, index)| DescribeLogDirsPartition {
        partition_index: index,
        partition_size: i64::try_from(partition.size_bytes()).unwrap_or(i64::MAX),
        ..DescribeLogDirsPartition::default()
    });
    let partitions: Vec<_> = described.collect();
    let name = StrBytes::from(topic.name.as_ref().to_owned());
    (!partitions.is_empty()).then_some(DescribeLogDirsTopic { name, partitions })
}
