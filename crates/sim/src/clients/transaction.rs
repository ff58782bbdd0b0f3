//! A transactional producer of either protocol: what it does in one transaction, with retries, and what it
//! can know of how that ended.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_env::Dice;
use millstream_testkit::history::{Client, Group, Kind, Operation, Outcome, Place, Step, Value};
use millstream_types::{Offset, ProducerEpoch, ProducerId};
use millstream_wire::messages::add_offsets_to_txn_request::AddOffsetsToTxnRequest;
use millstream_wire::messages::add_partitions_to_txn_request::{
    AddPartitionsToTxnRequest, AddPartitionsToTxnTopic,
};
use millstream_wire::messages::end_txn_request::EndTxnRequest;
use millstream_wire::messages::init_producer_id_request::InitProducerIdRequest;
use millstream_wire::messages::produce_request::ProduceRequest;
use millstream_wire::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequest, TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use millstream_wire::{ErrorCode, Request};

use super::batches::{BatchKind, Producer, batch, compression};
use super::offsets::find_coordinators;
use super::producer::request;
use crate::drive::Topic;
use crate::history::partition;
use crate::rpc::{Link, Lost, version};
use crate::trace::note;
use crate::world::World;

/// How often the same request is tried before a producer gives up.
const TRIES_MAX: u32 = 8;

/// A transactional producer.
pub(crate) struct Writer {
    pub(crate) world: Arc<World>,
    pub(crate) dice: Dice,
    pub(crate) name: String,
    pub(crate) client: Client,
    /// Whether what it does goes into the history: not where compaction takes away what it wrote.
    pub(crate) is_judged: bool,
    /// The transactional id.
    id: String,
    /// Whether it speaks the first protocol.
    first_protocol: bool,
    produce: i16,
    timeout_ms: i32,
    patience: Duration,
    link: Option<Link>,
    producer: Option<Producer>,
    /// Who it was before, for who wants to go on from there (KIP-360).
    former: Option<Producer>,
    sequences: BTreeMap<(usize, i32), i32>,
}

/// Values with their keys, if they have any.
pub(crate) type Records = Vec<(Option<Vec<u8>>, Value)>;

/// The next offset that a group is to read in a partition.
#[derive(Clone, Debug)]
pub(crate) struct NextOffset {
    pub(crate) group: (&'static str, Group),
    pub(crate) topic: Topic,
    pub(crate) index: i32,
    pub(crate) next: Offset,
}

/// What a transaction is to consist of.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Batches, and where they go.
    pub(crate) batches: Vec<(Topic, i32, Records)>,
    pub(crate) offsets: Option<NextOffset>,
    /// Whether it is to be committed.
    pub(crate) commit: bool,
    /// The producer is gone after so many requests, without a word.
    pub(crate) crash_after: Option<u64>,
}

/// Why a transaction does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stopped {
    /// It has crashed, or has tried for too long.
    GaveUp,
    /// It was told that it can't.
    Told(ErrorCode),
}

impl Writer {
    pub(crate) fn new(world: &Arc<World>, role: &str, id: String) -> Self {
        let (world, mut dice) = (Arc::clone(world), world.dice());
        let client = world.history.client();
        let name = format!("{role} {}", client.0);
        let first_protocol = dice.chance(110);
        let (least, most) = if first_protocol { (3, 11) } else { (12, 13) };
        let produce = version::<ProduceRequest>(&mut dice, least, most);
        let timeout_ms = 1_000 + i32::try_from(dice.below(20_000)).unwrap_or_default();
        let patience = Duration::from_millis(300 + dice.below(8_000));
        note!(world, "{name}: {id}, first protocol {first_protocol}, version {produce}");
        Self {
            world,
            dice,
            name,
            client,
            is_judged: true,
            id,
            first_protocol,
            produce,
            timeout_ms,
            patience,
            link: None,
            producer: None,
            former: None,
            sequences: BTreeMap::new(),
        }
    }

    /// Whether it is a producer now, so that a transaction can begin.
    pub(crate) const fn is_ready(&self) -> bool {
        self.producer.is_some()
    }

    /// Becomes the producer of its id, and so fences whoever was.
    pub(crate) async fn init(&mut self) -> bool {
        self.sequences.clear();
        let expected = self.former.take().filter(|_| self.dice.chance(128));
        let request = InitProducerIdRequest {
            transactional_id: Some(self.id.clone().into()),
            transaction_timeout_ms: self.timeout_ms,
            producer_id: expected.map_or(-1, |it| it.id.0),
            producer_epoch: expected.map_or(-1, |it| it.epoch.0),
            ..InitProducerIdRequest::default()
        };
        let versions = if expected.is_some() { (3, 5) } else { (0, 5) };
        let answer = self.call(&request, versions, &mut None, &mut 0, |it| it.error_code).await;
        match answer {
            Ok(answer) => {
                let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                let producer = Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) };
                note!(self.world, "{}: is {producer:?}", self.name);
                self.producer = Some(producer);
                true
            }
            Err(stopped) => {
                note!(self.world, "{}: no producer: {stopped:?}", self.name);
                false
            }
        }
    }

    /// Carries a transaction out, and writes down what became of it. The steps that were tried.
    pub(crate) async fn transact(&mut self, wanted: Wanted) -> (Outcome, Vec<Step>) {
        let Some(producer) = self.producer else { return (Outcome::Failed, Vec::new()) };
        let begun = self.world.history.moment();
        let mut crash = wanted.crash_after;
        let mut steps = Vec::new();
        let written = self.write(producer, &wanted, &mut crash, &mut steps).await;
        let commit = wanted.commit && written.is_ok();
        let committing = commit.then(|| self.world.history.moment());
        let outcome = match written {
            Ok(()) => self.end(producer, commit, &mut crash).await,
            // A producer that is not gone aborts what it can't complete.
            Err(Stopped::Told(error)) if !is_fenced(error) => {
                note!(self.world, "{}: can't write: {error:?}", self.name);
                self.end(producer, false, &mut crash).await;
                self.forget();
                Outcome::Failed
            }
            Err(stopped) => {
                note!(self.world, "{}: stops writing: {stopped:?}", self.name);
                self.forget();
                Outcome::Failed
            }
        };
        note!(self.world, "{}: {outcome:?}, {} steps", self.name, steps.len());
        let (client, ended) = (self.client, self.world.history.moment());
        let kind = Kind::Transaction { first_protocol: self.first_protocol, committing };
        self.world.count(match outcome {
            Outcome::Succeeded => "transactions committed",
            Outcome::Failed => "transactions aborted",
            Outcome::Unknown => "transactions unknown",
        });
        if self.is_judged {
            let steps = steps.clone();
            self.world.history.push(Operation { client, begun, ended, kind, outcome, steps });
        }
        (outcome, steps)
    }

    /// Writes all of it. What was acknowledged, and what was tried, is in `steps`.
    async fn write(
        &mut self,
        producer: Producer,
        wanted: &Wanted,
        crash: &mut Option<u64>,
        steps: &mut Vec<Step>,
    ) -> Result<(), Stopped> {
        if self.first_protocol {
            for (topic, index, _) in &wanted.batches {
                self.add_partition(producer, topic, *index, crash).await?;
            }
        }
        for (topic, index, records) in &wanted.batches {
            let at = partition(topic.number, *index);
            let first = steps.len();
            steps.extend(records.iter().map(|(_, value)| Step::Send {
                partition: at,
                value: *value,
                offset: None,
            }));
            let base = self.send(producer, topic, *index, records, crash).await?;
            for (step, delta) in steps.iter_mut().skip(first).zip(0..) {
                if let Step::Send { offset, .. } = step {
                    *offset = Some(Offset(base.0 + delta));
                }
            }
        }
        if let Some(offsets) = &wanted.offsets {
            let partition = partition(offsets.topic.number, offsets.index);
            let place = Place { partition, offset: offsets.next };
            steps.push(Step::Commit { group: offsets.group.1, place });
            self.commit_offsets(producer, offsets, crash).await?;
        }
        Ok(())
    }

    async fn add_partition(
        &mut self,
        producer: Producer,
        topic: &Topic,
        index: i32,
        crash: &mut Option<u64>,
    ) -> Result<(), Stopped> {
        let partitions =
            AddPartitionsToTxnTopic { name: topic.name.into(), partitions: vec![index] };
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone().into(),
            v3_and_below_producer_id: producer.id.0,
            v3_and_below_producer_epoch: producer.epoch.0,
            v3_and_below_topics: vec![partitions],
            ..AddPartitionsToTxnRequest::default()
        };
        let code = |it: &<AddPartitionsToTxnRequest as Request>::Response| {
            let topic = it.results_by_topic_v3_and_below.first();
            let partition = topic.and_then(|topic| topic.results_by_partition.first());
            partition.map_or(-1, |it| it.partition_error_code)
        };
        self.call(&request, (0, 3), crash, &mut 0, code).await.map(|_| ())
    }

    async fn send(
        &mut self,
        producer: Producer,
        topic: &Topic,
        index: i32,
        records: &Records,
        crash: &mut Option<u64>,
    ) -> Result<Offset, Stopped> {
        let sequence = *self.sequences.entry((topic.number, index)).or_default();
        let compression = compression(&mut self.dice, self.produce);
        let kind = BatchKind { producer: Some(producer), transactional: true, compression };
        let records: Vec<_> = records.iter().map(|(key, value)| (key.as_deref(), *value)).collect();
        let now = self.world.env.clock.wall();
        let made: Result<Bytes, _> = batch(&mut self.dice, &kind, sequence, now, &records);
        let bytes = made.map_err(|why| self.world.violation(why)).map_err(|()| Stopped::GaveUp)?;
        let request = request(topic, index, bytes, Some(&self.id), self.produce);
        let (version, place) = (self.produce, (topic.number, index));
        note!(self.world, "{}: sends {place:?}/{sequence} {records:?}", self.name);
        let code = |it: &<ProduceRequest as Request>::Response| {
            let topic = it.responses.first();
            let partition = topic.and_then(|topic| topic.partition_responses.first());
            partition.map_or(-1, |it| it.error_code)
        };
        let answer = self.call(&request, (version, version), crash, &mut 0, code).await?;
        let next = self.sequences.entry(place).or_default();
        *next += i32::try_from(records.len()).unwrap_or_default();
        let answer = answer.responses.first().and_then(|it| it.partition_responses.first());
        answer.map(|it| Offset(it.base_offset)).ok_or(Stopped::GaveUp)
    }

    async fn commit_offsets(
        &mut self,
        producer: Producer,
        offsets: &NextOffset,
        crash: &mut Option<u64>,
    ) -> Result<(), Stopped> {
        let NextOffset { group: (group, _), topic, index, next } = offsets;
        if self.first_protocol {
            let request = AddOffsetsToTxnRequest {
                transactional_id: self.id.clone().into(),
                producer_id: producer.id.0,
                producer_epoch: producer.epoch.0,
                group_id: (*group).into(),
            };
            self.call(&request, (0, 4), crash, &mut 0, |it| it.error_code).await?;
        }
        let partition = TxnOffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: next.0,
            committed_leader_epoch: -1,
            committed_metadata: Some("".into()),
        };
        let topic = TxnOffsetCommitRequestTopic {
            name: topic.name.into(),
            partitions: vec![partition],
            ..TxnOffsetCommitRequestTopic::default()
        };
        let request = TxnOffsetCommitRequest {
            transactional_id: self.id.clone().into(),
            group_id: (*group).into(),
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            generation_id_or_member_epoch: -1,
            topics: vec![topic],
            ..TxnOffsetCommitRequest::default()
        };
        let versions = if self.first_protocol { (0, 4) } else { (5, 5) };
        let code = |it: &<TxnOffsetCommitRequest as Request>::Response| {
            let topic = it.topics.first();
            let partition = topic.and_then(|topic| topic.partitions.first());
            partition.map_or(-1, |it| it.error_code)
        };
        self.call(&request, versions, crash, &mut 0, code).await.map(|_| ())
    }

    /// Ends it. What can be known of a commit: done, certainly not done, or neither.
    async fn end(&mut self, producer: Producer, commit: bool, crash: &mut Option<u64>) -> Outcome {
        let request = EndTxnRequest {
            transactional_id: self.id.clone().into(),
            producer_id: producer.id.0,
            producer_epoch: producer.epoch.0,
            committed: commit,
        };
        let versions = if self.first_protocol { (0, 4) } else { (5, 5) };
        let mut tries = 0;
        let answer = self.call(&request, versions, crash, &mut tries, |it| it.error_code).await;
        match answer {
            Ok(answer) => {
                if !self.first_protocol {
                    let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                    self.producer =
                        Some(Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) });
                    self.sequences.clear();
                }
                if commit { Outcome::Succeeded } else { Outcome::Failed }
            }
            Err(stopped) => {
                note!(self.world, "{}: end {commit}: {stopped:?} after {tries}", self.name);
                self.forget();
                let refused = matches!(stopped, Stopped::Told(_)) && tries == 1;
                if !commit || tries == 0 || refused { Outcome::Failed } else { Outcome::Unknown }
            }
        }
    }

    /// Is no producer any more: what it began may still be open.
    fn forget(&mut self) {
        self.former = self.producer.take();
        self.sequences.clear();
        if self.dice.chance(128) {
            self.link = None;
        }
    }

    /// Asks until there is an answer that says something. `tries` counts how often it was sent.
    async fn call<R: Request + Sync>(
        &mut self,
        request: &R,
        (least, most): (i16, i16),
        crash: &mut Option<u64>,
        tries: &mut u32,
        code: impl Fn(&R::Response) -> i16,
    ) -> Result<R::Response, Stopped>
    where
        R::Response: Send,
    {
        let version = version::<R>(&mut self.dice, least, most);
        while *tries < TRIES_MAX {
            match crash {
                Some(0) => return Err(Stopped::GaveUp),
                Some(left) => *left -= 1,
                None => {}
            }
            let mut link = match self.link.take() {
                Some(link) => link,
                None => Link::open_soon(&self.world, &self.name, self.patience).await,
            };
            *tries += 1;
            let answer = match link.call(request, version).await {
                Ok(answer) => answer,
                Err(Lost) => {
                    note!(self.world, "{}: {} is lost", self.name, R::NAME);
                    self.world.nap(Duration::from_millis(300)).await;
                    continue;
                }
            };
            self.link = Some(link);
            let error = ErrorCode::or_unknown(code(&answer));
            if error == ErrorCode::None {
                return Ok(answer);
            }
            note!(self.world, "{}: {} {error:?}", self.name, R::NAME);
            if !error.retriable() {
                return Err(Stopped::Told(error));
            }
            if matches!(error, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
                let found = match &mut self.link {
                    Some(link) => find_coordinators(link, &self.id).await,
                    None => Err(Lost),
                };
                self.link = self.link.take().filter(|_| found.is_ok());
            }
            self.world.nap(Duration::from_millis(400)).await;
        }
        Err(Stopped::GaveUp)
    }
}

/// Whether a producer is told that another one has taken its place.
const fn is_fenced(error: ErrorCode) -> bool {
    matches!(
        error,
        ErrorCode::ProducerFenced
            | ErrorCode::InvalidProducerEpoch
            | ErrorCode::InvalidProducerIdMapping
    )
}

/// Writes transactions over all partitions of a topic until it is told to come to an end.
pub(crate) async fn run(world: Arc<World>, topic: Topic, id: String) {
    let mut writer = Writer::new(&world, "writer", id);
    let pace = world.plan.run_time / 12;
    while !world.is_closing() {
        world.nap(pace).await;
        if !writer.is_ready() && !writer.init().await {
            continue;
        }
        let wanted = draw(&mut writer, &topic);
        writer.transact(wanted).await;
    }
}

fn draw(writer: &mut Writer, topic: &Topic) -> Wanted {
    let dice = &mut writer.dice;
    let many = u64::try_from(topic.partitions).unwrap_or(1);
    let mut wanted = Wanted { commit: dice.chance(190), ..Wanted::default() };
    wanted.crash_after = dice.chance(30).then(|| dice.below(8));
    for _ in 0..1 + dice.below(4) {
        let index = i32::try_from(dice.below(many)).unwrap_or_default();
        let records = (0..1 + dice.below(3)).map(|_| (None, writer.world.history.value()));
        wanted.batches.push((topic.clone(), index, records.collect()));
    }
    wanted
}
