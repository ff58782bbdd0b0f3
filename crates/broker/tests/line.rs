//! Waiting for room in the journal.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::pin::pin;

use common::{World, batch, settle, soon, world};
use millstream_env::JournalSettings;

const KIB: usize = 1024;

/// 80 of the 100 KiB that may wait for the disk do.
async fn nearly_full() -> World {
    let journal = JournalSettings { pending_bytes_max: 100 * KIB, ..JournalSettings::default() };
    let world = world(3, &[], journal).await;
    settle().await;
    world.append(0, &batch(80 * KIB)).await.unwrap();
    world
}

#[tokio::test]
async fn a_small_batch_does_not_overtake_a_large_one_that_waits() {
    let world = nearly_full().await;
    let (large, small) = (batch(64 * KIB), batch(KIB));
    let mut first = pin!(world.append(1, &large));
    assert!(futures_util::poll!(&mut first).is_pending());
    let mut second = pin!(world.append(2, &small));
    assert!(futures_util::poll!(&mut second).is_pending(), "there would be room for it");
    let first = soon(first).await.expect("room comes back").unwrap();
    let second = soon(second).await.expect("it is its turn").unwrap();
    assert!(first.end < second.end);
    // Nobody waits any more.
    let third = pin!(world.append(2, &small));
    assert!(futures_util::poll!(third).is_ready());
}

#[tokio::test]
async fn one_whose_client_does_something_else_does_not_hold_up_the_line() {
    let world = nearly_full().await;
    let (large, small) = (batch(64 * KIB), batch(KIB));
    let mut first = pin!(world.append(1, &large));
    assert!(futures_util::poll!(&mut first).is_pending());
    // The first is not polled meanwhile.
    let second = soon(world.append(2, &small)).await.expect("it is its turn").unwrap();
    assert!(first.await.unwrap().end < second.end);
}

#[tokio::test]
async fn who_gives_up_leaves_the_line() {
    let world = nearly_full().await;
    let (large, small) = (batch(64 * KIB), batch(KIB));
    {
        let dropped = pin!(world.append(1, &large));
        assert!(futures_util::poll!(dropped).is_pending());
    }
    assert!(soon(world.append(2, &small)).await.expect("it is its turn").is_ok());
}

#[tokio::test]
async fn who_writes_much_does_not_hold_up_who_writes_little() {
    let world = nearly_full().await;
    let (large, small) = (batch(64 * KIB), batch(KIB));
    let mut much = pin!(world.append_as(1, &large, true));
    assert!(futures_util::poll!(&mut much).is_pending());
    let little = pin!(world.append(2, &small));
    assert!(futures_util::poll!(little).is_ready(), "there is room for it");
    // Another one that writes much waits for its turn, however little it writes now.
    let mut again = pin!(world.append_as(2, &small, true));
    assert!(futures_util::poll!(&mut again).is_pending());
    let much = soon(much).await.expect("room comes back").unwrap();
    assert!(much.end < soon(again).await.expect("it is its turn").unwrap().end);
}

#[tokio::test]
async fn who_writes_much_queues_nothing_up_while_others_write() {
    let world = world(3, &[], JournalSettings::default()).await;
    settle().await;
    let (large, small) = (batch(600 * KIB), batch(KIB));
    // Alone, it may.
    for _ in 0..3 {
        assert!(futures_util::poll!(pin!(world.append_as(1, &large, true))).is_ready());
    }
    settle().await;
    assert!(futures_util::poll!(pin!(world.append(2, &small))).is_ready());
    assert!(futures_util::poll!(pin!(world.append_as(1, &large, true))).is_ready(), "one may");
    let mut second = pin!(world.append_as(1, &large, true));
    assert!(futures_util::poll!(&mut second).is_pending(), "one is on its way");
    assert!(futures_util::poll!(pin!(world.append(2, &small))).is_ready());
    soon(second).await.expect("when the first one is durable").unwrap();
    // Nobody else has written for a while.
    world.clock.advance(std::time::Duration::from_secs(2));
    for _ in 0..3 {
        assert!(futures_util::poll!(pin!(world.append_as(1, &large, true))).is_ready());
    }
}
