//! A network: streams of bytes that take their time, arrive in pieces, and break.
//!
//! Each direction of a connection keeps its order; connections overtake each other. What a client sent
//! before it left is delivered all the same, however late: so requests come from clients that have long
//! gone on elsewhere.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::future::BoxFuture;
use millstream_env::{Clock, Dice, HandClock};
use millstream_kafka::Door;
use millstream_types::Monotonic;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::lock;
use crate::trace::Trace;

/// What one direction holds before writers wait, in bytes.
const PIPE_BYTES: usize = 256 * 1024;

/// The network, and who listens in it.
pub(crate) struct Net {
    clock: Arc<HandClock>,
    trace: Arc<Trace>,
    state: Mutex<State>,
}

struct State {
    dice: Dice,
    door: Option<Door>,
    next: u64,
    connections: BTreeMap<u64, Connection>,
    /// How much slower than usual everything is.
    slowness: u32,
}

struct Connection {
    up: Weak<Pipe>,
    down: Weak<Pipe>,
}

/// What happens to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Break {
    /// Both ends find it gone; what was under way is lost.
    Reset,
    /// Answers are lost from now on, and nobody is told.
    Mute,
    /// What is sent from now on is held up, in both directions.
    Stall(Duration),
}

/// One direction of a connection.
struct Pipe {
    id: u64,
    clock: Arc<HandClock>,
    trace: Arc<Trace>,
    state: Mutex<PipeState>,
}

struct PipeState {
    dice: Dice,
    /// What is under way, and when it arrives.
    queue: VecDeque<(Monotonic, Bytes)>,
    queued: usize,
    /// Nothing arrives before this.
    last: Monotonic,
    /// The longest that a piece takes.
    delay: Duration,
    /// The writer has left.
    ended: bool,
    /// The reader has left, or the connection is broken.
    broken: bool,
    muted: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// One end of a connection.
pub(crate) struct Stream {
    read: Arc<Pipe>,
    write: Arc<Pipe>,
    sleep: Option<(Monotonic, BoxFuture<'static, ()>)>,
}

impl Net {
    pub(crate) fn new(seed: u64, clock: Arc<HandClock>, trace: Arc<Trace>) -> Self {
        let state = State {
            dice: Dice::new(seed),
            door: None,
            next: 0,
            connections: BTreeMap::new(),
            slowness: 1,
        };
        Self { clock, trace, state: Mutex::new(state) }
    }

    /// Lets connections in from now on.
    pub(crate) fn listen(&self, door: Door) {
        lock(&self.state).door = Some(door);
    }

    /// The process that listened is gone: its connections break. Of what it had sent some still arrives.
    pub(crate) fn unlisten(&self) {
        let mut state = lock(&self.state);
        let door = state.door.take();
        let connections = std::mem::take(&mut state.connections);
        let arrives = state.dice.chance(128);
        drop(state);
        for connection in connections.into_values() {
            for (pipe, lost) in [(connection.up, true), (connection.down, !arrives)] {
                if let Some(pipe) = pipe.upgrade() {
                    pipe.end(lost);
                }
            }
        }
        drop(door);
    }

    /// How much slower everything is from now on, on new connections.
    pub(crate) fn slow_down(&self, times: u32) {
        lock(&self.state).slowness = times;
    }

    /// Opens a connection, if somebody listens.
    pub(crate) fn connect(&self) -> Option<Stream> {
        let mut state = lock(&self.state);
        let door = state.door.clone()?;
        let id = state.next;
        state.next += 1;
        let micros = [20, 200, 2_000, 30_000];
        let most = micros[state.dice.below(4) as usize] * u64::from(state.slowness);
        let (up_seed, down_seed) = (state.dice.next(), state.dice.next());
        let pipe = |half: u64, seed| {
            let delay = Duration::from_micros(most);
            let (clock, trace) = (Arc::clone(&self.clock), Arc::clone(&self.trace));
            let state = Mutex::new(PipeState::new(seed, delay));
            Arc::new(Pipe { id: id * 2 + half, clock, trace, state })
        };
        let (up, down) = (pipe(0, up_seed), pipe(1, down_seed));
        let connection = Connection { up: Arc::downgrade(&up), down: Arc::downgrade(&down) };
        state.connections.retain(|_, it| it.up.strong_count() + it.down.strong_count() > 0);
        state.connections.insert(id, connection);
        drop(state);
        let end = |read: &Arc<Pipe>, write: &Arc<Pipe>| Stream {
            read: Arc::clone(read),
            write: Arc::clone(write),
            sleep: None,
        };
        door.take(end(&up, &down));
        Some(end(&down, &up))
    }

    /// Breaks one connection of those that are open. Which one, if there are any.
    pub(crate) fn break_one(&self, how: Break) -> Option<u64> {
        let mut state = lock(&self.state);
        let count = state.connections.len() as u64;
        let at = usize::try_from(state.dice.below(count)).unwrap_or_default();
        let (id, connection) = state.connections.iter().nth(at)?;
        let (id, pipes) = (*id, [connection.up.upgrade(), connection.down.upgrade()]);
        drop(state);
        let [up, down] = pipes;
        match how {
            Break::Reset => up.iter().chain(&down).for_each(|pipe| pipe.end(true)),
            Break::Mute => down.iter().for_each(|pipe| lock(&pipe.state).muted = true),
            Break::Stall(time) => up.iter().chain(&down).for_each(|pipe| pipe.stall(time)),
        }
        Some(id)
    }
}

impl PipeState {
    fn new(seed: u64, delay: Duration) -> Self {
        Self {
            dice: Dice::new(seed),
            queue: VecDeque::new(),
            queued: 0,
            last: Monotonic(0),
            delay,
            ended: false,
            broken: false,
            muted: false,
            reader: None,
            writer: None,
        }
    }

    /// Puts bytes under way, sometimes in two pieces that do not arrive together.
    fn send(&mut self, mut bytes: Bytes, now: Monotonic) {
        if self.muted {
            return;
        }
        if bytes.len() > 1 && self.dice.chance(40) {
            let at = 1 + self.dice.below(bytes.len() as u64 - 1) as usize;
            let first = bytes.split_to(at);
            self.push(first, now);
        }
        self.push(bytes, now);
    }

    fn push(&mut self, bytes: Bytes, now: Monotonic) {
        let nanos = u64::try_from(self.delay.as_nanos()).unwrap_or(u64::MAX);
        // A packet that is sent again comes much later.
        let factor = if self.dice.chance(2) { 200 } else { 1 };
        let takes = Duration::from_nanos(self.dice.below(nanos.saturating_mul(factor)));
        self.last = self.last.max(now.plus(takes));
        self.queued += bytes.len();
        self.queue.push_back((self.last, bytes));
    }
}

impl Pipe {
    /// Nothing more is sent; `lost`: nor does what is under way arrive, and both ends are told so.
    fn end(&self, lost: bool) {
        let mut state = lock(&self.state);
        state.ended = true;
        if lost {
            state.broken = true;
            state.queue.clear();
            state.queued = 0;
        }
        wake(&mut state);
    }

    fn stall(&self, time: Duration) {
        let mut state = lock(&self.state);
        state.last = state.last.max(self.clock.monotonic().plus(time));
    }
}

fn wake(state: &mut PipeState) {
    for waker in [state.reader.take(), state.writer.take()].into_iter().flatten() {
        waker.wake();
    }
}

impl Stream {
    /// The number of the connection.
    pub(crate) fn id(&self) -> u64 {
        self.read.id / 2
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut state = lock(&this.read.state);
        if state.broken {
            return Poll::Ready(Err(ErrorKind::ConnectionReset.into()));
        }
        let now = this.read.clock.monotonic();
        let Some((at, bytes)) = state.queue.front_mut() else {
            if state.ended {
                return Poll::Ready(Ok(()));
            }
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if *at <= now {
            let count = bytes.len().min(out.remaining());
            out.put_slice(&bytes[..count]);
            bytes.advance(count);
            if bytes.is_empty() {
                state.queue.pop_front();
            }
            state.queued -= count;
            if let Some(writer) = state.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
        let at = *at;
        state.reader = Some(cx.waker().clone());
        drop(state);
        let sleep = match this.sleep.take() {
            Some((until, sleep)) if until == at => (until, sleep),
            _ => (at, this.read.clock.sleep_until(at)),
        };
        let (_, sleep) = this.sleep.insert(sleep);
        // Ready: the next poll finds the bytes.
        if sleep.as_mut().poll(cx).is_ready() {
            this.sleep = None;
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let pipe = &self.write;
        let mut state = lock(&pipe.state);
        if state.broken || state.ended {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        if state.queued >= PIPE_BYTES {
            state.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
        pipe.trace.fold(&pipe.id.to_le_bytes());
        pipe.trace.fold(&bytes);
        let count = bytes.len();
        state.send(bytes.into(), pipe.clock.monotonic());
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        Poll::Ready(Ok(count))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.end(false);
        Poll::Ready(Ok(()))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.write.end(false);
        // Who still sends to this end is told when it tries; what is under way goes nowhere.
        self.read.end(true);
    }
}
