//! Listeners: what is set, and what it comes to.

use super::super::listeners::{DEFAULT_MAP, Endpoint, SecurityProtocol, listeners};
use super::super::{Kind, find};
use super::overrides;

/// `NAME protocol bind advertised`, line by line.
fn told(set: &[(&str, &str)]) -> Result<String, String> {
    let found = listeners(&overrides(set)).map_err(|error| error.to_string())?;
    let lines = found.iter().map(|one| {
        let told = one.advertised.as_ref().map_or("-".to_owned(), Endpoint::to_string);
        format!("{} {} {} {told}", one.name, one.protocol, one.bind)
    });
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

#[test]
fn listeners_are_read() {
    #[track_caller]
    fn check(set: &[(&str, &str)], expected: &str) {
        assert_eq!(told(set).as_deref(), Ok(expected), "{set:?}");
    }
    let (here, there) = ("listeners", "advertised.listeners");
    let map = "listener.security.protocol.map";
    check(&[], "");
    check(&[(here, " ")], "");
    check(&[(here, "PLAINTEXT://127.0.0.1:9092")], "PLAINTEXT PLAINTEXT 127.0.0.1:9092 -");
    check(&[(here, "plaintext://localhost:0")], "PLAINTEXT PLAINTEXT localhost:0 -");
    check(&[(here, "SSL://[::1]:9093,")], "SSL SSL [::1]:9093 -");
    check(
        &[(here, "SSL://:9093"), (there, "SSL://kafka.example.org:19093")],
        "SSL SSL :9093 kafka.example.org:19093",
    );
    check(
        &[
            (here, "INSIDE://127.0.0.1:9092 , outside://0.0.0.0:9093"),
            (there, "OUTSIDE://[2001:db8::1]:443"),
            (map, "inside:PLAINTEXT,OUTSIDE:ssl"),
        ],
        "INSIDE PLAINTEXT 127.0.0.1:9092 -\nOUTSIDE SSL 0.0.0.0:9093 [2001:db8::1]:443",
    );
    check(
        &[(here, "SASL_SSL://127.0.0.1:1,SASL_PLAINTEXT://127.0.0.1:2")],
        "SASL_SSL SASL_SSL 127.0.0.1:1 -\nSASL_PLAINTEXT SASL_PLAINTEXT 127.0.0.1:2 -",
    );
    // Any number of free ports.
    check(
        &[(here, "PLAINTEXT://127.0.0.1:0,SSL://127.0.0.1:0")],
        "PLAINTEXT PLAINTEXT 127.0.0.1:0 -\nSSL SSL 127.0.0.1:0 -",
    );
}

#[test]
fn what_is_no_listener_is_explained() {
    #[track_caller]
    fn check(set: &[(&str, &str)], expected: &str) {
        let refused = told(set).expect_err(expected);
        assert!(refused.contains(expected), "{set:?}: {refused}");
    }
    let (here, there) = ("listeners", "advertised.listeners");
    let map = "listener.security.protocol.map";
    for text in [
        "127.0.0.1:9092",
        "PLAINTEXT:/127.0.0.1:9092",
        "PLAINTEXT://127.0.0.1",
        "PLAINTEXT://127.0.0.1:",
        "PLAINTEXT://127.0.0.1:65536",
        "PLAINTEXT://::1:9092",
        "PLAINTEXT://[::1:9092",
        "PLAINTEXT://[host]:9092",
        "PLAINTEXT://a/b:9092",
        "PLAINTEXT://a b:9092",
        "://127.0.0.1:9092",
        "PLAIN TEXT://127.0.0.1:9092",
    ] {
        check(&[(here, text)], "is no listener: write NAME://HOST:PORT");
        check(&[(here, "PLAINTEXT://127.0.0.1:1"), (there, text)], "is no listener");
    }
    check(&[(here, "TLS://127.0.0.1:1")], "what listener `TLS` speaks is not said");
    check(&[(here, "SSL://127.0.0.1:1"), (map, "PLAINTEXT:PLAINTEXT")], "add `SSL:PROTOCOL`");
    check(&[(map, "A:TLS")], "`A:TLS` in `listener.security.protocol.map`");
    check(&[(map, "A:SSL,a:PLAINTEXT")], "`A` stands twice in `listener.security.protocol.map`");
    check(&[(here, "SSL://h:1,ssl://h:2")], "`SSL` stands twice in `listeners`");
    check(&[(here, "SSL://h:1,PLAINTEXT://h:1")], "two listeners are at h:1");
    check(&[(here, "SSL://h:1"), (there, "PLAINTEXT://h:1")], "`PLAINTEXT`, which is not in");
    for host in ["0.0.0.0", "[::]", ""] {
        let listens = format!("SSL://{host}:9093");
        check(&[(here, &listens)], "say in `advertised.listeners` which address");
        check(&[(here, "SSL://h:9093"), (there, &listens)], "can't connect to");
    }
    check(&[(here, "SSL://h:9093"), (there, "SSL://h:0")], "can't connect to h:0");
}

#[test]
fn protocols_say_what_they_need() {
    use SecurityProtocol::*;
    for (protocol, tls, sasl) in [
        (Plaintext, false, false),
        (Ssl, true, false),
        (SaslPlaintext, false, true),
        (SaslSsl, true, true),
    ] {
        assert_eq!((protocol.has_tls(), protocol.needs_sasl()), (tls, sasl));
        assert_eq!(protocol.to_string().parse(), Ok(protocol));
    }
}

#[test]
fn the_map_is_the_one_that_tools_are_told() {
    let entry = find(Kind::Broker, "listener.security.protocol.map").unwrap();
    assert_eq!(entry.default, Some(DEFAULT_MAP));
}
