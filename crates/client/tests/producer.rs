//! The producer against a broker that keeps sequences as Kafka does, and misbehaves.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_client::{
    Acks, Error, Producer, ProducerRecord, ProducerSettings, TopicPartition, partition_for_key,
};
use millstream_record::{BatchBuilder, Check, Compression, ValidBatch};
use millstream_types::{Offset, Timestamp};
use millstream_wire::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use millstream_wire::{
    ApiKey, ErrorCode, InitProducerIdRequest, InitProducerIdResponse, MetadataRequest,
    ProduceRequest, ProduceResponse,
};
use support::{Call, Fake, Reply, metadata};

/// What the broker does to one Produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    None,
    /// The request is lost, and the connection with it.
    LostBefore,
    /// It is carried out, but the answer is lost.
    LostAfter,
    /// It is refused, with an error that goes away.
    NotLeader,
    /// It is carried out, and answered as if that were not certain.
    TimedOut,
    /// It is refused for good.
    TooLarge,
}

/// A log per partition with the rules for sequences.
#[derive(Default)]
struct Model {
    partitions: BTreeMap<i32, Vec<(i64, Stored)>>,
    identities: i64,
    troubles: Vec<Trouble>,
}

struct Stored {
    id: i64,
    sequence: i32,
    records: Vec<(Option<Vec<u8>>, Vec<u8>)>,
}

impl Model {
    fn append(&mut self, partition: i32, batch: Bytes) -> (ErrorCode, i64) {
        let batch = ValidBatch::check(batch, &Check::client()).unwrap();
        let header = *batch.header();
        let (id, sequence) = (header.producer_id.0, header.base_sequence);
        let log = self.partitions.entry(partition).or_default();
        if id >= 0 {
            let own = || log.iter().filter(|(_, stored)| stored.id == id);
            if let Some((base, _)) = own().rev().take(5).find(|(_, it)| it.sequence == sequence) {
                return (ErrorCode::None, *base);
            }
            let next = own()
                .next_back()
                .map_or(0, |(_, it)| it.sequence + i32::try_from(it.records.len()).unwrap());
            if sequence != next {
                return (ErrorCode::OutOfOrderSequenceNumber, -1);
            }
        }
        let base = log.last().map_or(0, |(base, it)| base + it.records.len() as i64);
        let records = batch.records(1 << 20).unwrap();
        let record = |record: millstream_record::Record<'_>| {
            (record.key.map(<[u8]>::to_vec), record.value.unwrap().to_vec())
        };
        let records = records.iter().map(|it| record(it.unwrap())).collect();
        log.push((base, Stored { id, sequence, records }));
        (ErrorCode::None, base)
    }

    fn values(&self, partition: i32) -> Vec<String> {
        let log = self.partitions.get(&partition).into_iter().flatten();
        let records = log.flat_map(|(_, stored)| &stored.records);
        records.map(|(_, value)| String::from_utf8(value.clone()).unwrap()).collect()
    }
}

fn produce(model: &Mutex<Model>, call: &Call) -> Option<Reply> {
    let mut model = model.lock().unwrap();
    let request: ProduceRequest = call.request();
    let trouble = model.troubles.pop().unwrap_or(Trouble::None);
    if trouble == Trouble::LostBefore {
        return Some(Reply::HangUp);
    }
    let topics = request.topic_data.into_iter().map(|topic| {
        let partitions = topic.partition_data.into_iter().map(|data| {
            let batch = data.records.unwrap().to_bytes();
            let (code, base_offset) = match trouble {
                Trouble::NotLeader => (ErrorCode::NotLeaderOrFollower, -1),
                Trouble::TooLarge => (ErrorCode::MessageTooLarge, -1),
                Trouble::TimedOut => {
                    model.append(data.index, batch);
                    (ErrorCode::RequestTimedOut, -1)
                }
                Trouble::None | Trouble::LostAfter | Trouble::LostBefore => {
                    model.append(data.index, batch)
                }
            };
            let (index, error_code) = (data.index, code.code());
            PartitionProduceResponse { index, error_code, base_offset, ..Default::default() }
        });
        let partition_responses = partitions.collect();
        TopicProduceResponse { name: topic.name, partition_responses, ..Default::default() }
    });
    let answer = ProduceResponse { responses: topics.collect(), ..Default::default() };
    match (trouble, request.acks) {
        (Trouble::LostAfter, _) => Some(Reply::HangUp),
        (_, 0) => Some(Reply::Silence),
        _ => call.answer::<ProduceRequest>(&answer),
    }
}

fn broker(troubles: &[Trouble]) -> (Fake, Arc<Mutex<Model>>) {
    let troubles = troubles.iter().rev().copied().collect();
    let model = Arc::new(Mutex::new(Model { troubles, ..Model::default() }));
    let shared = Arc::clone(&model);
    let fake = Fake::new(move |call| match call.api {
        ApiKey::InitProducerId => {
            let mut model = shared.lock().unwrap();
            model.identities += 1;
            call.answer::<InitProducerIdRequest>(&InitProducerIdResponse {
                producer_id: model.identities,
                ..Default::default()
            })
        }
        ApiKey::Produce => produce(&shared, call),
        _ => None,
    });
    (fake, model)
}

/// Small batches, so that there are many.
fn small() -> ProducerSettings {
    ProducerSettings {
        batch_bytes: 300,
        linger: Duration::from_millis(1),
        ..ProducerSettings::default()
    }
}

fn record(partition: i32, value: String) -> ProducerRecord {
    ProducerRecord {
        partition: Some(partition),
        value: Some(value.into()),
        ..ProducerRecord::default()
    }
}

/// Produces a hundred records to each of two partitions under these troubles; returns how many
/// were not delivered, after checking that all others are stored once, in order, where they were
/// said to be.
async fn check(troubles: &[Trouble], settings: ProducerSettings) -> usize {
    let (fake, model) = broker(troubles);
    let producer = Producer::new(fake.cluster().await, settings).await.unwrap();
    let mut deliveries = Vec::new();
    for at in 0..100 {
        for partition in [0, 1] {
            let value = format!("{partition}/{at:04}");
            let delivery = producer.send("t", record(partition, value.clone())).await.unwrap();
            deliveries.push((partition, value, delivery));
        }
    }
    let _ = producer.flush().await;
    let mut failed = 0;
    let mut expected: BTreeMap<i32, Vec<String>> = BTreeMap::from([(0, vec![]), (1, vec![])]);
    for (partition, value, delivery) in deliveries {
        match delivery.delivered().await {
            Ok(delivered) => {
                let stored = expected.get_mut(&partition).unwrap();
                let offset = Offset(stored.len() as i64);
                assert_eq!(delivered.offset, Some(offset), "{value} {troubles:?}");
                stored.push(value);
            }
            Err(error) => {
                println!("{value}: {error}");
                failed += 1;
            }
        }
    }
    for partition in [0, 1] {
        assert_eq!(model.lock().unwrap().values(partition), expected[&partition], "{troubles:?}");
    }
    failed
}

#[tokio::test]
async fn everything_arrives_in_order() {
    assert_eq!(check(&[], small()).await, 0);
    assert_eq!(check(&[], ProducerSettings { idempotent: false, ..small() }).await, 0);
    let leader = ProducerSettings { idempotent: false, acks: Acks::Leader, ..small() };
    assert_eq!(check(&[], leader).await, 0);
    for compression in Compression::ALL {
        assert_eq!(check(&[], ProducerSettings { compression, ..small() }).await, 0);
    }
}

#[tokio::test]
async fn without_acknowledgements_nothing_is_awaited() {
    let (fake, model) = broker(&[]);
    let none = ProducerSettings { idempotent: false, acks: Acks::None, ..small() };
    let producer = Producer::new(fake.cluster().await, none).await.unwrap();
    for at in 0..100 {
        producer.send("t", record(0, at.to_string())).await.unwrap();
    }
    producer.flush().await.unwrap();
    // What was sent last has been handed on; the broker reads it in its own time.
    while model.lock().unwrap().values(0).len() < 100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn an_idempotent_producer_survives_every_pair_of_troubles() {
    use Trouble::{LostAfter, LostBefore, None, NotLeader, TimedOut};
    let all = [None, LostBefore, LostAfter, NotLeader, TimedOut];
    for first in all {
        for second in all {
            for third in all {
                assert_eq!(check(&[first, None, second, third], small()).await, 0);
            }
        }
    }
}

#[tokio::test]
async fn a_batch_that_is_refused_for_good_takes_no_other_with_it() {
    use Trouble::{LostAfter, None, NotLeader, TooLarge};
    for troubles in [
        &[TooLarge][..],
        &[None, TooLarge],
        &[None, None, TooLarge, None, TooLarge],
        &[NotLeader, None, TooLarge],
        &[TooLarge, None, None, None, NotLeader, LostAfter],
    ] {
        let failed = check(troubles, small()).await;
        // A request has at most one batch of each partition, and that fifteen records.
        let refused = troubles.iter().filter(|trouble| **trouble == TooLarge).count();
        assert!((1..=refused * 2 * 15).contains(&failed), "{troubles:?}: {failed}");
    }
}

#[tokio::test]
async fn a_producer_that_is_not_idempotent_keeps_the_order() {
    use Trouble::{LostBefore, None, NotLeader};
    let plain = ProducerSettings { idempotent: false, ..small() };
    for troubles in [&[NotLeader][..], &[None, LostBefore, NotLeader], &[LostBefore, LostBefore]] {
        assert_eq!(check(troubles, plain.clone()).await, 0);
    }
}

#[tokio::test]
async fn what_can_not_be_delivered_is_given_up() {
    let (fake, _) = broker(&[Trouble::NotLeader; 10_000]);
    let brief = ProducerSettings { delivery_timeout: Duration::from_millis(20), ..small() };
    let producer = Producer::new(fake.cluster().await, brief).await.unwrap();
    let delivery = producer.send("t", record(0, "x".to_owned())).await.unwrap();
    let error = delivery.delivered().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "t-0: not acknowledged within 20ms (last error: t-0: NOT_LEADER_OR_FOLLOWER)"
    );
    assert_eq!(producer.flush().await, Ok(()), "nothing is under way any more");
}

/// Found with a broker that advertised a wrong address: "no leader" was all that was said.
#[tokio::test]
async fn a_leader_that_can_not_be_reached_is_named() {
    let fake = Fake::new(|call| match call.api {
        ApiKey::Metadata => {
            let mut elsewhere = metadata(&[2]);
            // Nobody listens there.
            elsewhere.brokers[1].port = 1;
            call.answer::<MetadataRequest>(&elsewhere)
        }
        _ => None,
    });
    let brief = ProducerSettings {
        delivery_timeout: Duration::from_millis(20),
        idempotent: false,
        ..small()
    };
    let producer = Producer::new(fake.cluster().await, brief).await.unwrap();
    let delivery = producer.send("t", record(0, "x".to_owned())).await.unwrap();
    let error = delivery.delivered().await.unwrap_err().to_string();
    assert!(error.ends_with("(last error: can't connect to fake:1: refused)"), "{error}");
}

#[tokio::test]
async fn what_was_sent_is_delivered_when_the_producer_is_gone() {
    let (fake, model) = broker(&[]);
    let slow =
        ProducerSettings { linger: Duration::from_secs(3600), ..ProducerSettings::default() };
    let producer = Producer::new(fake.cluster().await, slow).await.unwrap();
    let delivery = producer.send("t", record(2, "last".to_owned())).await.unwrap();
    drop(producer);
    delivery.delivered().await.unwrap();
    assert_eq!(model.lock().unwrap().values(2), ["last"]);
}

#[tokio::test]
async fn records_find_their_partitions() {
    let (fake, model) = broker(&[]);
    let settings = ProducerSettings::default();
    let producer = Producer::new(fake.cluster().await, settings).await.unwrap();
    let keyed = |key: String| ProducerRecord {
        key: Some(key.clone().into()),
        value: Some(key.into()),
        ..ProducerRecord::default()
    };
    for at in 0..100 {
        producer.send("t", keyed(format!("key {at}"))).await.unwrap();
    }
    producer.flush().await.unwrap();
    for partition in 0..4 {
        for key in model.lock().unwrap().values(partition) {
            assert_eq!(partition_for_key(key.as_bytes(), 4), Some(partition));
        }
    }
    let error = producer.send("t", record(4, "x".to_owned())).await.unwrap_err();
    assert_eq!(error.to_string(), "topic t has no partition 4: it has 4, from 0 on");
}

#[tokio::test]
async fn whole_batches_are_sent_as_they_are() {
    let (fake, model) = broker(&[Trouble::NotLeader]);
    let producer = Producer::new(fake.cluster().await, small()).await.unwrap();
    let of = TopicPartition::new("t", 3);
    producer.send("t", record(3, "before".to_owned())).await.unwrap();
    let mut builder = BatchBuilder::new();
    for value in ["a", "b"] {
        builder.append(Timestamp(1), None, Some(value.as_bytes()), &[]);
    }
    let batch = builder.build().unwrap();
    let delivery = producer.send_batch(&of, batch).await.unwrap();
    producer.send("t", record(3, "after".to_owned())).await.unwrap();
    producer.flush().await.unwrap();
    assert_eq!(delivery.delivered().await.unwrap().offset, Some(Offset(1)));
    assert_eq!(model.lock().unwrap().values(3), ["before", "a", "b", "after"]);
}

#[tokio::test]
async fn a_topic_may_appear_late() {
    let (fake, _) = broker(&[]);
    let asked = Arc::new(Mutex::new(0));
    let inner = fake.clone();
    let count = Arc::clone(&asked);
    let late = Fake::new(move |call| {
        if call.api != ApiKey::Metadata {
            return inner.reply(call);
        }
        let mut answer = metadata(&[1]);
        *count.lock().unwrap() += 1;
        if *count.lock().unwrap() < 5 {
            answer.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
        }
        call.answer::<MetadataRequest>(&answer)
    });
    let producer = Producer::new(late.cluster().await, small()).await.unwrap();
    let delivery = producer.send("t", record(0, "x".to_owned())).await.unwrap();
    assert_eq!(delivery.delivered().await.unwrap().offset, Some(Offset(0)));
}

#[tokio::test]
async fn settings_that_contradict_one_another_are_refused() {
    let (fake, _) = broker(&[]);
    let settings = ProducerSettings { acks: Acks::Leader, ..ProducerSettings::default() };
    let error = Producer::new(fake.cluster().await, settings).await.unwrap_err();
    assert!(matches!(error, Error::Invalid(_)));
}

#[tokio::test]
async fn a_record_larger_than_the_buffer_is_refused() {
    let (fake, _) = broker(&[]);
    let settings = ProducerSettings { buffer_bytes: 100, ..ProducerSettings::default() };
    let producer = Producer::new(fake.cluster().await, settings).await.unwrap();
    let error = producer.send("t", record(0, "x".repeat(100))).await.unwrap_err();
    assert_eq!(error.to_string(), "a record of 140 bytes; the buffer has 100");
    // The buffer is given back by what is delivered: many times its size goes through it.
    for _ in 0..100 {
        producer.send("t", record(0, "x".repeat(50))).await.unwrap();
    }
}
