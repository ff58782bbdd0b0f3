//! Reads a partition, and copies what it reads in transactions that carry its offset: exactly once, however
//! many there are of it and whatever happens to them.

use std::sync::Arc;
use std::time::Duration;

use millstream_testkit::history::{Group, Outcome, Value};
use millstream_types::Offset;
use millstream_wire::ErrorCode;
use millstream_wire::messages::offset_fetch_request::OffsetFetchRequest;

use super::offsets::{self, Asker};
use super::reader::{Fetcher, Position};
use super::transaction::{NextOffset, Wanted, Writer};
use crate::drive::Topic;
use crate::rpc::{Link, Lost, version};
use crate::trace::note;
use crate::world::World;

/// The group whose offsets processors commit.
pub(crate) const GROUP: (&str, Group) = ("copiers", Group(1));

/// Copies one partition of `from` to a topic until it is told to come to an end.
pub(crate) async fn run(world: Arc<World>, from: Topic, index: i32, to: Topic) {
    let mut writer = Writer::new(&world, "processor", format!("copier-{index}"));
    let mut fetcher = Fetcher::new(&world, "source", true, Vec::new());
    let patience = Duration::from_millis(500 + writer.dice.below(20_000));
    while !world.is_closing() {
        world.nap(Duration::from_millis(1_500)).await;
        if !writer.init().await {
            continue;
        }
        let mut link = Link::open_soon(&world, &writer.name, patience).await;
        fetcher.reconnected();
        if let Ok(Some(next)) = position(&world, &mut link, &fetcher, &from, index).await {
            fetcher.assign(vec![Position::new(from.clone(), index, next)]);
            // A lost connection ends it as well: it becomes the producer again, and asks where to go on.
            let copied = copy(&world, &mut writer, &mut fetcher, &mut link, &to).await;
            note!(world, "{}: stops: {copied:?}", writer.name);
        }
    }
}

/// Where to go on; nothing when that can't be said now.
async fn position(
    world: &World,
    link: &mut Link,
    fetcher: &Fetcher,
    from: &Topic,
    index: i32,
) -> Result<Option<Offset>, Lost> {
    let version = version::<OffsetFetchRequest>(&mut world.dice(), 7, 10);
    for _ in 0..20 {
        let asked = (version, &Asker::default());
        let found =
            offsets::fetch(world, link, fetcher.client, GROUP, (from, index), asked).await?;
        match found {
            Ok(offset) => return Ok(Some(offset.unwrap_or(Offset(0)))),
            Err(ErrorCode::UnstableOffsetCommit) => world.nap(Duration::from_millis(800)).await,
            Err(_) => offsets::find_coordinators(link, GROUP.0).await?,
        }
    }
    Ok(None)
}

/// Copies until something does not go well.
async fn copy(
    world: &Arc<World>,
    writer: &mut Writer,
    fetcher: &mut Fetcher,
    link: &mut Link,
    to: &Topic,
) -> Result<(), Lost> {
    while !world.is_closing() && writer.is_ready() {
        let polled = fetcher.poll(link).await?;
        let Some(position) = fetcher.positions.first() else { return Ok(()) };
        if polled.is_empty() {
            world.nap(Duration::from_millis(300)).await;
            continue;
        }
        let (topic, index, next) = (position.topic.clone(), position.index, position.next);
        let many = u64::try_from(to.partitions).unwrap_or(1);
        let mut wanted = Wanted { commit: true, ..Wanted::default() };
        wanted.crash_after = writer.dice.chance(30).then(|| writer.dice.below(9));
        wanted.offsets = Some(NextOffset { group: GROUP, topic, index, next });
        for (_, seen) in &polled {
            let copy = world.history.value();
            world.copies(copy, seen.value.unwrap_or(Value(0)));
            let index = i32::try_from(writer.dice.below(many)).unwrap_or_default();
            wanted.batches.push((to.clone(), index, vec![(None, copy)]));
        }
        gather(&mut wanted);
        if writer.transact(wanted).await.0 != Outcome::Succeeded {
            return Ok(());
        }
        world.nap(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// One batch for each partition.
fn gather(wanted: &mut Wanted) {
    let mut batches: Vec<(Topic, i32, Vec<_>)> = Vec::new();
    for (topic, index, records) in wanted.batches.drain(..) {
        match batches.iter_mut().find(|batch| batch.1 == index) {
            Some(batch) => batch.2.extend(records),
            None => batches.push((topic, index, records)),
        }
    }
    wanted.batches = batches;
}

/// At the end: what was read, before the offset that is committed, was copied once, and nothing else was.
pub(crate) async fn check(world: &Arc<World>, from: &Topic) {
    let client = world.history.client();
    let copied = world.copied();
    let sources: Vec<_> = copied.iter().map(|(_, source)| *source).collect();
    for (at, source) in sources.iter().enumerate() {
        if sources.iter().take(at).any(|before| before == source) {
            world.violation(format!("{} was copied twice", source.0));
        }
    }
    for index in 0..from.partitions {
        let offset = loop {
            let mut link = Link::open_soon(world, "check", Duration::from_secs(60)).await;
            let asked = (8, &Asker::default());
            let found = offsets::fetch(world, &mut link, client, GROUP, (from, index), asked).await;
            if let Ok(Ok(offset)) = found {
                break offset.unwrap_or(Offset(0));
            }
            // Where the answer is lost, the next one says so.
            let _ = offsets::find_coordinators(&mut link, GROUP.0).await;
            world.sleep(Duration::from_millis(500)).await;
        };
        let is_copied = |value: &Value| sources.contains(value);
        for (at, value) in world.drained(from.number, index) {
            if (at < offset) != is_copied(&value) {
                let copied = is_copied(&value);
                world.violation(format!(
                    "{} at {at} of {index} was copied: {copied}; the offset is {offset}",
                    value.0
                ));
            }
        }
    }
}
