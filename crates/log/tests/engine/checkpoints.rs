//! Checkpoints that add to each other: what they hold, keep and give back, and who refuses them.

use millstream_env::BlobName;
use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_log::offline::added_to;
use millstream_log::{AppendError, Log, Origin};
use millstream_types::Offset;

use crate::world::{TOPIC, World, batch, partition, read_all, run, settle};

const PARTITIONS: i32 = 8;

async fn append(log: &Log, index: i32, size: usize) {
    let one = log.partition(partition(index)).unwrap();
    let mut appended = one.append(&[batch(&[1], size)], Origin::Client);
    while appended == Err(AppendError::Full) {
        // The next file is on its way.
        settle().await;
        appended = one.append(&[batch(&[1], size)], Origin::Client);
    }
    log.wait_durable(appended.unwrap().end).await.unwrap();
}

/// A log with a batch in each partition and a whole checkpoint of that.
async fn filled(world: &mut World) -> Log {
    let log = world.open().await.unwrap();
    for index in 0..PARTITIONS {
        append(&log, index, 500).await;
    }
    log.checkpoint().await.unwrap();
    log
}

/// How many batches each partition has, all of them readable.
async fn counts(log: &Log) -> Vec<usize> {
    let mut counts = Vec::new();
    for index in 0..PARTITIONS {
        let one = log.partition(partition(index)).unwrap();
        counts.push(read_all(&one, Offset(0), 9_999).await.unwrap().len());
    }
    counts
}

/// The sizes of the checkpoints that are stored, oldest first.
async fn sizes(world: &World) -> Vec<u64> {
    let (_, blobs) = world.stores.as_ref().unwrap();
    let listed = blobs.list("checkpoint/").await.unwrap();
    listed.into_iter().map(|(_, size)| size).collect()
}

#[test]
fn a_checkpoint_holds_what_has_changed_since_the_last() {
    run(async {
        let mut world = World::new(1, PARTITIONS);
        let log = filled(&mut world).await;
        append(&log, 3, 500).await;
        log.checkpoint().await.unwrap();
        log.checkpoint().await.unwrap();
        assert_eq!((log.stats().checkpoints, log.stats().deltas), (3, 2));
        let stored = sizes(&world).await;
        assert_eq!(stored.len(), 3);
        let whole = stored[0];
        assert!(stored[1..].iter().all(|delta| delta * 2 < whole), "{stored:?}");
        // Who copies the newest is told of the others.
        let newest = world.trims.newest.lock().unwrap().clone().unwrap().checkpoint;
        let (_, blobs) = world.stores.clone().unwrap();
        let mut named =
            added_to(blobs.as_ref(), world.settings.cluster, newest.clone()).await.unwrap();
        named.push(newest);
        let mut named: Vec<_> = named.iter().map(ToString::to_string).collect();
        named.sort_unstable();
        assert_eq!(named, world.blobs("checkpoint/").await);
        drop(blobs);
        append(&log, 5, 500).await;
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        assert_eq!(counts(&log).await, [1, 1, 1, 2, 1, 2, 1, 1]);
        // A former session's are added to; what recovery has replayed is what has changed.
        log.checkpoint().await.unwrap();
        assert_eq!(log.stats().deltas, 1);
        assert_eq!(sizes(&world).await.len(), 4);
        // Those that are needed are no orphans.
        log.maintain().await.unwrap();
        assert_eq!(sizes(&world).await.len(), 4);
        // They are enough: now a whole one takes their place.
        log.checkpoint().await.unwrap();
        assert_eq!((log.stats().deltas, sizes(&world).await.len()), (1, 1));
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        assert_eq!(counts(&log).await, [1, 1, 1, 2, 1, 2, 1, 1]);
    });
}

#[test]
fn many_changes_make_a_whole_checkpoint() {
    run(async {
        let mut world = World::new(1, PARTITIONS);
        let log = filled(&mut world).await;
        for index in 0..PARTITIONS / 2 {
            append(&log, index, 500).await;
        }
        log.checkpoint().await.unwrap();
        assert_eq!((log.stats().checkpoints, log.stats().deltas), (2, 0));
        assert_eq!(sizes(&world).await.len(), 1);
    });
}

/// Positions of different sessions are not comparable: what an older checkpoint says a partition has
/// seen of its own session must not hide frames of a later one.
#[test]
fn a_state_from_a_former_session_hides_no_frames_of_this_one() {
    run(async {
        let mut world = World::new(1, PARTITIONS);
        let log = world.open().await.unwrap();
        for _ in 0..20 {
            append(&log, 0, 500).await;
        }
        for index in 1..PARTITIONS {
            append(&log, index, 500).await;
        }
        log.checkpoint().await.unwrap();
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        append(&log, 0, 500).await;
        log.checkpoint().await.unwrap();
        assert_eq!(log.stats().deltas, 1);
        append(&log, 7, 500).await;
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        assert_eq!(counts(&log).await, [21, 1, 1, 1, 1, 1, 1, 2]);
    });
}

/// What an older checkpoint refers to in the journal stays there, though a newer one lets go of more;
/// and goes when a state says so, or when the partition does.
#[test]
fn the_journal_keeps_what_the_states_of_all_checkpoints_refer_to() {
    run(async {
        let mut world = World::new(0, PARTITIONS);
        let log = filled(&mut world).await;
        let other = log.partition(partition(1)).unwrap();
        for _ in 0..20 {
            append(&log, 0, 9_000).await;
            log.checkpoint().await.unwrap();
            settle().await;
        }
        let start = log.stats().journal_used;
        // The log start is in no checkpoint yet: until it is, a crash brings the batch back.
        other.delete_records(Offset(1)).unwrap();
        append(&log, 0, 10).await;
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        let first = log.partition(partition(0)).unwrap();
        assert_eq!(read_all(&first, Offset(0), 99_999).await.unwrap().len(), 22);
        assert_eq!(log.partition(partition(1)).unwrap().ends().log_start, Offset(1));
        for index in 2..PARTITIONS {
            let one = log.partition(partition(index)).unwrap();
            assert_eq!(read_all(&one, Offset(0), 9_999).await.unwrap().len(), 1);
        }
        log.lay_out().await.unwrap();
        log.checkpoint().await.unwrap();
        assert!(log.stats().journal_used < start / 2, "{} of {start}", log.stats().journal_used);
        log.delete_topic(TOPIC);
        log.checkpoint().await.unwrap();
        assert_eq!(log.stats().partitions, 0);
    });
}

/// Producers who leave the last of the journal to others append nothing while they wait for space: that
/// little came since the last checkpoint must not put off the one that gives it back.
#[test]
fn what_is_laid_out_in_a_full_journal_gives_its_space_back_though_nothing_more_comes() {
    run(async {
        let mut world = World::new(1, PARTITIONS);
        // What layout itself appends is little of it.
        world.journal.file_bytes = 1024 * 1024;
        world.settings.checkpoint_bytes = u64::MAX;
        let log = filled(&mut world).await;
        let is_pressed = |log: &Log| log.stats().journal_used * 100 > log.stats().journal_max * 50;
        while !is_pressed(&log) {
            append(&log, 0, 90_000).await;
        }
        // It refers to all that is in the journal.
        log.checkpoint().await.unwrap();
        assert!(is_pressed(&log));
        log.maintain().await.unwrap();
        let stats = log.stats();
        assert_eq!(stats.backlog_bytes, 0);
        assert!(!is_pressed(&log), "{} of {}", stats.journal_used, stats.journal_max);
    });
}

/// A deleted partition's batches keep no journal, though an older checkpoint refers to them.
#[test]
fn a_deleted_topic_lets_the_journal_go() {
    run(async {
        let mut world = World::new(1, PARTITIONS);
        let mut other = partition(0);
        other.topic.0[0] ^= 1;
        world.partitions.extend((0..20).map(|index| {
            let mut id = partition(index);
            id.topic = other.topic;
            id
        }));
        let log = world.open().await.unwrap();
        append(&log, 0, 500).await;
        for index in 0..20 {
            let id = millstream_types::PartitionId { index, ..other };
            let one = log.partition(id).unwrap();
            let appended = one.append(&[batch(&[1], 50)], Origin::Client).unwrap();
            log.wait_durable(appended.end).await.unwrap();
        }
        log.checkpoint().await.unwrap();
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        log.delete_topic(other.topic);
        world.partitions.retain(|id| id.topic == TOPIC);
        log.lay_out().await.unwrap();
        log.checkpoint().await.unwrap();
        log.checkpoint().await.unwrap();
        let (journals, _) = world.stores.clone().unwrap();
        let sessions = journals.sessions().await.unwrap();
        assert_eq!(
            sessions.len(),
            1,
            "the former session's journal is needed by nobody: {sessions:?}"
        );
    });
}

#[test]
fn a_checkpoint_that_failed_is_made_up_for() {
    run(async {
        let mut world = World::new(1, PARTITIONS);
        let log = filled(&mut world).await;
        append(&log, 2, 500).await;
        world.machine.plan(FaultAt { on: Operation::Write, after: 0, fault: Fault::Full });
        log.checkpoint().await.unwrap_err();
        append(&log, 4, 500).await;
        log.checkpoint().await.unwrap();
        assert_eq!(log.stats().deltas, 1);
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        assert_eq!(counts(&log).await, [1, 1, 2, 1, 2, 1, 1, 1]);
    });
}

#[test]
fn without_what_it_adds_to_a_checkpoint_is_refused() {
    run(async {
        let mut world = World::new(1, PARTITIONS);
        let log = filled(&mut world).await;
        append(&log, 2, 500).await;
        log.checkpoint().await.unwrap();
        let first = world.blobs("checkpoint/").await.remove(0);
        let (_, blobs) = world.stores.clone().unwrap();
        blobs.delete(vec![BlobName::new(&first).unwrap()]).await.unwrap();
        drop(blobs);
        world.close(log).await;
        let refused = world.open().await.unwrap_err();
        assert!(refused.contains(&first), "{refused}");
    });
}
