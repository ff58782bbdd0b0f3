//! AlterReplicaLogDirs (34): moves partitions to another directory of the same broker (KIP-113). There
//! is one directory: who asks for it has it already, and no other exists.

use millstream_broker::TopicRef;
use millstream_broker::acl::Operation;
use millstream_wire::alter_replica_log_dirs_response::{
    AlterReplicaLogDirPartitionResult, AlterReplicaLogDirTopicResult,
};
use millstream_wire::{AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, ErrorCode};

use super::bounded;
use crate::api::authorize::Resource;
use crate::dispatch::{Call, Outcome};

pub(crate) async fn handle(
    call: Call,
    request: AlterReplicaLogDirsRequest,
) -> Outcome<AlterReplicaLogDirsResponse> {
    let topics = request.dirs.iter().flat_map(|dir| &dir.topics);
    if let Err(close) = bounded(topics.map(|topic| topic.partitions.len())) {
        return Outcome::Close(close);
    }
    let may = call.check(Operation::Alter, Resource::Cluster);
    let place = call.broker().config().data_place.clone();
    let mut response = AlterReplicaLogDirsResponse::default();
    for dir in request.dirs {
        let is_ours = dir.path.as_str() == place;
        for asked in dir.topics {
            let topic = may.ok().and_then(|()| call.broker().topic(TopicRef::Name(&asked.name)));
            let answer = |index: i32| {
                let is_there = topic.as_ref().is_some_and(|topic| topic.partition(index).is_some());
                let error = match (may, is_ours, is_there) {
                    (Err(error), ..) => error,
                    (Ok(()), false, _) => ErrorCode::LogDirNotFound,
                    (Ok(()), true, false) => ErrorCode::ReplicaNotAvailable,
                    (Ok(()), true, true) => ErrorCode::None,
                };
                AlterReplicaLogDirPartitionResult {
                    partition_index: index,
                    error_code: error.code(),
                }
            };
            let partitions = asked.partitions.into_iter().map(answer).collect();
            let topic_name = asked.name;
            response.results.push(AlterReplicaLogDirTopicResult { topic_name, partitions });
        }
    }
    response.into()
}
