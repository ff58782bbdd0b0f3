//! A recorded workload, and a client that carries it out whatever the disk does.
//!
//! A step that fails is tried again, as clients do; when the machine is off, the program is started
//! again, what it holds is compared with the model, and the client goes on where it was.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::log::AppendError;
use millstream_broker::{
    Broker, ConfigTarget, CreateError, Newest, PartitionsError, ProduceError, TopicError, TopicRef,
    TopicRequest,
};
use millstream_env::disk::{FaultAt, SimDisk};
use millstream_record::BatchBuilder;
use millstream_types::{Offset, ProducerEpoch, ProducerId, Timestamp};

use super::model::{Asked, Checked, Losses, Model, Sent};
use crate::session::commit_on;
use crate::world::{World, sent};

/// Batches of one producer that are on their way at a time: as many as its retries are known of.
const IN_FLIGHT_MAX: usize = 5;

/// One thing that a client does.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    Create {
        topic: &'static str,
        partitions: i32,
        keep_ms: Option<i64>,
    },
    Drop {
        topic: &'static str,
    },
    Grow {
        topic: &'static str,
        partitions: i32,
    },
    Keep {
        topic: &'static str,
        ms: i64,
    },
    SetUpGroups,
    /// Sends so many batches, of an idempotent producer or not.
    Send {
        to: (&'static str, i32),
        count: usize,
        size: usize,
        idempotent: bool,
    },
    /// Sends the newest batch of the idempotent producer once more, though it was acknowledged.
    Repeat {
        to: (&'static str, i32),
    },
    /// Commits what has been read up to the end.
    Commit {
        of: (&'static str, i32),
    },
    /// Deletes the older half.
    Delete {
        from: (&'static str, i32),
    },
    /// Time passes: for layout, for retention.
    Pass {
        minutes: u64,
    },
}

/// Everything that changes something on a disk, a few times, and enough of it that the work behind comes
/// to layout, merging, checkpoints and retention.
pub(crate) fn workload() -> Vec<Step> {
    use Step::*;
    let mut steps = vec![
        Create { topic: "a", partitions: 3, keep_ms: None },
        Create { topic: "b", partitions: 1, keep_ms: None },
        SetUpGroups,
        Send { to: ("a", 0), count: 2, size: 10, idempotent: false },
        Send { to: ("a", 1), count: 7, size: 300, idempotent: true },
        Repeat { to: ("a", 1) },
        Commit { of: ("a", 1) },
        Create { topic: "short", partitions: 1, keep_ms: Some(600_000) },
        Send { to: ("short", 0), count: 4, size: 900, idempotent: true },
        Create { topic: "goes", partitions: 2, keep_ms: None },
        Send { to: ("goes", 0), count: 3, size: 5_000, idempotent: true },
        Commit { of: ("goes", 0) },
        Keep { topic: "b", ms: 86_400_000 },
    ];
    for round in 0..3 {
        for _ in 0..6 {
            steps.push(Send { to: ("a", 0), count: 5, size: 13_000, idempotent: true });
            steps.push(Send { to: ("b", 0), count: 3, size: 200, idempotent: false });
        }
        steps.extend([
            Commit { of: ("a", 0) },
            Send { to: ("a", 2), count: 3, size: 4_000, idempotent: true },
            Pass { minutes: 61 },
        ]);
        steps.extend(match round {
            0 => [
                Drop { topic: "goes" },
                Delete { from: ("b", 0) },
                Send { to: ("short", 0), count: 2, size: 900, idempotent: true },
                Grow { topic: "b", partitions: 2 },
            ],
            1 => [
                Create { topic: "goes", partitions: 1, keep_ms: None },
                Send { to: ("goes", 0), count: 2, size: 100, idempotent: true },
                Delete { from: ("a", 2) },
                Send { to: ("b", 1), count: 3, size: 100, idempotent: false },
            ],
            _ => [
                Keep { topic: "b", ms: 172_800_000 },
                Commit { of: ("b", 1) },
                Send { to: ("a", 1), count: 3, size: 100, idempotent: true },
                Commit { of: ("goes", 0) },
            ],
        });
    }
    steps
}

pub(crate) struct Client {
    pub(crate) world: World,
    pub(crate) broker: Broker,
    pub(crate) model: Model,
    producer: Option<ProducerId>,
    /// The next sequence number, by topic, its incarnation, and partition.
    sequences: BTreeMap<(&'static str, i32), i32>,
    /// Faults for the starts to come.
    pub(crate) at_start: Vec<FaultAt>,
    pub(crate) restarts: u32,
    numbers: u64,
}

impl Client {
    /// Starts the program on a disk, again if the machine goes off meanwhile.
    pub(crate) async fn new(seed: u64, machine: Arc<SimDisk>) -> Checked<Self> {
        let world = World { machine, ..World::new(seed) };
        let broker = loop {
            match world.try_start().await {
                Ok(broker) => break broker,
                Err(_) if world.machine.is_off() => world.machine.kill(),
                Err(error) => return Err(error.to_string()),
            }
        };
        Ok(Self {
            world,
            broker,
            model: Model::default(),
            producer: None,
            sequences: BTreeMap::new(),
            at_start: Vec::new(),
            restarts: 0,
            numbers: 0,
        })
    }

    /// Does all of it.
    pub(crate) async fn run(&mut self) -> Checked {
        for step in workload() {
            self.step(step).await.map_err(|why| format!("{step:?}: {why}"))?;
        }
        Ok(())
    }

    /// Whether the broker holds what it must.
    pub(crate) async fn check(&self) -> Checked {
        let now = self.world.env.clock.wall();
        self.model.check(&self.broker, now, &Losses::default()).await.map(|_| ())
    }

    /// Cuts the power, and goes on with what is left.
    pub(crate) async fn power_cut(&mut self) -> Checked {
        self.world.machine.power_cut();
        self.restart().await
    }

    async fn step(&mut self, step: Step) -> Checked {
        self.begin(step);
        for _ in 0..300 {
            let done = self.attempt(step).await?;
            self.pass(Duration::from_secs(1)).await?;
            if done {
                return Ok(());
            }
        }
        Err("the client does not get on".to_owned())
    }

    /// Lets time pass, and everybody do their work. Starts again when the machine has gone off.
    async fn pass(&mut self, time: Duration) -> Checked {
        self.world.settle().await;
        self.world.clock.advance(time);
        self.world.settle().await;
        if self.world.machine.is_off() { self.restart().await } else { Ok(()) }
    }

    async fn restart(&mut self) -> Checked {
        for _ in 0..10 {
            self.restarts += 1;
            self.world.machine.kill();
            // What ran on the machine ends.
            self.world.settle().await;
            self.at_start.drain(..).for_each(|fault| self.world.machine.plan(fault));
            match self.world.try_start().await {
                Ok(broker) => self.broker = broker,
                Err(_) if self.world.machine.is_off() => continue,
                Err(error) => return Err(format!("it does not start: {error}")),
            }
            self.world.settle().await;
            match self.check().await {
                Err(_) if self.world.machine.is_off() => {}
                checked => return checked.map_err(|why| format!("after a restart: {why}")),
            }
        }
        Err("it does not start".to_owned())
    }

    /// Notes what is asked for.
    fn begin(&mut self, step: Step) {
        let wall = self.world.env.clock.wall();
        let topics = &mut self.model.topics;
        match step {
            Step::Create { topic, partitions, keep_ms } => {
                let topic = topics.entry(topic.to_owned()).or_default();
                topic.is_there.ask(true);
                topic.partitions = Asked::default();
                topic.partitions.ask(partitions);
                topic.keep_ms = Asked::default();
                topic.keep_ms.ask(keep_ms);
                topic.logs = (0..partitions).map(|index| (index, Default::default())).collect();
            }
            Step::Drop { topic: name } => {
                topics.get_mut(name).unwrap().is_there.ask(false);
                let committed = self.model.committed.iter_mut();
                let of_topic = committed.filter(|((topic, _), _)| topic == name);
                of_topic.for_each(|(_, committed)| committed.ask(None));
            }
            Step::Grow { topic, partitions } => {
                let topic = topics.get_mut(topic).unwrap();
                topic.partitions.ask(partitions);
                for index in 0..partitions {
                    topic.logs.entry(index).or_default();
                }
            }
            Step::Keep { topic, ms } => topics.get_mut(topic).unwrap().keep_ms.ask(Some(ms)),
            Step::Send { to, count, size, idempotent } => {
                for _ in 0..count {
                    self.compose(to, size, idempotent, wall);
                }
            }
            Step::Commit { of: (topic, index) } => {
                let end = self.model.topics[topic].logs[&index].end();
                let committed = self.model.committed.entry((topic.to_owned(), index));
                committed.or_default().ask(Some(end));
            }
            Step::Delete { from: (topic, index) } => {
                let log = topics.get_mut(topic).unwrap().logs.get_mut(&index).unwrap();
                log.start.1 = log.end() / 2;
            }
            Step::SetUpGroups | Step::Repeat { .. } | Step::Pass { .. } => {}
        }
    }

    fn compose(&mut self, to: (&'static str, i32), size: usize, idempotent: bool, time: Timestamp) {
        self.numbers += 1;
        let value = format!("{}-{} {}:{}", to.0, to.1, self.numbers, "x".repeat(size));
        let sequence = idempotent.then(|| {
            let next = self.sequences.entry(to).or_default();
            *next += 1;
            *next - 1
        });
        let log = self.model.topics.get_mut(to.0).unwrap().logs.get_mut(&to.1).unwrap();
        log.sent.push(Sent { value, time, tries: 0, sequence, at: None });
    }

    /// Whether the step is done.
    async fn attempt(&mut self, step: Step) -> Checked<bool> {
        match step {
            Step::Create { topic, partitions, keep_ms } => {
                self.create(topic, partitions, keep_ms).await
            }
            Step::Drop { topic } => self.drop(topic).await,
            Step::Grow { topic, partitions } => {
                match self.broker.add_partitions(topic, partitions, None, false).await {
                    Ok(()) => {}
                    // It was made before, and the answer did not come.
                    Err(TopicError::Partitions(PartitionsError::NotMore { .. })) => {}
                    Err(TopicError::Metadata(_)) => return Ok(false),
                    Err(error) => return Err(error.to_string()),
                }
                self.model.topics.get_mut(topic).unwrap().partitions.ack();
                Ok(true)
            }
            Step::Keep { topic, ms } => {
                let target = ConfigTarget::Topic(topic.to_owned());
                let config = vec![("retention.ms".to_owned(), ms.to_string())];
                let done = self.broker.replace_configs(&target, config, false).await.is_ok();
                if done {
                    self.model.topics.get_mut(topic).unwrap().keep_ms.ack();
                }
                Ok(done)
            }
            Step::SetUpGroups => Ok(self.broker.set_up_groups().await.is_ok()),
            Step::Send { to, .. } => self.send(to).await,
            Step::Repeat { to } => self.repeat(to).await,
            Step::Commit { of: (topic, index) } => {
                let key = (topic.to_owned(), index);
                let end = self.model.topics[topic].logs[&index].end();
                let done = commit_on(&self.broker, topic, index, Offset(end)).await.is_some();
                if done {
                    self.model.committed.get_mut(&key).unwrap().ack();
                }
                Ok(done)
            }
            Step::Delete { from } => self.delete(from).await,
            Step::Pass { minutes } => {
                self.pass(Duration::from_mins(minutes)).await?;
                Ok(true)
            }
        }
    }

    async fn create(
        &mut self,
        name: &'static str,
        partitions: i32,
        keep_ms: Option<i64>,
    ) -> Checked<bool> {
        let keep = keep_ms.map(|ms| ("retention.ms".to_owned(), Some(ms.to_string())));
        let request = TopicRequest {
            name: name.to_owned(),
            partitions: Some(partitions),
            configs: keep.into_iter().collect(),
            ..TopicRequest::default()
        };
        match self.broker.create_topic(request, false).await {
            Ok(_) | Err(TopicError::Create(CreateError::Exists)) => {}
            Err(TopicError::Metadata(_)) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
        self.sequences.retain(|(topic, _), _| *topic != name);
        let topic = self.model.topics.get_mut(name).unwrap();
        topic.is_there.ack();
        topic.partitions.ack();
        topic.keep_ms.ack();
        Ok(true)
    }

    async fn drop(&mut self, name: &'static str) -> Checked<bool> {
        match self.broker.delete_topic(TopicRef::Name(name)).await {
            Ok(_) | Err(TopicError::NoTopic) => {}
            Err(TopicError::Metadata(_)) => return Ok(false),
            Err(error) => return Err(error.to_string()),
        }
        self.model.topics.get_mut(name).unwrap().is_there.ack();
        // Offsets go with their topic.
        for ((topic, _), committed) in &mut self.model.committed {
            if topic == name {
                *committed = Asked::default();
            }
        }
        Ok(true)
    }

    /// Sends what is not acknowledged, several batches at a time.
    async fn send(&mut self, to: (&'static str, i32)) -> Checked<bool> {
        let Some(producer) = self.producer().await else { return Ok(false) };
        let log = &self.model.topics[to.0].logs[&to.1];
        let left = (0..log.sent.len()).filter(|at| log.sent[*at].at.is_none());
        let left: Vec<_> = left.take(IN_FLIGHT_MAX).collect();
        if left.is_empty() {
            return Ok(true);
        }
        let mut flying = Vec::new();
        for number in left {
            match self.append(to, number, producer).await? {
                Some((at, newest)) => flying.push((number, at, newest)),
                None => break,
            }
        }
        for (number, at, newest) in flying {
            if self.broker.wait_durable(newest).await.is_err() {
                return Ok(false);
            }
            let log = self.model.topics.get_mut(to.0).unwrap().logs.get_mut(&to.1).unwrap();
            log.sent[number].at = Some(at);
        }
        let log = &self.model.topics[to.0].logs[&to.1];
        Ok(log.sent.iter().all(|sent| sent.at.is_some()))
    }

    async fn producer(&mut self) -> Option<ProducerId> {
        if self.producer.is_none() {
            self.producer = self.broker.new_producer_id().await.ok();
        }
        self.producer
    }

    /// Where a batch comes to lie, if it is taken, and what must be durable then.
    async fn append(
        &mut self,
        to: (&'static str, i32),
        number: usize,
        producer: ProducerId,
    ) -> Checked<Option<(i64, Newest)>> {
        let log = self.model.topics.get_mut(to.0).unwrap().logs.get_mut(&to.1).unwrap();
        let batch = &mut log.sent[number];
        batch.tries += 1;
        let mut builder = BatchBuilder::new();
        if let Some(sequence) = batch.sequence {
            builder = builder.producer(producer, ProducerEpoch(0), sequence);
        }
        builder.append(batch.time, None, Some(batch.value.as_bytes()), &[]);
        let records = builder.build().unwrap();
        let Some(topic) = self.broker.topic(TopicRef::Name(to.0)) else {
            return Err(format!("{} is gone", to.0));
        };
        let how = millstream_broker::Sent { now: self.world.env.clock.wall(), ..sent(&records) };
        match self.broker.append(&topic, to.1, &records, how).await {
            Ok(appended) => {
                let newest = Newest::At(appended.session, appended.end);
                Ok(Some((appended.base_offset.0, newest)))
            }
            Err(ProduceError::Append(
                AppendError::SessionOver(_)
                | AppendError::OutOfTurn { .. }
                | AppendError::Full
                | AppendError::DiskFull,
            )) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn repeat(&mut self, to: (&'static str, i32)) -> Checked<bool> {
        let Some(producer) = self.producer().await else { return Ok(false) };
        let number = self.model.topics[to.0].logs[&to.1].sent.len() - 1;
        let Some((at, newest)) = self.append(to, number, producer).await? else {
            return Ok(false);
        };
        let before = self.model.topics[to.0].logs[&to.1].sent[number].at;
        if before != Some(at) {
            return Err(format!("a retry of {before:?} is at {at}"));
        }
        Ok(self.broker.wait_durable(newest).await.is_ok())
    }

    async fn delete(&mut self, (name, index): (&'static str, i32)) -> Checked<bool> {
        let log = self.model.topics.get_mut(name).unwrap().logs.get_mut(&index).unwrap();
        let Some(topic) = self.broker.topic(TopicRef::Name(name)) else {
            return Err(format!("{name} is gone"));
        };
        match self.broker.delete_records(&topic, index, Some(Offset(log.start.1))) {
            Ok((start, newest)) => {
                if self.broker.wait_durable(newest).await.is_err() {
                    return Ok(false);
                }
                log.start.0 = start.0.min(log.start.1);
                Ok(true)
            }
            // The disk or the session has failed.
            Err(_) => Ok(false),
        }
    }
}
