//! When a log is compacted, how fast, and what a crash in the middle leaves.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use millstream_log::{Log, Origin, Partition, PartitionConfig};
use millstream_record::BatchBuilder;
use millstream_types::{Offset, Timestamp};

use crate::world::{World, partition, read_all, run, settle};

const LIMIT: usize = 1 << 20;
/// `log.cleaner.backoff.ms` and the engine's own interval, in seconds: it may look so much later.
const PAUSE: u64 = 16;

fn config() -> PartitionConfig {
    PartitionConfig {
        retention: None,
        deletes: false,
        compacts: true,
        dirty_ratio: 0.0,
        ..PartitionConfig::default()
    }
}

/// Appends records in one batch.
async fn put(world: &World, log: &Log, rows: &[(u16, Vec<u8>)]) {
    let one = log.partition(partition(0)).unwrap();
    let mut batch = BatchBuilder::new();
    for (key, value) in rows {
        batch.append(world.env.clock.wall(), Some(&key.to_be_bytes()), Some(value), &[]);
    }
    let appended = one.append(&[batch.build_valid().unwrap()], Origin::Client).unwrap();
    log.wait_durable(appended.end).await.unwrap();
}

/// Offset, key and value of each record.
async fn rows(one: &Partition) -> BTreeMap<Offset, (u16, Vec<u8>)> {
    let mut rows = BTreeMap::new();
    for batch in read_all(one, Offset(0), 100_000).await.unwrap() {
        let records = batch.records(LIMIT).unwrap();
        let header = *records.header();
        rows.extend(records.iter().map(|record| {
            let record = record.unwrap();
            let key = u16::from_be_bytes(record.key.unwrap().try_into().unwrap());
            (record.offset(&header), (key, record.value.unwrap().to_vec()))
        }));
    }
    rows
}

/// What a topic asks for: least and longest lag in seconds, and the share of dirt.
#[derive(Clone, Copy, Debug)]
struct Asked {
    lag_min: u64,
    lag_max: Option<u64>,
    dirty_ratio: f64,
}

/// The engine works by itself: after how many seconds an old value is gone. It comes beside a lot that is
/// compacted, so that it is little. Records in the journal only are laid out after a minute.
async fn waits_for(asked: Asked) -> Option<u64> {
    let mut world = World::new(1, 1);
    world.settings.background = true;
    world.config = Arc::new(PartitionConfig {
        compaction_lag_min: Duration::from_secs(asked.lag_min),
        compaction_lag_max: asked.lag_max.map(Duration::from_secs),
        dirty_ratio: asked.dirty_ratio,
        ..config()
    });
    let log = world.open().await.unwrap();
    let pass = async || {
        world.clock.advance(Duration::from_secs(1));
        for _ in 0..5 {
            settle().await;
        }
    };
    for key in 0..10 {
        put(&world, &log, &[(key, vec![b'v'; 1_000])]).await;
    }
    // All of it is dirty: that is more than any share, and nothing that could go.
    while log.stats().compactions == 0 {
        pass().await;
    }
    assert_eq!(log.stats().compacted_records, 0);
    for value in [b"old", b"new"] {
        put(&world, &log, &[(7, value.to_vec())]).await;
    }
    for seconds in 1..2_000 {
        pass().await;
        if log.stats().compacted_records > 0 {
            // The new value hides two others.
            assert_eq!(log.stats().compacted_records, 2);
            assert_eq!(rows(&log.partition(partition(0)).unwrap()).await.len(), 10);
            log.close().await;
            return Some(seconds);
        }
    }
    None
}

#[track_caller]
fn check(lag_min: u64, lag_max: Option<u64>, dirty_ratio: f64, expected: Option<u64>) {
    let asked = Asked { lag_min, lag_max, dirty_ratio };
    let found = run(waits_for(asked));
    let is_it = match (found, expected) {
        (Some(found), Some(expected)) => (expected..=expected + PAUSE).contains(&found),
        (found, expected) => found == expected,
    };
    assert!(is_it, "{asked:?}: after {found:?} s, not {expected:?}");
}

#[test]
fn a_record_is_safe_for_the_least_lag_and_gone_after_the_longest() {
    // As soon as it is laid out.
    check(0, None, 0.0, Some(60));
    check(300, None, 0.0, Some(300));
    // Too little to be worth it.
    check(0, None, 0.9, None);
    check(0, Some(600), 0.9, Some(600));
    // It is laid out for that.
    check(0, Some(30), 0.9, Some(30));
    // The least lag is the stronger one.
    check(300, Some(100), 0.9, Some(300));
}

/// A log with a partition of ten keys and a hundred values of each, which are of `size` bytes, and come ten
/// to a batch; in several segments.
async fn filled(world: &mut World, size: usize) -> (Log, BTreeMap<u16, Vec<u8>>, u64) {
    world.journal.files_max = 64;
    world.config = Arc::new(config());
    let log = world.open().await.unwrap();
    let mut newest = BTreeMap::new();
    for batch in 0..100_u16 {
        let value = |number: u16| [number.to_be_bytes().as_slice(), &vec![b'v'; size]].concat();
        let rows: Vec<_> = (0..10).map(|key| (key, value(10 * batch + key))).collect();
        put(world, &log, &rows).await;
        newest = rows.into_iter().collect();
        settle().await;
    }
    log.lay_out().await.unwrap();
    let bytes = log.stats().segment_bytes;
    assert!(log.stats().segments >= 5, "{:?}", log.stats());
    (log, newest, bytes)
}

async fn check_newest(log: &Log, newest: &BTreeMap<u16, Vec<u8>>) {
    let rows = rows(&log.partition(partition(0)).unwrap()).await;
    for (offset, (key, value)) in &rows {
        let number = u16::try_from(offset.0).unwrap();
        assert_eq!((key % 10, &value[..2]), (number % 10, number.to_be_bytes().as_slice()));
    }
    let found: BTreeMap<_, _> = rows.into_values().collect();
    assert_eq!(found, *newest);
}

/// Bytes per second that compaction may take, and layout; whether layout is late; what it gets.
#[track_caller]
fn check_rate(own: Option<u64>, layout: Option<u64>, is_late: bool, rate: u64) {
    run(async {
        let mut world = World::new(1, 1);
        world.settings.layout_rate = layout;
        world.settings.compaction.bytes_per_second = own;
        let (log, newest, bytes) = filled(&mut world, 200).await;
        if is_late {
            put(&world, &log, &[(10, vec![b'l'; 7_000])]).await;
        }
        let begun = world.env.clock.monotonic();
        let mut compacting = pin!(log.compact());
        let step = Duration::from_millis(10);
        loop {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            if let std::task::Poll::Ready(done) = futures_util::poll!(&mut compacting) {
                done.unwrap();
                break;
            }
            world.clock.advance(step);
        }
        let took = world.env.clock.monotonic().since(begun).as_secs_f64();
        let stats = log.stats();
        let moved = stats.compaction_moved;
        assert!(moved >= 2 * bytes, "{moved}: read for the keys, read again, written");
        assert!(moved <= 2 * bytes + stats.segment_bytes, "{moved} of {bytes}: {stats:?}");
        let least = moved as f64 / rate as f64;
        let what = format!("{own:?} {layout:?} {is_late}: {moved} bytes took {took} s");
        assert!(took >= least, "{what}, not {least}");
        assert!(took <= least * 1.05 + 1.0, "{what}, not {least}");
        if !is_late {
            check_newest(&log, &newest).await;
        }
    });
}

#[test]
fn no_more_is_read_and_written_in_a_second_than_it_may() {
    check_rate(Some(20_000), None, false, 20_000);
    check_rate(None, Some(30_000), false, 30_000);
    check_rate(Some(20_000), Some(30_000), false, 20_000);
    check_rate(Some(30_000), Some(20_000), false, 20_000);
    // Layout needs the disk more.
    check_rate(Some(80_000), None, true, 10_000);
}

/// The power goes, or it is closed, at any moment of a compaction of several groups: those that were
/// swapped are compacted, the others are not, and the next compaction does the rest.
#[test]
fn a_restart_in_the_middle_goes_on_where_it_was() {
    let mut counts = Vec::new();
    for steps in (0..400).step_by(5) {
        let (gone, is_done) = run(stopped_after(steps));
        counts.push(gone);
        if is_done {
            break;
        }
    }
    assert_eq!(counts.last(), Some(&990), "compaction never ends");
    counts.dedup();
    assert!(counts.len() >= 4 && counts.is_sorted(), "{counts:?}");
}

/// How many of the old values were gone after so many steps, and whether compaction had come to its end.
async fn stopped_after(steps: u64) -> (usize, bool) {
    let mut world = World::new(3, 1);
    // Too much to be written in one piece.
    world.settings.run_bytes_max = 1024 * 1024;
    world.settings.compaction.bytes_per_second = Some(10_000_000);
    let (log, newest, _) = filled(&mut world, 5_000).await;
    let ends = log.partition(partition(0)).unwrap().ends();
    let mut is_done = false;
    {
        let mut compacting = pin!(log.compact());
        for _ in 0..=steps {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            if futures_util::poll!(&mut compacting).is_ready() {
                is_done = true;
                break;
            }
            world.clock.advance(Duration::from_millis(10));
        }
    }
    settle().await;
    match steps % 2 {
        0 => world.power_cut(log).await,
        _ => world.close(log).await,
    }
    world.settings.compaction.bytes_per_second = None;
    let log = world.open().await.unwrap();
    check_newest(&log, &newest).await;
    let one = log.partition(partition(0)).unwrap();
    let gone = 1_000 - rows(&one).await.len();
    while log.compact().await.unwrap() {}
    check_newest(&log, &newest).await;
    assert_eq!(rows(&one).await.len(), 10);
    let now = one.ends();
    assert_eq!((now.log_start, now.high_watermark), (ends.log_start, ends.high_watermark));
    // Times are found as ever.
    assert!(one.offset_at(Timestamp(0)).await.unwrap().is_some());
    (gone, is_done)
}

/// A log that was closed while the last of a group waited for its share of the disk took what was written so
/// far, which is nothing, for all that was left of it.
#[test]
fn closing_while_it_waits_for_its_share_loses_nothing() {
    let mut stopped = 0;
    for steps in 0..100 {
        let is_done = run(closed_after(steps));
        if is_done {
            break;
        }
        stopped += 1;
    }
    assert!((20..100).contains(&stopped), "{stopped}");
}

/// Closes a log that compacts after so many steps; whether compaction had come to its end.
async fn closed_after(steps: u64) -> bool {
    let mut world = World::new(3, 1);
    world.settings.compaction.bytes_per_second = Some(100_000);
    let (log, newest, _) = filled(&mut world, 200).await;
    let mut is_done = false;
    {
        let mut compacting = pin!(log.compact());
        for _ in 0..=steps {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            if futures_util::poll!(&mut compacting).is_ready() {
                is_done = true;
                break;
            }
            world.clock.advance(Duration::from_millis(100));
        }
        if !is_done {
            let _ = futures_util::join!(log.close(), compacting);
        }
    }
    world.close(log).await;
    world.settings.compaction.bytes_per_second = None;
    let log = world.open().await.unwrap();
    check_newest(&log, &newest).await;
    while log.compact().await.unwrap() {}
    check_newest(&log, &newest).await;
    is_done
}
