//! `group list|describe|reset|delete`.

use serde_json::{Value, json};

use crate::harness::Server;

/// A server with ten records in partition 0 of `t` and five in partition 1; the group `g` has read
/// the first four of partition 0.
fn with_a_group() -> Server {
    let server = Server::in_memory();
    server.cli("topic create t --partitions 2").ok();
    for (partition, records) in [(0, 10), (1, 5)] {
        // The times are seconds since 1970.
        let input: String = (0..records)
            .map(|at| format!("{{\"value\":\"{at}\",\"timestamp\":{}}}\n", 1_000 * at))
            .collect();
        let line = format!("produce t --partition {partition} --json");
        server.cli_with(&line, input).json();
    }
    server.cli("group reset g --topic t --partition 0 --to 4").ok();
    server
}

#[test]
fn groups_for_people() {
    let server = Server::in_memory();
    let none = "there are no groups; `millstream consume TOPIC --group NAME` makes one\n";
    server.check(&[("group list", none)]);
    let server = with_a_group();
    server.check(&[
        ("group list", "GROUP  TYPE     STATE  PROTOCOL\ng      classic  Empty\n"),
        (
            "group describe g",
            "group g: Empty, 0 members\n\
             lag: 6 records\n\n\
             TOPIC  PARTITION  COMMITTED  END  LAG  CLIENT  HOST  MEMBER\n\
             t              0          4   10    6  -       -     -\n",
        ),
        ("group delete g", "deleted group g\n"),
        ("group list --json", "[]\n"),
    ]);
}

#[test]
fn groups_for_programs() {
    let server = with_a_group();
    let group = json!([{"group": "g", "type": "classic", "state": "Empty", "protocol_type": ""}]);
    assert_eq!(server.cli("group list --json").json(), group);
    let described = server.cli("group describe g --json").json();
    assert_eq!(described["total_lag"], 6);
    let partition = &described["partitions"][0];
    assert_eq!(partition["lag"], 6);
    assert_eq!(partition["member_id"], Value::Null);
    let deleted = json!({"group": "g", "outcome": "deleted"});
    assert_eq!(server.cli("group delete g --json").json(), deleted);
}

#[test]
fn a_member_is_shown_and_in_the_way() {
    let server = with_a_group();
    let mut member = server.cli_running("consume t --group g --follow");
    member.line();
    let described = server.cli("group describe g --json").json();
    assert_eq!(described["state"], "Stable");
    assert_eq!(described["members"][0]["client_id"], "millstream-cli");
    assert_eq!(described["members"][0]["partitions"], 2);
    assert_eq!(described["partitions"].as_array().unwrap().len(), 2);
    let text = server.cli("group describe g").ok();
    assert!(text.starts_with("group g: Stable, 1 member, assigned by "), "{text}");
    assert!(text.contains("millstream-cli"), "{text}");
    for line in ["group reset g --to earliest", "group reset g --to earliest --dry-run"] {
        server.cli(line).fails(1, &["group g has 1 member", "stop"]);
    }
    server.cli("group delete g").fails(1, &["group g", "stop the group's members first"]);
    member.terminate();
    assert_eq!(server.cli("group describe g --json").json()["state"], "Empty");
    server.cli("group delete g").ok();
}

#[test]
fn every_kind_of_reset() {
    let server = with_a_group();
    let new = |line: &str| -> Vec<(i64, i64)> {
        let resets = server.cli(line).json();
        let resets = resets.as_array().unwrap().iter();
        let pair = |reset: &Value| {
            (reset["partition"].as_i64().unwrap(), reset["new_offset"].as_i64().unwrap())
        };
        resets.map(pair).collect()
    };
    for (to, expected) in [
        ("earliest", vec![(0, 0)]),
        ("latest", vec![(0, 10)]),
        ("7", vec![(0, 7)]),
        ("700", vec![(0, 10)]),
        ("+3", vec![(0, 7)]),
        ("-3", vec![(0, 1)]),
        ("-30", vec![(0, 0)]),
        ("1970-01-01T00:00:06Z", vec![(0, 6)]),
        ("1970-01-01T00:00:05.5Z", vec![(0, 6)]),
        ("-1h", vec![(0, 10)]),
        ("earliest --topic t", vec![(0, 0), (1, 0)]),
        ("1970-01-01T00:00:03Z --topic t", vec![(0, 3), (1, 3)]),
        ("latest --topic t --partition 1", vec![(1, 5)]),
    ] {
        let line = format!("group reset g --json --to {to}");
        assert_eq!(new(&format!("{line} --dry-run")), expected, "{to}");
        let committed = |server: &Server| {
            let described = server.cli("group describe g --json").json();
            let partitions = described["partitions"].as_array().unwrap().clone();
            let offset = |line: &Value| {
                (line["partition"].as_i64().unwrap(), line["committed_offset"].as_i64().unwrap())
            };
            partitions.iter().map(offset).collect::<Vec<_>>()
        };
        assert_eq!(committed(&server), [(0, 4)], "a dry run has changed something");
        assert_eq!(new(&line), expected, "{to}");
        for pair in expected {
            assert!(committed(&server).contains(&pair), "{to}");
        }
        // As it was.
        server.cli("group delete g").ok();
        server.cli("group reset g --topic t --partition 0 --to 4").ok();
    }
}

#[test]
fn a_reset_says_what_it_does() {
    let server = with_a_group();
    let table = "TOPIC  PARTITION  OLD  NEW\n\
                 t              0    4    6\n";
    server.check(&[
        (
            "group reset g --to 1970-01-01T00:00:06Z --dry-run",
            &format!(
                "{table}\nto the first records of 1970-01-01T00:00:06Z or later\n\n\
                 nothing was changed (--dry-run)\n"
            ),
        ),
        ("group reset g --to +2", &format!("{table}\ngroup g goes on at the new offsets\n")),
        ("consume t --group g --count 1", "6\n"),
    ]);
    server.cli("group reset new --to +2").fails(1, &["group new has no offsets", "--topic"]);
    server.cli("group reset g --topic t --partition 2 --to 0").fails(1, &["no partition 2"]);
    server.cli("group reset g --topic nobody --to 0").fails(1, &["nobody", "topic list"]);
}
