//! What is set for one listener (`listener.name.<listener>.<setting>`) counts there and nowhere else.

#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the tests write the files that a server reads")]

#[allow(dead_code, reason = "each test needs a part of it")]
mod raw;

mod pki;

use std::fs;
use std::sync::Arc;

use millstream::{Server, ServerConfig};
use millstream_env::Env;
use millstream_oauth::Signer;
use millstream_wire::{
    ApiVersionsRequest, SaslAuthenticateRequest, SaslHandshakeRequest, encode_request,
};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use pki::{Authority, authority, client, signed};
use raw::Client;

/// Files with what two authorities, of their numbers, have signed.
struct Files {
    dir: TempDir,
    authorities: [Authority; 2],
}

impl Files {
    fn new() -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let authorities = [authority("the first authority"), authority("the second authority")];
        for (number, authority) in authorities.iter().enumerate() {
            let path = |name: &str| dir.path().join(format!("{name}{number}.pem"));
            fs::write(path("server"), signed(authority, "server", 2090)).unwrap();
            fs::write(path("ca"), authority.pem()).unwrap();
        }
        Self { dir, authorities }
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A server with these settings, in which a value that ends in `.pem` is one of these files.
    async fn start(&self, settings: &[(&str, &str)]) -> anyhow::Result<Server> {
        let mut config = ServerConfig { kafka_listen: None, ..ServerConfig::in_memory() };
        for (name, value) in settings {
            let value = match value.ends_with(".pem") {
                true => self.path(value),
                false => (*value).to_owned(),
            };
            config.settings.insert((*name).to_owned(), value);
        }
        Server::start(config).await
    }
}

const LISTENERS: (&str, &str) = ("listeners", "ONE://127.0.0.1:0,TWO://127.0.0.1:0");

async fn connect(
    server: &Server,
    listener: &str,
    config: Arc<ClientConfig>,
) -> std::io::Result<TlsStream<TcpStream>> {
    let found = server.kafka_addresses().iter().find(|(name, _)| name == listener);
    let stream = TcpStream::connect(found.unwrap().1).await?;
    let name = ServerName::try_from("localhost").unwrap();
    TlsConnector::from(config).connect(name, stream).await
}

/// Whether a client gets an answer.
async fn is_served(server: &Server, listener: &str, config: Arc<ClientConfig>) -> bool {
    let Ok(mut stream) = connect(server, listener, config).await else { return false };
    let segments = encode_request(&ApiVersionsRequest::default(), 0, 1, None).unwrap();
    stream.write_all(&segments.concat()).await.is_ok()
        && stream.flush().await.is_ok()
        && stream.read_i32().await.is_ok()
}

#[tokio::test]
async fn each_listener_has_its_own_certificates_and_asks_for_its_own() {
    let files = Files::new();
    let server = files.start(&[
        LISTENERS,
        ("listener.security.protocol.map", "ONE:SSL,TWO:SSL"),
        ("ssl.keystore.location", "server0.pem"),
        ("listener.name.two.ssl.keystore.location", "server1.pem"),
        ("listener.name.two.ssl.truststore.location", "ca1.pem"),
        ("listener.name.two.ssl.client.auth", "required"),
    ]);
    let server = server.await.unwrap();
    let [first, second] = &files.authorities;
    let (one, two) = (signed(first, "alice", 2090), signed(second, "alice", 2090));
    for (listener, trusts, shows, expected) in [
        ("ONE", first, None, true),
        ("ONE", second, None, false),
        ("TWO", second, None, false),
        ("TWO", second, Some(&one), false),
        ("TWO", second, Some(&two), true),
        ("TWO", first, Some(&two), false),
    ] {
        let config = client(trusts, shows.map(String::as_str));
        let served = is_served(&server, listener, config).await;
        assert_eq!(served, expected, "{listener} {}", shows.is_some());
    }
    // Both are renewed.
    fs::write(files.path("server1.pem"), signed(first, "server", 2091)).unwrap();
    assert!(server.reload_certificates().unwrap().unwrap());
    assert!(is_served(&server, "TWO", client(first, Some(&two))).await);
    assert!(is_served(&server, "ONE", client(first, None)).await);
    server.stop().await;
}

/// Where SASL is spoken, clients show certificates only if that is set for the listener (KIP-684).
#[tokio::test]
async fn who_logs_in_shows_a_certificate_where_that_is_set_for_the_listener() {
    let files = Files::new();
    let server = files.start(&[
        LISTENERS,
        ("listener.security.protocol.map", "ONE:SASL_SSL,TWO:SASL_SSL"),
        ("ssl.keystore.location", "server0.pem"),
        ("ssl.truststore.location", "ca0.pem"),
        ("ssl.client.auth", "required"),
        ("listener.name.two.ssl.client.auth", "required"),
        ("listener.name.two.sasl.enabled.mechanisms", "PLAIN"),
    ]);
    let server = server.await.unwrap();
    let first = &files.authorities[0];
    let alice = signed(first, "alice", 2090);
    for (listener, shows, expected) in [
        ("ONE", None, true),
        ("ONE", Some(&*alice), true),
        ("TWO", None, false),
        ("TWO", Some(&*alice), true),
    ] {
        let served = is_served(&server, listener, client(first, shows)).await;
        assert_eq!(served, expected, "{listener} {}", shows.is_some());
    }
    for (listener, mechanism, expected) in [
        ("ONE", "SCRAM-SHA-512", &["SCRAM-SHA-256", "SCRAM-SHA-512"][..]),
        ("ONE", "PLAIN", &["SCRAM-SHA-256", "SCRAM-SHA-512"]),
        ("TWO", "PLAIN", &["PLAIN"]),
        ("TWO", "SCRAM-SHA-512", &["PLAIN"]),
    ] {
        let stream = connect(&server, listener, client(first, Some(&alice))).await.unwrap();
        let request = SaslHandshakeRequest { mechanism: mechanism.into() };
        let answer = Client::over(stream).ask(1, request).await;
        let offered: Vec<_> =
            answer.mechanisms.iter().map(millstream_wire::StrBytes::as_str).collect();
        assert_eq!(offered, expected, "{listener}");
        assert_eq!(answer.error_code == 0, expected.contains(&mechanism), "{listener} {mechanism}");
    }
    server.stop().await;
}

/// Whether a token logs in at a listener.
async fn logs_in(server: &Server, listener: &str, token: &str) -> bool {
    let found = server.kafka_addresses().iter().find(|(name, _)| name == listener);
    let mut client = Client::over(TcpStream::connect(found.unwrap().1).await.unwrap());
    let mechanism = "OAUTHBEARER".into();
    let offered = client.ask(1, SaslHandshakeRequest { mechanism }).await;
    assert_eq!(offered.error_code, 0, "{listener}");
    let message = format!("n,,\u{1}auth=Bearer {token}\u{1}\u{1}");
    let request = SaslAuthenticateRequest { auth_bytes: message.into_bytes().into() };
    let answer = client.ask(2, request).await;
    // RFC 7628: whoever has shown a bad token is told so before he is refused.
    answer.error_code == 0 && answer.auth_bytes.is_empty()
}

/// A token of one listener's issuer is worth nothing at another's.
#[tokio::test]
async fn each_listener_may_have_its_own_issuer_of_tokens() {
    let files = Files::new();
    let signers = [Signer::generate().unwrap(), Signer::generate().unwrap()];
    let paths = [files.path("jwks0.json"), files.path("jwks1.json")];
    for (path, signer) in paths.iter().zip(&signers) {
        fs::write(path, signer.key_set()).unwrap();
    }
    let keys = paths.map(|path| format!("file://{path}"));
    let set = [
        ("listeners", "ONE://127.0.0.1:0,TWO://127.0.0.1:0,THREE://127.0.0.1:0"),
        (
            "listener.security.protocol.map",
            "ONE:SASL_PLAINTEXT,TWO:SASL_PLAINTEXT,THREE:SASL_PLAINTEXT",
        ),
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.jwks.endpoint.url", &*keys[0]),
        ("sasl.oauthbearer.expected.audience", "inside"),
        ("listener.name.two.sasl.oauthbearer.jwks.endpoint.url", &*keys[1]),
        ("listener.name.two.sasl.oauthbearer.expected.audience", "outside"),
        ("listener.name.three.sasl.enabled.mechanisms", "SCRAM-SHA-512"),
    ];
    let server = files.start(&set).await.unwrap();
    let now = Env::real(Handle::current()).clock.wall().0 / 1_000;
    let token = |signer: &Signer, audience: &str| {
        let (issued, expires) = (now - 60, now + 600);
        let claims =
            format!(r#"{{"aud":"{audience}","sub":"alice","iat":{issued},"exp":{expires}}}"#);
        signer.token(&claims).unwrap()
    };
    let [first, second] = &signers;
    for (listener, signer, audience, expected) in [
        ("ONE", first, "inside", true),
        ("ONE", first, "outside", false),
        ("ONE", second, "inside", false),
        ("ONE", second, "outside", false),
        ("TWO", second, "outside", true),
        ("TWO", second, "inside", false),
        ("TWO", first, "outside", false),
        ("TWO", first, "inside", false),
    ] {
        let token = token(signer, audience);
        let whose = if std::ptr::eq(signer, first) { "first" } else { "second" };
        assert_eq!(
            logs_in(&server, listener, &token).await,
            expected,
            "{listener} {whose} {audience}"
        );
    }
    server.stop().await;
}

/// Where one does not log in by tokens, no keys are needed, and where one does, they are.
#[tokio::test]
async fn keys_are_needed_where_one_logs_in_by_tokens() {
    let files = Files::new();
    let missing = "file:///missing.json";
    for (listener, mechanisms, starts) in
        [("one", "SCRAM-SHA-512", true), ("one", "OAUTHBEARER", false)]
    {
        let mechanism = format!("listener.name.{listener}.sasl.enabled.mechanisms");
        let keys = format!("listener.name.{listener}.sasl.oauthbearer.jwks.endpoint.url");
        let protocols = ("listener.security.protocol.map", "ONE:SASL_PLAINTEXT,TWO:PLAINTEXT");
        let set = [LISTENERS, protocols, (&*mechanism, mechanisms), (&*keys, missing)];
        let why = match files.start(&set).await {
            Ok(server) => {
                server.stop().await;
                String::new()
            }
            Err(error) => error.to_string(),
        };
        assert_eq!(why.is_empty(), starts, "{mechanisms}: {why}");
        assert!(
            starts || (why.contains("listener `ONE`") && why.contains("missing.json")),
            "{why}"
        );
    }
}

/// Keys are not to be too old before anybody looks for new ones.
#[tokio::test]
async fn keys_are_fetched_before_they_are_too_old() {
    let files = Files::new();
    let set = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.jwks.endpoint.url", "file:///missing.json"),
        ("millstream.oauthbearer.jwks.age.max.ms", "3600000"),
    ];
    let why = files.start(&set).await.map(drop).expect_err("it is refused").to_string();
    assert!(why.contains("millstream.oauthbearer.jwks.age.max.ms"), "{why}");
}

#[tokio::test]
async fn what_counts_nowhere_is_refused() {
    let files = Files::new();
    let plain = ("listener.security.protocol.map", "ONE:PLAINTEXT,TWO:PLAINTEXT");
    for (name, value, expected) in [
        ("listener.name.three.ssl.client.auth", "none", "no listener of that name"),
        ("listener.name.ONE.ssl.client.auth", "none", "as they are written there: one, two"),
        ("listener.name.one.ssl.client.auth", "perhaps", "ssl.client.auth"),
        ("listener.name.one.num.partitions", "3", "unknown broker config"),
        ("listener.name.one", "3", "unknown broker config"),
    ] {
        let refused = files.start(&[LISTENERS, plain, (name, value)]).await;
        let why = refused.map(drop).expect_err("it is refused").to_string();
        assert!(why.contains(expected), "{name}: {why}");
    }
    let login = ("listener.security.protocol.map", "ONE:SASL_PLAINTEXT,TWO:PLAINTEXT");
    let tokens = ("listener.name.one.sasl.enabled.mechanisms", "OAUTHBEARER");
    let refused = files.start(&[LISTENERS, login, tokens]).await;
    let why = refused.map(drop).expect_err("it is refused").to_string();
    assert!(why.contains("sasl.oauthbearer.jwks.endpoint.url"), "{why}");
    let login = ("listener.security.protocol.map", "ONE:SASL_PLAINTEXT,TWO:PLAINTEXT");
    let nothing = ("listener.name.one.sasl.enabled.mechanisms", "");
    let refused = files.start(&[LISTENERS, login, nothing]).await;
    let why = refused.map(drop).expect_err("it is refused").to_string();
    assert!(why.contains("nobody could log in at listener `ONE`"), "{why}");
}
