//! One connection, and finding the right broker.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_client::{
    Address, Admin, Connection, ConnectionSettings, Error, Isolation, OffsetSpec, TopicPartition,
};
use millstream_env::Env;
use millstream_types::Offset;
use millstream_wire::api_versions_response::ApiVersion;
use millstream_wire::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream_wire::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, ErrorCode, HeartbeatRequest,
    HeartbeatResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
};
use support::{Fake, Reply, api_versions, metadata, settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn env() -> Env {
    Env::real(tokio::runtime::Handle::current())
}

async fn open(fake: &Fake) -> Result<Connection, Error> {
    use millstream_client::Connector as _;
    let address = Address::new("fake", 9001);
    let stream = fake.connector(env()).connect(&address).await.unwrap();
    Connection::open(env(), stream, address, connection_settings()).await
}

fn connection_settings() -> ConnectionSettings {
    ConnectionSettings {
        client_id: "test".into(),
        frame_bytes_max: 10_000,
        request_timeout: Duration::from_secs(10),
        login: None,
    }
}

#[tokio::test]
async fn versions_are_asked_for_again_in_one_that_the_broker_knows() {
    for broker_max in [None, Some(0), Some(2)] {
        let fake = Fake::new(move |call| {
            if call.api != ApiKey::ApiVersions || call.version <= broker_max.unwrap_or(0) {
                return None;
            }
            // Brokers may or may not say what they know.
            let own = broker_max.map(|max_version| ApiVersion {
                api_key: ApiKey::ApiVersions.code(),
                min_version: 0,
                max_version,
            });
            let refusal = ApiVersionsResponse {
                error_code: ErrorCode::UnsupportedVersion.code(),
                api_keys: own.into_iter().collect(),
                ..Default::default()
            };
            let segments = millstream_wire::encode_response::<ApiVersionsRequest>(
                &refusal,
                0,
                call.correlation_id,
            );
            Some(Reply::Frame(segments.unwrap()))
        });
        let connection = open(&fake).await.unwrap();
        assert_eq!(connection.version::<MetadataRequest>(), Ok(13));
        let asked: Vec<_> =
            fake.seen.lock().unwrap().iter().map(|(.., version)| *version).collect();
        assert_eq!(asked, [4, broker_max.unwrap_or(0)]);
    }
}

#[tokio::test]
async fn what_the_broker_lacks_is_said() {
    let fake = Fake::new(|call| {
        let known = api_versions(|api| api != ApiKey::Heartbeat);
        if call.api == ApiKey::ApiVersions {
            call.answer::<ApiVersionsRequest>(&known)
        } else {
            None
        }
    });
    let connection = open(&fake).await.unwrap();
    let error = connection.version::<HeartbeatRequest>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "fake:9001 does not offer Heartbeat in a version between 0 and 4"
    );
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let fake = Fake::new(|call| match call.api {
        ApiKey::Heartbeat => {
            let request: HeartbeatRequest = call.request();
            let throttle_time_ms = request.generation_id;
            call.answer::<HeartbeatRequest>(&HeartbeatResponse {
                throttle_time_ms,
                ..Default::default()
            })
        }
        _ => None,
    });
    let connection = open(&fake).await.unwrap();
    let pending: Vec<_> = (0..50)
        .map(|generation_id| {
            let group_id = "g".repeat(100).into();
            let request = HeartbeatRequest { group_id, generation_id, ..Default::default() };
            connection.start(&request, 4).unwrap()
        })
        .collect();
    // The connection goes on while answers are awaited, whoever else has let go of it.
    drop(connection);
    for (expected, pending) in (0..).zip(pending) {
        assert_eq!(pending.response().await.unwrap().throttle_time_ms, expected);
    }
}

#[tokio::test]
async fn a_timeout_ends_the_connection_for_all() {
    let fake = Fake::new(|call| (call.api == ApiKey::Heartbeat).then_some(Reply::Silence));
    let connection = open(&fake).await.unwrap();
    let request = HeartbeatRequest::default();
    let other = connection.start(&request, 4).unwrap();
    let error = connection.call_within(&request, 4, Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(error, Error::Timeout { request: "Heartbeat", .. }), "{error}");
    assert_eq!(other.response().await.unwrap_err(), error, "they share its fate");
    assert!(connection.is_over());
    assert_eq!(connection.call(&request, 4).await.unwrap_err(), error);
}

#[tokio::test]
async fn who_waits_when_the_broker_leaves_is_told() {
    let fake = Fake::new(|call| (call.api == ApiKey::Heartbeat).then_some(Reply::HangUp));
    let connection = open(&fake).await.unwrap();
    let error = connection.call(&HeartbeatRequest::default(), 4).await.unwrap_err();
    assert_eq!(error.to_string(), "the connection to fake:9001 ended: closed by the broker");
    assert!(error.is_retriable());
}

/// A peer that answers the first request with these bytes, whatever it is.
async fn answered_with(bytes: &[u8]) -> Error {
    let (client, mut server) = tokio::io::duplex(1000);
    let bytes = bytes.to_vec();
    env().spawn("peer", async move {
        let len = server.read_i32().await.unwrap();
        let mut request = vec![0; usize::try_from(len).unwrap()];
        server.read_exact(&mut request).await.unwrap();
        server.write_all(&bytes).await.unwrap();
        // Stays, so that nothing but the bytes can end the connection.
        std::future::pending::<()>().await;
    });
    let address = Address::new("peer", 1);
    let opened = Connection::open(env(), Box::new(client), address, connection_settings());
    opened.await.unwrap_err()
}

#[tokio::test]
async fn what_is_not_kafka_is_refused() {
    let cases: [(&[u8], &str); 5] = [
        (b"HTTP/1.1 400 Bad Request", "a frame of 1213486160 bytes (limit: 10000)"),
        (&[0xff; 8], "a frame of -1 bytes (limit: 10000)"),
        (&[0, 0, 0, 4, 0, 0, 0, 9], "an answer to another request than the one that is due"),
        (&[0, 0, 0, 2, 0, 0], "an answer to another request than the one that is due"),
        (&[0, 0, 0, 5, 0, 0, 0, 0, 0], "the bytes end inside ApiVersionsResponse.ErrorCode"),
    ];
    for (bytes, expected) in cases {
        let error = answered_with(bytes).await;
        let expected = format!("peer:1 does not speak the Kafka protocol as expected: {expected}");
        assert_eq!(error.to_string(), expected);
    }
}

#[tokio::test]
async fn an_answer_to_nothing_ends_the_connection() {
    // The answer to ApiVersions, and four bytes too many that look like another answer.
    let answer =
        millstream_wire::encode_response::<ApiVersionsRequest>(&api_versions(|_| true), 4, 0);
    let mut bytes = answer.unwrap().concat();
    bytes.extend_from_slice(&[0, 0, 0, 4, 0, 0, 0, 1]);
    let (client, mut server) = tokio::io::duplex(10_000);
    server.write_all(&bytes).await.unwrap();
    let opened =
        Connection::open(env(), Box::new(client), Address::new("peer", 1), connection_settings());
    // The second one may be seen before or after the connection counts as open.
    let error = match opened.await {
        Err(error) => error,
        Ok(connection) => connection.call(&HeartbeatRequest::default(), 4).await.unwrap_err(),
    };
    assert!(error.to_string().ends_with("an answer that nothing was asked for"), "{error}");
}

#[tokio::test]
async fn the_first_bootstrap_address_that_answers_is_taken() {
    let fake = Fake::new(|_| None);
    let mut two = settings();
    two.bootstrap = vec![Address::new("fake", 1), Address::new("fake", 9001)];
    assert!(fake.connect(two).await.is_ok());
}

#[tokio::test]
async fn nobody_at_the_bootstrap_address_is_an_error_at_once() {
    let fake = Fake::new(|_| None);
    let mut none = settings();
    none.bootstrap = vec![Address::new("fake", 1)];
    none.patience = Duration::from_secs(3600);
    let error = fake.connect(none).await.unwrap_err();
    let Error::Unreachable { kind, bootstrap: true, .. } = error else { panic!("{error}") };
    assert_eq!(kind, std::io::ErrorKind::ConnectionRefused);
}

fn offsets(error: ErrorCode, offset: i64) -> ListOffsetsResponse {
    ListOffsetsResponse {
        topics: vec![ListOffsetsTopicResponse {
            name: "t".into(),
            partitions: vec![ListOffsetsPartitionResponse {
                partition_index: 0,
                error_code: error.code(),
                offset,
                ..Default::default()
            }],
        }],
        ..Default::default()
    }
}

#[tokio::test]
async fn who_no_longer_leads_is_not_asked_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let fake = Fake::new(move |call| match (call.api, call.port) {
        (ApiKey::Metadata, _) => {
            let leader = if count.load(Ordering::Relaxed) == 0 { 1 } else { 2 };
            call.answer::<MetadataRequest>(&metadata(&[leader]))
        }
        (ApiKey::ListOffsets, 9001) => {
            count.fetch_add(1, Ordering::Relaxed);
            call.answer::<ListOffsetsRequest>(&offsets(ErrorCode::NotLeaderOrFollower, -1))
        }
        (ApiKey::ListOffsets, 9002) => {
            call.answer::<ListOffsetsRequest>(&offsets(ErrorCode::None, 42))
        }
        _ => None,
    });
    let admin = Admin::new(fake.cluster().await);
    let of = TopicPartition::new("t", 0);
    let wanted = [(of.clone(), OffsetSpec::Latest)];
    let found = admin.list_offsets(&wanted, Isolation::default()).await.unwrap();
    assert_eq!(found[&of].offset, Some(Offset(42)));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn an_error_that_stays_is_returned_at_once_and_one_that_may_go_is_waited_out() {
    for (error, attempts) in
        [(ErrorCode::TopicAuthorizationFailed, 1), (ErrorCode::OffsetNotAvailable, 3)]
    {
        let left = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&left);
        let fake = Fake::new(move |call| {
            (call.api == ApiKey::ListOffsets).then_some(())?;
            let last = count.fetch_add(1, Ordering::Relaxed) == 2;
            let code = if last { ErrorCode::None } else { error };
            call.answer::<ListOffsetsRequest>(&offsets(code, 1))
        });
        let admin = Admin::new(fake.cluster().await);
        let wanted = [(TopicPartition::new("t", 0), OffsetSpec::Latest)];
        let found = admin.list_offsets(&wanted, Isolation::default()).await;
        assert_eq!(found.is_ok(), attempts == 3);
        assert_eq!(left.load(Ordering::Relaxed), attempts);
    }
}

#[tokio::test]
async fn a_partition_that_is_not_there_is_soon_given_up() {
    let fake = Fake::new(|_| None);
    let admin = Admin::new(fake.cluster().await);
    let wanted = [(TopicPartition::new("t", 9), OffsetSpec::Latest)];
    let error = admin.list_offsets(&wanted, Isolation::default()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "partition t-9: topic t has 4 partitions, from 0 on (UNKNOWN_TOPIC_OR_PARTITION)"
    );
}
