//! OffsetForLeaderEpoch (23): where an epoch ended, so that a client sees whether the log it read
//! is this one (KIP-320).

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::{Topic, TopicRef};
use millstream_types::LeaderEpoch;
use millstream_wire::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use millstream_wire::offset_for_leader_epoch_response::{
    EpochEndOffset, OffsetForLeaderTopicResult,
};
use millstream_wire::{ErrorCode, OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(
    call: Call,
    request: OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let mut response = OffsetForLeaderEpochResponse::default();
    for topic in request.topics {
        let found = call.topic(Operation::Describe, TopicRef::Name(&topic.topic));
        let partitions = topic.partitions.iter().map(|asked| look_up(&found, asked));
        let partitions = partitions.collect();
        response.topics.push(OffsetForLeaderTopicResult { topic: topic.topic, partitions });
    }
    response
}

fn look_up(
    topic: &Result<Arc<Topic>, ErrorCode>,
    asked: &OffsetForLeaderPartition,
) -> EpochEndOffset {
    let epoch = LeaderEpoch(asked.leader_epoch);
    let current = LeaderEpoch(asked.current_leader_epoch);
    let found = match topic {
        Ok(topic) => topic.epoch_end(asked.partition, epoch, current).map_err(|error| error.code()),
        Err(error) => Err(*error),
    };
    match found {
        Ok((epoch, end)) => EpochEndOffset {
            error_code: 0,
            partition: asked.partition,
            leader_epoch: epoch.0,
            end_offset: end.0,
        },
        Err(error) => EpochEndOffset {
            error_code: error.code(),
            partition: asked.partition,
            leader_epoch: -1,
            end_offset: -1,
        },
    }
}
