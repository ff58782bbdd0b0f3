//! `millstream log dump`, `verify` and `export` over directories that a server has left.

#![expect(clippy::disallowed_methods, reason = "the test damages files, and reads exported ones")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use millstream::commands::log::{LogCommand, run_to};
use millstream::{Server, ServerConfig};
use millstream_broker::{Newest, Sent, TopicRef, TopicRequest};
use millstream_env::{DataDir, Env};
use millstream_record::batch::{StoredBatch, scan, split};
use millstream_record::{BatchBuilder, Compression, Header};
use millstream_types::{Monotonic, ProducerEpoch, ProducerId, Timestamp};
use serde_json::Value;
use tempfile::TempDir;

/// Large batches of partition 0, enough for a segment of its own.
const LARGE: i64 = 9;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: LogCommand,
}

/// What a command says on standard output, and what it fails with.
fn log(dir: &TempDir, line: &str) -> (String, Option<String>) {
    let data = dir.path().join("data");
    let words = ["log"].into_iter().chain(line.split_whitespace());
    let words = words.chain(["--data-dir", data.to_str().unwrap()]);
    let command = Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).command;
    let mut out = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let done = runtime.block_on(run_to(command, &mut out));
    (String::from_utf8(out).unwrap(), done.err().map(|error| format!("{error:#}")))
}

#[track_caller]
fn log_ok(dir: &TempDir, line: &str) -> String {
    let (out, error) = log(dir, line);
    assert_eq!(error, None, "{line}: {out}");
    out
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn append(server: &Server, partition: i32, batch: Bytes) -> Newest {
    let topic = server.broker().topic(TopicRef::Name("orders")).unwrap();
    let buffer_bytes = batch.len();
    let how = Sent {
        now: Timestamp(1_769_866_201_000),
        full_validation: false,
        buffer_bytes,
        heavy: false,
        patience: Monotonic(u64::MAX),
    };
    let appended = server.broker().append(&topic, partition, &batch, how).await.unwrap();
    Newest::At(appended.session, appended.end)
}

fn small(number: i64) -> Bytes {
    let mut batch = BatchBuilder::new()
        .compression(
            [Compression::None, Compression::Gzip, Compression::Zstd][number as usize % 3],
            None,
        )
        .producer(ProducerId(7), ProducerEpoch(0), i32::try_from(2 * number).unwrap());
    let time = Timestamp(1_769_866_200_000 + number);
    let header = Header { key: b"trace", value: Some(&[0xff, 0x01]) };
    batch.append(time, Some(b"key"), Some(format!("value {number}").as_bytes()), &[header]);
    batch.append(time, None, None, &[]);
    batch.build().unwrap()
}

/// Fills partition 0 with a segment and ten small batches in the journal, partition 1 with four.
async fn furnish(server: &Server) {
    let request = TopicRequest {
        name: "orders".into(),
        partitions: Some(2),
        configs: vec![("retention.ms".into(), Some("-1".into()))],
        ..TopicRequest::default()
    };
    server.broker().create_topic(request, false).await.unwrap();
    for number in 0..LARGE {
        let mut batch = BatchBuilder::new();
        batch.append(Timestamp(500 - number), None, Some(&vec![number as u8; 1_000_000]), &[]);
        append(server, 0, batch.build().unwrap()).await;
    }
    let laid = async {
        while server.broker().log_stats().segment_bytes == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), laid).await.expect("a segment is written");
    let mut end = Newest::Nothing;
    for number in 0..10 {
        end = append(server, 0, small(number)).await;
        if number < 4 {
            end = append(server, 1, small(number)).await;
        }
        server.broker().wait_durable(end).await.unwrap();
    }
    server.broker().wait_durable(end).await.unwrap();
}

enum End {
    Stop,
    Kill,
}

/// A directory that a server has left, in a runtime of its own.
fn left_behind(end: End) -> TempDir {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let config = ServerConfig::in_directory(dir.path().join("data"));
        let server = Server::start(config).await.unwrap();
        furnish(&server).await;
        let (_, error) = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| scope.spawn(|| log(&dir, "verify")).join().unwrap())
        });
        assert!(error.is_some_and(|error| error.contains("is in use by process")));
        match end {
            End::Stop => server.stop().await,
            End::Kill => drop(server),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(60));
    // The journal's thread ends by itself, and holds the directory until then.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let data = dir.path().join("data");
    let is_free = async {
        let env = Env::real(tokio::runtime::Handle::current());
        while DataDir::open_read_only(&data, env.clone()).is_err() {
            tokio::task::yield_now().await;
        }
    };
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), is_free).await.unwrap() });
    dir
}

/// The names, sizes and times of all files but the lock.
fn listing(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(listing(&path));
        } else if !path.ends_with("lock") {
            let about = fs::metadata(&path).unwrap();
            found.push(format!(
                "{} {} {:?}",
                path.display(),
                about.len(),
                about.modified().unwrap()
            ));
        }
    }
    found.sort();
    found
}

#[test]
fn what_a_server_left_is_intact_and_stays_as_it_is() {
    for end in [End::Stop, End::Kill] {
        let dir = left_behind(end);
        let before = listing(dir.path());
        let said = log_ok(&dir, "verify");
        let sum = said.lines().find(|line| line.starts_with("orders")).unwrap();
        let sum: Vec<_> = sum.split_whitespace().collect();
        // Partitions, records, batches.
        assert_eq!(sum[1..4], ["2", "37", "23"], "{said}");
        assert!(said.ends_with("everything is intact\n"), "{said}");
        let document: Value = serde_json::from_str(&log_ok(&dir, "verify --json")).unwrap();
        assert_eq!(document["intact"], true);
        assert_eq!(document["topics"]["orders"]["records"], 37);
        assert_eq!(document["findings"], Value::Array(Vec::new()));
        log_ok(&dir, "dump --records");
        assert_eq!(listing(dir.path()), before);
    }
}

#[test]
fn dump_shows_batches_and_records_in_order() {
    let dir = left_behind(End::Stop);
    let batches = json_lines(&log_ok(&dir, "dump --json"));
    assert_eq!(batches.len(), 23);
    let (zero, one): (Vec<_>, Vec<_>) = batches.iter().partition(|batch| batch["partition"] == 0);
    assert_eq!((zero.len(), one.len()), (19, 4));
    let mut next = 0;
    for batch in &zero {
        assert_eq!(batch["base_offset"], next);
        next = batch["last_offset"].as_i64().unwrap() + 1;
    }
    assert_eq!(next, 29);
    assert!(zero[0]["file"].as_str().unwrap().starts_with("blobs/segment/"), "{}", zero[0]);
    assert!(one[0]["file"].as_str().unwrap().starts_with("journal/"), "{}", one[0]);
    assert_eq!(zero[10]["compression"], "gzip");
    assert_eq!(zero[10]["base_timestamp"], "2026-01-31T13:30:00.001Z");
    let line = log_ok(&dir, "dump --topic orders --partition 1 --from 3 --count 1");
    let expected = "orders-1 offsets 2..3 records 2 epoch 0 create-time \
                    2026-01-31T13:30:00.001Z..2026-01-31T13:30:00.001Z compression gzip \
                    producer 7 producer-epoch 0 sequence 2..3 size ";
    assert!(line.starts_with(expected) && line.lines().count() == 1, "{line}");
    let records = log_ok(&dir, "dump --partition 1 --from 1 --count 2 --records");
    let expected = "orders-1 offset 1 time 2026-01-31T13:30:00.000Z key null value null\n\
                    orders-1 offset 2 time 2026-01-31T13:30:00.001Z key \"key\" value \"value 1\" \
                    headers \"trace\"=0xff01\n";
    assert_eq!(records, expected);
    let records =
        json_lines(&log_ok(&dir, "dump --partition 1 --from 2 --count 1 --records --json"));
    let headers = serde_json::json!([{"key": "trace", "value": {"base64": "/wE="}}]);
    assert_eq!(records[0]["value"], "value 1");
    assert_eq!(records[0]["headers"], headers);
    let (_, error) = log(&dir, "dump --topic nobody");
    assert_eq!(error.as_deref(), Some("there is no topic nobody; there are: orders"));
}

/// Flips a bit of the batch of partition 0 at `offset`, `inside` bytes behind its beginning.
fn damage(dir: &TempDir, offset: i64, inside: u64) -> String {
    let line = format!("dump --topic orders --partition 0 --from {offset} --count 1 --json");
    let batch = json_lines(&log_ok(dir, &line)).remove(0);
    let file = batch["file"].as_str().unwrap().to_owned();
    let path = dir.path().join("data").join(&file);
    let mut bytes = fs::read(&path).unwrap();
    // What a frame has before its batch.
    let ahead = if file.starts_with("journal/") { 48 } else { 0 };
    let at = usize::try_from(batch["position"].as_u64().unwrap() + ahead + inside).unwrap();
    bytes[at] ^= 0x10;
    fs::write(path, bytes).unwrap();
    file
}

#[test]
fn damage_is_found_and_its_offsets_are_named() {
    // In the segment: in a record, in a base offset. In the journal: in a record, in a length.
    for (offset, inside, lost) in
        [(3, 5_000, 3..=3), (4, 7, 4..=4), (13, 70, 13..=14), (15, 9, 15..=16)]
    {
        for end in [End::Stop, End::Kill] {
            let dir = left_behind(end);
            let file = damage(&dir, offset, inside);
            let (said, error) = log(&dir, "verify --json");
            assert!(error.is_some_and(|error| error.contains("damaged")), "{said}");
            let document: Value = serde_json::from_str(&said).unwrap();
            assert_eq!(document["intact"], false);
            let named = |finding: &&Value| {
                finding["topic"] == "orders"
                    && finding["partition"] == 0
                    && finding["first_offset"] == *lost.start()
                    && finding["last_offset"] == *lost.end()
            };
            let findings: Vec<_> = document["findings"].as_array().unwrap().iter().collect();
            assert!(findings.iter().any(named_in(&named)), "{offset}: {said}");
            assert!(findings.iter().any(|finding| finding["file"] == *file), "{offset}: {said}");
            // All the rest is there.
            let (dumped, error) = log(&dir, "dump --json");
            assert!(error.is_some());
            assert_eq!(json_lines(&dumped).len(), 22, "{dumped}");
            let (text, _) = log(&dir, "verify");
            assert!(text.contains("damage ") && text.contains("meaning: "), "{text}");
        }
    }
}

fn named_in<'a>(named: &'a dyn Fn(&&Value) -> bool) -> impl Fn(&&'a Value) -> bool {
    move |finding| named(finding)
}

#[test]
fn an_export_is_the_batches_back_to_back() {
    let dir = left_behind(End::Kill);
    let out = dir.path().join("out");
    let line = format!("export --topic orders --out {}", out.display());
    let said = log_ok(&dir, &line);
    let sum = said.lines().nth(1).unwrap().split_whitespace().collect::<Vec<_>>();
    // Topic, partition, records, batches.
    assert_eq!(sum[..4], ["orders", "0", "29", "19"], "{said}");
    for (partition, batches, end) in [(0, 19, 29), (1, 4, 8)] {
        let folder = out.join(format!("orders-{partition}"));
        let file = folder.join("00000000000000000000.log");
        let bytes = Bytes::from(fs::read(&file).unwrap());
        let scanned = scan(&bytes);
        assert_eq!(scanned.stopped, None);
        assert_eq!((scanned.batches, scanned.last_offset.unwrap().0), (batches, end - 1));
        for batch in split(&bytes) {
            StoredBatch::from_bytes(batch.unwrap()).unwrap();
        }
        assert!(folder.join("00000000000000000000.index").exists());
        assert!(folder.join("00000000000000000000.timeindex").exists());
    }
    let (_, error) = log(&dir, &line);
    assert!(error.is_some_and(|error| error.contains("export to an empty folder")));
}

#[test]
fn a_directory_that_is_none_is_refused_and_not_made() {
    let dir = TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (_, error) = log(&dir, "verify");
    assert!(error.is_some_and(|error| error.contains("no data directory of Millstream")));
    assert!(!dir.path().join("data").exists());
}
