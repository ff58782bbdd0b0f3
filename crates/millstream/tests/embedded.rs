//! A broker inside a test: in memory or in a directory, started and stopped as often as one likes.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::future::Future as _;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use millstream::{Server, ServerConfig};
use millstream_broker::groups::{
    Command, Commit, CommitPartition, CommitTopic, FetchTopic, Reader, Reply, Speaker,
};
use millstream_broker::log::Isolation;
use millstream_broker::{Broker, Newest, Sent, Topic, TopicRef, TopicRequest};
use millstream_record::BatchBuilder;
use millstream_types::{LeaderEpoch, Monotonic, Offset, ProducerEpoch, ProducerId, Timestamp};

fn batch(value: &[u8], producer: Option<(ProducerId, i32)>) -> Bytes {
    let mut batch = BatchBuilder::new();
    if let Some((id, sequence)) = producer {
        batch = batch.producer(id, ProducerEpoch(0), sequence);
    }
    batch.append(Timestamp(1_000), Some(b"key"), Some(value), &[]);
    batch.build().expect("a batch")
}

async fn create(broker: &Broker, name: &str) {
    let request = TopicRequest { name: name.to_owned(), ..TopicRequest::default() };
    broker.create_topic(request, false).await.expect("creates");
}

fn sent(buffer_bytes: usize) -> Sent {
    let (now, patience) = (Timestamp(1_000), Monotonic(u64::MAX));
    Sent { now, full_validation: false, buffer_bytes, heavy: false, patience }
}

async fn append(broker: &Broker, topic: &Topic, records: Bytes) -> Offset {
    let appended = broker.append(topic, 0, &records, sent(records.len())).await.expect("appends");
    broker.wait_durable(Newest::At(appended.session, appended.end)).await.expect("durable");
    appended.base_offset
}

async fn values(topic: &Topic) -> Vec<Vec<u8>> {
    let partition = topic.partition(0).expect("a partition");
    let slice = partition.read(Offset::ZERO, 1 << 20, true, Isolation::Uncommitted).await;
    let mut values = Vec::new();
    for batch in slice.expect("readable").batches {
        let records = batch.records(1 << 20).expect("decodes");
        for record in &records {
            values.push(record.expect("a record").value.expect("a value").to_vec());
        }
    }
    values
}

fn find(server: &Server, name: &str) -> std::sync::Arc<Topic> {
    server.broker().topic(TopicRef::Name(name)).expect("the topic is there")
}

#[tokio::test]
async fn a_restart_finds_everything_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let mut producers = Vec::new();
    for run in 0..3_i32 {
        let server = start_when_free(directory.path()).await;
        let broker = server.broker();
        if run == 0 {
            create(broker, "t").await;
            broker.set_up_groups().await.expect("groups");
        }
        let topic = find(&server, "t");
        let epoch = topic.partition(0).expect("a partition").ends().epoch;
        assert_eq!(epoch, LeaderEpoch(run), "each start raises the epoch by one");
        let value = format!("value {run}").into_bytes();
        assert_eq!(append(broker, &topic, batch(&value, None)).await, Offset(i64::from(run)));
        let expected: Vec<Vec<u8>> =
            (0..=run).map(|run| format!("value {run}").into_bytes()).collect();
        assert_eq!(values(&topic).await, expected);
        assert_eq!(committed(broker).await, (run > 0).then(|| Offset(i64::from(run) - 1)));
        commit(broker, Offset(i64::from(run))).await;
        producers.push(broker.new_producer_id().await.expect("an id"));
        if run == 1 {
            drop(topic);
            drop(server); // As by a crash: without a checkpoint.
        } else {
            server.stop().await;
        }
    }
    let mut distinct = producers.clone();
    distinct.dedup();
    assert_eq!(producers, distinct, "producer ids are never given twice");
}

/// More than the journal lets wait for the disk is appended before anything is written.
#[tokio::test]
async fn a_fast_producer_is_held_back_and_not_refused() {
    let server = Server::start(ServerConfig::in_memory()).await.expect("starts");
    let broker = server.broker();
    create(broker, "t").await;
    let topic = find(&server, "t");
    let records = batch(&vec![7; 1_000_000], None);
    let mut waiting = Vec::new();
    for offset in 0..50 {
        let mut append = Box::pin(broker.append(&topic, 0, &records, sent(records.len())));
        match append.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Pending => waiting.push(append),
            Poll::Ready(appended) => {
                assert_eq!(appended.expect("appends").base_offset, Offset(offset));
            }
        }
    }
    assert!(!waiting.is_empty(), "this is to be more than the journal holds in memory");
    for append in waiting {
        append.await.expect("appends when there is room");
    }
    let ends = topic.partition(0).expect("a partition").ends();
    assert_eq!(ends.log_end, Offset(50));
    server.stop().await;
}

/// Starts a server as soon as the directory is free: dropping one ends its tasks one by one.
async fn start_when_free(directory: &std::path::Path) -> Server {
    loop {
        match Server::start(ServerConfig::in_directory(directory)).await {
            Ok(server) => return server,
            Err(error) if error.to_string().contains("in use") => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

async fn commit(broker: &Broker, offset: Offset) {
    let speaker = Speaker { group: "g".into(), member: "".into(), instance: None, generation: -1 };
    let partition =
        CommitPartition { index: 0, offset, leader_epoch: LeaderEpoch::NONE, metadata: "".into() };
    let topic = CommitTopic { name: "t".into(), id: None, partitions: vec![partition] };
    let command = Command::Commit(Commit {
        speaker,
        speaks_epochs: true,
        retention_ms: None,
        topics: vec![topic],
    });
    let reply = broker.group("g", command).await.expect("the coordinator answers");
    assert!(matches!(reply, Reply::Commit(Ok(_))), "{reply:?}");
}

async fn committed(broker: &Broker) -> Option<Offset> {
    let topic = FetchTopic { name: "t".into(), id: None, partitions: vec![0] };
    let fetched =
        broker.group_offsets("g", &Reader { member: None, epoch: -1 }, Some(&[topic]), false).await;
    let fetched = fetched.expect("answers").expect("anybody may");
    fetched[0].1[0].committed.clone().expect("stable").map(|committed| committed.offset)
}

/// Pitfall 31.
#[tokio::test]
async fn an_idempotent_retry_gets_its_first_answer_also_after_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = || ServerConfig::in_directory(directory.path());
    let server = Server::start(config()).await.expect("starts");
    create(server.broker(), "t").await;
    let producer = server.broker().new_producer_id().await.expect("an id");
    let topic = find(&server, "t");
    for sequence in 0..3 {
        let records = batch(b"once", Some((producer, sequence)));
        let offset = append(server.broker(), &topic, records).await;
        assert_eq!(offset, Offset(i64::from(sequence)));
    }
    drop(topic);
    server.stop().await;
    let server = Server::start(config()).await.expect("starts again");
    let topic = find(&server, "t");
    let retry = append(server.broker(), &topic, batch(b"once", Some((producer, 1)))).await;
    assert_eq!(retry, Offset(1));
    assert_eq!(values(&topic).await.len(), 3);
    drop(topic);
    server.stop().await;
}

#[tokio::test]
async fn a_directory_has_one_user() {
    let directory = tempfile::tempdir().expect("a directory");
    let config = || ServerConfig::in_directory(directory.path());
    let server = Server::start(config()).await.expect("starts");
    let refused = Server::start(config()).await.expect_err("is in use").to_string();
    assert!(refused.contains("in use") && refused.contains("--data-dir"), "{refused}");
    server.stop().await;
    Server::start(config()).await.expect("is free again").stop().await;
}

/// Who watches for the end of a session waited for the close to be over, with a hand on the directory;
/// whether that was seen depended on who of the two was woken first.
#[tokio::test]
async fn a_stopped_server_has_left_its_directory() {
    let directory = tempfile::tempdir().expect("a directory");
    for round in 0..20 {
        let server = Server::start(ServerConfig::in_directory(directory.path())).await;
        server.unwrap_or_else(|error| panic!("round {round}: {error}")).stop().await;
    }
}

/// Found with a client that disconnected while a topic was being made: the entry was in the
/// metadata log, but not in the state, and nothing could be changed any more.
#[tokio::test]
async fn a_metadata_change_survives_its_caller() {
    let server = Server::start(ServerConfig::in_memory()).await.expect("starts");
    let broker = server.broker();
    {
        let mut left = Box::pin(create(broker, "left"));
        assert!(left.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    create(broker, "next").await;
    let names: Vec<_> = broker.topics().iter().map(|topic| topic.name.to_string()).collect();
    assert_eq!(names, ["left", "next"]);
    server.stop().await;
}

#[tokio::test]
async fn wrong_settings_are_refused_with_a_hint() {
    let cases = [
        ("num.partition", "1", "num.partitions"),
        ("num.partitions", "none", "num.partitions"),
        ("num.partitions", "0", "num.partitions"),
    ];
    for (name, value, hint) in cases {
        let mut config = ServerConfig::in_memory();
        config.settings.insert(name.to_owned(), value.to_owned());
        let refused = Server::start(config).await.expect_err("is refused").to_string();
        assert!(refused.contains(hint), "{name}={value}: {refused}");
    }
    let mut config = ServerConfig::in_memory();
    config.kafka_listen = Some(([0, 0, 0, 0], 0).into());
    let refused = Server::start(config).await.expect_err("has no address").to_string();
    assert!(refused.contains("--advertise"), "{refused}");
}
