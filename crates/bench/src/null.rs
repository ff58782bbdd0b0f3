//! The null broker: decodes each Produce request, checks each batch, answers, and keeps nothing. No
//! broker that does its work can be faster on this machine with this runtime: the ceiling.
//!
//! It says just enough for real producers: ApiVersions, Metadata (every topic exists), CreateTopics,
//! ListOffsets (every partition is empty), InitProducerId.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, bail};
use bytes::{Buf as _, Bytes, BytesMut};
use millstream_record::batch::{Check, Origin, ValidBatch};
use millstream_wire::api_versions_response::ApiVersion;
use millstream_wire::create_topics_response::CreatableTopicResult;
use millstream_wire::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use millstream_wire::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream_wire::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use millstream_wire::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, CreateTopicsRequest, CreateTopicsResponse,
    ErrorCode, InitProducerIdRequest, InitProducerIdResponse, ListOffsetsRequest,
    ListOffsetsResponse, Message as _, MetadataRequest, MetadataResponse, ProduceRequest,
    ProduceResponse, Reader, Request, StrBytes, decode_request_header, encode_response,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// Its number in metadata.
const NODE: i32 = 1;

/// Partitions of a topic that nobody has created.
const PARTITIONS: i32 = 4;

const PRODUCER: i64 = 1;

const REQUEST_BYTES_MAX: usize = 100 << 20;

/// What it says it answers, and in which versions. Produce from 0, and Fetch at all, because librdkafka
/// would else send batches of an older format.
const SERVED: [(ApiKey, i16, i16); 7] = [
    (ApiKey::Produce, 0, 12),
    (ApiKey::Fetch, 4, 12),
    (ApiKey::ListOffsets, 1, 7),
    (ApiKey::Metadata, 0, 12),
    (ApiKey::ApiVersions, 0, 4),
    (ApiKey::CreateTopics, 2, 7),
    (ApiKey::InitProducerId, 0, 4),
];

/// A batch that a broker would take from a client.
const CHECK: Check = Check {
    batch_bytes_max: 1_048_588,
    decompressed_bytes_max: 0,
    full: false,
    keys_required: false,
    origin: Origin::Client,
    timestamps: None,
};

/// What all connections share: how many partitions topics have.
#[derive(Debug)]
struct Null {
    address: SocketAddr,
    topics: Mutex<BTreeMap<StrBytes, i32>>,
}

/// Listens until the process is ended.
///
/// # Errors
///
/// When the address is taken.
pub(crate) async fn serve(address: SocketAddr) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await.with_context(|| address.to_string())?;
    let null = Arc::new(Null { address: listener.local_addr()?, topics: Mutex::default() });
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let null = Arc::clone(&null);
        tokio::spawn(async move {
            if let Err(error) = null.connection(stream).await {
                eprintln!("a connection ended: {error:#}");
            }
        });
    }
}

impl Null {
    async fn connection(&self, mut stream: TcpStream) -> anyhow::Result<()> {
        let mut buffer = BytesMut::new();
        loop {
            while let Some(frame) = take(&mut buffer)? {
                for segment in self.answer(&frame)? {
                    stream.write_all(&segment).await?;
                }
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
    }

    fn answer(&self, frame: &Bytes) -> anyhow::Result<Vec<Bytes>> {
        let mut reader = Reader::new(frame);
        let (api, header) = decode_request_header(&mut reader)?;
        let (version, id) = (header.request_api_version, header.correlation_id);
        let newest =
            SERVED.iter().find(|(served, ..)| *served == api).map(|(_, _, newest)| *newest);
        match api {
            ApiKey::ApiVersions if newest.is_none_or(|newest| version > newest) => {
                let error_code = ErrorCode::UnsupportedVersion.code();
                encode::<ApiVersionsRequest>(
                    &ApiVersionsResponse { error_code, ..versions() },
                    0,
                    id,
                )
            }
            ApiKey::ApiVersions => encode::<ApiVersionsRequest>(&versions(), version, id),
            ApiKey::Produce => {
                let response = produce(ProduceRequest::decode(&mut reader, version)?);
                encode::<ProduceRequest>(&response, version, id)
            }
            ApiKey::Metadata => {
                let response = self.metadata(MetadataRequest::decode(&mut reader, version)?);
                encode::<MetadataRequest>(&response, version, id)
            }
            ApiKey::CreateTopics => {
                let response = self.create(CreateTopicsRequest::decode(&mut reader, version)?);
                encode::<CreateTopicsRequest>(&response, version, id)
            }
            ApiKey::ListOffsets => {
                let response = list_offsets(ListOffsetsRequest::decode(&mut reader, version)?);
                encode::<ListOffsetsRequest>(&response, version, id)
            }
            ApiKey::InitProducerId => {
                let producer =
                    InitProducerIdResponse { producer_id: PRODUCER, ..Default::default() };
                encode::<InitProducerIdRequest>(&producer, version, id)
            }
            other => bail!("{} is not served by the null broker", other.name()),
        }
    }

    fn metadata(&self, request: MetadataRequest) -> MetadataResponse {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let partition = |partition_index| MetadataResponsePartition {
            partition_index,
            leader_id: NODE,
            leader_epoch: 0,
            replica_nodes: vec![NODE],
            isr_nodes: vec![NODE],
            ..MetadataResponsePartition::default()
        };
        let topic = |name: StrBytes| {
            let partitions = topics.get(&name).copied().unwrap_or(PARTITIONS);
            MetadataResponseTopic {
                name: Some(name),
                partitions: (0..partitions).map(partition).collect(),
                ..MetadataResponseTopic::default()
            }
        };
        let asked = request.topics.unwrap_or_default().into_iter();
        let broker = MetadataResponseBroker {
            node_id: NODE,
            host: StrBytes::from(self.address.ip().to_string()),
            port: i32::from(self.address.port()),
            rack: None,
        };
        MetadataResponse {
            brokers: vec![broker],
            controller_id: NODE,
            topics: asked.filter_map(|topic| topic.name).map(topic).collect(),
            ..MetadataResponse::default()
        }
    }

    fn create(&self, request: CreateTopicsRequest) -> CreateTopicsResponse {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let created = request.topics.into_iter().map(|topic| {
            topics.insert(topic.name.clone(), topic.num_partitions);
            let num_partitions = topic.num_partitions;
            CreatableTopicResult { name: topic.name, num_partitions, ..Default::default() }
        });
        CreateTopicsResponse { topics: created.collect(), ..CreateTopicsResponse::default() }
    }
}

fn encode<R: Request>(response: &R::Response, version: i16, id: i32) -> anyhow::Result<Vec<Bytes>> {
    Ok(encode_response::<R>(response, version, id)?)
}

fn versions() -> ApiVersionsResponse {
    let served = SERVED.iter().map(|(api, min_version, max_version)| ApiVersion {
        api_key: api.code(),
        min_version: *min_version,
        max_version: *max_version,
    });
    ApiVersionsResponse { api_keys: served.collect(), ..ApiVersionsResponse::default() }
}

fn produce(request: ProduceRequest) -> ProduceResponse {
    let topics = request.topic_data.into_iter().map(|topic| {
        let partitions = topic.partition_data.into_iter().map(|data| {
            let records = data.records.map(|records| records.to_bytes()).unwrap_or_default();
            let error = match ValidBatch::check(records, &CHECK) {
                Ok(_) => ErrorCode::None,
                Err(_) => ErrorCode::CorruptMessage,
            };
            PartitionProduceResponse {
                index: data.index,
                error_code: error.code(),
                ..PartitionProduceResponse::default()
            }
        });
        TopicProduceResponse {
            name: topic.name,
            partition_responses: partitions.collect(),
            ..TopicProduceResponse::default()
        }
    });
    ProduceResponse { responses: topics.collect(), ..ProduceResponse::default() }
}

fn list_offsets(request: ListOffsetsRequest) -> ListOffsetsResponse {
    let topics = request.topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|asked| ListOffsetsPartitionResponse {
            partition_index: asked.partition_index,
            offset: 0,
            ..ListOffsetsPartitionResponse::default()
        });
        ListOffsetsTopicResponse { name: topic.name, partitions: partitions.collect() }
    });
    ListOffsetsResponse { topics: topics.collect(), ..ListOffsetsResponse::default() }
}

/// Takes a whole frame, without its length, off the front.
fn take(buffer: &mut BytesMut) -> anyhow::Result<Option<Bytes>> {
    let Some(prefix) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = usize::try_from(i32::from_be_bytes(*prefix)).context("a negative length")?;
    anyhow::ensure!(length <= REQUEST_BYTES_MAX, "a request of {length} bytes");
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    Ok(Some(buffer.split_to(length).freeze()))
}

#[cfg(test)]
mod tests {
    use millstream_types::Timestamp;

    use super::*;
    use crate::shape::Batches;

    fn answer(frame: &Bytes) -> ProduceResponse {
        let address = SocketAddr::from(([127, 0, 0, 1], 9092));
        let null = Null { address, topics: Mutex::default() };
        let answer = Bytes::from(null.answer(&frame.slice(4..)).unwrap().concat());
        crate::peer::decode_response::<ProduceRequest>(&answer.slice(4..), 12, 1).unwrap()
    }

    #[test]
    fn it_takes_what_is_sound_and_refuses_what_is_not() {
        let request = Batches::new("t", 100, Timestamp(1)).unwrap().request(&[(3, 5)]).unwrap();
        let response = answer(&request);
        let partition = &response.responses[0].partition_responses[0];
        assert_eq!((partition.index, partition.error_code), (3, 0));
        let mut broken = request.to_vec();
        let middle = broken.len() / 2;
        broken[middle] ^= 1;
        let response = answer(&Bytes::from(broken));
        let error = response.responses[0].partition_responses[0].error_code;
        assert_eq!(error, ErrorCode::CorruptMessage.code());
    }
}
