//! The door as its clients meet it, over a broker in memory whose time stands still.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::config::SecurityProtocol;
use millstream_broker::{Broker, Newest, Node, Sent, Stores, TopicRef, TopicRequest};
use millstream_env::{DataDir, Env, HandClock, JournalSettings};
use millstream_kafka::{Door, Listener};
use millstream_record::BatchBuilder;
use millstream_types::{BrokerId, Timestamp};
use millstream_wire::fetch_request::{FetchPartition, FetchTopic};
use millstream_wire::{
    ApiVersionsRequest, ErrorCode, FetchRequest, Message as _, Reader, Request, ResponseHeader,
    encode_request,
};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

struct World {
    broker: Broker,
    clock: Arc<HandClock>,
    door: Door,
}

async fn world(settings: &[(&str, &str)]) -> World {
    let (env, clock) = Env::seeded(1);
    let data = DataDir::in_memory(env.clone()).unwrap();
    let stores = Stores {
        journals: data.journals(JournalSettings::default()).await.unwrap(),
        blobs: data.blobs().unwrap(),
        metadata: data.meta(),
        reserve: data.reserve(),
    };
    let node =
        Node { id: BrokerId(1), cluster_id: data.cluster(), host: "in-memory".to_owned(), port: 0 };
    let settings: BTreeMap<_, _> =
        settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let broker = Broker::start(env, node, stores, settings).await.unwrap();
    let door = Door::new(broker.clone(), &mut Registry::default());
    World { broker, clock, door }
}

impl World {
    /// Makes a topic of one partition with so many batches of 10 KiB.
    async fn fill(&self, topic: &str, batches: usize) {
        let request = TopicRequest { name: topic.to_owned(), ..TopicRequest::default() };
        self.broker.create_topic(request, false).await.unwrap();
        let topic = self.broker.topic(TopicRef::Name(topic)).unwrap();
        for _ in 0..batches {
            let mut builder = BatchBuilder::new();
            builder.append(Timestamp(1_767_225_600_000), None, Some(&[b'v'; 10_240]), &[]);
            let how = Sent {
                now: self.broker.env().clock.wall(),
                full_validation: false,
                buffer_bytes: 10_240,
                heavy: false,
                patience: self.broker.env().clock.monotonic(),
            };
            let records = builder.build().unwrap();
            let appended = self.broker.append(&topic, 0, &records, how).await.unwrap();
            self.broker.wait_durable(Newest::At(appended.session, appended.end)).await.unwrap();
        }
    }

    /// Listens at a free port.
    async fn listen(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (door, told) = (self.door.clone(), ("127.0.0.1".to_owned(), address.port()));
        let at = Listener::new("PLAINTEXT", SecurityProtocol::Plaintext, told, None).unwrap();
        let listens = async move { door.listen(listener, Arc::new(at)).await };
        self.broker.env().spawn("listener", listens);
        address
    }
}

/// What `future` gives as long as nobody moves the clock; `None` when it goes on waiting.
async fn soon<T>(future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        done = future => Some(done),
        () = settle() => None,
    }
}

/// Lets all tasks do what they can do now.
async fn settle() {
    for _ in 0..2_000 {
        tokio::task::yield_now().await;
    }
}

/// Asks in the newest version that names topics.
async fn ask<R: Request>(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    version: i16,
    request: &R,
) -> R::Response {
    for segment in encode_request(request, version, 7, Some("c".into())).unwrap() {
        stream.write_all(&segment).await.unwrap();
    }
    let length = stream.read_i32().await.unwrap();
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut frame).await.unwrap();
    let frame = Bytes::from(frame);
    let mut reader = Reader::new(&frame);
    let header = ResponseHeader::decode(&mut reader, R::response_header_version(version)).unwrap();
    assert_eq!(header.correlation_id, 7);
    R::Response::decode(&mut reader, version).unwrap()
}

fn fetch(topics: &[&str]) -> FetchRequest {
    let partition = FetchPartition { partition_max_bytes: 1 << 20, ..FetchPartition::default() };
    let topics = topics.iter().map(|name| FetchTopic {
        topic: (*name).to_owned().into(),
        partitions: vec![partition.clone()],
        ..FetchTopic::default()
    });
    FetchRequest {
        max_wait_ms: 500,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: topics.collect(),
        ..FetchRequest::default()
    }
}

#[tokio::test]
async fn a_topic_that_is_gone_does_not_end_the_long_poll_for_others() {
    let world = world(&[]).await;
    let request = TopicRequest { name: "here".to_owned(), ..TopicRequest::default() };
    world.broker.create_topic(request, false).await.unwrap();
    let mut stream = world.door.connect();
    let request = fetch(&["gone", "here"]);
    let mut asked = Box::pin(ask(&mut stream, 12, &request));
    assert!(soon(&mut asked).await.is_none(), "it waits for the other one");
    world.clock.advance(Duration::from_millis(500));
    let response = soon(asked).await.expect("the time is up");
    let codes = response.responses.iter().map(|topic| topic.partitions[0].error_code);
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    assert_eq!(codes.collect::<Vec<_>>(), [unknown, 0]);
    // There is nothing to wait for.
    let request = fetch(&["gone"]);
    let response = soon(ask(&mut stream, 12, &request)).await.expect("no waiting");
    assert_eq!(response.responses[0].partitions[0].error_code, unknown);
}

/// A connection that has been answered.
async fn served(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    ask(&mut stream, 0, &ApiVersionsRequest::default()).await;
    stream
}

#[tokio::test]
async fn above_the_most_connections_others_wait() {
    let world = world(&[("max.connections", "2")]).await;
    let address = world.listen().await;
    let first = served(address).await;
    let _second = served(address).await;
    let _in_process = world.door.connect();
    let mut third = Box::pin(served(address));
    assert!(soon(&mut third).await.is_none(), "there are two");
    drop(first);
    third.await;
}

#[tokio::test]
async fn above_the_most_connections_of_an_address_others_are_closed() {
    let world = world(&[("max.connections.per.ip", "1")]).await;
    let address = world.listen().await;
    let first = served(address).await;
    let mut second = TcpStream::connect(address).await.unwrap();
    assert_eq!(second.read(&mut [0]).await.unwrap(), 0, "it is closed");
    drop(first);
    // When the broker has noticed, there is room.
    loop {
        let mut again = TcpStream::connect(address).await.unwrap();
        let mut closed = [0];
        if soon(again.read(&mut closed)).await.is_none() {
            ask(&mut again, 0, &ApiVersionsRequest::default()).await;
            return;
        }
    }
}

#[tokio::test]
async fn an_address_may_have_a_limit_of_its_own() {
    let one = ("max.connections.per.ip", "1");
    let world = world(&[one, ("max.connections.per.ip.overrides", "127.0.0.1:2")]).await;
    let address = world.listen().await;
    let _first = served(address).await;
    let _second = served(address).await;
    let mut third = TcpStream::connect(address).await.unwrap();
    assert_eq!(third.read(&mut [0]).await.unwrap(), 0, "it is closed");
}

#[tokio::test]
async fn connections_are_accepted_at_the_pace_that_is_set() {
    let world = world(&[("max.connection.creation.rate", "2")]).await;
    let address = world.listen().await;
    let _first = served(address).await;
    let _second = served(address).await;
    let mut third = Box::pin(served(address));
    assert!(soon(&mut third).await.is_none(), "there were two in this second");
    world.clock.advance(Duration::from_millis(500));
    third.await;
}

/// Whether the broker ends a connection on which `frame` was sent, length prefix included.
async fn ends(world: &World, frame: &[u8]) -> bool {
    let mut stream = world.door.connect();
    stream.write_all(frame).await.unwrap();
    let mut answer = [0];
    matches!(soon(stream.read(&mut answer)).await, Some(Ok(0)))
}

#[tokio::test]
async fn a_request_that_decodes_to_far_more_than_it_is_ends_the_connection() {
    let world = world(&[]).await;
    // Metadata v1: topics with empty names, of two bytes each.
    let metadata = |topics: usize| {
        let mut body = vec![0, 3, 0, 1, 0, 0, 0, 7, 0xff, 0xff];
        body.extend(i32::try_from(topics).unwrap().to_be_bytes());
        body.resize(body.len() + 2 * topics, 0);
        [&i32::try_from(body.len()).unwrap().to_be_bytes()[..], &body].concat()
    };
    assert!(!ends(&world, &metadata(1_000)).await, "a small one does no harm");
    assert!(ends(&world, &metadata(50_000)).await);
}

#[tokio::test]
async fn a_large_long_poll_ends_when_others_need_its_memory() {
    let world = world(&[("queued.max.request.bytes", "400000")]).await;
    let request = TopicRequest { name: "here".to_owned(), ..TopicRequest::default() };
    world.broker.create_topic(request, false).await.unwrap();
    let gone: Vec<String> =
        (0..500).map(|number| format!("a-topic-that-is-gone-{number}")).collect();
    let mut names: Vec<&str> = gone.iter().map(String::as_str).collect();
    names.push("here");
    let request = FetchRequest { max_wait_ms: i32::MAX, ..fetch(&names) };
    let (mut first, mut second) = (world.door.connect(), world.door.connect());
    let mut waits = Box::pin(ask(&mut first, 12, &request));
    assert!(soon(&mut waits).await.is_none(), "there is nothing to read");
    let mut other = Box::pin(ask(&mut second, 12, &request));
    let (done, other_done) = (soon(&mut waits).await, soon(&mut other).await);
    // The second one was not even read before.
    let (done, other_done) = match (done, other_done) {
        (None, None) => (soon(&mut waits).await, soon(&mut other).await),
        either => either,
    };
    assert_eq!(done.expect("others need its memory").responses.len(), 501);
    assert!(other_done.is_none(), "nobody needs the memory of the second");
}

/// The batches in the answer to a fetch of `t`, as far as their bytes tell.
async fn batches(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> usize {
    let response = ask(stream, 12, &fetch(&["t"])).await;
    let records = response.responses[0].partitions[0].records.as_ref().unwrap();
    records.to_bytes().len() / 10_240
}

#[tokio::test]
async fn an_answer_holds_its_share_of_memory_until_it_is_written() {
    let world = world(&[("millstream.response.bytes", "1048576")]).await;
    world.fill("t", 110).await;
    let (mut slow, mut other) = (world.door.connect(), world.door.connect());
    assert_eq!(batches(&mut other).await, 25, "a quarter of the memory");
    for segment in encode_request(&fetch(&["t"]), 12, 7, None).unwrap() {
        slow.write_all(&segment).await.unwrap();
    }
    settle().await;
    assert_eq!(
        batches(&mut other).await,
        19,
        "a quarter of the rest: the other answer has not been taken"
    );
    let length = slow.read_i32().await.unwrap();
    let mut frame = vec![0; usize::try_from(length).unwrap()];
    slow.read_exact(&mut frame).await.unwrap();
    settle().await;
    assert_eq!(batches(&mut other).await, 25);
}
