//! Damage of every sort: it is named, a repair says what it would lose before it does anything, and after
//! it a broker starts, serves all else, and nothing that was not written.

use std::collections::BTreeMap;

use millstream_broker::log::{Isolation, ReadError};
use millstream_broker::{Broker, ConfigTarget, Repair, StartError, TopicRef};
use millstream_env::DataDir;
use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_types::Offset;

use crate::session::commit;
use crate::world::{World, create, produce, topic, values};

const TOPICS: [&str; 3] = ["a", "b", "t"];

type Content = BTreeMap<&'static str, Vec<(Offset, String)>>;

/// A machine that a broker has left, by a crash or in order: segments, packs, journals of two sessions,
/// a checkpoint. And what was acknowledged.
async fn left_behind(crash: bool) -> (World, Content) {
    let world = World::new(5);
    let mut broker = world.start().await.unwrap();
    for name in TOPICS {
        create(&broker, name).await.unwrap();
        // The records are older than any retention.
        let keep = vec![("retention.ms".to_owned(), "-1".to_owned())];
        let target = ConfigTarget::Topic(name.to_owned());
        broker.replace_configs(&target, keep, false).await.unwrap();
    }
    broker.set_up_groups().await.unwrap();
    for round in 0..2 {
        for number in 0..26 {
            let size = if number % 9 == 0 { 9_000 } else { 300 };
            let value = format!("{round} {number}:{}", "x".repeat(size));
            let name = TOPICS[number % 3];
            while produce(&broker, name, &value).await.is_none() {
                world.settle().await;
            }
            if number % 8 == 0 {
                commit(&broker, Offset(number as i64)).await.unwrap();
            }
            world.clock.advance(std::time::Duration::from_secs(150));
            world.settle().await;
        }
        if round == 0 {
            world.machine.power_cut();
            broker = world.restart(broker).await;
            broker.set_up_groups().await.unwrap();
        }
    }
    let mut all = Content::new();
    for name in TOPICS {
        let values = values(&broker, name).await;
        assert!(values.len() >= 16, "{name} holds what was written: {}", values.len());
        all.insert(name, values);
    }
    if !crash {
        broker.close().await;
    }
    world.machine.kill();
    drop(broker);
    world.settle().await;
    (world, all)
}

/// What a reader of a topic gets, and the offsets that it is told are lost.
async fn survey(broker: &Broker, name: &str) -> (Vec<(Offset, String)>, Vec<i64>) {
    let topic = topic(broker, name);
    let partition = topic.partition(0).unwrap();
    let (mut found, mut lost) = (Vec::new(), Vec::new());
    let mut next = partition.ends().log_start;
    lost.extend(0..next.0);
    while next < partition.ends().high_watermark {
        match partition.read(next, 1, true, Isolation::Uncommitted).await {
            Ok(slice) => {
                for batch in slice.batches {
                    let base = batch.header().unwrap().base_offset;
                    assert_eq!(base, next, "nothing is passed over without a word");
                    let records = batch.records(1 << 20).unwrap();
                    for (record, offset) in records.iter().zip(base.0..) {
                        let value = record.unwrap().value.unwrap().to_vec();
                        found.push((Offset(offset), String::from_utf8(value).unwrap()));
                    }
                    next = batch.header().unwrap().last_offset().next();
                }
            }
            Err(ReadError::Corrupt { from, upto, .. }) => {
                lost.extend(from.max(next).0..upto.0);
                next = upto;
            }
            Err(error) => panic!("{name} at {next}: {error}"),
        }
    }
    (found, lost)
}

/// What the files of the journal begin with that a crash has left open.
const OPEN_JOURNAL: &str = "crash true: journal/00000000000000000002-";

/// What a look or a repair says, and whether the server starts.
struct Outcome {
    refused: bool,
    needed: bool,
    lost: usize,
}

/// How many records are lost; each must have been named.
async fn compare(
    broker: &Broker,
    all: &Content,
    named: &[(String, i32, i64)],
    needed: bool,
    what: &str,
) -> usize {
    let mut count = 0;
    for name in TOPICS {
        if broker.topic(TopicRef::Name(name)).is_none() {
            // What its entry in the metadata said is nowhere else.
            assert!(needed && what.contains("meta/"), "{what}: {name} is gone");
            continue;
        }
        let (found, lost) = survey(broker, name).await;
        let written = &all[name];
        for record in &found {
            assert!(written.contains(record), "{what}: {name} serves what was not written");
        }
        for (offset, _) in written.iter().filter(|record| !found.contains(record)) {
            let is_named =
                named.contains(&(name.to_owned(), 0, offset.0)) || lost.contains(&offset.0);
            // Of the last records of a log nobody may know any more, when their frames are damaged
            // beyond recognition: then the damage itself is named, and where it is. And what was written
            // last before a crash can't be told from what the crash has cut off.
            let is_end = found.last().is_none_or(|(last, _)| last < offset);
            let is_end = is_end && (needed || what.contains(OPEN_JOURNAL));
            assert!(is_named || is_end, "{what}: {name} lost {offset} without a word");
            count += 1;
        }
    }
    count
}

/// What a repair has found and done.
pub(crate) struct Repaired {
    /// Whether there was anything to repair.
    pub(crate) needed: bool,
    /// What it said would be lost, by topic, partition and offset.
    pub(crate) named: Vec<(String, i32, i64)>,
}

/// Repairs the machine; what that loses, by topic, partition and offset. An error says why it did not come
/// to its end.
pub(crate) async fn carry_out(world: &World) -> Result<Vec<(String, i32, i64)>, String> {
    let (disk, env) = (world.machine.mount(), world.env.clone());
    let data = DataDir::open_to_repair_on(disk, env, "sim").map_err(|error| error.to_string())?;
    let repair = Repair::plan(&data).await.map_err(|error| error.to_string())?;
    let partitions = repair.stored.metadata.partitions();
    let mut named = Vec::new();
    for loss in &repair.plan.losses {
        let (id, topic) = partitions.iter().find(|(id, _)| *id == loss.partition).unwrap();
        let offsets = loss.offsets.start.0..loss.offsets.end.0;
        named.extend(offsets.map(|at| (topic.to_string(), id.index, at)));
    }
    let done = repair.carry_out(&data, &world.env).await;
    drop(data);
    world.settle().await;
    done.map(|_| named).map_err(|error| error.to_string())
}

/// Repairs the machine, if that is needed: first it is said what would be lost, and nothing is changed.
pub(crate) async fn repair(world: &World, what: &str) -> Repaired {
    let files = world.machine.files();
    let open = || DataDir::open_damaged_on(world.machine.mount(), world.env.clone(), "sim");
    let data = open().unwrap_or_else(|error| panic!("{what}: {error}"));
    let repair = Repair::plan(&data).await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let needed = !repair.is_needless();
    drop((repair, data));
    world.settle().await;
    assert_eq!(world.machine.files(), files, "{what}: a plan changes nothing");
    let mut named = Vec::new();
    if needed {
        named = carry_out(world).await.unwrap_or_else(|error| panic!("{what}: {error}"));
        // Also when the power goes right after it.
        world.machine.power_cut();
        let data = open().unwrap();
        let again = Repair::plan(&data).await.unwrap();
        assert!(again.is_needless(), "{what}: {:?} {:?}", again.stored.findings, again.plan);
        drop((again, data));
        world.settle().await;
    }
    Repaired { needed, named }
}

/// Repairs the machine; a broker must start then and serve all but what was named as lost.
async fn check(world: &World, all: &Content, what: &str) -> Outcome {
    let refused = world.try_start().await.err();
    world.machine.kill();
    world.settle().await;
    let Repaired { needed, named } = repair(world, what).await;
    assert!(needed || refused.is_none(), "{what}: refused and not named: {refused:?}");
    let broker = world.try_start().await.unwrap_or_else(|error| panic!("{what}: {error}"));
    let count = compare(&broker, all, &named, needed, what).await;
    // It can be written again, and goes on behind what was there.
    let there = TOPICS.into_iter().find(|name| broker.topic(TopicRef::Name(name)).is_some());
    assert!(produce(&broker, there.unwrap(), "after").await.is_some(), "{what}");
    broker.close().await;
    Outcome { refused: refused.is_some(), needed, lost: count }
}

#[tokio::test]
async fn whatever_is_damaged_a_repair_says_what_it_costs_and_the_broker_starts_again() {
    let (mut refused, mut needed, mut lost, mut cases) = (0, 0, 0, 0);
    for crash in [false, true] {
        let (world, _) = left_behind(crash).await;
        let files = world.machine.files();
        let files: Vec<_> = files
            .into_iter()
            .filter(|(path, _)| !path.starts_with("lock"))
            .map(|(path, size)| {
                let used = if path.starts_with("journal") { size.min(60_000) } else { size };
                (path, (0..used).step_by(97))
            })
            .collect();
        let step = crate::step(files.iter().map(|(_, bytes)| bytes.clone().count() as u64).sum());
        // However few, some of each file, behind its header.
        let places = files.iter().flat_map(|(path, bytes)| {
            bytes.clone().skip(1).step_by(step).map(move |byte| (path.clone(), byte))
        });
        for (path, byte) in places {
            let (world, all) = left_behind(crash).await;
            assert!(world.machine.flip_bit(&path, byte, (byte % 8) as u8));
            let outcome = check(&world, &all, &format!("crash {crash}: {path} at {byte}")).await;
            refused += usize::from(outcome.refused);
            needed += usize::from(outcome.needed);
            lost += outcome.lost;
            cases += 1;
        }
    }
    println!("{cases} cases, {refused} refused, {needed} repaired, {lost} records lost");
    assert!(refused > 2 && needed > refused, "{refused} {needed}");
}

fn first(world: &World, prefix: &str) -> Option<String> {
    let files = world.machine.files();
    files.into_iter().find(|(path, _)| path.starts_with(prefix)).map(|(path, _)| path)
}

/// Files that are gone, or damaged at their very beginning.
#[tokio::test]
async fn headers_checkpoints_metadata_and_identity_are_rebuilt() {
    for crash in [false, true] {
        for prefix in ["journal/", "blobs/checkpoint/", "blobs/segment/", "meta/", "cluster"] {
            for gone in [false, true] {
                let (world, all) = left_behind(crash).await;
                // A broker that has crashed need not have come to a checkpoint.
                let Some(path) = first(&world, prefix) else { continue };
                // Without the metadata nobody knows which topics there were.
                if gone && prefix == "meta/" {
                    continue;
                }
                if gone {
                    let disk = world.machine.mount();
                    disk.remove(&path).unwrap();
                } else {
                    assert!(world.machine.flip_bit(&path, 40, 3));
                }
                let what = format!("gone {gone}, crash {crash}: {path}");
                let outcome = check(&world, &all, &what).await;
                let loses = prefix == "blobs/segment/" || gone && prefix == "journal/";
                assert!(loses || outcome.lost == 0, "{what}: {}", outcome.lost);
                assert!(outcome.needed || gone && prefix == "journal/", "{what}");
            }
        }
    }
}

/// A damaged entry in the middle of the metadata costs what it said, and no more.
#[tokio::test]
async fn damaged_metadata_cost_what_they_said() {
    let (world, all) = left_behind(false).await;
    let path = first(&world, "meta/").unwrap();
    // Entries have a block each, the header has the first: this one is of a session or a checkpoint.
    let entries = world.machine.files().iter().find(|(p, _)| *p == path).unwrap().1 / 4096;
    assert!(world.machine.flip_bit(&path, (entries - 2) * 4096 + 35, 1));
    assert!(matches!(world.try_start().await, Err(StartError::Metadata(_))));
    check(&world, &all, "an entry before the last").await;
}

/// Found by the sweep over interrupted repairs: between setting the damaged metadata aside and writing
/// them anew there were none, and nothing but the files in the quarantine told which topics there had been.
#[tokio::test]
async fn an_interrupted_repair_of_metadata_leaves_metadata() {
    let (left, all) = left_behind(false).await;
    let path = first(&left, "meta/").unwrap();
    let entries = left.machine.files().iter().find(|(p, _)| *p == path).unwrap().1 / 4096;
    assert!(left.machine.flip_bit(&path, (entries - 2) * 4096 + 35, 1));
    for (after, fault) in
        (0..200).flat_map(|after| [(after, Fault::PowerCut), (after, Fault::Kill)])
    {
        let world = World { machine: left.machine.copy(after), ..World::new(after) };
        world.machine.plan(FaultAt { on: Operation::Any, after, fault });
        let done = carry_out(&world).await;
        if done.is_ok() && world.machine.faults_left() > 0 {
            assert!(after > 20);
            return;
        }
        world.machine.kill();
        world.settle().await;
        check(&world, &all, &format!("meta/, {fault:?} after {after}")).await;
    }
    panic!("a repair has no end");
}
