//! A journal that fails while clients are at work.

use std::future::Future as _;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::groups::{
    Command, Commit, CommitPartition, CommitTopic, FetchTopic, Join, Protocol, Reader, Reply,
    Speaker,
};
use millstream_broker::log::ReadError;
use millstream_broker::{Broker, FetchError, GroupsError, Newest, TopicRef};
use millstream_env::Env;
use millstream_env::disk::{Fault, FaultAt, Operation, SimDisk};
use millstream_types::{LeaderEpoch, Lsn, Offset, Uuid};

use crate::world::{World, batch, bounds, create, names, produce, send, sent, topic, values, want};

const RECORDS: i32 = 40;

/// Has `client` try until it succeeds; time passes meanwhile.
async fn patiently<T>(world: &World, mut client: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..300 {
        if let Some(done) = client().await {
            return done;
        }
        world.settle().await;
        world.clock.advance(Duration::from_secs(2));
        world.settle().await;
    }
    panic!("a client does not get on");
}

pub(crate) async fn commit(broker: &Broker, offset: Offset) -> Option<()> {
    commit_on(broker, "t", 0, offset).await
}

pub(crate) async fn commit_on(
    broker: &Broker,
    name: &str,
    index: i32,
    offset: Offset,
) -> Option<()> {
    let speaker = Speaker { group: "g".into(), member: "".into(), instance: None, generation: -1 };
    let partition =
        CommitPartition { index, offset, leader_epoch: LeaderEpoch::NONE, metadata: "".into() };
    let topic = CommitTopic { name: name.into(), id: None, partitions: vec![partition] };
    let command = Command::Commit(Commit {
        speaker,
        speaks_epochs: true,
        retention_ms: None,
        topics: vec![topic],
    });
    match broker.group("g", command).await {
        Ok(Reply::Commit(Ok(_))) => Some(()),
        Ok(Reply::Commit(Err(_))) | Err(GroupsError::SessionOver) => None,
        // The client looks for the coordinator again.
        Err(GroupsError::NotReady) => {
            broker.set_up_groups().await.ok()?;
            None
        }
        Ok(reply) => panic!("{reply:?}"),
    }
}

pub(crate) async fn committed(broker: &Broker) -> Option<Offset> {
    committed_on(broker, "t", 0).await.unwrap()
}

pub(crate) async fn committed_on(
    broker: &Broker,
    name: &str,
    index: i32,
) -> Result<Option<Offset>, GroupsError> {
    let topic = FetchTopic { name: name.into(), id: None, partitions: vec![index] };
    let fetched = broker
        .group_offsets("g", &Reader { member: None, epoch: -1 }, Some(&[topic]), false)
        .await?;
    let fetched = fetched.expect("anybody may");
    let committed = fetched[0].1[0].committed.clone().unwrap();
    Ok(committed.map(|committed| committed.offset))
}

/// An idempotent producer and a group at work, each trying again until it has its answer.
async fn workload(world: &World, broker: &Broker) {
    let producer = patiently(world, async || broker.new_producer_id().await.ok()).await;
    for number in 0..RECORDS {
        let offset = patiently(world, async || {
            send(broker, "t", &value(number), Some((producer, number))).await
        })
        .await;
        assert_eq!(offset, Offset(number.into()), "in order, and none twice");
        if number % 4 == 0 {
            patiently(world, async || commit(broker, offset).await).await;
        }
        // For the work behind.
        world.clock.advance(Duration::from_secs(1));
        world.settle().await;
    }
}

fn value(number: i32) -> String {
    // Some fill a file of the journal in a few appends, all of them much of the journal.
    format!("{number}:{}", "x".repeat(usize::try_from(number % 3).unwrap() * 12_000))
}

async fn set_up(seed: u64) -> (World, Broker) {
    let world = World::new(seed);
    let broker = world.start().await.unwrap();
    create(&broker, "t").await.unwrap();
    broker.set_up_groups().await.unwrap();
    (world, broker)
}

fn epoch(broker: &Broker) -> LeaderEpoch {
    topic(broker, "t").partition(0).unwrap().ends().epoch
}

async fn check(world: &World, broker: &Broker, what: &str) {
    let expected: Vec<_> = (0..RECORDS).map(|n| (Offset(n.into()), value(n))).collect();
    assert!(values(broker, "t").await == expected, "{what}");
    let offset = committed(broker).await;
    assert_eq!(offset, Some(Offset(i64::from(RECORDS - 1) / 4 * 4)), "{what}");
    assert!(!world.machine.is_off());
}

/// The operations that the workload does when nothing fails.
async fn operations() -> u64 {
    let (world, broker) = set_up(1).await;
    let before = world.machine.operations();
    workload(&world, &broker).await;
    check(&world, &broker, "without a fault").await;
    assert_eq!((epoch(&broker), broker.recoveries()), (LeaderEpoch(0), 0));
    let stats = broker.log_stats();
    assert!(stats.layouts > 0 && stats.checkpoints > 0, "{stats:?}");
    world.machine.operations() - before
}

#[tokio::test]
async fn after_any_failure_of_the_disk_clients_get_on_without_a_restart() {
    let count = operations().await;
    assert!(count > 100, "{count}");
    let mut recovered = 0;
    for after in 0..count {
        let fault = if after % 3 == 0 { Fault::Short } else { Fault::Fail };
        let (world, broker) = set_up(1).await;
        world.machine.plan(FaultAt { on: Operation::Any, after, fault });
        workload(&world, &broker).await;
        let what = format!("{fault:?} after {after}");
        assert_eq!(world.machine.faults_left(), 0, "{what}");
        check(&world, &broker, &what).await;
        let recoveries = i32::try_from(broker.recoveries()).unwrap();
        assert_eq!(epoch(&broker), LeaderEpoch(recoveries), "{what}");
        assert!(recoveries <= 1, "{what}");
        recovered += recoveries;
        // And what a crash finds is the same.
        world.machine.power_cut();
        let broker = world.restart(broker).await;
        check(&world, &broker, &what).await;
        assert_eq!(epoch(&broker), LeaderEpoch(recoveries + 1), "{what}");
    }
    // The others were of metadata or of work behind, which try again by themselves.
    assert!(recovered > 60, "{recovered} of {count}");
}

#[tokio::test]
async fn failures_that_go_on_cost_epochs_and_nothing_else() {
    let count = operations().await;
    for seed in 0..100 {
        let (world, broker) = set_up(seed).await;
        for fault in 0..12 {
            let on = if seed % 2 == 0 { Operation::Sync } else { Operation::Any };
            // Close together, so that they hit the recovery too.
            let after = (seed * 7 + fault * fault) % (count / 3);
            world.machine.plan(FaultAt { on, after, fault: Fault::Fail });
        }
        workload(&world, &broker).await;
        let what = format!("seed {seed}");
        check(&world, &broker, &what).await;
        assert!(broker.recoveries() > 0, "{what}");
        assert!(epoch(&broker).0 >= i32::try_from(broker.recoveries()).unwrap(), "{what}");
        world.machine.power_cut();
        let broker = world.restart(broker).await;
        check(&world, &broker, &what).await;
    }
}

/// Lets the journal fail, and every attempt to recover it until time passes.
async fn fail(world: &World, broker: &Broker) {
    // The journal's flush, that of the metadata entry, and reading the metadata again.
    for _ in 0..3 {
        world.machine.plan(FaultAt { on: Operation::Sync, after: 0, fault: Fault::Fail });
    }
    assert_eq!(produce(broker, "t", "fails").await, None);
    world.settle().await;
    assert_eq!(world.machine.faults_left(), 0);
    assert!(!*broker.ready().borrow(), "the first attempt has failed");
}

async fn pass(world: &World, broker: &Broker) {
    world.clock.advance(Duration::from_secs(1));
    let mut ready = broker.ready();
    ready.wait_for(|ready| *ready).await.unwrap();
    assert_eq!(broker.recoveries(), 1);
}

#[tokio::test]
async fn reads_go_on_while_the_log_can_not_be_recovered() {
    let (world, broker) = set_up(1).await;
    assert!(*broker.ready().borrow());
    produce(&broker, "t", "durable").await.unwrap();
    fail(&world, &broker).await;
    assert_eq!(values(&broker, "t").await, [(Offset(0), "durable".to_owned())]);
    assert_eq!(produce(&broker, "t", "refused").await, None);
    assert_eq!(commit(&broker, Offset(0)).await, None);
    pass(&world, &broker).await;
    let offset = produce(&broker, "t", "taken").await.unwrap();
    let found = values(&broker, "t").await;
    // What failed may be there or not.
    assert_eq!(found.last().unwrap(), &(offset, "taken".to_owned()));
    assert_eq!(found[0], (Offset(0), "durable".to_owned()));
    commit(&broker, Offset(0)).await.unwrap();
}

#[tokio::test]
async fn topics_that_come_and_go_during_a_recovery_are_followed() {
    let (world, broker) = set_up(1).await;
    create(&broker, "goes").await.unwrap();
    produce(&broker, "goes", "value").await.unwrap();
    commit(&broker, Offset(7)).await.unwrap();
    fail(&world, &broker).await;
    broker.delete_topic(TopicRef::Name("goes")).await.unwrap();
    broker.delete_topic(TopicRef::Name("t")).await.unwrap();
    create(&broker, "comes").await.unwrap();
    assert_eq!(produce(&broker, "comes", "value").await, None);
    pass(&world, &broker).await;
    assert_eq!(names(&broker), ["__consumer_offsets", "comes"]);
    assert_eq!(produce(&broker, "comes", "value").await, Some(Offset(0)));
    assert_eq!(committed(&broker).await, None, "offsets go with their topic");
    let broker = world.restart(broker).await;
    assert_eq!(names(&broker), ["__consumer_offsets", "comes"]);
    assert_eq!(values(&broker, "comes").await.len(), 1);
    assert_eq!(committed(&broker).await, None);
}

/// Found by the sweep over all operations: what groups had committed on a topic came back when the power
/// went right after it was deleted, and a topic that was made anew began there.
#[tokio::test]
async fn offsets_of_a_deleted_topic_do_not_come_back() {
    let mut kept = 0;
    for seed in 0..8 {
        for after in 0..10 {
            let (world, broker) = set_up(seed).await;
            commit(&broker, Offset(7)).await.unwrap();
            let what = format!("seed {seed}, after {after}");
            world.machine.plan(FaultAt { on: Operation::Any, after, fault: Fault::PowerCut });
            let deleted = broker.delete_topic(TopicRef::Name("t")).await.is_ok();
            // Without a turn for anybody between the answer and what comes next.
            world.machine.power_cut();
            let broker = world.restart(broker).await;
            if names(&broker).contains(&"t".to_owned()) {
                assert!(!deleted, "{what}");
                assert_eq!(committed(&broker).await, Some(Offset(7)), "{what}");
                kept += 1;
                continue;
            }
            assert_eq!(committed(&broker).await, None, "{what}");
            create(&broker, "t").await.unwrap();
            world.machine.power_cut();
            let broker = world.restart(broker).await;
            assert_eq!(committed(&broker).await, None, "{what}");
        }
    }
    assert!(kept > 0);
}

/// A newcomer of a group, who gives the others ten minutes.
pub(crate) fn join(number: u8) -> Command {
    Command::Join(Join {
        group: "h".into(),
        member: "".into(),
        instance: None,
        client_id: "c".into(),
        client_host: "here".into(),
        session_timeout_ms: 600_000,
        rebalance_timeout_ms: 600_000,
        protocol_type: "consumer".into(),
        protocols: vec![Protocol { name: "range".into(), metadata: Bytes::new() }],
        require_known_member_id: false,
        can_skip_assignment: false,
        fresh: Uuid([number; 16]),
        asker: None,
    })
}

#[tokio::test]
async fn whoever_waits_is_told_to_look_again() {
    let (world, broker) = set_up(1).await;
    let old = topic(&broker, "t");
    let want = want(Arc::clone(&old));
    let bounds = bounds(Duration::from_secs(1_000_000));
    let wants = [want];
    let mut fetch = Box::pin(broker.fetch(&wants, bounds));
    let Ok(Reply::Join(Ok(_))) = broker.group("h", join(1)).await else { panic!("joins") };
    // Waits for the first one to join again.
    let mut second = Box::pin(broker.group("h", join(2)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(fetch.as_mut().poll(&mut cx).is_pending());
    assert!(second.as_mut().poll(&mut cx).is_pending());
    fail(&world, &broker).await;
    assert!(fetch.as_mut().poll(&mut cx).is_pending(), "what is durable can still be read");
    assert!(second.as_mut().poll(&mut cx).is_pending());
    pass(&world, &broker).await;
    let found = fetch.await;
    assert!(matches!(found.results[0], Err(FetchError::Read(ReadError::NotLeader))), "{found:?}");
    assert_eq!(second.await, Err(GroupsError::SessionOver));
    // Who found the topic before writes to the new session; the old one's positions say nothing there.
    let records = batch("value", None);
    let appended = broker.append(&old, 0, &records, sent(&records)).await.unwrap();
    let session = old.partition(0).unwrap().session();
    assert!(appended.session > session);
    broker.wait_durable(Newest::At(appended.session, appended.end)).await.unwrap();
    broker.wait_durable(Newest::At(session, Lsn(1))).await.unwrap_err();
}

/// The first batches of a new producer, sent without waiting for answers: the first is lost with the
/// session, the second comes after the recovery.
#[tokio::test]
async fn what_was_sent_behind_a_lost_batch_does_not_get_in_front_of_it() {
    let (world, broker) = set_up(1).await;
    let producer = broker.new_producer_id().await.unwrap();
    world.machine.plan(FaultAt { on: Operation::Sync, after: 0, fault: Fault::Fail });
    assert_eq!(send(&broker, "t", "first", Some((producer, 0))).await, None);
    world.settle().await;
    assert!(*broker.ready().borrow());
    for (value, sequence, taken) in
        [("second", 1, None), ("first", 0, Some(Offset(0))), ("second", 1, Some(Offset(1)))]
    {
        assert_eq!(send(&broker, "t", value, Some((producer, sequence))).await, taken, "{value}");
    }
    let found: Vec<_> = values(&broker, "t").await.into_iter().map(|(_, value)| value).collect();
    assert_eq!(found, ["first", "second"]);
}

/// Producers at work on several threads, while the disk fails again and again.
#[test]
fn many_clients_get_on_through_many_failures() {
    const CLIENTS: usize = 6;
    const EACH: i32 = 60;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(3).enable_all().build().unwrap().block_on(async {
        let machine = SimDisk::new(1);
        let world = World::on(machine, Env::real(tokio::runtime::Handle::current()));
        let broker = world.start().await.unwrap();
        create(&broker, "t").await.unwrap();
        for fault in 0..12 {
            let on = if fault % 2 == 0 { Operation::Sync } else { Operation::Write };
            world.machine.plan(FaultAt { on, after: 10 + fault * 9, fault: Fault::Fail });
        }
        let client = async |client: usize| {
            let producer = loop {
                if let Ok(producer) = broker.new_producer_id().await {
                    break producer;
                }
            };
            for number in 0..EACH {
                let value = format!("{client} {number}");
                while send(&broker, "t", &value, Some((producer, number))).await.is_none() {
                    tokio::task::yield_now().await;
                }
            }
        };
        futures_util::future::join_all((0..CLIENTS).map(client)).await;
        assert!(broker.recoveries() > 2, "{}", broker.recoveries());
        broker.close().await;
        let broker = world.restart(broker).await;
        let mut of_each = vec![0; CLIENTS];
        for (_, value) in values(&broker, "t").await {
            let (client, number) = value.split_once(' ').unwrap();
            let next = &mut of_each[client.parse::<usize>().unwrap()];
            assert_eq!(number.parse(), Ok(*next), "{value}: in order, and none twice");
            *next += 1;
        }
        assert_eq!(of_each, [EACH; CLIENTS]);
    });
}
