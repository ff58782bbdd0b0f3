//! Produce throughput: the same requests over and over on several connections, as many in flight
//! on each as a client's default allows.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use millstream_wire::{ErrorCode, ProduceRequest};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Moved;
use crate::peer::{self, Door, Incoming, Outgoing};
use crate::shape::{Encoded, PRODUCE_VERSION};

/// How long a client waits before it tries again (`retry.backoff.ms`).
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// How a produce load is driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    /// Connections, each of which writes to all partitions.
    pub(crate) connections: usize,
    /// Requests in flight on each: clients default to 5.
    pub(crate) in_flight: u32,
    /// How many bytes of batches are sent, on all together.
    pub(crate) bytes: u64,
    /// No request is begun later than so.
    pub(crate) limit: Duration,
}

/// Produces as fast as the server answers.
///
/// # Errors
///
/// When a connection fails or the server answers with an error.
pub(crate) async fn flood(
    at: impl Into<Door>,
    encoded: &Encoded,
    how: Flood,
) -> anyhow::Result<Moved> {
    let door = at.into();
    let mut streams = Vec::new();
    for _ in 0..how.connections {
        streams.push(peer::connect(&door).await?);
    }
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    let left = Arc::new(AtomicI64::new(
        i64::try_from(how.bytes / encoded.batch_bytes).unwrap_or(i64::MAX),
    ));
    for (number, stream) in streams.into_iter().enumerate() {
        let frames = share(&encoded.frames, number);
        let goal = Goal { left: Arc::clone(&left), deadline: begun + how.limit };
        tasks.spawn(drive(stream, frames, how.in_flight, goal));
    }
    let mut answers = Answers::default();
    while let Some(done) = tasks.join_next().await {
        let more = done.context("a generator task")??;
        answers.good += more.good;
        answers.requests += more.requests;
        answers.refused += more.refused;
    }
    Ok(Moved {
        bytes: answers.good * encoded.batch_bytes,
        records: answers.good * encoded.records,
        refused: answers.refused as f64 / answers.requests as f64,
        elapsed: begun.elapsed(),
    })
}

/// The requests of one connection: all of them, each connection beginning with another.
fn share(frames: &[Bytes], number: usize) -> Vec<Bytes> {
    let mut frames = frames.to_vec();
    let first = number % frames.len().max(1);
    frames.rotate_left(first);
    frames
}

/// When all connections together have sent enough.
#[derive(Debug)]
struct Goal {
    /// Batches that are still to be sent.
    left: Arc<AtomicI64>,
    deadline: Instant,
}

impl Goal {
    /// Whether another request is to be sent.
    fn wants(&self) -> bool {
        self.left.load(Ordering::Relaxed) > 0 && Instant::now() < self.deadline
    }
}

/// What the requests of one connection came to.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    /// Batches that were taken.
    good: u64,
    requests: u64,
    /// Requests with an error that clients retry.
    refused: u64,
}

/// One connection, as one client: so many requests in flight, and a pause after a refusal.
#[derive(Debug)]
struct Lane {
    in_flight: u32,
    room: Semaphore,
    goal: Goal,
    good: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
}

async fn drive(
    (reader, writer): (Incoming, Outgoing),
    frames: Vec<Bytes>,
    in_flight: u32,
    goal: Goal,
) -> anyhow::Result<Answers> {
    let lane = Lane {
        in_flight,
        room: Semaphore::new(usize::try_from(in_flight)?),
        goal,
        good: AtomicU64::new(0),
        requests: AtomicU64::new(0),
        refused: AtomicU64::new(0),
    };
    tokio::select! {
        sent = lane.send(writer, &frames) => sent?,
        failed = lane.receive(reader) => failed.map(|never| match never {})?,
    }
    Ok(Answers {
        good: lane.good.into_inner(),
        requests: lane.requests.into_inner(),
        refused: lane.refused.into_inner(),
    })
}

impl Lane {
    /// Sends until there is enough, then waits until everything has been answered.
    async fn send(&self, mut writer: Outgoing, frames: &[Bytes]) -> anyhow::Result<()> {
        let mut refused = 0;
        for frame in frames.iter().cycle() {
            self.room.acquire().await?.forget();
            let refused_now = self.refused.load(Ordering::Relaxed);
            if refused_now > refused {
                refused = refused_now;
                tokio::time::sleep(RETRY_BACKOFF).await;
            }
            if !self.goal.wants() {
                self.room.add_permits(1);
                break;
            }
            writer.write_all(frame).await?;
            // TLS may keep the end of it for the next write.
            writer.flush().await?;
        }
        self.room.acquire_many(self.in_flight).await?.forget();
        Ok(())
    }

    /// Takes answers, each of which makes room for another request.
    async fn receive(&self, reader: Incoming) -> anyhow::Result<Infallible> {
        let mut reader = BufReader::new(reader);
        loop {
            let answer = outcome(&peer::read_frame(&mut reader).await?)?;
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.good.fetch_add(answer.good, Ordering::Relaxed);
            self.goal.left.fetch_sub(i64::try_from(answer.good)?, Ordering::Relaxed);
            if answer.refused > 0 {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            self.room.add_permits(1);
        }
    }
}

/// What a produce request came to, in batches.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome {
    /// Those that were taken.
    pub(super) good: u64,
    /// Those that a client would send again.
    pub(super) refused: u64,
}

/// Reads the answer to a produce request.
///
/// # Errors
///
/// On an error that clients don't retry.
pub(super) fn outcome(frame: &Bytes) -> anyhow::Result<Outcome> {
    let response = peer::decode_response::<ProduceRequest>(frame, PRODUCE_VERSION, 1)?;
    let mut outcome = Outcome { good: 0, refused: 0 };
    for partition in response.responses.iter().flat_map(|each| &each.partition_responses) {
        let error = ErrorCode::or_unknown(partition.error_code);
        match error {
            ErrorCode::None => outcome.good += 1,
            error if error.retriable() => outcome.refused += 1,
            error => bail!("produce: {}", error.name()),
        }
    }
    Ok(outcome)
}
