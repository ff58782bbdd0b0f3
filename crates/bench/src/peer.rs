//! A connection to a broker, as thin as can be: whole frames out, whole frames in.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millstream_tls::ClientTls;
use millstream_wire::alter_client_quotas_request::{EntityData, EntryData, OpData};
use millstream_wire::create_acls_request::AclCreation;
use millstream_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millstream_wire::delete_topics_request::DeleteTopicState;
use millstream_wire::describe_log_dirs_request::DescribableLogDirTopic;
use millstream_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use millstream_wire::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use millstream_wire::metadata_request::MetadataRequestTopic;
use millstream_wire::{
    AlterClientQuotasRequest, CreateAclsRequest, CreateTopicsRequest, DeleteTopicsRequest,
    DescribeLogDirsRequest, ErrorCode, IncrementalAlterConfigsRequest, ListOffsetsRequest,
    Message as _, MetadataRequest, Reader, Request, ResponseHeader, StrBytes, encode_request,
};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

const ALTER_CLIENT_QUOTAS_VERSION: i16 = 1;
const ALTER_CONFIGS_VERSION: i16 = 1;
const CREATE_ACLS_VERSION: i16 = 3;
const CREATE_TOPICS_VERSION: i16 = 7;
const DELETE_TOPICS_VERSION: i16 = 6;
const DESCRIBE_LOG_DIRS_VERSION: i16 = 4;
const LIST_OFFSETS_VERSION: i16 = 7;
const METADATA_VERSION: i16 = 12;

/// The timestamp that asks for the end.
const LATEST: i64 = -1;

const ASK_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// A topic, among the resources that have configurations, and what is done to one of its entries.
const RESOURCE_TOPIC: i8 = 2;
const OPERATION_SET: i8 = 0;

/// What creating a topic waits for, at most.
const CREATE_TIMEOUT_MS: i32 = 30_000;

/// No broker of the benchmark answers with more.
const RESPONSE_BYTES_MAX: usize = 256 << 20;

/// Where a server listens, and whether it speaks TLS there.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    /// The place.
    pub(crate) address: SocketAddr,
    /// Without it, plain text is spoken.
    pub(crate) tls: Option<ClientTls>,
}

impl From<SocketAddr> for Door {
    fn from(address: SocketAddr) -> Self {
        Self { address, tls: None }
    }
}

/// What comes from a server.
pub(crate) type Incoming = Box<dyn AsyncRead + Send + Unpin>;

/// What goes to a server.
pub(crate) type Outgoing = Box<dyn AsyncWrite + Send + Unpin>;

/// One connection, one request at a time.
pub(crate) struct Peer {
    incoming: Incoming,
    outgoing: Outgoing,
    next_id: i32,
}

impl Peer {
    /// # Errors
    ///
    /// When nothing listens there.
    pub(crate) async fn connect(at: impl Into<Door>) -> anyhow::Result<Self> {
        let (incoming, outgoing) = connect(&at.into()).await?;
        Ok(Self { incoming, outgoing, next_id: 1 })
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    ///
    /// When the connection ends or either side can't be encoded or decoded.
    pub(crate) async fn call<R: Request>(
        &mut self,
        request: &R,
        version: i16,
    ) -> anyhow::Result<R::Response> {
        let id = self.next_id;
        self.next_id = id.wrapping_add(1);
        let segments = encode_request(request, version, id, Some(StrBytes::from("bench")))?;
        self.send(&segments.concat()).await?;
        let frame = read_frame(&mut self.incoming).await?;
        decode_response::<R>(&frame, version, id)
    }

    /// Makes a topic and waits until each partition has a leader, and that knows it: Apache Kafka answers before.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn create_topic(
        &mut self,
        name: &str,
        partitions: i32,
        configs: &[(&'static str, &'static str)],
    ) -> anyhow::Result<()> {
        let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: StrBytes::from(*name),
            value: Some(StrBytes::from(*value)),
        });
        let topic = CreatableTopic {
            name: StrBytes::from(name.to_owned()),
            num_partitions: partitions,
            replication_factor: 1,
            configs: configs.collect(),
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: CREATE_TIMEOUT_MS,
            ..CreateTopicsRequest::default()
        };
        let response = self.call(&request, CREATE_TOPICS_VERSION).await?;
        let topic = response.topics.first().context("CreateTopics answered without the topic")?;
        let error = ErrorCode::or_unknown(topic.error_code);
        ensure!(error == ErrorCode::None, "creating {name}: {}", error.name());
        self.wait_for_leaders(name, partitions).await?;
        self.wait_until_served(name, partitions).await
    }

    /// Limits what one client id, or each that has no limit of its own, may write and read, in bytes per second.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn limit_clients(
        &mut self,
        client_id: Option<&str>,
        rate: f64,
    ) -> anyhow::Result<()> {
        let of = ["producer_byte_rate", "consumer_byte_rate"];
        let ops = of.map(|of| OpData { key: StrBytes::from(of), value: rate, remove: false });
        let entity_name = client_id.map(|id| StrBytes::from(id.to_owned()));
        let entity = EntityData { entity_type: StrBytes::from("client-id"), entity_name };
        let entry = EntryData { entity: vec![entity], ops: ops.into() };
        let request = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
        let response = self.call(&request, ALTER_CLIENT_QUOTAS_VERSION).await?;
        for entry in response.entries {
            let error = ErrorCode::or_unknown(entry.error_code);
            ensure!(error == ErrorCode::None, "setting quotas: {}", error.name());
        }
        Ok(())
    }

    /// Adds access rules.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn create_acls(&mut self, rules: Vec<AclCreation>) -> anyhow::Result<()> {
        let request = CreateAclsRequest { creations: rules };
        let response = self.call(&request, CREATE_ACLS_VERSION).await?;
        for result in response.results {
            let error = ErrorCode::or_unknown(result.error_code);
            ensure!(error == ErrorCode::None, "adding access rules: {}", error.name());
        }
        Ok(())
    }

    /// Deletes a topic.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn delete_topic(&mut self, name: &str) -> anyhow::Result<()> {
        let state = DeleteTopicState {
            name: Some(StrBytes::from(name.to_owned())),
            ..DeleteTopicState::default()
        };
        let request = DeleteTopicsRequest {
            topics: vec![state],
            timeout_ms: CREATE_TIMEOUT_MS,
            ..DeleteTopicsRequest::default()
        };
        let response = self.call(&request, DELETE_TOPICS_VERSION).await?;
        let topic =
            response.responses.first().context("DeleteTopics answered without the topic")?;
        let error = ErrorCode::or_unknown(topic.error_code);
        ensure!(error == ErrorCode::None, "deleting {name}: {}", error.name());
        Ok(())
    }

    /// Sets an entry of a topic's configuration.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn set_config(
        &mut self,
        topic: &str,
        name: &'static str,
        value: &'static str,
    ) -> anyhow::Result<()> {
        let config = AlterableConfig {
            name: StrBytes::from(name),
            config_operation: OPERATION_SET,
            value: Some(StrBytes::from(value)),
        };
        let resource = AlterConfigsResource {
            resource_type: RESOURCE_TOPIC,
            resource_name: StrBytes::from(topic.to_owned()),
            configs: vec![config],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let response = self.call(&request, ALTER_CONFIGS_VERSION).await?;
        let answer = response.responses.first().context("an answer without the topic")?;
        let error = ErrorCode::or_unknown(answer.error_code);
        ensure!(error == ErrorCode::None, "setting {name} of {topic}: {}", error.name());
        Ok(())
    }

    /// How many bytes the broker says that a topic takes.
    ///
    /// # Errors
    ///
    /// When the broker refuses.
    pub(crate) async fn topic_bytes(&mut self, name: &str, partitions: i32) -> anyhow::Result<u64> {
        let topic = DescribableLogDirTopic {
            topic: StrBytes::from(name.to_owned()),
            partitions: (0..partitions).collect(),
        };
        let request = DescribeLogDirsRequest { topics: Some(vec![topic]) };
        let response = self.call(&request, DESCRIBE_LOG_DIRS_VERSION).await?;
        let topics = response.results.iter().flat_map(|folder| &folder.topics);
        let sizes = topics.flat_map(|topic| &topic.partitions).map(|each| each.partition_size);
        Ok(u64::try_from(sizes.sum::<i64>())?)
    }

    /// Sends a request that is encoded already; its answer is taken with [`Peer::receive`].
    ///
    /// # Errors
    ///
    /// When the connection ends.
    pub(crate) async fn send(&mut self, frame: &[u8]) -> anyhow::Result<()> {
        self.outgoing.write_all(frame).await?;
        // TLS may keep the end of it for the next write.
        Ok(self.outgoing.flush().await?)
    }

    /// The next answer.
    ///
    /// # Errors
    ///
    /// When the connection ends.
    pub(crate) async fn receive(&mut self) -> anyhow::Result<Bytes> {
        read_frame(&mut self.incoming).await
    }

    async fn wait_for_leaders(&mut self, name: &str, partitions: i32) -> anyhow::Result<()> {
        let name = Some(StrBytes::from(name.to_owned()));
        let topic = MetadataRequestTopic { name, ..MetadataRequestTopic::default() };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            allow_auto_topic_creation: false,
            ..MetadataRequest::default()
        };
        loop {
            let response = self.call(&request, METADATA_VERSION).await?;
            let led = response.topics.iter().flat_map(|topic| &topic.partitions);
            let led = led.filter(|each| each.error_code == 0 && each.leader_id >= 0).count();
            if led == usize::try_from(partitions)? {
                return Ok(());
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }

    async fn wait_until_served(&mut self, name: &str, partitions: i32) -> anyhow::Result<()> {
        let of = |partition_index| ListOffsetsPartition {
            partition_index,
            timestamp: LATEST,
            ..ListOffsetsPartition::default()
        };
        let topic = ListOffsetsTopic {
            name: StrBytes::from(name.to_owned()),
            partitions: (0..partitions).map(of).collect(),
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![topic],
            ..ListOffsetsRequest::default()
        };
        loop {
            let response = self.call(&request, LIST_OFFSETS_VERSION).await?;
            let mut answers = response.topics.iter().flat_map(|topic| &topic.partitions);
            if answers.all(|answer| answer.error_code == 0) {
                return Ok(());
            }
            tokio::time::sleep(ASK_AGAIN_AFTER).await;
        }
    }
}

/// Connects without delay of small segments.
///
/// # Errors
///
/// When nothing listens there, or it is not whom TLS takes it for.
pub(crate) async fn connect(door: &Door) -> anyhow::Result<(Incoming, Outgoing)> {
    let address = door.address;
    let stream = TcpStream::connect(address).await.with_context(|| address.to_string())?;
    stream.set_nodelay(true)?;
    Ok(match &door.tls {
        None => {
            let (reader, writer) = stream.into_split();
            (Box::new(reader), Box::new(writer))
        }
        Some(tls) => {
            let (reader, writer) =
                tokio::io::split(tls.connect(&address.ip().to_string(), stream).await?);
            (Box::new(reader), Box::new(writer))
        }
    })
}

/// The next frame, without its length.
///
/// # Errors
///
/// When the connection ends, or the length is absurd.
pub(crate) async fn read_frame(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<Bytes> {
    let length = usize::try_from(stream.read_i32().await?).context("a negative length")?;
    ensure!(length <= RESPONSE_BYTES_MAX, "an answer of {length} bytes");
    // Not zeroed first: answers to Fetch are large.
    let mut frame = Vec::with_capacity(length);
    let read = stream.take(length as u64).read_to_end(&mut frame).await?;
    ensure!(read == length, "the connection ended within an answer");
    Ok(Bytes::from(frame))
}

/// Reads the answer to a request `R`.
///
/// # Errors
///
/// When it is none, or the answer to another request.
pub(crate) fn decode_response<R: Request>(
    frame: &Bytes,
    version: i16,
    correlation_id: i32,
) -> anyhow::Result<R::Response> {
    let mut reader = Reader::new(frame);
    let header = ResponseHeader::decode(&mut reader, R::response_header_version(version))?;
    ensure!(header.correlation_id == correlation_id, "the answer to another request");
    Ok(R::Response::decode(&mut reader, version)?)
}
