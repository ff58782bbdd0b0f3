//! One client's connection: frames in, answers out, in the order they were asked.
//!
//! A request is started by polling its handler once, so that what it does at once (above all: an
//! append) happens in the order of the requests. `Produce` requests are pipelined: each is
//! appended as it comes, and answered when it is durable. Every other request starts when all
//! before it have been answered, as with Apache Kafka, whose clients rely on it.
//!
//! All of it is one task: while an answer is being written to a slow reader nothing more is read
//! from it, which is the back-pressure.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use millstream_env::Env;
use millstream_types::Monotonic;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::frames::{BadLength, Frames};

/// How many requests of one connection may wait for their durability at once.
const PIPELINE_REQUESTS_MAX: usize = 64;

/// Segments handed to one vectored write; the kernel takes no more than 1,024.
const WRITE_SEGMENTS_MAX: usize = 256;

/// What becomes of a request: an answer in segments, its length included; none (`acks=0`); or the
/// end of the connection.
pub(crate) type Answer = Result<Option<Vec<Bytes>>, Close>;

/// A request that has been started.
pub(crate) type Started = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The peer has gone.
    Gone,
    /// The broker stops.
    Stopping,
    /// Nothing came for longer than `connections.max.idle.ms`.
    Idle,
    /// The peer sent what can't be understood or answered; says what.
    Refused(String),
}

/// What a connection needs of the layer above it.
pub(crate) trait Service: Send {
    /// Whether this request may start before those ahead of it have been answered.
    fn pipelines(&self, frame: &[u8]) -> bool;

    /// Starts one request.
    fn start(&mut self, frame: Bytes) -> Started;
}

/// The bounds of one connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub(crate) request_bytes_max: usize,
    pub(crate) idle_max: Duration,
}

/// Serves `stream` until the peer leaves, misbehaves, idles too long, or `stop` completes.
pub(crate) async fn serve<S>(
    stream: S,
    service: impl Service,
    env: Env,
    bounds: Bounds,
    stop: impl Future<Output = ()> + Send,
) -> Close
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let heard = env.clock.monotonic();
    let frames = Frames::new(bounds.request_bytes_max);
    let started = VecDeque::new();
    let pipelining = false;
    let mut connection =
        Connection { stream, service, env, bounds, frames, started, pipelining, heard };
    tokio::select! {
        closed = connection.run() => closed,
        () = stop => Close::Stopping,
    }
}

struct Connection<S, V> {
    stream: S,
    service: V,
    env: Env,
    bounds: Bounds,
    frames: Frames,
    /// Requests begun and not answered, oldest first.
    started: VecDeque<Started>,
    /// Whether those are such as may be followed at once.
    pipelining: bool,
    /// When the peer last sent something.
    heard: Monotonic,
}

impl<S, V> Connection<S, V>
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
    V: Service,
{
    async fn run(&mut self) -> Close {
        loop {
            if let Err(close) = self.step().await {
                return close;
            }
        }
    }

    /// Starts what may start, then waits for the next answer or the next bytes.
    async fn step(&mut self) -> Result<(), Close> {
        while self.may_start()? {
            if let Some(frame) = self.frames.take()? {
                self.start(frame);
            }
        }
        // A whole frame that must wait its turn is enough to hold; more is left in the socket.
        let reads = self.frames.peek()?.is_none();
        let (env, deadline) = (&self.env, self.heard.plus(self.bounds.idle_max));
        let idle = async { env.clock.sleep_until(deadline).await };
        // `read_buf` and `front` lose nothing when the other arm wins.
        tokio::select! {
            answer = front(&mut self.started) => {
                self.started.pop_front();
                self.answer(answer?).await
            }
            read = self.stream.read_buf(self.frames.room()?), if reads => {
                self.heard = self.env.clock.monotonic();
                if read.map_err(|_| Close::Gone)? == 0 { Err(Close::Gone) } else { Ok(()) }
            }
            () = idle, if self.started.is_empty() => Err(Close::Idle),
        }
    }

    fn may_start(&self) -> Result<bool, Close> {
        let Some(frame) = self.frames.peek()? else { return Ok(false) };
        let joins = self.pipelining
            && self.started.len() < PIPELINE_REQUESTS_MAX
            && self.service.pipelines(frame);
        Ok(self.started.is_empty() || joins)
    }

    fn start(&mut self, frame: Bytes) {
        self.pipelining = self.service.pipelines(&frame);
        let mut started = self.service.start(frame);
        // The first poll appends. Its waker does not matter: whatever stands at the front is
        // polled again with the task's own.
        let answer = started.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.started.push_back(match answer {
            Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
            Poll::Pending => started,
        });
    }

    /// Writes one answer, and with it those behind it that are ready.
    async fn answer(&mut self, first: Option<Vec<Bytes>>) -> Result<(), Close> {
        let mut segments = VecDeque::new();
        enqueue(&mut segments, first);
        while let Some(next) = self.started.front_mut() {
            match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => break,
                Poll::Ready(answer) => {
                    self.started.pop_front();
                    enqueue(&mut segments, answer?);
                }
            }
        }
        write_all(&mut self.stream, segments).await.map_err(|_| Close::Gone)
    }
}

/// The answer of the oldest request; never completes when there is none.
async fn front(started: &mut VecDeque<Started>) -> Answer {
    poll_fn(|context| match started.front_mut() {
        Some(oldest) => oldest.as_mut().poll(context),
        None => Poll::Pending,
    })
    .await
}

fn enqueue(segments: &mut VecDeque<Bytes>, answer: Option<Vec<Bytes>>) {
    segments.extend(answer.into_iter().flatten());
}

async fn write_all(
    stream: &mut (impl AsyncWrite + Unpin),
    mut segments: VecDeque<Bytes>,
) -> io::Result<()> {
    while !segments.is_empty() {
        let slices: Vec<IoSlice<'_>> =
            segments.iter().take(WRITE_SEGMENTS_MAX).map(|segment| IoSlice::new(segment)).collect();
        let mut written = stream.write_vectored(&slices).await?;
        if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
            return Err(io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = segments.front_mut() {
            if written < first.len() {
                first.advance(written);
                break;
            }
            written -= first.len();
            segments.pop_front();
        }
    }
    stream.flush().await
}

impl From<BadLength> for Close {
    fn from(BadLength(length): BadLength) -> Self {
        Self::Refused(format!("a request of {length} bytes; is this a Kafka client?"))
    }
}

#[cfg(test)]
mod tests;
