//! The task that sends a producer's batches.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;

use futures_util::future::{BoxFuture, FutureExt as _};
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use millstream_types::{Monotonic, Offset, Timestamp};
use millstream_wire::produce_request::{PartitionProduceData, TopicProduceData};
use millstream_wire::produce_response::PartitionProduceResponse;
use millstream_wire::{ErrorCode, ProduceRequest, ProduceResponse, StrBytes};

use super::accumulator::{Batch, Identity, Leader, Parcel, Plan, Verdict};
use super::delivery::Stored;
use super::{Acks, Shared, new_identity};
use crate::cluster::{Lane, Target, TopicName, TopicPartition};
use crate::connection::Connection;
use crate::error::Error;

/// The newest version that names topics rather than their ids.
const NEWEST_BY_NAME: i16 = 12;

/// Requests under way to one broker.
const REQUESTS_MAX: usize = 5;

/// How long a broker may take to replicate a batch, in milliseconds.
const REPLICATION_TIMEOUT_MS: i32 = 30_000;

/// Something that was awaited.
enum Event {
    Answered(i32, Vec<Batch>, Result<Option<ProduceResponse>, Error>),
    Connected(i32, Result<Connection, Error>),
    LookedUp(TopicName, Result<(), Error>),
    Renewed(Result<Identity, Error>),
}

struct Sender {
    shared: Arc<Shared>,
    brokers: BTreeMap<i32, BrokerLine>,
    looked_up: BTreeMap<TopicName, Wait>,
    renewing: bool,
    events: FuturesUnordered<BoxFuture<'static, Event>>,
}

/// What goes on with one broker.
#[derive(Default)]
struct BrokerLine {
    connection: Option<Connection>,
    opening: bool,
    in_flight: usize,
    wait: Wait,
}

/// Something that is tried again after some time.
#[derive(Clone, Copy, Default)]
struct Wait {
    under_way: bool,
    not_before: Monotonic,
    failures: u32,
}

/// Sends until the producer is closed and everything has an outcome.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut sender = Sender {
        shared,
        brokers: BTreeMap::new(),
        looked_up: BTreeMap::new(),
        renewing: false,
        events: FuturesUnordered::new(),
    };
    loop {
        let Some(wake) = sender.act() else { return };
        let shared = Arc::clone(&sender.shared);
        let env = shared.cluster.env();
        tokio::select! {
            biased;
            Some(event) = sender.events.next(), if !sender.events.is_empty() => sender.on(event),
            () = shared.wake.notified() => {}
            () = env.clock.sleep_until(wake.unwrap_or_default()), if wake.is_some() => {}
        }
    }
}

impl Sender {
    /// Sends what can be sent. Returns when to do so again at the latest; `None` when all is done.
    fn act(&mut self) -> Option<Option<Monotonic>> {
        loop {
            let now = self.now();
            let mut wake = None;
            let (plan, done) = self.plan(now, &mut wake);
            if done {
                return None;
            }
            self.shared.room.add_permits(plan.freed);
            wake = earlier(wake, plan.wake);
            if plan.needs_identity && !self.renewing {
                self.renewing = true;
                let cluster = self.shared.cluster.clone();
                self.await_event(async move { Event::Renewed(new_identity(&cluster).await) });
            }
            for partition in plan.leaderless {
                wake = earlier(wake, self.look_up(&partition, now));
            }
            if plan.requests.is_empty() {
                return Some(wake);
            }
            for (broker, parcels) in plan.requests {
                self.send(broker, parcels);
            }
        }
    }

    /// Looks at everything that is to be sent, and opens the connections that it needs.
    fn plan(&mut self, now: Monotonic, wake: &mut Option<Monotonic>) -> (Plan, bool) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state();
        if state.closed && state.accumulator.is_empty() {
            return (Plan::default(), true);
        }
        let mut known: BTreeMap<TopicName, _> = BTreeMap::new();
        let plan = state.accumulator.drain(now, |partition| {
            let topic = known
                .entry(Arc::clone(&partition.topic))
                .or_insert_with(|| shared.cluster.cached_topic(&partition.topic));
            let found = topic.as_ref().and_then(|topic| topic.partition(partition.partition));
            let Some(leader) = found.and_then(|partition| partition.leader) else {
                return Leader::Unknown;
            };
            let (state, again) = self.line(leader, now);
            *wake = earlier(*wake, again);
            state
        });
        (plan, false)
    }

    /// Whether a broker takes another request; and when to ask again.
    fn line(&mut self, broker: i32, now: Monotonic) -> (Leader, Option<Monotonic>) {
        let line = self.brokers.entry(broker).or_default();
        if let Some(connection) = &line.connection {
            if !connection.is_over() {
                let free = line.in_flight < REQUESTS_MAX;
                return (if free { Leader::Ready(broker) } else { Leader::Busy }, None);
            }
            line.connection = None;
        }
        if line.opening {
            return (Leader::Busy, None);
        }
        if now < line.wait.not_before {
            return (Leader::Busy, Some(line.wait.not_before));
        }
        line.opening = true;
        let cluster = self.shared.cluster.clone();
        self.await_event(async move {
            let target = Target::Broker(broker);
            Event::Connected(broker, cluster.connection(&target, Lane::Produce).await)
        });
        (Leader::Busy, None)
    }

    /// Asks who leads a topic's partitions. Returns when to try again, if not now.
    fn look_up(&mut self, partition: &TopicPartition, now: Monotonic) -> Option<Monotonic> {
        let wait = self.looked_up.entry(Arc::clone(&partition.topic)).or_default();
        if wait.under_way {
            return None;
        }
        if now < wait.not_before {
            return Some(wait.not_before);
        }
        wait.under_way = true;
        let (cluster, topic) = (self.shared.cluster.clone(), Arc::clone(&partition.topic));
        let of = partition.clone();
        self.await_event(async move {
            let answer = cluster.topic(&topic).await.and_then(|found| {
                let led = found.partition(of.partition).is_some_and(|it| it.leader.is_some());
                if led { Ok(()) } else { Err(Error::NoLeader { what: of.to_string() }) }
            });
            Event::LookedUp(topic, answer)
        });
        None
    }

    fn await_event(&self, event: impl Future<Output = Event> + Send + 'static) {
        self.events.push(Box::pin(event));
    }

    fn now(&self) -> Monotonic {
        self.shared.cluster.env().clock.monotonic()
    }

    /// Builds the batches and sends them in one request.
    fn send(&mut self, broker: i32, parcels: Vec<Parcel>) {
        let mut batches = Vec::with_capacity(parcels.len());
        for parcel in parcels {
            match parcel.build() {
                Ok(batch) => batches.push(batch),
                Err(failed) => self.resolve(failed.0, failed.1),
            }
        }
        if batches.is_empty() {
            return;
        }
        let line = self.brokers.entry(broker).or_default();
        let Some(connection) = line.connection.clone() else { return };
        line.in_flight += 1;
        let acks = self.shared.settings.acks;
        // Started here, so that the order of the requests is the order of the calls.
        let request = request(acks, &batches);
        let started = connection.version_within::<ProduceRequest>(NEWEST_BY_NAME);
        let started = started.and_then(|version| match acks {
            Acks::None => {
                let sent = connection.send(&request, version)?;
                Ok(async move { sent.await.map(|()| None) }.boxed())
            }
            Acks::Leader | Acks::All => {
                let pending = connection.start(&request, version)?;
                Ok(async move { pending.response().await.map(Some) }.boxed())
            }
        });
        match started {
            Ok(answer) => self.await_event(async move {
                let answer = answer.await;
                Event::Answered(broker, batches, answer)
            }),
            Err(error) => self.on(Event::Answered(broker, batches, Err(error))),
        }
    }

    fn on(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Answered(broker, batches, answer) => {
                let line = self.brokers.entry(broker).or_default();
                line.in_flight = line.in_flight.saturating_sub(1);
                self.on_answer(batches, answer, now);
            }
            Event::Connected(broker, connection) => self.on_connected(broker, connection, now),
            Event::LookedUp(topic, answer) => {
                let not_before = |failures| self.retry_at(failures, now);
                let wait = self.looked_up.get(&topic).copied().unwrap_or_default();
                let failures = if answer.is_ok() { 0 } else { wait.failures.saturating_add(1) };
                let not_before = if answer.is_ok() { now } else { not_before(failures) };
                if let Err(error) = answer {
                    tracing::debug!(%topic, %error, "no leader");
                    self.shared.cluster.forget(&Target::Controller);
                }
                self.looked_up.insert(topic, Wait { under_way: false, not_before, failures });
            }
            Event::Renewed(identity) => {
                self.renewing = false;
                match identity {
                    Ok(identity) => {
                        let freed = self.shared.state().accumulator.renew(identity);
                        self.shared.room.add_permits(freed);
                    }
                    // It was tried for long; without an id nothing can be sent any more.
                    Err(error) => self.abort(&error),
                }
            }
        }
    }

    fn on_connected(&mut self, broker: i32, connection: Result<Connection, Error>, now: Monotonic) {
        let failures = self.brokers.entry(broker).or_default().wait.failures;
        let again = self.retry_at(failures.saturating_add(1), now);
        let line = self.brokers.entry(broker).or_default();
        line.opening = false;
        match connection {
            Ok(connection) => {
                line.connection = Some(connection);
                line.wait = Wait::default();
                self.shared.state().accumulator.reached(Ok(()));
            }
            Err(error) if error.is_retriable() => {
                tracing::debug!(broker, %error, "can't connect");
                line.wait.failures = failures.saturating_add(1);
                line.wait.not_before = again;
                self.shared.state().accumulator.reached(Err(error));
                // Another broker may lead by now.
                self.shared.cluster.forget(&Target::Controller);
            }
            Err(error) => self.abort(&error),
        }
    }

    fn abort(&self, error: &Error) {
        self.shared.state().accumulator.abort(error);
        self.shared.room.close();
    }

    fn on_answer(
        &mut self,
        batches: Vec<Batch>,
        answer: Result<Option<ProduceResponse>, Error>,
        now: Monotonic,
    ) {
        if answer.as_ref().is_err_and(Error::is_retriable) {
            self.shared.cluster.forget(&Target::Controller);
        }
        let mut found = BTreeMap::new();
        if let Ok(Some(answer)) = &answer {
            for topic in &answer.responses {
                for partition in &topic.partition_responses {
                    found.insert((topic.name.as_str(), partition.index), partition);
                }
            }
        }
        for batch in batches {
            let TopicPartition { topic, partition } = &batch.partition;
            let again = self.retry_at(self.failures(&batch.partition).saturating_add(1), now);
            let verdict = match &answer {
                Err(error) if error.is_retriable() => Verdict::Again(error.clone(), again),
                Err(error) => Verdict::Refused(error.clone()),
                Ok(None) => Verdict::Stored(Stored { base_offset: None, log_append_time: None }),
                Ok(Some(_)) => match found.get(&(topic.as_ref(), *partition)) {
                    Some(partition) => self.verdict(partition, &batch.partition, again),
                    None => Verdict::Refused(Error::Invalid(format!(
                        "{}: the broker's answer does not mention it",
                        batch.partition
                    ))),
                },
            };
            self.resolve(batch, verdict);
        }
    }

    fn verdict(
        &self,
        answer: &PartitionProduceResponse,
        of: &TopicPartition,
        again: Monotonic,
    ) -> Verdict {
        let code = ErrorCode::or_unknown(answer.error_code);
        let stored = |base_offset: i64| Stored {
            base_offset: (base_offset >= 0).then_some(Offset(base_offset)),
            log_append_time: (answer.log_append_time_ms >= 0)
                .then_some(Timestamp(answer.log_append_time_ms)),
        };
        let error = || {
            // What is wrong with a record says more than what is wrong with the batch.
            let record = answer.record_errors.first();
            let record = record.and_then(|record| record.batch_index_error_message.as_deref());
            let message = record.or(answer.error_message.as_deref());
            Error::Refused { what: of.to_string(), code, message: message.map(str::to_owned) }
        };
        match code {
            ErrorCode::None => Verdict::Stored(stored(answer.base_offset)),
            ErrorCode::DuplicateSequenceNumber => Verdict::Stored(stored(-1)),
            ErrorCode::OutOfOrderSequenceNumber => Verdict::OutOfOrder(error()),
            code if code.retriable() => {
                self.shared.cluster.forget(&Target::Leader(of.clone()));
                Verdict::Again(error(), again)
            }
            _ => Verdict::Refused(error()),
        }
    }

    fn failures(&self, partition: &TopicPartition) -> u32 {
        self.shared.state().accumulator.failures(partition)
    }

    fn retry_at(&self, failures: u32, now: Monotonic) -> Monotonic {
        let cluster = &self.shared.cluster;
        now.plus(cluster.settings().backoff.wait(failures, cluster.env()))
    }

    fn resolve(&self, batch: Batch, verdict: Verdict) {
        let freed = self.shared.state().accumulator.resolve(batch, verdict);
        self.shared.room.add_permits(freed);
    }
}

fn earlier(a: Option<Monotonic>, b: Option<Monotonic>) -> Option<Monotonic> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

/// A request with batches of different partitions.
fn request(acks: Acks, batches: &[Batch]) -> ProduceRequest {
    let items = batches.iter().map(|batch| (batch.partition.clone(), batch.bytes.clone()));
    let topics = crate::admin::by_topic(items).into_iter().map(|(name, partitions)| {
        let partitions = partitions
            .into_iter()
            .map(|(index, bytes)| PartitionProduceData { index, records: Some(bytes.into()) });
        TopicProduceData {
            name: StrBytes::from(name.to_string()),
            partition_data: partitions.collect(),
            ..Default::default()
        }
    });
    ProduceRequest {
        transactional_id: None,
        acks: match acks {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        },
        timeout_ms: REPLICATION_TIMEOUT_MS,
        topic_data: topics.collect(),
    }
}
