//! ListOffsets (2): offsets by time, and the special ones.
//!
//! v2: isolation. v4: leader epochs. v7: -3, the largest timestamp. v8: -4, the start of local
//! storage. v9: -5, the end of remote storage. v10: a time limit. v11: -6, the first not yet copied.

use millstream_broker::acl::Operation;
use millstream_broker::log::Isolation;
use millstream_broker::{Found, OffsetError, OffsetSpec, Topic, TopicRef};
use millstream_types::{LeaderEpoch, Timestamp};
use millstream_wire::list_offsets_request::ListOffsetsPartition;
use millstream_wire::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream_wire::{ErrorCode, ListOffsetsRequest, ListOffsetsResponse};

use crate::api::repeats::repeated;
use crate::dispatch::Call;
use crate::errors::Code as _;

const EPOCHS_SINCE: i16 = 4;

pub(crate) async fn handle(call: Call, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation =
        if request.isolation_level == 1 { Isolation::Committed } else { Isolation::Uncommitted };
    let all = request.topics.iter().flat_map(|topic| {
        topic.partitions.iter().map(|partition| (topic.name.clone(), partition.partition_index))
    });
    let twice = repeated(all);
    let mut response = ListOffsetsResponse::default();
    for topic in request.topics {
        let found = call.topic(Operation::Describe, TopicRef::Name(&topic.name));
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for partition in topic.partitions {
            let again = twice.contains(&(topic.name.clone(), partition.partition_index));
            let answer = match &found {
                _ if again => Err(ErrorCode::InvalidRequest),
                Ok(topic) => look_up(call.version, topic, &partition, isolation).await,
                Err(error) => Err(*error),
            };
            partitions.push(respond(call.version, partition.partition_index, answer));
        }
        response.topics.push(ListOffsetsTopicResponse { name: topic.name, partitions });
    }
    response
}

async fn look_up(
    version: i16,
    topic: &Topic,
    request: &ListOffsetsPartition,
    isolation: Isolation,
) -> Result<Option<Found>, ErrorCode> {
    let spec = spec(request.timestamp, version).ok_or(ErrorCode::UnsupportedVersion)?;
    let epoch = LeaderEpoch(request.current_leader_epoch);
    let found = topic.offset(request.partition_index, spec, isolation, epoch).await;
    found.map_err(|error: OffsetError| error.code())
}

/// What a timestamp stands for; `None` when the version does not know it.
fn spec(timestamp: i64, version: i16) -> Option<OffsetSpec> {
    match timestamp {
        -1 => Some(OffsetSpec::Latest),
        -2 => Some(OffsetSpec::Earliest),
        -3 if version >= 7 => Some(OffsetSpec::MaxTimestamp),
        -4 if version >= 8 => Some(OffsetSpec::EarliestLocal),
        -5 if version >= 9 => Some(OffsetSpec::LatestTiered),
        -6 if version >= 11 => Some(OffsetSpec::EarliestPendingUpload),
        time if time >= 0 => Some(OffsetSpec::At(Timestamp(time))),
        _ => None,
    }
}

fn respond(
    version: i16,
    index: i32,
    answer: Result<Option<Found>, ErrorCode>,
) -> ListOffsetsPartitionResponse {
    let error = answer.err().unwrap_or(ErrorCode::None);
    let nothing = ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: error.code(),
        timestamp: -1,
        offset: -1,
        leader_epoch: -1,
    };
    match answer {
        Ok(Some(found)) => ListOffsetsPartitionResponse {
            timestamp: found.timestamp.0,
            offset: found.offset.0,
            leader_epoch: if version >= EPOCHS_SINCE { found.epoch.0 } else { -1 },
            ..nothing
        },
        Ok(None) | Err(_) => nothing,
    }
}
