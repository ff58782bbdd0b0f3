//! `serve`: ready line, refusals, pages, settings, and the end in good order.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::{Server, folder, run};

#[test]
fn it_says_in_one_line_that_it_is_ready() {
    let server = Server::in_memory();
    let ready = format!("ready: Kafka clients at {}, http://{}\n", server.kafka, server.http);
    assert_eq!(server.said.matches("ready: ").count(), 1, "{}", server.said);
    assert!(server.said.ends_with(&ready), "{}", server.said);
    assert_eq!(server.cli("topic list --json").json(), json!([]));
    let (code, rest) = server.terminate();
    assert_eq!(code, Some(0), "{rest}");
    assert!(rest.contains("stopping"), "{rest}");
}

#[test]
fn what_it_cannot_do_it_refuses_with_advice() {
    let dir = folder();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let broken = file("broken.toml", "num.partitions =");
    let date = file("date.toml", "num.partitions = 1979-05-27");
    let misspelt = file("misspelt.toml", "[num]\npartition = 3\n");
    let config = |path: &str| format!("--config {path}");
    for (options, pieces) in [
        (
            "--kafka-listen 0.0.0.0:9092".to_owned(),
            ["clients can't connect to 0.0.0.0", "--advertise 192.0.2.10:9092"],
        ),
        (
            "--kafka-listen [::]:9092".to_owned(),
            ["clients can't connect to ::", "--advertise [2001:db8::10]:9092"],
        ),
        ("--set num.partition=3".to_owned(), ["num.partition", "num.partitions"]),
        ("--set num.partitions=none".to_owned(), ["num.partitions", "none"]),
        ("--set num.partitions=0".to_owned(), ["num.partitions", "a whole number from 1"]),
        (config("nowhere.toml"), ["can't use nowhere.toml", "No such file"]),
        (config(&broken), ["broken.toml", "line 1"]),
        (config(&date), ["date.toml", "no setting is a date"]),
        (config(&misspelt), ["num.partition", "num.partitions"]),
    ] {
        let line = format!("serve --in-memory {options}");
        run(&line, None, b"").fails(1, &pieces);
    }
}

#[test]
fn a_place_that_is_taken_is_refused() {
    let dir = folder();
    let data = dir.path().join("data");
    let server = Server::in_directory(&data);
    let line = format!(
        "serve --kafka-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --data-dir {}",
        data.display()
    );
    run(&line, None, b"").fails(1, &["is in use by process", "--data-dir"]);
    let line = format!("serve --in-memory --kafka-listen {}", server.kafka);
    run(&line, None, b"").fails(1, &["can't listen at", "--kafka-listen"]);
    let line =
        format!("serve --in-memory --kafka-listen 127.0.0.1:0 --http-listen {}", server.http);
    run(&line, None, b"").fails(1, &["can't listen at", "--http-listen"]);
    // Nothing of that has harmed the first.
    assert_eq!(server.page("/readyz"), (200, "ready\n".to_owned()));
}

#[test]
fn the_command_line_comes_before_the_file() {
    let dir = folder();
    let path = dir.path().join("millstream.toml");
    fs::write(&path, "[num]\npartitions = 3\n[log]\nretention.ms = 1000\n").unwrap();
    let options = format!("--in-memory --config {} --set num.partitions=5", path.display());
    let server = Server::start(&options);
    let created = server.cli("topic create t --json").json();
    assert_eq!(created["partitions"], 5);
    let described = server.cli("topic describe t --all").ok();
    assert!(described.contains("1000 (1 second)"), "{described}");
}

#[test]
fn a_wildcard_is_taken_when_clients_are_told_an_address() {
    let server = Server::start(
        "--in-memory --kafka-listen 0.0.0.0:0 --advertise localhost:1 \
         --set millstream.allow.plaintext.on.network=true",
    );
    assert!(server.kafka.starts_with("0.0.0.0:"), "{}", server.kafka);
    assert!(server.said.contains("is open to everybody"), "{}", server.said);
}

#[test]
fn all_is_there_after_a_restart() {
    let dir = folder();
    let data = dir.path().join("data");
    let consume = "consume t --partition 1 --json";
    let mut before = Vec::new();
    for start in 0..3 {
        let server = Server::in_directory(&data);
        if start == 0 {
            let create = "topic create t --partitions 2 --config retention.ms=-1";
            server.cli(create).ok();
            server.cli_with("produce t --partition 1 --key k --header a=b", "one\ntwo\n").ok();
            server.cli("group reset g --topic t --partition 1 --to 1").ok();
            before = server.cli(consume).json_lines();
            assert_eq!(before.len(), 2);
        }
        assert_eq!(server.cli(consume).json_lines(), before);
        let group = server.cli("group describe g --json").json();
        assert_eq!(group["partitions"][0]["committed_offset"], 1);
        let topic = server.cli("topic describe t --json").json();
        assert_eq!(topic["configs"][0]["value"], "-1");
        assert_eq!(topic["partitions"][1]["leader_epoch"], start);
        let (code, rest) = server.terminate();
        assert_eq!(code, Some(0), "{rest}");
    }
}

#[test]
fn the_pages_tell_what_goes_on() {
    let dir = folder();
    let server = Server::in_directory(&dir.path().join("data"));
    assert_eq!(server.page("/livez"), (200, "live\n".to_owned()));
    assert_eq!(server.page("/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(server.page("/nothing").0, 404);
    let produced = r#"api="Produce""#;
    let figures = |server: &Server| {
        [
            server.metric("millstream_kafka_request_seconds_count", produced),
            server.metric("millstream_kafka_request_seconds_sum", produced),
            server.metric("millstream_kafka_request_seconds_bucket", produced),
            server.metric("millstream_kafka_received_bytes_total", ""),
            server.metric("millstream_kafka_sent_bytes_total", ""),
            server.metric("millstream_partitions", ""),
            server.metric("millstream_journal_writes_total", ""),
            server.metric("millstream_journal_written_bytes_total", ""),
            server.metric("millstream_journal_flush_seconds_count", ""),
            server.metric("millstream_journal_flush_seconds_sum", ""),
            server.metric("millstream_journal_flush_seconds_bucket", ""),
            server.metric("millstream_appended_bytes_total", ""),
            server.metric("millstream_tail_bytes", ""),
        ]
    };
    let before = figures(&server);
    server.cli("topic create t --partitions 3").ok();
    server.cli_with("produce t --partition 0", "one\ntwo\nthree\n").ok();
    server.cli("group reset g --topic t --to 1").ok();
    for (at, (before, after)) in before.into_iter().zip(figures(&server)).enumerate() {
        assert!(before < after, "figure {at}: {before} is not less than {after}");
    }
    assert_eq!(server.metric("millstream_group_lag", r#"group="g""#), 2.0);
    server.cli("consume t --group g").ok();
    assert_eq!(server.metric("millstream_group_lag", r#"group="g""#), 0.0);
}

#[test]
fn log_lines_are_for_people_or_for_programs() {
    let server = Server::start("--in-memory --log-format json");
    let mut text = server.said.clone();
    let (code, rest) = server.terminate();
    assert_eq!(code, Some(0));
    text.push_str(&rest);
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["level"], "INFO", "{line}");
    }
}

/// Starts a shell script where a crash leaves a core dump as far as the system makes any.
fn where_crashes_are_kept(script: &str) -> Command {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("ulimit -c unlimited 2>/dev/null; {script}"));
    shell.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    shell
}

#[test]
fn a_crash_leaves_no_secrets_behind() {
    let dir = folder();
    let system_does = {
        let mut shell = where_crashes_are_kept("kill -s ABRT $$");
        shell.current_dir(dir.path()).status().unwrap().core_dumped()
    };
    for (option, expected) in [("", false), ("--core-dumps", system_does)] {
        let serve = format!(
            "exec {} serve --in-memory --kafka-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 {option}",
            env!("CARGO_BIN_EXE_millstream")
        );
        let mut server = where_crashes_are_kept(&serve).current_dir(dir.path()).spawn().unwrap();
        let mut log = BufReader::new(server.stderr.take().unwrap()).lines();
        assert!(log.any(|line| line.unwrap().starts_with("ready: ")), "it does not start");
        let id = server.id().to_string();
        assert!(Command::new("kill").args(["-s", "ABRT", &id]).status().unwrap().success());
        let crashed = server.wait().unwrap();
        assert_eq!((crashed.signal(), crashed.core_dumped()), (Some(6), expected), "{option}");
    }
}
