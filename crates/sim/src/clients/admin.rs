//! Makes and deletes topics, changes their configuration and deletes records; and sees to it that what was
//! acknowledged stays so, whatever happens.

use std::sync::Arc;
use std::time::Duration;

use millstream_env::Dice;
use millstream_record::Compression;
use millstream_testkit::history::Value;
use millstream_types::{Offset, TopicId};
use millstream_wire::ErrorCode;
use millstream_wire::messages::delete_records_request::{
    DeleteRecordsPartition, DeleteRecordsRequest, DeleteRecordsTopic,
};
use millstream_wire::messages::delete_topics_request::DeleteTopicsRequest;
use millstream_wire::messages::describe_configs_request::{
    DescribeConfigsRequest, DescribeConfigsResource,
};
use millstream_wire::messages::incremental_alter_configs_request::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use millstream_wire::messages::produce_request::ProduceRequest;

use super::batches::{BatchKind, batch};
use super::producer::request;
use super::reader::{Fetcher, Position};
use crate::drive::{Topic, create, look_up};
use crate::plan::TopicPlan;
use crate::rpc::{Link, Lost, version};
use crate::trace::note;
use crate::world::World;

const NAME: &str = "churn";
const CONFIG: &str = "max.message.bytes";
const TOPIC: i8 = 2;
const SET: i8 = 0;

/// What is known of something that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known<T> {
    /// It is so.
    Is(T),
    /// An answer was lost.
    Unknown,
}

/// The client, and what it knows.
struct Admin {
    world: Arc<World>,
    dice: Dice,
    /// The topic, if there is one.
    topic: Known<Option<TopicId>>,
    /// The topic that was last seen to be there, or not.
    last: Option<TopicId>,
    /// The value of the configuration that it sets.
    config: Known<Option<u64>>,
    /// What is in the topic: where, and what.
    there: Vec<(Offset, Value)>,
    /// Everything that was ever written to this topic.
    written: Vec<Value>,
    /// Everything before this was deleted; something may have been up to the second.
    start: (Offset, Offset),
}

/// Works until it is told to come to an end.
pub(crate) async fn run(world: Arc<World>) {
    let dice = world.dice();
    let (topic, config) = (Known::Is(None), Known::Is(None));
    let (there, written, start) = (Vec::new(), Vec::new(), (Offset(0), Offset(0)));
    let mut admin =
        Admin { world: Arc::clone(&world), dice, topic, last: None, config, there, written, start };
    while !world.is_closing() {
        let mut link = Link::open_soon(&world, "admin", Duration::from_secs(6)).await;
        while !world.is_closing() && admin.step(&mut link).await.is_ok() {
            world.nap(world.plan.run_time / 30).await;
        }
        note!(world, "admin: lost its connection");
        world.nap(Duration::from_millis(200)).await;
    }
}

impl Admin {
    async fn step(&mut self, link: &mut Link) -> Result<(), Lost> {
        let id = self.look(link).await?;
        let Some(id) = id else { return self.create(link).await };
        match self.dice.below(12) {
            0 => self.delete(link).await,
            1 | 2 => self.configure(link).await,
            3 => self.delete_records(link).await,
            4..=6 => self.check_config(link).await,
            7..=9 => self.produce(link, id).await,
            _ => self.read(link, id).await,
        }
    }

    fn plan() -> TopicPlan {
        TopicPlan { name: NAME, partitions: 1, configs: Vec::new() }
    }

    fn topic(id: TopicId) -> Topic {
        Topic { number: 9, name: NAME, id, partitions: 1 }
    }

    /// Which topic there is; it must be what was acknowledged.
    async fn look(&mut self, link: &mut Link) -> Result<Option<TopicId>, Lost> {
        let Some(found) = look_up(link, NAME).await? else { return Err(Lost) };
        if let Known::Is(expected) = self.topic
            && expected != found
        {
            self.world.violation(format!("the topic is {found:?}, and was {expected:?}"));
        }
        // After a deletion without an answer it may be the same as before, with all that was in it.
        if self.last != found {
            self.last = found;
            self.is_new();
        }
        self.topic = Known::Is(found);
        Ok(found)
    }

    /// The topic is another one: nothing is in it.
    fn is_new(&mut self) {
        self.config = Known::Is(None);
        self.there.clear();
        self.written.clear();
        self.start = (Offset(0), Offset(0));
    }

    async fn create(&mut self, link: &mut Link) -> Result<(), Lost> {
        note!(self.world, "admin: creates");
        self.topic = Known::Unknown;
        if let Some(id) = create(link, &Self::plan()).await? {
            (self.topic, self.last) = (Known::Is(Some(id)), Some(id));
            self.is_new();
            self.world.count("topics created");
        }
        Ok(())
    }

    async fn delete(&mut self, link: &mut Link) -> Result<(), Lost> {
        note!(self.world, "admin: deletes");
        let before = self.topic;
        self.topic = Known::Unknown;
        let request = DeleteTopicsRequest {
            topic_names: vec![NAME.into()],
            timeout_ms: 10_000,
            ..DeleteTopicsRequest::default()
        };
        let answer = link.call(&request, 5).await?;
        let code = answer.responses.first().map_or(-1, |it| it.error_code);
        match ErrorCode::or_unknown(code) {
            ErrorCode::None => self.topic = Known::Is(None),
            error => {
                note!(self.world, "admin: can't delete: {error:?}, {before:?}");
            }
        }
        Ok(())
    }

    async fn configure(&mut self, link: &mut Link) -> Result<(), Lost> {
        let value = 1_000_000 + self.dice.below(1_000_000);
        note!(self.world, "admin: sets {value}");
        self.config = Known::Unknown;
        let config = AlterableConfig {
            name: CONFIG.into(),
            config_operation: SET,
            value: Some(value.to_string().into()),
        };
        let resource = AlterConfigsResource {
            resource_type: TOPIC,
            resource_name: NAME.into(),
            configs: vec![config],
        };
        let request =
            IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
        let version = version::<IncrementalAlterConfigsRequest>(&mut self.dice, 0, 1);
        let answer = link.call(&request, version).await?;
        if answer.responses.first().is_some_and(|it| it.error_code == 0) {
            self.config = Known::Is(Some(value));
        }
        Ok(())
    }

    async fn check_config(&mut self, link: &mut Link) -> Result<(), Lost> {
        let resource = DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: NAME.into(),
            configuration_keys: Some(vec![CONFIG.into()]),
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource],
            ..DescribeConfigsRequest::default()
        };
        let answer = link.call(&request, 4).await?;
        let Some(result) = answer.results.first().filter(|it| it.error_code == 0) else {
            return Ok(());
        };
        let value = result.configs.first().and_then(|it| it.value.clone());
        let value: Option<u64> = value.and_then(|value| value.parse().ok());
        if let Known::Is(Some(expected)) = self.config
            && value != Some(expected)
        {
            self.world.violation(format!("{CONFIG} is {value:?}, and was {expected}"));
        }
        Ok(())
    }

    async fn produce(&mut self, link: &mut Link, id: TopicId) -> Result<(), Lost> {
        let version = version::<ProduceRequest>(&mut self.dice, 3, 13);
        let value = self.world.history.value();
        let kind =
            BatchKind { producer: None, transactional: false, compression: Compression::None };
        let now = self.world.env.clock.wall();
        let made = batch(&mut self.dice, &kind, 0, now, &[(None, value)]);
        let records = made.map_err(|why| self.world.violation(why)).map_err(|()| Lost)?;
        self.written.push(value);
        let request = request(&Self::topic(id), 0, records, None, version);
        let answer = link.call(&request, version).await?;
        let answer = answer.responses.first().and_then(|it| it.partition_responses.first());
        if let Some(answer) = answer.filter(|it| it.error_code == 0) {
            note!(self.world, "admin: wrote {} at {}", value.0, answer.base_offset);
            self.there.push((Offset(answer.base_offset), value));
        }
        Ok(())
    }

    async fn delete_records(&mut self, link: &mut Link) -> Result<(), Lost> {
        let Some((last, _)) = self.there.last() else { return Ok(()) };
        let upto = Offset(i64::try_from(self.dice.below(last.0.unsigned_abs() + 2)).unwrap_or(0));
        note!(self.world, "admin: deletes records before {upto}");
        self.start.1 = self.start.1.max(upto);
        let partition = DeleteRecordsPartition { partition_index: 0, offset: upto.0 };
        let topic = DeleteRecordsTopic { name: NAME.into(), partitions: vec![partition] };
        let request = DeleteRecordsRequest { topics: vec![topic], timeout_ms: 10_000 };
        let version = version::<DeleteRecordsRequest>(&mut self.dice, 0, 2);
        let answer = link.call(&request, version).await?;
        let answer = answer.topics.first().and_then(|it| it.partitions.first());
        if answer.is_some_and(|it| it.error_code == 0) {
            self.start.0 = self.start.0.max(upto);
            self.world.count("records deleted");
        }
        Ok(())
    }

    /// Reads all of the topic: what was acknowledged and not deleted is there, and nothing that was
    /// written to another one of its name.
    async fn read(&mut self, link: &mut Link, id: TopicId) -> Result<(), Lost> {
        let from = self.start.1;
        let positions = vec![Position::new(Self::topic(id), 0, from)];
        let mut fetcher = Fetcher::new(&self.world, "admin", false, Vec::new());
        fetcher.is_judged = false;
        fetcher.assign(positions);
        let mut polled = Vec::new();
        for _ in 0..3 {
            polled.extend(fetcher.poll(link).await?);
        }
        let next = fetcher.positions.first().map_or(Offset(0), |it| it.next);
        for (at, value) in self.there.iter().filter(|(at, _)| *at >= from && *at < next) {
            let found = polled.iter().find(|(place, _)| place.offset == *at);
            if found.is_none_or(|(_, seen)| seen.value != Some(*value)) {
                let value = value.0;
                self.world.violation(format!("{value} was written at {at}, where is {found:?}"));
            }
        }
        for (place, seen) in &polled {
            if seen.value.is_none_or(|value| !self.written.contains(&value)) {
                self.world.violation(format!("{place} was written to another topic: {seen:?}"));
            }
        }
        Ok(())
    }
}
