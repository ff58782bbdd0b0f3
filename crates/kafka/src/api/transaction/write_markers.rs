//! WriteTxnMarkers (27): appends the markers that end transactions: for tools that end what hangs, and
//! for other brokers.
//!
//! v2: which protocol the transaction is of.

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::{Marker, Newest, Topic, TopicRef};
use millstream_types::{ProducerEpoch, ProducerId};
use millstream_wire::write_txn_markers_request::WritableTxnMarker;
use millstream_wire::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use millstream_wire::{ErrorCode, WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::Code as _;

pub(crate) async fn handle(call: Call, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let may = match call.may(Operation::Alter, Resource::Cluster) {
        true => Ok(()),
        false => call.check(Operation::ClusterAction, Resource::Cluster),
    };
    let mut newest = Newest::default();
    let mut response = WriteTxnMarkersResponse::default();
    for marker in &request.markers {
        response.markers.push(write(&call, marker, may, &mut newest));
    }
    if call.broker().wait_durable(newest).await.is_err() {
        let topics = response.markers.iter_mut().flat_map(|marker| &mut marker.topics);
        for partition in topics.flat_map(|topic| &mut topic.partitions) {
            if partition.error_code == 0 {
                partition.error_code = ErrorCode::KafkaStorageError.code();
            }
        }
    }
    response
}

fn write(
    call: &Call,
    asked: &WritableTxnMarker,
    may: Result<(), ErrorCode>,
    newest: &mut Newest,
) -> WritableTxnMarkerResult {
    let marker = Marker {
        producer: ProducerId(asked.producer_id),
        epoch: ProducerEpoch(asked.producer_epoch),
        coordinator_epoch: asked.coordinator_epoch,
        commit: asked.transaction_result,
    };
    let topics = asked.topics.iter().map(|named| {
        let topic = may.map(|()| call.broker().topic(TopicRef::Name(&named.name)));
        let partitions = named.partition_indexes.iter().map(|&partition_index| {
            let is_there = |topic: &&Arc<Topic>| topic.partition(partition_index).is_some();
            let there = topic.as_ref().map(|topic| topic.as_ref().filter(is_there));
            let error = match there {
                Err(error) => *error,
                Ok(None) => ErrorCode::UnknownTopicOrPartition,
                Ok(Some(topic)) => match call.broker().write_marker(topic, partition_index, marker)
                {
                    Ok(end) => {
                        newest.join(end);
                        ErrorCode::None
                    }
                    Err(error) => error.code(),
                },
            };
            WritableTxnMarkerPartitionResult { partition_index, error_code: error.code() }
        });
        WritableTxnMarkerTopicResult { name: named.name.clone(), partitions: partitions.collect() }
    });
    WritableTxnMarkerResult { producer_id: asked.producer_id, topics: topics.collect() }
}
