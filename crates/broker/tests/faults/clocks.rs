//! A clock that is set, forwards or back, while a broker runs: nothing is deleted by it, nobody waits for
//! longer or shorter, and the time of appends does not go back.

use std::time::Duration;

use millstream_broker::groups::Reply;
use millstream_broker::{Broker, Newest, Sent, TopicRequest};
use millstream_types::{Offset, Timestamp};

use crate::session::{commit, committed, join};
use crate::world::{World, bounds, send, sent, topic, want};

const HOUR_MS: i64 = 3_600_000;

async fn make(broker: &Broker, name: &str, config: (&str, &str)) {
    let configs = vec![(config.0.to_owned(), Some(config.1.to_owned()))];
    let request = TopicRequest { name: name.to_owned(), configs, ..TopicRequest::default() };
    broker.create_topic(request, false).await.unwrap();
}

async fn set_up() -> (World, Broker) {
    let world = World::new(1);
    let broker = world.start().await.unwrap();
    make(&broker, "t", ("retention.ms", "3600000")).await;
    make(&broker, "stamped", ("message.timestamp.type", "LogAppendTime")).await;
    broker.set_up_groups().await.unwrap();
    (world, broker)
}

/// Appends a record that is stamped by the client with the time of day; the time that the log gave it, if
/// it did.
async fn append(world: &World, broker: &Broker, name: &str) -> Option<Timestamp> {
    let mut builder = millstream_record::BatchBuilder::new();
    let wall = world.env.clock.wall();
    builder.append(wall, None, Some(b"value"), &[]);
    let records = builder.build().unwrap();
    let how = Sent { now: wall, ..sent(&records) };
    let appended = broker.append(&topic(broker, name), 0, &records, how).await.unwrap();
    broker.wait_durable(Newest::At(appended.session, appended.end)).await.unwrap();
    appended.log_append_time
}

fn step(world: &World, hours: i64) {
    world.clock.set_wall(Timestamp(world.env.clock.wall().0 + hours * HOUR_MS));
}

/// Time passes, as both clocks have it, and everybody does their work.
async fn pass(world: &World, minutes: u64) {
    for _ in 0..minutes {
        world.clock.advance(Duration::from_mins(1));
        world.settle().await;
    }
}

fn start(broker: &Broker) -> Offset {
    topic(broker, "t").partition(0).unwrap().ends().log_start
}

/// Retention of an hour, offsets that are kept for a week, producers for a day.
#[tokio::test]
async fn a_step_of_the_clock_deletes_nothing_that_is_to_be_kept() {
    for hours in [2, 10, 24 * 30, -2, -10, -24 * 30] {
        let (world, broker) = set_up().await;
        let producer = broker.new_producer_id().await.unwrap();
        append(&world, &broker, "t").await;
        assert_eq!(send(&broker, "stamped", "once", Some((producer, 0))).await, Some(Offset(0)));
        commit(&broker, Offset(7)).await.unwrap();
        pass(&world, 10).await;
        step(&world, hours);
        append(&world, &broker, "t").await;
        pass(&world, 40).await;
        assert_eq!(start(&broker), Offset(0), "{hours}: the records are 40 and 50 minutes old");
        assert_eq!(committed(&broker).await, Some(Offset(7)), "{hours}");
        assert_eq!(
            send(&broker, "stamped", "once", Some((producer, 0))).await,
            Some(Offset(0)),
            "{hours}: the producer is known, and its retry is one"
        );
    }
}

/// By the time that has passed, or when the clock says so, whichever is later.
#[tokio::test]
async fn what_is_not_to_be_kept_goes_after_a_step_too() {
    for (hours, minutes) in [(5, 60), (-3, 240)] {
        let (world, broker) = set_up().await;
        append(&world, &broker, "t").await;
        step(&world, hours);
        pass(&world, minutes).await;
        assert_eq!(start(&broker), Offset(0), "{hours}");
        // It is looked for every five minutes.
        pass(&world, 6).await;
        assert_eq!(start(&broker), Offset(1), "{hours}");
    }
}

#[tokio::test]
async fn the_time_of_appends_does_not_go_back() {
    let (world, broker) = set_up().await;
    let mut last = Timestamp(0);
    let mut broker = broker;
    for (round, hours) in [0, 5, -9, 3, -24, 30, -1].into_iter().enumerate() {
        step(&world, hours);
        for _ in 0..3 {
            pass(&world, 1).await;
            let wall = world.env.clock.wall();
            let stamped = append(&world, &broker, "stamped").await.unwrap();
            assert_eq!(stamped, wall.max(last), "round {round}");
            last = stamped;
        }
        match round % 3 {
            0 => world.machine.power_cut(),
            1 => broker.close().await,
            _ => continue,
        }
        broker = world.restart(broker).await;
    }
}

#[tokio::test]
async fn members_and_waiting_readers_do_not_notice() {
    for hours in [5, -5] {
        let (world, broker) = set_up().await;
        // It may be silent for ten minutes.
        let joined = broker.group("h", join(1)).await;
        assert!(matches!(joined, Ok(Reply::Join(Ok(_)))), "{joined:?}");
        let wants = [want(topic(&broker, "t"))];
        let bounds = bounds(Duration::from_secs(90));
        let mut fetch = Box::pin(broker.fetch(&wants, bounds));
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(fetch.as_mut().poll(&mut cx).is_pending());
        step(&world, hours);
        pass(&world, 1).await;
        assert!(fetch.as_mut().poll(&mut cx).is_pending(), "{hours}: after a minute");
        pass(&world, 1).await;
        assert!(fetch.as_mut().poll(&mut cx).is_ready(), "{hours}: after two");
        pass(&world, 7).await;
        let members = async || {
            broker.describe_group("h").await.unwrap().map_or(0, |group| group.members.len())
        };
        assert_eq!(members().await, 1, "{hours}: after nine minutes");
        pass(&world, 2).await;
        assert_eq!(members().await, 0, "{hours}: after eleven");
    }
}
