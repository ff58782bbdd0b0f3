//! What servers that speak the Kafka protocol got wrong, asked of this one over the wire. The numbers are
//! those of docs/pitfalls.md, which names the tests of all of them.

use bytes::Bytes;
use millstream::{Server, ServerConfig};
use millstream_record::BatchBuilder;
use millstream_types::{ProducerEpoch, ProducerId, Timestamp, Uuid};
use millstream_wire::fetch_request::{FetchPartition, FetchTopic};
use millstream_wire::metadata_request::MetadataRequestTopic;
use millstream_wire::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_wire::{
    CreateTopicsRequest, ErrorCode, FetchRequest, FetchResponse, FindCoordinatorRequest,
    MetadataRequest, ProduceRequest, StrBytes, create_topics_request, fetch_response,
    metadata_response, produce_response,
};
use raw::Client;

mod fetch;
mod groups;
mod negotiation;
mod produce;
#[expect(dead_code, reason = "other tests are content with one batch")]
#[path = "../raw/mod.rs"]
mod raw;
mod topics;
mod transactions;

const TOPIC: &str = "t";
const GROUP: &str = "g";
const NO_ERROR: ErrorCode = ErrorCode::None;

/// The newest version of Produce and of Fetch that names topics.
const PRODUCE: i16 = 12;
const FETCH: i16 = 12;

fn code(code: i16) -> ErrorCode {
    ErrorCode::or_unknown(code)
}

fn text(text: &str) -> StrBytes {
    StrBytes::from(text.to_owned())
}

/// A server with these settings and both coordinators, the topic [`TOPIC`] of one partition, and a client.
async fn start_with(settings: &[(&str, &str)]) -> (Server, Client) {
    let mut config = ServerConfig::in_memory();
    for (name, value) in settings {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    let mut client = Client::new(&server);
    assert_eq!(create(&mut client, TOPIC, &[]).await, NO_ERROR);
    for key_type in [0, 1] {
        let coordinator_keys = vec![text(GROUP)];
        let request = FindCoordinatorRequest { key_type, coordinator_keys, ..Default::default() };
        assert_eq!(client.ask(4, request).await.coordinators[0].error_code, 0);
    }
    (server, client)
}

async fn start() -> (Server, Client) {
    start_with(&[]).await
}

/// Makes a topic of one partition.
async fn create(client: &mut Client, name: &str, configs: &[(&str, &str)]) -> ErrorCode {
    let configs = configs.iter().map(|(name, value)| create_topics_request::CreatableTopicConfig {
        name: text(name),
        value: Some(text(value)),
    });
    let topic = create_topics_request::CreatableTopic {
        name: text(name),
        num_partitions: 1,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    code(client.ask(7, request).await.topics[0].error_code)
}

/// What Metadata says of a topic.
async fn look_up(client: &mut Client, name: &str) -> metadata_response::MetadataResponseTopic {
    let topic = MetadataRequestTopic { name: Some(text(name)), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: false,
        ..Default::default()
    };
    client.ask(12, request).await.topics.remove(0)
}

/// Uncompressed records with values of one byte, at these times.
fn records(times: &[i64]) -> BatchBuilder {
    let mut batch = BatchBuilder::new();
    for time in times {
        batch.append(Timestamp(*time), Some(b"k"), Some(b"v"), &[]);
    }
    batch
}

/// A producer with its epoch, and the sequence number of a batch.
type From = (i64, i16, i32);

/// A batch of one record of this producer.
fn sent((id, epoch, sequence): From) -> BatchBuilder {
    let mut batch = BatchBuilder::new().producer(ProducerId(id), ProducerEpoch(epoch), sequence);
    batch.append(Timestamp(1_000), Some(b"k"), Some(b"v"), &[]);
    batch
}

fn produce_request(topic: &str, records: Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Some(records.into()) };
    let topic = TopicProduceData {
        name: text(topic),
        partition_data: vec![partition],
        ..Default::default()
    };
    ProduceRequest { transactional_id: None, acks: -1, timeout_ms: 1_000, topic_data: vec![topic] }
}

async fn produce(
    client: &mut Client,
    topic: &str,
    batch: BatchBuilder,
) -> produce_response::PartitionProduceResponse {
    let request = produce_request(topic, batch.build().expect("a batch"));
    client.ask(PRODUCE, request).await.responses.remove(0).partition_responses.remove(0)
}

/// A fetch of partition 0 of a topic that does not wait.
fn fetch_request(topic: &str, from: i64) -> FetchRequest {
    let partition = FetchPartition {
        fetch_offset: from,
        partition_max_bytes: 1 << 20,
        current_leader_epoch: -1,
        last_fetched_epoch: -1,
        ..Default::default()
    };
    let topic = FetchTopic { topic: text(topic), topic_id: Uuid::NIL, partitions: vec![partition] };
    FetchRequest {
        max_bytes: 1 << 20,
        session_epoch: -1,
        topics: vec![topic],
        ..Default::default()
    }
}

async fn fetch(client: &mut Client, topic: &str, from: i64) -> fetch_response::PartitionData {
    only(client.ask(FETCH, fetch_request(topic, from)).await)
}

/// The answer of a fetch of one partition.
fn only(mut response: FetchResponse) -> fetch_response::PartitionData {
    assert_eq!(response.responses.len(), 1, "{response:?}");
    response.responses.remove(0).partitions.remove(0)
}

/// The batches that were fetched.
fn batches(data: &fetch_response::PartitionData) -> Vec<Bytes> {
    let bytes = data.records.as_ref().map(millstream_wire::Records::to_bytes).unwrap_or_default();
    let split = millstream_record::batch::split(&bytes);
    split.collect::<Result<_, _>>().expect("whole batches")
}
