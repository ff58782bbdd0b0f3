//! Produce throughput: the same requests over and over on several connections, as many in flight
//! on each as a client's default allows.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millstream_wire::{ErrorCode, ProduceRequest};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Moved;
use crate::peer;
use crate::shape::{Encoded, PRODUCE_VERSION};

/// How long a client waits before it tries again (`retry.backoff.ms`).
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// How a produce load is driven.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flood {
    /// Connections, each of which serves its share of the partitions (or all share the one).
    pub(crate) connections: usize,
    /// Requests in flight on each: clients default to 5.
    pub(crate) in_flight: u32,
    /// For how long requests are begun.
    pub(crate) duration: Duration,
}

/// Produces as fast as the server answers.
///
/// # Errors
///
/// When a connection fails or the server answers with an error.
pub(crate) async fn flood(
    address: SocketAddr,
    encoded: &Encoded,
    how: Flood,
) -> anyhow::Result<Moved> {
    let mut streams = Vec::new();
    for _ in 0..how.connections {
        streams.push(peer::connect(address).await?);
    }
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for (number, stream) in streams.into_iter().enumerate() {
        let frames = share(&encoded.frames, number, how.connections);
        tasks.spawn(drive(stream, frames, how.in_flight, begun + how.duration));
    }
    let mut answers = Answers::default();
    while let Some(done) = tasks.join_next().await {
        let more = done.context("a generator task")??;
        answers.good += more.good;
        answers.refused += more.refused;
    }
    Ok(Moved {
        bytes: answers.good * encoded.batch_bytes,
        records: answers.good * encoded.records,
        refused: answers.refused as f64 / (answers.good + answers.refused) as f64,
        elapsed: begun.elapsed(),
    })
}

/// The requests of one connection: every n-th partition, or all when there are fewer.
fn share(frames: &[Bytes], number: usize, connections: usize) -> Vec<Bytes> {
    if frames.len() <= connections {
        return vec![frames[number % frames.len()].clone()];
    }
    frames.iter().skip(number).step_by(connections).cloned().collect()
}

/// What the requests of one connection came to.
#[derive(Clone, Copy, Debug, Default)]
struct Answers {
    good: u64,
    /// With an error that clients retry.
    refused: u64,
}

/// One connection, as one client: so many requests in flight, and a pause after a refusal.
#[derive(Debug)]
struct Lane {
    in_flight: u32,
    room: Semaphore,
    good: AtomicU64,
    refused: AtomicU64,
}

async fn drive(
    stream: TcpStream,
    frames: Vec<Bytes>,
    in_flight: u32,
    deadline: Instant,
) -> anyhow::Result<Answers> {
    let (reader, writer) = stream.into_split();
    let room = Semaphore::new(usize::try_from(in_flight)?);
    let lane = Lane { in_flight, room, good: AtomicU64::new(0), refused: AtomicU64::new(0) };
    tokio::select! {
        sent = lane.send(writer, &frames, deadline) => sent?,
        failed = lane.receive(reader) => failed.map(|never| match never {})?,
    }
    let (good, refused) = (lane.good.into_inner(), lane.refused.into_inner());
    Ok(Answers { good, refused })
}

impl Lane {
    /// Sends until the deadline, then waits until everything has been answered.
    async fn send(
        &self,
        mut writer: OwnedWriteHalf,
        frames: &[Bytes],
        deadline: Instant,
    ) -> anyhow::Result<()> {
        let mut refused = 0;
        for frame in frames.iter().cycle() {
            self.room.acquire().await?.forget();
            let refused_now = self.refused.load(Ordering::Relaxed);
            if refused_now > refused {
                refused = refused_now;
                tokio::time::sleep(RETRY_BACKOFF).await;
            }
            if Instant::now() >= deadline {
                self.room.add_permits(1);
                break;
            }
            writer.write_all(frame).await?;
        }
        self.room.acquire_many(self.in_flight).await?.forget();
        Ok(())
    }

    /// Takes answers, each of which makes room for another request.
    async fn receive(&self, reader: OwnedReadHalf) -> anyhow::Result<Infallible> {
        let mut reader = BufReader::new(reader);
        loop {
            let frame = peer::read_frame(&mut reader).await?;
            let counter = if is_good(&frame)? { &self.good } else { &self.refused };
            counter.fetch_add(1, Ordering::Relaxed);
            self.room.add_permits(1);
        }
    }
}

/// Whether records were taken; not when a client would try again.
///
/// # Errors
///
/// On any other error.
pub(super) fn is_good(frame: &Bytes) -> anyhow::Result<bool> {
    let response = peer::decode_response::<ProduceRequest>(frame, PRODUCE_VERSION, 1)?;
    let mut partitions = response.responses.iter().flat_map(|each| &each.partition_responses);
    let error = partitions.find(|each| each.error_code != 0).map(|each| each.error_code);
    let error = error.map_or(ErrorCode::None, ErrorCode::or_unknown);
    ensure!(error == ErrorCode::None || error.retriable(), "produce: {}", error.name());
    Ok(error == ErrorCode::None)
}
