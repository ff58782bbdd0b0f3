//! The audit where the log does not take it: whoever is served is served all the same, what waits is bounded, what
//! is left out is counted, and it goes on by itself.

use millstream_broker::audited::{EVENTS_MAX, Event, Kind, Outcome};
use millstream_broker::{AUDIT_TOPIC, Broker, TopicRef};
use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_types::Offset;

use crate::full::{RESERVE, Relief, fill, goes_on, is_taken_again, pass, relieve, set_up_on};
use crate::world::{World, produce, values};

/// What is in a record that says how many are missing.
const DROPPED: &str = "\"kind\":\"dropped\"";

fn refusal(name: &str) -> Event {
    Event::new(Kind::Access, Outcome::Refused).what("Read", ("Topic", name))
}

fn change(name: &str) -> Event {
    Event::new(Kind::Change, Outcome::Done).what("Create", ("Topic", name))
}

/// What the audit holds.
async fn noted(broker: &Broker) -> Vec<String> {
    match broker.topic(TopicRef::Name(AUDIT_TOPIC)) {
        Some(_) => values(broker, AUDIT_TOPIC).await.into_iter().map(|(_, value)| value).collect(),
        None => Vec::new(),
    }
}

/// How many events the records say were left out.
fn left_out(noted: &[String]) -> u64 {
    let dropped = noted.iter().filter(|line| line.contains(DROPPED));
    let counts = dropped.map(|line| {
        let (_, count) = line.split_once("\"count\":").expect("a count");
        let digits: String = count.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u64>().expect("a number")
    });
    counts.sum()
}

/// Lets so much time pass that what is to be written has been tried to the end.
async fn wait(world: &World) {
    for _ in 0..15 {
        pass(world).await;
    }
}

async fn is_noted(world: &World, broker: &Broker, name: &str) {
    for _ in 0..60 {
        if noted(broker).await.iter().any(|line| line.contains(&format!("\"{name}\""))) {
            return;
        }
        pass(world).await;
    }
    panic!("{name} is not noted: {:?} {:?}", broker.audit_counts(), noted(broker).await);
}

/// Whoever is refused something as often as he likes takes nothing of what others need, and changes are noted.
#[tokio::test]
async fn on_a_full_disk_what_is_refused_is_left_out_and_changes_are_noted() {
    let (world, broker) =
        set_up_on(World { reserve: RESERVE, audits: true, ..World::new(11) }).await;
    broker.audit(refusal("before"));
    is_noted(&world, &broker, "before").await;
    world.machine.set_capacity(Some(world.machine.used() + 800_000));
    fill(&world, &broker, "ballast").await;
    wait(&world).await;
    let (held, before) = (broker.reserve().held(), broker.audit_counts());
    let mut pushed = 0;
    for round in 0..20 {
        // More than there are places for, so that it is bounded, and the log is asked again and again.
        for number in 0..2 * EVENTS_MAX {
            broker.audit(refusal(&format!("{round}-{number}-{}", "x".repeat(200))));
            pushed += 1;
        }
        wait(&world).await;
    }
    assert!(broker.reserve().is_low());
    assert_eq!(broker.reserve().held(), held, "refusals use up what is set aside");
    let counts = broker.audit_counts();
    assert_eq!(counts.records, before.records);
    assert_eq!(
        counts.dropped - before.dropped,
        pushed,
        "all of them are left out, and counted once"
    );
    // Everybody is served as without it, and what is changed is noted.
    for round in 0..5 {
        broker.audit(refusal("drowned"));
        broker.audit(change(&format!("made-{round}")));
        goes_on(&world, &broker, round).await;
        is_noted(&world, &broker, &format!("made-{round}")).await;
    }
    relieve(&world, &broker, Relief::LargerDisk).await;
    is_taken_again(&world, &broker).await;
    broker.audit(refusal("after"));
    is_noted(&world, &broker, "after").await;
    wait(&world).await;
    let (noted, counts) = (noted(&broker).await, broker.audit_counts());
    assert_eq!(left_out(&noted), counts.dropped, "it says how many are missing");
    assert_eq!(noted.len() as u64, counts.records);
    assert!(!noted.iter().any(|line| line.contains("x".repeat(200).as_str())));
}

/// Until the log has recovered.
#[tokio::test]
async fn what_a_failed_flush_has_lost_is_written_again() {
    for on in [Operation::Sync, Operation::Write] {
        let (world, broker) =
            set_up_on(World { reserve: RESERVE, audits: true, ..World::new(12) }).await;
        broker.audit(refusal("before"));
        is_noted(&world, &broker, "before").await;
        world.machine.plan(FaultAt { on, after: 0, fault: Fault::Fail });
        broker.audit(change("meanwhile"));
        is_noted(&world, &broker, "meanwhile").await;
        assert_eq!(broker.recoveries(), 1, "{on:?}: the fault has struck");
        assert_eq!(broker.audit_counts().dropped, 0, "{on:?}");
        let count = noted(&broker).await.iter().filter(|it| it.contains("\"meanwhile\"")).count();
        assert_eq!(count, 1, "{on:?}");
    }
}

/// As long as the disk takes nothing at all, nothing waits but what there are places for.
#[tokio::test]
async fn what_a_broken_disk_does_not_take_is_bounded_and_counted() {
    let (world, broker) =
        set_up_on(World { reserve: RESERVE, audits: true, ..World::new(13) }).await;
    broker.audit(refusal("before"));
    is_noted(&world, &broker, "before").await;
    for on in [Operation::Write, Operation::Sync] {
        for after in 0..2_000 {
            world.machine.plan(FaultAt { on, after, fault: Fault::Fail });
        }
    }
    let mut pushed = 0_u64;
    for round in 0..10 {
        for number in 0..2 * EVENTS_MAX {
            broker.audit(refusal(&format!("{round}-{number}")));
            broker.audit(change(&format!("{round}-{number}")));
            pushed += 2;
        }
        // Reads are served of what is there.
        assert!(values(&broker, "t").await.is_empty());
        assert_eq!(noted(&broker).await.len(), 1);
        wait(&world).await;
    }
    let counts = broker.audit_counts();
    // What has been collected waits for the log, and as much behind it.
    let waiting = pushed - counts.dropped;
    assert_eq!(counts.records, 1);
    assert!(waiting <= 2 * EVENTS_MAX as u64, "{waiting}");
    assert!(world.machine.faults_left() > 0);
    world.machine.clear_faults(Operation::Write);
    world.machine.clear_faults(Operation::Sync);
    broker.audit(change("after"));
    is_noted(&world, &broker, "after").await;
    wait(&world).await;
    assert!(produce(&broker, "t", "taken again").await == Some(Offset(0)));
    let (noted, counts) = (noted(&broker).await, broker.audit_counts());
    assert_eq!(left_out(&noted), counts.dropped);
    let written = noted.iter().filter(|line| !line.contains(DROPPED)).count() as u64;
    assert_eq!(written + counts.dropped, pushed + 2, "each is written, or counted");
}
