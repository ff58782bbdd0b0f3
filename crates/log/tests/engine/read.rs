//! Reading: what a read returns, and from where.

use millstream_log::{Isolation, Log, Origin, Partition, ReadError};
use millstream_record::ValidBatch;
use millstream_types::{LeaderEpoch, Offset};

use crate::world::{World, batch, bytes, partition, read_all, run};

/// Appends and waits.
async fn store(log: &Log, one: &Partition, batches: &[ValidBatch]) {
    for batch in batches {
        let appended = one.append(std::slice::from_ref(batch), Origin::Client).unwrap();
        log.wait_durable(appended.end).await.unwrap();
    }
}

/// Where the batches are when they are read.
#[derive(Clone, Copy, Debug)]
enum Place {
    Memory,
    Journal,
    Segment,
    /// The first half in a segment, the rest in memory.
    Both,
}

/// Batches of 2 records and 100 bytes of values: offsets 0-1, 2-3, 4-5, 6-7.
#[track_caller]
fn check(from: i64, bytes_max: usize, at_least_one: bool, bases: &[i64]) {
    for place in [Place::Memory, Place::Journal, Place::Segment, Place::Both] {
        let found = run(async {
            let mut world = World::new(1, 1);
            if matches!(place, Place::Journal | Place::Segment) {
                world.settings.tail_bytes = 0;
            }
            let log = world.open().await.unwrap();
            let one = log.partition(partition(0)).unwrap();
            let batches: Vec<_> = (0..4).map(|_| batch(&[1, 2], 100)).collect();
            store(&log, &one, &batches[..2]).await;
            if matches!(place, Place::Both) {
                world.settings.tail_bytes = 0;
                log.lay_out().await.unwrap();
            }
            store(&log, &one, &batches[2..]).await;
            if matches!(place, Place::Segment) {
                log.lay_out().await.unwrap();
            }
            let slice = one
                .read(Offset(from), bytes_max, at_least_one, Isolation::Uncommitted)
                .await
                .unwrap();
            let stats = log.stats();
            match place {
                Place::Memory | Place::Both => assert_eq!(stats.journal_reads, 0),
                Place::Journal => assert_eq!(stats.cold_reads, 0),
                Place::Segment => assert_eq!(stats.journal_reads, 0),
            }
            let sizes = slice.batches.iter().map(millstream_record::StoredBatch::size);
            assert_eq!(slice.bytes, sizes.sum::<usize>());
            let bases = slice.batches.iter().map(|b| b.header().unwrap().base_offset.0);
            bases.collect::<Vec<_>>()
        });
        assert_eq!(found, bases, "{place:?}: from {from}, at most {bytes_max}");
    }
}

/// Pitfall 38.
#[test]
fn whole_batches_up_to_the_limit_and_at_least_one_if_asked() {
    let size = batch(&[1, 2], 100).bytes().len();
    check(0, 10_000, true, &[0, 2, 4, 6]);
    check(0, 2 * size, true, &[0, 2]);
    check(0, 2 * size - 1, true, &[0]);
    check(0, size, false, &[0]);
    check(0, size - 1, false, &[]);
    check(0, 1, true, &[0]);
    check(0, 0, true, &[0]);
    check(0, 0, false, &[]);
    // Inside a batch: all of it.
    check(3, 10_000, true, &[2, 4, 6]);
    check(7, 1, true, &[6]);
    // At the end: nothing, and no error.
    check(8, 10_000, true, &[]);
}

#[test]
fn outside_of_the_log_is_out_of_range() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        store(&log, &one, &[batch(&[1, 2], 9), batch(&[3], 9)]).await;
        one.delete_records(Offset(1)).unwrap();
        for (offset, within) in [(-1, false), (0, false), (1, true), (3, true), (4, false)] {
            let read = one.read(Offset(offset), 100, true, Isolation::Uncommitted).await;
            match read {
                Ok(_) => assert!(within, "{offset}"),
                Err(ReadError::OutOfRange { offset: asked, ends }) => {
                    assert!(!within && asked == Offset(offset), "{offset}");
                    assert_eq!((ends.log_start, ends.high_watermark), (Offset(1), Offset(3)));
                }
                Err(error) => panic!("{error}"),
            }
        }
        // The log start may lie inside a batch; then all of it is returned.
        let slice = one.read(Offset(1), 100, true, Isolation::Uncommitted).await.unwrap();
        assert_eq!(slice.batches[0].header().unwrap().base_offset, Offset(0));
        assert_eq!(slice.log_start, Offset(1));
    });
}

#[test]
fn the_tail_shares_large_requests_and_copies_small_parts_of_them() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let sent = batch(&[1], 1000);
        let whole = sent.bytes().len();
        for (offset, pinned, shared) in [
            (0, None, false),
            (1, Some(whole), true),
            (2, Some(2 * (whole - 16)), true),
            (3, Some(3 * whole), false),
        ] {
            let appended =
                one.append_pinned(std::slice::from_ref(&sent), Origin::Client, pinned).unwrap();
            log.wait_durable(appended.end).await.unwrap();
            let slice = one.read(Offset(offset), 1, true, Isolation::Uncommitted).await.unwrap();
            let kept = slice.batches[0].rest.as_ptr();
            assert_eq!(sent.bytes().as_ptr_range().contains(&kept), shared, "{pinned:?}");
            // Served without a copy: every reader gets the same bytes.
            let again = one.read(Offset(offset), 1, true, Isolation::Uncommitted).await.unwrap();
            assert_eq!(again.batches[0].rest.as_ptr(), kept);
        }
    });
}

#[test]
fn the_tail_keeps_within_its_budget_and_evicts_the_oldest_of_all() {
    run(async {
        let mut world = World::new(1, 2);
        world.settings.tail_bytes = 8_000;
        let log = world.open().await.unwrap();
        let (one, two) =
            (log.partition(partition(0)).unwrap(), log.partition(partition(1)).unwrap());
        store(&log, &two, &[batch(&[1], 1000)]).await;
        for _ in 0..20 {
            store(&log, &one, &[batch(&[1], 1000)]).await;
            assert!(log.stats().tail_bytes <= 8_000);
        }
        let before = log.stats().journal_reads;
        assert_eq!(read_all(&two, Offset(0), 10_000).await.unwrap().len(), 1);
        assert_eq!(log.stats().journal_reads, before + 1, "the other's was the oldest");
        read_all(&one, Offset(16), 10_000).await.unwrap();
        assert_eq!(log.stats().journal_reads, before + 1, "the newest are in memory");
        let all = read_all(&one, Offset(0), 3_000).await.unwrap();
        assert_eq!(all.len(), 20);
        // Pinned memory counts as what it is: one batch of a large request fills the budget.
        let part = batch(&[1], 3_000);
        one.append_pinned(&[part], Origin::Client, Some(6_000)).unwrap();
        assert!(log.stats().tail_bytes >= 6_000);
    });
}

#[test]
fn corruption_is_reported_for_what_it_hits_and_never_served() {
    // Where a flipped bit hits the second of three batches: checksummed bytes, the base offset, the
    // leader epoch, the length.
    for at in [70, 5, 14, 9] {
        run(async {
            let mut world = World::new(1, 1);
            world.settings.tail_bytes = 0;
            world.settings.run_bytes_max = 1 << 20;
            let log = world.open().await.unwrap();
            let one = log.partition(partition(0)).unwrap();
            let batches: Vec<_> = (0..3).map(|_| batch(&[1, 2], 20_000)).collect();
            store(&log, &one, &batches).await;
            log.lay_out().await.unwrap();
            let name = world.blobs("segment/").await.remove(0);
            let second = 64 + batches[0].bytes().len() as u64;
            let path = world.machine.files().into_iter().find(|(path, _)| path.contains(&name));
            assert!(world.machine.flip_bit(&path.unwrap().0, second + at, 3));
            let good = one.read(Offset(0), 1_000_000, true, Isolation::Uncommitted).await.unwrap();
            let expected = batches[0].assign(Offset(0), LeaderEpoch(1)).to_bytes();
            assert_eq!(good.batches.len(), 1, "{at}");
            assert!(bytes(&good.batches) == [expected], "{at}: served as it was written");
            for offset in [2, 3] {
                let bad = one.read(Offset(offset), 100, true, Isolation::Uncommitted).await;
                let Err(ReadError::Corrupt { from, upto, .. }) = bad else {
                    panic!("{at}: {bad:?}");
                };
                assert_eq!((from, upto), (Offset(2), Offset(4)), "{at}");
            }
            let after = one.read(Offset(4), 100, true, Isolation::Uncommitted).await.unwrap();
            assert_eq!(after.batches.len(), 1, "the loss is limited to the batch");
        });
    }
}
