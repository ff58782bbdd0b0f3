//! `produce` and `consume`.

use std::fs;

use serde_json::json;

use crate::harness::{Server, folder};

#[test]
fn lines_go_in_and_come_out() {
    let server = Server::in_memory();
    let said = server.cli_with("produce t", "one\ntwo\r\n\nlast without an end").ok();
    assert!(said.starts_with("produced 4 records (25 B) to t in "), "{said}");
    server.check(&[
        ("consume t", "one\ntwo\n\nlast without an end\n"),
        ("consume t --count 2", "one\ntwo\n"),
        ("consume t --from 1 --count 1", "two\n"),
        ("consume t --from latest", ""),
        ("consume t --from earliest --count 0", ""),
        ("consume t --from 2000-01-01 --count 1", "one\n"),
        ("consume t --from -1h --count 1", "one\n"),
        ("consume t --committed --count 1", "one\n"),
    ]);
}

#[test]
fn keys_headers_and_partitions() {
    let server = Server::in_memory();
    server.cli("topic create t --partitions 3").ok();
    let input = "42:Ada\nno key\n43:Grace:Hopper\n";
    server
        .cli_with("produce t --partition 2 --key-separator : --header a=b --header c=", input)
        .ok();
    server.cli_with("produce t --partition 0 --key all", "x\n").ok();
    server.check(&[
        ("consume t --partition 2", "Ada\nno key\nGrace:Hopper\n"),
        ("consume t --partition 1", ""),
        ("consume t --partition 0 --format key-value --key-separator ' = '", "all = x\n"),
        ("consume t --partition 2 --format key-value", "42\tAda\n\tno key\n43\tGrace:Hopper\n"),
    ]);
    let record = server.cli("consume t --partition 2 --from 0 --count 1 --json").json();
    let headers = json!([{"key": "a", "value": "b"}, {"key": "c", "value": ""}]);
    let timestamp = &record["timestamp"];
    assert_eq!(
        record,
        json!({
            "topic": "t", "partition": 2, "offset": 0, "timestamp": timestamp,
            "key": "42", "value": "Ada", "headers": headers
        })
    );
    let all = server.cli("consume t --partition 0 --partition 2 --json").json_lines();
    assert_eq!(all.len(), 4);
}

#[test]
fn what_consume_shows_as_json_produce_takes() {
    let server = Server::in_memory();
    server.cli("topic create copy --partitions 2").ok();
    let input = concat!(
        r#"{"key":"k","value":{"base64":"//4="},"headers":{"h":"1"},"timestamp":1000}"#,
        "\n\n",
        r#"{"partition":1,"headers":[{"key":"a","value":"1"},{"key":"a"}],"value":null}"#,
        "\n",
        r#"{"value":"ü","timestamp":"2026-01-31T13:30:00Z","partition":1}"#,
        "\n",
    );
    server.cli("topic create first --partitions 2").ok();
    let produced = server.cli_with("produce first --json", input).json();
    assert_eq!((&produced["topic"], &produced["records"]), (&json!("first"), &json!(3)));
    let shown = server.cli("consume first --json").ok();
    server.cli_with("produce copy --json", &shown).json();
    let copied = server.cli("consume copy --json").ok().replace("copy", "first");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted(&copied), sorted(&shown));
    assert!(shown.contains(r#""value":{"base64":"//4="}"#), "{shown}");
    assert!(shown.contains(r#""timestamp":1769866200000"#), "{shown}");
}

#[test]
fn files_compressions_and_acknowledgements() {
    let dir = folder();
    let server = Server::in_memory();
    let path = dir.path().join("numbers");
    let numbers: String = (0..5_000).map(|number| format!("number {number}\n")).collect();
    fs::write(&path, &numbers).unwrap();
    for (at, how) in [
        "--compression none --acks 1",
        "--compression gzip",
        "--compression snappy --idempotent false",
        "--compression lz4 --acks all --idempotent",
        "--compression zstd --acks 0",
    ]
    .into_iter()
    .enumerate()
    {
        let produced = server
            .cli(&format!("produce t{at} --file {} --format lines --json {how}", path.display()))
            .json();
        assert_eq!(produced["records"], 5_000, "{how}");
        assert_eq!(produced["bytes"], numbers.len() as u64 - 5_000, "{how}");
        // What nobody has acknowledged may still be on its way: the reader waits for it.
        let consumed = server.cli(&format!("consume t{at} --follow --count 5000")).ok();
        assert_eq!(consumed, numbers, "{how}");
    }
}

#[test]
fn a_follower_sees_what_comes_later() {
    let server = Server::in_memory();
    server.cli_with("produce t", "before\n").ok();
    let mut follower = server.cli_running("consume t --follow");
    assert_eq!(follower.line(), "before\n");
    server.cli_with("produce t", "after\n").ok();
    assert_eq!(follower.line(), "after\n");
    follower.terminate();
}

#[test]
fn what_was_typed_before_an_interrupt_is_there() {
    let server = Server::in_memory();
    server.cli("topic create t").ok();
    let mut follower = server.cli_running("consume t --follow");
    let mut producer = server.cli_running("produce t");
    producer.write("one\ntwo\n");
    assert_eq!((follower.line(), follower.line()), ("one\n".to_owned(), "two\n".to_owned()));
    let (code, said) = producer.end("INT");
    assert_eq!(code, Some(1));
    assert_eq!(said, "error: stopped after 2 records: interrupted\n");
    follower.terminate();
}

/// Found by looking at the lag of a group that waited for more: nothing was committed until it came.
#[test]
fn a_follower_commits_while_nothing_comes() {
    let server = Server::in_memory();
    server.cli_with("produce t", "1\n2\n").ok();
    let mut follower = server.cli_running("consume t --group g --follow");
    assert_eq!((follower.line(), follower.line()), ("1\n".to_owned(), "2\n".to_owned()));
    let committed = || {
        let group = server.cli("group describe g --json").json();
        group["partitions"][0]["committed_offset"].as_i64()
    };
    assert!((0..10_000).any(|_| committed() == Some(2)), "nothing is committed");
    follower.terminate();
}

#[test]
fn a_group_goes_on_where_it_has_stopped() {
    let server = Server::in_memory();
    server.cli_with("produce t", "1\n2\n3\n4\n5\n").ok();
    server.check(&[
        ("consume t --group g --count 2", "1\n2\n"),
        ("consume t --group g --count 1", "3\n"),
        ("consume t --group g", "4\n5\n"),
        ("consume t --group g", ""),
        ("consume t --group late --from latest", ""),
        ("consume t --group other --count 1", "1\n"),
    ]);
}
