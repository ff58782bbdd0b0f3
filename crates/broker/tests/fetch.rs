//! Fetching: when the answer goes out, and what waiting for it costs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use std::pin::pin;

use common::{bounds, counts, settle, soon, world};
use millstream_broker::log::ReadError;
use millstream_broker::{FetchError, Fetched, TopicRef};
use millstream_env::JournalSettings;
use millstream_types::Offset;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Pitfall 42.
#[tokio::test]
async fn limits_that_stop_a_read_short_of_the_least_bytes_do_not_make_it_wait() {
    let world = world(2, &[], JournalSettings::default()).await;
    for _ in 0..70 {
        world.put(0, 16 * KIB + 300).await;
    }
    // A whole number of batches is a little less than 1 MiB.
    let wants = [world.want(0, 0, MIB), world.want(1, 0, MIB)];
    let fetched = soon(world.broker.fetch(&wants, bounds(MIB, 55 * MIB))).await;
    assert_eq!(counts(&fetched.expect("no waiting")), [62, 0]);
    // The least is more than the most, of the answer or of the partition.
    let fetched = soon(world.broker.fetch(&wants, bounds(64 * MIB, 50 * KIB))).await;
    assert_eq!(counts(&fetched.expect("no waiting")), [3, 0]);
    let wants = [world.want(0, 69, 10)];
    let fetched = soon(world.broker.fetch(&wants, bounds(64 * MIB, 55 * MIB))).await;
    assert_eq!(counts(&fetched.expect("no waiting")), [1]);
}

/// Pitfall 42.
#[tokio::test]
async fn a_fetch_waits_for_the_least_bytes_over_all_partitions_or_its_time() {
    let world = world(3, &[], JournalSettings::default()).await;
    world.put(0, 2 * KIB).await;
    let wants = [0, 1, 2].map(|index| world.want(index, 0, MIB));
    let mut fetch = pin!(world.broker.fetch(&wants, bounds(6 * KIB, MIB)));
    assert!(soon(&mut fetch).await.is_none());
    world.put(1, 2 * KIB).await;
    assert!(soon(&mut fetch).await.is_none(), "that is 4 KiB");
    world.put(0, 2 * KIB).await;
    assert_eq!(counts(&soon(fetch).await.expect("6 KiB are there")), [2, 1, 0]);

    let mut fetch = pin!(world.broker.fetch(&wants, bounds(20 * KIB, MIB)));
    assert!(soon(&mut fetch).await.is_none());
    world.put(2, 2 * KIB).await;
    assert!(soon(&mut fetch).await.is_none());
    world.clock.advance(bounds(0, 0).wait_max);
    assert_eq!(counts(&soon(fetch).await.expect("the time is up")), [2, 1, 1]);
}

/// Pitfall 42.
#[tokio::test]
async fn a_partition_that_fills_up_while_others_are_waited_for_ends_the_wait() {
    let world = world(2, &[], JournalSettings::default()).await;
    let wants = [world.want(0, 0, MIB), world.want(1, 0, 5 * KIB)];
    let mut fetch = pin!(world.broker.fetch(&wants, bounds(MIB, MIB)));
    assert!(soon(&mut fetch).await.is_none());
    for _ in 0..2 {
        world.put(1, 2 * KIB).await;
        assert!(soon(&mut fetch).await.is_none(), "another one fits");
    }
    world.put(1, 2 * KIB).await;
    assert_eq!(counts(&soon(fetch).await.expect("it can't get more")), [0, 2]);
}

#[tokio::test]
async fn a_partition_that_is_not_there_does_not_end_the_wait_for_others() {
    let world = world(1, &[], JournalSettings::default()).await;
    let wants = [world.want(7, 0, MIB), world.want(0, 0, MIB)];
    let mut fetch = pin!(world.broker.fetch(&wants, bounds(1, MIB)));
    assert!(soon(&mut fetch).await.is_none());
    world.put(0, 2 * KIB).await;
    let fetched = soon(fetch).await.expect("there is something");
    assert!(matches!(fetched.results[0], Err(FetchError::NoPartition)));
    assert_eq!(counts(&fetched), [0, 1]);
    // With nothing to wait for, nobody waits; nor where an error is news.
    let fetched = soon(world.broker.fetch(&wants[..1], bounds(1, MIB))).await;
    assert!(matches!(fetched.unwrap().results[0], Err(FetchError::NoPartition)));
    assert!(soon(world.broker.fetch(&[], bounds(1, MIB))).await.is_some());
    let beyond = [world.want(0, 9, MIB), world.want(0, 1, MIB)];
    let fetched = soon(world.broker.fetch(&beyond, bounds(1, MIB))).await;
    let fetched = fetched.expect("no waiting");
    assert!(matches!(fetched.results[0], Err(FetchError::Read(ReadError::OutOfRange { .. }))));
}

#[tokio::test]
async fn a_deleted_topic_ends_the_wait() {
    let world = world(1, &[], JournalSettings::default()).await;
    let wants = [world.want(0, 0, MIB)];
    let mut fetch = pin!(world.broker.fetch(&wants, bounds(1, MIB)));
    assert!(soon(&mut fetch).await.is_none());
    world.broker.delete_topic(TopicRef::Name("t")).await.unwrap();
    let fetched = soon(fetch).await.expect("it is gone");
    assert!(matches!(fetched.results[0], Err(FetchError::Read(ReadError::NotLeader))));
}

#[tokio::test]
async fn a_log_start_that_moves_during_the_wait_is_in_the_answer() {
    let world = world(1, &[], JournalSettings::default()).await;
    world.put(0, KIB).await;
    let wants = [world.want(0, 1, MIB)];
    let mut fetch = pin!(world.broker.fetch(&wants, bounds(1, MIB)));
    assert!(soon(&mut fetch).await.is_none());
    world.topic.partition(0).unwrap().delete_records(Offset(1)).unwrap();
    assert!(soon(&mut fetch).await.is_none(), "there is nothing to read");
    world.clock.advance(bounds(0, 0).wait_max);
    let fetched = soon(fetch).await.expect("the time is up");
    let Ok(Fetched::Records(slice)) = &fetched.results[0] else { panic!("no records") };
    assert_eq!(slice.log_start, Offset(1));
}

/// Reads of the journal that it takes to wait for `appends` small batches behind a cold megabyte.
async fn reads_of_a_wait(appends: usize) -> u64 {
    let world = world(2, &[("millstream.tail.bytes", "1048576")], JournalSettings::default()).await;
    for _ in 0..16 {
        world.put(0, 64 * KIB).await;
    }
    for _ in 0..20 {
        // These push the others out of memory.
        world.put(1, 64 * KIB).await;
    }
    let before = world.broker.log_stats().journal_reads;
    let wants = [world.want(0, 0, 55 * MIB)];
    let mut fetch = pin!(world.broker.fetch(&wants, bounds(50 * MIB, 55 * MIB)));
    for _ in 0..appends {
        assert!(soon(&mut fetch).await.is_none());
        world.put(0, KIB).await;
    }
    world.clock.advance(bounds(0, 0).wait_max);
    let fetched = soon(fetch).await.expect("the time is up");
    assert_eq!(counts(&fetched), [16 + appends]);
    let Ok(Fetched::Records(slice)) = &fetched.results[0] else { panic!("no records") };
    assert_eq!(slice.next, slice.high_watermark);
    settle().await;
    world.broker.log_stats().journal_reads - before
}

#[tokio::test]
async fn a_wake_up_reads_nothing_again() {
    let few = reads_of_a_wait(1).await;
    assert_ne!(few, 0, "this shows nothing");
    assert_eq!(reads_of_a_wait(20).await, few);
}

#[tokio::test]
async fn answers_that_are_not_taken_leave_one_batch_for_each_other() {
    let world =
        world(1, &[("millstream.response.bytes", "1048576")], JournalSettings::default()).await;
    for _ in 0..40 {
        world.put(0, 64 * KIB).await;
    }
    let wants = [world.want(0, 0, 55 * MIB)];
    // One that waits holds nothing.
    let parked_wants = [world.want(0, 38, 55 * MIB)];
    let mut parked = pin!(world.broker.fetch(&parked_wants, bounds(50 * MIB, 55 * MIB)));
    assert!(soon(&mut parked).await.is_none());
    let fetch = || async {
        let fetched = soon(world.broker.fetch(&wants, bounds(50 * MIB, 55 * MIB))).await;
        fetched.expect("no waiting, since not all of it was read")
    };
    // Each takes a quarter of what is left, and one batch whatever is left.
    let mut held = Vec::new();
    for expected in [4, 3, 2, 1, 1, 1, 1, 1, 1, 1, 1, 1] {
        held.push(fetch().await);
        assert_eq!(counts(&held[held.len() - 1]), [expected], "answer {}", held.len());
    }
    held.truncate(1);
    assert_eq!(counts(&fetch().await), [3], "the others gave theirs back");
    drop(held);
    assert_eq!(counts(&fetch().await), [4]);
}
