//! No secret is found anywhere: a broker is driven with random ones, and everything that it has made is
//! searched for them. Passwords, delegation tokens and the secret that they are made from, tokens of an issuer: what
//! is kept of the first two, so that they can be verified, is of no use to who wants to log in.

#![expect(clippy::panic, reason = "helpers of tests fail by panicking")]

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD as BASE64, URL_SAFE_NO_PAD as BASE64_URL};
use bytes::Bytes;
use millstream::{Server, ServerConfig};
use millstream_auth::{ClientExchange, Derivation, Hash, Mechanism, Nonce, TokenHmac};
use millstream_broker::{Alteration, Upsertion};
use millstream_client::{
    Address, Admin, Cluster, ClusterSettings, ConfigChange, Error, LoginSettings, NewCredential,
    NewTopic, Resource, TcpConnector,
};
use millstream_env::Env;
use millstream_oauth::Signer;
use millstream_wire::*;
use raw::Client;
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tracing_subscriber::fmt::MakeWriter;

#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

/// What secrets are looked for by first, in bytes: none is shorter.
const HEAD: usize = 8;

/// Those that have a password.
const MECHANISMS: [Mechanism; 3] =
    [Mechanism::Plain, Mechanism::Scram(Hash::Sha256), Mechanism::Scram(Hash::Sha512)];

/// Everything that is logged, at every level.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<Vec<u8>>>);

impl Write for Logged {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Logged {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// Passwords, and everything that is as good as one, in every form that somebody might write it in.
struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    fn text(&mut self, what: &str, secret: &str) {
        self.0.push((what.to_owned(), secret.as_bytes().to_vec()));
        self.0.push((format!("{what}, in base64"), BASE64.encode(secret).into_bytes()));
        self.0.push((format!("{what}, in hexadecimal"), hex(secret.as_bytes())));
    }

    fn bytes(&mut self, what: &str, secret: &[u8]) {
        self.0.push((what.to_owned(), secret.to_vec()));
        self.0.push((format!("{what}, in base64"), BASE64.encode(secret).into_bytes()));
        self.0.push((format!("{what}, in hexadecimal"), hex(secret)));
        self.0.push((format!("{what}, as a list"), format!("{secret:?}").into_bytes()));
        // As requests are written for people.
        let escaped = format!("{:?}", Bytes::copy_from_slice(secret));
        let escaped = escaped.trim_start_matches("b\"").trim_end_matches('"');
        self.0.push((format!("{what}, escaped"), escaped.as_bytes().to_vec()));
    }

    /// What only whoever knows a password can compute: with it one logs in as with the password.
    fn salted(&mut self, what: &str, hash: Hash, salted: &[u8]) {
        self.bytes(what, salted);
        self.bytes(&format!("the client's key of {what}"), &client_key(hash, salted));
    }

    fn are_not_in(&self, place: &str, found: &[u8]) {
        let mut by_head = BTreeMap::<&[u8], Vec<_>>::new();
        for (what, secret) in &self.0 {
            by_head.entry(&secret[..HEAD]).or_default().push((what, secret));
        }
        for (at, head) in found.windows(HEAD).enumerate() {
            for (what, secret) in by_head.get(head).into_iter().flatten() {
                assert!(!found[at..].starts_with(secret), "{what} is in {place}");
            }
        }
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
}

fn client_key(hash: Hash, salted: &[u8]) -> Vec<u8> {
    use hmac::{KeyInit as _, Mac as _};
    const SAYS: &[u8] = b"Client Key";
    match hash {
        Hash::Sha256 => {
            let mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(salted).expect("any length");
            mac.chain_update(SAYS).finalize().into_bytes().to_vec()
        }
        Hash::Sha512 => {
            let mac = hmac::Hmac::<sha2::Sha512>::new_from_slice(salted).expect("any length");
            mac.chain_update(SAYS).finalize().into_bytes().to_vec()
        }
    }
}

/// All that clients were told.
#[derive(Default)]
struct Told(String);

impl Told {
    fn take(&mut self, what: &impl Debug) {
        self.0.push_str(&format!("{what:?}\n"));
    }

    /// What the broker says of something that it has refused, as it has to. Our own client says besides by
    /// whom that was, as it was typed.
    fn refusal<T>(&mut self, outcome: Result<T, Error>) {
        match outcome.err().expect("it is refused") {
            Error::Refused { code, message, .. } => self.take(&(code, message)),
            error => panic!("{error}"),
        }
    }
}

/// A password that nobody has used before.
fn draw(env: &Env) -> String {
    let mut bytes = [0; 15];
    env.random.fill(&mut bytes);
    BASE64.encode(bytes).replace(['+', '/'], "x")
}

fn salted(hash: Hash, password: &str) -> Vec<u8> {
    Derivation::new(hash, password.as_bytes(), b"salt", 4_096).finish()
}

async fn connect(
    server: &Server,
    mechanism: Mechanism,
    user: &str,
    password: &str,
) -> Result<Admin, Error> {
    let at = server.kafka_address().expect("it listens");
    let bootstrap = vec![Address::new(at.ip().to_string(), at.port())];
    let (user, password) = (user.to_owned(), password.to_owned());
    let login = Some(LoginSettings { mechanism, user, password, by_token: false });
    let settings =
        ClusterSettings { login, patience: Duration::ZERO, ..ClusterSettings::new(bootstrap) };
    let env = Env::real(Handle::current());
    Cluster::connect(env, Arc::new(TcpConnector), settings).await.map(Admin::new)
}

/// A server, and who signs the tokens that it takes.
struct World {
    env: Env,
    server: Server,
    signer: Signer,
}

#[expect(clippy::disallowed_methods, reason = "a file of the test")]
async fn start(directory: &Path, token_key: &str) -> World {
    let signer = Signer::generate().expect("a key");
    let keys = directory.join("jwks.json");
    std::fs::write(&keys, signer.key_set()).expect("it can be written");
    let keys = format!("file://{}", keys.display());
    let http_listen = Some(([127, 0, 0, 1], 0).into());
    let data = ServerConfig::in_directory(directory.join("data"));
    let mut config = ServerConfig { kafka_listen: None, http_listen, ..data };
    for (name, value) in [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER"),
        ("sasl.oauthbearer.jwks.endpoint.url", &*keys),
        ("sasl.oauthbearer.expected.audience", "millstream"),
        ("delegation.token.secret.key", token_key),
        ("connection.failed.authentication.delay.ms", "0"),
        ("authorizer.class.name", "standard"),
        ("super.users", "User:admin"),
        ("millstream.http.authentication", "basic"),
        ("millstream.audit.level", "all"),
        ("millstream.reserve.bytes", "0"),
    ] {
        config.settings.insert(name.to_owned(), value.to_owned());
    }
    tracing::info!(?config, "as who embeds a server may log it");
    let server = Server::start(config).await.expect("starts");
    World { env: Env::real(Handle::current()), server, signer }
}

/// Sets the first password, as `millstream user add` does in a data directory.
async fn set(server: &Server, user: &str, hash: Hash, password: &str) {
    let salted_password = salted(hash, password);
    let salt = b"salt".to_vec();
    let set = Upsertion { hash: Some(hash), iterations: 4_096, salt, salted_password };
    let wanted = vec![(Arc::from(user), Alteration::Set(set))];
    let outcomes = server.broker().alter_credentials(wanted).await.expect("written");
    assert!(outcomes.values().all(Result::is_ok));
}

/// Sets the first password. Returns it.
async fn first_password(world: &World, secrets: &mut Secrets) -> String {
    let first = draw(&world.env);
    secrets.text("the first password", &first);
    for hash in Hash::ALL {
        set(&world.server, "admin", hash, &first).await;
        secrets.salted("the first salted password", hash, &salted(hash, &first));
    }
    first
}

/// Uses passwords rightly and wrongly.
async fn use_passwords(world: &World, first: &str, secrets: &mut Secrets, told: &mut Told) {
    let World { env, server, .. } = world;
    for mechanism in MECHANISMS {
        let admin = connect(server, mechanism, "admin", first).await.expect("logs in");
        let (wrong, other) = (draw(env), draw(env));
        secrets.text("a wrong password", &wrong);
        secrets.text("another user's password", &other);
        told.refusal(connect(server, mechanism, "admin", &wrong).await);
        // Typed where the name belongs.
        told.refusal(connect(server, mechanism, &wrong, &wrong).await);
        let hash = Hash::Sha512;
        let salt = b"salt".to_vec();
        let new = NewCredential { hash, iterations: 4_096, salt, password: other.clone() };
        admin.set_credential("ann", new).await.expect("set");
        secrets.salted("another user's salted password", hash, &salted(hash, &other));
        let ann = connect(server, Mechanism::Plain, "ann", &other).await.expect("logs in");
        let topic = NewTopic {
            name: "t".to_owned(),
            partitions: Some(1),
            replicas: Some(1),
            configs: Vec::new(),
        };
        // She may not.
        told.refusal(ann.create_topic(&topic, false).await);
        // What is refused is not told of either.
        for name in [
            "ssl.key.password",
            "ssl.keystore.password",
            "sasl.jaas.config",
            "delegation.token.secret.key",
        ] {
            let value = draw(env);
            secrets.text(name, &value);
            let change = ConfigChange::Set(name.to_owned(), value);
            told.refusal(admin.alter_configs(&Resource::Broker(1), &[change], false).await);
        }
        for of in [Resource::Broker(1), Resource::Brokers] {
            told.take(&admin.describe_configs(&of).await.expect("told"));
        }
        for said in [("ann", &*other), ("ann", &*wrong), (&*wrong, &*wrong)] {
            told.take(&page(server, said).await);
        }
    }
}

/// What is answered to who asks for the metrics with these name and password.
async fn page(server: &Server, said: (&str, &str)) -> String {
    raw::get_as(server.http_address().expect("pages"), "/metrics", said).await
}

/// A connection whose client says things as they are in the protocol.
async fn arrive(server: &Server) -> Client<TcpStream> {
    let at = server.kafka_address().expect("it listens");
    Client::over(TcpStream::connect(at).await.expect("it listens"))
}

/// A login by a delegation token, or by what somebody takes for one.
fn by_token(env: &Env, hash: Hash, id: &str, password: &str) -> ClientExchange {
    let mut nonce = [0; 24];
    env.random.fill(&mut nonce);
    ClientExchange::new(Mechanism::Scram(hash), id, password, Nonce(nonce)).by_token()
}

fn as_password(hmac: &[u8]) -> String {
    TokenHmac::said(hmac.to_vec()).password()
}

/// The salted password that belongs to `password`, where the server has begun with `challenge`.
fn salted_as(challenge: &[u8], hash: Hash, password: &str) -> Vec<u8> {
    let challenge = std::str::from_utf8(challenge).expect("text");
    let part = |prefix| challenge.split(',').find_map(|part| part.strip_prefix(prefix));
    let salt = BASE64.decode(part("s=").expect("a salt")).expect("base64");
    let iterations = part("i=").and_then(|text| text.parse().ok()).expect("a number");
    Derivation::new(hash, password.as_bytes(), &salt, iterations).finish()
}

async fn create_token(client: &mut Client<TcpStream>) -> CreateDelegationTokenResponse {
    let request = CreateDelegationTokenRequest { max_lifetime_ms: -1, ..Default::default() };
    let made = client.ask(3, request).await;
    assert_eq!(made.error_code, 0);
    made
}

/// Has tokens made, logs in with them rightly and wrongly, renews and ends them. Returns the id of one that is left.
async fn use_delegation_tokens(
    world: &World,
    first: &str,
    secrets: &mut Secrets,
    told: &mut Told,
) -> String {
    let World { env, server, .. } = world;
    let mut left = String::new();
    for hash in Hash::ALL {
        let mut admin = arrive(server).await;
        let exchange = ClientExchange::new(Mechanism::Scram(hash), "admin", first, Nonce([1; 24]));
        told.take(&admin.log_in(exchange).await.expect("logs in"));
        let [token, ended] = [create_token(&mut admin).await, create_token(&mut admin).await];
        let (id, password) = (token.token_id.as_str(), as_password(&token.hmac));
        let mut wrong = token.hmac.to_vec();
        wrong[40] ^= 1;
        for (what, hmac) in
            [("an HMAC", &*token.hmac), ("one that ends", &*ended.hmac), ("a wrong one", &*wrong)]
        {
            secrets.bytes(what, hmac);
            secrets.text(what, &as_password(hmac));
        }
        let said = arrive(server).await.log_in(by_token(env, hash, id, &password)).await;
        let said = said.expect("logs in");
        told.take(&said);
        secrets.salted("a salted HMAC", hash, &salted_as(&said[0], hash, &password));
        let at_once =
            ExpireDelegationTokenRequest { hmac: ended.hmac.clone(), expiry_time_period_ms: -1 };
        told.take(&admin.ask(2, at_once).await);
        let (not_it, ended_password) = (as_password(&wrong), as_password(&ended.hmac));
        for (name, password) in [
            (id, not_it.as_str()),
            (ended.token_id.as_str(), ended_password.as_str()),
            // Typed where the id belongs.
            (password.as_str(), password.as_str()),
        ] {
            let refused = arrive(server).await.log_in(by_token(env, hash, name, password)).await;
            told.take(&refused.expect_err("it is no token's"));
            told.take(&page(server, (name, password)).await);
            for mechanism in MECHANISMS {
                told.refusal(connect(server, mechanism, name, password).await);
            }
        }
        for hmac in [token.hmac.clone(), ended.hmac.clone(), Bytes::from(wrong.clone())] {
            let renew = RenewDelegationTokenRequest { hmac: hmac.clone(), renew_period_ms: -1 };
            told.take(&admin.ask(2, renew).await);
            let expire = ExpireDelegationTokenRequest { hmac, expiry_time_period_ms: 3_600_000 };
            told.take(&admin.ask(2, expire).await);
        }
        // Who may describe them is told of the tokens themselves.
        let described = admin.ask(3, DescribeDelegationTokenRequest { owners: None }).await;
        assert!(described.tokens.iter().any(|one| one.hmac == token.hmac));
        left = id.to_owned();
    }
    left
}

/// Shows tokens of an issuer, good ones and others, also where passwords and names belong.
async fn use_bearer_tokens(world: &World, secrets: &mut Secrets, told: &mut Told) {
    let World { env, server, signer } = world;
    let now = env.clock.wall().0 / 1_000;
    let claims = |user: &str, audience: &str, expires: i64| {
        let issued = now - 3_600;
        format!(r#"{{"aud":"{audience}","sub":"{user}","iat":{issued},"exp":{expires}}}"#)
    };
    let good = claims("admin", "millstream", now + 3_600);
    let sign = |signer: &Signer, claims: &str| signer.token(claims).expect("it is signed");
    let stranger = Signer::generate().expect("a key");
    let of_ann = sign(signer, &claims("ann", "millstream", now + 3_600));
    let tokens = [
        ("a good token", sign(signer, &good), true),
        ("an expired token", sign(signer, &claims("admin", "millstream", now - 1_800)), false),
        ("a token for others", sign(signer, &claims("admin", "others", now + 3_600)), false),
        ("a stranger's token", sign(&stranger, &good), false),
        ("a forged token", mixed(&of_ann, &sign(signer, &good)), false),
    ];
    for (what, token, is_good) in tokens {
        let token = token.as_str();
        let (_, signature) = token.rsplit_once('.').expect("three parts");
        secrets.text(what, token);
        secrets.text(&format!("the signature of {what}"), signature);
        let bytes = BASE64_URL.decode(signature).expect("base64");
        secrets.bytes(&format!("the signature of {what}"), &bytes);
        let shown = connect(server, Mechanism::OauthBearer, "", token).await;
        if is_good {
            let admin = shown.expect("logs in");
            told.take(&admin.describe_configs(&Resource::Broker(1)).await);
        } else {
            told.refusal(shown);
        }
        // As somebody else.
        told.refusal(connect(server, Mechanism::OauthBearer, "bob", token).await);
        for mechanism in MECHANISMS {
            told.refusal(connect(server, mechanism, "admin", token).await);
            told.refusal(connect(server, mechanism, token, "password").await);
        }
        told.take(&page(server, ("admin", token)).await);
        told.take(&page(server, (token, token)).await);
    }
}

/// The first token with the signature of the second.
fn mixed(token: &str, other: &str) -> String {
    let (said, _) = token.rsplit_once('.').expect("three parts");
    let (_, signature) = other.rsplit_once('.').expect("three parts");
    format!("{said}.{signature}")
}

/// All files below a directory.
fn files(below: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

/// Without blocks that hold nothing: files of the journal are large, and most of them is.
fn without_zeros(bytes: &[u8]) -> Vec<u8> {
    let blocks = bytes.chunks(4_096).filter(|block| block.iter().any(|byte| *byte != 0));
    blocks.flatten().copied().collect()
}

fn contains(found: &[u8], mark: &str) -> bool {
    found.windows(mark.len()).any(|part| part == mark.as_bytes())
}

/// What each kind of place holds is looked for, too: nothing is found where nothing is.
#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "what is on the disk is what is looked at")]
async fn no_secret_is_in_anything_that_the_broker_makes() {
    let logged = Logged::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(logged.clone())
        .init();
    let directory = tempfile::tempdir().expect("a directory");
    let (mut secrets, mut told) = (Secrets(Vec::new()), Told::default());
    let env = Env::real(Handle::current());
    let token_key = format!("{}{}", draw(&env), draw(&env));
    secrets.text("delegation.token.secret.key", &token_key);
    let world = start(directory.path(), &token_key).await;
    let first = first_password(&world, &mut secrets).await;
    use_passwords(&world, &first, &mut secrets, &mut told).await;
    let token = use_delegation_tokens(&world, &first, &mut secrets, &mut told).await;
    use_bearer_tokens(&world, &mut secrets, &mut told).await;
    let metrics = page(&world.server, ("admin", &*first)).await;
    let counts = world.server.broker().audit_counts();
    world.server.stop().await;
    assert_eq!(counts.dropped, 0);
    for mark in ["delegation.token.secret.key", "login failed", "has expired"] {
        assert!(contains(told.0.as_bytes(), mark), "{mark} is among what was told");
    }
    secrets.are_not_in("what clients were told", told.0.as_bytes());
    assert!(
        metrics.starts_with("HTTP/1.1 200") && metrics.contains("millstream_audit_records_total")
    );
    secrets.are_not_in("/metrics", metrics.as_bytes());
    let log = logged.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    for mark in ["refused: no right", "as who embeds a server may log it"] {
        assert!(contains(&log, mark), "what was logged is searched");
    }
    secrets.are_not_in("the log", &log);
    // The audit of logins and of tokens, and what is kept of the tokens.
    let mut marks = vec!["\"kind\":\"login\"", "\"resource_type\":\"DelegationToken\"", &*token];
    for file in files(&directory.path().join("data")) {
        let bytes = without_zeros(&std::fs::read(&file).expect("readable"));
        marks.retain(|mark| !contains(&bytes, mark));
        secrets.are_not_in(&file.display().to_string(), &bytes);
    }
    assert!(marks.is_empty(), "{marks:?} is in none of the files that were searched");
}

/// Shows that the search finds what there is to be found.
#[test]
#[should_panic(expected = "a password, in base64 is in a place")]
fn a_secret_in_another_form_is_found() {
    let mut secrets = Secrets(Vec::new());
    secrets.text("a password", "hunter2-hunter2");
    let found = format!("GET / Authorization: {}", BASE64.encode("hunter2-hunter2"));
    secrets.are_not_in("a place", found.as_bytes());
}
