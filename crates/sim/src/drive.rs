//! The course of a simulation: topics are made, clients work under faults, everything is mended, and
//! what is there is read to the end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use millstream_types::TopicId;
use millstream_wire::ErrorCode;
use millstream_wire::messages::create_topics_request::{
    CreatableTopic, CreatableTopicConfig, CreateTopicsRequest,
};
use millstream_wire::messages::metadata_request::{MetadataRequest, MetadataRequestTopic};

use crate::clients::{producer, reader};
use crate::faults;
use crate::plan::TopicPlan;
use crate::rpc::{Link, Lost};
use crate::trace::note;
use crate::world::World;

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
    let plain = &topics[0];
    for _ in 0..1 + world.below(2) {
        crew.send(&world, producer::run(Arc::clone(&world), plain.clone()));
    }
    for committed in [false, true] {
        crew.send(&world, reader::run(Arc::clone(&world), vec![plain.clone()], committed));
    }
    world.sleep(world.plan.run_time).await;
    world.close();
    faults::mend(&world);
    crew.gone(&world).await;
    note!(world, "clients have come to their end");
    for committed in [false, true] {
        reader::drain(&world, topics.clone(), committed).await;
    }
    world.finish();
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

async fn create(link: &mut Link, plan: &TopicPlan) -> Result<Option<TopicId>, Lost> {
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
    let topic = MetadataRequestTopic { name: Some(plan.name.into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![topic]), ..MetadataRequest::default() };
    let response = link.call(&request, 12).await?;
    let found = response.topics.into_iter().next().filter(|topic| topic.error_code == 0);
    Ok(found.map(|topic| topic.topic_id))
}
