//! An idempotent producer: several batches on their way, sent again in the same order until they are
//! acknowledged.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_env::Dice;
use millstream_testkit::history::{Client, Moment, Outcome, Step, Value};
use millstream_types::{Offset, ProducerEpoch, ProducerId};
use millstream_wire::messages::init_producer_id_request::InitProducerIdRequest;
use millstream_wire::messages::produce_request::{
    PartitionProduceData, ProduceRequest, TopicProduceData,
};
use millstream_wire::{ErrorCode, Records};

use super::batches::{BatchKind, Producer, batch, compression};
use crate::drive::Topic;
use crate::history::partition;
use crate::rpc::{Link, Lost, version};
use crate::trace::note;
use crate::world::World;

/// Batches of one partition that are on their way at a time: as many as a broker knows the retries of.
const IN_FLIGHT_MAX: usize = 5;

/// The first version in which topics are named by their ids.
pub(crate) const PRODUCE_BY_ID: i16 = 13;

struct Sender {
    world: Arc<World>,
    dice: Dice,
    topic: Topic,
    name: String,
    client: Client,
    version: i16,
    kind: BatchKind,
    /// The next sequence of each partition.
    sequences: Vec<i32>,
    /// What is not acknowledged, in the order in which it is sent.
    unacked: VecDeque<Unacked>,
    /// Batches still to begin.
    left: u64,
}

/// A batch on its way.
struct Unacked {
    partition: i32,
    sequence: i32,
    records: Bytes,
    values: Vec<Value>,
    begun: Moment,
    /// Whether it has its answer.
    acked: bool,
}

/// What became of a batch that was sent.
enum Answer {
    Acked,
    Again,
}

/// Sends batches until it has sent all, or is told to come to an end, and all are acknowledged.
pub(crate) async fn run(world: Arc<World>, topic: Topic) {
    let mut dice = world.dice();
    let client = world.history.client();
    let name = format!("producer {}", client.0);
    let version = version::<ProduceRequest>(&mut dice, 3, 13);
    let producer = init(&world, &name).await;
    note!(world, "{name}: is {producer:?}, version {version}");
    let sequences = vec![0; usize::try_from(topic.partitions).unwrap_or_default()];
    let compression = compression(&mut dice, version);
    let kind = BatchKind { producer: Some(producer), transactional: false, compression };
    let (unacked, left) = (VecDeque::new(), world.plan.batches);
    let mut sender =
        Sender { world, dice, topic, name, client, version, kind, sequences, unacked, left };
    sender.run().await;
}

/// A producer id of one's own.
async fn init(world: &Arc<World>, name: &str) -> Producer {
    loop {
        let mut link = Link::open_soon(world, name, Duration::from_secs(10)).await;
        let request = InitProducerIdRequest { transactional_id: None, ..Default::default() };
        if let Ok(response) = link.call(&request, 4).await
            && response.error_code == 0
        {
            let (id, epoch) = (response.producer_id, response.producer_epoch);
            return Producer { id: ProducerId(id), epoch: ProducerEpoch(epoch) };
        }
        world.nap(Duration::from_millis(500)).await;
    }
}

impl Sender {
    async fn run(&mut self) {
        let patience = Duration::from_millis(500 + self.dice.below(20_000));
        // Some are done at once, others are busy all the time.
        let batches = u32::try_from(self.left).unwrap_or(1);
        let pace = self.world.plan.run_time * 4 / batches * self.dice.below(2) as u32;
        let mut link = None;
        loop {
            let over = self.left == 0 || self.world.is_closing();
            if over && self.unacked.is_empty() {
                return;
            }
            if link.is_none() {
                link = Some(Link::open_soon(&self.world, &self.name, patience).await);
            }
            let Some(open) = &mut link else { continue };
            if self.round(open).await.is_err() {
                note!(self.world, "{}: lost its connection", self.name);
                link = None;
            }
            self.unacked.retain(|it| !it.acked);
            self.world.nap(pace + Duration::from_millis(10)).await;
        }
    }

    /// Sends everything that is not acknowledged, and more, until something has to be sent again.
    async fn round(&mut self, link: &mut Link) -> Result<(), Lost> {
        let mut unsent = self.unacked.len();
        let (mut sent, mut awaited, mut failed) = (0, 0, false);
        loop {
            let is_full = awaited >= IN_FLIGHT_MAX;
            if unsent > 0 && !is_full && !failed {
                self.send(link, sent).await?;
                (unsent, sent, awaited) = (unsent - 1, sent + 1, awaited + 1);
            } else if unsent == 0 && !failed && self.may_begin(is_full) && self.dice.chance(150) {
                self.begin()?;
                unsent = 1;
            } else if awaited > 0 {
                let at = sent - awaited;
                awaited -= 1;
                match self.recv(link, at).await? {
                    Answer::Acked => {}
                    Answer::Again => failed = true,
                }
            } else {
                break;
            }
        }
        Ok(())
    }

    fn may_begin(&self, is_full: bool) -> bool {
        self.left > 0 && !is_full && self.unacked.len() < IN_FLIGHT_MAX && !self.world.is_closing()
    }

    fn begin(&mut self) -> Result<(), Lost> {
        self.left -= 1;
        let many = u64::try_from(self.topic.partitions).unwrap_or(1);
        let at = self.dice.below(many) as usize;
        let (index, sequence) = (i32::try_from(at).unwrap_or_default(), self.sequences[at]);
        let values: Vec<_> =
            (0..1 + self.dice.below(3)).map(|_| self.world.history.value()).collect();
        let records: Vec<_> = values.iter().map(|value| (None, *value)).collect();
        let now = self.world.env.clock.wall();
        let made = batch(&mut self.dice, &self.kind, sequence, now, &records);
        let records = made.map_err(|why| self.world.violation(why)).map_err(|()| Lost)?;
        self.sequences[at] += i32::try_from(values.len()).unwrap_or_default();
        let begun = self.world.history.moment();
        let acked = false;
        self.unacked.push_back(Unacked {
            partition: index,
            sequence,
            records,
            values,
            begun,
            acked,
        });
        Ok(())
    }

    async fn send(&mut self, link: &mut Link, at: usize) -> Result<(), Lost> {
        let Some(batch) = self.unacked.get(at) else { return Err(Lost) };
        let (index, records) = (batch.partition, batch.records.clone());
        note!(self.world, "{}: sends {index}/{} {:?}", self.name, batch.sequence, batch.values);
        let request = request(&self.topic, index, records, None, self.version);
        link.send(&request, self.version).await
    }

    /// Takes the answer to the batch at this place of those not acknowledged.
    async fn recv(&mut self, link: &mut Link, at: usize) -> Result<Answer, Lost> {
        let response = link.recv::<ProduceRequest>(self.version).await?;
        let answer = response.responses.first().and_then(|it| it.partition_responses.first());
        let Some(answer) = answer else {
            self.world.violation("a Produce response without a partition".to_owned());
            return Err(Lost);
        };
        let (error, base) = (ErrorCode::or_unknown(answer.error_code), answer.base_offset);
        let is_head = !self.unacked.iter().take(at).any(|before| {
            !before.acked && self.unacked.get(at).is_some_and(|it| it.partition == before.partition)
        });
        let Some(batch) = self.unacked.get_mut(at) else { return Err(Lost) };
        note!(
            self.world,
            "{}: {}/{} {error:?} at {base}",
            self.name,
            batch.partition,
            batch.sequence
        );
        match error {
            ErrorCode::None => {
                batch.acked = true;
                record(&self.world, self.client, &self.topic, batch, Some(Offset(base)));
                Ok(Answer::Acked)
            }
            // What came before it was refused.
            ErrorCode::OutOfOrderSequenceNumber if !is_head => Ok(Answer::Again),
            error if error.retriable() => Ok(Answer::Again),
            error => {
                let (index, sequence) = (batch.partition, batch.sequence);
                self.world.violation(format!(
                    "{}: the oldest batch of {index} that is not acknowledged, sequence {sequence}, \
                     was refused: {error:?}",
                    self.name
                ));
                self.left = 0;
                self.unacked.clear();
                Err(Lost)
            }
        }
    }
}

fn record(world: &World, client: Client, topic: &Topic, batch: &Unacked, base: Option<Offset>) {
    world.count("batches");
    for (value, delta) in batch.values.iter().zip(0..) {
        let offset = base.map(|base| Offset(base.0 + delta));
        let partition = partition(topic.number, batch.partition);
        let step = Step::Send { partition, value: *value, offset };
        world.history.plain(client, batch.begun, Outcome::Succeeded, step);
    }
}

/// A request with one batch.
pub(crate) fn request(
    topic: &Topic,
    index: i32,
    records: Bytes,
    transactional_id: Option<&str>,
    version: i16,
) -> ProduceRequest {
    let partition = PartitionProduceData { index, records: Some(Records::from(records)) };
    let mut data =
        TopicProduceData { partition_data: vec![partition], ..TopicProduceData::default() };
    if version >= PRODUCE_BY_ID {
        data.topic_id = topic.id;
    } else {
        data.name = topic.name.into();
    }
    ProduceRequest {
        transactional_id: transactional_id.map(|id| id.to_owned().into()),
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![data],
    }
}
