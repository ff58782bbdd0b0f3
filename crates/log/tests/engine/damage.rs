//! Damage on the disk: it costs the batches hit, who reads them is told, and all else goes on.

use std::time::Duration;

use bytes::Bytes;
use millstream_env::BlobName;
use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_log::{Isolation, Log, Origin, Partition, PartitionConfig, ReadError};
use millstream_record::file::{FileHeader, FileKind};
use millstream_types::{Offset, Timestamp};

use crate::world::{World, batch, bytes, partition, read_all, run, settle};

/// A log that keeps nothing in memory.
async fn open(world: &mut World) -> Log {
    world.settings.tail_bytes = 0;
    world.open().await.unwrap()
}

/// Appends a batch of one record. Its time is a hundred times its offset.
async fn append(log: &Log, index: i32, size: usize) {
    let one = log.partition(partition(index)).unwrap();
    let time = one.ends().log_end.0 * 100;
    let appended = one.append(&[batch(&[time], size)], Origin::Client).unwrap();
    log.wait_durable(appended.end).await.unwrap();
}

async fn fill(log: &Log, index: i32, batches: usize, size: usize) -> Vec<Bytes> {
    for _ in 0..batches {
        append(log, index, size).await;
    }
    bytes(&read_all(&log.partition(partition(index)).unwrap(), Offset(0), 9_999).await.unwrap())
}

/// Where the copies of a batch lie.
fn places(world: &World, batch: &[u8]) -> Vec<(String, u64)> {
    let found = world.machine.find(batch);
    assert!(!found.is_empty());
    found
}

fn damage(world: &World, batch: &[u8]) {
    for (path, at) in places(world, batch) {
        assert!(world.machine.flip_bit(&path, at + batch.len() as u64 - 3, 4));
    }
}

fn shatter(world: &World, batch: &[u8]) {
    for (path, at) in places(world, batch) {
        assert!(world.machine.break_sector(&path, at + batch.len() as u64 / 2));
    }
}

/// Reads everything: batches, and the offsets that are reported as corrupt, where it goes on behind.
async fn survey(one: &Partition) -> (Vec<Bytes>, Vec<(i64, i64)>) {
    let (mut found, mut corrupt) = (Vec::new(), Vec::new());
    let mut next = one.ends().log_start;
    loop {
        match one.read(next, 100, true, Isolation::Uncommitted).await {
            Err(ReadError::Corrupt { partition, from, upto, .. }) => {
                assert_eq!((partition, from), (one.id(), next));
                corrupt.push((from.0, upto.0));
                next = upto;
            }
            slice => {
                let slice = slice.unwrap();
                let Some(last) = slice.batches.last() else { return (found, corrupt) };
                let first = slice.batches[0].header().unwrap().base_offset;
                assert_eq!(first, next, "nothing is passed over");
                next = last.header().unwrap().last_offset().next();
                found.extend(bytes(&slice.batches));
            }
        }
    }
}

fn without(all: &[Bytes], lost: &[(i64, i64)]) -> Vec<Bytes> {
    let is_lost = |at: i64| lost.iter().any(|(from, upto)| (*from..*upto).contains(&at));
    (0..).zip(all).filter(|(at, _)| !is_lost(*at)).map(|(_, batch)| batch.clone()).collect()
}

/// Batches of a former session, which recovery does not read once there is a checkpoint.
async fn backlog(world: &mut World, batches: usize) -> (Log, Vec<Bytes>) {
    let log = open(world).await;
    let all = fill(&log, 0, batches, 1_000).await;
    world.power_cut(log).await;
    let log = world.open().await.unwrap();
    log.checkpoint().await.unwrap();
    (log, all)
}

#[track_caller]
fn check(hit: &[usize], lost: &'static [(i64, i64)]) {
    run(async {
        let mut world = World::new(1, 2);
        let (mut log, all) = backlog(&mut world, 5).await;
        let other = fill(&log, 1, 3, 500).await;
        for at in hit {
            damage(&world, &all[*at]);
        }
        log.lay_out().await.unwrap();
        for step in ["live", "by its frame", "by a checkpoint"] {
            let stats = log.stats();
            assert_eq!((stats.backlog_bytes, stats.lost), (0, hit.len() as u64), "{step}");
            let one = log.partition(partition(0)).unwrap();
            assert_eq!(survey(&one).await, (without(&all, lost), lost.to_vec()), "{step}");
            let two = log.partition(partition(1)).unwrap();
            assert_eq!(survey(&two).await, (other.clone(), vec![]), "{step}");
            if step == "by its frame" {
                log.checkpoint().await.unwrap();
            }
            world.power_cut(log).await;
            log = world.open().await.unwrap();
        }
    });
}

#[test]
fn a_damaged_batch_in_the_journal_costs_itself_only() {
    check(&[0], &[(0, 1)]);
    check(&[2], &[(2, 3)]);
    check(&[4], &[(4, 5)]);
    check(&[1, 3], &[(1, 2), (3, 4)]);
    // Neighbours are one loss.
    check(&[0, 1, 3, 4], &[(0, 2), (3, 5)]);
    check(&[0, 1, 2, 3, 4], &[(0, 5)]);
}

#[test]
fn the_journal_is_given_back_though_a_batch_in_it_is_damaged() {
    run(async {
        let mut world = World::new(1, 2);
        let log = open(&mut world).await;
        let all = fill(&log, 0, 3, 1_000).await;
        damage(&world, &all[1]);
        for round in 1..100 {
            append(&log, 0, 1_000).await;
            append(&log, 1, 20_000).await;
            log.maintain().await.unwrap();
            settle().await;
            let stats = log.stats();
            assert!(stats.journal_used < stats.journal_max, "round {round}: {stats:?}");
        }
        assert!(log.stats().checkpoints > 3);
        let one = log.partition(partition(0)).unwrap();
        let (found, corrupt) = survey(&one).await;
        assert_eq!((found.len(), corrupt), (101, vec![(1, 2)]));
    });
}

#[test]
fn a_log_start_behind_what_is_lost_ends_the_loss() {
    run(async {
        let mut world = World::new(1, 1);
        let (log, all) = backlog(&mut world, 6).await;
        damage(&world, &all[1]);
        damage(&world, &all[3]);
        log.lay_out().await.unwrap();
        log.checkpoint().await.unwrap();
        let head = |world: &World| {
            let (blobs, trims) = (world.stores.clone().unwrap().1, world.trims.clone());
            async move {
                let name: BlobName = trims.newest.lock().unwrap().clone().unwrap().checkpoint;
                blobs.get(name, Some(0..64)).await.unwrap()
            }
        };
        let refused = FileHeader::decode(&head(&world).await, FileKind::Checkpoint);
        assert!(refused.is_err(), "only programs that know of losses may read it: {refused:?}");
        let one = log.partition(partition(0)).unwrap();
        for (start, lost) in [(1, 2), (2, 1), (3, 1), (4, 0)] {
            one.delete_records(Offset(start)).unwrap();
            assert_eq!(log.stats().lost, lost, "{start}");
        }
        assert_eq!(survey(&one).await, (all[4..].to_vec(), vec![]));
        log.checkpoint().await.unwrap();
        FileHeader::decode(&head(&world).await, FileKind::Checkpoint).unwrap();
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        assert_eq!(log.stats().lost, 0);
    });
}

#[test]
fn retention_passes_over_what_is_lost() {
    run(async {
        let mut world = World::new(1, 1);
        world.config = PartitionConfig {
            retention: Some(Duration::from_millis(1_000)),
            segment_bytes: 1 << 20,
            ..PartitionConfig::default()
        }
        .into();
        let log = open(&mut world).await;
        let all = fill(&log, 0, 3, 1_000).await;
        damage(&world, &all[1]);
        log.lay_out().await.unwrap();
        log.lay_out().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        // The records' times are 0, 100 and 200.
        for (now, start) in [(1_000, 0), (1_050, 1), (1_150, 2), (1_250, 3)] {
            log.retain(Timestamp(now));
            assert_eq!(one.ends().log_start, Offset(start), "{now}");
        }
        assert_eq!(log.stats().lost, 0);
    });
}

#[test]
fn what_is_lost_is_not_passed_over_when_a_time_is_looked_for() {
    run(async {
        let mut world = World::new(1, 1);
        let log = open(&mut world).await;
        let all = fill(&log, 0, 5, 1_000).await;
        damage(&world, &all[2]);
        log.lay_out().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        for (time, found) in
            [(0, Some(0)), (100, Some(1)), (300, Some(3)), (400, Some(4)), (401, None)]
        {
            let at = one.offset_at(Timestamp(time)).await.unwrap();
            assert_eq!(at.map(|(offset, ..)| offset.0), found, "{time}");
        }
        // The answer may have been among what is lost.
        let lost = one.offset_at(Timestamp(101)).await.unwrap_err();
        assert!(matches!(lost, ReadError::Corrupt { from: Offset(2), upto: Offset(3), .. }));
        assert_eq!(one.offset_of_max_timestamp().await.unwrap().unwrap().0, Offset(4));
        damage(&world, &all[4]);
        assert!(one.offset_of_max_timestamp().await.is_err());
    });
}

#[test]
fn a_damaged_segment_keeps_neither_layout_nor_merging_from_going_on() {
    run(async {
        let mut world = World::new(1, 1);
        let log = open(&mut world).await;
        let mut all = Vec::new();
        for _ in 0..6 {
            all = fill(&log, 0, 1, 1_000).await;
            log.lay_out().await.unwrap();
        }
        log.checkpoint().await.unwrap();
        settle().await;
        // The journal may still have it.
        let places = world.machine.find(&all[2]);
        let (path, at) = places.iter().find(|(path, _)| path.starts_with("blobs")).unwrap();
        assert!(world.machine.flip_bit(path, at + 200, 1));
        log.maintain().await.unwrap();
        assert_eq!(log.stats().merges, 0, "this met the damage");
        log.maintain().await.unwrap();
        for _ in 0..20 {
            append(&log, 0, 1_000).await;
            log.lay_out().await.unwrap();
            log.maintain().await.unwrap();
        }
        let stats = log.stats();
        assert_eq!(stats.backlog_bytes, 0);
        assert!(stats.merges > 3 && stats.segments < 12, "{stats:?}");
        let one = log.partition(partition(0)).unwrap();
        let (found, corrupt) = survey(&one).await;
        assert_eq!((found.len(), corrupt), (25, vec![(2, 3)]));
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        for _ in 0..3 {
            log.maintain().await.unwrap();
        }
        let one = log.partition(partition(0)).unwrap();
        let (found, corrupt) = survey(&one).await;
        assert_eq!((found.len(), corrupt), (25, vec![(2, 3)]));
    });
}

#[test]
fn merging_does_not_span_what_is_lost() {
    run(async {
        let mut world = World::new(1, 1);
        let log = open(&mut world).await;
        for round in 0..12 {
            append(&log, 0, 1_000).await;
            if round == 5 {
                let one = log.partition(partition(0)).unwrap();
                let slice = one.read(Offset(5), 9, true, Isolation::Uncommitted).await.unwrap();
                damage(&world, &slice.batches[0].to_bytes());
            }
            log.lay_out().await.unwrap();
        }
        for _ in 0..3 {
            log.maintain().await.unwrap();
        }
        assert!(log.stats().merges > 0);
        let one = log.partition(partition(0)).unwrap();
        let (found, corrupt) = survey(&one).await;
        assert_eq!((found.len(), corrupt), (11, vec![(5, 6)]));
        // A large read ends before what is lost.
        let slice = one.read(Offset(0), 99_999, true, Isolation::Uncommitted).await.unwrap();
        assert_eq!(slice.batches.len(), 5);
    });
}

#[test]
fn a_frame_that_the_disk_does_not_read_is_given_up_after_some_tries() {
    run(async {
        let mut world = World::new(1, 2);
        let log = open(&mut world).await;
        let all = fill(&log, 0, 3, 3_000).await;
        let other = fill(&log, 1, 3, 500).await;
        shatter(&world, &all[1]);
        world.clock.advance(Duration::from_secs(60));
        log.maintain().await.unwrap_err();
        // The others in the pack are laid out, and what came before.
        let stats = log.stats();
        assert_eq!((stats.segments, stats.lost), (2, 0), "{stats:?}");
        log.maintain().await.unwrap();
        assert_eq!(log.stats().lost, 0, "it is left alone for a while");
        let mut tries = 1;
        while log.stats().lost == 0 {
            world.clock.advance(Duration::from_secs(60));
            let _ = log.maintain().await;
            tries += 1;
        }
        assert_eq!(tries, 6);
        log.lay_out().await.unwrap();
        assert_eq!(log.stats().backlog_bytes, 0);
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(survey(&one).await, (without(&all, &[(1, 2)]), vec![(1, 2)]));
        let two = log.partition(partition(1)).unwrap();
        assert_eq!(survey(&two).await, (other, vec![]));
    });
}

#[test]
fn a_frame_that_the_disk_reads_again_is_not_given_up() {
    run(async {
        let mut world = World::new(1, 1);
        let log = open(&mut world).await;
        let all = fill(&log, 0, 3, 3_000).await;
        shatter(&world, &all[0]);
        for _ in 0..5 {
            log.lay_out().await.unwrap_err();
        }
        world.machine.heal(|_| true);
        log.lay_out().await.unwrap();
        assert_eq!((log.stats().lost, log.stats().backlog_bytes), (0, 0));
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(survey(&one).await, (all, vec![]));
    });
}

#[test]
fn a_bit_that_flips_on_the_way_from_the_disk_loses_nothing() {
    run(async {
        let mut world = World::new(1, 1);
        let log = open(&mut world).await;
        let all = fill(&log, 0, 1, 3_000).await;
        // The model found that two flips in a row were taken for damage.
        for faults in [&[Fault::Flip][..], &[Fault::Fail], &[Fault::Flip; 4]] {
            for &fault in faults {
                world.machine.plan(FaultAt { on: Operation::Read, after: 0, fault });
            }
            log.lay_out().await.unwrap_err();
            assert_eq!(world.machine.faults_left(), 0);
        }
        log.lay_out().await.unwrap();
        assert_eq!((log.stats().lost, log.stats().backlog_bytes), (0, 0));
        let one = log.partition(partition(0)).unwrap();
        assert_eq!(survey(&one).await, (all, vec![]));
    });
}

/// Ten batches in segments, and where one of them lies in its segment.
async fn segment(world: &mut World, size: usize, hit: usize) -> (Log, Vec<Bytes>, (String, u64)) {
    let log = open(world).await;
    let all = fill(&log, 0, 10, size).await;
    log.lay_out().await.unwrap();
    let found = places(world, &all[hit]);
    let place = found.into_iter().find(|(path, _)| path.starts_with("blobs")).unwrap();
    (log, all, place)
}

#[test]
fn a_damaged_batch_in_a_segment_costs_itself_only() {
    run(async {
        for hit in [0, 3, 9] {
            let mut world = World::new(1, 1);
            let (log, all, (path, at)) = segment(&mut world, 1_000, hit).await;
            assert!(world.machine.flip_bit(&path, at + 500, 3));
            let lost = (hit as i64, hit as i64 + 1);
            let one = log.partition(partition(0)).unwrap();
            assert_eq!(survey(&one).await, (without(&all, &[lost]), vec![lost]));
        }
    });
}

#[test]
fn a_sector_that_can_t_be_read_does_not_keep_others_from_being_read() {
    run(async {
        let mut world = World::new(1, 1);
        // The middle of a batch is in no block that another needs.
        let (log, all, (path, at)) = segment(&mut world, 10_000, 5).await;
        assert!(world.machine.break_sector(&path, at + 5_000));
        let one = log.partition(partition(0)).unwrap();
        for (offset, expected) in (0..).zip(&all) {
            let slice = one.read(Offset(offset), 9_999, true, Isolation::Uncommitted).await;
            if offset == 5 {
                assert!(matches!(slice, Err(ReadError::Storage(_))), "{slice:?}");
            } else {
                assert_eq!(slice.unwrap().batches[0].to_bytes(), expected);
            }
        }
    });
}

/// Found by the sweep over a whole broker: one bit in the header of a small batch cost all that came
/// after it, up to the next place that the index knows or the end of the segment.
#[test]
fn a_damaged_header_in_a_segment_costs_its_batch_only() {
    run(async {
        // All that a header holds but the checksum itself, whose damage the test above is like.
        for (hit, byte) in (0..10).flat_map(|hit| [0, 7, 9, 11, 14, 16, 22, 26].map(|b| (hit, b))) {
            let mut world = World::new(1, 1);
            let (log, all, (path, at)) = segment(&mut world, 700, hit).await;
            assert!(world.machine.flip_bit(&path, at + byte, 2));
            let lost = (hit as i64, hit as i64 + 1);
            let one = log.partition(partition(0)).unwrap();
            assert_eq!(survey(&one).await, (without(&all, &[lost]), vec![lost]), "{hit} {byte}");
            // Whoever begins behind it need not know of it.
            for from in hit + 1..10 {
                let slice =
                    one.read(Offset(from as i64), 99_999, true, Isolation::Uncommitted).await;
                assert_eq!(bytes(&slice.unwrap().batches), all[from..], "{hit} {byte}");
            }
        }
    });
}

/// Found by the same sweep: one bit in the index of a segment made all of the segment unreadable.
#[test]
fn a_damaged_index_costs_nothing() {
    run(async {
        for breaks in [false, true] {
            let mut world = World::new(1, 1);
            let (log, all, (path, at)) = segment(&mut world, 7_000, 9).await;
            // Behind the last batch.
            let index = at + all[9].len() as u64 + 20;
            match breaks {
                true => assert!(world.machine.break_sector(&path, index)),
                false => assert!(world.machine.flip_bit(&path, index, 2)),
            }
            let one = log.partition(partition(0)).unwrap();
            let found = one.offset_at(Timestamp(450)).await.unwrap().unwrap();
            assert_eq!(found.0, Offset(5), "{breaks}");
            if !breaks {
                assert_eq!(survey(&one).await, (all, vec![]));
            }
        }
    });
}

/// A bit that flips on the way from the disk must not cost what the disk holds.
#[test]
fn damage_of_a_segment_is_believed_after_a_second_read() {
    run(async {
        let mut world = World::new(1, 1);
        let (log, all, _) = segment(&mut world, 700, 0).await;
        let one = log.partition(partition(0)).unwrap();
        for from in [0, 5] {
            let fault = Fault::Flip;
            world.machine.plan(FaultAt { on: Operation::Read, after: 0, fault });
            let slice = one.read(Offset(from), 99_999, true, Isolation::Uncommitted).await;
            assert_eq!(world.machine.faults_left(), 0);
            assert_eq!(bytes(&slice.unwrap().batches)[0], all[from as usize]);
        }
        assert_eq!(survey(&one).await, (all, vec![]));
    });
}
