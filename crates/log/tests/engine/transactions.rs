//! What readers of committed data see.

use millstream_log::{AppendError, FirstSequence, Isolation, Log, Origin, Partition};
use millstream_record::control::{EndTransaction, Outcome};
use millstream_record::{BatchBuilder, ValidBatch};
use millstream_types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use crate::world::{World, batch, build, partition, run};

fn within(producer: i64, sequence: i32) -> ValidBatch {
    let builder = BatchBuilder::new();
    let builder = builder.producer(ProducerId(producer), ProducerEpoch(0), sequence);
    build(builder.transactional(), &[1, 2], 20)
}

fn marker(producer: i64, outcome: Outcome, coordinator_epoch: i32) -> ValidBatch {
    let end = EndTransaction { outcome, coordinator_epoch };
    end.batch(ProducerId(producer), ProducerEpoch(0), Timestamp(5)).unwrap()
}

async fn committed(one: &Partition, from: i64) -> (Vec<i64>, Vec<(i64, i64)>) {
    let slice = one.read(Offset(from), 100_000, true, Isolation::Committed).await.unwrap();
    let bases = slice.batches.iter().map(|b| b.header().unwrap().base_offset.0).collect();
    (bases, slice.aborted.iter().map(|(id, first)| (id.0, first.0)).collect())
}

async fn check(log: &Log) {
    let one = log.partition(partition(0)).unwrap();
    // Offsets: 0-1 of 7, 2-3 of 8, 4 plain, 5 abort 7, 6-7 of 7 (open), 8 commit 8.
    assert_eq!(one.ends().last_stable, Offset(6));
    assert_eq!(committed(&one, 0).await, (vec![0, 2, 4, 5], vec![(7, 0)]));
    assert_eq!(committed(&one, 5).await, (vec![5], vec![(7, 0)]));
    assert_eq!(committed(&one, 6).await, (vec![], vec![]));
    let all = one.read(Offset(0), 100_000, true, Isolation::Uncommitted).await.unwrap();
    assert_eq!((all.batches.len(), all.aborted.len()), (6, 0));
}

#[test]
fn committed_reads_end_at_the_first_open_transaction_and_name_the_aborted() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let client = |batch: ValidBatch| one.append(&[batch], Origin::Client).unwrap();
        let internal = |batch: ValidBatch| one.append(&[batch], Origin::Internal).unwrap();
        one.enlist(ProducerId(7), ProducerEpoch(0), FirstSequence::Any);
        one.enlist(ProducerId(8), ProducerEpoch(0), FirstSequence::Any);
        client(within(7, 0));
        client(within(8, 0));
        client(batch(&[1], 20));
        let abort = internal(marker(7, Outcome::Abort, 1));
        log.wait_durable(abort.end).await.unwrap();
        let late = one.append(&[within(7, 2)], Origin::Client);
        assert!(matches!(late, Err(AppendError::NotEnlisted { .. })), "{late:?}");
        one.enlist(ProducerId(7), ProducerEpoch(0), FirstSequence::Any);
        client(within(7, 2));
        // The marker ends the transaction for readers when it is durable, not before.
        let commit = internal(marker(8, Outcome::Commit, 1));
        assert_eq!(one.ends().last_stable, Offset(2));
        log.wait_durable(commit.end).await.unwrap();
        check(&log).await;
        let old = one.append(&[marker(7, Outcome::Abort, 0)], Origin::Internal);
        assert!(matches!(old, Err(AppendError::CoordinatorFenced { .. })));
        // The same from a segment, after a crash, and from a checkpoint.
        log.lay_out().await.unwrap();
        check(&log).await;
        world.power_cut(log).await;
        let log = world.open().await.unwrap();
        check(&log).await;
        world.close(log).await;
        let log = world.open().await.unwrap();
        check(&log).await;
        // Deleted transactions are forgotten when no offset of theirs is left.
        let one = log.partition(partition(0)).unwrap();
        one.delete_records(Offset(5)).unwrap();
        assert_eq!(committed(&one, 5).await, (vec![5], vec![(7, 0)]));
        one.delete_records(Offset(6)).unwrap();
        let end = one.append(&[marker(7, Outcome::Abort, 1)], Origin::Internal).unwrap();
        log.wait_durable(end.end).await.unwrap();
        assert_eq!(one.ends().last_stable, Offset(10));
        assert_eq!(committed(&one, 6).await, (vec![6, 8, 9], vec![(7, 6)]));
    });
}
