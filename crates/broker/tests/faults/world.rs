//! A machine with a simulated disk, and brokers that run on it one after the other.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_broker::log::{AppendError, Isolation};
use millstream_broker::{
    Bounds, Broker, Newest, Node, ProduceError, Sent, StartError, Stores, Topic, TopicError,
    TopicRef, TopicRequest, Want,
};
use millstream_env::disk::SimDisk;
use millstream_env::{DataDir, Env, HandClock, JournalSettings};
use millstream_record::BatchBuilder;
use millstream_types::{
    BrokerId, LeaderEpoch, Monotonic, Offset, ProducerEpoch, ProducerId, Timestamp,
};

/// A machine whose disk can fail.
pub(crate) struct World {
    pub(crate) machine: Arc<SimDisk>,
    pub(crate) env: Env,
    /// What moves the time of `env`, unless that is the real one.
    pub(crate) clock: Arc<HandClock>,
    /// How much of the disk is set aside, in bytes.
    pub(crate) reserve: u64,
    /// Whether there is compaction. Where every offset is accounted for, there is none.
    pub(crate) compacts: bool,
    /// Whether the audit notes everything.
    pub(crate) audits: bool,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let (env, clock) = Env::seeded(seed);
        Self { machine: SimDisk::new(seed), env, clock, reserve: 0, compacts: false, audits: false }
    }

    /// The same on a machine in another world.
    pub(crate) fn on(machine: Arc<SimDisk>, env: Env) -> Self {
        Self { machine, env, ..Self::new(0) }
    }

    /// Starts the program on the machine.
    pub(crate) async fn start(&self) -> Result<Broker, StartError> {
        let dir = DataDir::open_on(self.machine.mount(), self.env.clone(), "sim").unwrap();
        self.start_in(dir).await
    }

    /// The same on a machine that may be damaged anywhere.
    pub(crate) async fn try_start(&self) -> Result<Broker, StartError> {
        match DataDir::open_on(self.machine.mount(), self.env.clone(), "sim") {
            Ok(dir) => self.start_in(dir).await,
            Err(error) => Err(StartError::Stores(error.to_string())),
        }
    }

    async fn start_in(&self, dir: DataDir) -> Result<Broker, StartError> {
        let dir = dir.with_reserve(self.reserve);
        let dir = dir.map_err(|error| StartError::Stores(error.to_string()))?;
        let settings = JournalSettings {
            file_bytes: 64 * 1024,
            files_max: 12,
            reserve_bytes: 16 * 1024,
            ..JournalSettings::default()
        };
        let journals = dir.journals(settings).await;
        let journals = journals.map_err(|error| StartError::Stores(error.to_string()))?;
        let node = Node {
            id: BrokerId(1),
            cluster_id: dir.cluster(),
            host: "here".to_owned(),
            port: 9092,
        };
        let blobs = dir.blobs().map_err(|error| StartError::Stores(error.to_string()))?;
        let (metadata, reserve) = (dir.meta(), dir.reserve());
        let stores = Stores { journals, blobs, metadata, reserve };
        let delay = ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned());
        let transactions = ("transaction.state.log.num.partitions".to_owned(), "2".to_owned());
        let shards = ("offsets.topic.num.partitions".to_owned(), "2".to_owned());
        let compacts = ("log.cleaner.enable".to_owned(), self.compacts.to_string());
        let level = if self.audits { "all" } else { "none" };
        let audits = ("millstream.audit.level".to_owned(), level.to_owned());
        let settings = [delay, shards, transactions, compacts, audits].into();
        Broker::start(self.env.clone(), node, stores, settings).await
    }

    /// Lets everybody work who can, without time passing.
    pub(crate) async fn settle(&self) {
        for _ in 0..200 {
            tokio::task::yield_now().await;
        }
    }

    /// Kills the program and starts it again.
    pub(crate) async fn restart(&self, broker: Broker) -> Broker {
        self.machine.kill();
        drop(broker);
        self.settle().await;
        match self.start().await {
            Ok(broker) => broker,
            Err(error) => panic!("{error}: {:?}", self.machine.files()),
        }
    }
}

pub(crate) async fn create(broker: &Broker, name: &str) -> Result<(), TopicError> {
    let request = TopicRequest { name: name.to_owned(), ..TopicRequest::default() };
    broker.create_topic(request, false).await.map(|_| ())
}

pub(crate) fn names(broker: &Broker) -> Vec<String> {
    broker.topics().iter().map(|topic| topic.name.to_string()).collect()
}

pub(crate) fn topic(broker: &Broker, name: &str) -> Arc<Topic> {
    broker.topic(TopicRef::Name(name)).unwrap()
}

/// All of partition 0 of a topic.
pub(crate) fn want(topic: Arc<Topic>) -> Want {
    Want {
        topic,
        partition: 0,
        from: Offset(0),
        bytes_max: 1 << 20,
        leader_epoch: LeaderEpoch::NONE,
        last_fetched_epoch: LeaderEpoch::NONE,
    }
}

/// Whatever there is, waited for this long.
pub(crate) const fn bounds(wait_max: Duration) -> Bounds {
    Bounds { bytes_min: 1, bytes_max: 1 << 20, wait_max, isolation: Isolation::Uncommitted }
}

/// One record, of an idempotent producer or not.
pub(crate) fn batch(value: &str, producer: Option<(ProducerId, i32)>) -> Bytes {
    let mut batch = BatchBuilder::new();
    if let Some((id, sequence)) = producer {
        batch = batch.producer(id, ProducerEpoch(0), sequence);
    }
    batch.append(Timestamp(1_000), None, Some(value.as_bytes()), &[]);
    batch.build().unwrap()
}

pub(crate) fn sent(records: &Bytes) -> Sent {
    let (now, patience) = (Timestamp(1_000), Monotonic(0));
    Sent { now, full_validation: false, buffer_bytes: records.len(), heavy: false, patience }
}

/// Appends one record and waits until it is durable; `None` when the client has to try again.
pub(crate) async fn produce(broker: &Broker, name: &str, value: &str) -> Option<Offset> {
    send(broker, name, value, None).await
}

/// The same of an idempotent producer.
pub(crate) async fn send(
    broker: &Broker,
    name: &str,
    value: &str,
    producer: Option<(ProducerId, i32)>,
) -> Option<Offset> {
    let records = batch(value, producer);
    match broker.append(&topic(broker, name), 0, &records, sent(&records)).await {
        Ok(appended) => {
            let newest = Newest::At(appended.session, appended.end);
            broker.wait_durable(newest).await.ok().map(|()| appended.base_offset)
        }
        Err(ProduceError::Append(
            AppendError::SessionOver(_)
            | AppendError::OutOfTurn { .. }
            | AppendError::Full
            | AppendError::DiskFull,
        )) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Everything that readers of partition 0 of a topic see.
pub(crate) async fn values(broker: &Broker, name: &str) -> Vec<(Offset, String)> {
    let topic = topic(broker, name);
    let partition = topic.partition(0).unwrap();
    let mut values = Vec::new();
    let mut next = partition.ends().log_start;
    while next < partition.ends().high_watermark {
        let slice = partition.read(next, 1 << 20, true, Isolation::Uncommitted).await.unwrap();
        for batch in slice.batches {
            let base = batch.header().unwrap().base_offset;
            let records = batch.records(1 << 20).unwrap();
            for (record, offset) in records.iter().zip(base.0..) {
                let value = record.unwrap().value.unwrap().to_vec();
                values.push((Offset(offset), String::from_utf8(value).unwrap()));
            }
            next = batch.header().unwrap().last_offset().next();
        }
    }
    values
}
