//! A scripted broker at the other end of a pipe.

#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use millstream_client::{Address, Cluster, ClusterSettings, Error, InProcess};
use millstream_env::Env;
use millstream_types::Uuid;
use millstream_wire::api_versions_response::ApiVersion;
use millstream_wire::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use millstream_wire::{
    ApiKey, ApiVersionsRequest, ApiVersionsResponse, MetadataRequest, MetadataResponse, Reader,
    Request, decode_request_header, encode_response,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

/// A request as it came in.
pub(crate) struct Call {
    /// The port that the client meant to connect to.
    pub(crate) port: u16,
    pub(crate) api: ApiKey,
    pub(crate) version: i16,
    pub(crate) correlation_id: i32,
    body: Bytes,
}

/// What the broker does about a request.
pub(crate) enum Reply {
    Frame(Vec<Bytes>),
    /// Nothing.
    Silence,
    /// Leaves without an answer.
    HangUp,
}

impl Call {
    pub(crate) fn request<R: Request>(&self) -> R {
        R::decode(&mut Reader::new(&self.body), self.version).unwrap()
    }

    pub(crate) fn answer<R: Request>(&self, response: &R::Response) -> Option<Reply> {
        let frame = encode_response::<R>(response, self.version, self.correlation_id).unwrap();
        Some(Reply::Frame(frame))
    }
}

type Script = dyn Fn(&Call) -> Option<Reply> + Send + Sync;

/// One process that plays all brokers: 1 at port 9001, 2 at port 9002 and so on.
#[derive(Clone)]
pub(crate) struct Fake {
    script: Arc<Script>,
    pub(crate) seen: Arc<Mutex<Vec<(u16, ApiKey, i16)>>>,
}

/// What the default answers say.
pub(crate) const TOPIC_ID: Uuid = Uuid([7; 16]);

impl Fake {
    /// Answers what `script` does not: everything in every version is offered, and topic `t` has
    /// four partitions led by broker 1.
    pub(crate) fn new(script: impl Fn(&Call) -> Option<Reply> + Send + Sync + 'static) -> Self {
        Self { script: Arc::new(script), seen: Arc::default() }
    }

    /// What the script says to `call`.
    pub(crate) fn reply(&self, call: &Call) -> Option<Reply> {
        (self.script)(call)
    }

    pub(crate) async fn cluster(&self) -> Cluster {
        self.connect(settings()).await.unwrap()
    }

    pub(crate) async fn connect(&self, settings: ClusterSettings) -> Result<Cluster, Error> {
        let env = Env::real(tokio::runtime::Handle::current());
        Cluster::connect(env.clone(), Arc::new(self.connector(env)), settings).await
    }

    pub(crate) fn connector(&self, env: Env) -> InProcess {
        let fake = self.clone();
        InProcess::new(move |address| {
            if address.port == 1 {
                return Err(io::Error::new(io::ErrorKind::ConnectionRefused, "refused"));
            }
            // Narrow, so that frames come in pieces.
            let (client, server) = tokio::io::duplex(1000);
            let (fake, port) = (fake.clone(), address.port);
            env.spawn("fake broker", async move { drop(fake.serve(server, port).await) });
            Ok(client)
        })
    }

    async fn serve(self, mut stream: DuplexStream, port: u16) -> io::Result<()> {
        loop {
            let len = stream.read_i32().await?;
            let mut frame = vec![0; usize::try_from(len).unwrap()];
            stream.read_exact(&mut frame).await?;
            let frame = Bytes::from(frame);
            let mut reader = Reader::new(&frame);
            let (api, header) = decode_request_header(&mut reader).unwrap();
            let (version, correlation_id) = (header.request_api_version, header.correlation_id);
            self.seen.lock().unwrap().push((port, api, version));
            let call = Call { port, api, version, correlation_id, body: reader.rest() };
            let reply = (self.script)(&call).unwrap_or_else(|| default_reply(&call));
            match reply {
                Reply::Frame(segments) => stream.write_all(&segments.concat()).await?,
                Reply::Silence => {}
                Reply::HangUp => return Ok(()),
            }
        }
    }

    pub(crate) fn count(&self, api: ApiKey) -> usize {
        self.seen.lock().unwrap().iter().filter(|(_, seen, _)| *seen == api).count()
    }
}

/// Short waits, so that tests are short.
pub(crate) fn settings() -> ClusterSettings {
    let mut settings = ClusterSettings::new(vec![Address::new("fake", 9001)]);
    settings.backoff.first = Duration::from_millis(1);
    settings.backoff.most = Duration::from_millis(4);
    settings.patience = Duration::from_secs(10);
    settings
}

fn default_reply(call: &Call) -> Reply {
    let reply = match call.api {
        ApiKey::ApiVersions => call.answer::<ApiVersionsRequest>(&api_versions(|_| true)),
        ApiKey::Metadata => call.answer::<MetadataRequest>(&metadata(&[1, 1, 1, 1])),
        other => panic!("nobody has said what to do about {other:?}"),
    };
    reply.unwrap()
}

pub(crate) fn api_versions(offers: impl Fn(ApiKey) -> bool) -> ApiVersionsResponse {
    let apis = ApiKey::ALL.iter().filter(|api| offers(**api));
    let api_keys = apis.map(|api| ApiVersion {
        api_key: api.code(),
        min_version: *api.versions().start(),
        max_version: *api.versions().end(),
    });
    ApiVersionsResponse { api_keys: api_keys.collect(), ..Default::default() }
}

/// Two brokers, and topic `t` with these leaders (0: none).
pub(crate) fn metadata(leaders: &[i32]) -> MetadataResponse {
    let broker = |node_id: i32| MetadataResponseBroker {
        node_id,
        host: "fake".into(),
        port: 9000 + node_id,
        ..Default::default()
    };
    let partitions = (0..).zip(leaders).map(|(partition_index, &leader)| {
        let leader_id = if leader == 0 { -1 } else { leader };
        MetadataResponsePartition { partition_index, leader_id, ..Default::default() }
    });
    MetadataResponse {
        brokers: vec![broker(1), broker(2)],
        controller_id: 1,
        topics: vec![MetadataResponseTopic {
            name: Some("t".into()),
            topic_id: TOPIC_ID,
            partitions: partitions.collect(),
            ..Default::default()
        }],
        ..Default::default()
    }
}
