//! No secret is found anywhere: a broker is driven with random ones, and everything that it has made is
//! searched for them.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use millstream::{Server, ServerConfig};
use millstream_auth::{Derivation, Hash, Mechanism};
use millstream_broker::{Alteration, Upsertion};
use millstream_client::{
    Address, Admin, Cluster, ClusterSettings, ConfigChange, Error, LoginSettings, NewCredential,
    NewTopic, Resource, TcpConnector,
};
use millstream_env::Env;
use tokio::runtime::Handle;
use tracing_subscriber::fmt::MakeWriter;

#[allow(dead_code, reason = "other tests use more of it")]
mod raw;

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
    }

    fn are_not_in(&self, place: &str, found: &[u8]) {
        for (what, secret) in &self.0 {
            let is_there = found.windows(secret.len()).any(|part| part == secret);
            assert!(!is_there, "{what} is in {place}");
        }
    }
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into_bytes()
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
    let login = Some(LoginSettings { mechanism, user, password });
    let settings =
        ClusterSettings { login, patience: Duration::ZERO, ..ClusterSettings::new(bootstrap) };
    let env = Env::real(Handle::current());
    Cluster::connect(env, Arc::new(TcpConnector), settings).await.map(Admin::new)
}

async fn start(directory: &Path) -> Server {
    let http_listen = Some(([127, 0, 0, 1], 0).into());
    let mut config =
        ServerConfig { kafka_listen: None, http_listen, ..ServerConfig::in_directory(directory) };
    for (name, value) in [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
        ("connection.failed.authentication.delay.ms", "0"),
        ("authorizer.class.name", "standard"),
        // The second is whoever asks for a page.
        ("super.users", "User:admin;User:ANONYMOUS"),
        ("millstream.audit.level", "all"),
        ("millstream.reserve.bytes", "0"),
    ] {
        config.settings.insert(name.to_owned(), value.to_owned());
    }
    Server::start(config).await.expect("starts")
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

/// Uses the passwords rightly and wrongly. Returns what the broker tells of its configuration.
async fn use_them(server: &Server, env: &Env, secrets: &mut Secrets) -> String {
    let first = draw(env);
    secrets.text("the first password", &first);
    for hash in Hash::ALL {
        set(server, "admin", hash, &first).await;
        secrets.bytes("the first salted password", &salted(hash, &first));
    }
    let mut told = String::new();
    for mechanism in MECHANISMS {
        let admin = connect(server, mechanism, "admin", &first).await.expect("logs in");
        let (wrong, other) = (draw(env), draw(env));
        secrets.text("a wrong password", &wrong);
        secrets.text("another user's password", &other);
        assert!(connect(server, mechanism, "admin", &wrong).await.is_err());
        // Typed where the name belongs.
        assert!(connect(server, mechanism, &wrong, &wrong).await.is_err());
        let hash = Hash::Sha512;
        let salt = b"salt".to_vec();
        let new = NewCredential { hash, iterations: 4_096, salt, password: other.clone() };
        admin.set_credential("ann", new).await.expect("set");
        secrets.bytes("another user's salted password", &salted(hash, &other));
        let ann = connect(server, Mechanism::Plain, "ann", &other).await.expect("logs in");
        let topic = NewTopic {
            name: "t".to_owned(),
            partitions: Some(1),
            replicas: Some(1),
            configs: Vec::new(),
        };
        assert!(ann.create_topic(&topic, false).await.is_err(), "she may not");
        // What is refused is not told of either.
        for name in ["ssl.key.password", "ssl.keystore.password", "sasl.jaas.config"] {
            let value = draw(env);
            secrets.text(name, &value);
            let change = ConfigChange::Set(name.to_owned(), value);
            assert!(admin.alter_configs(&Resource::Broker(1), &[change], false).await.is_err());
        }
        for of in [Resource::Broker(1), Resource::Brokers] {
            let configs = admin.describe_configs(&of).await.expect("told");
            told.push_str(&format!("{configs:?}"));
        }
    }
    told
}

async fn metrics(server: &Server) -> String {
    raw::get(server.http_address().expect("pages"), "/metrics").await
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

#[tokio::test]
#[expect(clippy::disallowed_methods, reason = "what is on the disk is what is looked at")]
async fn no_secret_is_in_anything_that_the_broker_makes() {
    let logged = Logged::default();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(logged.clone())
        .init();
    let env = Env::real(Handle::current());
    let directory = tempfile::tempdir().expect("a directory");
    let mut secrets = Secrets(Vec::new());
    let server = start(directory.path()).await;
    let told = use_them(&server, &env, &mut secrets).await;
    let page = metrics(&server).await;
    let counts = server.broker().audit_counts();
    server.stop().await;
    assert_eq!(counts.dropped, 0);
    secrets.are_not_in("DescribeConfigs", told.as_bytes());
    secrets.are_not_in("/metrics", page.as_bytes());
    let log = logged.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let denial = b"refused: no right";
    assert!(log.windows(denial.len()).any(|part| part == denial), "what was logged is searched");
    secrets.are_not_in("the log", &log);
    let mut audit_is_there = false;
    for file in files(directory.path()) {
        let bytes = without_zeros(&std::fs::read(&file).expect("readable"));
        let mark = b"\"kind\":\"login\"";
        audit_is_there |= bytes.windows(mark.len()).any(|part| part == mark);
        secrets.are_not_in(&file.display().to_string(), &bytes);
    }
    assert!(audit_is_there, "the audit is among the files that were searched");
}
