//! Logins by tokens over sockets: what is needed at the start, good and bad tokens, and what their users may do.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millstream::{Server, ServerConfig};
use millstream_auth::Mechanism;
use millstream_client::{
    Address, Admin, Cluster, ClusterSettings, Error, LoginSettings, NewTopic, TcpConnector,
};
use millstream_env::Env;
use millstream_oauth::Signer;
use millstream_wire::ErrorCode;
use tokio::runtime::Handle;

struct World {
    server: Server,
    signer: Signer,
    folder: tempfile::TempDir,
}

fn config(keys: &Path, settings: &[(&str, &str)]) -> ServerConfig {
    let mut config = ServerConfig { kafka_listen: None, ..ServerConfig::in_memory() };
    let url = format!("file://{}", keys.display());
    let own = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "OAUTHBEARER"),
        ("sasl.oauthbearer.jwks.endpoint.url", &url),
        ("sasl.oauthbearer.expected.audience", "millstream"),
        ("sasl.oauthbearer.clock.skew.seconds", "0"),
        ("connection.failed.authentication.delay.ms", "0"),
    ];
    for (name, value) in own.iter().chain(settings) {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    config
}

#[expect(clippy::disallowed_methods, reason = "a file of the test")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("it can be written");
}

async fn start(settings: &[(&str, &str)]) -> World {
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("jwks.json");
    let signer = Signer::generate().expect("a key");
    write(&keys, &signer.key_set());
    let server = Server::start(config(&keys, settings)).await.expect("starts");
    World { server, signer, folder }
}

impl World {
    /// A token that is valid for so many seconds.
    fn token(&self, user: &str, audience: &str, seconds: i64) -> String {
        let now = Env::real(Handle::current()).clock.wall().0 / 1_000;
        let (issued, expires) = (now - 60, now + seconds);
        let claims = format!(
            r#"{{"iss":"i","aud":"{audience}","sub":"{user}","iat":{issued},"exp":{expires}}}"#
        );
        self.signer.token(&claims).expect("it is signed")
    }

    async fn connect(&self, user: &str, token: String) -> Result<Admin, Error> {
        let at = self.server.kafka_address().expect("it listens");
        let login = LoginSettings {
            mechanism: Mechanism::OauthBearer,
            user: user.to_owned(),
            password: token,
            by_token: false,
        };
        let bootstrap = vec![Address::new(at.ip().to_string(), at.port())];
        let patience = Duration::ZERO;
        let settings =
            ClusterSettings { login: Some(login), patience, ..ClusterSettings::new(bootstrap) };
        let env = Env::real(Handle::current());
        Cluster::connect(env, Arc::new(TcpConnector), settings).await.map(Admin::new)
    }
}

#[tokio::test]
async fn a_good_token_lets_its_user_in_and_nobody_else() {
    let world = start(&[]).await;
    for user in ["alice", ""] {
        let admin = world.connect(user, world.token("alice", "millstream", 60)).await;
        let admin = admin.expect("logs in");
        admin.cluster().all_topics().await.expect("it is served");
    }
    let stranger = Signer::generate().expect("a key");
    for (what, user, token, says) in [
        ("another user", "bob", world.token("alice", "millstream", 60), "authorization id"),
        ("expired", "alice", world.token("alice", "millstream", -1), "has expired"),
        ("another audience", "alice", world.token("alice", "kafka", 60), "audience"),
        ("a stranger's", "alice", stranger.token("{}").expect("signed"), "no key of that id"),
        ("none", "alice", "e30.e30.".to_owned(), "signed by none of"),
        ("no token", "alice", "x".to_owned(), "not a JSON web token"),
    ] {
        let refused = world.connect(user, token.clone()).await.expect_err(what);
        assert_eq!(refused.code(), Some(ErrorCode::SaslAuthenticationFailed), "{what}");
        let told = refused.to_string();
        assert!(told.contains(says) && !told.contains(&token), "{what}: {told}");
    }
    world.server.stop().await;
}

#[tokio::test]
async fn a_tokens_user_may_do_what_he_has_the_rights_for() {
    let rights = [("authorizer.class.name", "standard"), ("super.users", "User:admin")];
    let world = start(&rights).await;
    let topic = |name: &str| NewTopic {
        name: name.to_owned(),
        partitions: Some(1),
        replicas: Some(1),
        configs: Vec::new(),
    };
    let admin = world.connect("", world.token("admin", "millstream", 60)).await.expect("logs in");
    admin.create_topic(&topic("a"), false).await.expect("a super user may");
    let alice = world.connect("", world.token("alice", "millstream", 60)).await.expect("logs in");
    let refused = alice.create_topic(&topic("b"), false).await.expect_err("she may not");
    assert_eq!(refused.code(), Some(ErrorCode::TopicAuthorizationFailed));
    world.server.stop().await;
}

/// What stands in the way is said at the start, with the setting.
#[tokio::test]
async fn a_server_without_keys_does_not_start() {
    let world = start(&[]).await;
    let keys = world.folder.path().join("jwks.json");
    let missing = world.folder.path().join("missing.json");
    for (keys, settings, says) in [
        (&keys, &[("sasl.oauthbearer.jwks.endpoint.url", "")][..], "public keys are"),
        (&keys, &[("sasl.oauthbearer.jwks.endpoint.url", "keys.json")], "it is no URL"),
        (&keys, &[("sasl.oauthbearer.jwks.endpoint.url", "http://example.org/keys")], "http:"),
        (&missing, &[], "missing.json"),
    ] {
        let refused = Server::start(config(keys, settings)).await.expect_err(says).to_string();
        assert!(refused.contains(says), "{refused}");
        assert!(refused.contains("sasl.oauthbearer.jwks.endpoint.url"), "{refused}");
    }
    // Where nobody logs in by tokens, none are looked for.
    let settings = [("sasl.enabled.mechanisms", "PLAIN")];
    let server = Server::start(config(&missing, &settings)).await.expect("starts");
    server.stop().await;
    world.server.stop().await;
}
