//! Compaction under a broker: what is loaded from a compacted internal topic, and what a repair makes of
//! the holes that compaction leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use millstream_broker::log::{Isolation, ReadError};
use millstream_broker::{Broker, Newest, Sent, TopicRef, TopicRequest};
use millstream_record::BatchBuilder;
use millstream_types::Offset;

use crate::repair::{Repaired, repair};
use crate::session::{commit_on, committed_on};
use crate::world::{World, create, sent, topic};

const KEYS: u8 = 6;

/// Time passes, and everybody does their work.
pub(crate) async fn pass_minutes(world: &World, minutes: u64) {
    for _ in 0..minutes * 4 {
        world.clock.advance(Duration::from_secs(15));
        world.settle().await;
    }
}

/// How many records all partitions of an internal topic hold, ends of transactions not counted.
pub(crate) async fn internal_records(broker: &Broker, name: &str) -> usize {
    let topic = topic(broker, name);
    let mut count = 0;
    for index in 0..2 {
        let partition = topic.partition(index).unwrap();
        let mut next = partition.ends().log_start;
        while next < partition.ends().high_watermark {
            let slice = partition.read(next, 1 << 20, true, Isolation::Uncommitted).await.unwrap();
            for batch in slice.batches {
                let header = batch.header().unwrap();
                if !header.attributes.is_control() {
                    count += usize::try_from(header.records_count).unwrap();
                }
                next = header.last_offset().next();
            }
        }
    }
    count
}

#[tokio::test]
async fn committed_offsets_are_those_that_a_compacted_topic_tells_of() {
    let world = World { compacts: true, ..World::new(1) };
    let broker = world.start().await.unwrap();
    for name in ["t", "u"] {
        create(&broker, name).await.unwrap();
    }
    broker.set_up_groups().await.unwrap();
    for offset in 0..60 {
        commit_on(&broker, "t", 0, Offset(offset)).await.unwrap();
        commit_on(&broker, "u", 0, Offset(2 * offset)).await.unwrap();
        world.settle().await;
    }
    assert_eq!(internal_records(&broker, "__consumer_offsets").await, 120);
    pass_minutes(&world, 70).await;
    assert_eq!(internal_records(&broker, "__consumer_offsets").await, 2);
    // A tombstone for each of a topic's partitions, which goes after a day, and leaves nothing of them.
    commit_on(&broker, "t", 0, Offset(100)).await.unwrap();
    broker.delete_topic(TopicRef::Name("u")).await.unwrap();
    pass_minutes(&world, 70).await;
    world.machine.power_cut();
    let broker = world.restart(broker).await;
    broker.set_up_groups().await.unwrap();
    assert_eq!(committed_on(&broker, "t", 0).await.unwrap(), Some(Offset(100)));
    create(&broker, "u").await.unwrap();
    assert_eq!(committed_on(&broker, "u", 0).await.unwrap(), None);
}

/// Offset, key and value of a record.
type Row = (Offset, u8, String);

async fn put(world: &World, broker: &Broker, key: u8, value: &str) {
    let mut batch = BatchBuilder::new();
    batch.append(world.env.clock.wall(), Some(&[key]), Some(value.as_bytes()), &[]);
    let records = batch.build().unwrap();
    let how = Sent { now: world.env.clock.wall(), ..sent(&records) };
    let appended = broker.append(&topic(broker, "c"), 0, &records, how).await.unwrap();
    broker.wait_durable(Newest::At(appended.session, appended.end)).await.unwrap();
    world.settle().await;
}

/// What a reader gets, and the offsets that it is told are lost. Holes it does not hear of.
async fn survey(broker: &Broker) -> (Vec<Row>, BTreeSet<i64>) {
    let partition = topic(broker, "c").partition(0).unwrap().clone();
    let (mut found, mut lost) = (Vec::new(), BTreeSet::new());
    let mut next = partition.ends().log_start;
    while next < partition.ends().high_watermark {
        match partition.read(next, 1, true, Isolation::Uncommitted).await {
            Ok(slice) => {
                for batch in slice.batches {
                    let records = batch.records(1 << 20).unwrap();
                    let header = *records.header();
                    assert!(header.base_offset >= next);
                    for record in &records {
                        let record = record.unwrap();
                        let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                        found.push((record.offset(&header), record.key.unwrap()[0], value));
                    }
                    next = header.last_offset().next();
                }
            }
            Err(ReadError::Corrupt { from, upto, .. }) => {
                lost.extend(from.max(next).0..upto.0);
                next = upto;
            }
            Err(error) => panic!("at {next}: {error}"),
        }
    }
    (found, lost)
}

fn newest(rows: &[Row]) -> BTreeMap<u8, (Offset, String)> {
    rows.iter().map(|(offset, key, value)| (*key, (*offset, value.clone()))).collect()
}

/// A machine that a broker has left in order: a topic that was compacted twice, with records behind that,
/// some in segments and some in the journal. And what is in it.
async fn left_behind() -> (World, Vec<Row>) {
    let world = World { compacts: true, ..World::new(5) };
    let broker = world.start().await.unwrap();
    let config = [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0"),
        ("max.compaction.lag.ms", "1"),
    ];
    let config = config.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
    let request =
        TopicRequest { name: "c".to_owned(), configs: config.to_vec(), ..TopicRequest::default() };
    broker.create_topic(request, false).await.unwrap();
    for round in 0..3 {
        for number in 0..30_u8 {
            // One of the keys has no newer value in each round.
            let key = if number == 3 { KEYS + round } else { number % KEYS };
            let size = if number % 9 == 0 { 3_000 } else { 300 };
            put(&world, &broker, key, &format!("{round} {number}:{}", "x".repeat(size))).await;
            if round < 2 && number % 10 == 9 {
                pass_minutes(&world, 1).await;
            }
        }
    }
    let (all, lost) = survey(&broker).await;
    assert!(lost.is_empty() && all.len() < 60, "{} of 90", all.len());
    assert_eq!(newest(&all).len(), usize::from(KEYS) + 3);
    assert!(broker.log_stats().compacted_records > 30, "{:?}", broker.log_stats());
    broker.close().await;
    world.machine.kill();
    drop(broker);
    world.settle().await;
    (world, all)
}

/// Repairs the machine: all but what was named is there, no hole is taken for a loss, and compaction goes on.
/// Returns how many records were lost.
async fn check(world: &World, all: &[Row], what: &str) -> usize {
    let Repaired { needed, named } = repair(world, what).await;
    let named: BTreeSet<i64> = named.into_iter().map(|(_, _, offset)| offset).collect();
    let broker = world.try_start().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let (found, lost) = survey(&broker).await;
    let is_written = found.iter().all(|row| all.contains(row));
    assert!(is_written, "{what}: what was not written is served");
    assert!(lost.is_subset(&named), "{what}: {lost:?} was not named: {named:?}");
    let mut count = 0;
    for (offset, ..) in all.iter().filter(|row| !found.contains(row)) {
        let is_end = needed && found.last().is_none_or(|(last, ..)| last < offset);
        let is_named = named.contains(&offset.0);
        assert!(is_named || is_end, "{what}: {offset} is gone without a word");
        count += 1;
    }
    for key in 0..KEYS {
        put(world, &broker, key, "after").await;
    }
    let before = broker.log_stats().compactions;
    pass_minutes(world, 2).await;
    assert!(broker.log_stats().compactions > before, "{what}: compaction does not go on");
    let after = newest(&survey(&broker).await.0);
    for (key, (offset, value)) in newest(&found) {
        let expected = if key < KEYS { "after" } else { &value };
        let found = after.get(&key);
        let is_it = found.is_some_and(|(at, value)| value == expected && *at >= offset);
        assert!(is_it, "{what}: key {key} is {found:?}");
    }
    broker.close().await;
    count
}

#[tokio::test]
async fn a_repair_keeps_what_compaction_has_left_and_takes_no_hole_for_a_loss() {
    let (left, all) = left_behind().await;
    let copy =
        |seed| World { machine: left.machine.copy(seed), compacts: true, ..World::new(seed) };
    assert_eq!(check(&copy(1), &all, "without damage").await, 0);
    let files = left.machine.files();
    let places: Vec<_> = files
        .iter()
        .filter(|(path, _)| !path.starts_with("lock") && !path.starts_with("meta/"))
        .flat_map(|(path, size)| {
            let used = if path.starts_with("journal") { 60_000.min(*size) } else { *size };
            (100..used).step_by(97).map(move |byte| (path.clone(), byte))
        })
        .collect();
    let (mut lost, mut cases) = (0, 0);
    for (path, byte) in places.iter().step_by(crate::step(places.len() as u64)) {
        let world = copy(*byte);
        assert!(world.machine.flip_bit(path, *byte, (byte % 8) as u8));
        lost += check(&world, &all, &format!("{path} at {byte}")).await;
        cases += 1;
    }
    // Without the checkpoint, segments are found by what they say of themselves.
    for (path, _) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
        let world = copy(1);
        world.machine.mount().remove(path).unwrap();
        let what = format!("{path} is gone");
        let count = check(&world, &all, &what).await;
        assert!(count == 0 || path.starts_with("blobs/segment"), "{what}: {count} lost");
        lost += count;
    }
    println!("{cases} cases, {lost} records lost");
    assert!(lost > 0);
}
