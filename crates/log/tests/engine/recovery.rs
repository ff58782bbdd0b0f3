//! Coming back: what a restart reads, keeps and removes.

use futures_util::{FutureExt, StreamExt};
use millstream_env::{BlobName, Durability};
use millstream_log::{Log, OpenError, Origin};
use millstream_types::{ClusterId, Offset, SessionId};

use crate::world::{World, batch, partition, read_all, run, settle};

async fn append(log: &Log, index: i32, size: usize) {
    let one = log.partition(partition(index)).unwrap();
    let appended = one.append(&[batch(&[1], size)], Origin::Client).unwrap();
    log.wait_durable(appended.end).await.unwrap();
}

async fn sessions(world: &World) -> Vec<u64> {
    let (journals, _) = world.stores.as_ref().unwrap();
    journals.sessions().await.unwrap().into_iter().map(|session| session.0).collect()
}

#[test]
fn batches_stay_in_a_former_journal_until_they_are_laid_out() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        append(&log, 0, 1_000).await;
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        append(&log, 0, 1_000).await;
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(read_all(&one, Offset(0), 9_999).await.unwrap().len(), 2);
        assert_eq!(log.stats().journal_reads, 1, "the first is not in memory");
        log.checkpoint().await.unwrap();
        assert_eq!(sessions(&world).await, [1, 2], "the checkpoint refers to it");
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(read_all(&one, Offset(0), 9_999).await.unwrap().len(), 2);
        log.lay_out().await.unwrap();
        log.checkpoint().await.unwrap();
        assert_eq!(sessions(&world).await, [3], "nobody needs them any more");
        assert_eq!(read_all(&one, Offset(0), 9_999).await.unwrap().len(), 2);
        assert_eq!(log.stats().backlog_bytes, 0);
    });
}

#[test]
fn a_clean_close_leaves_nothing_to_replay() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        for _ in 0..50 {
            append(&log, 0, 1_000).await;
        }
        let end = log.partition(partition(0)).unwrap().append(&[batch(&[1], 9)], Origin::Client);
        world.close(log).await;
        let trim = world.trims.newest.lock().unwrap().clone().unwrap();
        assert_eq!(trim.session, SessionId(1));
        let log = world.open().await.unwrap();
        // But for the newest frame, which recovery skips.
        let (journals, _) = world.stores.clone().unwrap();
        let frames: Vec<_> = journals.replay(SessionId(1), trim.lsn).collect().await;
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].as_ref().unwrap().0.end(), end.unwrap().end);
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(one.ends().high_watermark, Offset(51));
        assert_eq!(read_all(&one, Offset(0), 9_999).await.unwrap().len(), 51);
    });
}

#[test]
fn checkpoints_give_the_journal_back() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        for round in 1..200 {
            append(&log, 0, 20_000).await;
            log.maintain().await.unwrap();
            settle().await;
            let stats = log.stats();
            assert!(stats.journal_used < stats.journal_max, "round {round}: {stats:?}");
        }
        assert!(log.stats().checkpoints > 5);
        assert_eq!(world.blobs("checkpoint/").await.len(), 1, "the former ones are removed");
        assert_eq!(read_all(&one, Offset(0), 100_000).await.unwrap().len(), 199);
    });
}

#[test]
fn a_checkpoint_counts_only_when_all_that_it_holds_is_durable() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open_hooked().await;
        let hooks = world.hooks.clone().unwrap();
        let one = log.partition(partition(0)).unwrap();
        let gate = hooks.hold_gets();
        one.append(&[batch(&[1], 500)], Origin::Client).unwrap();
        let mut checkpoint = Box::pin(log.checkpoint());
        for _ in 0..100 {
            assert!(checkpoint.as_mut().now_or_never().is_none());
            settle().await;
        }
        assert_eq!(world.blobs("checkpoint/").await.len(), 1);
        assert!(world.trims.newest.lock().unwrap().is_none());
        drop(gate);
        checkpoint.await.unwrap();
        assert!(world.trims.newest.lock().unwrap().is_some());
    });
}

#[test]
fn what_comes_while_a_checkpoint_is_taken_is_not_applied_twice() {
    run(async {
        let mut world = World::new(1, 2);
        let log = world.open_hooked().await;
        append(&log, 0, 500).await;
        let shared = log.clone();
        // The place to replay from is known by then, the states are not taken yet.
        world.hooks.clone().unwrap().before_upload(move || {
            let one = shared.partition(partition(0)).unwrap();
            one.append(&[batch(&[1], 500)], Origin::Client).unwrap();
            one.delete_records(Offset(1)).unwrap();
        });
        log.checkpoint().await.unwrap();
        append(&log, 0, 500).await;
        append(&log, 1, 500).await;
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        assert_eq!((one.ends().log_start, one.ends().log_end), (Offset(1), Offset(3)));
        assert_eq!(read_all(&one, Offset(1), 9_999).await.unwrap().len(), 2);
        assert_eq!(log.partition(partition(1)).unwrap().ends().log_end, Offset(1));
    });
}

#[test]
fn orphans_of_former_sessions_are_removed() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        append(&log, 0, 1_000).await;
        log.lay_out().await.unwrap();
        log.checkpoint().await.unwrap();
        let known = [world.blobs("segment/").await, world.blobs("checkpoint/").await];
        let (_, blobs) = world.stores.clone().unwrap();
        let session = |number: u64| format!("{number:020}");
        for name in [
            format!("segment/{}/left", session(1)),
            format!("checkpoint/{}/left", session(1)),
            format!("segment/{}/new", session(2)),
            "segment/other/left".to_owned(),
        ] {
            blobs.create(BlobName::new(&name).unwrap(), Vec::new()).await.unwrap();
        }
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        log.maintain().await.unwrap();
        let mut expected = known[0].clone();
        expected.extend([format!("segment/{}/new", session(2)), "segment/other/left".to_owned()]);
        expected.sort();
        assert_eq!(world.blobs("segment/").await, expected);
        assert_eq!(world.blobs("checkpoint/").await, known[1]);
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(read_all(&one, Offset(0), 9_999).await.unwrap().len(), 1);
    });
}

#[test]
fn several_crashes_without_a_checkpoint_replay_all_sessions() {
    run(async {
        let mut world = World::new(1, 2);
        for round in 0..5 {
            let log = world.open().await.unwrap();
            for index in [0, 1] {
                let one = log.partition(partition(index)).unwrap();
                assert_eq!(one.ends().log_end, Offset(round));
                append(&log, index, 500).await;
            }
            if round == 2 {
                log.checkpoint().await.unwrap();
            }
            world.power_cut(log).await;
        }
        let log = world.open().await.unwrap();
        let one = log.partition(partition(1)).unwrap();
        assert_eq!(read_all(&one, Offset(0), 9_999).await.unwrap().len(), 5);
    });
}

#[test]
fn a_checkpoint_that_is_not_what_was_written_is_refused() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        append(&log, 0, 500).await;
        world.close(log).await;
        let trim = world.trims.newest.lock().unwrap().clone().unwrap();
        let path = world.machine.files().into_iter();
        let (path, size) =
            path.into_iter().find(|(path, _)| path.contains(trim.checkpoint.as_str())).unwrap();
        for at in [3, 20, 70, size - 20, size - 1] {
            assert!(world.machine.flip_bit(&path, at, 2));
            let error = world.open().await.unwrap_err();
            assert!(error.contains("checkpoint"), "{at}: {error}");
            assert!(world.machine.flip_bit(&path, at, 2));
            world.stores = None;
            settle().await;
        }
        let log = world.open().await.unwrap();
        // Another cluster's data.
        world.close(log).await;
        let log = world.open().await.unwrap();
        log.close().await;
        world.settings.cluster = ClusterId::from_random([9; 16]);
        let error = world.reopen().await.unwrap_err();
        assert!(matches!(error, OpenError::Checkpoint(why) if why.contains("another cluster")));
    });
}

/// Removes the journal's files, but for its seals.
fn lose_journal(world: &World) {
    let disk = world.machine.mount();
    for file in disk.list("journal").unwrap() {
        if file.name.ends_with(".log") {
            disk.remove(&format!("journal/{}", file.name)).unwrap();
        }
    }
    disk.sync_dir("journal").unwrap();
}

/// Found in review: a start skipped a journal that was gone without a word.
#[test]
fn a_journal_that_is_gone_is_noticed() {
    run(async {
        for closes in [false, true] {
            let mut world = World::new(1, 1);
            let log = world.open().await.unwrap();
            append(&log, 0, 500).await;
            log.lay_out().await.unwrap();
            log.checkpoint().await.unwrap();
            append(&log, 0, 500).await;
            if closes {
                world.close(log).await;
            } else {
                world.power_cut(log).await;
            }
            lose_journal(&world);
            let error = world.open().await.unwrap_err();
            assert!(error.contains("does not reach"), "{error}");
        }
    });
}

/// Found in review: where the newest group was damaged, the frames in it were silently gone, with
/// offsets that clients had been told.
#[test]
fn a_journal_that_lost_what_a_checkpoint_saw_is_noticed() {
    run(async {
        for (laid_out, checkpoint_last) in [(true, true), (false, true), (true, false)] {
            let mut world = World::new(1, 1);
            let log = world.open().await.unwrap();
            append(&log, 0, 500).await;
            if laid_out {
                log.lay_out().await.unwrap();
            }
            log.checkpoint().await.unwrap();
            let trim = world.trims.newest.lock().unwrap().clone().unwrap();
            if !checkpoint_last {
                append(&log, 0, 500).await;
            }
            world.power_cut(log).await;
            let path = "journal/00000000000000000001-00000000000000000000.log";
            // The header of the group, which is in front of its first frame.
            assert!(world.machine.flip_bit(path, 4096 + trim.lsn.0 - 20, 1));
            let error = world.open().await.unwrap_err();
            let expected = if checkpoint_last { "does not reach" } else { "corrupt" };
            assert!(error.contains(expected), "{laid_out} {checkpoint_last}: {error}");
        }
    });
}

#[test]
fn a_checkpoint_waits_for_the_frame_that_recovery_begins_with() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open_hooked().await;
        let hooks = world.hooks.clone().unwrap();
        let gate = hooks.hold_gets();
        let one = log.partition(partition(0)).unwrap();
        one.append(&[batch(&[1], 500)], Origin::Client).unwrap();
        // No state in the checkpoint tells of the frame then.
        log.delete_topic(partition(0).topic);
        let mut checkpoint = Box::pin(log.checkpoint());
        for _ in 0..10 {
            assert!(checkpoint.as_mut().now_or_never().is_none());
            settle().await;
        }
        assert!(world.trims.newest.lock().unwrap().is_none());
        drop(gate);
        checkpoint.await.unwrap();
    });
}

/// Without flushes a power cut may take any of the journal, but not the node.
#[test]
fn a_journal_that_was_not_flushed_may_lose_its_end() {
    run(async {
        let mut shorter = 0;
        for seed in 0..60 {
            let mut world = World::new(seed, 1);
            world.journal.durability = Durability::Os;
            world.journal.file_bytes = 256 * 1024;
            world.settings.journal_may_lose = true;
            let log = world.open().await.unwrap();
            for number in 0..12 {
                append(&log, 0, 1_500).await;
                if number == 8 {
                    log.checkpoint().await.unwrap();
                }
            }
            world.power_cut(log).await;
            let log = world.open().await.unwrap();
            let end = log.partition(partition(0)).unwrap().ends().log_end;
            assert!(end >= Offset(9), "the checkpoint was flushed");
            shorter += u32::from(end < Offset(12));
            append(&log, 0, 1_500).await;
            world.close(log).await;
            let log = world.open().await.unwrap();
            assert_eq!(log.partition(partition(0)).unwrap().ends().log_end, end.next());
        }
        assert!(shorter > 0);
    });
}

#[test]
fn thousands_of_partitions_with_little_in_each() {
    run(async {
        let mut world = World::new(1, 3_000);
        world.settings.pack_bytes_max = 1 << 20;
        let log = world.open().await.unwrap();
        let mut last = None;
        for index in (0..3_000).step_by(3) {
            let one = log.partition(partition(index)).unwrap();
            match one.append(&[batch(&[1], 10)], Origin::Client) {
                Ok(appended) => last = Some(appended.end),
                Err(error) => panic!("{error}"),
            }
        }
        log.wait_durable(last.unwrap()).await.unwrap();
        log.lay_out().await.unwrap();
        assert_eq!((log.stats().blobs, log.stats().segments), (1, 1_000));
        settle().await;
        world.close(log).await;
        let log = world.open().await.unwrap();
        let log_ends = (0..3_000).map(|i| log.partition(partition(i)).unwrap().ends().log_end.0);
        assert_eq!(log_ends.sum::<i64>(), 1_000);
    });
}
