//! Listeners and TLS as clients meet them: several at once, good and bad certificates, what is no TLS, and new
//! certificates while clients work.

#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the tests write the files that a server reads")]

#[allow(dead_code, reason = "each test needs a part of it")]
mod raw;

mod pki;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use millstream::{Server, ServerConfig};
use millstream_wire::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_wire::*;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use pki::{Authority, authority, client, signed};
use raw::{Client, batch};

struct World {
    dir: TempDir,
    authority: Authority,
    server: Server,
}

/// A server that speaks both, and whose certificates are signed by an authority of its own.
async fn world(settings: &[(&str, &str)]) -> World {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let authority = authority("our authority");
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut config = ServerConfig { kafka_listen: None, ..ServerConfig::in_memory() };
    let both = "PLAINTEXT://127.0.0.1:0,SSL://127.0.0.1:0";
    let (key_store, trust_store) = ("ssl.keystore.location", "ssl.truststore.location");
    for (name, value) in [
        ("listeners", both.to_owned()),
        (key_store, file("server.pem", signed(&authority, "server", 2090))),
        (trust_store, file("ca.pem", authority.pem())),
    ] {
        config.settings.insert(name.to_owned(), value);
    }
    for (name, value) in settings {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let server = Server::start(config).await.unwrap();
    World { dir, authority, server }
}

impl World {
    fn address(&self, listener: &str) -> SocketAddr {
        let found = self.server.kafka_addresses().iter().find(|(name, _)| name == listener);
        found.unwrap().1
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    async fn connect(&self, config: Arc<ClientConfig>) -> io::Result<TlsStream<TcpStream>> {
        let stream = TcpStream::connect(self.address("SSL")).await?;
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(config).connect(name, stream).await
    }

    /// Whether a client gets an answer; what it is told if not.
    async fn asks(&self, config: Arc<ClientConfig>) -> Result<(), String> {
        let mut stream = self.connect(config).await.map_err(|error| error.to_string())?;
        let segments = encode_request(&ApiVersionsRequest::default(), 0, 1, None).unwrap();
        for segment in segments {
            stream.write_all(&segment).await.map_err(|error| error.to_string())?;
        }
        stream.flush().await.map_err(|error| error.to_string())?;
        stream.read_i32().await.map(drop).map_err(|error| error.to_string())
    }
}

#[tokio::test]
async fn clients_are_told_the_address_of_the_listener_by_which_they_came() {
    let told = "SSL://kafka.example.org:443,PLAINTEXT://[2001:db8::1]:9";
    let world = world(&[("advertised.listeners", told)]).await;
    let tls = world.connect(client(&world.authority, None)).await.unwrap();
    let plain = TcpStream::connect(world.address("PLAINTEXT")).await.unwrap();
    async fn check<S>(mut client: Client<S>, expected: (&str, i32))
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    {
        let metadata = client.ask(12, MetadataRequest::default()).await;
        let cluster = DescribeClusterRequest { endpoint_type: 1, ..Default::default() };
        let cluster = client.ask(1, cluster).await;
        let keys = vec![StrBytes::from("g")];
        let found = FindCoordinatorRequest { coordinator_keys: keys, ..Default::default() };
        let found = client.ask(4, found).await;
        let broker = &metadata.brokers[0];
        assert_eq!((&*broker.host, broker.port), expected);
        assert_eq!((&*cluster.brokers[0].host, cluster.brokers[0].port), expected);
        assert_eq!((&*found.coordinators[0].host, found.coordinators[0].port), expected);
    }
    check(Client::over(tls), ("kafka.example.org", 443)).await;
    check(Client::over(plain), ("2001:db8::1", 9)).await;
    // In the same process, where there is no listener, as at the first.
    check(Client::new(&world.server), ("2001:db8::1", 9)).await;
    world.server.stop().await;
}

#[tokio::test]
async fn without_an_advertised_address_they_are_told_where_it_listens() {
    let world = world(&[]).await;
    let tls = world.connect(client(&world.authority, None)).await.unwrap();
    let metadata = Client::over(tls).ask(12, MetadataRequest::default()).await;
    let told = (&*metadata.brokers[0].host, metadata.brokers[0].port);
    assert_eq!(told, ("127.0.0.1", i32::from(world.address("SSL").port())));
    world.server.stop().await;
}

#[tokio::test]
async fn who_shows_a_good_certificate_comes_in_and_nobody_else() {
    let world = world(&[
        ("ssl.client.auth", "required"),
        ("ssl.principal.mapping.rules", "RULE:^CN=(a[^,]*)$/$1/"),
    ])
    .await;
    let (ours, theirs) = (&world.authority, &authority("another authority"));
    let good = signed(ours, "alice", 2090);
    assert_eq!(world.asks(client(ours, Some(&good))).await, Ok(()));
    for (trusts, shows, expected) in [
        (ours, None, "CertificateRequired"),
        (ours, Some(signed(theirs, "alice", 2090)), "UnknownCA"),
        (ours, Some(signed(ours, "alice", 2021)), "CertificateExpired"),
        (theirs, Some(good.clone()), "UnknownIssuer"),
    ] {
        let refused = world.asks(client(trusts, shows.as_deref())).await.expect_err(expected);
        assert!(refused.contains(expected), "{expected}: {refused}");
    }
    // Whose name no rule matches is let go after the handshake.
    let nobody = signed(ours, "bob", 2090);
    assert!(world.asks(client(ours, Some(&nobody))).await.is_err());
    assert_eq!(world.asks(client(ours, Some(&good))).await, Ok(()));
    world.server.stop().await;
}

/// What a client that is not understood is answered, to the end of the connection.
async fn answer(address: SocketAddr, sent: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    let mut answer = Vec::new();
    // A reset is an end, too.
    let _ = stream.read_to_end(&mut answer).await;
    answer
}

#[tokio::test]
async fn what_is_no_tls_and_what_is_none_here_ends_the_connection() {
    let world = world(&[]).await;
    let request = encode_request(&ApiVersionsRequest::default(), 0, 1, None).unwrap().concat();
    // An alert of TLS, and no answer of Kafka.
    let alert = answer(world.address("SSL"), &request).await;
    assert_eq!(alert.first_chunk(), Some(&[21, 3, 3]), "{alert:?}");
    let hello = b"\x16\x03\x01\x00\x80\x01\x00\x00\x7c\x03\x03";
    assert_eq!(answer(world.address("PLAINTEXT"), hello).await, b"");
    // A handshake of which only the first half comes.
    let mut half = TcpStream::connect(world.address("SSL")).await.unwrap();
    half.write_all(hello).await.unwrap();
    half.shutdown().await.unwrap();
    let mut rest = Vec::new();
    let _ = half.read_to_end(&mut rest).await;
    assert_eq!(rest, b"");
    // One that waits holds nobody up.
    let waits = TcpStream::connect(world.address("SSL")).await.unwrap();
    assert_eq!(world.asks(client(&world.authority, None)).await, Ok(()));
    drop(waits);
    world.server.stop().await;
}

fn produce() -> ProduceRequest {
    let partition = PartitionProduceData { index: 0, records: Some(batch().into()) };
    let topic = TopicProduceData {
        name: "t".into(),
        partition_data: vec![partition],
        ..Default::default()
    };
    ProduceRequest { acks: -1, timeout_ms: 10_000, topic_data: vec![topic], ..Default::default() }
}

async fn create_topic<S>(client: &mut Client<S>)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    let name = Some("t".into());
    let topic = metadata_request::MetadataRequestTopic { name, ..Default::default() };
    let create = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    client.ask(4, create).await;
}

#[tokio::test]
async fn certificates_are_replaced_while_clients_write() {
    let world = world(&[]).await;
    let mut plain = Client::new(&world.server);
    let topic =
        metadata_request::MetadataRequestTopic { name: Some("t".into()), ..Default::default() };
    let create = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: true,
        ..Default::default()
    };
    plain.ask(4, create).await;
    let mut old = Client::over(world.connect(client(&world.authority, None)).await.unwrap());
    let mut offsets = Vec::new();
    let mut write = async |client: &mut Client<TlsStream<TcpStream>>| {
        let answer = client.ask(9, produce()).await;
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!(partition.error_code, 0);
        offsets.push(partition.base_offset);
    };
    write(&mut old).await;
    let new = authority("another authority");
    fs::write(world.path("server.pem"), "torn").unwrap();
    let refused = world.server.reload_certificates().unwrap().expect_err("it is torn");
    assert!(refused.to_string().contains("server.pem"), "{refused}");
    // The one before is in use.
    write(&mut old).await;
    assert_eq!(world.asks(client(&world.authority, None)).await, Ok(()));
    fs::write(world.path("server.pem"), signed(&new, "server", 2091)).unwrap();
    assert!(world.server.reload_certificates().unwrap().unwrap());
    write(&mut old).await;
    let mut late = Client::over(world.connect(client(&new, None)).await.unwrap());
    write(&mut late).await;
    assert!(world.asks(client(&world.authority, None)).await.is_err());
    write(&mut old).await;
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
    world.server.stop().await;
}

/// What a certificate says is what quotas go by.
#[tokio::test]
async fn a_certificate_is_a_user() {
    use alter_client_quotas_request::{EntityData, EntryData, OpData};
    let world = world(&[
        ("ssl.client.auth", "requested"),
        ("ssl.principal.mapping.rules", "RULE:^CN=([^,]+)$/$1/"),
    ])
    .await;
    let mut plain = Client::new(&world.server);
    create_topic(&mut plain).await;
    let entity = EntityData { entity_type: "user".into(), entity_name: Some("alice".into()) };
    let op = OpData { key: "producer_byte_rate".into(), value: 1.0, remove: false };
    let entry = EntryData { entity: vec![entity], ops: vec![op] };
    let alter = AlterClientQuotasRequest { entries: vec![entry], validate_only: false };
    assert_eq!(plain.ask(1, alter).await.entries[0].error_code, 0);
    for (name, is_slowed) in [(Some("alice"), true), (Some("bob"), false), (None, false)] {
        let certificate = name.map(|name| signed(&world.authority, name, 2090));
        let config = client(&world.authority, certificate.as_deref());
        let mut client = Client::over(world.connect(config).await.unwrap());
        let answer = client.ask(9, produce()).await;
        assert_eq!(answer.throttle_time_ms > 0, is_slowed, "{name:?}");
    }
    world.server.stop().await;
}

/// What a certificate says is what rights go by; without one, and on another listener, it counts for nothing.
#[tokio::test]
async fn rights_go_by_the_certificate() {
    let world = world(&[
        ("ssl.client.auth", "requested"),
        ("ssl.principal.mapping.rules", "RULE:^CN=([^,]+)$/$1/"),
        ("authorizer.class.name", "standard"),
        ("super.users", "User:admin"),
    ])
    .await;
    let (allowed, denied) = (ErrorCode::None, ErrorCode::TopicAuthorizationFailed);
    for (name, expected) in [(Some("admin"), allowed), (Some("alice"), denied), (None, denied)] {
        let certificate = name.map(|name| signed(&world.authority, name, 2090));
        let config = client(&world.authority, certificate.as_deref());
        let mut client = Client::over(world.connect(config).await.unwrap());
        create_topic(&mut client).await;
        let answer = client.ask(9, produce()).await;
        let error = answer.responses[0].partition_responses[0].error_code;
        assert_eq!(error, expected.code(), "{name:?}");
    }
    let plain = TcpStream::connect(world.address("PLAINTEXT")).await.unwrap();
    let answer = Client::over(plain).ask(9, produce()).await;
    assert_eq!(answer.responses[0].partition_responses[0].error_code, denied.code());
    world.server.stop().await;
}

#[tokio::test]
async fn large_answers_and_requests_go_over_tls_whole() {
    let world = world(&[]).await;
    let mut tls = Client::over(world.connect(client(&world.authority, None)).await.unwrap());
    // Names of topics that there are not, 3 MiB of them, which come back in the answer.
    let topics = (0..3_000).map(|number| metadata_request::MetadataRequestTopic {
        name: Some(format!("{number:01024}").into()),
        ..Default::default()
    });
    let topics: Vec<_> = topics.collect();
    let request = MetadataRequest { topics: Some(topics), ..Default::default() };
    let answer = tls.ask(12, request).await;
    assert_eq!(answer.topics.len(), 3_000);
    assert_eq!(answer.topics[2_999].name.as_deref().map(str::len), Some(1_024));
    world.server.stop().await;
}

#[tokio::test]
async fn what_would_be_open_to_everybody_is_refused() {
    let refused = async |settings: &[(&str, &str)]| {
        let mut config = ServerConfig { kafka_listen: None, ..ServerConfig::in_memory() };
        for (name, value) in settings {
            config.settings.insert((*name).to_owned(), (*value).to_owned());
        }
        Server::start(config).await.expect_err("it is refused").to_string()
    };
    let (here, there) = ("listeners", "advertised.listeners");
    let open = [(here, "PLAINTEXT://0.0.0.0:0"), (there, "PLAINTEXT://localhost:1")];
    let why = refused(&open).await;
    assert!(why.contains("millstream.allow.plaintext.on.network=true"), "{why}");
    let (tls, key) = ((here, "SSL://127.0.0.1:0"), ("ssl.keystore.location", "nowhere.pem"));
    for (settings, expected) in [
        (&[tls][..], "ssl.keystore.location"),
        (&[tls, key], "can't read nowhere.pem"),
        (&[tls, key, ("ssl.keystore.type", "JKS")], "ssl.keystore.type=JKS is not read"),
        (&[tls, key, ("ssl.client.auth", "required")], "ssl.truststore.location"),
        (&[tls, key, ("ssl.enabled.protocols", "")], "ssl.enabled.protocols"),
        (&[tls, key, ("ssl.enabled.protocols", "TLSv1.1")], "ssl.enabled.protocols"),
        (&[tls, key, ("ssl.principal.mapping.rules", "X")], "ssl.principal.mapping.rules: `X`"),
        (&[(here, "SASL_SSL://127.0.0.1:0"), key], "can't read nowhere.pem"),
        (
            &[(here, "SASL_PLAINTEXT://0.0.0.0:0"), (there, "SASL_PLAINTEXT://localhost:1")],
            "use SASL_SSL",
        ),
        (
            &[(here, "SASL_PLAINTEXT://127.0.0.1:0"), ("sasl.enabled.mechanisms", "")],
            "nobody could log in",
        ),
        (&[(here, "TLS://127.0.0.1:0")], "what listener `TLS` speaks is not said"),
        (&[(here, "PLAINTEXT://0.0.0.0:0")], "advertised.listeners"),
    ] {
        let why = refused(settings).await;
        assert!(why.contains(expected), "{settings:?}: {why}");
    }
}

#[tokio::test]
async fn one_who_says_so_may_be_open_to_everybody() {
    let mut config = ServerConfig { kafka_listen: None, ..ServerConfig::in_memory() };
    for (name, value) in [
        ("listeners", "PLAINTEXT://0.0.0.0:0"),
        ("advertised.listeners", "PLAINTEXT://localhost:1"),
        ("millstream.allow.plaintext.on.network", "true"),
    ] {
        config.settings.insert(name.to_owned(), value.to_owned());
    }
    let server = Server::start(config).await.unwrap();
    server.stop().await;
}
