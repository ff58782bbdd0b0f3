//! Groups of the classic, the consumer and the streams protocol, and committed offsets.

pub(crate) mod consumer_describe;
pub(crate) mod consumer_heartbeat;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod find_coordinator;
pub(crate) mod heartbeat;
pub(crate) mod join;
pub(crate) mod leave;
pub(crate) mod list;
pub(crate) mod offset_commit;
pub(crate) mod offset_delete;
pub(crate) mod offset_fetch;
pub(crate) mod streams_describe;
pub(crate) mod streams_heartbeat;
pub(crate) mod sync;

use std::sync::Arc;

use millstream_broker::acl::Operation;
use millstream_broker::groups::{CommittedTopic, Speaker, Subtopology};
use millstream_wire::{ErrorCode, StrBytes};

use crate::api::authorize::Resource;
use crate::dispatch::Call;
use crate::errors::{Code as _, Refusal};

/// Text that outlives the request it came in.
pub(super) fn owned(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

fn owned_option(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(owned)
}

/// Text of ours, for a response.
fn wire(text: &Arc<str>) -> StrBytes {
    StrBytes::from(text.as_ref().to_owned())
}

fn wire_option(text: Option<&Arc<str>>) -> Option<StrBytes> {
    text.map(wire)
}

/// Whether the client may be told of a group that reads `topics`.
fn may_describe<'a>(call: &Call, mut topics: impl Iterator<Item = &'a str>) -> Result<(), Refusal> {
    topics.try_for_each(|topic| call.require(Operation::Describe, Resource::Topic(topic)))
}

/// The topics that a part of a topology names.
fn topics_of(part: &Subtopology) -> impl Iterator<Item = &str> {
    let named = part.sources.iter().chain(&part.sinks).map(|name| &**name);
    named.chain(part.repartitions.iter().chain(&part.changelogs).map(|topic| &*topic.name))
}

pub(super) fn speaker(
    group: &StrBytes,
    member: &StrBytes,
    instance: Option<&StrBytes>,
    generation: i32,
) -> Speaker {
    Speaker {
        group: owned(group),
        member: owned(member),
        instance: owned_option(instance),
        generation,
    }
}

/// Fills in what the coordinator says of the partitions of a commit that it was given, which are those
/// without an error so far, in their order.
pub(super) fn fill_in<'a>(
    codes: impl Iterator<Item = &'a mut i16>,
    done: Result<Vec<CommittedTopic>, ErrorCode>,
) {
    let mut done = done.map(|topics| topics.into_iter().flat_map(|(_, partitions)| partitions));
    for code in codes.filter(|code| **code == 0) {
        let error = match &mut done {
            Ok(done) => match done.next() {
                Some((_, Ok(()))) => ErrorCode::None,
                Some((_, Err(error))) => error.code(),
                None => ErrorCode::UnknownServerError,
            },
            Err(error) => *error,
        };
        *code = error.code();
    }
}
