//! A disk that fills up: records are refused, and what must go on goes on.

use std::time::Duration;

use millstream_broker::log::AppendError;
use millstream_broker::{Broker, ConfigTarget, ProduceError, TopicRef};
use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_types::Offset;

use crate::session::{commit, committed};
use crate::world::{World, batch, create, produce, send, sent, topic, values};

/// What is set aside: enough for a file of the journal and some changes of metadata, as in the program.
pub(crate) const RESERVE: u64 = 1536 * 1024;

async fn set_up(seed: u64) -> (World, Broker) {
    set_up_on(World { reserve: RESERVE, ..World::new(seed) }).await
}

/// The same in a world like this.
pub(crate) async fn set_up_on(world: World) -> (World, Broker) {
    let broker = world.start().await.unwrap();
    for name in ["t", "ballast"] {
        create(&broker, name).await.unwrap();
        keep(&broker, name, "-1").await;
    }
    broker.set_up_groups().await.unwrap();
    pass(&world).await;
    assert_eq!(broker.reserve().held(), RESERVE);
    (world, broker)
}

async fn keep(broker: &Broker, name: &str, milliseconds: &str) {
    let target = ConfigTarget::Topic(name.to_owned());
    let config = vec![("retention.ms".to_owned(), milliseconds.to_owned())];
    broker.replace_configs(&target, config, false).await.unwrap();
}

/// Lets a second pass, and everybody do their work.
pub(crate) async fn pass(world: &World) {
    world.settle().await;
    world.clock.advance(Duration::from_secs(1));
    world.settle().await;
}

async fn refusal(broker: &Broker, name: &str) -> Option<ProduceError> {
    let records = batch("refused?", None);
    broker.append(&topic(broker, name), 0, &records, sent(&records)).await.err()
}

fn is_disk_full(refused: Option<&ProduceError>) -> bool {
    matches!(refused, Some(ProduceError::Append(AppendError::DiskFull)))
}

/// Produces until the disk is full; what was acknowledged.
pub(crate) async fn fill(world: &World, broker: &Broker, name: &str) -> Vec<(Offset, String)> {
    let mut taken = Vec::new();
    for number in 0..2_000 {
        let value = format!("{number}:{}", "x".repeat(5_000));
        match produce(broker, name, &value).await {
            Some(offset) => taken.push((offset, value)),
            None => {
                world.settle().await;
                if broker.reserve().is_low() && is_disk_full(refusal(broker, name).await.as_ref()) {
                    return taken;
                }
                world.clock.advance(Duration::from_millis(300));
            }
        }
        if number % 4 == 0 {
            pass(world).await;
        }
    }
    panic!("the disk does not fill up: {:?}", broker.log_stats());
}

/// Commits, and tries again as clients do: the journal may just need another file, or the session have
/// ended by a flush that failed.
async fn commits(world: &World, broker: &Broker, offset: Offset) {
    for _ in 0..5 {
        if commit(broker, offset).await.is_some() {
            return;
        }
        pass(world).await;
    }
    panic!("commits are refused: {:?} {:?}", broker.reserve(), broker.log_stats());
}

/// What goes on while records are refused.
pub(crate) async fn goes_on(world: &World, broker: &Broker, round: i64) {
    commits(world, broker, Offset(round)).await;
    assert_eq!(committed(broker).await, Some(Offset(round)));
    let name = format!("made-{round}");
    create(broker, &name).await.unwrap();
    keep(broker, &name, "1000").await;
    broker.delete_topic(TopicRef::Name(&name)).await.unwrap();
    // What was laid out may have given back more than it took.
    assert!(!broker.reserve().is_low() || is_disk_full(refusal(broker, "t").await.as_ref()));
    pass(world).await;
}

pub(crate) async fn is_taken_again(world: &World, broker: &Broker) {
    for _ in 0..200 {
        if produce(broker, "t", "taken again").await.is_some() {
            assert!(!broker.reserve().is_low());
            assert_eq!(broker.reserve().held(), RESERVE, "the reserve is whole again");
            return;
        }
        pass(world).await;
    }
    let (files, stats) = (world.machine.files(), broker.log_stats());
    panic!("records stay refused: {:?} {stats:?} {files:?}", broker.reserve());
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Relief {
    DeleteTopic,
    DeleteRecords,
    Retention,
    LargerDisk,
}

pub(crate) async fn relieve(world: &World, broker: &Broker, relief: Relief) {
    match relief {
        Relief::DeleteTopic => {
            broker.delete_topic(TopicRef::Name("ballast")).await.unwrap();
        }
        Relief::DeleteRecords => {
            broker.delete_records(&topic(broker, "ballast"), 0, None).unwrap();
        }
        Relief::Retention => {
            keep(broker, "ballast", "1").await;
            world.clock.advance(Duration::from_mins(6));
        }
        Relief::LargerDisk => world.machine.set_capacity(None),
    }
}

async fn check(relief: Relief, capacity: u64) {
    let (world, broker) = set_up(1).await;
    world.machine.set_capacity(Some(world.machine.used() + capacity));
    let mut ballast = fill(&world, &broker, "ballast").await;
    let what = format!("{relief:?} with {capacity}");
    assert!(values(&broker, "ballast").await == ballast, "{what}: reads go on");
    let mut refilled = 0;
    for round in 0..150 {
        goes_on(&world, &broker, round).await;
        if !broker.reserve().is_low() {
            ballast.extend(fill(&world, &broker, "ballast").await);
            refilled += 1;
        }
    }
    assert!(refilled < 5, "{what}: that is no full disk");
    assert!(values(&broker, "ballast").await == ballast, "{what}");
    relieve(&world, &broker, relief).await;
    is_taken_again(&world, &broker).await;
    assert_eq!(broker.recoveries(), 0, "{what}");
    let before = values(&broker, "t").await;
    world.machine.power_cut();
    let broker = world.restart(broker).await;
    assert!(values(&broker, "t").await == before, "{what}");
}

#[tokio::test]
async fn a_full_disk_refuses_records_only_and_takes_them_again_when_there_is_space() {
    for relief in
        [Relief::DeleteTopic, Relief::DeleteRecords, Relief::Retention, Relief::LargerDisk]
    {
        // With all of it in the journal, with some segments, with many.
        for capacity in [800_000, 2_000_000, 4_000_000] {
            check(relief, capacity).await;
        }
    }
}

#[tokio::test]
async fn a_broker_starts_on_a_full_disk() {
    for crash in [false, true] {
        let (world, broker) = set_up(2).await;
        world.machine.set_capacity(Some(world.machine.used() + 300_000));
        let ballast = fill(&world, &broker, "ballast").await;
        // Others have taken what was left.
        let mut broker = broker;
        for round in 0..3 {
            world.machine.set_capacity(Some(world.machine.used()));
            if crash {
                world.machine.power_cut();
            } else {
                broker.close().await;
            }
            broker = world.restart(broker).await;
            broker.set_up_groups().await.unwrap();
            pass(&world).await;
            assert!(values(&broker, "ballast").await == ballast, "{crash} {round}");
            assert!(broker.reserve().is_low(), "{crash} {round}");
            goes_on(&world, &broker, round).await;
        }
        relieve(&world, &broker, Relief::DeleteTopic).await;
        world.machine.set_capacity(Some(world.machine.used() + 300_000));
        is_taken_again(&world, &broker).await;
    }
}

/// A producer of many records, an admin who deletes what is consumed, a group that commits.
async fn workload(world: &World, broker: &Broker) -> Vec<(Offset, String)> {
    let mut taken = Vec::new();
    let producer = loop {
        match broker.new_producer_id().await {
            Ok(producer) => break producer,
            Err(_) => pass(world).await,
        }
    };
    let mut refusals = 0;
    let mut number = 0;
    while number < 30 {
        let value =
            format!("{number}:{}", "x".repeat(usize::try_from(number % 3).unwrap() * 9_000));
        match send(broker, "t", &value, Some((producer, number))).await {
            Some(offset) => {
                assert_eq!(offset, Offset(number.into()), "in order, and none twice");
                taken.push((offset, value));
                number += 1;
            }
            None => {
                refusals += 1;
                assert!(refusals < 100, "refused for ever: {:?}", broker.reserve());
                // Whatever is refused to producers, commits and deletions are not.
                if broker.reserve().is_low() {
                    commits(world, broker, Offset(7)).await;
                    if refusals == 5 {
                        relieve(world, broker, Relief::DeleteTopic).await;
                    }
                    if refusals == 20 {
                        relieve(world, broker, Relief::LargerDisk).await;
                    }
                }
            }
        }
        if number % 7 == 3 {
            while commit(broker, Offset(number.into())).await.is_none() {
                pass(world).await;
            }
        }
        pass(world).await;
    }
    taken
}

async fn ballasted(seed: u64) -> (World, Broker) {
    let (world, broker) = set_up(seed).await;
    for number in 0..30 {
        let value = format!("{number}:{}", "x".repeat(7_000));
        while produce(&broker, "ballast", &value).await.is_none() {
            pass(&world).await;
        }
        pass(&world).await;
    }
    (world, broker)
}

/// At every single operation of the disk: it is full for that one, or from then on.
#[tokio::test]
async fn wherever_the_disk_fills_up_nothing_is_lost_and_commits_go_on() {
    let (world, broker) = ballasted(3).await;
    let before = world.machine.operations();
    workload(&world, &broker).await;
    let count = world.machine.operations() - before;
    assert!(count > 100, "{count}");
    let step = crate::step(count * 2);
    let mut full = 0;
    for at in (0..count * 2).step_by(step) {
        let (after, fault) = (at / 2, if at % 2 == 0 { Fault::Fills } else { Fault::Full });
        let what = format!("{fault:?} after {after} of {count}");
        let (world, broker) = ballasted(3).await;
        let mut low = broker.reserve().low();
        low.mark_unchanged();
        world.machine.plan(FaultAt { on: Operation::Any, after, fault });
        let taken = workload(&world, &broker).await;
        assert!(values(&broker, "t").await == taken, "{what}");
        full += u32::from(low.has_changed().unwrap());
        // A flush is never tried again: only that ends a session.
        assert!(broker.recoveries() <= u64::from(fault == Fault::Full), "{what}");
        world.machine.power_cut();
        let broker = world.restart(broker).await;
        assert!(values(&broker, "t").await == taken, "{what}");
    }
    assert!(full > 10, "{full}");
}

/// Found while this was written: the first batch of a producer was refused, the second came when there
/// was space again, and was stored in front of it.
#[tokio::test]
async fn what_was_sent_behind_a_batch_that_a_full_disk_refused_does_not_get_in_front_of_it() {
    let (world, broker) = set_up(4).await;
    let producer = broker.new_producer_id().await.unwrap();
    world.machine.set_capacity(Some(world.machine.used()));
    fill(&world, &broker, "ballast").await;
    assert_eq!(send(&broker, "t", "first", Some((producer, 0))).await, None);
    relieve(&world, &broker, Relief::LargerDisk).await;
    while broker.reserve().is_low() {
        pass(&world).await;
    }
    for (value, sequence, taken) in
        [("second", 1, None), ("first", 0, Some(Offset(0))), ("second", 1, Some(Offset(1)))]
    {
        assert_eq!(send(&broker, "t", value, Some((producer, sequence))).await, taken, "{value}");
    }
}
