//! Metadata (3): nodes, topics, partitions, leaders.
//!
//! v0: an empty list means all topics; from v1 on null does. v4: the client may forbid creation.
//! v8-10: authorised operations. v10: topic ids in the answer; v12: in the request. v13: an error
//! for the whole answer.

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::{Topic, TopicRef};
use millstream_types::TopicId;
use millstream_wire::metadata_request::MetadataRequestTopic;
use millstream_wire::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream_wire::{ErrorCode, MetadataRequest, MetadataResponse, StrBytes};

use crate::api::authorize::{NOT_ASKED, Resource};
use crate::api::repeats::distinct;
use crate::dispatch::Call;
use crate::errors::Code as _;

const TOPIC_IDS_SINCE: i16 = 12;

/// How many topics one request may create. Others may be there when the client asks again, as it does
/// for what it was told is not there.
const CREATIONS_MAX: usize = 100;

pub(crate) async fn handle(call: Call, request: MetadataRequest) -> MetadataResponse {
    let node = call.broker().node();
    let operations = request.include_topic_authorized_operations;
    let cluster_operations = if request.include_cluster_authorized_operations {
        call.cluster_operations()
    } else {
        NOT_ASKED
    };
    let mut topics = Vec::new();
    match named(&call, request.topics) {
        None => {
            let all = call.broker().topics();
            let told = all
                .iter()
                .filter(|topic| call.may(Operation::Describe, Resource::Topic(&topic.name)));
            topics.extend(told.map(|topic| describe(&call, topic, operations)));
        }
        Some(asked) => {
            let mut creations = if request.allow_auto_topic_creation { CREATIONS_MAX } else { 0 };
            let is_valid = asked.iter().all(|topic| is_valid(&call, topic));
            for topic in distinct(asked, key) {
                let found = if is_valid {
                    find(&call, &topic, &mut creations).await
                } else {
                    Err(ErrorCode::InvalidRequest)
                };
                topics.push(match found {
                    Ok(topic) => describe(&call, &topic, operations),
                    Err(error) => failed(&call, topic, error),
                });
            }
        }
    }
    let (host, port) = call.advertised();
    MetadataResponse {
        brokers: vec![MetadataResponseBroker { node_id: node.id.0, host, port, rack: None }],
        cluster_id: Some(StrBytes::from(node.cluster_id.to_string())),
        controller_id: node.id.0,
        topics,
        cluster_authorized_operations: cluster_operations,
        ..MetadataResponse::default()
    }
}

/// The topics that are asked for; `None` means all.
fn named(
    call: &Call,
    topics: Option<Vec<MetadataRequestTopic>>,
) -> Option<Vec<MetadataRequestTopic>> {
    topics.filter(|topics| call.version > 0 || !topics.is_empty())
}

/// What the topic is looked up by: where there is an id, the name means nothing.
fn key(asked: &MetadataRequestTopic) -> (Option<StrBytes>, TopicId) {
    (asked.name.clone().filter(|_| asked.topic_id == TopicId::NIL), asked.topic_id)
}

/// Versions 10 and 11 have the fields of topic ids, and nobody answered to them yet.
fn is_valid(call: &Call, topic: &MetadataRequestTopic) -> bool {
    call.version >= TOPIC_IDS_SINCE || (topic.name.is_some() && topic.topic_id == TopicId::NIL)
}

async fn find(
    call: &Call,
    asked: &MetadataRequestTopic,
    creations: &mut usize,
) -> Result<Arc<Topic>, ErrorCode> {
    let broker = call.broker();
    let Some(name) = asked.name.as_ref().filter(|_| asked.topic_id == TopicId::NIL) else {
        return call.topic(Operation::Describe, TopicRef::Id(asked.topic_id));
    };
    match call.topic(Operation::Describe, TopicRef::Name(name)) {
        Ok(topic) => Ok(topic),
        Err(ErrorCode::TopicAuthorizationFailed) => Err(ErrorCode::TopicAuthorizationFailed),
        Err(_) if *creations > 0 && broker.config().auto_create_topics && call.may_mutate() => {
            if !call.may_create(name) {
                return Err(Resource::Topic(name).denied());
            }
            *creations -= 1;
            let made = broker.auto_create(name).await.map_err(|error| error.code());
            let error = made.as_ref().err().copied().unwrap_or(ErrorCode::None);
            call.note_change(Operation::Create, ("Topic", name), error, Vec::new);
            let made = made?;
            call.mutates(made.partitions().len());
            Ok(made)
        }
        Err(_) => match broker.check_topic_name(name) {
            Ok(()) => Err(ErrorCode::UnknownTopicOrPartition),
            Err(_) => Err(ErrorCode::InvalidTopicException),
        },
    }
}

fn describe(call: &Call, topic: &Topic, operations: bool) -> MetadataResponseTopic {
    let node = call.broker().node().id.0;
    let partitions =
        topic.partitions().iter().zip(0..).map(|(partition, index)| MetadataResponsePartition {
            partition_index: index,
            leader_id: node,
            leader_epoch: partition.ends().epoch.0,
            replica_nodes: vec![node],
            isr_nodes: vec![node],
            ..MetadataResponsePartition::default()
        });
    MetadataResponseTopic {
        name: Some(StrBytes::from(topic.name.as_ref().to_owned())),
        topic_id: topic.id,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        topic_authorized_operations: if operations {
            call.operations_on(Resource::Topic(&topic.name))
        } else {
            NOT_ASKED
        },
        ..MetadataResponseTopic::default()
    }
}

fn failed(call: &Call, asked: MetadataRequestTopic, error: ErrorCode) -> MetadataResponseTopic {
    // Before ids were served, an answer had to have a name.
    let nameless = (call.version < TOPIC_IDS_SINCE).then(StrBytes::default);
    MetadataResponseTopic {
        error_code: error.code(),
        name: asked.name.or(nameless),
        topic_id: asked.topic_id,
        topic_authorized_operations: NOT_ASKED,
        ..MetadataResponseTopic::default()
    }
}
