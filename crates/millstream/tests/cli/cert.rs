//! `cert`: what it makes is what a broker and its clients need.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use crate::harness::{Server, folder, run};

#[test]
fn a_broker_starts_with_what_it_makes() {
    let dir = folder();
    let certs = dir.path().join("certs").display().to_string();
    let made = run(&format!("cert server --dir {certs} --json"), None, b"").json();
    assert_eq!(made["hosts"], serde_json::json!(["localhost", "127.0.0.1"]));
    assert_eq!(made["authority_is_new"], true);
    let made = run(&format!("cert client alice --dir {certs} --json"), None, b"").json();
    assert_eq!((&made["subject"], &made["authority_is_new"]), (&"CN=alice".into(), &false.into()));
    for name in ["ca.pem", "ca.key", "server.pem", "client-alice.pem"] {
        let mode = fs::metadata(format!("{certs}/{name}")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let shown =
        run(&format!("cert show {certs}/server.pem {certs}/ca.pem --json"), None, b"").json();
    assert_eq!(shown[0]["subject"], "CN=localhost");
    assert_eq!(shown[0]["issuer"], shown[1]["subject"]);
    assert_eq!(shown[0]["hosts"], serde_json::json!(["localhost", "127.0.0.1"]));
    assert_eq!(
        (&shown[0]["is_authority"], &shown[1]["is_authority"]),
        (&false.into(), &true.into())
    );
    assert_eq!(shown[0]["has_expired"], false);
    let server = Server::start(&format!(
        "--in-memory --set listeners=SSL://127.0.0.1:0,PLAINTEXT://127.0.0.1:0 \
         --set ssl.keystore.location={certs}/server.pem --set ssl.client.auth=required \
         --set ssl.truststore.location={certs}/ca.pem"
    ));
    let places: Vec<_> = server.kafka.split(' ').collect();
    assert!(places[0].starts_with("SSL://127.0.0.1:"), "{places:?}");
    let plain = places[1].strip_prefix("PLAINTEXT://").unwrap();
    assert_eq!(run("topic list --json", Some(plain), b"").json(), serde_json::json!([]));
    // Over TLS: only with both, and only to who is the one that was asked for.
    let tls = places[0].strip_prefix("SSL://127.0.0.1:").unwrap();
    let with = |host: &str, options: &str, line: &str| {
        run(&format!("{line} --bootstrap {host}:{tls} {options}"), None, b"one\n")
    };
    let trusts = format!("--ca {certs}/ca.pem");
    let both = format!("{trusts} --cert {certs}/client-alice.pem");
    with("localhost", &both, "produce t").ok();
    assert_eq!(with("127.0.0.1", &both, "consume t --count 1").ok(), "one\n");
    run(&format!("cert server --dir {certs}/others --json"), None, b"").ok();
    let mistrusts = format!("--ca {certs}/others/ca.pem --cert {certs}/client-alice.pem");
    with("localhost", &mistrusts, "topic list").fails(1, &["UnknownIssuer", "does --ca name"]);
    with("localhost", &trusts, "topic list").fails(1, &["--cert FILE.pem"]);
    with("127.0.0.2", &both, "topic list").fails(1, &["can't connect to 127.0.0.2"]);
    with("localhost", "", "topic list").fails(1, &["--ca FILE.pem"]);
    with("localhost", "--ca nowhere.pem", "topic list").fails(1, &["can't read nowhere.pem"]);
    assert!(server.metric("millstream_tls_certificate_expiry_timestamp_seconds", "") > 1.79e9);
    assert!(server.metric("millstream_kafka_tls_handshakes_total", "") >= 2.0);
    assert!(server.metric("millstream_kafka_refused_tls_handshakes_total", "") >= 2.0);
}

#[test]
fn a_token_that_it_makes_lets_its_user_in() {
    let dir = folder();
    let certs = dir.path().join("certs").display().to_string();
    let make =
        |line: &str| run(&format!("cert token {line} --dir {certs} --json"), None, b"").json();
    let made = make("alice");
    let keys = made["key_set"].as_str().unwrap().to_owned();
    let server = Server::start(&format!(
        "--in-memory --set listeners=SASL_PLAINTEXT://127.0.0.1:0 --set sasl.enabled.mechanisms=OAUTHBEARER \
         --set sasl.oauthbearer.jwks.endpoint.url=file://{keys} \
         --set sasl.oauthbearer.expected.audience=millstream"
    ));
    let at = server.kafka.strip_prefix("SASL_PLAINTEXT://").unwrap();
    let list = |user: &str, token: &str| {
        let options = "--login-mechanism oauthbearer --login-password-file -";
        let line = format!("topic list --json --login {user} {options}");
        run(&line, Some(at), token.as_bytes())
    };
    let token = |made: serde_json::Value| made["token"].as_str().unwrap().to_owned();
    assert_eq!(list("alice", &token(made)).json(), serde_json::json!([]));
    // The next one is by the same issuer, whose keys are left alone: others may make tokens at the same time.
    let written = fs::metadata(&keys).unwrap().ino();
    let bobs = token(make("bob --seconds 60"));
    assert_eq!(fs::metadata(&keys).unwrap().ino(), written);
    assert_eq!(list("bob", &bobs).json(), serde_json::json!([]));
    list("alice", &bobs).fails(1, &["nobody can act as somebody else"]);
    let other = token(make("bob --audience other"));
    list("bob", &other).fails(1, &["not for this audience"]);
    assert!(server.metric("millstream_oauth_key_fetches_total", "") >= 1.0);
    assert_eq!(server.metric("millstream_oauth_failed_key_fetches_total", "") as u64, 0);
    for name in ["issuer.pem", "jwks.json"] {
        let mode = fs::metadata(format!("{certs}/{name}")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn it_replaces_nothing_unasked_and_says_what_to_do() {
    let dir = folder();
    let certs = dir.path().display().to_string();
    let server = format!("cert server --host ::1 --host kafka.example.org --dir {certs}");
    let said = run(&server, None, b"").ok();
    for piece in ["millstream serve --set listeners=SSL://", "ssl.keystore.location=", "librdkafka"]
    {
        assert!(said.contains(piece), "no {piece}: {said}");
    }
    let before = fs::read(dir.path().join("server.pem")).unwrap();
    run(&server, None, b"").fails(1, &["server.pem is there already", "--force"]);
    assert_eq!(fs::read(dir.path().join("server.pem")).unwrap(), before);
    run(&format!("{server} --force"), None, b"").ok();
    assert_ne!(fs::read(dir.path().join("server.pem")).unwrap(), before);
    let said = run(&format!("cert client a@b --dir {certs}"), None, b"").ok();
    assert!(said.contains("ssl.principal.mapping.rules=RULE:^CN=([^,\\\\]+)$/$1/"), "{said}");
    run(&format!("cert client a/b --dir {certs}"), None, b"")
        .fails(1, &["`a/b` can't be the name"]);
    let shown = run(&format!("cert show {certs}/server.pem"), None, b"").ok();
    assert!(
        shown.contains("hosts    ::1, kafka.example.org") && shown.contains("397 days left"),
        "{shown}"
    );
    run(&format!("cert show {certs}/ca.key"), None, b"").fails(1, &["has no certificate"]);
    fs::remove_file(dir.path().join("ca.key")).unwrap();
    run(&format!("{server} --force"), None, b"").fails(1, &["ca.key is not there"]);
}
