//! A slow disk, in simulated time: nobody is told anything before it is so, whoever waits is answered
//! when it is time, and nothing breaks.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::groups::{Command, Heartbeat, HeartbeatError, Joined, Reply, Speaker, Sync};
use millstream_broker::log::AppendError;
use millstream_broker::{Broker, ProduceError, Sent};
use millstream_env::disk::SimDisk;
use millstream_types::{Monotonic, Offset};

use crate::session::{commit, committed, join};
use crate::sweep::client::Client;
use crate::world::{World, batch, bounds, create, produce, sent, topic, values, want};

/// What `future` gives now, if it is ready.
fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Option<F::Output> {
    match future.poll(&mut Context::from_waker(Waker::noop())) {
        std::task::Poll::Ready(done) => Some(done),
        std::task::Poll::Pending => None,
    }
}

/// Moves time on to whatever comes next, again and again, until `future` is done.
async fn in_time<F: Future>(world: &World, future: F) -> F::Output {
    let time = async {
        loop {
            for _ in 0..50 {
                tokio::task::yield_now().await;
            }
            assert!(world.clock.advance_to_next(), "nobody waits for anything");
        }
    };
    tokio::select! {
        biased;
        done = future => done,
        () = time => unreachable!(),
    }
}

/// A broker with a topic and groups, whose disk takes so long from now on.
async fn set_up(each: Duration) -> (World, Broker) {
    let world = World::new(1);
    let broker = world.start().await.unwrap();
    create(&broker, "t").await.unwrap();
    broker.set_up_groups().await.unwrap();
    world.settle().await;
    world.machine.slow_down(&world.env, each);
    (world, broker)
}

fn now(world: &World) -> Monotonic {
    world.env.clock.monotonic()
}

#[tokio::test]
async fn nothing_is_acknowledged_or_seen_before_it_is_on_the_disk() {
    for each in [10, 1_000, 90_000].map(Duration::from_millis) {
        let (world, broker) = set_up(each).await;
        let began = now(&world);
        let mut produced = pin!(produce(&broker, "t", "value"));
        let mut committing = pin!(commit(&broker, Offset(1)));
        let mut made = pin!(create(&broker, "u"));
        let mut reader = pin!(committed(&broker));
        let tick = each / 10;
        let mut is_made = false;
        // A write and a flush, each of which takes `each` to begin: none is there before.
        while now(&world).since(began) + tick < each * 2 {
            assert_eq!(poll(produced.as_mut()), None, "{each:?}");
            assert_eq!(poll(committing.as_mut()), None, "{each:?}");
            assert_eq!(poll(reader.as_mut()), None, "not even to who reads what was committed");
            is_made = is_made || poll(made.as_mut()).is_some();
            assert!(!is_made || now(&world).since(began) >= each, "{each:?}");
            assert_eq!(topic(&broker, "t").partition(0).unwrap().ends().high_watermark, Offset(0));
            world.clock.advance(tick);
            world.settle().await;
        }
        assert_eq!(in_time(&world, produced).await, Some(Offset(0)));
        assert_eq!(in_time(&world, committing).await, Some(()));
        assert_eq!(in_time(&world, reader).await, Some(Offset(1)));
        assert!(is_made, "metadata are written and flushed in one piece of work");
        assert_eq!(in_time(&world, values(&broker, "t")).await.len(), 1);
        assert_eq!(broker.recoveries(), 0);
    }
}

/// The power goes at some moment of a slow flush: what was acknowledged by then is there.
#[tokio::test]
async fn a_power_cut_while_the_disk_is_slow_loses_nothing_that_was_acknowledged() {
    let mut acknowledged = 0;
    for moment in 0..60 {
        let each = Duration::from_secs(10);
        let (world, broker) = set_up(each).await;
        let mut sent = Vec::new();
        for number in 0..6 {
            let (broker, value) = (broker.clone(), format!("{number}"));
            sent.push(Box::pin(async move { produce(&broker, "t", &value).await.map(|_| value) }));
        }
        let mut taken = Vec::new();
        for (tick, next) in (0..moment).zip((0..6).cycle()) {
            if tick < 6 || next == 0 {
                sent.retain_mut(|client| match poll(client.as_mut()) {
                    Some(value) => {
                        taken.push(value.unwrap());
                        false
                    }
                    None => true,
                });
            }
            world.clock.advance(Duration::from_secs(1));
            world.settle().await;
        }
        drop(sent);
        world.machine.power_cut();
        drop(broker);
        world.settle().await;
        let broker = in_time(&world, world.start()).await.unwrap();
        let found: Vec<_> = in_time(&world, values(&broker, "t")).await;
        for value in &taken {
            assert!(found.iter().any(|(_, there)| there == value), "{moment}: {value} is lost");
        }
        acknowledged += taken.len();
    }
    assert!(acknowledged > 60, "{acknowledged}");
}

/// All that a client does, on a disk that takes a quarter of a second, and three seconds, for everything.
#[tokio::test]
async fn a_slow_disk_breaks_nothing() {
    for each in [250, 3_000].map(Duration::from_millis) {
        let mut client = Client::new(1, SimDisk::new(1)).await.unwrap();
        let (env, clock) = (client.world.env.clone(), Arc::clone(&client.world.clock));
        let machine = Arc::clone(&client.world.machine);
        let world = World { machine, env, clock, reserve: 0, compacts: false, audits: false };
        world.machine.slow_down(&world.env, each);
        let done = in_time(&world, async {
            client.run().await?;
            client.check().await?;
            client.power_cut().await
        });
        done.await.unwrap();
        assert_eq!((client.restarts, client.broker.recoveries()), (1, 0), "{each:?}");
    }
}

#[tokio::test]
async fn whoever_waits_is_answered_when_it_is_time() {
    let each = Duration::from_secs(20);
    let (world, broker) = set_up(each).await;
    // A reader at the end of the log gets its empty answer, though a record is on its way.
    let mut produced = pin!(produce(&broker, "t", "value"));
    assert_eq!(poll(produced.as_mut()), None);
    let wants = [want(topic(&broker, "t"))];
    let bounds = bounds(Duration::from_millis(500));
    let began = now(&world);
    assert!(in_time(&world, broker.fetch(&wants, bounds)).await.results[0].is_ok());
    assert_eq!(now(&world).since(began), Duration::from_millis(500));
    assert_eq!(poll(produced.as_mut()), None);
    // A producer that finds no room in the journal is refused when its patience ends.
    let large = batch(&"x".repeat(60_000), None);
    let patience = now(&world).plus(Duration::from_secs(5));
    let how = Sent { patience, ..sent(&large) };
    let began = now(&world);
    let full = loop {
        match in_time(&world, broker.append(&topic(&broker, "t"), 0, &large, how)).await {
            Ok(_) => {}
            Err(full) => break full,
        }
    };
    assert!(matches!(full, ProduceError::Append(AppendError::Full)), "{full:?}");
    assert_eq!(now(&world).since(began), Duration::from_secs(5));
    assert!(in_time(&world, produced).await.is_some());
}

fn speaker(joined: &Joined) -> Speaker {
    let (member, generation) = (joined.member.clone(), joined.generation);
    Speaker { group: "h".into(), member, instance: None, generation }
}

/// A member whose heartbeats come in time stays, however late the disk lets them be answered; one that is
/// silent goes.
#[tokio::test]
async fn members_are_judged_by_when_they_speak_and_not_by_the_disk() {
    let (world, broker) = set_up(Duration::from_secs(25)).await;
    // It may be silent for ten minutes.
    let joined = in_time(&world, broker.group("h", join(1))).await;
    let Ok(Reply::Join(Ok(joined))) = joined else { panic!("{joined:?}") };
    let assignments = vec![(joined.member.clone(), Bytes::new())];
    let sync = Sync { speaker: speaker(&joined), protocol_type: None, protocol: None, assignments };
    let synced = in_time(&world, broker.group("h", Command::Sync(sync))).await;
    assert!(matches!(synced, Ok(Reply::Sync(Ok(_)))), "{synced:?}");
    let producer = broker.clone();
    let mut answers = Vec::new();
    for round in 0..40 {
        // So that there is something to flush.
        let (broker, value) = (producer.clone(), format!("{round}"));
        answers.push(Box::pin(async move {
            let _ = produce(&broker, "t", &value).await;
            None
        }) as Pin<Box<dyn Future<Output = Option<Reply>>>>);
        let (broker, beat) = (producer.clone(), Heartbeat { speaker: speaker(&joined) });
        let beat = Command::Heartbeat(beat);
        answers.push(Box::pin(async move { broker.group("h", beat).await.ok() }));
        answers.retain_mut(|answer| match poll(answer.as_mut()) {
            Some(Some(reply)) => {
                let unknown = Reply::Heartbeat(Err(HeartbeatError::UnknownMember));
                assert_ne!(reply, unknown, "{round}");
                false
            }
            Some(None) => false,
            None => true,
        });
        world.clock.advance(Duration::from_mins(1));
        world.settle().await;
    }
    let described = in_time(&world, broker.describe_group("h")).await.unwrap().unwrap();
    assert_eq!(described.members.len(), 1);
    world.clock.advance(Duration::from_mins(11));
    world.settle().await;
    let described = in_time(&world, broker.describe_group("h")).await.unwrap().unwrap();
    assert_eq!(described.members.len(), 0);
}
