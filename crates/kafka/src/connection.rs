//! One client's connection: frames in, answers out, in the order they were asked.
//!
//! A request is started by polling its handler once, so that what it does at once (above all: an
//! append) happens in the order of the requests. `Produce` requests are pipelined: each is
//! appended as it comes, and answered when it is durable. Every other request starts when all
//! before it have been answered, as with Apache Kafka, whose clients rely on it.
//!
//! All of it is one task: while an answer is being written to a slow reader nothing more is read
//! from it, which is the back-pressure. A reader that has stopped altogether is left.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use millstream_broker::Share;
use millstream_env::Env;
use millstream_types::Monotonic;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::frames::{BadLength, Frame, Frames};

/// How many requests of one connection may wait for their durability at once.
const PIPELINE_REQUESTS_MAX: usize = 64;

/// Segments handed to one vectored write; the kernel takes no more than 1,024.
const WRITE_SEGMENTS_MAX: usize = 256;

/// What becomes of a request: a reply; none (`acks=0`); or the end of the connection.
pub(crate) type Answer = Result<Option<Reply>, Close>;

/// What is written for a request.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its bytes, its length included.
    pub(crate) segments: Vec<Bytes>,
    /// The memory that they take of a budget, until they have been written.
    pub(crate) share: Option<Share>,
}

/// A request that has been started.
pub(crate) type Started = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// Why a connection ends.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Close {
    /// The peer has gone.
    Gone,
    /// The broker stops.
    Stopping,
    /// Nothing came or went for longer than `connections.max.idle.ms`: the peer has nothing to ask,
    /// or does not take its answer.
    Idle,
    /// The peer sent what can't be understood or answered; says what.
    Refused(String),
}

/// What a connection needs of the layer above it.
pub(crate) trait Service: Send {
    /// Whether this request may start before those ahead of it have been answered.
    fn pipelines(&self, frame: &[u8]) -> bool;

    /// Starts one request.
    fn start(&mut self, frame: Frame) -> Started;
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
    let active = env.clock.monotonic();
    let frames = Frames::new(bounds.request_bytes_max);
    let started = VecDeque::new();
    let pipelining = false;
    let mut connection =
        Connection { stream, service, env, bounds, frames, started, pipelining, active };
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
    /// When the peer last sent or took something.
    active: Monotonic,
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
        let idle = idle(&self.env, self.active, self.bounds);
        let mut room = self.frames.room()?;
        // `read_buf` and `front` lose nothing when the other arm wins.
        tokio::select! {
            answer = front(&mut self.started) => {
                self.started.pop_front();
                self.answer(answer?).await
            }
            read = self.stream.read_buf(&mut room), if reads => {
                self.active = self.env.clock.monotonic();
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

    fn start(&mut self, frame: Frame) {
        self.pipelining = self.service.pipelines(&frame.bytes);
        let mut started = self.service.start(frame);
        // The first poll appends. Its waker does not matter: whatever stands at the front is
        // polled again with the task's own.
        let answer = started.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        self.started.push_back(match answer {
            Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
            Poll::Pending => started,
        });
    }

    /// Writes one answer, and with it those behind it that are ready. Where one of them ends the
    /// connection, those before it are written first: what they acknowledge is done.
    async fn answer(&mut self, first: Option<Reply>) -> Result<(), Close> {
        let (mut segments, mut shares) = (VecDeque::new(), Vec::new());
        let mut enqueue = |reply: Option<Reply>| {
            if let Some(reply) = reply {
                segments.extend(reply.segments);
                shares.extend(reply.share);
            }
        };
        enqueue(first);
        let mut end = Ok(());
        while let (Ok(()), Some(next)) = (&end, self.started.front_mut()) {
            match next.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => break,
                Poll::Ready(answer) => {
                    self.started.pop_front();
                    end = answer.map(&mut enqueue);
                }
            }
        }
        let written = self.write(segments).await;
        // Until here the answers were in memory.
        drop(shares);
        written.and(end)
    }

    async fn write(&mut self, mut segments: VecDeque<Bytes>) -> Result<(), Close> {
        // What the peer asked has just been answered: its time begins now.
        self.active = self.env.clock.monotonic();
        while !segments.is_empty() {
            let slices: Vec<IoSlice<'_>> = segments
                .iter()
                .take(WRITE_SEGMENTS_MAX)
                .map(|segment| IoSlice::new(segment))
                .collect();
            let written = tokio::select! {
                biased;
                written = self.stream.write_vectored(&slices) => written,
                () = idle(&self.env, self.active, self.bounds) => return Err(Close::Idle),
            };
            let written = written.map_err(|_| Close::Gone)?;
            if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
                return Err(Close::Gone);
            }
            advance(&mut segments, written);
            self.active = self.env.clock.monotonic();
        }
        tokio::select! {
            biased;
            flushed = self.stream.flush() => flushed.map_err(|_| Close::Gone),
            () = idle(&self.env, self.active, self.bounds) => Err(Close::Idle),
        }
    }
}

/// Completes when a connection has been idle for too long.
async fn idle(env: &Env, active: Monotonic, bounds: Bounds) {
    env.clock.sleep_until(active.plus(bounds.idle_max)).await;
}

/// The answer of the oldest request; never completes when there is none.
async fn front(started: &mut VecDeque<Started>) -> Answer {
    poll_fn(|context| match started.front_mut() {
        Some(oldest) => oldest.as_mut().poll(context),
        None => Poll::Pending,
    })
    .await
}

/// Takes away what has been written.
fn advance(segments: &mut VecDeque<Bytes>, mut written: usize) {
    while let Some(first) = segments.front_mut() {
        if written < first.len() {
            first.advance(written);
            return;
        }
        written -= first.len();
        segments.pop_front();
    }
}

impl From<Vec<Bytes>> for Reply {
    fn from(segments: Vec<Bytes>) -> Self {
        Self { segments, share: None }
    }
}

impl From<BadLength> for Close {
    fn from(BadLength(length): BadLength) -> Self {
        Self::Refused(format!("a request of {length} bytes; is this a Kafka client?"))
    }
}

#[cfg(test)]
mod tests;
