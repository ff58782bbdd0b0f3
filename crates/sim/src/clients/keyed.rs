//! Writes under keys to a topic that is compacted while it is written and read. Of each key the newest
//! committed record stays, what was aborted hides nothing, and no offset ever holds anything else.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_testkit::history::{Outcome, Place, Step, Value};

use super::batches::{Seen, TOMBSTONE};
use super::reader::{Fetcher, all_of, drain};
use super::transaction::{Wanted, Writer};
use crate::drive::Topic;
use crate::lock;
use crate::rpc::Link;
use crate::world::World;

/// How many keys there are.
const KEYS: u64 = 4;

/// What became of a record with a key.
#[derive(Clone, Debug)]
pub(crate) struct Keyed {
    key: Vec<u8>,
    value: Value,
    /// Where it is, if that was said; where it went at least.
    place: Option<Place>,
    partition: i32,
    outcome: Outcome,
}

/// Writes until it is told to come to an end.
pub(crate) async fn write(world: Arc<World>, topic: Topic) {
    let mut writer = Writer::new(&world, "keyed", "keyed".to_owned());
    writer.is_judged = false;
    let pace = world.plan.run_time / 20;
    while !world.is_closing() {
        world.nap(pace).await;
        if !writer.is_ready() && !writer.init().await {
            continue;
        }
        let dice = &mut writer.dice;
        let mut wanted = Wanted { commit: dice.chance(190), ..Wanted::default() };
        wanted.crash_after = dice.chance(20).then(|| dice.below(6));
        let index = i32::try_from(dice.below(u64::try_from(topic.partitions).unwrap_or(1)));
        let index = index.unwrap_or_default();
        let mut records = Vec::new();
        for _ in 0..1 + writer.dice.below(3) {
            let key = format!("key-{}", writer.dice.below(KEYS)).into_bytes();
            let is_tombstone = writer.dice.chance(40);
            let value = if is_tombstone { TOMBSTONE } else { world.history.value() };
            records.push((Some(key), value));
        }
        wanted.batches.push((topic.clone(), index, records.clone()));
        let (outcome, steps) = writer.transact(wanted).await;
        let mut keyed = lock(&world.keyed);
        for ((key, value), step) in records.into_iter().zip(steps) {
            let Step::Send { partition, offset, .. } = step else { continue };
            let place = offset.map(|offset| Place { partition, offset });
            let key = key.unwrap_or_default();
            keyed.push(Keyed { key, value, place, partition: index, outcome });
        }
    }
}

/// Reads all of it again and again: an offset holds one value, or nothing any more.
pub(crate) async fn read(world: Arc<World>, topic: Topic) {
    let mut fetcher = Fetcher::new(&world, "key reader", false, Vec::new());
    fetcher.is_judged = false;
    let mut known = BTreeMap::new();
    while !world.is_closing() {
        fetcher.assign(all_of(std::slice::from_ref(&topic)));
        let mut link = Link::open_soon(&world, &fetcher.name, Duration::from_secs(5)).await;
        for _ in 0..20 {
            let Ok(polled) = fetcher.poll(&mut link).await else { break };
            for (place, seen) in polled {
                let before = known.insert(place, seen.clone());
                if before.is_some_and(|before| before != seen) {
                    world.violation(format!("{place} held something else: {seen:?}"));
                }
            }
            world.nap(Duration::from_millis(300)).await;
        }
        world.nap(Duration::from_millis(300)).await;
    }
}

/// At the end: what is there of each key.
pub(crate) async fn check(world: &Arc<World>, topic: &Topic) {
    let all = drain(world, vec![topic.clone()], true, false).await;
    if let Some(broker) = world.machine.broker() {
        world.count_many("compactions", broker.log_stats().compactions);
    }
    let keyed = lock(&world.keyed).clone();
    for (place, seen) in &all {
        let written = keyed.iter().find(|it| it.value == seen.value.unwrap_or(TOMBSTONE));
        if seen.value.is_some() && written.is_some_and(|it| it.outcome == Outcome::Failed) {
            world.violation(format!("{place} was aborted: {seen:?}"));
        }
    }
    for partition in 0..topic.partitions {
        for key in 0..KEYS {
            let key = format!("key-{key}").into_bytes();
            let of_key = |it: &&Keyed| it.partition == partition && it.key == key;
            let written: Vec<_> = keyed.iter().filter(of_key).collect();
            check_key(world, &written, &all);
        }
    }
}

fn check_key(world: &World, written: &[&Keyed], all: &[(Place, Seen)]) {
    let committed = written.iter().filter(|it| it.outcome == Outcome::Succeeded);
    let newest = committed.filter_map(|it| Some((it.place?, *it))).max_by_key(|(place, _)| *place);
    let Some((newest_at, newest)) = newest else { return };
    // One that nobody knows of may have taken everything away.
    let may_be_gone = newest.value == TOMBSTONE
        || written.iter().any(|it| it.outcome == Outcome::Unknown && it.value == TOMBSTONE);
    let of_key = |(place, seen): &&(Place, Seen)| {
        place.partition == newest_at.partition && seen.key.as_deref() == Some(newest.key.as_slice())
    };
    let Some((at, seen)) = all.iter().filter(of_key).max_by_key(|(place, _)| *place) else {
        if !may_be_gone {
            world.violation(format!("the newest of a key is gone: {newest:?}"));
        }
        return;
    };
    let is_same = seen.value.unwrap_or(TOMBSTONE) == newest.value;
    if *at < newest_at || (*at == newest_at && !is_same) {
        world.violation(format!("the newest of a key is {newest:?}, and there is {at}: {seen:?}"));
    }
}
