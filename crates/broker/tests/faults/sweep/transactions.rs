//! Transactions whatever the disk does: all or nothing, over partitions and offsets, and what was
//! answered stays so.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use millstream_broker::groups::{
    Command as OnGroup, Commit, CommitPartition, CommitTopic, FetchTopic, Reader, Reply as OfGroup,
    Speaker,
};
use millstream_broker::log::Isolation;
use millstream_broker::txn::{AddPartitions, Command, End, Init, Producer, Reply};
use millstream_broker::{Broker, ConfigTarget, Newest, TopicError};
use millstream_env::disk::{Fault, FaultAt, Operation, SimDisk};
use millstream_record::BatchBuilder;
use millstream_record::control::{ControlRecord, Outcome};
use millstream_types::{LeaderEpoch, Offset, ProducerId, Timestamp};

use super::model::Checked;
use super::{FAILURES, assert_none, run, sweep};
use crate::compaction::{internal_records, pass_minutes};
use crate::world::{World, create, sent, topic};

const ID: &str = "the-id";
const GROUP: &str = "g";
const TOPICS: [&str; 2] = ["a", "b"];
const TRANSACTIONS: i64 = 24;

/// How a transaction ended, as far as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Committed,
    Aborted,
    Unknown,
}

struct Client {
    world: World,
    broker: Broker,
    producer: Option<Producer>,
    sequences: BTreeMap<&'static str, i32>,
    known: BTreeMap<i64, Known>,
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

impl Client {
    async fn new(machine: Arc<SimDisk>) -> Checked<Self> {
        let world = World { machine, ..World::new(1) };
        let broker = start(&world).await?;
        let (sequences, known) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { world, broker, producer: None, sequences, known })
    }

    /// Tries until it works, as clients do.
    async fn until<T>(&mut self, attempt: impl AsyncFn(&mut Self) -> Option<T>) -> Checked<T> {
        for _ in 0..300 {
            let done = attempt(self).await;
            self.pass().await?;
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Err("the client does not get on".to_owned())
    }

    /// Lets time pass, and everybody do their work. Starts again when the machine has gone off.
    async fn pass(&mut self) -> Checked {
        self.world.settle().await;
        self.world.clock.advance(Duration::from_secs(1));
        self.world.settle().await;
        if self.world.machine.is_off() { self.restart().await } else { Ok(()) }
    }

    async fn restart(&mut self) -> Checked {
        self.world.machine.kill();
        // What ran on the machine ends.
        self.world.settle().await;
        self.broker = start(&self.world).await?;
        Ok(())
    }

    async fn ask(&self, command: Command) -> Option<Reply> {
        self.broker.transaction(command).await.ok()
    }

    /// Becomes the producer, and so ends what is open.
    async fn init(&mut self) -> Checked {
        let producer = self
            .until(async |client| {
                client.broker.set_up_transactions().await.ok()?;
                let (id, timeout_ms) = (Arc::from(ID), 600_000);
                let init = Init { id, timeout_ms, expected: None, fresh: None };
                match client.ask(Command::Init(init)).await? {
                    Reply::Init(Ok(producer)) => Some(producer),
                    _ => None,
                }
            })
            .await?;
        self.producer = Some(producer);
        self.sequences.clear();
        Ok(())
    }

    async fn create_topics(&mut self) -> Checked {
        for name in TOPICS {
            self.until(async |client| match create(&client.broker, name).await {
                Ok(()) | Err(TopicError::Create(_)) => Some(()),
                Err(_) => None,
            })
            .await?;
        }
        Ok(())
    }

    async fn run(&mut self, numbers: Range<i64>) -> Checked {
        for number in numbers {
            if self.producer.is_none() {
                self.init().await?;
            }
            self.known.insert(number, Known::Unknown);
            match self.transaction(number).await {
                Some(how) => {
                    self.known.insert(number, how);
                }
                None => self.producer = None,
            }
            self.pass().await?;
        }
        Ok(())
    }

    /// One transaction; `None` when its producer can't know how it ended.
    async fn transaction(&mut self, number: i64) -> Option<Known> {
        self.write(number).await?;
        self.end(number).await
    }

    /// The records and the offset of a transaction. Every other one is of the second protocol.
    async fn write(&mut self, number: i64) -> Option<()> {
        let Producer { id, epoch } = self.producer?;
        let v2 = number % 2 == 1;
        let offsets = self.broker.offsets_partition(GROUP)?;
        let written = TOPICS.map(|name| (Arc::<str>::from(name), 0));
        if !v2 {
            let partitions = written.iter().cloned().chain([offsets.clone()]).collect();
            let (id_of, verify_only) = (Arc::from(ID), false);
            let add = AddPartitions { id: id_of, producer: id, epoch, partitions, verify_only, v2 };
            match self.ask(Command::AddPartitions(add)).await? {
                Reply::AddPartitions(Ok(_)) => {}
                _ => return None,
            }
        }
        let mut newest = Newest::default();
        for name in TOPICS {
            let named = std::iter::once((Arc::from(name), 0));
            self.broker.enlist(ID, (id, epoch), named, v2).ok()?;
            let sequence = self.sequences.entry(name).or_default();
            let mut batch = BatchBuilder::new().producer(id, epoch, *sequence).transactional();
            batch.append(Timestamp(1_000), None, Some(number.to_string().as_bytes()), &[]);
            *sequence += 1;
            let records = batch.build().unwrap();
            let to = topic(&self.broker, name);
            let appended = self.broker.append(&to, 0, &records, sent(&records)).await.ok()?;
            newest.add(appended.session, appended.end);
        }
        self.broker.enlist(ID, (id, epoch), std::iter::once(offsets), v2).ok()?;
        let commit = OnGroup::CommitWithin(id, epoch, committed(number + 1));
        match self.broker.group(GROUP, commit).await.ok()? {
            OfGroup::Commit(Ok(_)) => {}
            _ => return None,
        }
        self.broker.wait_durable(newest).await.ok()
    }

    async fn end(&mut self, number: i64) -> Option<Known> {
        let Producer { id, epoch } = self.producer?;
        let v2 = number % 2 == 1;
        let commit = number % 3 != 2;
        let end = End { id: Arc::from(ID), producer: id, epoch, commit, v2, fresh: None };
        let Reply::End(Ok(producer)) = self.ask(Command::End(end)).await? else { return None };
        if producer.epoch != epoch {
            self.sequences.clear();
        }
        self.producer = Some(producer);
        Some(if commit { Known::Committed } else { Known::Aborted })
    }

    /// After everything, and another start: what readers of committed data see.
    async fn check(&mut self) -> Checked {
        self.world.machine.power_cut();
        self.restart().await?;
        self.init().await?;
        let [a, b] = TOPICS.map(|name| topic(&self.broker, name));
        let (a, b) = (read_committed(&a).await?, read_committed(&b).await?);
        if a != b {
            return Err(format!("torn: {a:?} and {b:?}"));
        }
        let once: BTreeSet<_> = a.iter().collect();
        if once.len() != a.len() || !a.is_sorted() {
            return Err(format!("twice, or out of order: {a:?}"));
        }
        for (number, known) in &self.known {
            match known {
                Known::Committed if !once.contains(number) => {
                    return Err(format!("{number} was committed and is lost: {a:?}"));
                }
                Known::Aborted if once.contains(number) => {
                    return Err(format!("{number} was aborted and is there: {a:?}"));
                }
                _ => {}
            }
        }
        let offset = self.offset().await?;
        let last = a.last().map(|number| number + 1);
        if offset != last {
            return Err(format!("the offset is {offset:?}, and {last:?} was committed with {a:?}"));
        }
        Ok(())
    }

    async fn offset(&self) -> Checked<Option<i64>> {
        let asked = [FetchTopic { name: Arc::from("a"), id: None, partitions: vec![0] }];
        let offsets =
            self.broker.group_offsets(GROUP, &Reader::default(), Some(&asked), true).await;
        let offsets = offsets.map_err(text)?.map_err(|refused| format!("{refused:?}"))?;
        let fetched = offsets[0].1[0].committed.clone();
        Ok(fetched.map_err(|error| format!("{error:?}"))?.map(|committed| committed.offset.0))
    }
}

async fn start(world: &World) -> Checked<Broker> {
    for _ in 0..10 {
        match world.try_start().await {
            Ok(broker) => return Ok(broker),
            Err(_) if world.machine.is_off() => world.machine.kill(),
            Err(error) => return Err(format!("it does not start: {error}")),
        }
    }
    Err("it does not start".to_owned())
}

fn committed(offset: i64) -> Commit {
    let partition = CommitPartition {
        index: 0,
        offset: Offset(offset),
        leader_epoch: LeaderEpoch::NONE,
        metadata: Arc::from(""),
    };
    let (group, member) = (Arc::from(GROUP), Arc::from(""));
    Commit {
        speaker: Speaker { group, member, instance: None, generation: -1 },
        speaks_epochs: true,
        retention_ms: None,
        topics: vec![CommitTopic { name: Arc::from("a"), id: None, partitions: vec![partition] }],
    }
}

/// What a consumer of committed data makes of a partition, which must have nothing open.
async fn read_committed(topic: &millstream_broker::Topic) -> Checked<Vec<i64>> {
    let partition = topic.partition(0).unwrap();
    let ends = partition.ends();
    if ends.last_stable != ends.high_watermark {
        return Err(format!("{} has a transaction that is open: {ends:?}", topic.name));
    }
    let mut values = Vec::new();
    let mut aborted: Vec<(ProducerId, Offset)> = Vec::new();
    let mut within: BTreeSet<ProducerId> = BTreeSet::new();
    let mut next = ends.log_start;
    while next < ends.last_stable {
        let slice =
            partition.read(next, 1 << 20, true, Isolation::Committed).await.map_err(text)?;
        aborted.extend(slice.aborted);
        for batch in slice.batches {
            let header = batch.header().map_err(text)?;
            next = header.last_offset().next();
            let begun = aborted.iter().filter(|(_, first)| *first <= header.base_offset);
            within.extend(begun.map(|(producer, _)| *producer));
            aborted.retain(|(_, first)| *first > header.base_offset);
            let records = batch.records(1 << 20).map_err(text)?;
            for record in &records {
                let record = record.map_err(text)?;
                if header.attributes.is_control() {
                    let control = ControlRecord::decode(&record).map_err(text)?;
                    if matches!(control, ControlRecord::EndTransaction(end) if end.outcome == Outcome::Abort)
                    {
                        within.remove(&header.producer_id);
                    }
                } else if !within.contains(&header.producer_id) {
                    let value = std::str::from_utf8(record.value.unwrap()).unwrap();
                    values.push(value.parse().unwrap());
                }
            }
        }
    }
    Ok(values)
}

/// Without a fault: the operations that the workload does.
async fn operations() -> u64 {
    let mut client = Client::new(SimDisk::new(0)).await.unwrap();
    client.create_topics().await.unwrap();
    client.run(0..TRANSACTIONS).await.unwrap();
    let operations = client.world.machine.operations();
    assert!(client.known.values().all(|known| *known != Known::Unknown), "{:?}", client.known);
    client.check().await.unwrap();
    operations
}

async fn with_fault(at: u64, seed: u64, (on, fault): (Operation, Fault)) -> Checked {
    let machine = SimDisk::new(seed * 7 + at);
    let mut client = Client::new(machine).await?;
    client.world.machine.plan(FaultAt { on, after: at, fault });
    client.create_topics().await?;
    client.run(0..TRANSACTIONS).await?;
    client.check().await
}

#[test]
fn transactions_are_all_or_nothing_whatever_the_disk_does() {
    let faults: Vec<_> =
        FAILURES.into_iter().chain([(Operation::Any, Fault::PowerCut); 5]).collect();
    let kinds = faults.len() as u64;
    let count = run(operations()) * kinds;
    assert_none(&sweep(count, u64::MAX, |at, seed| {
        let (fault, at) = (faults[usize::try_from(at % kinds).unwrap()], at / kinds);
        (format!("{fault:?} after {at}, seed {seed}"), run(with_fault(at, seed, fault)))
    }));
}

/// What a coordinator stores is compacted like everything else: what is loaded from what is left is what
/// it knew, also of a transaction that is open and of one that the producer does not know the end of.
#[test]
fn transactions_are_whole_after_their_internal_topics_were_compacted() {
    run(async {
        let mut client = Client::new(SimDisk::new(0)).await.unwrap();
        client.world.compacts = true;
        client.restart().await.unwrap();
        client.create_topics().await.unwrap();
        for name in TOPICS {
            // The records are older than any retention.
            let keep = vec![("retention.ms".to_owned(), "-1".to_owned())];
            let target = ConfigTarget::Topic(name.to_owned());
            client.broker.replace_configs(&target, keep, false).await.unwrap();
        }
        client.run(0..TRANSACTIONS).await.unwrap();
        let internal = ["__transaction_state", "__consumer_offsets"];
        let mut counts = Vec::new();
        for name in internal {
            counts.push(internal_records(&client.broker, name).await);
        }
        // In segments after an hour, and compacted then.
        pass_minutes(&client.world, 70).await;
        for (name, before) in internal.into_iter().zip(counts) {
            let after = internal_records(&client.broker, name).await;
            assert!(before > 20 && after < 5, "{name}: {before} records, then {after}");
        }
        client.world.machine.power_cut();
        client.restart().await.unwrap();
        client.run(TRANSACTIONS..2 * TRANSACTIONS).await.unwrap();
        assert!(client.known.values().all(|known| *known != Known::Unknown), "{:?}", client.known);
        pass_minutes(&client.world, 70).await;
        if client.producer.is_none() {
            client.init().await.unwrap();
        }
        let open = 2 * TRANSACTIONS;
        client.write(open).await.unwrap();
        client.known.insert(open, Known::Aborted);
        client.check().await.unwrap();
    });
}
