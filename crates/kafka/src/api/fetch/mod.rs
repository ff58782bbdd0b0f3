//! Fetch (1): reads batches, waits for more, and remembers in sessions what was asked.
//!
//! v7: sessions (KIP-227). v9: leader epochs. v10: zstd. v12: diverging epochs. v13: topics by id.
//! v15: the replica's state in a tag. v16: endpoints of leaders. v17, v18: for followers, ignored.

use std::sync::Arc;
use std::time::Duration;

use millstream_broker::acl::Operation;
use millstream_broker::log::{Isolation, Slice};
use millstream_broker::quota::Use;
use millstream_broker::record::Compression;
use millstream_broker::{Answer, Bounds, FetchError, Fetched, Topic, TopicRef, Want};
use millstream_types::{LeaderEpoch, Offset};
use millstream_wire::fetch_response::{
    AbortedTransaction, EpochEndOffset, FetchableTopicResponse, PartitionData,
};
use millstream_wire::{ErrorCode, FetchRequest, FetchResponse, Records, StrBytes};

use self::session::{Ask, Handle, Key, Plan, Request, SessionError, Told, TopicKey};
use crate::dispatch::{Call, Outcome};
use crate::errors::Code as _;

pub(crate) mod session;

const TOPIC_IDS_SINCE: i16 = 13;
const ZSTD_SINCE: i16 = 10;

pub(crate) async fn handle(call: Call, request: FetchRequest) -> Outcome<FetchResponse> {
    let bounds = bounds(&call, &request);
    match plan(&call, request) {
        Ok(plan) => read(&call, plan, bounds).await,
        Err(error) => {
            let error_code = error.code().code();
            Outcome::Answer(FetchResponse { error_code, ..FetchResponse::default() })
        }
    }
}

fn bounds(call: &Call, request: &FetchRequest) -> Bounds {
    let positive = |value: i32| usize::try_from(value).unwrap_or(0);
    Bounds {
        bytes_min: positive(request.min_bytes),
        bytes_max: positive(request.max_bytes).min(call.broker().config().fetch_bytes_max),
        wait_max: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
        isolation: match request.isolation_level {
            1 => Isolation::Committed,
            _ => Isolation::Uncommitted,
        },
    }
}

fn plan(call: &Call, request: FetchRequest) -> Result<Plan, SessionError> {
    let by_id = call.version >= TOPIC_IDS_SINCE;
    let topic_key = |name: &StrBytes, id| {
        if by_id { TopicKey::Id(id) } else { TopicKey::Name(Arc::from(name.as_str())) }
    };
    let mut asks = Vec::new();
    for topic in &request.topics {
        let key = topic_key(&topic.topic, topic.topic_id);
        asks.extend(topic.partitions.iter().map(|partition| {
            let ask = Ask {
                from: Offset(partition.fetch_offset),
                bytes_max: partition.partition_max_bytes,
                leader_epoch: partition.current_leader_epoch,
                last_fetched_epoch: partition.last_fetched_epoch,
            };
            (Key { topic: key.clone(), partition: partition.partition }, ask)
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let key = topic_key(&topic.topic, topic.topic_id);
        let partitions = topic.partitions.iter();
        forgotten.extend(partitions.map(|&partition| Key { topic: key.clone(), partition }));
    }
    let env = call.broker().env();
    let (session_id, epoch) = (request.session_id, request.session_epoch);
    let request = Request { session_id, epoch, by_id, asks, forgotten };
    call.dispatch.sessions.plan(request, env.clock.monotonic(), || {
        let mut bytes = [0; 4];
        env.random.fill(&mut bytes);
        i32::from_be_bytes(bytes)
    })
}

async fn read(call: &Call, plan: Plan, bounds: Bounds) -> Outcome<FetchResponse> {
    let mut wants = Vec::with_capacity(plan.asks.len());
    let mut found: Vec<Result<usize, ErrorCode>> = Vec::with_capacity(plan.asks.len());
    for (key, ask) in &plan.asks {
        found.push(look_up(call, key).map(|topic| {
            wants.push(want(topic, key, ask));
            wants.len() - 1
        }));
    }
    // Topics that are not there don't end the wait for the others: a client that has not heard of a
    // deletion yet would ask again and again at once.
    let Answer { results, share } = fetch(call, &wants, bounds).await;
    let mut results: Vec<_> = results.into_iter().map(Some).collect();
    let mut answers = Vec::with_capacity(plan.asks.len());
    for ((key, _), found) in plan.asks.iter().zip(found) {
        let answer = match found {
            Ok(at) => match results.get_mut(at).and_then(Option::take) {
                Some(result) => partition(key.partition, result, bounds.isolation),
                None => failed(key.partition, ErrorCode::UnknownServerError),
            },
            Err(error) => failed(key.partition, error),
        };
        answers.push((key, answer));
    }
    let response = respond(plan.session.as_ref(), answers);
    call.uses(Use::ConsumerByteRate, || records_bytes(&response));
    Outcome::Holding(response, share)
}

/// Reads, and waits for more; but a request of many partitions waits no longer than nobody else waits for
/// the memory that it takes.
async fn fetch(call: &Call, wants: &[Want], bounds: Bounds) -> Answer {
    let fetched = call.broker().fetch(wants, bounds);
    if call.room.is_none() {
        return fetched.await;
    }
    let at_once = Bounds { wait_max: Duration::ZERO, ..bounds };
    tokio::select! {
        biased;
        answer = fetched => answer,
        () = call.dispatch.intake.shortage() => call.broker().fetch(wants, at_once).await,
    }
}

fn look_up(call: &Call, key: &Key) -> Result<Arc<Topic>, ErrorCode> {
    // Each time: rules change while sessions last.
    let topic = call.topic(
        Operation::Read,
        match &key.topic {
            TopicKey::Name(name) => TopicRef::Name(name),
            TopicKey::Id(id) => TopicRef::Id(*id),
        },
    )?;
    if call.version < ZSTD_SINCE && topic.config.compression == Some(Compression::Zstd) {
        return Err(ErrorCode::UnsupportedCompressionType);
    }
    Ok(topic)
}

fn want(topic: Arc<Topic>, key: &Key, ask: &Ask) -> Want {
    Want {
        topic,
        partition: key.partition,
        from: ask.from,
        bytes_max: usize::try_from(ask.bytes_max).unwrap_or(0),
        leader_epoch: LeaderEpoch(ask.leader_epoch),
        last_fetched_epoch: LeaderEpoch(ask.last_fetched_epoch),
    }
}

fn partition(
    index: i32,
    result: Result<Fetched, FetchError>,
    isolation: Isolation,
) -> PartitionData {
    match result {
        Ok(Fetched::Records(slice)) => records(index, slice, isolation),
        Ok(Fetched::Diverging { epoch, end }) => PartitionData {
            partition_index: index,
            diverging_epoch: EpochEndOffset { epoch: epoch.0, end_offset: end.0 },
            records: Some(Records::new()),
            ..failed(index, ErrorCode::None)
        },
        Err(error) => failed(index, error.code()),
    }
}

fn records(index: i32, slice: Slice, isolation: Isolation) -> PartitionData {
    let mut records = Records::new();
    for batch in slice.batches {
        records.push_batch(batch.assigned, batch.rest);
    }
    // Null to readers of everything: they must not skip what they read (pitfall 41).
    let aborted = (isolation == Isolation::Committed).then(|| {
        let each = slice.aborted.into_iter();
        each.map(|(producer_id, first_offset)| AbortedTransaction {
            producer_id: producer_id.0,
            first_offset: first_offset.0,
        })
        .collect()
    });
    PartitionData {
        partition_index: index,
        high_watermark: slice.high_watermark.0,
        last_stable_offset: slice.last_stable.0,
        log_start_offset: slice.log_start.0,
        aborted_transactions: aborted,
        preferred_read_replica: -1,
        records: Some(records),
        ..PartitionData::default()
    }
}

fn records_bytes(response: &FetchResponse) -> usize {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    partitions.filter_map(|partition| partition.records.as_ref()).map(Records::len).sum()
}

fn failed(index: i32, error: ErrorCode) -> PartitionData {
    PartitionData {
        partition_index: index,
        error_code: error.code(),
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: -1,
        preferred_read_replica: -1,
        records: Some(Records::new()),
        ..PartitionData::default()
    }
}

/// Puts the answer together: all of it, or what the session has not been told yet.
fn respond(session: Option<&Handle>, answers: Vec<(&Key, PartitionData)>) -> FetchResponse {
    let mut response = FetchResponse {
        session_id: session.map_or(session::NO_SESSION, |session| session.id),
        ..FetchResponse::default()
    };
    for (key, answer) in answers {
        let told = (answer.error_code == 0).then_some(Told {
            high_watermark: Offset(answer.high_watermark),
            log_start: Offset(answer.log_start_offset),
        });
        let has_records = answer.records.as_ref().is_some_and(|records| !records.is_empty());
        if session.is_none_or(|session| session.tell(key, told, has_records)) {
            topic_of(&mut response.responses, &key.topic).partitions.push(answer);
        }
    }
    response
}

/// The topic to which the next partition belongs: the last one, or a new one.
fn topic_of<'a>(
    responses: &'a mut Vec<FetchableTopicResponse>,
    key: &TopicKey,
) -> &'a mut FetchableTopicResponse {
    let same = |last: &FetchableTopicResponse| match key {
        TopicKey::Name(name) => last.topic.as_str() == name.as_ref(),
        TopicKey::Id(id) => last.topic_id == *id,
    };
    if !responses.last().is_some_and(same) {
        let mut topic = FetchableTopicResponse::default();
        match key {
            TopicKey::Name(name) => topic.topic = StrBytes::from(name.as_ref().to_owned()),
            TopicKey::Id(id) => topic.topic_id = *id,
        }
        responses.push(topic);
    }
    let last = responses.len() - 1;
    &mut responses[last]
}
