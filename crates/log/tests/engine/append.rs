//! Appending: offsets, retries, durability, refusal.

use std::sync::Arc;
use std::time::Duration;

use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_log::{
    AppendError, Isolation, News, Origin, PartitionConfig, PartitionSpec, ReadError, SessionOver,
};
use millstream_record::TimestampType;
use millstream_types::{LeaderEpoch, Offset, Timestamp};

use crate::world::{World, batch, partition, read_all, run, sent, settle};

#[test]
fn nothing_is_visible_before_it_is_durable() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let who = Arc::new(News::default());
        let guard = one.watch(&who, 7);
        let appended = one.append(&[batch(&[5, 6], 10)], Origin::Client).unwrap();
        assert_eq!((appended.base_offset, appended.last_offset), (Offset(0), Offset(1)));
        let ends = one.ends();
        assert_eq!((ends.high_watermark, ends.log_end), (Offset(0), Offset(2)));
        let slice = one.read(Offset(0), 1000, true, Isolation::Uncommitted).await.unwrap();
        assert_eq!(slice.batches, []);
        assert_eq!(one.offset_at(Timestamp(0)).await, Ok(None));
        assert_eq!(one.epoch_end(LeaderEpoch(1)), (LeaderEpoch(1), Offset(0)));
        log.wait_durable(appended.end).await.unwrap();
        // The watcher was told, though it was not waiting at the time.
        assert_eq!(who.comes().await, [7].into());
        assert_eq!(one.ends().high_watermark, Offset(2));
        assert_eq!(read_all(&one, Offset(0), 1000).await.unwrap().len(), 1);
        drop(guard);
        let appended = one.append(&[batch(&[7], 10)], Origin::Client).unwrap();
        log.wait_durable(appended.end).await.unwrap();
        let told = tokio::select! {
            biased;
            _ = who.comes() => true,
            () = settle() => false,
        };
        assert!(!told, "the guard was dropped");
    });
}

/// The thread that appends is stopped between the journal and the log until the flush is over and
/// all who hear of it have been.
#[test]
fn the_watermark_moves_before_waiters_complete_even_when_the_flush_is_first() {
    run(async {
        let mut world = World::new(1, 2);
        let log = world.open_hooked().await;
        for is_over in [false, true] {
            let one = log.partition(partition(0)).unwrap();
            let news = Arc::new(News::default());
            let _guard = one.watch(&news, 0);
            let (tell, told) = tokio::sync::oneshot::channel();
            let (go_on, wait) = std::sync::mpsc::channel::<()>();
            world.hooks.clone().unwrap().after_append(move |at| {
                tell.send(at.end()).unwrap();
                wait.recv().unwrap();
            });
            let append = {
                let one = one.clone();
                move || one.append(&[batch(&[1], 10)], Origin::Client)
            };
            #[expect(clippy::disallowed_methods, reason = "the test's own thread")]
            let append = tokio::task::spawn_blocking(append);
            log.wait_durable(told.await.unwrap()).await.unwrap();
            if is_over {
                world.machine.plan(FaultAt { on: Operation::Any, after: 0, fault: Fault::Fail });
                let two = log.partition(partition(1)).unwrap();
                let lost = two.append(&[batch(&[1], 10)], Origin::Client).unwrap();
                assert_eq!(log.wait_durable(lost.end).await, Err(SessionOver));
            }
            go_on.send(()).unwrap();
            // Joins the thread without giving the log's tasks a turn.
            while !append.is_finished() {
                std::thread::yield_now();
            }
            let ends = one.ends();
            assert_eq!(ends.high_watermark, ends.log_end);
            let appended = append.await.unwrap().unwrap();
            log.wait_durable(appended.end).await.unwrap();
            assert!(news.comes().await.contains(&0));
        }
    });
}

#[test]
fn a_retry_in_flight_joins_the_original() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let first = sent(7, 0, 0, &[1, 2], 10);
        let original = one.append(std::slice::from_ref(&first), Origin::Client).unwrap();
        // Nobody has yielded: the original can't be durable yet.
        let retry = one.append(std::slice::from_ref(&first), Origin::Client).unwrap();
        assert_eq!(one.ends().high_watermark, Offset(0));
        assert!(!original.duplicate && retry.duplicate);
        assert_eq!((retry.base_offset, retry.end), (original.base_offset, original.end));
        log.wait_durable(retry.end).await.unwrap();
        assert_eq!(one.ends().log_end, Offset(2));
        // Later ones get the same answer.
        let retry = one.append(&[first], Origin::Client).unwrap();
        assert_eq!((retry.base_offset, retry.last_offset), (Offset(0), Offset(1)));
    });
}

#[test]
fn the_batches_of_one_call_are_appended_all_or_none() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let (a, b, c) = (sent(7, 0, 0, &[1], 9), sent(7, 0, 1, &[1], 9), sent(7, 0, 3, &[1], 9));
        let refused = one.append(&[a.clone(), b.clone(), c.clone()], Origin::Client);
        assert!(matches!(refused, Err(AppendError::OutOfOrderSequence { expected: 2, .. })));
        assert_eq!(one.ends().log_end, Offset(0));
        let both = one.append(&[a.clone(), b.clone()], Origin::Client).unwrap();
        assert_eq!((both.base_offset, both.last_offset), (Offset(0), Offset(1)));
        let again = one.append(&[a, b.clone()], Origin::Client).unwrap();
        assert_eq!(
            (again.base_offset, again.last_offset, again.end),
            (Offset(0), Offset(1), both.end)
        );
        let mixed = one.append(&[b, sent(7, 0, 2, &[1], 9)], Origin::Client);
        assert!(matches!(mixed, Err(AppendError::OutOfOrderSequence { .. })));
        assert!(matches!(one.append(&[], Origin::Client), Err(AppendError::Corrupt(_))));
        assert_eq!(one.ends().log_end, Offset(2));
    });
}

#[test]
fn log_append_time_never_goes_back() {
    run(async {
        let mut world = World::new(1, 1);
        world.config = Arc::new(PartitionConfig {
            timestamp_type: TimestampType::LogAppendTime,
            ..PartitionConfig::default()
        });
        world.clock.set_wall(Timestamp(5_000));
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let append =
            |sequence| one.append(&[sent(7, 0, sequence, &[1], 9)], Origin::Client).unwrap();
        assert_eq!(append(0).log_append_time, Some(Timestamp(5_000)));
        world.clock.set_wall(Timestamp(4_000));
        assert_eq!(append(1).log_append_time, Some(Timestamp(5_000)));
        world.clock.set_wall(Timestamp(6_000));
        log.wait_durable(append(2).end).await.unwrap();
        let header = read_all(&one, Offset(2), 100).await.unwrap()[0].header().unwrap();
        assert_eq!(header.max_timestamp, Timestamp(6_000));
        assert_eq!(header.attributes.timestamp_type(), TimestampType::LogAppendTime);
        // A retry gets the time of the original.
        assert_eq!(append(1).log_append_time, Some(Timestamp(5_000)));
        world.power_cut(log).await;
        world.clock.set_wall(Timestamp(1_000));
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let after = one.append(&[sent(7, 0, 3, &[1], 9)], Origin::Client).unwrap();
        assert_eq!(after.log_append_time, Some(Timestamp(6_000)));
        let retry = one.append(&[sent(7, 0, 0, &[1], 9)], Origin::Client).unwrap();
        assert_eq!(retry.log_append_time, Some(Timestamp(5_000)));
        log.reconfigure(world.partitions[0].topic, Arc::new(PartitionConfig::default()));
        let created = one.append(&[sent(7, 0, 4, &[1], 9)], Origin::Client).unwrap();
        assert_eq!(created.log_append_time, None);
    });
}

#[test]
fn a_step_of_the_clock_forgets_no_producer_and_deletes_nothing() {
    run(async {
        let mut world = World::new(1, 1);
        world.config = Arc::new(PartitionConfig {
            retention: Some(Duration::from_hours(24)),
            ..PartitionConfig::default()
        });
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let now = world.env.clock.wall();
        let append = || one.append(&[sent(7, 0, 0, &[now.0], 10)], Origin::Client).unwrap();
        let first = append();
        log.wait_durable(first.end).await.unwrap();
        world.clock.set_wall(now.plus(Duration::from_hours(24 * 30)));
        log.retain(world.env.clock.expiry());
        assert!(append().duplicate, "a retry is known");
        assert_eq!(one.ends().log_start, Offset(0));
        // Time that really passes counts.
        world.clock.advance(Duration::from_hours(25));
        log.retain(world.env.clock.expiry());
        assert_eq!(one.ends().log_start, Offset(1));
    });
}

#[test]
fn a_moments_lack_of_room_passes_without_maintenance() {
    run(async {
        let mut world = World::new(1, 1);
        world.journal.pending_bytes_max = 10_000;
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let batch = [batch(&[1], 6_000)];
        for _ in 0..50 {
            let mut room = one.room();
            while one.append(&batch, Origin::Client) == Err(AppendError::Full) {
                assert!(room.comes().await, "the disk is not full");
            }
        }
        assert_eq!(one.ends().log_end, Offset(50));
    });
}

#[test]
fn nobody_waits_for_room_that_may_never_come() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        world.machine.set_capacity(Some(0));
        let batch = [batch(&[1], 30_000)];
        loop {
            let mut room = one.room();
            let appended = one.append(&batch, Origin::Client);
            if appended == Err(AppendError::Full) && !room.comes().await {
                break;
            }
            settle().await;
        }
        let mut room = one.room();
        log.close().await;
        assert_eq!(one.append(&batch, Origin::Client), Err(SessionOver.into()));
        assert!(!room.comes().await, "the session is over");
    });
}

#[test]
fn a_full_journal_refuses_clients_and_takes_what_must_go_on() {
    run(async {
        let mut world = World::new(1, 2);
        let log = world.open().await.unwrap();
        let (one, two) =
            (log.partition(partition(0)).unwrap(), log.partition(partition(1)).unwrap());
        let large = batch(&[1], 30_000);
        let mut last = None;
        for _ in 0..200 {
            match one.append(std::slice::from_ref(&large), Origin::Client) {
                Ok(appended) => last = Some(appended),
                Err(AppendError::Full) => {
                    settle().await;
                    if one.append(std::slice::from_ref(&large), Origin::Client)
                        == Err(AppendError::Full)
                    {
                        break;
                    }
                }
                Err(error) => panic!("{error}"),
            }
            settle().await;
        }
        log.wait_durable(last.unwrap().end).await.unwrap();
        assert_eq!(
            one.append(std::slice::from_ref(&large), Origin::Client),
            Err(AppendError::Full)
        );
        let end = one.ends().log_end;
        assert_eq!(end, one.ends().high_watermark, "a refused append takes no offset");
        // Commits and deletions go on.
        let commit = two.append(&[batch(&[1], 10)], Origin::Internal).unwrap();
        log.wait_durable(commit.end).await.unwrap();
        one.delete_records(Offset(1)).unwrap();
        // Layout and a checkpoint give the space back.
        log.maintain().await.unwrap();
        settle().await;
        let after = one.append(std::slice::from_ref(&large), Origin::Client).unwrap();
        assert_eq!(after.base_offset, end);
        log.wait_durable(after.end).await.unwrap();
        assert_eq!(read_all(&one, Offset(1), 100_000).await.unwrap().len() as i64, end.0);
    });
}

#[test]
fn when_the_journal_fails_the_session_is_over_and_reads_go_on() {
    run(async {
        let mut world = World::new(3, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let first = one.append(&[sent(7, 0, 0, &[1], 9)], Origin::Client).unwrap();
        log.wait_durable(first.end).await.unwrap();
        world.machine.plan(FaultAt { on: Operation::Sync, after: 0, fault: Fault::Fail });
        let lost = one.append(&[sent(7, 0, 1, &[2], 9)], Origin::Client).unwrap();
        assert_eq!(log.wait_durable(lost.end).await, Err(SessionOver));
        log.over().await;
        assert!(log.is_over());
        let refused = one.append(&[sent(7, 0, 2, &[3], 9)], Origin::Client);
        assert_eq!(refused, Err(AppendError::SessionOver(SessionOver)));
        assert_eq!(log.wait_durable(lost.end).await, Err(SessionOver));
        assert_eq!(log.wait_durable(first.end).await, Ok(()));
        assert!(log.checkpoint().await.is_err());
        // In the same process, under a new session; the old handle still reads.
        let next = world.reopen().await.unwrap();
        assert_eq!(read_all(&one, Offset(0), 100).await.unwrap().len(), 1);
        let one = next.partition(partition(0)).unwrap();
        assert_eq!((one.ends().log_end, one.ends().epoch), (Offset(1), LeaderEpoch(2)));
        let again = one.append(&[sent(7, 0, 1, &[2], 9)], Origin::Client).unwrap();
        assert_eq!((again.base_offset, again.duplicate), (Offset(1), false));
        next.wait_durable(again.end).await.unwrap();
    });
}

#[test]
fn deleted_topics_and_closed_logs_refuse() {
    run(async {
        let mut world = World::new(1, 1);
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        assert!(log.partition(partition(9)).is_none());
        let spec = |index| PartitionSpec {
            id: partition(index),
            epoch: LeaderEpoch(1),
            config: Arc::clone(&world.config),
        };
        log.create_partition(spec(9));
        let nine = log.partition(partition(9)).unwrap();
        let appended = nine.append(&[batch(&[1], 9)], Origin::Client).unwrap();
        // Creating it again changes nothing.
        log.create_partition(spec(9));
        assert_eq!(log.partition(partition(9)).unwrap().ends().log_end, Offset(1));
        log.wait_durable(appended.end).await.unwrap();
        let who = Arc::new(News::default());
        let _guard = one.watch(&who, 7);
        log.delete_topic(partition(0).topic);
        assert_eq!(who.comes().await, [7].into());
        assert_eq!(log.partitions(), []);
        assert!(one.is_deleted());
        assert_eq!(nine.append(&[batch(&[1], 9)], Origin::Client), Err(AppendError::NotLeader));
        let read = nine.read(Offset(0), 100, true, Isolation::Uncommitted).await;
        assert_eq!(read.unwrap_err(), ReadError::NotLeader);
        log.create_partition(spec(0));
        let one = log.partition(partition(0)).unwrap();
        let appended = one.append(&[batch(&[1], 9)], Origin::Client).unwrap();
        log.close().await;
        assert_eq!(log.wait_durable(appended.end).await, Ok(()));
        let refused = one.append(&[batch(&[1], 9)], Origin::Client);
        assert_eq!(refused, Err(AppendError::SessionOver(SessionOver)));
        // Reads of what is durable go on.
        settle().await;
        assert_eq!(read_all(&one, Offset(0), 100).await.unwrap().len(), 1);
    });
}

/// Pitfall 31.
#[test]
fn an_idle_producer_is_forgotten_and_the_rest_survives_a_restart() {
    run(async {
        let mut world = World::new(1, 1);
        world.config = Arc::new(PartitionConfig {
            producer_expiry: Duration::from_secs(100),
            ..PartitionConfig::default()
        });
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        one.append(&[sent(1, 0, 0, &[1], 9)], Origin::Client).unwrap();
        world.clock.advance(Duration::from_secs(60));
        let kept = one.append(&[sent(2, 0, 0, &[1], 9)], Origin::Client).unwrap();
        log.wait_durable(kept.end).await.unwrap();
        world.clock.advance(Duration::from_secs(60));
        log.retain(world.env.clock.wall());
        let ids: Vec<_> = one.producers().0.iter().map(|producer| producer.id.0).collect();
        assert_eq!(ids, [2]);
        // A handle keeps the log, and with it the directory.
        drop(one);
        world.close(log).await;
        let log = world.open().await.unwrap();
        let one = log.partition(partition(0)).unwrap();
        let ids: Vec<_> = one.producers().0.iter().map(|producer| producer.id.0).collect();
        assert_eq!(ids, [2]);
        let retry = one.append(&[sent(2, 0, 0, &[1], 9)], Origin::Client).unwrap();
        assert!(retry.duplicate && retry.base_offset == kept.base_offset);
        log.wait_durable(retry.end).await.unwrap();
    });
}
