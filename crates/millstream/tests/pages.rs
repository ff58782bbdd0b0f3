//! The pages as clients meet them: in plain text and over TLS, with and without logins and rights, and while
//! certificates change.

#![allow(clippy::unwrap_used, reason = "tests")]
#![expect(clippy::disallowed_methods, reason = "the tests write the files that a server reads")]

mod pki;

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;

use millstream::{Server, ServerConfig};
use millstream_auth::{Derivation, Hash};
use millstream_broker::acl::{
    Binding, CLUSTER_NAME, Draft, Operation, PatternType, Permission, ResourceType,
};
use millstream_broker::{Alteration, Upsertion};
use millstream_env::Env;
use millstream_oauth::Signer;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio_rustls::TlsConnector;

use pki::{Authority, authority, client, signed};

const LOOPBACK: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// `ann:sesame`, as HTTP says it.
const ANN: &str = "Authorization: Basic YW5uOnNlc2FtZQ==\r\n";
/// `ann:wrong`.
const NOT_ANN: &str = "Authorization: Basic YW5uOndyb25n\r\n";

fn config(settings: &[(&str, &str)]) -> ServerConfig {
    let mut config = ServerConfig { http_listen: Some(LOOPBACK), ..ServerConfig::in_memory() };
    let own = [("connection.failed.authentication.delay.ms", "0")];
    for (name, value) in own.iter().chain(settings) {
        config.settings.insert((*name).to_owned(), (*value).to_owned());
    }
    config
}

/// A server that shows its pages over TLS, with Ann among its users.
struct World {
    dir: TempDir,
    authority: Authority,
    server: Server,
}

async fn world(settings: &[(&str, &str)]) -> World {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let authority = authority("our authority");
    let path = |name: &str| dir.path().join(name).display().to_string();
    fs::write(path("server.pem"), signed(&authority, "server", 2090)).unwrap();
    fs::write(path("ca.pem"), authority.pem()).unwrap();
    let (key_store, trust_store) = (path("server.pem"), path("ca.pem"));
    let own = [
        ("millstream.http.tls", "true"),
        ("ssl.keystore.location", &*key_store),
        ("ssl.truststore.location", &*trust_store),
        ("ssl.principal.mapping.rules", "RULE:^CN=([^,]+)$/$1/"),
    ];
    let server = Server::start(config(&[&own[..], settings].concat())).await.unwrap();
    add(&server, "ann", "sesame").await;
    World { dir, authority, server }
}

async fn add(server: &Server, user: &str, password: &str) {
    let (hash, salt) = (Hash::Sha512, user.as_bytes().to_vec());
    let salted_password = Derivation::new(hash, password.as_bytes(), &salt, 4_096).finish();
    let set = Upsertion { hash: Some(hash), iterations: 4_096, salt, salted_password };
    let wanted = vec![(Arc::from(user), Alteration::Set(set))];
    let outcomes = server.broker().alter_credentials(wanted).await.unwrap();
    assert!(outcomes.values().all(Result::is_ok));
}

/// Lets a user describe the cluster.
async fn allow(server: &Server, principal: &str) {
    let rule = Binding::new(&Draft {
        resource: ResourceType::Cluster,
        pattern: PatternType::Literal,
        name: CLUSTER_NAME,
        principal,
        host: "127.0.0.1",
        operation: Operation::Describe,
        permission: Permission::Allow,
    });
    server.broker().add_acls(vec![rule.unwrap()]).await.unwrap();
}

/// The whole answer to a request for a page.
async fn ask(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    path: &str,
    headers: &str,
) -> std::io::Result<String> {
    let host = if headers.contains("Host:") { "" } else { "Host: localhost\r\n" };
    let request = format!("GET {path} HTTP/1.1\r\n{host}{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The whole answer to a request for a page over TLS; empty where the handshake comes to nothing.
async fn answer(world: &World, config: &Arc<ClientConfig>, path: &str, headers: &str) -> String {
    let stream = TcpStream::connect(world.server.http_address().unwrap()).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    match TlsConnector::from(Arc::clone(config)).connect(name, stream).await {
        Ok(stream) => ask(stream, path, headers).await.unwrap_or_default(),
        Err(_) => String::new(),
    }
}

/// The status that a page is answered with over TLS; 0 where the handshake comes to nothing.
async fn status(world: &World, config: &Arc<ClientConfig>, path: &str, headers: &str) -> u16 {
    let answer = answer(world, config, path, headers).await;
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// Asks for pages over TLS as somebody with this certificate, and compares the statuses.
async fn check(world: &World, shows: Option<&str>, cases: &[(&str, &str, u16)]) {
    let config = client(&world.authority, shows);
    for (path, headers, expected) in cases {
        let status = status(world, &config, path, headers).await;
        assert_eq!(status, *expected, "{path} {headers} {}", shows.is_some());
    }
}

const RIGHTS: [(&str, &str); 2] =
    [("authorizer.class.name", "standard"), ("super.users", "User:admin")];

#[tokio::test]
async fn over_tls_users_log_in_by_their_passwords() {
    let basic = [("millstream.http.authentication", "basic")];
    let world = world(&[&basic[..], &RIGHTS].concat()).await;
    assert!(world.server.http_url().unwrap().starts_with("https://127.0.0.1:"));
    check(
        &world,
        None,
        &[
            ("/livez", "", 200),
            ("/readyz", "", 200),
            ("/metrics", "", 401),
            ("/metrics", NOT_ANN, 401),
            ("/metrics", ANN, 403),
        ],
    )
    .await;
    allow(&world.server, "User:ann").await;
    check(&world, None, &[("/metrics", ANN, 200), ("/metrics", NOT_ANN, 401)]).await;
    // Nobody asks for certificates here, and what is shown all the same counts for nothing.
    let admin = signed(&world.authority, "admin", 2090);
    check(&world, Some(&admin), &[("/metrics", "", 401), ("/metrics", ANN, 200)]).await;
    let plain = TcpStream::connect(world.server.http_address().unwrap()).await.unwrap();
    let refused = ask(plain, "/livez", "").await.unwrap_or_default();
    assert!(!refused.contains("live"), "{refused}");
    world.server.stop().await;
}

#[tokio::test]
async fn a_certificate_is_a_user() {
    let certificate = [("millstream.http.authentication", "certificate")];
    let world = world(&[&certificate[..], &RIGHTS].concat()).await;
    // A probe has none.
    check(&world, None, &[("/livez", "", 200), ("/metrics", "", 403), ("/metrics", ANN, 403)])
        .await;
    let ann = signed(&world.authority, "ann", 2090);
    check(&world, Some(&ann), &[("/readyz", "", 200), ("/metrics", "", 403)]).await;
    allow(&world.server, "User:ann").await;
    check(&world, Some(&ann), &[("/metrics", "", 200)]).await;
    check(&world, Some(&signed(&world.authority, "bob", 2090)), &[("/metrics", "", 403)]).await;
    let others = [
        signed(&authority("another authority"), "ann", 2090),
        signed(&world.authority, "ann", 2021),
        // Whom no rule names.
        signed(&world.authority, "a,b", 2090),
    ];
    for forged in others {
        check(&world, Some(&forged), &[("/livez", "", 0)]).await;
    }
    world.server.stop().await;
}

#[tokio::test]
async fn with_both_either_will_do_and_what_is_said_counts() {
    let both = [("millstream.http.authentication", "certificate,basic")];
    let world = world(&[&both[..], &RIGHTS].concat()).await;
    allow(&world.server, "User:ann").await;
    let admin = signed(&world.authority, "admin", 2090);
    check(&world, None, &[("/metrics", "", 401), ("/metrics", ANN, 200)]).await;
    check(&world, Some(&admin), &[("/metrics", "", 200), ("/metrics", NOT_ANN, 401)]).await;
    world.server.stop().await;
}

/// An issuer whose tokens the pages take, and how that is set.
struct TokenIssuer {
    signer: Signer,
    dir: TempDir,
}

impl TokenIssuer {
    fn new() -> Self {
        let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let signer = Signer::generate().unwrap();
        fs::write(dir.path().join("jwks.json"), signer.key_set()).unwrap();
        Self { signer, dir }
    }

    fn keys(&self) -> String {
        format!("file://{}", self.dir.path().join("jwks.json").display())
    }

    /// What one says who has a token with these claims, for so many seconds.
    fn said(&self, audience: &str, user: &str, seconds: i64) -> String {
        let now = Env::real(Handle::current()).clock.wall().0 / 1_000;
        let (issued, expires) = (now - 60, now + seconds);
        let claims = format!(
            r#"{{"iss":"i","aud":"{audience}","sub":"{user}","iat":{issued},"exp":{expires}}}"#
        );
        bearer(&self.signer.token(&claims).unwrap())
    }
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

#[tokio::test]
async fn a_token_of_the_issuer_is_a_user() {
    let issuer = TokenIssuer::new();
    let keys = issuer.keys();
    let tokens = [
        ("millstream.http.authentication", "bearer,basic"),
        ("sasl.oauthbearer.jwks.endpoint.url", &*keys),
        ("sasl.oauthbearer.expected.issuer", "i"),
        ("sasl.oauthbearer.expected.audience", "millstream"),
        ("sasl.oauthbearer.clock.skew.seconds", "0"),
    ];
    let world = world(&[&tokens[..], &RIGHTS].concat()).await;
    let carol = issuer.said("millstream", "carol", 600);
    let cases = [("/livez", "", 200), ("/metrics", "", 401), ("/metrics", &carol, 403)];
    check(&world, None, &cases).await;
    allow(&world.server, "User:carol").await;
    // Passwords still do.
    let cases = [("/metrics", &*carol, 200), ("/metrics", ANN, 403), ("/metrics", NOT_ANN, 401)];
    check(&world, None, &cases).await;
    let stranger = Signer::generate().unwrap().token("{}").unwrap();
    let signature = carol.trim_end().rsplit_once('.').unwrap().1;
    let bobs = issuer.said("millstream", "admin", 600);
    let forged = format!("{}.{signature}\r\n", bobs.trim_end().rsplit_once('.').unwrap().0);
    let too_long = bearer(&"x".repeat(9_000));
    let config = client(&world.authority, None);
    let mut told = Vec::new();
    for (what, said) in [
        ("expired", issuer.said("millstream", "carol", -1)),
        ("another audience", issuer.said("kafka", "carol", 600)),
        ("nobody", issuer.said("millstream", "", 600)),
        ("one who stands for others", issuer.said("millstream", "ANONYMOUS", 600)),
        ("none", bearer("eyJhbGciOiJub25lIn0.eyJzdWIiOiJjYXJvbCJ9.")),
        ("a stranger's", bearer(&stranger)),
        ("forged", forged),
        ("cut", format!("{}\r\n", carol.trim_end().rsplit_once('.').unwrap().0)),
        ("too long", too_long),
        ("no token", bearer("x")),
        ("nothing", bearer("")),
    ] {
        let answer = answer(&world, &config, "/metrics", &said).await;
        assert!(answer.starts_with("HTTP/1.1 401"), "{what}: {answer}");
        assert!(answer.contains("www-authenticate: Bearer realm="), "{what}: {answer}");
        let lines = answer.lines().filter(|line| !line.starts_with("date:"));
        told.push((what, lines.collect::<Vec<_>>().join("\n")));
    }
    for (what, answer) in &told {
        assert_eq!(*answer, told[0].1, "{what} is told apart");
    }
    let shown = answer(&world, &config, "/metrics", &carol).await;
    assert!(shown.contains("\nmillstream_http_failed_logins_total 12\n"), "{shown}");
    assert!(shown.contains("\nmillstream_oauth_key_age_seconds "), "{shown}");
    world.server.stop().await;
}

/// Where only passwords are taken, a token is one that is wrong.
#[tokio::test]
async fn a_token_counts_only_where_tokens_are_taken() {
    let issuer = TokenIssuer::new();
    let keys = issuer.keys();
    let set = [
        ("millstream.http.authentication", "basic"),
        ("sasl.oauthbearer.jwks.endpoint.url", &*keys),
    ];
    let world = world(&set).await;
    let carol = issuer.said("millstream", "carol", 600);
    check(&world, None, &[("/metrics", &carol, 401), ("/metrics", ANN, 200)]).await;
    world.server.stop().await;
}

#[tokio::test]
async fn certificates_of_the_pages_are_replaced_while_they_are_asked_for() {
    let world = world(&[]).await;
    check(&world, None, &[("/metrics", "", 200)]).await;
    let new = authority("another authority");
    fs::write(world.dir.path().join("server.pem"), signed(&new, "server", 2091)).unwrap();
    assert!(world.server.reload_certificates().unwrap().unwrap());
    assert_eq!(status(&world, &client(&world.authority, None), "/livez", "").await, 0);
    assert_eq!(status(&world, &client(&new, None), "/livez", "").await, 200);
    world.server.stop().await;
}

#[tokio::test]
async fn the_names_that_clients_are_told_are_this_hosts() {
    let mut config = config(&[("millstream.http.hosts", "mill.example.org")]);
    config.advertise = Some(("kafka.example.org".to_owned(), 9092));
    let server = Server::start(config).await.unwrap();
    assert!(server.http_url().unwrap().starts_with("http://127.0.0.1:"));
    for (host, expected) in [
        ("kafka.example.org:8080", "HTTP/1.1 200"),
        ("mill.example.org", "HTTP/1.1 200"),
        ("example.org", "HTTP/1.1 421"),
    ] {
        let stream = TcpStream::connect(server.http_address().unwrap()).await.unwrap();
        let answer = ask(stream, "/metrics", &format!("Host: {host}\r\n")).await.unwrap();
        assert!(answer.starts_with(expected), "{host}: {answer}");
    }
    server.stop().await;
}

/// One who has not said who he is can be allowed what he asks.
#[tokio::test]
async fn with_rights_and_without_logins_everybody_is_anonymous() {
    let server = Server::start(config(&RIGHTS)).await.unwrap();
    let ask = async |headers| {
        let stream = TcpStream::connect(server.http_address().unwrap()).await.unwrap();
        ask(stream, "/metrics", headers).await.unwrap()
    };
    assert!(ask("").await.starts_with("HTTP/1.1 403"));
    assert!(ask(ANN).await.starts_with("HTTP/1.1 403"));
    allow(&server, "User:ANONYMOUS").await;
    let shown = ask("").await;
    assert!(
        shown.starts_with("HTTP/1.1 200") && shown.contains("millstream_http_denied_total 2\n")
    );
    server.stop().await;
}

#[tokio::test]
async fn what_would_be_sent_in_the_clear_is_refused() {
    let everywhere = SocketAddr::from(([0, 0, 0, 0], 0));
    let start = async |at, settings: &[(&str, &str)]| {
        let config = ServerConfig { http_listen: Some(at), ..config(settings) };
        match Server::start(config).await {
            Ok(server) => {
                server.stop().await;
                String::new()
            }
            Err(error) => error.to_string(),
        }
    };
    let basic = ("millstream.http.authentication", "basic");
    let certificate = ("millstream.http.authentication", "certificate");
    let bearer = ("millstream.http.authentication", "bearer");
    let (tls, key) = (("millstream.http.tls", "true"), ("ssl.keystore.location", "nowhere.pem"));
    let allowed = ("millstream.allow.plaintext.on.network", "true");
    for (at, settings, expected) in [
        (everywhere, &[][..], "millstream.http.tls=true"),
        (everywhere, &[basic], "millstream.allow.plaintext.on.network=true"),
        (LOOPBACK, &[certificate], "needs TLS"),
        (LOOPBACK, &[tls], "ssl.keystore.location"),
        (LOOPBACK, &[tls, key], "can't read nowhere.pem"),
        (LOOPBACK, &[tls, key, certificate], "ssl.truststore.location"),
        (LOOPBACK, &[("millstream.http.authentication", "negotiate")], "basic"),
        (LOOPBACK, &[bearer], "sasl.oauthbearer.jwks.endpoint.url"),
    ] {
        let why = start(at, settings).await;
        assert!(why.contains(expected), "{settings:?}: {why}");
    }
    for (at, settings) in [(everywhere, &[allowed][..]), (LOOPBACK, &[basic])] {
        assert_eq!(start(at, settings).await, "", "{settings:?}");
    }
}
