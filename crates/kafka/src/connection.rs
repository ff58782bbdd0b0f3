//! One client's connection: frames in, answers out, in the order they were asked.
//!
//! A request is started by polling its handler once, so that what it does at once (above all: an
//! append) happens in the order of the requests. `Produce` requests are pipelined: each is
//! appended as it comes, and answered when it is durable. Every other request starts when all
//! before it have been answered, as with Apache Kafka, whose clients rely on it.
//!
//! All of it is one task with one timer: while an answer is being written to a slow reader nothing
//! more is read from it, which is the back-pressure. A reader that has stopped altogether is left, and
//! so is one that begins a request and does not end it. What a connection may hold is bounded: one
//! request that is being read, for which there must be room ([`crate::intake`]) unless it is small;
//! those begun, up to [`Bounds::in_flight_bytes_max`]; the answers of those. An idle one has no buffer.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use millstream_broker::Share;
use millstream_env::Env;
use millstream_types::Monotonic;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};

use crate::frames::{BadLength, Frame, Frames, SMALL_BYTES_MAX};
use crate::intake::{Held, Intake};
use crate::timer::{NEVER, Timer};

/// How many requests of one connection may wait for their durability at once.
const PIPELINE_REQUESTS_MAX: usize = 64;

/// Segments handed to one vectored write; the kernel takes no more than 1,024.
const WRITE_SEGMENTS_MAX: usize = 256;

/// After so many bytes of requests a connection lets others have their turn, in bytes.
const TURN_BYTES: usize = 512 * 1024;

/// What a request counts for in a turn beside its bytes: small ones are work, too.
const TURN_BYTES_OF_REQUEST: usize = 8 * 1024;

/// While others wait for the memory that a client holds, it must send [`STRETCH_BYTES`] of its request,
/// or take as much of its answer, within this time.
const SHORTAGE_PATIENCE: Duration = Duration::from_secs(10);

/// See [`SHORTAGE_PATIENCE`].
const STRETCH_BYTES: usize = 256 * 1024;

/// What a connection begins with that is meant to be TLS: a handshake record, of any version.
const TLS_HANDSHAKE: [u8; 2] = [0x16, 0x03];

/// What becomes of a request: a reply; none (`acks=0`); or the end of the connection.
pub(crate) type Answer = Result<Option<Reply>, Close>;

/// What is written for a request.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Its bytes, its length included.
    pub(crate) segments: Vec<Bytes>,
    /// The memory that they take of a budget, until they have been written.
    pub(crate) share: Option<Share>,
    /// Why the connection ends when they have been written, if it does.
    pub(crate) ends: Option<Close>,
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
    /// does not end what it began to ask, or does not take its answer.
    Idle,
    /// The peer neither went on with its request nor took its answer, while others waited for the
    /// memory that it held.
    Slow,
    /// The peer sent what can't be understood or answered; says what.
    Refused(String),
}

/// What a connection needs of the layer above it.
pub(crate) trait Service: Send {
    /// Whether this request may start before those ahead of it have been answered.
    fn pipelines(&self, frame: &[u8]) -> bool;

    /// How much memory a request takes that begins with `head` and has `length` bytes, at most.
    fn cost(&self, head: &[u8], length: usize) -> usize;

    /// Starts one request. `room` is what was taken for it, if it is not a small one.
    fn start(&mut self, frame: Frame, room: Option<Held>) -> Started;

    /// Whether the memory of answers is short, so that others wait for it.
    fn is_short(&self) -> bool;

    /// Until when the client is left alone because it has used too much: nothing of it is begun or read.
    /// What it has asked before is answered.
    fn muted_until(&self) -> Monotonic;

    /// The largest request that is read now, in bytes, where nobody may send more than `most`.
    fn request_bytes_max(&self, most: usize) -> usize;

    /// Until when the client must have logged in: [`NEVER`] if it has, or need not.
    fn login_until(&self) -> Monotonic;
}

/// The bounds of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// The largest request, in bytes.
    pub(crate) request_bytes_max: usize,
    /// With so many bytes of requests begun no other one is begun before one of them is answered, in
    /// bytes. One may always be.
    pub(crate) in_flight_bytes_max: usize,
    pub(crate) idle_max: Duration,
    /// The room for all requests that are not small.
    pub(crate) intake: Arc<Intake>,
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
    let mut connection = Connection {
        stream,
        service,
        timer: Timer::new(env),
        bounds,
        frames,
        begun: active,
        room: Room::NotAsked,
        started: VecDeque::new(),
        in_flight_bytes: 0,
        pipelining: false,
        active,
        stretch: Stretch { since: active, came: 0 },
        turn_bytes: 0,
    };
    tokio::select! {
        biased;
        closed = connection.run() => closed,
        () = stop => Close::Stopping,
    }
}

struct Connection<S, V> {
    stream: S,
    service: V,
    timer: Timer,
    bounds: Bounds,
    frames: Frames,
    /// When the first byte of what is in `frames` came.
    begun: Monotonic,
    /// The room of the first request in `frames`.
    room: Room,
    /// Requests begun and not answered, oldest first.
    started: VecDeque<Begun>,
    /// The bytes of those.
    in_flight_bytes: usize,
    /// Whether those are such as may be followed at once.
    pipelining: bool,
    /// When the peer last sent or took something.
    active: Monotonic,
    /// How the peer goes on with the request for which there is room.
    stretch: Stretch,
    /// Bytes of requests since others last had their turn.
    turn_bytes: usize,
}

/// How far a peer has come with what it sends or takes.
struct Stretch {
    since: Monotonic,
    /// The bytes that had come by then.
    came: usize,
}

/// A request that has been started, and its size in bytes.
struct Begun {
    answer: Started,
    bytes: usize,
}

/// Where the room for the next request is to come from.
enum Room {
    /// It is small, or its length is not known yet.
    NotAsked,
    /// Others come first.
    Waits(Pin<Box<dyn Future<Output = Held> + Send>>),
    /// It is there.
    Taken(Held),
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
            if self.turn_bytes >= TURN_BYTES {
                self.turn_bytes = 0;
                tokio::task::yield_now().await;
            }
        }
    }

    /// Starts what may start, then waits for the next answer, for room, or for the next bytes.
    async fn step(&mut self) -> Result<(), Close> {
        // Whoever always has something to say never lets it come to the timer.
        is_in_time(&self.timer, &self.service)?;
        self.frames.limit(self.service.request_bytes_max(self.bounds.request_bytes_max));
        while self.may_start()? {
            if let Some(frame) = self.frames.take()? {
                self.start(frame);
            }
        }
        let is_muted = self.is_muted();
        if !is_muted {
            self.ask_for_room()?;
        }
        // A whole frame that must wait its turn is enough to hold; more is left in the socket.
        let waits_for_room = matches!(self.room, Room::Waits(_));
        let reads = !is_muted && self.frames.peek()?.is_none() && !waits_for_room;
        let was_empty = self.frames.is_empty();
        let deadline = match (is_muted, reads) {
            (true, _) => self.muted_deadline(),
            (false, true) => self.deadline(),
            (false, false) => NEVER,
        };
        let deadline = deadline.min(self.service.login_until());
        let Self { stream, frames, started, room, timer, .. } = self;
        // Each arm loses nothing when another one wins.
        tokio::select! {
            biased;
            answer = front(started) => self.answer_front(answer).await,
            held = has_room(room) => {
                self.got_room(held);
                Ok(())
            }
            read = read(stream, frames), if reads => self.has_read(was_empty, read?),
            () = timer.reach(deadline), if deadline != NEVER => {
                is_in_time(&self.timer, &self.service)?;
                if is_muted { self.is_muted_on() } else { self.is_late() }
            }
        }
    }

    fn is_muted(&self) -> bool {
        let until = self.service.muted_until();
        // Without quotas no clock is asked.
        until != Monotonic(0) && self.timer.now() < until
    }

    /// When it is to be looked at the connection that is not read from: when it is again, or, while it keeps
    /// room for a request that has come in part, whether others need that.
    fn muted_deadline(&self) -> Monotonic {
        let until = self.service.muted_until();
        match self.room {
            Room::Taken(_) => self.stretch.since.plus(SHORTAGE_PATIENCE).min(until),
            Room::NotAsked | Room::Waits(_) => until,
        }
    }

    /// That deadline has come. That nothing was heard of the client is not its doing; but it does not keep
    /// what others wait for.
    fn is_muted_on(&mut self) -> Result<(), Close> {
        if matches!(self.room, Room::Taken(_)) && self.bounds.intake.is_short() {
            return Err(Close::Slow);
        }
        let now = self.timer.now();
        (self.active, self.begun) = (now, now);
        self.stretch = Stretch { since: now, came: self.frames.len() };
        Ok(())
    }

    /// When it is to be looked whether the peer is to be left, as long as it is read from.
    fn deadline(&self) -> Monotonic {
        let idle_max = self.bounds.idle_max;
        match &self.room {
            Room::Taken(_) => {
                self.stretch.since.plus(SHORTAGE_PATIENCE).min(self.begun.plus(idle_max))
            }
            _ if !self.frames.is_empty() => self.begun.plus(idle_max),
            // Its answer is awaited.
            _ if !self.started.is_empty() => NEVER,
            _ => self.active.plus(idle_max),
        }
    }

    /// The deadline has come.
    fn is_late(&mut self) -> Result<(), Close> {
        let now = self.timer.now();
        let since = if self.frames.is_empty() { self.active } else { self.begun };
        if now >= since.plus(self.bounds.idle_max) {
            return Err(Close::Idle);
        }
        let came = self.frames.len();
        if self.bounds.intake.is_short() && came < self.stretch.came + STRETCH_BYTES {
            return Err(Close::Slow);
        }
        self.stretch = Stretch { since: now, came };
        Ok(())
    }

    fn has_read(&mut self, was_empty: bool, bytes: usize) -> Result<(), Close> {
        if bytes == 0 {
            return Err(Close::Gone);
        }
        self.active = self.timer.now();
        if was_empty {
            self.begun = self.active;
        }
        Ok(())
    }

    fn got_room(&mut self, held: Held) {
        self.stretch = Stretch { since: self.timer.now(), came: self.frames.len() };
        self.room = Room::Taken(held);
    }

    fn may_start(&self) -> Result<bool, Close> {
        let Some(frame) = self.frames.peek()? else { return Ok(false) };
        if self.is_muted() {
            return Ok(false);
        }
        let has_room = frame.len() <= SMALL_BYTES_MAX || matches!(self.room, Room::Taken(_));
        let joins = self.pipelining
            && self.started.len() < PIPELINE_REQUESTS_MAX
            && self.in_flight_bytes < self.bounds.in_flight_bytes_max
            && self.service.pipelines(frame);
        Ok(has_room && (self.started.is_empty() || joins))
    }

    /// Asks for the room of the next request as soon as its length is known.
    fn ask_for_room(&mut self) -> Result<(), Close> {
        let Some((length, head)) = self.frames.head()? else { return Ok(()) };
        if length <= SMALL_BYTES_MAX || !matches!(self.room, Room::NotAsked) {
            return Ok(());
        }
        let (cost, intake) = (self.service.cost(head, length), &self.bounds.intake);
        match intake.try_take(cost) {
            Some(held) => self.got_room(held),
            None => self.room = Room::Waits(Box::pin(Arc::clone(intake).take(cost))),
        }
        Ok(())
    }

    fn start(&mut self, frame: Frame) {
        let bytes = frame.bytes.len();
        self.pipelining = self.service.pipelines(&frame.bytes);
        let room = match std::mem::replace(&mut self.room, Room::NotAsked) {
            Room::Taken(held) => Some(held),
            Room::NotAsked | Room::Waits(_) => None,
        };
        // What is left began no earlier.
        self.begun = self.active;
        let mut started = self.service.start(frame, room);
        // The first poll appends. Its waker does not matter: whatever stands at the front is
        // polled again with the task's own.
        let answer = started.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        let answer = match answer {
            Poll::Ready(answer) => Box::pin(std::future::ready(answer)),
            Poll::Pending => started,
        };
        self.in_flight_bytes += bytes;
        self.turn_bytes += bytes + TURN_BYTES_OF_REQUEST;
        self.started.push_back(Begun { answer, bytes });
    }

    /// Takes the oldest request away, which has been answered.
    fn pop(&mut self) {
        if let Some(begun) = self.started.pop_front() {
            self.in_flight_bytes -= begun.bytes;
        }
    }

    /// Writes the answer of the oldest request, and with it those behind it that are ready. Where one
    /// of them ends the connection, those before it are written first: what they acknowledge is
    /// done.
    async fn answer_front(&mut self, first: Answer) -> Result<(), Close> {
        self.pop();
        let (mut segments, mut shares) = (VecDeque::new(), Vec::new());
        let mut enqueue = |reply: Option<Reply>| {
            let Some(reply) = reply else { return Ok(()) };
            segments.extend(reply.segments);
            shares.extend(reply.share);
            reply.ends.map_or(Ok(()), Err)
        };
        let mut end = enqueue(first?);
        while let (Ok(()), Some(next)) = (&end, self.started.front_mut()) {
            match next.answer.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => break,
                Poll::Ready(answer) => {
                    self.pop();
                    end = answer.and_then(&mut enqueue);
                }
            }
        }
        if self.started.is_empty() {
            // Most connections never have as many again.
            self.started.shrink_to(1);
        }
        let written = self.write(segments).await;
        // Until here the answers were in memory.
        drop(shares);
        written.and(end)
    }

    async fn write(&mut self, mut segments: VecDeque<Bytes>) -> Result<(), Close> {
        // What the peer asked has just been answered: its time begins now.
        self.active = self.timer.now();
        let mut stretch = Stretch { since: self.active, came: 0 };
        while !segments.is_empty() {
            let slices: Vec<IoSlice<'_>> = segments
                .iter()
                .take(WRITE_SEGMENTS_MAX)
                .map(|segment| IoSlice::new(segment))
                .collect();
            let written = tokio::select! {
                biased;
                written = self.stream.write_vectored(&slices) => written,
                close = stalls(&mut self.timer, &self.service, self.active, &stretch, &self.bounds) => {
                    return Err(close);
                }
            };
            let written = written.map_err(|_| Close::Gone)?;
            if written == 0 && slices.iter().any(|slice| !slice.is_empty()) {
                return Err(Close::Gone);
            }
            advance(&mut segments, written);
            self.active = self.timer.now();
            stretch.came += written;
            if stretch.came >= STRETCH_BYTES {
                stretch = Stretch { since: self.active, came: 0 };
            }
        }
        tokio::select! {
            biased;
            flushed = self.stream.flush() => flushed.map_err(|_| Close::Gone),
            close = stalls(&mut self.timer, &self.service, self.active, &stretch, &self.bounds) => {
                Err(close)
            }
        }
    }
}

/// Whether the client may still be about to log in, if it has to. Where nobody has to, no clock is asked.
fn is_in_time(timer: &Timer, service: &impl Service) -> Result<(), Close> {
    let until = service.login_until();
    if until == NEVER || timer.now() < until {
        return Ok(());
    }
    Err(Close::Refused("a client that does not log in".to_owned()))
}

/// Completes when the peer, which has last taken something at `active`, is to be left: because it has
/// taken nothing for too long, or too little while others wait for the memory of its answer; or because it should
/// have logged in by now.
async fn stalls(
    timer: &mut Timer,
    service: &impl Service,
    active: Monotonic,
    stretch: &Stretch,
    bounds: &Bounds,
) -> Close {
    let end = active.plus(bounds.idle_max);
    let mut look = stretch.since.plus(SHORTAGE_PATIENCE);
    loop {
        timer.reach(look.min(end).min(service.login_until())).await;
        if let Err(close) = is_in_time(timer, service) {
            return close;
        }
        if timer.now() >= end {
            return Close::Idle;
        }
        if service.is_short() {
            return Close::Slow;
        }
        look = timer.now().plus(SHORTAGE_PATIENCE);
    }
}

/// Reads what has come. While nothing is there, that is all that it takes: there is no buffer.
async fn read<S: AsyncRead + Unpin>(stream: &mut S, frames: &mut Frames) -> Result<usize, Close> {
    let read = if frames.is_empty() {
        poll_fn(|context| {
            let mut space = [MaybeUninit::uninit(); SMALL_BYTES_MAX];
            let mut space = ReadBuf::uninit(&mut space);
            ready!(Pin::new(&mut *stream).poll_read(context, &mut space))?;
            frames.put(space.filled());
            Poll::Ready(Ok(space.filled().len()))
        })
        .await
    } else {
        let mut room = frames.room()?;
        stream.read_buf(&mut room).await
    };
    read.map_err(|_: io::Error| Close::Gone)
}

/// Completes when there is room for the next request; never when it does not wait for any.
async fn has_room(room: &mut Room) -> Held {
    match room {
        Room::Waits(waits) => waits.await,
        Room::NotAsked | Room::Taken(_) => std::future::pending().await,
    }
}

/// The answer of the oldest request; never completes when there is none.
async fn front(started: &mut VecDeque<Begun>) -> Answer {
    poll_fn(|context| match started.front_mut() {
        Some(oldest) => oldest.answer.as_mut().poll(context),
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
        Self { segments, share: None, ends: None }
    }
}

impl From<BadLength> for Close {
    fn from(BadLength(length): BadLength) -> Self {
        // What a client of TLS says first, before it would know that nobody understands it.
        if length.to_be_bytes().starts_with(&TLS_HANDSHAKE) {
            let why = "the client speaks TLS, and this listener does not: it needs \
                       security.protocol=PLAINTEXT, or another port";
            return Self::Refused(why.to_owned());
        }
        Self::Refused(format!("a request of {length} bytes; is this a Kafka client?"))
    }
}

#[cfg(test)]
mod tests;
