//! Producing: records go into batches by partition, batches to their partitions' leaders.
//!
//! A task sends; [`Producer::send`] only adds to a batch, and waits when the buffer is full.

mod accumulator;
mod delivery;
mod partitioner;
mod sender;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use millstream_record::Compression;
use millstream_types::{ProducerEpoch, ProducerId, Timestamp};
use millstream_wire::InitProducerIdRequest;
use tokio::sync::{Notify, Semaphore};

pub use delivery::{Delivered, Delivery};
pub use partitioner::{murmur2, partition_for_key};

use crate::cluster::{Cluster, Lane, Target, Topic, TopicName, TopicPartition};
use crate::error::Error;
use accumulator::{Accumulator, Identity, Rules};
use partitioner::Sticky;

/// When a batch counts as stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// When it is sent: nothing is heard of it any more.
    None,
    /// When the leader has it.
    Leader,
    /// When all replicas that are in sync have it.
    #[default]
    All,
}

/// How to produce.
#[derive(Clone, Debug)]
pub struct ProducerSettings {
    /// When a batch counts as stored.
    pub acks: Acks,
    /// How batches are compressed.
    pub compression: Compression,
    /// The compression's level; its default for `None`.
    pub compression_level: Option<i32>,
    /// How long a batch waits for more records.
    pub linger: Duration,
    /// A batch is sent when it has this many bytes, before compression.
    pub batch_bytes: usize,
    /// One request has about this many bytes at most.
    pub request_bytes: usize,
    /// How many bytes of records may be on their way.
    pub buffer_bytes: usize,
    /// Whether the broker recognises repetitions, so that nothing is stored twice or out of order.
    /// Needs [`Acks::All`].
    pub idempotent: bool,
    /// How long it is tried to deliver a record.
    pub delivery_timeout: Duration,
    /// How long to wait for a topic that is not there to be created by the broker.
    pub topic_patience: Duration,
}

impl Default for ProducerSettings {
    /// Idempotent, all acknowledgements, uncompressed batches of 256 KiB after 5 ms, a buffer of
    /// 32 MiB, two minutes to deliver, ten seconds for a topic to appear.
    fn default() -> Self {
        Self {
            acks: Acks::All,
            compression: Compression::None,
            compression_level: None,
            linger: Duration::from_millis(5),
            batch_bytes: 256 << 10,
            request_bytes: 4 << 20,
            buffer_bytes: 32 << 20,
            idempotent: true,
            delivery_timeout: Duration::from_secs(120),
            topic_patience: Duration::from_secs(10),
        }
    }
}

/// A record to be produced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRecord {
    /// Where; `None` for the one that the key, or chance, decides.
    pub partition: Option<i32>,
    /// When; `None` for now.
    pub timestamp: Option<Timestamp>,
    /// What partitioning and compaction go by.
    pub key: Option<Bytes>,
    /// The content.
    pub value: Option<Bytes>,
    /// Headers; keys may repeat.
    pub headers: Vec<(Bytes, Option<Bytes>)>,
}

/// Produces records. Cheap to clone. When the last clone is gone, what was sent is still delivered.
#[derive(Clone, Debug)]
pub struct Producer {
    shared: Arc<Shared>,
    _open: Arc<Open>,
}

/// What the producer and its task share.
#[derive(Debug)]
struct Shared {
    cluster: Cluster,
    settings: ProducerSettings,
    state: Mutex<State>,
    /// Wakes the task.
    wake: Notify,
    /// The bytes of the buffer that are free.
    room: Semaphore,
}

#[derive(Debug)]
struct State {
    accumulator: Accumulator,
    sticky: BTreeMap<TopicName, Sticky>,
    closed: bool,
}

/// Closes the producer when it is dropped.
#[derive(Debug)]
struct Open(Arc<Shared>);

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.closed = true;
        // Whoever wants to know the outcomes has the deliveries.
        drop(state.accumulator.flush());
        drop(state);
        self.0.wake.notify_one();
    }
}

impl ProducerRecord {
    /// Bytes that the record takes in the buffer and, at most, in a batch.
    fn reserved(&self) -> usize {
        /// Lengths, deltas and counts of a record, and lengths of a header, at their longest.
        const RECORD_OVERHEAD: usize = 40;
        const HEADER_OVERHEAD: usize = 10;
        let len = |bytes: &Option<Bytes>| bytes.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter();
        let headers: usize =
            headers.map(|(key, value)| key.len() + len(value) + HEADER_OVERHEAD).sum();
        len(&self.key) + len(&self.value) + headers + RECORD_OVERHEAD
    }
}

impl Producer {
    /// A producer to `cluster`; an idempotent one asks for its id.
    ///
    /// # Errors
    ///
    /// When the settings contradict one another, or no id can be had.
    pub async fn new(cluster: Cluster, settings: ProducerSettings) -> Result<Self, Error> {
        if settings.idempotent && settings.acks != Acks::All {
            let why = "an idempotent producer needs the acknowledgement of all replicas (acks=all)";
            return Err(Error::Invalid(why.to_owned()));
        }
        let identity = if settings.idempotent { Some(new_identity(&cluster).await?) } else { None };
        let rules = Rules {
            compression: settings.compression,
            level: settings.compression_level,
            linger: settings.linger,
            batch_bytes: settings.batch_bytes,
            request_bytes: settings.request_bytes,
            // Brokers remember the last five batches of an idempotent producer.
            in_flight_max: if settings.idempotent { 5 } else { 1 },
            delivery_timeout: settings.delivery_timeout,
        };
        let buffer = settings.buffer_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let shared = Arc::new(Shared {
            settings: ProducerSettings { buffer_bytes: buffer, ..settings },
            state: Mutex::new(State {
                accumulator: Accumulator::new(rules, identity),
                sticky: BTreeMap::new(),
                closed: false,
            }),
            wake: Notify::new(),
            room: Semaphore::new(buffer),
            cluster,
        });
        let env = shared.cluster.env();
        env.spawn("producer", sender::run(Arc::clone(&shared)));
        Ok(Self { _open: Arc::new(Open(Arc::clone(&shared))), shared })
    }

    /// Adds a record to the batch of its partition; waits while the buffer is full. The order of
    /// the calls is the order of the records of one partition.
    ///
    /// # Errors
    ///
    /// When the topic or partition is not there, or the record is larger than the buffer.
    pub async fn send(&self, topic: &str, record: ProducerRecord) -> Result<Delivery, Error> {
        let known = self.topic(topic).await?;
        let reserved = record.reserved();
        self.reserve(reserved).await?;
        let env = self.shared.cluster.env();
        let timestamp = record.timestamp.unwrap_or_else(|| env.clock.wall());
        let mut state = self.shared.state();
        let State { accumulator, sticky, .. } = &mut *state;
        let chosen = self.choose(sticky, &known, &record, reserved);
        let partition = match chosen {
            Ok(partition) => TopicPartition { topic: Arc::clone(&known.name), partition },
            Err(error) => {
                self.shared.room.add_permits(reserved);
                return Err(error);
            }
        };
        let now = env.clock.monotonic();
        let (delivery, wake) = accumulator.append(&partition, &record, timestamp, reserved, now);
        drop(state);
        if wake {
            self.shared.wake.notify_one();
        }
        Ok(delivery)
    }

    /// Sends a batch that the caller has made, with its own compression. If it has no producer id
    /// and the producer is idempotent, it gets this producer's; if it has one, it is sent as it is,
    /// and its order among others is the caller's business. The delivery's offset is its first
    /// record's.
    ///
    /// # Errors
    ///
    /// When the batch is larger than the buffer.
    pub async fn send_batch(
        &self,
        partition: &TopicPartition,
        batch: Bytes,
    ) -> Result<Delivery, Error> {
        let reserved = batch.len();
        self.reserve(reserved).await?;
        let now = self.shared.cluster.env().clock.monotonic();
        let delivery =
            self.shared.state().accumulator.append_batch(partition, batch, reserved, now);
        self.shared.wake.notify_one();
        Ok(delivery)
    }

    /// Waits until everything that was sent before has been delivered or has failed.
    ///
    /// # Errors
    ///
    /// The first failure among what was under way.
    pub async fn flush(&self) -> Result<(), Error> {
        let outcomes = self.shared.state().accumulator.flush();
        self.shared.wake.notify_one();
        let mut first = Ok(());
        for outcome in outcomes {
            let result = outcome.wait().await;
            first = first.and(result.as_ref().map(drop).map_err(Error::clone));
        }
        first
    }

    async fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        let Shared { cluster, settings, .. } = &*self.shared;
        match cluster.cached_topic(name) {
            Some(topic) => Ok(topic),
            None => cluster.topic_or_created(name, settings.topic_patience).await,
        }
    }

    async fn reserve(&self, bytes: usize) -> Result<(), Error> {
        let most = self.shared.settings.buffer_bytes;
        let permits = u32::try_from(bytes).ok().filter(|_| bytes <= most).ok_or_else(|| {
            Error::Invalid(format!("a record of {bytes} bytes; the buffer has {most}"))
        })?;
        let room = self.shared.room.acquire_many(permits).await.map_err(|_| Error::Closed)?;
        // Given back when the batch has its outcome.
        room.forget();
        Ok(())
    }

    fn choose(
        &self,
        sticky: &mut BTreeMap<TopicName, Sticky>,
        topic: &Topic,
        record: &ProducerRecord,
        bytes: usize,
    ) -> Result<i32, Error> {
        let count = topic.partitions.len();
        if let Some(partition) = record.partition {
            let there = topic.partition(partition).map(|_| partition);
            return there.ok_or_else(|| {
                Error::Invalid(format!(
                    "topic {} has no partition {partition}: it has {count}, from 0 on",
                    topic.name
                ))
            });
        }
        let none = || Error::NoLeader { what: format!("topic {}", topic.name) };
        if let Some(key) = &record.key {
            return partition_for_key(key, count).ok_or_else(none);
        }
        let batch_bytes = self.shared.settings.batch_bytes;
        let led = |index| topic.partition(index).is_some_and(|p| p.leader.is_some());
        let sticky = sticky.entry(Arc::clone(&topic.name)).or_default();
        if let Some(partition) = sticky.stay(bytes, batch_bytes, led) {
            return Ok(partition);
        }
        let indexes = topic.partitions.iter().map(|partition| partition.index);
        let usable: Vec<_> = indexes.filter(|&index| led(index)).collect();
        let mut drawn = [0; size_of::<usize>()];
        self.shared.cluster.env().random.fill(&mut drawn);
        sticky.change(&usable, bytes, usize::from_ne_bytes(drawn)).ok_or_else(none)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Who panicked with the lock has left nothing half done that matters: the batches are there
        // or they are not.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks for a producer id.
async fn new_identity(cluster: &Cluster) -> Result<Identity, Error> {
    let request = InitProducerIdRequest {
        transactional_id: None,
        // Has a meaning for transactions only.
        transaction_timeout_ms: i32::MAX,
        ..Default::default()
    };
    let mut retry = cluster.retry(Target::Any);
    loop {
        // Version 6 is not stable.
        let call = cluster.call_within(&Target::Any, Lane::Control, &request, 5).await;
        let identity = call.and_then(|answer| {
            Error::check(answer.error_code, None, || "a producer id".to_owned())?;
            let (id, epoch) =
                (ProducerId(answer.producer_id), ProducerEpoch(answer.producer_epoch));
            Ok(Identity { id, epoch })
        });
        match identity {
            Err(error) => retry.after(error).await?,
            done => return done,
        }
    }
}
