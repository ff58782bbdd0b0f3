//! Deleting: records by request, by retention, and whole topics; and when their blobs go.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use millstream_log::{DeleteError, Isolation, Log, Origin, PartitionConfig};
use millstream_types::{Lsn, Offset};

use crate::world::{World, batch, partition, read_all, run, settle};

/// `count` batches of one record with time `time`, each laid out in a segment of its own.
async fn segments(log: &Log, index: i32, count: usize, time: i64) {
    let one = log.partition(partition(index)).unwrap();
    for _ in 0..count {
        let appended = one.append(&[batch(&[time], 1000)], Origin::Client).unwrap();
        log.wait_durable(appended.end).await.unwrap();
        log.lay_out().await.unwrap();
    }
}

#[test]
fn delete_records_moves_the_log_start_and_says_when_that_is_durable() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(one.delete_records(Offset(0)), Ok((Offset(0), Lsn(0))));
        assert_eq!(one.delete_records(Offset(-1)), Ok((Offset(0), Lsn(0))));
        let appended = one.append(&[batch(&[1, 2, 3, 4], 9)], Origin::Client).unwrap();
        // Not visible yet: nothing to delete.
        let above = DeleteError::OutOfRange { offset: Offset(1), high_watermark: Offset(0) };
        assert_eq!(one.delete_records(Offset(1)), Err(above));
        log.wait_durable(appended.end).await.unwrap();
        let (start, end) = one.delete_records(Offset(2)).unwrap();
        assert_eq!((start, one.ends().log_start), (Offset(2), Offset(2)));
        // Below the start: nothing happens, and the answer waits for the same frame.
        assert_eq!(one.delete_records(Offset(1)), Ok((Offset(2), end)));
        log.wait_durable(end).await.unwrap();
        for bad in [-2, 5] {
            assert!(matches!(one.delete_records(Offset(bad)), Err(DeleteError::OutOfRange { .. })));
        }
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(one.ends().log_start, Offset(2));
        let (start, _) = one.delete_records(Offset(-1)).unwrap();
        assert_eq!((start, one.size_bytes()), (Offset(4), 0));
        let next = one.append(&[batch(&[1], 9)], Origin::Client).unwrap();
        assert_eq!((next.base_offset, next.log_start), (Offset(4), Offset(4)));
    });
}

#[test]
fn retention_deletes_segments_by_time_and_by_size() {
    run(async {
        let mut world = World::new(1, 2);
        world.settings.small_runs_max = 100;
        let log = world.open().await.unwrap();
        let now = world.env.clock.wall();
        let ago = |seconds: i64| now.0 - seconds * 1000;
        for index in [0, 1] {
            segments(&log, index, 2, ago(100)).await;
            segments(&log, index, 2, ago(10)).await;
        }
        let (one, two) =
            (log.partition(partition(0)).unwrap(), log.partition(partition(1)).unwrap());
        log.retain(now);
        assert_eq!((one.ends().log_start, two.ends().log_start), (Offset(0), Offset(0)));
        let keep = PartitionConfig { retention: None, ..PartitionConfig::default() };
        let by_time = PartitionConfig { retention: Some(Duration::from_secs(50)), ..keep.clone() };
        log.reconfigure(partition(0).topic, Arc::new(by_time));
        log.retain(now);
        assert_eq!((one.ends().log_start, two.ends().log_start), (Offset(2), Offset(2)));
        let size = one.size_bytes();
        let by_size = PartitionConfig { retention_bytes: Some(size / 2), ..keep };
        log.reconfigure(partition(0).topic, Arc::new(by_size));
        log.retain(now);
        assert_eq!((one.ends().log_start, one.size_bytes()), (Offset(3), size / 2));
        assert_eq!(world.blobs("segment/").await.len(), 8);
        settle().await;
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 2);
        assert_eq!(read_all(&one, Offset(3), 9999).await.unwrap().len(), 1);
    });
}

#[test]
fn a_blob_goes_when_the_deletion_is_durable_and_no_reader_holds_it() {
    run(async {
        let mut world = World::new(1, 1);
        world.settings.tail_bytes = 0;
        let log = world.open_hooked().await;
        let hooks = world.hooks.clone().unwrap();
        segments(&log, 0, 1, 1).await;
        segments(&log, 0, 1, 1).await;
        let one = log.partition(partition(0)).unwrap();
        // A reader that is in the middle of the segment.
        let gate = hooks.hold_gets();
        let mut read = Box::pin(one.read(Offset(0), 1, true, Isolation::Uncommitted));
        assert!(read.as_mut().now_or_never().is_none());
        one.delete_records(Offset(1)).unwrap();
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 2, "the deletion is not durable");
        settle().await;
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 2, "the reader holds it");
        drop(gate);
        assert_eq!(read.await.unwrap().batches.len(), 1);
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 1);
    });
}

#[test]
fn what_is_deleted_while_it_is_laid_out_leaves_no_blob() {
    for topic in [false, true] {
        run(async {
            let mut world = World::new(1, 1);
            let log = world.open_hooked().await;
            let one = log.partition(partition(0)).unwrap();
            let appended = one.append(&[batch(&[1, 2], 1000)], Origin::Client).unwrap();
            log.wait_durable(appended.end).await.unwrap();
            let (other, shared) = (one.clone(), log.clone());
            world.hooks.clone().unwrap().after_upload(move || {
                if topic {
                    shared.delete_topic(other.id().topic);
                } else {
                    other.delete_records(Offset(2)).unwrap();
                }
            });
            log.lay_out().await.unwrap();
            assert_eq!(log.stats().segments, 0);
            settle().await;
            log.maintain().await.unwrap();
            assert_eq!(world.blobs("segment/").await, Vec::<String>::new());
            if !topic {
                world.power_cut(log).await;
                let log = world.open().await.unwrap();
                let ends = log.partition(partition(0)).unwrap().ends();
                assert_eq!((ends.log_start, ends.log_end), (Offset(2), Offset(2)));
            }
        });
    }
}

#[test]
fn what_is_deleted_while_it_is_merged_stays_deleted() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open_hooked().await;
        segments(&log, 0, 4, 1).await;
        let one = log.partition(partition(0)).unwrap();
        let other = one.clone();
        world.hooks.clone().unwrap().after_upload(move || {
            other.delete_records(Offset(2)).unwrap();
        });
        log.maintain().await.unwrap();
        assert_eq!((log.stats().merges, log.stats().segments), (0, 2));
        let end = one.append(&[batch(&[1], 10)], Origin::Client).unwrap().end;
        log.wait_durable(end).await.unwrap();
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 2);
        drop(one);
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(one.ends().log_start, Offset(2));
        assert_eq!(read_all(&one, Offset(2), 9999).await.unwrap().len(), 3);
    });
}

#[test]
fn a_pack_goes_with_the_last_partition_that_uses_it() {
    run(async {
        let mut world = World::new(1, 2);
        let log = world.open().await.unwrap();
        for index in [0, 1] {
            let one = log.partition(partition(index)).unwrap();
            let appended = one.append(&[batch(&[1], 500)], Origin::Client).unwrap();
            log.wait_durable(appended.end).await.unwrap();
        }
        log.lay_out().await.unwrap();
        assert_eq!(world.blobs("segment/").await.len(), 1);
        for (index, left) in [(0, 1), (1, 0)] {
            log.partition(partition(index)).unwrap().delete_records(Offset(1)).unwrap();
            settle().await;
            log.maintain().await.unwrap();
            assert_eq!(world.blobs("segment/").await.len(), left);
        }
    });
}

#[test]
fn deleted_topics_are_gone_after_a_crash_too() {
    run(async {
        let mut world = World::new(1, 2);
        let log = world.open().await.unwrap();
        segments(&log, 0, 2, 1).await;
        log.checkpoint().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let appended = one.append(&[batch(&[1], 500)], Origin::Client).unwrap();
        log.wait_durable(appended.end).await.unwrap();
        // The topic is deleted in the metadata log, then the power goes.
        world.partitions.clear();
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        assert_eq!(log.partitions(), []);
        assert_eq!(world.blobs("segment/").await.len(), 2);
        log.maintain().await.unwrap();
        assert_eq!(world.blobs("segment/").await, Vec::<String>::new());
    });
}
