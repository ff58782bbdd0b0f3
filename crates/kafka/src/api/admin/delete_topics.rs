//! DeleteTopics (20): deletes topics with everything in them. v5: says why not. v6: topic ids.

use millstream_broker::{TopicError, TopicRef};
use millstream_wire::delete_topics_request::DeleteTopicState;
use millstream_wire::delete_topics_response::DeletableTopicResult;
use millstream_wire::{DeleteTopicsRequest, DeleteTopicsResponse, ErrorCode, StrBytes};

use crate::dispatch::Call;
use crate::errors::Code as _;

const TOPIC_STATES_SINCE: i16 = 6;

pub(crate) async fn handle(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let topics = if call.version >= TOPIC_STATES_SINCE {
        request.topics
    } else {
        let named = request.topic_names.into_iter();
        named.map(|name| DeleteTopicState { name: Some(name), ..Default::default() }).collect()
    };
    let mut response = DeleteTopicsResponse::default();
    for topic in topics {
        response.responses.push(delete(&call, topic).await);
    }
    response
}

async fn delete(call: &Call, asked: DeleteTopicState) -> DeletableTopicResult {
    let wanted = match &asked.name {
        Some(name) => TopicRef::Name(name),
        None => TopicRef::Id(asked.topic_id),
    };
    match call.broker().delete_topic(wanted).await {
        Ok(deleted) => DeletableTopicResult {
            name: Some(StrBytes::from(deleted.name.as_ref().to_owned())),
            topic_id: deleted.id,
            ..DeletableTopicResult::default()
        },
        Err(error) => {
            let code = match &error {
                TopicError::NoTopic if asked.name.is_none() => ErrorCode::UnknownTopicId,
                other => other.code(),
            };
            DeletableTopicResult {
                name: asked.name.clone(),
                topic_id: asked.topic_id,
                error_code: code.code(),
                error_message: Some(StrBytes::from(error.to_string())),
            }
        }
    }
}
