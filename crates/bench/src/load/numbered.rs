//! Produce throughput of producers with ids and sequence numbers: idempotent ones, or transactional ones
//! that commit every so often, by the second protocol of transactions (KIP-890).
//!
//! As clients do: so many requests in flight; before a commit, and after a refusal, all answers are waited
//! for; what was refused, and what came after it, is sent again.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use millstream_types::Timestamp;
use millstream_wire::{
    EndTxnRequest, ErrorCode, FindCoordinatorRequest, InitProducerIdRequest, ProduceRequest,
    StrBytes,
};
use tokio::task::JoinSet;

use super::Moved;
use super::produce::Flood;
use crate::peer::{self, Peer};
use crate::shape::{Numbered, PRODUCE_VERSION, Shape};

const FIND_COORDINATOR_VERSION: i16 = 4;
const INIT_PRODUCER_ID_VERSION: i16 = 4;
/// The first by which the epoch rises with each transaction.
const END_TXN_VERSION: i16 = 5;

/// `transaction.timeout.ms` of the Java client.
const TIMEOUT_MS: i32 = 60_000;
const KEY_TRANSACTION: i8 = 1;

/// `retry.backoff.ms` of the Java client, and what it waits while the transaction before is completed.
const RETRY_BACKOFF: Duration = Duration::from_millis(100);
const COMPLETION_BACKOFF: Duration = Duration::from_millis(20);

/// How long a coordinator may not be ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// Produces as fast as the server answers; with `every`, each producer commits when so much time has
/// passed.
///
/// # Errors
///
/// When a connection fails or the server answers with an error.
pub(crate) async fn numbered(
    address: SocketAddr,
    (topic, shape, now): (&str, Shape, Timestamp),
    how: Flood,
    every: Option<Duration>,
) -> anyhow::Result<Moved> {
    let mut producers = Vec::new();
    for number in 0..how.connections {
        let name = every.map(|_| format!("{topic}-{number}"));
        let numbered = shape.encode_numbered(topic, now, name.as_deref())?;
        producers.push(Producer::new(address, name, numbered, shape.partitions).await?);
    }
    let begun = Instant::now();
    let bytes_max = how.bytes / how.connections as u64;
    let mut tasks = JoinSet::new();
    for mut producer in producers {
        tasks.spawn(async move {
            producer.run((begun + how.limit, bytes_max), how.in_flight, every).await?;
            Ok::<_, anyhow::Error>(producer)
        });
    }
    let (mut moved, mut requests, mut refused) = (Moved::default(), 0, 0);
    while let Some(done) = tasks.join_next().await {
        let producer = done.context("a generator task")??;
        moved.bytes += producer.good * producer.numbered.batch_bytes;
        moved.records += producer.good * producer.numbered.records;
        requests += producer.requests;
        refused += producer.refused;
    }
    moved.refused = f64::from(refused) / f64::from(requests.max(1));
    moved.elapsed = begun.elapsed();
    Ok(moved)
}

struct Producer {
    peer: Peer,
    transactional_id: Option<String>,
    id: (i64, i16),
    numbered: Numbered,
    /// By partition: the next sequence number to send, and the next that was not acknowledged.
    sent: Vec<i32>,
    acked: Vec<i32>,
    /// Whether each partition has taken something from it.
    is_known: bool,
    /// Whether there is something in the transaction.
    is_open: bool,
    /// How long to wait before anything is sent again.
    trouble: Option<Duration>,
    /// Batches that were taken.
    good: u64,
    requests: u32,
    refused: u32,
}

impl Producer {
    async fn new(
        address: SocketAddr,
        transactional_id: Option<String>,
        numbered: Numbered,
        partitions: i32,
    ) -> anyhow::Result<Self> {
        let none = vec![0; usize::try_from(partitions)?];
        let mut producer = Self {
            peer: Peer::connect(address).await?,
            transactional_id,
            id: (-1, -1),
            numbered,
            sent: none.clone(),
            acked: none,
            is_known: false,
            is_open: false,
            trouble: None,
            good: 0,
            requests: 0,
            refused: 0,
        };
        producer.init().await?;
        Ok(producer)
    }

    /// Gets an id; a coordinator may need time to come up.
    async fn init(&mut self) -> anyhow::Result<()> {
        let name = || self.transactional_id.clone().map(StrBytes::from);
        let find = FindCoordinatorRequest {
            key_type: KEY_TRANSACTION,
            coordinator_keys: name().into_iter().collect(),
            ..FindCoordinatorRequest::default()
        };
        let init = InitProducerIdRequest {
            transactional_id: name(),
            transaction_timeout_ms: TIMEOUT_MS,
            producer_id: -1,
            producer_epoch: -1,
            ..InitProducerIdRequest::default()
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.transactional_id.is_some() {
                // Who is asked for makes the topic behind it.
                self.peer.call(&find, FIND_COORDINATOR_VERSION).await?;
            }
            let answer = self.peer.call(&init, INIT_PRODUCER_ID_VERSION).await?;
            let error = ErrorCode::or_unknown(answer.error_code);
            if error == ErrorCode::None {
                self.id = (answer.producer_id, answer.producer_epoch);
                return Ok(());
            }
            let is_over = !error.retriable() || Instant::now() > deadline;
            ensure!(!is_over, "InitProducerId: {}", error.name());
            tokio::time::sleep(RETRY_BACKOFF).await;
        }
    }

    async fn run(
        &mut self,
        (deadline, bytes_max): (Instant, u64),
        in_flight: u32,
        every: Option<Duration>,
    ) -> anyhow::Result<()> {
        let batches_max = bytes_max / self.numbered.batch_bytes;
        let mut window = VecDeque::new();
        let mut next = (0..self.numbered.requests.len()).cycle();
        let mut begun = Instant::now();
        loop {
            let is_over = self.good >= batches_max || Instant::now() >= deadline;
            let is_due = is_over || every.is_some_and(|every| begun.elapsed() >= every);
            let may_send = !is_due && self.trouble.is_none();
            // Where a producer is not known yet any sequence number is taken, also that of a batch that comes
            // behind a refused one.
            let is_known = self.is_known || !self.acked.contains(&0);
            self.is_known = is_known;
            let in_flight = if is_known { usize::try_from(in_flight)? } else { 1 };
            if may_send && window.len() < in_flight {
                let request = next.next().context("no request")?;
                self.send(request).await?;
                window.push_back(request);
                continue;
            }
            if window.pop_front().is_some() {
                self.take().await?;
                continue;
            }
            if let Some(pause) = self.trouble.take() {
                tokio::time::sleep(pause).await;
                self.sent.clone_from(&self.acked);
            }
            if is_due {
                self.commit().await?;
                begun = Instant::now();
            }
            if is_over {
                return Ok(());
            }
        }
    }

    async fn send(&mut self, request: usize) -> anyhow::Result<()> {
        let (sent, records) = (&mut self.sent, i32::try_from(self.numbered.records)?);
        let request = self.numbered.requests.get_mut(request).context("no request")?;
        let sequence = |partition: i32| {
            let at = usize::try_from(partition).ok().and_then(|at| sent.get(at));
            at.copied().unwrap_or_default()
        };
        let frame = request.fill(self.id, sequence)?;
        self.peer.send(frame).await?;
        for partition in request.partitions() {
            *sent.get_mut(usize::try_from(partition)?).context("no such partition")? += records;
        }
        self.requests += 1;
        Ok(())
    }

    /// Takes the answer to the oldest request in flight.
    async fn take(&mut self) -> anyhow::Result<()> {
        let frame = self.peer.receive().await?;
        let response = peer::decode_response::<ProduceRequest>(&frame, PRODUCE_VERSION, 1)?;
        let records = i32::try_from(self.numbered.records)?;
        let mut is_refused = false;
        for answer in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
            let error = ErrorCode::or_unknown(answer.error_code);
            let pause = match error {
                ErrorCode::None => {
                    let at = self.acked.get_mut(usize::try_from(answer.index)?);
                    *at.context("no such partition")? += records;
                    self.good += 1;
                    self.is_open = true;
                    continue;
                }
                ErrorCode::ConcurrentTransactions => COMPLETION_BACKOFF,
                // What came behind something that was refused.
                ErrorCode::OutOfOrderSequenceNumber if self.trouble.is_some() => COMPLETION_BACKOFF,
                error if error.retriable() => RETRY_BACKOFF,
                error => bail!("produce: {}", error.name()),
            };
            is_refused = true;
            self.trouble = self.trouble.max(Some(pause));
        }
        self.refused += u32::from(is_refused);
        Ok(())
    }

    /// Ends the transaction, if there is something in it. Its end is the beginning of the next, in
    /// another epoch.
    async fn commit(&mut self) -> anyhow::Result<()> {
        let Some(name) = self.transactional_id.clone().filter(|_| self.is_open) else {
            return Ok(());
        };
        let deadline = Instant::now() + PATIENCE;
        loop {
            let end = EndTxnRequest {
                transactional_id: StrBytes::from(name.clone()),
                producer_id: self.id.0,
                producer_epoch: self.id.1,
                committed: true,
            };
            let answer = self.peer.call(&end, END_TXN_VERSION).await?;
            let error = ErrorCode::or_unknown(answer.error_code);
            if error == ErrorCode::None {
                self.id = (answer.producer_id, answer.producer_epoch);
                break;
            }
            let is_over = !error.retriable() || Instant::now() > deadline;
            ensure!(!is_over, "EndTxn: {}", error.name());
            tokio::time::sleep(COMPLETION_BACKOFF).await;
        }
        self.sent.fill(0);
        self.acked.fill(0);
        self.is_open = false;
        Ok(())
    }
}
