//! `topic create|list|describe|alter|delete`.

use serde_json::{Value, json};

use crate::harness::Server;

/// The texts without the topics' ids, which differ each time.
fn without_ids(text: &str) -> String {
    let is_id = |word: &&str| word.starts_with('(') && word.ends_with("),") && word.len() == 25;
    let words = text.split(' ').map(|word| if is_id(&word) { "(ID)," } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn from_creation_to_deletion_for_people() {
    let server = Server::in_memory();
    server.check(&[
        ("topic list", "there are no topics; create one with `millstream topic create NAME`\n"),
        ("topic create a --partitions 2", "created topic a: 2 partitions, 1 replica\n"),
        ("topic create b --dry-run", "topic b could be created: 1 partition, 1 replica\n"),
        (
            "topic create a b --if-not-exists --set retention.ms=86400000 --config segment.bytes=1073741824",
            "topic a is there already\ncreated topic b: 1 partition, 1 replica\n",
        ),
    ]);
    server.cli_with("produce a --partition 1", "1\n2\n3\n").ok();
    server.check(&[(
        "topic list",
        "TOPIC  PARTITIONS  REPLICAS  RECORDS\n\
         a               2         1        3\n\
         b               1         1        0\n",
    )]);
    assert_eq!(
        without_ids(&server.cli("topic describe a").ok()),
        "topic a (ID), 2 partitions\n\n\
         PARTITION  LEADER  REPLICAS  IN SYNC  START  END  RECORDS\n\
         \u{20}       0  1       1         1            0    0        0\n\
         \u{20}       1  1       1         1            0    3        3\n\n\
         all settings are the broker's defaults (--all shows them)\n"
    );
    let described = server.cli("topic describe b").ok();
    let settings = "SETTING        VALUE\n\
                    retention.ms   86400000 (1 day)\n\
                    segment.bytes  1073741824 (1 GiB)\n";
    assert!(described.ends_with(settings), "{described}");
    let all = server.cli("topic describe b --all").ok();
    for line in ["retention.bytes", "flush.messages", "cleanup.policy"] {
        assert!(all.contains(line), "{all}");
    }
    server.check(&[
        (
            "topic alter b --unset retention.ms --set segment.ms=1000 --dry-run",
            "topic b could be altered: 2 settings changed\n",
        ),
        (
            "topic alter b --unset retention.ms --set segment.ms=1000",
            "topic b: 2 settings changed\n",
        ),
        ("topic alter a --partitions 3 --dry-run", "topic a could be altered: 3 partitions\n"),
        ("topic alter a --partitions 3", "topic a: 3 partitions now\n"),
        ("topic delete b", "deleted topic b\n"),
        ("topic delete b a --if-exists", "there is no topic b\ndeleted topic a\n"),
        ("topic list --json", "[]\n"),
    ]);
}

/// A topic's settings that are not defaults.
fn settings(server: &Server, topic: &str) -> Vec<(String, String)> {
    let described = server.cli(&format!("topic describe {topic} --json")).json();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let configs = described["configs"].as_array().unwrap().iter();
    configs.map(|config| (text(&config["name"]), text(&config["value"]))).collect()
}

#[test]
fn from_creation_to_deletion_for_programs() {
    let server = Server::in_memory();
    let created = server.cli("topic create a --partitions 2 --json").json();
    let id = created["id"].as_str().unwrap();
    let expected =
        json!({"topic": "a", "outcome": "created", "id": id, "partitions": 2, "replicas": 1});
    assert_eq!(created, expected);
    let exists = server.cli("topic create a --if-not-exists --json").json();
    assert_eq!(exists["outcome"], "exists");
    assert_eq!(server.cli("topic create b --dry-run --json").json()["outcome"], "valid");
    server.cli_with("produce a --partition 1 --json --format lines", "1\n2\n").json();
    let listed = json!([{
        "topic": "a", "id": id, "internal": false, "partitions": 2, "replicas": 1, "records": 2
    }]);
    assert_eq!(server.cli("topic list --json").json(), listed);
    let described = server.cli("topic describe a --json").json();
    assert_eq!(described["id"], id);
    assert_eq!(
        described["partitions"][1],
        json!({
            "partition": 1, "leader": 1, "leader_epoch": 0, "replicas": [1],
            "in_sync_replicas": [1], "start_offset": 0, "end_offset": 2
        })
    );
    let change = "topic alter a --set retention.ms=5 --append cleanup.policy=compact --json";
    let altered =
        json!({"topic": "a", "settings_changed": 2, "partitions": null, "dry_run": false});
    assert_eq!(server.cli(change).json(), altered);
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    assert_eq!(
        settings(&server, "a"),
        [pair("cleanup.policy", "delete,compact"), pair("retention.ms", "5")]
    );
    server.cli("topic alter a --subtract cleanup.policy=delete --unset retention.ms").ok();
    assert_eq!(settings(&server, "a"), [pair("cleanup.policy", "compact")]);
    let deleted = json!({"topic": "a", "outcome": "deleted"});
    assert_eq!(server.cli("topic delete a --json").json(), deleted);
    let missing = server.cli("topic delete a --if-exists --json").json();
    assert_eq!(missing["outcome"], "missing");
}

#[test]
fn the_clusters_own_topics_are_shown_when_asked_for() {
    let server = Server::in_memory();
    server.cli("topic create t").ok();
    server.cli("group reset g --topic t --to 0").ok();
    assert!(!server.cli("topic list").ok().contains("__consumer_offsets"));
    assert!(server.cli("topic list --internal").ok().contains("__consumer_offsets"));
}
