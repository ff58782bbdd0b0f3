//! CreateTopics (19): makes topics; each is answered by itself.
//!
//! v4: -1 means the broker's default. v5: what was made is described. v6: refused where a quota is used
//! up. v7: topic ids. When this is answered, the topic can be written and read.

use millstream_broker::acl::Operation;
use millstream_broker::{DescribedTopic, TopicRequest};
use millstream_wire::create_topics_request::CreatableTopic;
use millstream_wire::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use millstream_wire::{CreateTopicsRequest, CreateTopicsResponse, ErrorCode, StrBytes};

use super::{invalid, may_mutate};
use crate::api::authorize::Resource;
use crate::api::repeats::{TWICE, distinct, repeated};
use crate::audit::detail;
use crate::dispatch::Call;
use crate::errors::{Refusal, refusal};

const DEFAULT: i32 = -1;
const QUOTA_SINCE: i16 = 6;

pub(crate) async fn handle(call: Call, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let twice = repeated(request.topics.iter().map(|topic| topic.name.clone()));
    let mut response = CreateTopicsResponse::default();
    for topic in distinct(request.topics, |topic| topic.name.clone()) {
        let configs: Vec<_> = topic.configs.iter().map(|config| config.name.clone()).collect();
        let made = if twice.contains(&topic.name) {
            failed(topic.name, invalid(TWICE))
        } else {
            create(&call, topic, request.validate_only).await
        };
        if !request.validate_only {
            let error = ErrorCode::or_unknown(made.error_code);
            call.note_change(Operation::Create, ("Topic", &made.name), error, || {
                configs.iter().map(|name| detail(name, "set")).collect()
            });
        }
        response.topics.push(made);
    }
    response
}

async fn create(call: &Call, topic: CreatableTopic, only_validate: bool) -> CreatableTopicResult {
    let name = topic.name.clone();
    if !call.may_create(&name) {
        return failed(name.clone(), call.denial(Resource::Topic(&name)));
    }
    if let Err(refused) = may_mutate(call, QUOTA_SINCE) {
        return failed(name, refused);
    }
    let assignments = topic.assignments.into_iter();
    let configs = topic.configs.iter();
    let request = TopicRequest {
        name: name.as_str().to_owned(),
        partitions: (topic.num_partitions != DEFAULT).then_some(topic.num_partitions),
        replicas: (i32::from(topic.replication_factor) != DEFAULT)
            .then_some(topic.replication_factor),
        assigned: assignments.map(|each| (each.partition_index, each.broker_ids)).collect(),
        configs: configs
            .map(|each| {
                let value = each.value.as_ref().map(|value| value.as_str().to_owned());
                (each.name.as_str().to_owned(), value)
            })
            .collect(),
    };
    match call.broker().create_topic(request, only_validate).await {
        Ok(made) => {
            if !only_validate {
                call.mutates(usize::try_from(made.partitions).unwrap_or(0));
            }
            described(call, name, &made)
        }
        Err(error) => failed(name, refusal(&error)),
    }
}

fn described(call: &Call, name: StrBytes, made: &DescribedTopic) -> CreatableTopicResult {
    if !call.may(Operation::DescribeConfigs, Resource::Topic(&name)) {
        return CreatableTopicResult {
            topic_config_error_code: Resource::Topic(&name).denied().code(),
            name,
            topic_id: made.id,
            error_code: ErrorCode::None.code(),
            ..CreatableTopicResult::default()
        };
    }
    let configs = call.broker().describe_topic_overrides(&made.overrides);
    let configs = configs.into_iter().map(|config| CreatableTopicConfigs {
        name: StrBytes::from(config.name),
        value: config.value.map(StrBytes::from),
        read_only: config.read_only,
        config_source: config.source as i8,
        is_sensitive: config.sensitive,
    });
    CreatableTopicResult {
        name,
        topic_id: made.id,
        num_partitions: made.partitions,
        replication_factor: made.replicas,
        configs: Some(configs.collect()),
        ..CreatableTopicResult::default()
    }
}

fn failed(name: StrBytes, (error, why): Refusal) -> CreatableTopicResult {
    CreatableTopicResult {
        name,
        error_code: error.code(),
        error_message: Some(why),
        ..CreatableTopicResult::default()
    }
}
