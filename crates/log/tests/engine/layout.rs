//! Laying out: what goes where, when, and what a failure leaves.

use std::time::Duration;

use futures_util::FutureExt;
use millstream_env::BlobName;
use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_log::{AppendError, Log, Origin};
use millstream_record::file::{FileHeader, FileKind};
use millstream_record::run::Run;
use millstream_record::segment::{FOOTER_SIZE, Footer};
use millstream_types::Offset;
use tokio::sync::oneshot;

use crate::world::{World, batch, bytes, partition, read_all, run, settle};

async fn append(log: &Log, index: i32, size: usize) {
    let one = log.partition(partition(index)).unwrap();
    let appended = one.append(&[batch(&[1], size)], Origin::Client).unwrap();
    log.wait_durable(appended.end).await.unwrap();
}

/// What a blob says by itself is in it.
async fn runs(world: &World, name: &str) -> Vec<Run> {
    let (_, blobs) = world.stores.as_ref().unwrap();
    let blob = blobs.get(BlobName::new(name).unwrap(), None).await.unwrap();
    let header = FileHeader::decode(&blob, FileKind::Segment).unwrap();
    assert_eq!((header.cluster, header.numbers[0]), (world.settings.cluster, world.session));
    let footer = Footer::decode(&blob[blob.len() - FOOTER_SIZE..]).unwrap();
    let from = usize::try_from(footer.directory_position).unwrap();
    footer.runs(&blob[from..from + footer.directory_len as usize]).unwrap()
}

#[test]
fn large_runs_get_a_segment_small_ones_share_a_pack_when_they_are_due() {
    run(async {
        let mut world = World::new(1, 3);
        let log = world.open().await.unwrap();
        append(&log, 0, 15_000).await;
        append(&log, 1, 1_000).await;
        append(&log, 2, 2_000).await;
        log.maintain().await.unwrap();
        assert_eq!(log.stats().layouts, 0, "nothing is due");
        append(&log, 0, 15_000).await;
        log.maintain().await.unwrap();
        let names = world.blobs("segment/").await;
        assert_eq!(names.len(), 1);
        let found = runs(&world, &names[0]).await;
        assert_eq!(
            (found[0].partition, found[0].base, found[0].end),
            (partition(0), Offset(0), Offset(2))
        );
        world.clock.advance(Duration::from_secs(60));
        log.maintain().await.unwrap();
        let pack = world.blobs("segment/").await.into_iter().find(|name| *name != names[0]);
        let found = runs(&world, &pack.unwrap()).await;
        let whose: Vec<_> = found.iter().map(|run| run.partition.index).collect();
        assert_eq!(whose, [1, 2]);
        let stats = log.stats();
        assert_eq!((stats.backlog_bytes, stats.segments, stats.blobs), (0, 3, 2));
    });
}

/// Found in review: each commit that is flushed by itself takes a block of the reserve. When they had
/// used it up, the frames that would have given space back were refused too, for good.
#[test]
fn commits_can_not_lock_layout_out() {
    run(async {
        let mut world = World::new(1, 2);
        let log = world.open().await.unwrap();
        for (index, from, size) in [(0, Origin::Client, 9_000), (1, Origin::Internal, 100)] {
            let one = log.partition(partition(index)).unwrap();
            let mut refused = 0;
            while refused < 10 {
                match one.append(&[batch(&[1], size)], from) {
                    Ok(appended) => log.wait_durable(appended.end).await.unwrap(),
                    Err(AppendError::Full) => {
                        // A file may be on its way.
                        refused += 1;
                        settle().await;
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
        log.maintain().await.unwrap();
        assert!(log.stats().layouts > 0);
        settle().await;
        append(&log, 0, 9_000).await;
    });
}

#[test]
fn the_engine_does_it_by_itself() {
    run(async {
        let mut world = World::new(1, 2);
        world.settings.background = true;
        let log = world.open().await.unwrap();
        settle().await;
        append(&log, 0, 10_000).await;
        append(&log, 0, 10_000).await;
        settle().await;
        assert_eq!(log.stats().segments, 1, "enough for a segment wakes it");
        append(&log, 1, 100).await;
        settle().await;
        assert_eq!(log.stats().segments, 1);
        world.clock.advance(Duration::from_secs(61));
        settle().await;
        assert_eq!(log.stats().segments, 2, "age is looked at now and then");
        // Without its handles the log ends, and its tasks with it.
        let (journals, _) = world.stores.clone().unwrap();
        assert!(std::sync::Arc::strong_count(&journals) > 2);
        drop(log);
        settle().await;
        world.clock.advance(Duration::from_secs(61));
        settle().await;
        assert_eq!(std::sync::Arc::strong_count(&journals), 2);
    });
}

#[test]
fn small_runs_are_merged_and_read_the_same() {
    run(async {
        let mut world = World::new(1, 2);
        world.settings.tail_bytes = 0;
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        for round in 0..6 {
            append(&log, 0, 3_000).await;
            append(&log, 1, 10).await;
            log.lay_out().await.unwrap();
            assert_eq!(log.stats().segments, 2 * (round + 1));
        }
        let before = bytes(&read_all(&one, Offset(0), 9_999).await.unwrap());
        log.maintain().await.unwrap();
        // Enough of one partition, too many of the other.
        let stats = log.stats();
        assert_eq!((stats.merges, stats.segments), (2, 2));
        settle().await;
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 2, "the packs are gone");
        assert_eq!(bytes(&read_all(&one, Offset(0), 9_999).await.unwrap()), before);
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(bytes(&read_all(&one, Offset(0), 9_999).await.unwrap()), before);
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 2);
    });
}

#[test]
fn merged_runs_are_no_larger_than_the_topics_segments() {
    run(async {
        let mut world = World::new(1, 1);
        world.settings.segment_bytes_min = 8 << 20;
        world.settings.merge_bytes_min = 8 << 20;
        world.settings.run_bytes_max = 64 << 20;
        world.settings.pack_bytes_max = 32 << 20;
        world.settings.fair_run_bytes = 8 << 20;
        world.journal.file_bytes = 4 << 20;
        let log = world.open().await.unwrap();
        for _ in 0..12 {
            append(&log, 0, 300_000).await;
            log.lay_out().await.unwrap();
            log.maintain().await.unwrap();
            settle().await;
        }
        assert!(log.stats().merges > 0);
        log.maintain().await.unwrap();
        for name in world.blobs("segment/").await {
            let sizes: Vec<_> = runs(&world, &name).await.iter().map(|run| run.len).collect();
            assert!(sizes.iter().all(|len| *len <= 1 << 20), "{sizes:?}");
        }
    });
}

#[test]
fn what_the_tail_still_has_is_laid_out_before_it_must_be_read_back() {
    run(async {
        let mut world = World::new(1, 4);
        world.settings.tail_bytes = 400_000;
        world.settings.fair_run_bytes = 50_000;
        world.settings.segment_bytes_min = 1 << 20;
        world.settings.run_bytes_max = 1 << 20;
        world.settings.pack_bytes_max = 1 << 20;
        world.journal.file_bytes = 1 << 20;
        let log = world.open().await.unwrap();
        for index in 0..3 {
            append(&log, index, 65_000).await;
        }
        log.maintain().await.unwrap();
        assert_eq!(log.stats().layouts, 0, "less than half of the tail");
        append(&log, 3, 6_000).await;
        log.maintain().await.unwrap();
        let stats = log.stats();
        assert_eq!((stats.layouts, stats.segments), (1, 3), "one pack, and no crumb in it");
        log.maintain().await.unwrap();
        assert_eq!(log.stats().layouts, 1, "what came since is little");
    });
}

#[test]
fn a_full_store_is_left_alone_for_a_while() {
    run(async {
        let mut world = World::new(1, 2);
        let log = world.open().await.unwrap();
        append(&log, 0, 20_000).await;
        append(&log, 1, 20_000).await;
        let used: u64 = world.machine.files().iter().map(|(_, size)| size).sum();
        world.machine.set_capacity(Some(used));
        let operations = || world.machine.operations();
        let before = operations();
        log.maintain().await.unwrap_err();
        let one_try = operations() - before;
        let before = operations();
        log.maintain().await.unwrap();
        assert_eq!(operations(), before, "it has just been tried");
        world.clock.advance(Duration::from_secs(1));
        log.maintain().await.unwrap_err();
        assert_eq!(operations() - before, one_try, "the second partition's was not tried");
        world.machine.set_capacity(None);
        world.clock.advance(Duration::from_secs(2));
        log.maintain().await.unwrap();
        assert_eq!(log.stats().segments, 2);
    });
}

#[test]
fn closing_does_not_wait_for_all_that_could_be_laid_out() {
    run(async {
        let mut world = World::new(1, 8);
        let log = world.open_hooked().await;
        for index in 0..8 {
            append(&log, index, 20_000).await;
        }
        let closing = log.clone();
        world.hooks.clone().unwrap().before_upload(move || {
            // Closing begins while the first of eight is written.
            assert!(closing.close().now_or_never().is_none());
        });
        log.lay_out().await.unwrap();
        assert_eq!(log.stats().layouts, 1);
        log.close().await;
    });
}

#[test]
fn a_failed_upload_is_tried_again_and_leaves_nothing() {
    run(async {
        let mut world = World::new(1, 1);
        world.settings.tail_bytes = 0;
        let log = world.open().await.unwrap();
        append(&log, 0, 1_000).await;
        world.machine.plan(FaultAt { on: Operation::Write, after: 0, fault: Fault::Fail });
        log.lay_out().await.unwrap_err();
        assert_eq!(log.stats().segments, 0);
        log.lay_out().await.unwrap();
        assert_eq!(log.stats().segments, 1);
        settle().await;
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 1);
    });
}

#[test]
fn runs_have_a_largest_size() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        for _ in 0..12 {
            append(&log, 0, 10_000).await;
        }
        log.lay_out().await.unwrap();
        let stats = log.stats();
        assert_eq!((stats.segments, stats.backlog_bytes), (3, 0));
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(read_all(&one, Offset(0), 25_000).await.unwrap().len(), 12);
    });
}

/// Who waits because layout is behind hears of each blob that is part of the log.
#[test]
fn whoever_waits_for_layout_hears_of_it() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let appended = one.append(&[batch(&[1], 500)], Origin::Client).unwrap();
        log.wait_durable(appended.end).await.unwrap();
        settle().await;
        let mut room = one.room();
        let (tell, mut told) = oneshot::channel();
        world.env.spawn("waits", async move {
            let _ = tell.send(room.comes().await);
        });
        settle().await;
        assert!(told.try_recv().is_err());
        log.lay_out().await.unwrap();
        assert_eq!(log.stats().layouts, 1);
        settle().await;
        assert_eq!(told.try_recv(), Ok(true), "another try is worth it");
    });
}
