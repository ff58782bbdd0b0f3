//! `backup` and `restore`, with a server at work.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Ran, Server, folder, run};

fn backup(data: &Path, to: &Path, options: &str) -> Ran {
    let (to, data) = (to.display(), data.display());
    run(&format!("backup {to} --data-dir {data} {options}"), None, b"")
}

fn restore(from: &Path, data: &Path, options: &str) -> Ran {
    let (from, data) = (from.display(), data.display());
    run(&format!("restore {from} --data-dir {data} {options}"), None, b"")
}

/// Produces the numbers from `first` up to `end` to topic `t`.
fn produce(server: &Server, first: u32, end: u32) {
    let input: String = (first..end).map(|number| format!("record {number}\n")).collect();
    server.cli_with("produce t --partition 0", input).ok();
}

#[test]
fn a_server_at_work_is_backed_up_and_restored() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    let server = Server::in_directory(&at("data"));
    server.cli("topic create t --partitions 2").ok();
    produce(&server, 0, 500);
    server.cli("group reset g --topic t --partition 0 --to 123").ok();
    let before = server.cli("consume t --partition 0 --json").ok();
    let told = backup(&at("data"), &at("copy"), "--json").json();
    assert_eq!((&told["records"], &told["rounds"]), (&json!(501), &json!(1)), "{told}");
    produce(&server, 500, 600);
    let said = backup(&at("data"), &at("later"), "").ok();
    assert!(
        said.contains("later holds 601 records in ") && said.ends_with(", checked\n"),
        "{said}"
    );
    // A backup is a data directory to whoever looks into one.
    let verified =
        run(&format!("log verify --json --data-dir {}", at("copy").display()), None, b"");
    assert_eq!(verified.json()["intact"], true);

    let told = restore(&at("copy"), &at("restored"), "--json").json();
    assert_eq!(told["records"], 501, "{told}");
    let said = restore(&at("later"), &at("restored-later"), "").ok();
    assert!(said.contains("start it with:\n  millstream serve --data-dir "), "{said}");
    let restored = Server::in_directory(&at("restored"));
    assert_eq!(restored.cli("consume t --partition 0 --json").ok(), before);
    let group = restored.cli("group describe g --json").json();
    assert_eq!(committed(&group), 123, "{group}");
    produce(&restored, 500, 501);
    let (code, rest) = restored.terminate();
    assert_eq!(code, Some(0), "{rest}");
}

/// The one committed offset of a described group.
fn committed(group: &Value) -> i64 {
    let partitions = group["partitions"].as_array().unwrap();
    let found: Vec<_> =
        partitions.iter().filter_map(|partition| partition["committed_offset"].as_i64()).collect();
    assert_eq!(found.len(), 1, "{group}");
    found[0]
}

#[test]
fn nothing_is_overwritten_and_no_half_backup_is_taken_for_one() {
    let dir = folder();
    let at = |name: &str| dir.path().join(name);
    let server = Server::in_directory(&at("data"));
    server.cli("topic create t --partitions 1").ok();
    produce(&server, 0, 10);
    backup(&at("nowhere"), &at("copy"), "").fails(1, &["it is no data directory", "--data-dir"]);
    backup(&at("data"), &at("copy"), "").ok();
    backup(&at("data"), &at("copy"), "").fails(1, &["is not empty", "never overwritten"]);
    backup(&at("data"), &at("data"), "").fails(1, &["is in use by process"]);
    restore(&at("copy"), &at("data"), "").fails(1, &["is in use by process"]);
    fs::create_dir(at("other")).unwrap();
    fs::write(at("other/file"), "mine").unwrap();
    restore(&at("copy"), &at("other"), "").fails(1, &["is not empty"]);
    assert_eq!(fs::read_dir(at("other")).unwrap().count(), 1, "left as it was");
    restore(&at("other"), &at("new"), "").fails(1, &["no finished backup", "millstream backup"]);
    restore(&at("data"), &at("new"), "").fails(1, &["no finished backup"]);
    assert!(!at("new").exists());

    let manifest = fs::read_to_string(at("copy/backup")).unwrap();
    fs::write(at("copy/backup"), manifest.replacen(' ', "  ", 1)).unwrap();
    restore(&at("copy"), &at("new"), "").fails(1, &["copy/backup: ", "damaged or missing"]);
    fs::write(at("copy/backup"), &manifest).unwrap();
    let journal = fs::read_dir(at("copy/journal")).unwrap().map(|entry| entry.unwrap().path());
    let piece = journal.into_iter().find(|path| path.extension().is_some_and(|e| e == "log"));
    let piece = piece.unwrap();
    let mut bytes = fs::read(&piece).unwrap();
    bytes[5000] ^= 1;
    fs::write(&piece, bytes).unwrap();
    let damaged = restore(&at("copy"), &at("new"), "");
    damaged.fails(1, &["is not what was backed up (its checksum is another)", "take another one"]);
    // What was begun is no data directory.
    let started = run(&format!("log verify --data-dir {}", at("new").display()), None, b"");
    started.fails(1, &["it is no data directory"]);
}
