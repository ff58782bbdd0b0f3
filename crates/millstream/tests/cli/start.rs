//! What keeps a server from starting: each says what is wrong and what to do, and a repair touches nothing
//! that is not damage.

use std::fs;
use std::path::{Path, PathBuf};

use millstream_record::Crc;
use tempfile::TempDir;

use crate::harness::{Server, folder, run};

/// What a server has left that was stopped, or killed.
fn left_behind(killed: bool) -> TempDir {
    let dir = folder();
    let server = Server::in_directory(&dir.path().join("data"));
    server.cli("topic create t --partitions 1").ok();
    for value in ["one", "two", "three"] {
        server.cli_with("produce t", format!("{value}\n")).ok();
    }
    match killed {
        true => drop(server),
        false => assert_eq!(server.terminate().0, Some(0)),
    }
    dir
}

/// The only file of a folder whose name ends so, or the first.
fn file(data: &Path, folder: &str, ending: &str) -> PathBuf {
    let files = fs::read_dir(data.join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = files.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    files.sort();
    files.into_iter().next().unwrap()
}

fn flip(path: &Path, byte: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[byte] ^= 4;
    fs::write(path, bytes).unwrap();
}

/// Has the header of a file say that a newer release has written it.
fn renew(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[9] += 1;
    let checksum = Crc::new().and(&bytes[..12]).and(&bytes[16..64]).value();
    bytes[12..16].copy_from_slice(&checksum.to_be_bytes());
    fs::write(path, bytes).unwrap();
}

/// Where the journal holds these bytes.
fn journaled(data: &Path, value: &str) -> (PathBuf, usize) {
    let path = file(data, "journal", ".log");
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(value.len()).position(|window| window == value.as_bytes()).unwrap();
    (path, at)
}

const REPAIR: &str = "`millstream log repair --data-dir ";
const VERIFY: &str = "`millstream log verify --data-dir ";
const NEWER: &str = "start the release of Millstream that wrote it, or a newer one";

/// After `harm` a start fails with these words. Where a repair is advised, it helps; where another release
/// has written what is there, a repair refuses too, and changes nothing.
#[track_caller]
fn check(killed: bool, harm: impl Fn(&Path), pieces: &[&str]) {
    let dir = left_behind(killed);
    let data = dir.path().join("data");
    harm(&data);
    let listen = "--kafka-listen 127.0.0.1:0 --http-listen 127.0.0.1:0";
    let started = run(&format!("serve {listen} --data-dir {}", data.display()), None, b"");
    started.fails(1, pieces);
    let repair = format!("log repair --yes --data-dir {}", data.display());
    if pieces.contains(&NEWER) {
        assert!(!started.err.contains("log repair"), "{}", started.err);
        run(&repair, None, b"").fails(1, &[NEWER]);
        assert!(!data.join("quarantine").exists());
    } else if started.err.contains("log repair") {
        run(&repair, None, b"").ok();
        drop(Server::in_directory(&data));
    }
}

/// Found while this was written: with the entry of the first session the metadata were said to be missing,
/// and no repair would touch them.
#[test]
fn damage_is_named_with_what_helps() {
    let cluster = |data: &Path| data.join("cluster");
    check(
        false,
        |data| flip(&cluster(data), 20),
        &["cluster: the header of the cluster file is damaged", REPAIR],
    );
    check(
        false,
        |data| fs::remove_file(cluster(data)).unwrap(),
        &["`cluster` file is missing", "from a backup", REPAIR],
    );
    let entries = |data: &Path| file(data, "meta", ".log");
    check(
        false,
        |data| flip(&entries(data), 4_096 + 40),
        &["entry 1 in meta/", "can't be read", VERIFY, REPAIR],
    );
    check(
        false,
        |data| flip(&entries(data), 20),
        &["the header of the metadata log is damaged", VERIFY, REPAIR],
    );
    let checkpoint = |data: &Path| {
        let sessions = file(data, "blobs/checkpoint", "");
        file(&sessions, "", ".blob")
    };
    check(false, |data| flip(&checkpoint(data), 80), &["checkpoint", VERIFY, REPAIR]);
    check(
        false,
        |data| fs::remove_file(checkpoint(data)).unwrap(),
        &["no blob is named checkpoint/", VERIFY, REPAIR],
    );
    let hit = |data: &Path| {
        let (path, at) = journaled(data, "one");
        flip(&path, at);
    };
    check(true, hit, &["journal of session 1", "damaged", VERIFY, REPAIR]);
    check(
        true,
        |data| flip(&file(data, "journal", ".log"), 20),
        &["the header of the journal file is damaged", VERIFY, REPAIR],
    );
}

/// Found while this was written: a repair was advised, and would have written its own identity and metadata
/// in the place of those of a newer release.
#[test]
fn another_release_is_named_and_nothing_is_repaired() {
    let pieces = ["has format version 2, and this program knows version 1", NEWER];
    check(false, |data| renew(&data.join("cluster")), &pieces);
    check(false, |data| renew(&file(data, "meta", ".log")), &pieces);
    check(false, |data| renew(&file(data, "journal", ".seal")), &pieces);
    check(true, |data| renew(&file(data, "journal", ".log")), &pieces);
}

#[test]
fn what_is_missing_is_asked_for() {
    let without =
        |folder: &'static str| move |data: &Path| fs::remove_dir_all(data.join(folder)).unwrap();
    check(
        false,
        without("meta"),
        &["the metadata that say what is in them are empty or missing", "put back the metadata"],
    );
    check(
        false,
        without("journal"),
        &["the journal of session 1 does not reach", "Put back the journal"],
    );
}

/// The same words for whoever looks, repairs or copies while a server works.
#[test]
fn a_directory_in_use_is_left_alone() {
    let dir = folder();
    let data = dir.path().join("data");
    let server = Server::in_directory(&data);
    let path = data.display();
    for line in [
        format!("serve --kafka-listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --data-dir {path}"),
        format!("log verify --data-dir {path}"),
        format!("log repair --data-dir {path}"),
        format!("log repair --yes --data-dir {path}"),
    ] {
        run(&line, None, b"").fails(1, &["is in use by process", "stop that process"]);
    }
    server.cli("topic create t").ok();
}
