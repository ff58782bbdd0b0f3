//! What goes wrong, and whether the message helps; help and completions.

use std::net::TcpListener;

use crate::harness::{Server, run};

#[test]
fn where_no_broker_is_the_message_says_what_to_do() {
    // Nobody listens where a listener has been closed.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let pieces = ["can't connect to ", "nothing listens at ", "millstream serve", "--bootstrap"];
    for line in [
        "topic list",
        "topic create t",
        "topic describe t",
        "topic alter t --set a=b",
        "topic delete t",
        "produce t",
        "consume t",
        "group list",
        "group describe g",
        "group reset g --to earliest",
        "group delete g",
    ] {
        run(line, Some(&free), b"").fails(1, &pieces);
    }
    run("topic list --bootstrap nowhere.invalid:1", None, b"")
        .fails(1, &["can't connect to nowhere.invalid:1", "--bootstrap HOST:PORT"]);
}

#[test]
fn what_the_cluster_refuses_is_explained() {
    let server = Server::in_memory();
    server.cli("topic create t --partitions 2").ok();
    for (line, pieces) in [
        ("topic create t", ["topic t: the topic already exists", "--if-not-exists"]),
        ("topic create 'a b'", ["topic a b: ' ' can't be in a topic's name", "letters, digits"]),
        ("topic create u --set retention.m=1", ["unknown topic config", "`retention.ms`"]),
        (
            "topic create u --set retention.ms=1d",
            ["`retention.ms` can't be `1d`", "a whole number"],
        ),
        ("topic describe nobody", ["topic nobody: there is no such topic", "topic list"]),
        ("topic alter nobody --set retention.ms=1", ["there is no such topic", "topic list"]),
        ("topic delete nobody", ["topic nobody: there is no such topic", "topic list"]),
        ("topic alter t", ["nothing to change", "--set"]),
        ("topic alter t --partitions 1", ["the topic has 2 partitions", "only be more"]),
        ("topic alter t --set segment.byte=1", ["`segment.bytes`", "describe TOPIC --all"]),
        ("consume nobody", ["topic nobody: there is no such topic", "topic create nobody"]),
        ("consume t --partition 2", ["topic t has no partition 2", "it has 2, from 0 on"]),
        ("consume t --group g --from 3", ["with --group, --from is", "group reset g --topic t"]),
        ("produce 'a b'", ["topic a b: no name that a topic can have", "up to 249 letters"]),
        ("produce t --file nowhere", ["can't read nowhere", "No such file"]),
        ("group describe nobody", ["group nobody", "group list"]),
        ("group delete nobody", ["group nobody: there is no such group", "group list"]),
    ] {
        server.cli(line).fails(1, &pieces);
    }
    assert!(!server.cli("topic list").ok().contains("nobody"), "a look has made a topic");
}

#[test]
fn what_cannot_be_produced_is_explained() {
    let server = Server::in_memory();
    server.cli("topic create t --partitions 2").ok();
    for (line, input, pieces) in [
        (
            "--json",
            "{\"value\":\"1\"}\n{\"vlaue\":\"2\"}",
            ["line 2: unknown field `vlaue`", "`value`"],
        ),
        ("--json", "{\"value\":1}", ["line 1: keys and values are text in quotes", "base64"]),
        ("--json", "{\"key\":{\"base64\":\"?\"}}", ["line 1: what is said to be base64", "is not"]),
        ("--json", "{\"timestamp\":\"soon\"}", ["line 1: `soon` is no time", "2026-01-31"]),
        ("--json", "plain text", ["line 1: expected value (column 1)", "--format lines"]),
        ("--partition 2", "1", ["topic t has no partition 2", "it has 2, from 0 on"]),
    ] {
        server.cli_with(&format!("produce t {line}"), input).fails(1, &pieces);
    }
    assert_eq!(server.cli("consume t").ok(), "1\n", "what came before the mistake is there");
}

#[test]
fn who_is_no_broker_is_told_so() {
    let server = Server::in_memory();
    run("topic list", Some(&server.http), b"")
        .fails(1, &["does not speak the Kafka protocol", "HTTP"]);
}

#[test]
fn wrong_words_end_with_another_code_than_failures() {
    for (line, pieces) in [
        ("frobnicate", ["unrecognized subcommand 'frobnicate'", "--help"]),
        ("topic lst", ["unrecognized subcommand 'lst'", "'list'"]),
        ("topic create", ["required arguments were not provided", "<TOPIC>"]),
        ("topic create t --partitions 0", ["invalid value '0' for '--partitions <N>'", "1.."]),
        ("consume t --from soon", ["`soon` is none of: earliest, latest", "-1h"]),
        ("consume t --group g --partition 1", ["cannot be used with", "--partition <N>"]),
        ("produce t --compression zip", ["invalid value 'zip'", "none, gzip, snappy, lz4, zstd"]),
        ("group reset g --to x", ["`x` is none of: earliest, latest, an offset, +N or -N", "time"]),
        ("serve --kafka-listen localhost:9092", ["`localhost:9092` is no IP address", "127.0.0.1"]),
        ("serve --set x", ["`x` is not NAME=VALUE", "--set"]),
        ("serve --in-memory --data-dir x", ["cannot be used with", "--data-dir"]),
        ("log export", ["required arguments were not provided", "--out <DIR>"]),
    ] {
        run(line, None, b"").fails(2, &pieces);
    }
    run("log verify --data-dir nowhere", None, b"")
        .fails(1, &["no data directory of Millstream", "--data-dir"]);
    let serve = "serve --in-memory --kafka-listen 127.0.0.1:0 --http-listen 127.0.0.1:0";
    crate::harness::run_with_log_filter(serve, "a=b=c").fails(1, &["MILLSTREAM_LOG=a=b=c", "info"]);
}

#[test]
fn every_command_has_examples() {
    for command in [
        "serve",
        "topic create",
        "topic list",
        "topic describe",
        "topic alter",
        "topic delete",
        "produce",
        "consume",
        "group list",
        "group describe",
        "group reset",
        "group delete",
        "log dump",
        "log verify",
        "log export",
        "cert server",
        "cert client",
        "cert show",
        "completions",
    ] {
        let help = run(&format!("{command} --help"), None, b"").ok();
        let example = format!("millstream {command} ");
        let (_, examples) =
            help.split_once("\nExample").unwrap_or_else(|| panic!("{command}: {help}"));
        assert!(examples.contains(example.trim_end()), "{command}: {examples}");
        assert_eq!(run(&format!("{command} -h"), None, b"").ok(), help, "{command}");
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(110), "{command}: a line of {widest:?} characters");
    }
    let version = run("--version", None, b"").ok();
    assert_eq!(version, format!("millstream {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn completions_know_commands_and_options() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&format!("completions {shell}"), None, b"").ok();
        for word in ["millstream", "describe", "kafka-listen", "if-not-exists", "dry-run", "export"]
        {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
}
