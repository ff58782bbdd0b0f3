//! Produce (0): appends one batch per partition.
//!
//! v7: zstd. v8: which records were wrong. v10: the leader, where it is another. v11: errors after
//! which a transaction can be aborted. v12: transactions enlist partitions by themselves. v13: topics by
//! id.
//!
//! Everything is appended before requests behind it may start, so that pipelined requests keep their
//! order; the answer goes out when all of it is durable, for `acks=1` as for `acks=all`.

use std::time::Duration;

use millstream_broker::acl::Operation;
use millstream_broker::log::Appended;
use millstream_broker::quota::Use;
use millstream_broker::record::{BatchError, Compression};
use millstream_broker::{Newest, ProduceError, Sent, Topic, TopicRef, transactional_producer};
use millstream_types::{Monotonic, Timestamp};
use millstream_wire::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_wire::produce_response::{
    BatchIndexAndErrorMessage, PartitionProduceResponse, TopicProduceResponse,
};
use millstream_wire::{ErrorCode, ProduceRequest, ProduceResponse, Records};

use crate::api::authorize::Resource;
use crate::api::transaction::enlist_code;
use crate::connection::Close;
use crate::dispatch::{Call, Outcome};
use crate::errors::{Code as _, text};

const ACKS_NONE: i16 = 0;
const ZSTD_SINCE: i16 = 7;
const ABORTABLE_SINCE: i16 = 11;
const IMPLICIT_SINCE: i16 = 12;
const TOPIC_IDS_SINCE: i16 = 13;

/// Long enough for a flush or a new file of the journal.
const PATIENCE_MIN: Duration = Duration::from_secs(1);

/// How many refused records the answer to one request tells of, besides the first of each partition: a
/// short request of compressed batches should not ask for a long answer.
const TOLD_MAX: usize = 1_000;

/// What changes from partition to partition.
struct Progress {
    newest: Newest,
    /// How many more refused records the answer may tell of.
    told_left: usize,
}

/// What the partitions of one request have in common.
#[derive(Clone, Copy)]
struct How {
    acks: i16,
    /// Until when they may wait for room in the journal.
    patience: Monotonic,
    /// The size of all their batches, in bytes.
    records_bytes: usize,
    /// Why nothing may be written within a transaction.
    outside: Option<ErrorCode>,
}

impl How {
    /// What keeping a batch of `bytes` pins, in bytes: its share of the buffer that holds the request,
    /// because the other batches of it are kept for as long.
    fn pinned(self, call: &Call, bytes: usize) -> usize {
        let all = self.records_bytes.max(1) as u128;
        let share = (call.pinned_bytes as u128 * bytes as u128).div_ceil(all);
        usize::try_from(share).unwrap_or(usize::MAX)
    }
}

pub(crate) async fn handle(call: Call, request: ProduceRequest) -> Outcome<ProduceResponse> {
    let acks = request.acks;
    let mut progress = Progress { newest: Newest::default(), told_left: TOLD_MAX };
    let mut response = ProduceResponse::default();
    {
        let _turn = call.take_turn();
        let how = How {
            acks,
            patience: patience(&call, request.timeout_ms),
            records_bytes: records_bytes(&request),
            outside: enlist(&call, &request).err(),
        };
        for topic in request.topic_data {
            let appended = append_topic(&call, how, topic, &mut progress).await;
            response.responses.push(appended);
        }
        // Before the requests behind it start.
        call.uses(Use::ProducerByteRate, || how.records_bytes);
    }
    if acks == ACKS_NONE {
        return unanswered(&response);
    }
    if call.broker().wait_durable(progress.newest).await.is_err() {
        undo(&mut response);
    }
    Outcome::Answer(response)
}

fn records_bytes(request: &ProduceRequest) -> usize {
    let partitions = request.topic_data.iter().flat_map(|topic| &topic.partition_data);
    partitions.filter_map(|partition| partition.records.as_ref()).map(Records::len).sum()
}

/// Sees to it that the partitions of transactional batches are part of the producer's transaction.
fn enlist(call: &Call, request: &ProduceRequest) -> Result<(), ErrorCode> {
    let mut producer = None;
    let mut partitions = Vec::new();
    for topic in &request.topic_data {
        for partition in &topic.partition_data {
            let records = partition.records.as_ref().map(Records::to_bytes).unwrap_or_default();
            let Some(named) = transactional_producer(&records) else { continue };
            if *producer.get_or_insert(named) != named {
                return Err(ErrorCode::InvalidRequest);
            }
            // What may not be written is refused later, topic by topic.
            let there = call.broker().topic(wanted(call, topic)).filter(|it| {
                let may = call.may(Operation::Write, Resource::Topic(&it.name));
                may && !it.internal && it.partition(partition.index).is_some()
            });
            partitions.extend(there.map(|topic| (topic.name.clone(), partition.index)));
        }
    }
    let Some(producer) = producer else { return Ok(()) };
    let id = request.transactional_id.as_ref();
    let id = id.ok_or(ErrorCode::TransactionalIdAuthorizationFailed)?;
    call.check(Operation::Write, Resource::TransactionalId(id))?;
    let implicit = call.version >= IMPLICIT_SINCE;
    let enlisted = call.broker().enlist(id, producer, partitions.into_iter(), implicit);
    enlisted.map_err(|error| match enlist_code(error, call.version >= ABORTABLE_SINCE) {
        // Producers know how to wait for these under another name only.
        ErrorCode::ConcurrentTransactions
        | ErrorCode::CoordinatorNotAvailable
        | ErrorCode::NotCoordinator => ErrorCode::NotEnoughReplicas,
        other => other,
    })
}

fn wanted<'a>(call: &Call, topic: &'a TopicProduceData) -> TopicRef<'a> {
    if call.version >= TOPIC_IDS_SINCE {
        TopicRef::Id(topic.topic_id)
    } else {
        TopicRef::Name(&topic.name)
    }
}

/// How long the request may wait for room: half of its time, so that the client still hears the
/// answer. Some say zero and mean the default.
fn patience(call: &Call, timeout_ms: i32) -> Monotonic {
    let half = Duration::from_millis(u64::try_from(timeout_ms).unwrap_or_default() / 2);
    call.broker().env().clock.monotonic().plus(half.max(PATIENCE_MIN))
}

/// Without an answer, ending the connection is the only way to tell the client that it must look
/// again.
fn unanswered(response: &ProduceResponse) -> Outcome<ProduceResponse> {
    let mut partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    match partitions.find(|partition| partition.error_code != 0) {
        None => Outcome::Silence,
        Some(failed) => {
            let error = ErrorCode::or_unknown(failed.error_code).name();
            Outcome::Close(Close::Refused(format!("a produce request with acks=0: {error}")))
        }
    }
}

/// The session ended before the appended batches were durable.
fn undo(response: &mut ProduceResponse) {
    for topic in &mut response.responses {
        for partition in &mut topic.partition_responses {
            if partition.error_code == 0 {
                *partition = failed(partition.index, ErrorCode::KafkaStorageError);
            }
        }
    }
}

async fn append_topic(
    call: &Call,
    how: How,
    request: TopicProduceData,
    progress: &mut Progress,
) -> TopicProduceResponse {
    let topic = if (-1..=1).contains(&how.acks) {
        call.topic(Operation::Write, wanted(call, &request))
    } else {
        Err(ErrorCode::InvalidRequiredAcks)
    };
    let mut partition_responses = Vec::with_capacity(request.partition_data.len());
    for partition in request.partition_data {
        partition_responses.push(match &topic {
            Ok(topic) => append_partition(call, topic, partition, how, progress).await,
            Err(error) => failed(partition.index, *error),
        });
    }
    TopicProduceResponse { name: request.name, topic_id: request.topic_id, partition_responses }
}

async fn append_partition(
    call: &Call,
    topic: &Topic,
    request: PartitionProduceData,
    how: How,
    progress: &mut Progress,
) -> PartitionProduceResponse {
    let index = request.index;
    let records = request.records.map(|records| records.to_bytes()).unwrap_or_default();
    if call.version < ZSTD_SINCE && is_zstd(&records) {
        return failed(index, ErrorCode::UnsupportedCompressionType);
    }
    if let Some(error) = how.outside
        && transactional_producer(&records).is_some()
    {
        return failed(index, error);
    }
    let sent = Sent {
        now: call.broker().env().clock.wall(),
        full_validation: call.broker().config().full_validation,
        buffer_bytes: how.pinned(call, records.len()),
        heavy: call.writes(records.len()),
        patience: how.patience,
    };
    match call.broker().append(topic, index, &records, sent).await {
        Ok(appended) => {
            progress.newest.add(appended.session, appended.end);
            succeeded(index, &appended)
        }
        Err(error) => refused(index, &error, &mut progress.told_left),
    }
}

fn succeeded(index: i32, appended: &Appended) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: appended.base_offset.0,
        log_append_time_ms: appended.log_append_time.unwrap_or(Timestamp::NONE).0,
        log_start_offset: appended.log_start.0,
        ..PartitionProduceResponse::default()
    }
}

fn failed(index: i32, error: ErrorCode) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        error_code: error.code(),
        base_offset: -1,
        ..PartitionProduceResponse::default()
    }
}

/// Says of every record that was refused what is wrong with it. Producers report those as invalid, the
/// others as only having been in the same batch; where one alone is named, they blame all.
fn refused(index: i32, error: &ProduceError, told_left: &mut usize) -> PartitionProduceResponse {
    let wrong = error.records();
    let told = wrong.len().min(1.max(*told_left));
    *told_left = told_left.saturating_sub(told);
    let one = |record: &BatchError| BatchIndexAndErrorMessage {
        batch_index: record.record_index().unwrap_or_default(),
        batch_index_error_message: Some(text(record)),
    };
    PartitionProduceResponse {
        record_errors: wrong.iter().take(told).map(one).collect(),
        error_message: Some(text(error)),
        ..failed(index, error.code())
    }
}

/// Looks at the attributes only: the batch is checked later.
fn is_zstd(batch: &[u8]) -> bool {
    const ATTRIBUTES_LOW: usize = 22;
    batch.get(ATTRIBUTES_LOW).is_some_and(|low| low & 0x7 == Compression::Zstd as u8)
}
