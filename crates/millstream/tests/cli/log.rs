//! `log dump|verify|export` on what a server has left.

use std::fs;
use std::path::Path;

use serde_json::json;
use tempfile::TempDir;

use crate::harness::{Ran, Server, folder, run};

/// What a server has left that was told to stop: three records in partition 1 of `t`, and an offset
/// of the group `g`.
fn left_behind() -> TempDir {
    let dir = folder();
    let server = Server::in_directory(&dir.path().join("data"));
    server.cli("topic create t --partitions 2").ok();
    let input = concat!(
        r#"{"key":"a","value":"1","timestamp":1000,"headers":{"h":"x"}}"#,
        "\n",
        r#"{"key":"b","value":{"base64":"/w=="},"timestamp":2000}"#,
        "\n",
        r#"{"timestamp":3000}"#,
        "\n",
    );
    server.cli_with("produce t --partition 1 --json --idempotent false", input).json();
    server.cli("group reset g --topic t --partition 1 --to 2").ok();
    log(&dir, "verify").fails(1, &["is in use by process", "stop that process"]);
    let (code, rest) = server.terminate();
    assert_eq!(code, Some(0), "{rest}");
    dir
}

fn log(dir: &TempDir, line: &str) -> Ran {
    run(&format!("log {line} --data-dir {}", dir.path().join("data").display()), None, b"")
}

#[test]
fn dump_shows_records_and_batches() {
    let dir = left_behind();
    let records = "t-1 offset 0 time 1970-01-01T00:00:01.000Z key \"a\" value \"1\" headers \"h\"=\"x\"\n\
                   t-1 offset 1 time 1970-01-01T00:00:02.000Z key \"b\" value 0xff\n\
                   t-1 offset 2 time 1970-01-01T00:00:03.000Z key null value null\n";
    assert_eq!(log(&dir, "dump --records").ok(), records);
    assert_eq!(
        log(&dir, "dump --records --from 2").ok(),
        records.lines().last().unwrap().to_owned() + "\n"
    );
    assert_eq!(log(&dir, "dump --records --topic t --partition 0").ok(), "");
    let batch = log(&dir, "dump --json").json();
    assert_eq!(
        (&batch["topic"], &batch["partition"], &batch["records"], &batch["last_offset"]),
        (&json!("t"), &json!(1), &json!(3), &json!(2))
    );
    assert!(log(&dir, "dump").ok().starts_with("t-1 offsets 0..2 records 3 epoch 0 create-time "));
    let internal = log(&dir, "dump --internal").ok();
    assert!(internal.contains("__consumer_offsets-"), "{internal}");
    let named = log(&dir, "dump --topic __consumer_offsets").ok();
    assert!(named.starts_with("__consumer_offsets-"), "{named}");
    log(&dir, "dump --topic nobody").fails(1, &["there is no topic nobody; there are: ", "t"]);
    let wrong = "topic t has no partition 2: it has 2, from 0 on";
    log(&dir, "dump --topic t --partition 2").fails(1, &[wrong]);
}

#[test]
fn what_is_dumped_can_be_produced_again() {
    let dir = left_behind();
    let dumped = log(&dir, "dump --topic t --records --json").ok();
    let server = Server::in_memory();
    server.cli("topic create t --partitions 2").ok();
    server.cli_with("produce t --json", &dumped).json();
    assert_eq!(server.cli("consume t --json").ok(), dumped);
}

#[test]
fn verify_tells_intact_from_damaged() {
    let dir = left_behind();
    let said = log(&dir, "verify").ok();
    let mut lines = said.lines();
    assert_eq!(
        lines.next(),
        Some("TOPIC               PARTITIONS  RECORDS  BATCHES   SIZE  SEGMENTS  STATE")
    );
    assert!(lines.any(|line| line.starts_with("t ") && line.ends_with("intact")), "{said}");
    assert!(said.ends_with("\neverything is intact\n"), "{said}");
    let document = log(&dir, "verify --json").json();
    assert_eq!((&document["intact"], &document["damages"]), (&json!(true), &json!(0)));
    assert_eq!(document["topics"]["t"]["records"], 3);
    damage(&dir);
    log(&dir, "verify").fails(1, &["error: ", "damaged"]);
    let said = log(&dir, "verify").out;
    for piece in
        ["damage ", "t-1, offsets 0..2, in journal/", "  found: ", "  meaning: ", " damage\n"]
    {
        assert!(said.contains(piece), "no {piece:?} in {said}");
    }
    log(&dir, "verify --json").fails(1, &["damaged"]);
    log(&dir, "dump --records").fails(1, &["1 part of the log can't be read", "log verify"]);
    let out = dir.path().join("out");
    let export = format!("export --topic t --out {}", out.display());
    log(&dir, &export).fails(1, &["1 part of the log could not be read", "not in the export"]);
}

#[test]
fn repair_says_what_is_lost_before_it_does_anything() {
    let dir = left_behind();
    assert_eq!(log(&dir, "repair").ok(), "nothing is damaged: there is nothing to repair\n");
    damage(&dir);
    for _ in 0..2 {
        let said = log(&dir, "repair");
        said.fails(1, &["nothing was changed", "--yes"]);
        assert!(said.out.contains("LOSE t-1, offsets 0..2 (3 offsets): "), "{}", said.out);
    }
    let document = log(&dir, "repair --yes --json").json();
    assert_eq!((&document["needed"], &document["done"]), (&json!(true), &json!(true)));
    let lost = &document["losses"][0];
    assert_eq!(
        (&lost["topic"], &lost["partition"], &lost["first_offset"], &lost["last_offset"]),
        (&json!("t"), &json!(1), &json!(0), &json!(2))
    );
    let quarantine = dir.path().join("data").join(document["quarantine"].as_str().unwrap());
    assert!(quarantine.join("journal").is_dir());
    let said = log(&dir, "verify").ok();
    assert!(said.contains("note lost-records: t-1, offsets 0..2"), "{said}");
    let server = Server::in_directory(&dir.path().join("data"));
    server.cli_with("produce t --partition 1", "after\n").ok();
}

/// Flips a bit of the last batch of `t`.
fn damage(dir: &TempDir) {
    let batch = log(dir, "dump --topic t --json").json();
    let path = dir.path().join("data").join(batch["file"].as_str().unwrap());
    let mut bytes = fs::read(&path).unwrap();
    // Past what a frame has before its batch, and past the batch's header.
    let at = usize::try_from(batch["position"].as_u64().unwrap()).unwrap() + 48 + 65;
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn export_writes_folders_as_kafka_has_them() {
    let dir = left_behind();
    let out = dir.path().join("out");
    let export = format!("export --out {}", out.display());
    let size = |folder: &str| {
        fs::metadata(out.join(folder).join("00000000000000000000.log")).unwrap().len()
    };
    assert_eq!(
        log(&dir, &export).ok(),
        format!(
            "TOPIC  PARTITION  RECORDS  BATCHES  SIZE  FILES\n\
             t              0        0        0   0 B      1\n\
             t              1        3        1  {} B      1\n\n\
             written to {}\n",
            size("t-1"),
            out.display()
        )
    );
    assert_eq!(names(&out), ["t-0", "t-1"]);
    let files =
        ["index", "log", "timeindex"].map(|suffix| format!("00000000000000000000.{suffix}"));
    assert_eq!(names(&out.join("t-1")), files);
    log(&dir, &export).fails(1, &["can't export to", "t-0", "export to an empty folder"]);
    let other = dir.path().join("other");
    let written = log(&dir, &format!("export --internal --json --out {}", other.display())).json();
    let written = written.as_array().unwrap();
    let of_groups = written.iter().filter(|each| each["topic"] == "__consumer_offsets");
    assert_eq!(of_groups.count(), 50);
    let last = written.last().unwrap();
    assert_eq!(
        (&last["topic"], &last["records"], &last["files"]),
        (&json!("t"), &json!(3), &json!(1))
    );
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}
