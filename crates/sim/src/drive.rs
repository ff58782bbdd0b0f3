//! The course of a simulation: topics are made, clients work under faults, everything is mended, and
//! what is there is read to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_testkit::history::Group;
use millstream_types::TopicId;
use millstream_wire::ErrorCode;
use millstream_wire::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use millstream_wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};

use crate::clients::{admin, classic, consumer, keyed, processor, producer, reader, transaction};
use crate::faults;
use crate::plan::TopicPlan;
use crate::rpc::{Link, Lost};
use crate::trace::note;
use crate::world::World;

/// The topics of the plan.
const PLAIN: usize = 0;
const WRITTEN: usize = 1;
const COPIES: usize = 2;
const KEYS: usize = 3;

/// The groups, of which each run has one.
const CLASSICS: (&str, Group) = ("classics", Group(2));
const CONSUMERS: (&str, Group) = ("consumers", Group(3));
/// Where both protocols meet.
pub(crate) const MIGRANTS: (&str, Group) = ("migrants", Group(4));

/// A transaction is aborted after this time at most.
const TRANSACTION_TIMEOUT_MAX: Duration = Duration::from_secs(60);

/// A topic, as clients know it.
#[derive(Clone, Debug)]
pub(crate) struct Topic {
    /// Its number in the plan.
    pub(crate) number: usize,
    pub(crate) name: &'static str,
    pub(crate) id: TopicId,
    pub(crate) partitions: i32,
}

/// Clients that have not come to their end.
#[derive(Default)]
struct Crew(AtomicUsize);

/// All of it.
pub(crate) async fn drive(world: Arc<World>) {
    let mut topics = Vec::new();
    for (number, plan) in world.plan.topics.iter().enumerate() {
        topics.push(set_up(&world, number, plan).await);
    }
    note!(world, "topics are set up");
    faults::start(&world);
    world.env.spawn("faults", faults::strike(Arc::clone(&world)));
    let crew = Arc::new(Crew::default());
    hire(&world, &crew, &topics);
    world.sleep(world.plan.run_time).await;
    world.close();
    faults::mend(&world);
    crew.gone(&world).await;
    note!(world, "clients have come to their end");
    // Until what is open has timed out.
    world.sleep(TRANSACTION_TIMEOUT_MAX).await;
    let judged = [PLAIN, WRITTEN, COPIES].map(|at| topics[at].clone()).to_vec();
    reader::drain(&world, judged.clone(), false, true).await;
    let there = reader::drain(&world, judged.clone(), true, true).await;
    let there = there.into_iter().filter_map(|(at, seen)| Some((at, seen.value?)));
    world.set_drained(there.collect());
    processor::check(&world, &topics[PLAIN]).await;
    keyed::check(&world, &topics[KEYS]).await;
    world.finish();
}

/// Sends the clients to work.
fn hire(world: &Arc<World>, crew: &Arc<Crew>, topics: &[Topic]) {
    let [plain, written, copies] = [PLAIN, WRITTEN, COPIES].map(|at| topics[at].clone());
    let judged = vec![plain.clone(), written.clone(), copies.clone()];
    let here = || Arc::clone(world);
    for _ in 0..1 + world.below(2) {
        crew.send(world, producer::run(here(), plain.clone()));
    }
    for number in 0..world.below(4) {
        // Some of them are the same producer, and fence each other.
        let id = format!("writer-{}", number / 2);
        crew.send(world, transaction::run(here(), written.clone(), id));
    }
    for number in 0..i32::try_from(world.below(4)).unwrap_or_default() {
        let index = number % plain.partitions;
        crew.send(world, processor::run(here(), plain.clone(), index, copies.clone()));
    }
    if world.below(2) == 0 {
        crew.send(world, keyed::write(here(), topics[KEYS].clone()));
        crew.send(world, keyed::read(here(), topics[KEYS].clone()));
    }
    if world.below(2) == 0 {
        crew.send(world, admin::run(here()));
    }
    let groups = [CLASSICS, CONSUMERS, MIGRANTS];
    let group = groups[world.below(3) as usize];
    for _ in 0..1 + world.below(3) {
        let is_classic = group == CLASSICS || (group == MIGRANTS && world.below(2) == 0);
        if is_classic {
            crew.send(world, classic::run(here(), group, plain.clone()));
        } else {
            crew.send(world, consumer::run(here(), group, plain.clone()));
        }
    }
    for committed in [false, true] {
        crew.send(world, reader::run(here(), judged.clone(), committed));
    }
}

impl Crew {
    fn send(self: &Arc<Self>, world: &World, client: impl Future<Output = ()> + Send + 'static) {
        self.0.fetch_add(1, Ordering::Relaxed);
        let crew = Arc::clone(self);
        world.env.spawn("client", async move {
            client.await;
            crew.0.fetch_sub(1, Ordering::Relaxed);
        });
    }

    async fn gone(&self, world: &World) {
        while self.0.load(Ordering::Relaxed) > 0 {
            world.sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Makes a topic, and finds out what it is called.
async fn set_up(world: &Arc<World>, number: usize, plan: &TopicPlan) -> Topic {
    loop {
        let mut link = Link::open_soon(world, "admin", Duration::from_secs(30)).await;
        if let Ok(Some(id)) = create(&mut link, plan).await {
            return Topic { number, name: plan.name, id, partitions: plan.partitions };
        }
        world.nap(Duration::from_millis(100)).await;
    }
}

/// Makes a topic, or finds it made; its id, if that has gone well.
pub(crate) async fn create(link: &mut Link, plan: &TopicPlan) -> Result<Option<TopicId>, Lost> {
    let config = |(name, value): &(&'static str, &'static str)| CreatableTopicConfig {
        name: (*name).into(),
        value: Some((*value).into()),
    };
    let topic = CreatableTopic {
        name: plan.name.into(),
        num_partitions: plan.partitions,
        replication_factor: 1,
        configs: plan.configs.iter().map(config).collect(),
        ..CreatableTopic::default()
    };
    let request =
        CreateTopicsRequest { topics: vec![topic], timeout_ms: 10_000, validate_only: false };
    let response = link.call(&request, 7).await?;
    let error = response.topics.first().map(|topic| ErrorCode::or_unknown(topic.error_code));
    if !matches!(error, Some(ErrorCode::None | ErrorCode::TopicAlreadyExists)) {
        return Ok(None);
    }
    Ok(look_up(link, plan.name).await?.flatten())
}

/// The topic of this name, if there is one; nothing when the answer says nothing.
pub(crate) async fn look_up(
    link: &mut Link,
    name: &'static str,
) -> Result<Option<Option<TopicId>>, Lost> {
    let topic = MetadataRequestTopic { name: Some(name.into()), ..Default::default() };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: false,
        ..MetadataRequest::default()
    };
    let response = link.call(&request, 12).await?;
    let Some(found) = response.topics.first() else { return Ok(None) };
    Ok(match ErrorCode::or_unknown(found.error_code) {
        ErrorCode::None => Some(Some(found.topic_id)),
        ErrorCode::UnknownTopicOrPartition => Some(None),
        _ => None,
    })
}
