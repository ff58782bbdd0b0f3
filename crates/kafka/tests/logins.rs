//! Logins as clients meet them, over a broker in memory whose time stands still.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use millstream_auth::Expected;
use millstream_auth::{ClientExchange, Derivation, Hash, Mechanism, Nonce, TokenHmac};
use millstream_broker::acl::{
    Binding, Draft, Filter, Operation, PatternType, Permission, ResourceType,
};
use millstream_broker::config::SecurityProtocol;
use millstream_broker::quota::{Change, Entity, Name};
use millstream_broker::{Alteration, Broker, Node, Stores, Upsertion};
use millstream_client::{Address, Connection, ConnectionSettings, LoginSettings};
use millstream_env::{DataDir, Env, HandClock, JournalSettings};
use millstream_kafka::{Door, Listener};
use millstream_oauth::{Issuer, IssuerSettings, Place, Signer};
use millstream_types::BrokerId;
use millstream_wire::create_delegation_token_request::CreatableRenewers;
use millstream_wire::create_topics_request::CreatableTopic;
use millstream_wire::describe_delegation_token_request::DescribeDelegationTokenOwner;
use millstream_wire::{
    ApiVersionsRequest, CreateDelegationTokenRequest, CreateDelegationTokenResponse,
    CreateTopicsRequest, DescribeDelegationTokenRequest, ErrorCode, ExpireDelegationTokenRequest,
    ExpireDelegationTokenResponse, Message as _, MetadataRequest, Reader,
    RenewDelegationTokenRequest, RenewDelegationTokenResponse, Request, ResponseHeader,
    SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest, SaslHandshakeResponse,
    StrBytes, encode_request,
};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

const SHA_256: Mechanism = Mechanism::Scram(Hash::Sha256);
const SHA_512: Mechanism = Mechanism::Scram(Hash::Sha512);
const PASSWORD: &str = "pencil";
/// `connection.failed.authentication.delay.ms`.
const DELAY: Duration = Duration::from_millis(100);

struct World {
    broker: Broker,
    clock: Arc<HandClock>,
    door: Door,
    issuer: Option<Arc<Issuer>>,
}

/// A broker that knows Alice by both hash functions, and Bob by SHA-256.
async fn world(settings: &[(&str, &str)]) -> World {
    world_trusting(None, settings).await
}

/// The same, which takes tokens of an issuer, too.
async fn world_trusting(issuer: Option<&Signer>, settings: &[(&str, &str)]) -> World {
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
    let all = ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER");
    let settings: BTreeMap<_, _> = std::iter::once(&all)
        .chain(settings)
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let broker = Broker::start(env.clone(), node, stores, settings).await.unwrap();
    for (user, hash) in [("alice", Hash::Sha256), ("alice", Hash::Sha512), ("bob", Hash::Sha256)] {
        let salt = b"salt".to_vec();
        let derivation = Derivation::new(hash, PASSWORD.as_bytes(), &salt, 4_096);
        let salted_password = derivation.finish();
        let set = Upsertion { hash: Some(hash), iterations: 4_096, salt, salted_password };
        let wanted = vec![(Arc::from(user), Alteration::Set(set))];
        let outcomes = broker.alter_credentials(wanted).await.unwrap();
        assert!(outcomes.values().all(Result::is_ok));
    }
    let issuer = match issuer {
        Some(signer) => Some(trust(signer, &env).await),
        None => None,
    };
    let door = Door::new(broker.clone(), &mut Registry::default());
    World { broker, clock, door, issuer }
}

/// Trust in the tokens of `signer`, made for anybody.
async fn trust(signer: &Signer, env: &Env) -> Arc<Issuer> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    #[expect(clippy::disallowed_methods, reason = "a file of the test")]
    std::fs::write(&path, signer.key_set()).unwrap();
    let expected = Expected {
        issuer: None,
        audiences: Vec::new(),
        skew: Duration::ZERO,
        subject_claim: "sub".to_owned(),
        scope_claim: "scope".to_owned(),
    };
    let (refresh, retry, retry_max) = Default::default();
    let (place, trust_store) = (Place::File(path), None);
    let age_max = Duration::MAX;
    let settings =
        IssuerSettings { place, refresh, retry, retry_max, age_max, trust_store, expected };
    // The folder is not needed again: nobody fetches keys a second time.
    Issuer::open(settings, env.clone()).await.unwrap()
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

/// A client's connection.
struct Peer(DuplexStream);

impl World {
    /// A connection whose client has to log in.
    fn connect(&self) -> Peer {
        let (ours, theirs) = tokio::io::duplex(64 * 1024);
        let told = ("in-memory".to_owned(), 0);
        let protocol = SecurityProtocol::SaslPlaintext;
        let at = Listener::new("SASL_PLAINTEXT", protocol, told, None).unwrap();
        let at = match &self.issuer {
            Some(issuer) => at.trusting(Arc::clone(issuer)),
            None => at,
        };
        self.door.take_at(ours, &Arc::new(at));
        Peer(theirs)
    }

    /// A connection whose client is logged in.
    async fn logged_in(&self, mechanism: Mechanism, user: &str) -> Peer {
        let mut peer = self.connect();
        let answer = peer.log_in(mechanism, user, PASSWORD).await;
        assert_eq!(code(answer.error_code), ErrorCode::None, "{answer:?}");
        peer
    }
}

fn code(code: i16) -> ErrorCode {
    ErrorCode::or_unknown(code)
}

impl Peer {
    async fn send(&mut self, frame: &[u8]) {
        let length = i32::try_from(frame.len()).unwrap();
        self.0.write_all(&length.to_be_bytes()).await.unwrap();
        self.0.write_all(frame).await.unwrap();
    }

    /// The next answer, without its length; `None` when the connection has ended.
    async fn frame(&mut self) -> Option<Bytes> {
        let length = self.0.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut frame).await.unwrap();
        Some(Bytes::from(frame))
    }

    async fn begin<R: Request>(&mut self, version: i16, request: &R) {
        for segment in encode_request(request, version, 7, Some("c".into())).unwrap() {
            self.0.write_all(&segment).await.unwrap();
        }
    }

    /// The answer to a request; `None` when the connection has ended.
    async fn answer<R: Request>(&mut self, version: i16) -> Option<R::Response> {
        let frame = self.frame().await?;
        let mut reader = Reader::new(&frame);
        let header = ResponseHeader::decode(&mut reader, R::response_header_version(version));
        assert_eq!(header.unwrap().correlation_id, 7);
        let response = R::Response::decode(&mut reader, version).unwrap();
        assert_eq!(reader.remaining(), 0);
        Some(response)
    }

    async fn ask<R: Request>(&mut self, version: i16, request: &R) -> Option<R::Response> {
        self.begin(version, request).await;
        self.answer::<R>(version).await
    }

    async fn handshake(&mut self, name: &'static str, version: i16) -> SaslHandshakeResponse {
        let request = SaslHandshakeRequest { mechanism: name.into() };
        self.ask(version, &request).await.expect("an answer")
    }

    async fn token(&mut self, token: Vec<u8>) -> Option<SaslAuthenticateResponse> {
        let request = SaslAuthenticateRequest { auth_bytes: Bytes::from(token) };
        self.ask(2, &request).await
    }

    /// A whole login; the last answer to it, which must come without delay.
    async fn log_in(
        &mut self,
        mechanism: Mechanism,
        user: &str,
        password: &str,
    ) -> SaslAuthenticateResponse {
        let begun = self.handshake(mechanism.name(), 1).await;
        assert_eq!(code(begun.error_code), ErrorCode::None);
        let mut client = ClientExchange::new(mechanism, user, password, Nonce([1; 24]));
        let mut token = client.first();
        loop {
            let answer = self.token(token).await.expect("an answer");
            if answer.error_code != 0 {
                return answer;
            }
            match client.answer(&answer.auth_bytes).expect("the server is trusted") {
                Some(next) => token = next,
                None => return answer,
            }
        }
    }

    /// Whether requests are served.
    async fn is_served(&mut self) -> bool {
        self.ask(12, &MetadataRequest::default()).await.is_some()
    }
}

#[tokio::test]
async fn a_client_that_has_logged_in_is_served() {
    let world = world(&[]).await;
    for (mechanism, user) in [
        (Mechanism::Plain, "alice"),
        (Mechanism::Plain, "bob"),
        (SHA_256, "alice"),
        (SHA_256, "bob"),
        (SHA_512, "alice"),
    ] {
        let mut peer = world.connect();
        let logged_in = soon(peer.log_in(mechanism, user, PASSWORD)).await.expect("no delay");
        assert_eq!(code(logged_in.error_code), ErrorCode::None, "{mechanism} {user}");
        assert_eq!(logged_in.session_lifetime_ms, 0);
        assert!(peer.is_served().await, "{mechanism} {user}");
    }
}

/// Pitfall 25.
#[tokio::test]
async fn a_user_logs_in_by_either_hash_function() {
    let world = world(&[]).await;
    for mechanism in [SHA_256, SHA_512] {
        let mut peer = world.logged_in(mechanism, "alice").await;
        assert!(peer.is_served().await, "{mechanism}");
    }
    let held: Vec<_> = world.broker.credentials().remove("alice").unwrap();
    assert_eq!(held.iter().map(|held| held.hash).collect::<Vec<_>>(), Hash::ALL);
}

/// Whoever it is who is refused, and for whatever reason, it takes the same time, and the connection ends.
#[tokio::test]
async fn who_does_not_know_the_password_is_refused_after_a_while() {
    let world = world(&[]).await;
    let mut said = Vec::new();
    for (mechanism, user, password) in [
        (Mechanism::Plain, "alice", "pen"),
        (Mechanism::Plain, "nobody", PASSWORD),
        (SHA_256, "alice", "pen"),
        (SHA_256, "nobody", PASSWORD),
        (SHA_512, "bob", PASSWORD),
    ] {
        let mut peer = world.connect();
        let refused = {
            let mut refused = Box::pin(peer.log_in(mechanism, user, password));
            assert!(soon(&mut refused).await.is_none(), "{mechanism} {user}: no delay");
            world.clock.advance(DELAY - Duration::from_millis(1));
            assert!(soon(&mut refused).await.is_none(), "{mechanism} {user}: too little");
            world.clock.advance(Duration::from_millis(1));
            soon(refused).await.expect("the delay is over")
        };
        assert_eq!(code(refused.error_code), ErrorCode::SaslAuthenticationFailed);
        assert_eq!(refused.auth_bytes, Bytes::new());
        said.push(refused.error_message.unwrap());
        assert_eq!(soon(peer.frame()).await, Some(None), "the connection ends");
    }
    said.dedup();
    assert_eq!(said.len(), 1, "{said:?}");
}

/// Pitfall 5: what there is can be asked before the login, and is the same then; nothing else can.
#[tokio::test]
async fn only_what_there_is_can_be_asked_before_the_login() {
    let world = world(&[]).await;
    let asks = ApiVersionsRequest {
        client_software_name: "test".into(),
        client_software_version: "1".into(),
        ..ApiVersionsRequest::default()
    };
    let mut peer = world.connect();
    let before = peer.ask(4, &asks).await.expect("an answer").api_keys;
    assert!(before.len() > 20);
    peer.log_in(SHA_256, "alice", PASSWORD).await;
    let after = peer.ask(4, &asks).await.expect("an answer").api_keys;
    assert_eq!(before, after);
    let mut without = Peer(world.door.connect());
    assert_eq!(without.ask(4, &asks).await.expect("an answer").api_keys, before);
    // A version that is too new is answered, too.
    let mut peer = world.connect();
    peer.send(&[0, 18, 0, 99, 0, 0, 0, 7, 0, 1, b'c', 0]).await;
    assert!(peer.frame().await.is_some());
    // Everything else ends the connection, without a look at what is in it.
    for ask in [0_u8, 1, 3, 10, 22, 60, 50, 51] {
        let mut peer = world.connect();
        peer.send(&[0, ask, 0, 1, 0, 0, 0, 7, 0, 1, b'c', 0xff, 0xff, 0xff, 0xff]).await;
        assert_eq!(soon(peer.frame()).await, Some(None), "API {ask}");
    }
    let mut peer = world.connect();
    assert!(!peer.is_served().await);
    // In the midst of a login, too.
    let mut peer = world.connect();
    peer.handshake(SHA_256.name(), 1).await;
    assert!(!peer.is_served().await);
}

#[tokio::test]
async fn a_mechanism_that_is_not_offered_is_refused() {
    let world = world(&[("sasl.enabled.mechanisms", "SCRAM-SHA-512")]).await;
    for name in ["PLAIN", "SCRAM-SHA-256", "GSSAPI", "scram-sha-512", ""] {
        let mut peer = world.connect();
        let refused = {
            let mut refused = Box::pin(peer.handshake(name, 1));
            assert!(soon(&mut refused).await.is_none(), "{name}: no delay");
            world.clock.advance(DELAY);
            soon(refused).await.expect("the delay is over")
        };
        assert_eq!(code(refused.error_code), ErrorCode::UnsupportedSaslMechanism, "{name}");
        assert_eq!(refused.mechanisms, [StrBytes::from("SCRAM-SHA-512")]);
        assert_eq!(soon(peer.frame()).await, Some(None), "{name}: the connection ends");
    }
    let mut peer = world.logged_in(SHA_512, "alice").await;
    assert!(peer.is_served().await);
}

/// Logs in with bare tokens. Whether the connection is served then.
async fn with_bare_tokens(world: &World, mechanism: Mechanism, password: &str) -> Option<bool> {
    let mut peer = world.connect();
    let begun = peer.handshake(mechanism.name(), 0).await;
    assert_eq!(code(begun.error_code), ErrorCode::None);
    let mut client = ClientExchange::new(mechanism, "alice", password, Nonce([1; 24]));
    let mut token = client.first();
    loop {
        peer.send(&token).await;
        let answer = soon(peer.frame()).await?;
        match client.answer(&answer?).expect("the server is trusted") {
            Some(next) => token = next,
            None => return Some(peer.is_served().await),
        }
    }
}

/// Pitfall 71: after version 0 of the handshake tokens have no request around them, after version 1 they do.
#[tokio::test]
async fn both_versions_of_the_handshake_lead_to_a_login() {
    let world = world(&[]).await;
    for mechanism in Mechanism::OF_PASSWORDS {
        assert_eq!(with_bare_tokens(&world, mechanism, PASSWORD).await, Some(true), "{mechanism}");
        // There is no way to say why: the connection ends, after the same delay.
        assert_eq!(with_bare_tokens(&world, mechanism, "wrong").await, None, "{mechanism}");
        let mut peer = world.logged_in(mechanism, "alice").await;
        assert!(peer.is_served().await);
    }
    let mut peer = world.connect();
    peer.handshake("PLAIN", 0).await;
    peer.send(b"\0alice\0wrong").await;
    assert_eq!(soon(peer.frame()).await, None, "not yet");
    world.clock.advance(DELAY);
    assert_eq!(soon(peer.frame()).await, Some(None), "the connection ends");
}

#[tokio::test]
async fn requests_of_a_login_come_in_their_order() {
    let world = world(&[]).await;
    // A token before it was said by which mechanism.
    let mut peer = world.connect();
    let refused = {
        let mut refused = Box::pin(peer.token(b"\0alice\0pencil".to_vec()));
        assert!(soon(&mut refused).await.is_none(), "no delay");
        world.clock.advance(DELAY);
        soon(refused).await.expect("the delay is over").expect("an answer")
    };
    assert_eq!(code(refused.error_code), ErrorCode::IllegalSaslState);
    assert_eq!(soon(peer.frame()).await, Some(None), "the connection ends");
    // Two handshakes.
    let mut peer = world.connect();
    peer.handshake("PLAIN", 1).await;
    let refused = {
        let mut refused = Box::pin(peer.handshake("PLAIN", 1));
        assert!(soon(&mut refused).await.is_none(), "no delay");
        world.clock.advance(DELAY);
        soon(refused).await.expect("the delay is over")
    };
    assert_eq!(code(refused.error_code), ErrorCode::IllegalSaslState);
    assert_eq!(soon(peer.frame()).await, Some(None), "the connection ends");
    // After the login, and where there is none: refused, and nothing else.
    for mut peer in [world.logged_in(SHA_256, "alice").await, Peer(world.door.connect())] {
        let refused = peer.handshake("PLAIN", 1).await;
        assert_eq!(code(refused.error_code), ErrorCode::IllegalSaslState);
        let refused = peer.token(Vec::new()).await.expect("an answer");
        assert_eq!(code(refused.error_code), ErrorCode::IllegalSaslState);
        assert!(peer.is_served().await);
    }
}

/// Pitfall 70 (KIP-368).
#[tokio::test]
async fn a_session_ends_unless_it_is_renewed() {
    let world = world(&[("connections.max.reauth.ms", "60000")]).await;
    let minute = Duration::from_secs(60);
    let mut peer = world.connect();
    let begun = peer.log_in(SHA_256, "alice", PASSWORD).await;
    assert_eq!(begun.session_lifetime_ms, 60_000);
    world.clock.advance(minute / 2);
    assert!(peer.is_served().await);
    let renewed = peer.log_in(SHA_256, "alice", PASSWORD).await;
    assert_eq!((renewed.error_code, renewed.session_lifetime_ms), (0, 60_000));
    world.clock.advance(minute);
    assert!(peer.is_served().await, "its session was renewed");
    world.clock.advance(Duration::from_nanos(1));
    assert!(!peer.is_served().await, "its session has expired");
    // Others may not go on with it, nor by another mechanism.
    for (mechanism, user) in [(SHA_256, "bob"), (SHA_512, "alice")] {
        let mut peer = world.logged_in(SHA_256, "alice").await;
        let refused = {
            let mut refused = Box::pin(peer.log_in(mechanism, user, PASSWORD));
            assert!(soon(&mut refused).await.is_none(), "no delay");
            world.clock.advance(DELAY);
            soon(refused).await.expect("the delay is over")
        };
        assert_eq!(code(refused.error_code), ErrorCode::SaslAuthenticationFailed);
        assert_eq!(soon(peer.frame()).await, Some(None), "the connection ends");
    }
}

#[tokio::test]
async fn who_does_not_log_in_is_left() {
    let world = world(&[]).await;
    let mut silent = world.connect();
    let mut begun = world.connect();
    begun.handshake("PLAIN", 1).await;
    let mut half = world.connect();
    half.0.write_all(&[0, 0, 0, 100, 0]).await.unwrap();
    let mut logged_in = world.logged_in(SHA_256, "alice").await;
    world.clock.advance(Duration::from_secs(29));
    for peer in [&mut silent, &mut begun, &mut half] {
        assert_eq!(soon(peer.frame()).await, None, "it has some time");
    }
    world.clock.advance(Duration::from_secs(1));
    for peer in [&mut silent, &mut begun, &mut half] {
        assert_eq!(soon(peer.frame()).await, Some(None), "its time is up");
    }
    assert!(logged_in.is_served().await);
}

#[tokio::test]
async fn who_is_not_logged_in_sends_nothing_large() {
    let world = world(&[]).await;
    for (length, is_read) in [(8 * 1024, true), (8 * 1024 + 1, false), (1 << 20, false)] {
        let mut peer = world.connect();
        peer.0.write_all(&i32::to_be_bytes(length)).await.unwrap();
        let waits = soon(peer.frame()).await.is_none();
        assert_eq!(waits, is_read, "{length} bytes");
    }
    let mut peer = world.logged_in(SHA_256, "alice").await;
    peer.0.write_all(&i32::to_be_bytes(1 << 20)).await.unwrap();
    assert!(soon(peer.frame()).await.is_none(), "whoever is may");
}

/// Makes a topic of three partitions. The error.
async fn create(peer: &mut Peer, name: &'static str) -> ErrorCode {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: 3,
        replication_factor: 1,
        ..CreatableTopic::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..CreateTopicsRequest::default() };
    code(peer.ask(7, &request).await.expect("an answer").topics[0].error_code)
}

/// Quotas, and all else that asks who somebody is, know the user.
#[tokio::test]
async fn a_connection_speaks_for_its_user() {
    let world = world(&[]).await;
    let user = Some(Name::Is(Arc::from("alice")));
    let entity = Entity { user, ..Entity::default() };
    // One partition in ten seconds, and then what there is in debt.
    let change = Change { of: "controller_mutation_rate".to_owned(), to: Some(0.1) };
    world.broker.alter_quotas(entity, vec![change], false).await.unwrap();
    let mut alice = world.logged_in(SHA_256, "alice").await;
    let mut bob = world.logged_in(Mechanism::Plain, "bob").await;
    assert_eq!(create(&mut alice, "a").await, ErrorCode::None);
    let mut other = world.logged_in(SHA_512, "alice").await;
    assert_eq!(create(&mut other, "b").await, ErrorCode::ThrottlingQuotaExceeded);
    for name in ["c", "d"] {
        assert_eq!(create(&mut bob, name).await, ErrorCode::None);
    }
}

/// A token of `user` that is valid for so many seconds.
fn token(world: &World, signer: &Signer, user: &str, seconds: i64) -> String {
    let now = world.broker.env().clock.wall().0 / 1_000;
    let claims = format!(r#"{{"sub":"{user}","iat":{now},"exp":{}}}"#, now + seconds);
    signer.token(&claims).unwrap()
}

/// RFC 7628, KIP-255 and KIP-368.
#[tokio::test]
async fn a_session_by_a_token_ends_with_it_unless_it_is_renewed() {
    let signer = Signer::generate().unwrap();
    for (session_max, seconds, lifetime) in
        [("0", 60, 60_000), ("90000", 60, 60_000), ("30000", 60, 30_000)]
    {
        let world =
            world_trusting(Some(&signer), &[("connections.max.reauth.ms", session_max)]).await;
        let mut peer = world.connect();
        let first = token(&world, &signer, "alice", seconds);
        let begun = peer.log_in(Mechanism::OauthBearer, "", &first).await;
        assert_eq!((begun.error_code, begun.session_lifetime_ms), (0, lifetime));
        assert_eq!(begun.auth_bytes, Bytes::new());
        assert!(peer.is_served().await);
        world.clock.advance(Duration::from_secs(29));
        let second = token(&world, &signer, "alice", seconds);
        let renewed = peer.log_in(Mechanism::OauthBearer, "alice", &second).await;
        assert_eq!((renewed.error_code, renewed.session_lifetime_ms), (0, lifetime));
        world.clock.advance(Duration::from_millis(lifetime.unsigned_abs()));
        assert!(peer.is_served().await, "its session was renewed");
        world.clock.advance(Duration::from_nanos(1));
        assert!(!peer.is_served().await, "its token has expired");
        // A token of somebody else does not go on with it.
        let mut peer = world.connect();
        let mine = token(&world, &signer, "alice", seconds);
        assert_eq!(peer.log_in(Mechanism::OauthBearer, "", &mine).await.error_code, 0);
        let other = token(&world, &signer, "bob", seconds);
        let refused = {
            let mut refused = Box::pin(peer.log_in(Mechanism::OauthBearer, "", &other));
            assert!(soon(&mut refused).await.is_none(), "no delay");
            world.clock.advance(DELAY);
            soon(refused).await.expect("the delay is over")
        };
        assert_eq!(code(refused.error_code), ErrorCode::SaslAuthenticationFailed);
        assert_eq!(soon(peer.frame()).await, Some(None), "the connection ends");
    }
}

/// RFC 7628 section 3.2.3: what is wrong is told in two steps. The first is what takes its time.
#[tokio::test]
async fn a_bad_token_is_refused_in_two_steps() {
    let signer = Signer::generate().unwrap();
    let world = world_trusting(Some(&signer), &[]).await;
    let good = token(&world, &signer, "alice", 60);
    let expired = token(&world, &signer, "alice", 0);
    for (bad, says) in [
        (&good[..good.len() - 2], "signature is wrong"),
        (&expired, "has expired"),
        ("e30.e30.", "signed by none of"),
    ] {
        let mut peer = world.connect();
        peer.handshake("OAUTHBEARER", 1).await;
        let first = format!("n,,\x01auth=Bearer {bad}\x01\x01").into_bytes();
        let fault = {
            let mut fault = Box::pin(peer.token(first));
            assert!(soon(&mut fault).await.is_none(), "{says}: no delay");
            world.clock.advance(DELAY);
            soon(fault).await.expect("the delay is over").expect("an answer")
        };
        assert_eq!(
            (fault.error_code, &fault.auth_bytes[..]),
            (0, &br#"{"status":"invalid_token"}"#[..])
        );
        let refused = soon(peer.token(vec![1])).await.expect("no second delay").expect("an answer");
        assert_eq!(code(refused.error_code), ErrorCode::SaslAuthenticationFailed);
        let told = refused.error_message.unwrap();
        assert!(told.contains(says) && !told.contains(bad), "{told}");
        assert_eq!(soon(peer.frame()).await, Some(None), "the connection ends");
    }
    // Without a request around them.
    for (token, is_served) in [(good.as_str(), true), ("x", false)] {
        let mut peer = world.connect();
        peer.handshake("OAUTHBEARER", 0).await;
        peer.send(format!("n,,\x01auth=Bearer {token}\x01\x01").as_bytes()).await;
        settle().await;
        world.clock.advance(DELAY);
        let answer = soon(peer.frame()).await.unwrap().unwrap();
        assert_eq!(answer.is_empty(), is_served);
        if is_served {
            assert!(peer.is_served().await);
        } else {
            peer.send(&[1]).await;
            assert_eq!(soon(peer.frame()).await, Some(None), "the connection ends");
        }
    }
    // Without an issuer nobody's tokens are good.
    let world = world_trusting(None, &[("connection.failed.authentication.delay.ms", "0")]).await;
    let mut peer = world.connect();
    let refused = peer.log_in(Mechanism::OauthBearer, "", &good).await;
    assert_eq!(code(refused.error_code), ErrorCode::SaslAuthenticationFailed);
}

const KEY: (&str, &str) =
    ("delegation.token.secret.key", "a secret that is as long as it has to be");
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

fn user(name: &str) -> (StrBytes, StrBytes) {
    ("User".into(), StrBytes::from(name.to_owned()))
}

impl Peer {
    async fn create_token(
        &mut self,
        owner: &str,
        renewers: &[&str],
    ) -> CreateDelegationTokenResponse {
        let renewers = renewers.iter().map(|renewer| {
            let (principal_type, principal_name) = user(renewer);
            CreatableRenewers { principal_type, principal_name }
        });
        let (kind, name) = user(owner);
        let request = CreateDelegationTokenRequest {
            owner_principal_type: Some(kind),
            owner_principal_name: Some(name),
            renewers: renewers.collect(),
            max_lifetime_ms: -1,
        };
        self.ask(3, &request).await.expect("an answer")
    }

    async fn renew_token(
        &mut self,
        hmac: &Bytes,
        renew_period_ms: i64,
    ) -> RenewDelegationTokenResponse {
        let request = RenewDelegationTokenRequest { hmac: hmac.clone(), renew_period_ms };
        self.ask(2, &request).await.expect("an answer")
    }

    async fn expire_token(
        &mut self,
        hmac: &Bytes,
        period_ms: i64,
    ) -> ExpireDelegationTokenResponse {
        let (hmac, expiry_time_period_ms) = (hmac.clone(), period_ms);
        let request = ExpireDelegationTokenRequest { hmac, expiry_time_period_ms };
        self.ask(2, &request).await.expect("an answer")
    }

    /// The owners of the tokens that are told, and the code.
    async fn owners(&mut self, of: Option<&[&str]>) -> (ErrorCode, Vec<String>) {
        let owners = of.map(|owners| {
            let owners = owners.iter().map(|owner| {
                let (principal_type, principal_name) = user(owner);
                DescribeDelegationTokenOwner { principal_type, principal_name }
            });
            owners.collect()
        });
        let request = DescribeDelegationTokenRequest { owners };
        let told = self.ask(3, &request).await.expect("an answer");
        let mut names: Vec<_> =
            told.tokens.iter().map(|token| token.principal_name.to_string()).collect();
        names.sort();
        (code(told.error_code), names)
    }

    /// Logs in by a delegation token.
    async fn log_in_by_token(
        &mut self,
        hash: Hash,
        token: &CreateDelegationTokenResponse,
    ) -> SaslAuthenticateResponse {
        let mechanism = Mechanism::Scram(hash);
        self.handshake(mechanism.name(), 1).await;
        let password = TokenHmac::said(token.hmac.to_vec()).password();
        let nonce = Nonce([1; 24]);
        let client = ClientExchange::new(mechanism, &token.token_id, &password, nonce);
        let mut client = client.by_token();
        let answer = self.token(client.first()).await.expect("an answer");
        let last = client.answer(&answer.auth_bytes).expect("trusted").expect("a proof");
        self.token(last).await.expect("an answer")
    }
}

/// KIP-48: made by one who has logged in, for programs that then act as he.
#[tokio::test]
async fn a_delegation_token_lets_others_act_as_its_owner() {
    let world = world(&[KEY, ("connections.max.idle.ms", "-1")]).await;
    let mut alice = world.logged_in(SHA_256, "alice").await;
    let token = alice.create_token("", &["bob"]).await;
    assert_eq!(code(token.error_code), ErrorCode::None);
    assert_eq!(token.expiry_timestamp_ms - token.issue_timestamp_ms, DAY_MS);
    assert_eq!(token.max_timestamp_ms - token.issue_timestamp_ms, 7 * DAY_MS);
    assert_eq!((&*token.principal_name, token.hmac.len()), ("alice", 64));
    for hash in Hash::ALL {
        let mut program = world.connect();
        let answer = program.log_in_by_token(hash, &token).await;
        assert_eq!(
            (code(answer.error_code), answer.session_lifetime_ms),
            (ErrorCode::None, DAY_MS)
        );
        assert_eq!(
            create(&mut program, if hash == Hash::Sha256 { "a" } else { "b" }).await,
            ErrorCode::None
        );
        // A token does not get another one, nor is it told of any.
        let refused = ErrorCode::DelegationTokenRequestNotAllowed;
        assert_eq!(code(program.create_token("", &[]).await.error_code), refused);
        assert_eq!(code(program.renew_token(&token.hmac, -1).await.error_code), refused);
        assert_eq!(code(program.expire_token(&token.hmac, -1).await.error_code), refused);
        assert_eq!(program.owners(None).await, (refused, Vec::new()));
        // The session ends with the token.
        let ends = Duration::from_millis(DAY_MS.unsigned_abs()) + Duration::from_nanos(1);
        if hash == Hash::Sha512 {
            world.clock.advance(ends);
            assert!(!program.is_served().await);
        }
    }
    // And nobody begins another.
    let mut program = world.connect();
    let refused = {
        let mut refused = Box::pin(program.log_in_by_token(Hash::Sha256, &token));
        assert!(soon(&mut refused).await.is_none(), "no delay");
        world.clock.advance(DELAY);
        soon(refused).await.expect("the delay is over")
    };
    assert_eq!(code(refused.error_code), ErrorCode::SaslAuthenticationFailed);
    let expired = alice.renew_token(&token.hmac, -1).await;
    assert_eq!(code(expired.error_code), ErrorCode::DelegationTokenExpired);
}

#[tokio::test]
async fn a_token_is_renewed_and_ended_by_those_who_may() {
    let world = world(&[KEY]).await;
    let mut alice = world.logged_in(SHA_256, "alice").await;
    let mut bob = world.logged_in(SHA_256, "bob").await;
    let token = alice.create_token("", &["bob"]).await;
    let own = alice.create_token("", &[]).await;
    let now = world.broker.env().clock.wall().0;
    for (hmac, period, expected) in [
        (&token.hmac, 1_000, Ok(now + 1_000)),
        (&token.hmac, 9 * DAY_MS, Ok(now + DAY_MS)),
        (&token.hmac, -1, Ok(now + DAY_MS)),
        (&own.hmac, -1, Err(ErrorCode::DelegationTokenOwnerMismatch)),
        (&Bytes::from_static(b"x"), -1, Err(ErrorCode::DelegationTokenNotFound)),
    ] {
        let renewed = bob.renew_token(hmac, period).await;
        let expires = renewed.expiry_timestamp_ms;
        let renewed = match code(renewed.error_code) {
            ErrorCode::None => Ok(expires),
            error => Err(error),
        };
        assert_eq!(renewed, expected);
    }
    assert_eq!(bob.owners(None).await, (ErrorCode::None, vec!["alice".to_owned(); 2]));
    assert_eq!(bob.owners(Some(&[])).await, (ErrorCode::None, Vec::new()));
    assert_eq!(bob.owners(Some(&["bob"])).await, (ErrorCode::None, vec!["alice".to_owned()]));
    let ended = bob.expire_token(&own.hmac, -1).await;
    assert_eq!(code(ended.error_code), ErrorCode::DelegationTokenOwnerMismatch);
    let ends = alice.expire_token(&own.hmac, 1_000).await;
    assert_eq!((code(ends.error_code), ends.expiry_timestamp_ms), (ErrorCode::None, now + 1_000));
    let ended = bob.expire_token(&token.hmac, -1).await;
    assert_eq!((code(ended.error_code), ended.expiry_timestamp_ms), (ErrorCode::None, now));
    let gone = bob.renew_token(&token.hmac, -1).await;
    assert_eq!(code(gone.error_code), ErrorCode::DelegationTokenNotFound);
    assert_eq!(alice.owners(None).await.1.len(), 1);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(alice.owners(None).await, (ErrorCode::None, Vec::new()));
}

/// KIP-373: for others, with the right to.
#[tokio::test]
async fn tokens_of_others_take_rights() {
    let rights = [("authorizer.class.name", "standard"), ("super.users", "User:bob")];
    let world = world(&[&[KEY][..], &rights].concat()).await;
    let mut alice = world.logged_in(SHA_256, "alice").await;
    let mut bob = world.logged_in(SHA_256, "bob").await;
    let refused = alice.create_token("carol", &[]).await;
    assert_eq!(code(refused.error_code), ErrorCode::DelegationTokenAuthorizationFailed);
    let made = bob.create_token("carol", &[]).await;
    assert_eq!(code(made.error_code), ErrorCode::None);
    assert_eq!((&*made.principal_name, &*made.token_requester_principal_name), ("carol", "bob"));
    // Who has asked for it is not its owner.
    let renewed = bob.renew_token(&made.hmac, -1).await;
    assert_eq!(code(renewed.error_code), ErrorCode::DelegationTokenOwnerMismatch);
    assert_eq!(bob.owners(None).await.1, ["carol"], "who may do everything is told");
    assert!(alice.owners(None).await.1.is_empty());
    for (operation, resource, name) in [
        (Operation::Describe, ResourceType::DelegationToken, &*made.token_id),
        (Operation::DescribeTokens, ResourceType::User, "User:carol"),
    ] {
        let rule = Binding::new(&Draft {
            resource,
            pattern: PatternType::Literal,
            name,
            principal: "User:alice",
            host: "*",
            operation,
            permission: Permission::Allow,
        });
        let rule = rule.unwrap();
        world.broker.add_acls(vec![rule]).await.unwrap();
        assert_eq!(alice.owners(None).await.1, ["carol"], "{operation}");
        world.broker.remove_acls(vec![Filter::default()]).await.unwrap();
        assert!(alice.owners(None).await.1.is_empty());
    }
    // The program acts as the owner, who has no password at all.
    let mut program = world.connect();
    let answer = program.log_in_by_token(Hash::Sha512, &made).await;
    assert_eq!(code(answer.error_code), ErrorCode::None);
    assert_eq!(create(&mut program, "a").await, ErrorCode::TopicAuthorizationFailed);
}

#[tokio::test]
async fn there_are_tokens_only_where_there_is_a_secret_and_for_who_has_logged_in() {
    let without = world(&[]).await;
    let mut alice = without.logged_in(SHA_256, "alice").await;
    let disabled = ErrorCode::DelegationTokenAuthDisabled;
    assert_eq!(code(alice.create_token("", &[]).await.error_code), disabled);
    assert_eq!(code(alice.renew_token(&Bytes::new(), -1).await.error_code), disabled);
    assert_eq!(code(alice.expire_token(&Bytes::new(), -1).await.error_code), disabled);
    assert_eq!(alice.owners(None).await, (disabled, Vec::new()));
    let world = world(&[KEY]).await;
    let mut anybody = Peer(world.door.connect());
    let refused = ErrorCode::DelegationTokenRequestNotAllowed;
    assert_eq!(code(anybody.create_token("", &[]).await.error_code), refused);
    assert_eq!(anybody.owners(None).await, (refused, Vec::new()));
    // Other kinds of principals than users there are not.
    let mut alice = world.logged_in(SHA_256, "alice").await;
    let request = CreateDelegationTokenRequest {
        owner_principal_type: Some("Group".into()),
        owner_principal_name: Some("g".into()),
        ..CreateDelegationTokenRequest::default()
    };
    let made = alice.ask(3, &request).await.expect("an answer");
    assert_eq!(code(made.error_code), ErrorCode::InvalidPrincipalType);
}

/// Our own client, logged in as Alice.
async fn client(world: &World, mechanism: Mechanism) -> Connection {
    let (user, password) = ("alice".to_owned(), PASSWORD.to_owned());
    let settings = ConnectionSettings {
        client_id: "c".into(),
        frame_bytes_max: 1 << 20,
        request_timeout: Duration::from_secs(30),
        login: Some(LoginSettings { mechanism, user, password, by_token: false }),
    };
    let (env, address) = (world.broker.env().clone(), Address::new("in-memory", 0));
    Connection::open(env, Box::new(world.connect().0), address, settings).await.expect("logs in")
}

/// It logs in again in time, on the same connection, and what is asked meanwhile waits (KIP-368). A session
/// lives until then, whatever becomes of its user.
#[tokio::test]
async fn our_client_renews_its_session() {
    let world = world(&[("connections.max.reauth.ms", "60000")]).await;
    for mechanism in [SHA_256, SHA_512, Mechanism::Plain] {
        let connection = client(&world, mechanism).await;
        for step in 0..100 {
            world.clock.advance(Duration::from_secs(5));
            let asks =
                (0..10).map(|_| async { connection.call(&MetadataRequest::default(), 12).await });
            for answer in join_all(asks).await {
                assert!(answer.is_ok(), "{mechanism}, step {step}: {answer:?}");
            }
        }
        assert!(!connection.is_over());
    }
    let connection = client(&world, SHA_256).await;
    for hash in Hash::ALL {
        let gone = vec![(Arc::from("alice"), Alteration::Delete(Some(hash)))];
        let outcomes = world.broker.alter_credentials(gone).await.unwrap();
        assert!(outcomes.values().all(Result::is_ok));
    }
    let request = MetadataRequest::default();
    connection.call(&request, 12).await.expect("the session lives");
    world.clock.advance(Duration::from_secs(57));
    settle().await;
    let mut asked = Box::pin(connection.call(&request, 12));
    assert!(soon(&mut asked).await.is_none(), "it waits for the login");
    world.clock.advance(DELAY);
    assert!(soon(asked).await.expect("the delay is over").is_err(), "there is no Alice");
    assert!(connection.is_over());
}
