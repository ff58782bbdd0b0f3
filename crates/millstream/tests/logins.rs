//! Logins over sockets, by our own client: every mechanism, good and bad passwords, and what a user may do.

use std::sync::Arc;
use std::time::Duration;

use millstream::{Server, ServerConfig};
use millstream_auth::{Derivation, Hash, Mechanism};
use millstream_broker::{Alteration, Upsertion};
use millstream_client::{
    Address, Admin, Cluster, ClusterSettings, Error, LoginSettings, NewCredential, NewTopic,
    TcpConnector,
};
use millstream_env::Env;
use millstream_wire::ErrorCode;
use tokio::runtime::Handle;

const PASSWORD: &str = "correct horse";

/// A server on which one has to log in, and its first user.
async fn start(settings: &[(&str, &str)]) -> Server {
    let mut config = ServerConfig { kafka_listen: None, ..ServerConfig::in_memory() };
    let own = [
        ("listeners", "SASL_PLAINTEXT://127.0.0.1:0"),
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
        ("connection.failed.authentication.delay.ms", "0"),
    ];
    for (name, value) in own.iter().chain(settings) {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    let server = Server::start(config).await.expect("starts");
    for hash in Hash::ALL {
        set(&server, "admin", hash).await;
    }
    server
}

/// Sets a password from within, as `millstream user add` does in a data directory.
async fn set(server: &Server, user: &str, hash: Hash) {
    let salt = b"salt".to_vec();
    let salted_password = Derivation::new(hash, PASSWORD.as_bytes(), &salt, 4_096).finish();
    let set = Upsertion { hash: Some(hash), iterations: 4_096, salt, salted_password };
    let wanted = vec![(Arc::from(user), Alteration::Set(set))];
    let outcomes = server.broker().alter_credentials(wanted).await.expect("written");
    assert!(outcomes.values().all(Result::is_ok));
}

async fn add(admin: &Admin, user: &str, hash: Hash, password: &str) {
    let salt = user.as_bytes().to_vec();
    let new = NewCredential { hash, iterations: 4_096, salt, password: password.to_owned() };
    admin.set_credential(user, new).await.expect("it is set");
}

async fn connect(server: &Server, login: Option<(Mechanism, &str, &str)>) -> Result<Admin, Error> {
    let at = server.kafka_address().expect("it listens");
    let login = login.map(|(mechanism, user, password)| LoginSettings {
        mechanism,
        user: user.to_owned(),
        password: password.to_owned(),
        by_token: false,
    });
    let bootstrap = vec![Address::new(at.ip().to_string(), at.port())];
    let settings =
        ClusterSettings { login, patience: Duration::ZERO, ..ClusterSettings::new(bootstrap) };
    let env = Env::real(Handle::current());
    Cluster::connect(env, Arc::new(TcpConnector), settings).await.map(Admin::new)
}

fn topic(name: &str) -> NewTopic {
    let (partitions, replicas) = (Some(1), Some(1));
    NewTopic { name: name.to_owned(), partitions, replicas, configs: Vec::new() }
}

#[tokio::test]
async fn users_log_in_by_every_mechanism_and_nobody_else_does() {
    let server = start(&[]).await;
    for mechanism in Mechanism::OF_PASSWORDS {
        let admin = connect(&server, Some((mechanism, "admin", PASSWORD))).await;
        let admin = admin.unwrap_or_else(|error| panic!("{mechanism}: {error}"));
        admin.cluster().all_topics().await.expect("it is served");
        for (user, password) in [("admin", "wrong"), ("nobody", PASSWORD), ("", PASSWORD)] {
            let refused = connect(&server, Some((mechanism, user, password))).await;
            let code = refused.expect_err("it is refused").code();
            assert_eq!(code, Some(ErrorCode::SaslAuthenticationFailed), "{mechanism} {user}");
        }
    }
    let refused = connect(&server, None).await.expect_err("it has not logged in");
    assert!(matches!(refused, Error::Disconnected { .. }), "{refused}");
    server.stop().await;
}

#[tokio::test]
async fn users_come_and_go_while_the_server_runs() {
    let server = start(&[]).await;
    let admin = connect(&server, Some((Mechanism::Plain, "admin", PASSWORD))).await;
    let admin = admin.expect("logs in");
    let by_256 = Some((Mechanism::Scram(Hash::Sha256), "alice", "first"));
    let by_plain = Some((Mechanism::Plain, "alice", "first"));
    assert!(connect(&server, by_256).await.is_err(), "not yet");
    add(&admin, "alice", Hash::Sha256, "first").await;
    assert!(connect(&server, by_256).await.is_ok());
    assert!(connect(&server, by_plain).await.is_ok());
    // PLAIN goes by the strongest that there is.
    add(&admin, "alice", Hash::Sha512, "second").await;
    assert!(connect(&server, by_256).await.is_ok());
    assert!(connect(&server, by_plain).await.is_err());
    let second = Some((Mechanism::Plain, "alice", "second"));
    assert!(connect(&server, second).await.is_ok());
    let listed = admin.users(&["alice".to_owned()]).await.expect("told");
    let credentials = vec![(Hash::Sha256, 4_096), (Hash::Sha512, 4_096)];
    assert_eq!(listed[0].credentials, credentials);
    for hash in Hash::ALL {
        admin.delete_credential("alice", hash).await.expect("deleted");
    }
    assert!(connect(&server, by_256).await.is_err(), "not any more");
    assert!(connect(&server, second).await.is_err(), "not any more");
    let gone = admin.users(&["alice".to_owned()]).await.expect_err("there is no such user");
    assert_eq!(gone.code(), Some(ErrorCode::ResourceNotFound));
    server.stop().await;
}

#[tokio::test]
async fn a_user_may_do_what_he_has_the_rights_for() {
    let rights = [("authorizer.class.name", "standard"), ("super.users", "User:admin")];
    let server = start(&rights).await;
    let admin = connect(&server, Some((Mechanism::Scram(Hash::Sha512), "admin", PASSWORD))).await;
    let admin = admin.expect("logs in");
    add(&admin, "alice", Hash::Sha256, "first").await;
    admin.create_topic(&topic("a"), false).await.expect("a super user may");
    let alice = connect(&server, Some((Mechanism::Scram(Hash::Sha256), "alice", "first"))).await;
    let alice = alice.expect("logs in");
    let refused = alice.create_topic(&topic("b"), false).await.expect_err("she may not");
    assert_eq!(refused.code(), Some(ErrorCode::TopicAuthorizationFailed));
    let refused = alice.users(&[]).await.expect_err("she may not");
    assert_eq!(refused.code(), Some(ErrorCode::ClusterAuthorizationFailed));
    let refused = alice.delete_credential("admin", Hash::Sha256).await.expect_err("she may not");
    assert_eq!(refused.code(), Some(ErrorCode::ClusterAuthorizationFailed));
    server.stop().await;
}
