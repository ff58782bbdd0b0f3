//! Versions, frames, connections.

use bytes::{Bytes, BytesMut};
use millstream::Server;
use millstream_wire::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use millstream_wire::offset_fetch_request::OffsetFetchRequestTopic;
use millstream_wire::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::{
    GROUP, NO_ERROR, TOPIC, code, create, fetch, produce, produce_request, records, start, text,
};

/// A connection over which any bytes are sent.
struct Bare(DuplexStream);

impl Bare {
    fn new(server: &Server) -> Self {
        Self(server.connect())
    }

    /// Sends a request with a header of version 1, or of version 2 when it has `tags`.
    async fn send(&mut self, (key, version): (i16, i16), correlation: i32, rest: &[u8]) {
        let mut frame = BytesMut::new();
        frame.extend_from_slice(&key.to_be_bytes());
        frame.extend_from_slice(&version.to_be_bytes());
        frame.extend_from_slice(&correlation.to_be_bytes());
        frame.extend_from_slice(&[0, 1, b'c']);
        frame.extend_from_slice(rest);
        let length = i32::try_from(frame.len()).expect("short");
        self.0.write_all(&length.to_be_bytes()).await.expect("connected");
        self.0.write_all(&frame).await.expect("connected");
    }

    /// The next answer; `None` when the connection has ended.
    async fn answer(&mut self) -> Option<Bytes> {
        let length = self.0.read_i32().await.ok()?;
        let mut frame = BytesMut::zeroed(usize::try_from(length).expect("a length"));
        self.0.read_exact(&mut frame).await.expect("a whole frame");
        Some(frame.freeze())
    }
}

const API_VERSIONS: i16 = 18;
const FETCH: i16 = 1;

/// Pitfalls 1 and 2: a version that is too new gets an answer that every client can read, which names the
/// versions that there are; the header never has tags; and the connection goes on.
#[tokio::test]
async fn versions_are_found_out_whatever_the_client_begins_with() {
    let (server, _client) = start().await;
    let mut bare = Bare::new(&server);
    for version in [6, 99, i16::MAX] {
        bare.send((API_VERSIONS, version), 7, &[0, 2, b'n', 2, b'1', 0]).await;
        let answer = bare.answer().await.expect("an answer");
        // Correlation, error, one API: key, least and greatest version. No tags anywhere.
        let expected =
            [&[0, 0, 0, 7][..], &[0, 35], &[0, 0, 0, 1], &[0, 18], &[0, 0], &[0, 5]].concat();
        assert_eq!(answer, expected, "version {version}");
    }
    for (version, body) in [(0, &[][..]), (2, &[]), (3, &[0, 2, b'n', 2, b'1', 0])] {
        bare.send((API_VERSIONS, version), 8, body).await;
        let body = bare.answer().await.expect("an answer").slice(4..);
        let mut reader = Reader::new(&body);
        let decoded = ApiVersionsResponse::decode(&mut reader, version).expect("decodes");
        assert_eq!((reader.remaining(), decoded.error_code), (0, 0), "v{version}");
        assert!(decoded.api_keys.len() > 20);
    }
    // Letters, digits, dots and dashes.
    bare.send((API_VERSIONS, 3), 9, &[0, 2, b'!', 2, b'1', 0]).await;
    let answer = bare.answer().await.expect("an answer");
    assert_eq!(answer[4..6], ErrorCode::InvalidRequest.code().to_be_bytes());
    server.stop().await;
}

/// Pitfall 6: a version of any other API that is not served ends the connection, because there is no answer
/// that the client could read. librdkafka 2.6.0 sent such requests.
#[tokio::test]
async fn other_versions_that_are_not_served_end_the_connection() {
    let (server, _client) = start().await;
    for ask in [(FETCH, 3), (FETCH, 19), (4, 0), (999, 0), (-1, 0)] {
        let mut bare = Bare::new(&server);
        bare.send(ask, 1, &[0; 64]).await;
        assert_eq!(bare.answer().await, None, "{ask:?}");
    }
    server.stop().await;
}

/// Pitfall 8: which of the two, null or empty, means all of them.
#[tokio::test]
async fn null_and_empty_mean_what_the_version_says() {
    let (server, mut client) = start().await;
    assert_eq!(create(&mut client, "u", &[]).await, NO_ERROR);
    for (version, topics, expected) in
        [(0, Some(vec![]), true), (1, None, true), (1, Some(vec![]), false), (13, None, true)]
    {
        let asked = format!("v{version} {topics:?}");
        let request = MetadataRequest { topics, ..Default::default() };
        let found = client.ask(version, request).await.topics;
        for name in [TOPIC, "u"] {
            let there = found.iter().any(|topic| topic.name.as_deref() == Some(name));
            assert_eq!(there, expected, "{asked}");
        }
    }
    let partition = OffsetCommitRequestPartition { committed_offset: 5, ..Default::default() };
    let topic = OffsetCommitRequestTopic {
        name: text(TOPIC),
        partitions: vec![partition],
        ..Default::default()
    };
    let request = OffsetCommitRequest {
        group_id: text(GROUP),
        generation_id_or_member_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    };
    client.ask(8, request).await;
    let named = OffsetFetchRequestTopic { name: text(TOPIC), partition_indexes: vec![0] };
    for (topics, expected) in [(None, 1), (Some(vec![]), 0), (Some(vec![named]), 1)] {
        let request = OffsetFetchRequest { group_id: text(GROUP), topics, ..Default::default() };
        assert_eq!(client.ask(7, request).await.topics.len(), expected);
    }
    server.stop().await;
}

/// Pitfall 11: without acknowledgement there is no answer, and what goes wrong ends the connection, since
/// the client would not look again otherwise.
#[tokio::test]
async fn without_acknowledgement_there_is_no_answer() {
    let (server, mut client) = start().await;
    let unanswered = |topic: &str| {
        let batch = records(&[1_000]).build().expect("a batch");
        let request = ProduceRequest { acks: 0, ..produce_request(topic, batch) };
        let segments = encode_request(&request, 9, 1, Some("c".into())).expect("encodes");
        segments.concat()
    };
    let mut bare = Bare::new(&server);
    bare.0.write_all(&unanswered(TOPIC)).await.expect("connected");
    bare.send((API_VERSIONS, 0), 2, &[]).await;
    assert_eq!(bare.answer().await.expect("an answer")[..4], [0, 0, 0, 2], "the next request's");
    assert_eq!(fetch(&mut client, TOPIC, 0).await.high_watermark, 1);
    bare.0.write_all(&unanswered("gone")).await.expect("connected");
    assert_eq!(bare.answer().await, None);
    server.stop().await;
}

/// Pitfalls 12 and 13: every answer that names a node names one that Metadata lists, the controller among
/// them, at the same address.
#[tokio::test]
async fn nodes_are_those_of_the_metadata() {
    let (server, mut client) = start().await;
    for version in [0, 1, 13] {
        let found = client.ask(version, MetadataRequest::default()).await;
        let node = &found.brokers[0];
        if version >= 1 {
            assert_eq!(found.controller_id, node.node_id, "v{version}");
        }
        for key_type in [0, 1] {
            let coordinator_keys = vec![text(GROUP)];
            let request =
                FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
            let coordinator = client.ask(4, request).await.coordinators.remove(0);
            assert_eq!(coordinator.node_id, node.node_id);
            assert_eq!((coordinator.host, coordinator.port), (node.host.clone(), node.port));
        }
        let cluster = client.ask(2, DescribeClusterRequest::default()).await;
        assert_eq!((cluster.controller_id, cluster.brokers.len()), (node.node_id, 1));
        let same = &cluster.brokers[0];
        assert_eq!((same.broker_id, &same.host, same.port), (node.node_id, &node.host, node.port));
        assert_ne!((node.host.as_str(), node.port), ("", 0));
    }
    server.stop().await;
}

/// Pitfall 9: requests of one connection are answered in their order, though Produce does not wait for
/// what is before it to be durable.
#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let (server, mut client) = start().await;
    let mut bare = Bare::new(&server);
    let batch = records(&[1_000]).build().expect("a batch");
    for correlation in 0..20 {
        if correlation % 3 == 2 {
            bare.send((API_VERSIONS, 0), correlation, &[]).await;
        } else {
            let request = produce_request(TOPIC, batch.clone());
            let segments = encode_request(&request, 9, correlation, Some("c".into()));
            bare.0.write_all(&segments.expect("encodes").concat()).await.expect("connected");
        }
    }
    for correlation in 0..20_i32 {
        let answer = bare.answer().await.expect("an answer");
        assert_eq!(answer[..4], correlation.to_be_bytes());
    }
    let next = produce(&mut client, TOPIC, records(&[1_000])).await;
    assert_eq!((code(next.error_code), next.base_offset), (NO_ERROR, 14));
    server.stop().await;
}
