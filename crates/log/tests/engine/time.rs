//! Finding offsets by time, and epochs.

use millstream_log::Origin;
use millstream_record::compression::Compression;
use millstream_record::{BatchBuilder, Check, ValidBatch, crc32c};
use millstream_types::{LeaderEpoch, Offset, Timestamp};

use crate::world::{World, build, partition, run};

/// Looks for times in a log of five batches, of which so many are laid out, after deleting what
/// lies below `start`.
#[track_caller]
fn check(start: i64, time: i64, found: Option<(i64, i64)>) {
    for laid in 0..=5 {
        let result = run(async {
            let mut world = World::new(1, 1);
            let log = world.open().await.unwrap();
            let one = log.partition(partition(0)).unwrap();
            // Offsets 0-2, 3-4, 5, 6-7, 8.
            let all: [&[i64]; 5] = [&[10, 30, 20], &[15, 16], &[-1], &[40, 25], &[40]];
            for (at, times) in all.iter().enumerate() {
                let builder = BatchBuilder::new().compression(Compression::Lz4, None);
                let appended = one.append(&[build(builder, times, 50)], Origin::Client).unwrap();
                log.wait_durable(appended.end).await.unwrap();
                if at + 1 == laid {
                    log.lay_out().await.unwrap();
                }
            }
            one.delete_records(Offset(start)).unwrap();
            if time == i64::MAX {
                one.offset_of_max_timestamp().await.unwrap()
            } else {
                one.offset_at(Timestamp(time)).await.unwrap()
            }
        });
        let result = result.map(|(offset, at, epoch)| {
            assert_eq!(epoch, LeaderEpoch(1));
            (offset.0, at.0)
        });
        assert_eq!(result, found, "from {start} at {time}, {laid} laid out");
    }
}

/// Pitfall 46.
#[test]
fn the_first_record_at_or_after_a_time() {
    check(0, 0, Some((0, 10)));
    check(0, 10, Some((0, 10)));
    check(0, 11, Some((1, 30)));
    check(0, 31, Some((6, 40)));
    check(0, 40, Some((6, 40)));
    check(0, 41, None);
    // Deleted records are not found, also where their batch is still there.
    check(2, 0, Some((2, 20)));
    check(2, 21, Some((6, 40)));
    check(7, 30, Some((8, 40)));
    check(9, 0, None);
}

#[test]
fn the_first_of_the_latest_records() {
    check(0, i64::MAX, Some((6, 40)));
    check(7, i64::MAX, Some((8, 40)));
    check(9, i64::MAX, None);
}

/// A batch with a right checksum whose records a faulty producer compressed: unless validation is
/// `full`, it is taken.
fn unreadable(times: &[i64]) -> ValidBatch {
    let builder = BatchBuilder::new().compression(Compression::Lz4, None);
    let mut batch = build(builder, times, 50).bytes().to_vec();
    let (header, records) = batch.split_at_mut(61);
    records.fill(0);
    let crc = crc32c(&[&header[21..], records].concat());
    header[17..21].copy_from_slice(&crc.to_be_bytes());
    ValidBatch::check(batch.into(), &Check::client()).unwrap()
}

#[test]
fn a_batch_that_cannot_be_read_stands_for_its_header() {
    for laid_out in [false, true] {
        for (start, time, found) in [
            (0, 5, Some((0, 10))),
            (0, 20, Some((1, 30))),
            (0, 31, Some((4, 40))),
            (0, i64::MAX, Some((4, 40))),
            // The log start cuts the batch that can't be read.
            (2, 5, Some((2, 30))),
            (2, i64::MAX, Some((4, 40))),
        ] {
            let result = run(async {
                let mut world = World::new(1, 1);
                let log = world.open().await.unwrap();
                let one = log.partition(partition(0)).unwrap();
                // Offsets 0, 1-3, 4.
                let first = build(BatchBuilder::new(), &[10], 50);
                let last = build(BatchBuilder::new(), &[40], 50);
                let all = [first, unreadable(&[20, 30, 25]), last];
                let appended = one.append(&all, Origin::Client).unwrap();
                log.wait_durable(appended.end).await.unwrap();
                if laid_out {
                    log.lay_out().await.unwrap();
                }
                one.delete_records(Offset(start)).unwrap();
                match time {
                    i64::MAX => one.offset_of_max_timestamp().await.unwrap(),
                    time => one.offset_at(Timestamp(time)).await.unwrap(),
                }
            });
            let result = result.map(|(offset, at, _)| (offset.0, at.0));
            assert_eq!(result, found, "from {start} at {time}, laid out: {laid_out}");
        }
    }
}

#[test]
fn epochs_end_where_the_next_begins() {
    run(async {
        let mut world = World::new(1, 1);
        for _ in 0..3 {
            let log = world.open().await.unwrap();
            let one = log.partition(partition(0)).unwrap();
            let appended =
                one.append(&[build(BatchBuilder::new(), &[1, 2], 9)], Origin::Client).unwrap();
            log.wait_durable(appended.end).await.unwrap();
            world.close(log).await;
        }
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        for (asked, answer) in
            [(0, (0, 0)), (1, (1, 2)), (2, (2, 4)), (3, (3, 6)), (4, (4, 6)), (5, (-1, -1))]
        {
            let (epoch, end) = one.epoch_end(LeaderEpoch(asked));
            assert_eq!((epoch.0, end.0), answer, "{asked}");
        }
    });
}
