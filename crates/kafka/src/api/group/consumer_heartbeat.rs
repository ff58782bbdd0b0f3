//! ConsumerGroupHeartbeat (68): join, stay in and leave a consumer group, and hear what to read
//! (KIP-848).
//!
//! v1: regular expressions; the client draws its member's id.

use std::collections::BTreeSet;

use millstream_broker::acl::Operation;
use millstream_broker::groups::{
    Command, ConsumerBeat, ConsumerHeartbeat, ConsumerHeartbeatError, Partitions, Reply,
};
use millstream_wire::consumer_group_heartbeat_request::TopicPartitions as OwnedPartitions;
use millstream_wire::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use millstream_wire::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ErrorCode, StrBytes,
};

use super::{owned, owned_option, wire};
use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::{Code as _, Refusal, refusal, text};

const OWN_MEMBER_ID_SINCE: i16 = 1;

pub(crate) async fn handle(
    call: Call,
    request: ConsumerGroupHeartbeatRequest,
) -> ConsumerGroupHeartbeatResponse {
    if call.version >= OWN_MEMBER_ID_SINCE && request.member_id.is_empty() {
        return failed(refusal(&ConsumerHeartbeatError::Invalid("MemberId can't be empty.")));
    }
    if let Err(refused) = check(&call, &request) {
        return failed(refused);
    }
    let group = owned(&request.group_id);
    let command = Command::ConsumerHeartbeat(heartbeat(&call, request));
    match call.broker().group(&group, command).await {
        Ok(Reply::ConsumerHeartbeat(Ok(beat))) => accepted(beat),
        Ok(Reply::ConsumerHeartbeat(Err(error))) => failed(refusal(&error)),
        Ok(_) => failed((ErrorCode::UnknownServerError, StrBytes::default())),
        Err(error) => failed((error.code(), text(&error))),
    }
}

fn check(call: &Call, request: &ConsumerGroupHeartbeatRequest) -> Result<(), Refusal> {
    call.require(Operation::Read, Resource::Group(&request.group_id))?;
    let mut topics = request.subscribed_topic_names.iter().flatten();
    topics.try_for_each(|topic| call.require(Operation::Describe, Resource::Topic(topic)))
}

fn heartbeat(call: &Call, request: ConsumerGroupHeartbeatRequest) -> ConsumerHeartbeat {
    let topics = request.subscribed_topic_names;
    ConsumerHeartbeat {
        group: owned(&request.group_id),
        member: owned(&request.member_id),
        epoch: request.member_epoch,
        instance: owned_option(request.instance_id.as_ref()),
        rack: owned_option(request.rack_id.as_ref()),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topics: topics.map(|topics| topics.iter().map(owned).collect()),
        regex: owned_option(request.subscribed_topic_regex.as_ref()),
        assignor: owned_option(request.server_assignor.as_ref()),
        owned: request.topic_partitions.map(partitions),
        client_id: owned(&call.client_id),
        client_host: call.client_host(),
        fresh: call.broker().env().uuid(),
        asker: call.asker(),
    }
}

fn partitions(topics: Vec<OwnedPartitions>) -> Partitions {
    let mut all = Partitions::new();
    for topic in topics.into_iter().filter(|topic| !topic.partitions.is_empty()) {
        all.entry(topic.topic_id).or_default().extend(topic.partitions);
    }
    all
}

fn accepted(beat: ConsumerBeat) -> ConsumerGroupHeartbeatResponse {
    let assignment = beat.assignment.map(|partitions| Assignment {
        topic_partitions: partitions.into_iter().map(assigned).collect(),
    });
    ConsumerGroupHeartbeatResponse {
        member_id: Some(wire(&beat.member)),
        member_epoch: beat.epoch,
        heartbeat_interval_ms: beat.heartbeat_interval_ms,
        assignment,
        ..ConsumerGroupHeartbeatResponse::default()
    }
}

fn assigned((topic_id, indexes): (millstream_types::TopicId, BTreeSet<i32>)) -> TopicPartitions {
    TopicPartitions { topic_id, partitions: indexes.into_iter().collect() }
}

fn failed((error, why): Refusal) -> ConsumerGroupHeartbeatResponse {
    ConsumerGroupHeartbeatResponse {
        error_code: error.code(),
        error_message: Some(why),
        ..ConsumerGroupHeartbeatResponse::default()
    }
}
