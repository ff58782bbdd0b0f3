//! What somebody tries who wants in, or who wants to keep others out: before and during a handshake and a
//! login, and by names that look like somebody else's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the tests write the files that a server reads")]

#[allow(dead_code, reason = "each test needs a part of it")]
mod raw;

#[allow(dead_code, reason = "each test needs a part of it")]
mod pki;

use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use millstream::{Server, ServerConfig};
use millstream_auth::{
    ClientExchange, Derivation, Exchange, Hash, Mechanism, Nonce, PasswordCheck, Step,
};
use millstream_broker::{Alteration, Upsertion};
use millstream_wire::*;
use pki::{Authority, authority, client};
use raw::Client;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const PASSWORD: &str = "correct horse";
const SHA_256: Mechanism = Mechanism::Scram(Hash::Sha256);
const SHA_512: Mechanism = Mechanism::Scram(Hash::Sha512);

struct World {
    server: Server,
    authority: Authority,
    dir: TempDir,
}

/// A certificate with its key, as PEM; the parts of the name in the order of the certificate.
fn signed(by: &Authority, name: &[(DnType, &str)]) -> String {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.distinguished_name = DistinguishedName::new();
    for (kind, value) in name {
        params.distinguished_name.push(kind.clone(), *value);
    }
    let key = KeyPair::generate().unwrap();
    format!("{}{}", params.signed_by(&key, by).unwrap().pem(), key.serialize_pem())
}

/// A server with all kinds of listeners, where requests need rights, and that knows `alice` and `admin`.
async fn world(settings: &[(&str, &str)]) -> World {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let authority = authority("our authority");
    let file = |name: &str, text: String| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let mut config = ServerConfig { kafka_listen: None, ..ServerConfig::in_memory() };
    let server = signed(&authority, &[(DnType::CommonName, "server")]);
    let (server, trusted) = (file("server.pem", server), file("ca.pem", authority.pem()));
    let all = "PLAINTEXT://127.0.0.1:0,SSL://127.0.0.1:0,SASL_PLAINTEXT://127.0.0.1:0,SASL_SSL://127.0.0.1:0";
    let own = [
        ("listeners", all),
        ("ssl.keystore.location", &*server),
        ("ssl.truststore.location", &*trusted),
        ("ssl.client.auth", "required"),
        ("ssl.principal.mapping.rules", r"RULE:^CN=([^,\\]+)$/$1/"),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
        ("connection.failed.authentication.delay.ms", "0"),
        ("authorizer.class.name", "standard"),
        ("super.users", "User:admin"),
    ];
    for (name, value) in own.iter().chain(settings) {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let server = Server::start(config).await.unwrap();
    for user in ["admin", "alice"] {
        set(&server, user).await.unwrap();
    }
    World { server, authority, dir }
}

/// Gives somebody the password of these tests, for one hash function.
async fn set(server: &Server, user: &str) -> Result<(), String> {
    let salt = vec![7; millstream_auth::SALT_BYTES];
    let derivation = Derivation::new(Hash::Sha256, PASSWORD.as_bytes(), &salt, 4_096);
    let salted_password = derivation.finish();
    let set = Upsertion { hash: Some(Hash::Sha256), iterations: 4_096, salt, salted_password };
    let wanted = vec![(Arc::from(user), Alteration::Set(set))];
    let mut outcomes = server.broker().alter_credentials(wanted).await.unwrap();
    outcomes.remove(user).unwrap().map_err(|error| error.to_string())
}

impl World {
    fn address(&self, listener: &str) -> SocketAddr {
        let found = self.server.kafka_addresses().iter().find(|(name, _)| name == listener);
        found.unwrap().1
    }

    async fn tcp(&self, listener: &str) -> TcpStream {
        TcpStream::connect(self.address(listener)).await.unwrap()
    }

    async fn tls(&self, listener: &str, shows: Option<&str>) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        let connector = TlsConnector::from(client(&self.authority, shows));
        connector.connect(name, self.tcp(listener).await).await.unwrap()
    }

    /// Somebody well-behaved is served, whatever others do.
    async fn serves_others(&self) {
        let mut client = Client::over(self.tls("SASL_SSL", None).await);
        assert_eq!(log_in(&mut client, SHA_256, "admin", PASSWORD).await.0, ErrorCode::None);
        assert_eq!(create_topic(&mut client, "t").await, ErrorCode::None);
        let gone = DeleteTopicsRequest { topic_names: vec!["t".into()], ..Default::default() };
        client.ask(5, gone).await;
    }
}

/// All that comes until the connection ends. A reset is an end, too.
async fn rest(stream: &mut (impl tokio::io::AsyncRead + Unpin)) -> Vec<u8> {
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    rest
}

/// A request's frame: its header, and what comes behind it.
fn frame(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in [api, version] {
        bytes.extend(number.to_be_bytes());
    }
    bytes.extend(7_i32.to_be_bytes());
    bytes.extend((-1_i16).to_be_bytes());
    bytes.extend(body);
    let mut framed = i32::try_from(bytes.len()).unwrap().to_be_bytes().to_vec();
    framed.extend(bytes);
    framed
}

trait Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin {}
impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Stream for S {}

async fn handshake<S: Stream>(client: &mut Client<S>, mechanism: &'static str) -> ErrorCode {
    let request = SaslHandshakeRequest { mechanism: mechanism.into() };
    ErrorCode::or_unknown(client.ask(1, request).await.error_code)
}

/// What comes of a token: the code, the words and the server's token.
async fn token<S: Stream>(client: &mut Client<S>, token: &[u8]) -> (ErrorCode, String, Bytes) {
    let request = SaslAuthenticateRequest { auth_bytes: Bytes::copy_from_slice(token) };
    let answer = client.ask(2, request).await;
    let words = answer.error_message.map(|words| words.to_string()).unwrap_or_default();
    (ErrorCode::or_unknown(answer.error_code), words, answer.auth_bytes)
}

/// A whole login. The last code and words, and after how many tokens.
async fn log_in<S: Stream>(
    client: &mut Client<S>,
    mechanism: Mechanism,
    user: &str,
    password: &str,
) -> (ErrorCode, String, usize) {
    assert_eq!(handshake(client, mechanism.name()).await, ErrorCode::None);
    let mut exchange = ClientExchange::new(mechanism, user, password, Nonce([1; 24]));
    let (mut next, mut tokens) = (exchange.first(), 0);
    loop {
        tokens += 1;
        let (code, words, answer) = token(client, &next).await;
        if code != ErrorCode::None {
            return (code, words, tokens);
        }
        match exchange.answer(&answer).unwrap() {
            Some(more) => next = more,
            None => return (code, words, tokens),
        }
    }
}

async fn create_topic<S: Stream>(client: &mut Client<S>, name: &'static str) -> ErrorCode {
    let topic = create_topics_request::CreatableTopic {
        name: name.into(),
        num_partitions: 1,
        replication_factor: 1,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    ErrorCode::or_unknown(client.ask(7, request).await.topics[0].error_code)
}

// ---- before the login

/// A stranger says that he is called as somebody's clients are: what he asks before he has logged in is not charged to
/// them.
#[tokio::test]
async fn a_stranger_uses_up_nobodys_quota() {
    use alter_client_quotas_request::{EntityData, EntryData, OpData};
    let world = world(&[]).await;
    let mut admin = Client::over(world.tls("SASL_SSL", None).await);
    assert_eq!(log_in(&mut admin, SHA_256, "admin", PASSWORD).await.0, ErrorCode::None);
    let entity = EntityData { entity_type: "client-id".into(), entity_name: Some("c".into()) };
    // So little that any request is too much.
    let op = OpData { key: "request_percentage".into(), value: 1e-6, remove: false };
    let entries = vec![EntryData { entity: vec![entity], ops: vec![op] }];
    let altered = admin.ask(1, AlterClientQuotasRequest { entries, validate_only: false }).await;
    assert_eq!(altered.entries[0].error_code, 0, "{altered:?}");
    let mut stranger = Client::over(world.tcp("SASL_PLAINTEXT").await);
    for _ in 0..20 {
        let answer = stranger.ask(1, ApiVersionsRequest::default()).await;
        assert_eq!(answer.throttle_time_ms, 0, "he has used up what is not his");
    }
    // Who need not log in is known.
    let mut known = Client::over(world.tcp("PLAINTEXT").await);
    let answer = known.ask(1, ApiVersionsRequest::default()).await;
    assert!(answer.throttle_time_ms > 0, "the quota is obeyed");
    world.server.stop().await;
}

/// Every API in every version, and some that there are not; what is in the request does not matter.
#[tokio::test]
async fn nothing_is_served_before_the_login_and_nothing_is_told() {
    let world = world(&[]).await;
    let open = [ApiKey::ApiVersions, ApiKey::SaslHandshake, ApiKey::SaslAuthenticate];
    let served = millstream::served().iter().filter(|served| !open.contains(&served.api));
    let mut asks: Vec<(i16, i16)> = served
        .flat_map(|served| served.versions.clone().map(move |version| (served.api.code(), version)))
        .collect();
    asks.extend([
        (-1, 0),
        (i16::MAX, 0),
        (i16::MIN, i16::MIN),
        (0, 0),
        (3, 99),
        (36, 99),
        (17, -1),
    ]);
    for (api, version) in asks {
        for has_begun in [false, true] {
            let mut stream = world.tcp("SASL_PLAINTEXT").await;
            if has_begun {
                let mut client = Client::over(&mut stream);
                assert_eq!(handshake(&mut client, "PLAIN").await, ErrorCode::None);
            }
            stream.write_all(&frame(api, version, &[0xff; 40])).await.unwrap();
            assert_eq!(rest(&mut stream).await, b"", "API {api} version {version}");
        }
    }
    world.serves_others().await;
    world.server.stop().await;
}

/// What comes behind a login that fails is not looked at, even if it came in the same packet.
#[tokio::test]
async fn nothing_is_served_behind_a_login_that_fails() {
    let world = world(&[]).await;
    for wrong in [&b"\0admin\0wrong"[..], b"\0nobody\0correct horse", b"\0", b""] {
        let mut stream = world.tcp("SASL_PLAINTEXT").await;
        let mut client = Client::over(&mut stream);
        assert_eq!(handshake(&mut client, "PLAIN").await, ErrorCode::None);
        let request = SaslAuthenticateRequest { auth_bytes: Bytes::copy_from_slice(wrong) };
        let mut all = encode_request(&request, 0, 1, None).unwrap().concat();
        all.extend(encode_request(&MetadataRequest::default(), 1, 2, None).unwrap().concat());
        stream.write_all(&all).await.unwrap();
        let answers = rest(&mut stream).await;
        let first = usize::try_from(i32::from_be_bytes(*answers.first_chunk().unwrap())).unwrap();
        assert_eq!(answers.len(), 4 + first, "one answer, and no other");
    }
    world.server.stop().await;
}

/// Lengths that are not true, tokens that are too long or none, frames that never end.
#[tokio::test]
async fn malformed_logins_cost_the_connection_alone() {
    let world = world(&[]).await;
    let bare = |body: &[u8]| [frame(17, 0, b"\0\x05PLAIN"), body.to_vec()].concat();
    let large = vec![b'x'; 8_100];
    let of_bytes =
        |length: i32, bytes: &[u8]| frame(36, 0, &[&length.to_be_bytes()[..], bytes].concat());
    let begun = |then: Vec<u8>| [frame(17, 1, b"\0\x05PLAIN"), then].concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a frame of 2 GiB", i32::MAX.to_be_bytes().to_vec()),
        ("a frame of less than nothing", i32::MIN.to_be_bytes().to_vec()),
        ("a frame just too large", 8_193_i32.to_be_bytes().to_vec()),
        ("a frame without anything", 0_i32.to_be_bytes().to_vec()),
        ("a header cut off", vec![0, 0, 0, 3, 0, 17, 0]),
        ("a mechanism cut off", frame(17, 1, b"\0\x7fPLAIN")),
        ("a mechanism of less than no bytes", frame(17, 1, b"\xff\xff")),
        ("a mechanism that is no text", frame(17, 1, b"\0\x02\xff\xfe")),
        ("a mechanism that is large", frame(17, 1, &[&[0x1f, 0xa4], &large[..]].concat())),
        ("a token that says to be of 2 GiB", begun(of_bytes(i32::MAX, b"\0alice\0x"))),
        ("a token of less than no bytes", begun(of_bytes(-1, b""))),
        ("a token that is large", begun(of_bytes(8_100, &large))),
        ("a token with more behind it", begun(of_bytes(1, b"\0alice\0x"))),
        ("a bare token just too large", bare(&8_193_i32.to_be_bytes())),
        ("a bare token of less than nothing", bare(&(-5_i32).to_be_bytes())),
        ("a bare token of nothing", bare(&0_i32.to_be_bytes())),
        ("a request instead of a bare token", bare(&frame(3, 1, &[0; 4]))),
        ("TLS where there is none", b"\x16\x03\x01\x00\x80\x01\x00\x00\x7c\x03\x03".to_vec()),
        ("a page's request", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
    ];
    for (what, bytes) in cases {
        let mut stream = world.tcp("SASL_PLAINTEXT").await;
        stream.write_all(&bytes).await.unwrap();
        let answers = rest(&mut stream).await;
        assert!(!answers.windows(100).any(|part| part == &large[..100]), "{what}: it comes back");
        assert!(answers.len() < 500, "{what}: {} bytes", answers.len());
    }
    world.serves_others().await;
    world.server.stop().await;
}

// ---- the handshake of TLS

/// What a client begins with.
fn hello(config: Arc<ClientConfig>) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(config, name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

#[tokio::test]
async fn handshakes_that_are_cut_off_or_changed_end_alone() {
    let world = world(&[]).await;
    let hello = hello(client(&world.authority, None));
    for listener in ["SSL", "SASL_SSL"] {
        for cut in (0..hello.len()).step_by(7) {
            let mut stream = world.tcp(listener).await;
            stream.write_all(&hello[..cut]).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(rest(&mut stream).await, b"", "cut off after {cut} bytes");
        }
        for at in 0..60 {
            let mut changed = hello.clone();
            changed[at] ^= 0x55;
            let mut stream = world.tcp(listener).await;
            stream.write_all(&changed).await.unwrap();
            stream.shutdown().await.unwrap();
            // Refused by an alert, or gone on with until the client is gone.
            rest(&mut stream).await;
        }
    }
    world.serves_others().await;
    world.server.stop().await;
}

/// A message that says to be of 16 MiB, and records that never end it: given up long before.
#[tokio::test]
async fn a_handshake_message_without_end_is_not_collected() {
    let world = world(&[]).await;
    let mut record = vec![0x16, 3, 1, 0x40, 0];
    record.extend([0x01, 0xff, 0xff, 0xff]);
    record.extend([0; 0x4000 - 4]);
    let mut more = vec![0x16, 3, 1, 0x40, 0];
    more.extend([0; 0x4000]);
    for record_too_long in [false, true] {
        let mut stream = world.tcp("SSL").await;
        if record_too_long {
            record[3..5].copy_from_slice(&[0x48, 1]);
        }
        let mut sent = stream.write_all(&record).await;
        // 16 MiB would be a thousand of them.
        let mut records = 0;
        while sent.is_ok() && records < 1_000 {
            sent = stream.write_all(&more).await;
            records += 1;
        }
        assert!(records < 1_000, "it has taken all of it");
        let alert = rest(&mut stream).await;
        assert!(alert.is_empty() || alert.starts_with(&[21, 3, 3]), "{alert:?}");
    }
    world.serves_others().await;
    world.server.stop().await;
}

/// Whoever only connects takes no more places than an address may have, and gives them back.
#[tokio::test]
async fn those_who_never_shake_hands_or_log_in_are_few() {
    let world = world(&[("max.connections.per.ip", "4")]).await;
    let mut waits = Vec::new();
    for (listener, says) in [
        ("SSL", &b""[..]),
        ("SASL_SSL", b"\x16\x03\x01\x02"),
        ("SASL_PLAINTEXT", b""),
        ("PLAINTEXT", b"\0"),
    ] {
        let mut stream = world.tcp(listener).await;
        stream.write_all(says).await.unwrap();
        waits.push(stream);
    }
    for listener in ["SSL", "SASL_SSL", "SASL_PLAINTEXT", "PLAINTEXT"] {
        assert_eq!(rest(&mut world.tcp(listener).await).await, b"", "{listener}: one too many");
    }
    drop(waits.pop());
    // When the server has seen that the place is free.
    loop {
        let mut stream = world.tcp("SASL_PLAINTEXT").await;
        let ask = encode_request(&ApiVersionsRequest::default(), 0, 1, None).unwrap().concat();
        if stream.write_all(&ask).await.is_ok() && stream.read_i32().await.is_ok() {
            break;
        }
    }
    world.server.stop().await;
}

// ---- logins that were overheard or changed

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// A login by SCRAM-SHA-256 as somebody carries it out who knows the password, and changes what is sent.
struct Forger {
    user: &'static str,
    header: &'static str,
}

impl Forger {
    /// The server's answers to both messages; `change` makes the last one of what belongs there: the nonce, and a
    /// function that proves what stands before the proof.
    async fn try_it(
        &self,
        world: &World,
        change: impl Fn(&str, &dyn Fn(&str) -> String) -> String,
    ) -> (ErrorCode, String) {
        let mut client = Client::over(world.tcp("SASL_PLAINTEXT").await);
        assert_eq!(handshake(&mut client, "SCRAM-SHA-256").await, ErrorCode::None);
        let bare = format!("n={},r=abc", self.user);
        let (code, words, challenge) =
            token(&mut client, format!("{}{bare}", self.header).as_bytes()).await;
        if code != ErrorCode::None {
            return (code, words);
        }
        let challenge = String::from_utf8(challenge.to_vec()).unwrap();
        let mut parts = challenge.split(',').map(|part| part[2..].to_owned());
        let (nonce, salt, _) = (parts.next().unwrap(), parts.next().unwrap(), parts.next());
        let salt = BASE64.decode(salt).unwrap();
        let prove = |without_proof: &str| {
            let salted = Derivation::new(Hash::Sha256, PASSWORD.as_bytes(), &salt, 4_096).finish();
            let key = hmac(&salted, b"Client Key");
            let said = format!("{bare},{challenge},{without_proof}");
            let signature = hmac(&Sha256::digest(&key), said.as_bytes());
            let proof: Vec<_> = key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
            format!("{without_proof},p={}", BASE64.encode(proof))
        };
        let (code, words, _) = token(&mut client, change(&nonce, &prove).as_bytes()).await;
        (code, words)
    }
}

/// The last message of SCRAM, changed by somebody who can even prove what he has changed it to; of a user that
/// there is, and of one that there is not.
#[tokio::test]
async fn changed_scram_messages_are_refused_and_tell_nothing() {
    type Change = fn(&str, &dyn Fn(&str) -> String) -> String;
    let right: Change = |nonce, prove| prove(&format!("c=biws,r={nonce}"));
    let changes: [(&str, Change); 14] = [
        ("channel binding by another flag", |nonce, prove| prove(&format!("c=eSws,r={nonce}"))),
        ("channel binding", |nonce, prove| prove(&format!("c=cD10bHMtdW5pcXVlLCw=,r={nonce}"))),
        ("no channel binding", |nonce, prove| prove(&format!("r={nonce}"))),
        ("another order", |nonce, prove| prove(&format!("r={nonce},c=biws"))),
        ("the client's part of the nonce", |_, prove| prove("c=biws,r=abc")),
        ("the server's part of the nonce", |nonce, prove| {
            prove(&format!("c=biws,r={}", &nonce[3..]))
        }),
        ("a longer nonce", |nonce, prove| prove(&format!("c=biws,r={nonce}x"))),
        ("another nonce", |nonce, prove| prove(&format!("c=biws,r=abd{}", &nonce[3..]))),
        ("its part of the nonce three times", |nonce, prove| {
            prove(&format!("c=biws,r=abcabc{nonce}"))
        }),
        ("another before the nonce", |nonce, prove| prove(&format!("c=biws,r=abd{nonce}"))),
        ("two nonces", |nonce, prove| prove(&format!("c=biws,r=abc,r={nonce}"))),
        ("no proof", |nonce, _| format!("c=biws,r={nonce}")),
        ("an empty proof", |nonce, _| format!("c=biws,r={nonce},p=")),
        ("a proof of what was not sent", |nonce, prove| {
            prove(&format!("c=biws,r={nonce}")).replace("c=biws", "c=biws,x=y")
        }),
    ];
    let world = world(&[]).await;
    let forger = |user| Forger { user, header: "n,," };
    assert_eq!(forger("alice").try_it(&world, right).await.0, ErrorCode::None, "unchanged");
    // As librdkafka did for years.
    let doubled: Change = |nonce, prove| prove(&format!("c=biws,r=abc{nonce}"));
    assert_eq!(forger("alice").try_it(&world, doubled).await.0, ErrorCode::None, "doubled");
    for (what, change) in changes {
        let (code, words) = forger("alice").try_it(&world, change).await;
        assert_eq!(code, ErrorCode::SaslAuthenticationFailed, "{what}");
        let of_nobody = forger("nobody").try_it(&world, change).await;
        assert_eq!((code, words), of_nobody, "{what}: it tells who there is");
    }
    // The first message.
    for (header, user, expected) in [
        ("y,,", "alice", ErrorCode::None),
        ("p=tls-exporter,,", "alice", ErrorCode::SaslAuthenticationFailed),
        ("n,a=admin,", "alice", ErrorCode::SaslAuthenticationFailed),
        ("n,a=alice,", "alice", ErrorCode::None),
        ("", "alice", ErrorCode::SaslAuthenticationFailed),
        ("n,,m=x,", "alice", ErrorCode::SaslAuthenticationFailed),
        ("n,,", "alice,n=admin", ErrorCode::SaslAuthenticationFailed),
    ] {
        let binding = BASE64.encode(header);
        let forger = Forger { user, header };
        let (code, _) =
            forger.try_it(&world, |nonce, prove| prove(&format!("c={binding},r={nonce}"))).await;
        assert_eq!(code, expected, "{header}n={user}");
    }
    world.server.stop().await;
}

/// What was overheard of a login, in plain text, is of no use: not on another connection, not again on the same.
#[tokio::test]
async fn an_overheard_login_is_of_no_use() {
    let world = world(&[("connections.max.reauth.ms", "3600000")]).await;
    let mut overheard = Vec::new();
    let mut client = Client::over(world.tcp("SASL_PLAINTEXT").await);
    assert_eq!(handshake(&mut client, "SCRAM-SHA-256").await, ErrorCode::None);
    let mut exchange = ClientExchange::new(SHA_256, "alice", PASSWORD, Nonce([1; 24]));
    let mut next = Some(exchange.first());
    while let Some(message) = next {
        let (code, _, answer) = token(&mut client, &message).await;
        assert_eq!(code, ErrorCode::None);
        overheard.push(message);
        next = exchange.answer(&answer).unwrap();
    }
    let on_another = Client::over(world.tcp("SASL_PLAINTEXT").await);
    for mut client in [on_another, client] {
        assert_eq!(handshake(&mut client, "SCRAM-SHA-256").await, ErrorCode::None);
        assert_eq!(token(&mut client, &overheard[0]).await.0, ErrorCode::None);
        let (code, words, _) = token(&mut client, &overheard[1]).await;
        assert_eq!(code, ErrorCode::SaslAuthenticationFailed);
        assert!(words.contains("another login"), "{words}");
    }
    world.server.stop().await;
}

/// How much hashing it takes until it is clear that a password is wrong.
fn rounds(check: &mut PasswordCheck) -> u32 {
    (1..).find(|_| check.advance(1).is_some()).unwrap()
}

/// Nobody learns by a refusal who there is: neither from what is said, nor from how much is said or worked.
#[tokio::test]
async fn refusals_do_not_tell_who_there_is() {
    let world = world(&[]).await;
    for mechanism in [Mechanism::Plain, SHA_256, SHA_512] {
        let mut said = Vec::new();
        for (user, password) in [
            ("alice", "wrong"),
            ("nobody", "wrong"),
            ("nobody", PASSWORD),
            ("ANONYMOUS", "wrong"),
            ("*", "wrong"),
        ] {
            let mut client = Client::over(world.tcp("SASL_PLAINTEXT").await);
            said.push(log_in(&mut client, mechanism, user, password).await);
        }
        assert_eq!(said[0].0, ErrorCode::SaslAuthenticationFailed);
        said.dedup();
        assert_eq!(said.len(), 1, "{mechanism}: {said:?}");
    }
    // By a hash function for which she has no password.
    let mut client = Client::over(world.tcp("SASL_PLAINTEXT").await);
    let without = log_in(&mut client, SHA_512, "alice", PASSWORD).await;
    assert_eq!(without.0, ErrorCode::SaslAuthenticationFailed);
    let work = |user: &str| {
        let message = format!("\0{user}\0wrong");
        world.server.broker().users(|users| {
            match Exchange::new(Mechanism::Plain, Nonce([1; 24])).step(message.as_bytes(), users) {
                Step::Check(mut check) => rounds(&mut check),
                other => panic!("{other:?}"),
            }
        })
    };
    assert_eq!(work("alice"), work("nobody"));
    world.server.stop().await;
}

// ---- names

/// Names in certificates that could be taken for somebody else's. The authority that is trusted has signed all of
/// them; what it has not said is that they are the administrator.
#[tokio::test]
async fn nobody_becomes_an_administrator_by_his_certificate() {
    use DnType::{CommonName as Cn, OrganizationalUnitName as Ou};
    let wide = r"RULE:^.*CN=([^,]+?)(,.*)?$/$1/,DEFAULT";
    let strict = r"RULE:^CN=([^,\\]+)$/$1/";
    let (refused, denied) = (None, Some(ErrorCode::TopicAuthorizationFailed));
    for (rules, name, expected) in [
        (strict, &[(Cn, "admin")][..], Some(ErrorCode::None)),
        (strict, &[(Cn, "Admin")], denied),
        (strict, &[(Cn, "admin ")], refused),
        (strict, &[(Cn, " admin")], refused),
        (strict, &[(Cn, "admin,OU=x")], refused),
        (strict, &[(Cn, "x,CN=admin")], refused),
        (strict, &[(Cn, "admin\\")], refused),
        (strict, &[(Cn, "admin\0")], refused),
        (strict, &[(Cn, "admin\n")], refused),
        (strict, &[(Cn, "\u{ff41}dmin")], denied),
        (strict, &[(Cn, "User:admin")], denied),
        (strict, &[(Cn, "x;User:admin")], refused),
        (strict, &[(Cn, "ANONYMOUS")], refused),
        (strict, &[(Cn, "*")], refused),
        (strict, &[(Ou, "CN=admin")], refused),
        (strict, &[(Cn, "eve"), (Ou, "admin")], refused),
        (strict, &[], refused),
        // Rules that are written with less care.
        (wide, &[(Cn, "x,CN=admin")], refused),
        (wide, &[(Cn, "admin,O=x")], refused),
        ("DEFAULT", &[(Cn, "admin")], denied),
        ("DEFAULT", &[(Cn, "ANONYMOUS")], denied),
        ("RULE:^CN=(.*)$/$1/L", &[(Cn, "ADMIN")], Some(ErrorCode::None)),
        ("RULE:^CN=(.*)$/$1/L", &[(Cn, "adm\u{130}n")], refused),
        ("RULE:^CN=(.*)$/$1/U", &[(Cn, "anonymous")], refused),
    ] {
        let world = world(&[("ssl.principal.mapping.rules", rules)]).await;
        let shown = signed(&world.authority, name);
        let mut stream = world.tls("SSL", Some(&shown)).await;
        // With TLS 1.3 a client believes that it is in until it reads.
        let ask = encode_request(&ApiVersionsRequest::default(), 0, 1, None).unwrap().concat();
        let asked = stream.write_all(&ask).await.is_ok() && stream.flush().await.is_ok();
        let answer = if asked { stream.read_i32().await.ok() } else { None };
        let outcome = match answer {
            None => None,
            Some(length) => {
                let mut answer = vec![0; usize::try_from(length).unwrap()];
                stream.read_exact(&mut answer).await.unwrap();
                Some(create_topic(&mut Client::over(stream), "t").await)
            }
        };
        assert_eq!(outcome, expected, "{rules} {name:?}");
        world.server.stop().await;
        drop(world.dir);
    }
}

/// Nobody is called like somebody else, nor like those who have not said who they are.
#[tokio::test]
async fn nobody_becomes_somebody_else_by_the_name_of_a_user() {
    // Who has not said who he is may do everything here: whoever has says so in vain.
    let world = world(&[("super.users", "User:admin;User:ANONYMOUS")]).await;
    let mut client = Client::over(world.tcp("PLAINTEXT").await);
    assert_eq!(create_topic(&mut client, "t1").await, ErrorCode::None);
    for name in ["ANONYMOUS", "*"] {
        let refused = set(&world.server, name).await.unwrap_err();
        assert!(refused.contains("stands for others"), "{refused}");
    }
    let upsertion = alter_user_scram_credentials_request::ScramCredentialUpsertion {
        name: "ANONYMOUS".into(),
        mechanism: 1,
        iterations: 4_096,
        salt: Bytes::from_static(b"salt"),
        salted_password: Bytes::from(vec![1; 32]),
    };
    let request =
        AlterUserScramCredentialsRequest { upsertions: vec![upsertion], ..Default::default() };
    let answer = client.ask(0, request).await;
    assert_eq!(answer.results[0].error_code, ErrorCode::UnacceptableCredential.code());
    for name in [
        "anonymous",
        "User:ANONYMOUS",
        "User:admin",
        "admin ",
        "Admin",
        "\u{ff41}dmin",
        "x;User:admin",
    ] {
        set(&world.server, name).await.unwrap();
        let mut client = Client::over(world.tcp("SASL_PLAINTEXT").await);
        assert_eq!(log_in(&mut client, SHA_256, name, PASSWORD).await.0, ErrorCode::None);
        let made = create_topic(&mut client, "t2").await;
        assert_eq!(made, ErrorCode::TopicAuthorizationFailed, "{name}");
    }
    world.server.stop().await;
}
