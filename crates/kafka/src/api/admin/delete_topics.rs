//! DeleteTopics (20): deletes topics with everything in them. v3: says so when it is
//! switched off. v5: says why not, and is refused where a quota is used up. v6: topic ids.

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::{TopicError, TopicRef};
use millstream_types::TopicId;
use millstream_wire::delete_topics_request::DeleteTopicState;
use millstream_wire::delete_topics_response::DeletableTopicResult;
use millstream_wire::{DeleteTopicsRequest, DeleteTopicsResponse, ErrorCode, StrBytes};

use super::{invalid, may_mutate};
use crate::api::authorize::Resource;
use crate::api::repeats::{TWICE, distinct, repeated};
use crate::audit::detail;
use crate::dispatch::Call;
use crate::errors::{Code as _, Refusal, text};

const DISABLED_SINCE: i16 = 3;
const QUOTA_SINCE: i16 = 5;
const TOPIC_STATES_SINCE: i16 = 6;

pub(crate) async fn handle(call: Call, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let topics = if call.version >= TOPIC_STATES_SINCE {
        request.topics
    } else {
        let named = request.topic_names.into_iter();
        named.map(|name| DeleteTopicState { name: Some(name), ..Default::default() }).collect()
    };
    let key = |topic: &DeleteTopicState| (topic.name.clone(), topic.topic_id);
    let twice = repeated(topics.iter().map(key));
    let topics = distinct(topics, key);
    let found: Vec<_> = topics.iter().map(|topic| find(&call, topic)).collect();
    // The same topic by its name and by its id.
    let both_ways = repeated(found.iter().flatten().copied());
    let mut response = DeleteTopicsResponse::default();
    for (topic, found) in topics.into_iter().zip(found) {
        let again = twice.contains(&key(&topic)) || found.is_some_and(|id| both_ways.contains(&id));
        let deleted = if again {
            Err(invalid(TWICE))
        } else {
            match check(&topic) {
                Ok(wanted) => delete(&call, wanted).await,
                Err(refusal) => Err(refusal),
            }
        };
        let answer = respond(topic, deleted);
        note(&call, &answer);
        response.responses.push(answer);
    }
    response
}

fn note(call: &Call, answer: &DeletableTopicResult) {
    let name = answer.name.as_ref().map_or("", StrBytes::as_str);
    let error = ErrorCode::or_unknown(answer.error_code);
    let id = || vec![detail("topic_id", answer.topic_id)];
    call.note_change(Operation::Delete, ("Topic", name), error, id);
}

fn find(call: &Call, asked: &DeleteTopicState) -> Option<TopicId> {
    let topic = call.broker().topic(check(asked).ok()?)?;
    call.may(Operation::Describe, Resource::Topic(&topic.name)).then_some(topic.id)
}

/// Which topic is meant: by name or by id, not by both.
fn check(asked: &DeleteTopicState) -> Result<TopicRef<'_>, Refusal> {
    match (&asked.name, asked.topic_id) {
        (Some(name), TopicId::NIL) => Ok(TopicRef::Name(name)),
        (None, TopicId::NIL) => Err(invalid("neither name nor id of a topic")),
        (None, id) => Ok(TopicRef::Id(id)),
        (Some(_), _) => Err(invalid("both name and id of a topic")),
    }
}

async fn delete(call: &Call, wanted: TopicRef<'_>) -> Result<(StrBytes, TopicId), Refusal> {
    // By name, before it is looked whether there is one; there is nothing to tell of an id without one. Whoever may
    // delete may be forbidden to know: then he is not told by what he may not have deleted.
    let found = match wanted {
        TopicRef::Name(name) => Some(Arc::from(name)),
        TopicRef::Id(_) => call.broker().topic(wanted).map(|topic| Arc::clone(&topic.name)),
    };
    let by_id = matches!(wanted, TopicRef::Id(_));
    if let Some(name) = found {
        call.require(Operation::Describe, Resource::Topic(&name))?;
        call.require(Operation::Delete, Resource::Topic(&name))?;
    }
    may_mutate(call, QUOTA_SINCE)?;
    match call.broker().delete_topic(wanted).await {
        Ok(deleted) => {
            call.mutates(deleted.partitions().len());
            Ok((StrBytes::from(deleted.name.as_ref().to_owned()), deleted.id))
        }
        Err(error) => {
            let code = match &error {
                TopicError::NoTopic if by_id => ErrorCode::UnknownTopicId,
                TopicError::DeletionDisabled if call.version < DISABLED_SINCE => {
                    ErrorCode::InvalidRequest
                }
                other => other.code(),
            };
            Err((code, text(&error)))
        }
    }
}

fn respond(
    asked: DeleteTopicState,
    deleted: Result<(StrBytes, TopicId), Refusal>,
) -> DeletableTopicResult {
    match deleted {
        Ok((name, topic_id)) => {
            DeletableTopicResult { name: Some(name), topic_id, ..DeletableTopicResult::default() }
        }
        Err((error, why)) => DeletableTopicResult {
            name: asked.name,
            topic_id: asked.topic_id,
            error_code: error.code(),
            error_message: Some(why),
        },
    }
}
