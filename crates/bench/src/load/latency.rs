//! Produce latency at a fixed rate: one record to a request, sent by the clock whether or not
//! answers have come, so that a slow answer does not hide the waits behind it. Threads and
//! blocking sockets, because an event loop's timers are too coarse.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use bytes::Bytes;

use super::produce::is_good;
use crate::shape::Encoded;

/// How long answers are waited for after the last request.
const GRACE: Duration = Duration::from_secs(2);

/// How often a reader that waits in vain looks whether there is more to wait for.
const POLL: Duration = Duration::from_millis(100);

/// No answer to one record is longer.
const RESPONSE_BYTES_MAX: usize = 64 << 10;

/// A fixed rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paced {
    /// Requests per second over all connections.
    pub(crate) rate: u32,
    /// Connections, used in turn.
    pub(crate) connections: usize,
    /// Requests sent before the measurement.
    pub(crate) warm_up: Duration,
    /// For how long it is measured.
    pub(crate) duration: Duration,
}

/// How long answers took.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    /// Answer times, ascending; a request without an answer counts with the time it was waited for.
    sorted: Vec<Duration>,
    /// Answers per second while requests were sent.
    pub(crate) answered_rate: f64,
}

impl Waits {
    /// The time within which this share of requests was answered, in microseconds.
    pub(crate) fn percentile_us(&self, share: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.sorted.get(at).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e6)
    }
}

/// Sends at the rate and takes the time of each answer.
///
/// # Errors
///
/// When a connection fails or the server answers with an error.
pub(crate) fn paced(address: SocketAddr, encoded: &Encoded, how: Paced) -> anyhow::Result<Waits> {
    let mut lanes = Vec::new();
    let mut readers = Vec::new();
    let begun = Instant::now();
    let last_moment = begun + how.warm_up + how.duration + GRACE;
    for number in 0..how.connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        // A server that is far behind must not block the clock for ever.
        stream.set_write_timeout(Some(GRACE))?;
        let (sent, sent_at) = channel();
        let reading = stream.try_clone()?;
        readers.push(thread::spawn(move || receive(reading, &sent_at, last_moment)));
        let frame = encoded.frames[number % encoded.frames.len()].clone();
        lanes.push(Lane { stream, frame, sent });
    }
    let ended = pace(lanes, how);
    let measured = begun + how.warm_up;
    let mut answers = Vec::new();
    for reader in readers {
        answers.extend(reader.join().map_err(|_| anyhow!("a reader has panicked"))??);
    }
    let ended = ended?;
    answers.retain(|answer| answer.sent >= measured);
    let in_time =
        answers.iter().filter(|answer| answer.answered && answer.sent + answer.wait <= ended);
    let answered_rate = in_time.count() as f64 / ended.duration_since(measured).as_secs_f64();
    let mut sorted: Vec<Duration> = answers.iter().map(|answer| answer.wait).collect();
    sorted.sort_unstable();
    Ok(Waits { sorted, answered_rate })
}

/// The sending half of a connection.
struct Lane {
    stream: TcpStream,
    frame: Bytes,
    sent: Sender<Instant>,
}

struct Answer {
    sent: Instant,
    wait: Duration,
    /// With success.
    answered: bool,
}

/// Sends by the clock; returns when the last request was sent.
fn pace(mut lanes: Vec<Lane>, how: Paced) -> anyhow::Result<Instant> {
    let interval = Duration::from_secs(1) / how.rate;
    let begun = Instant::now();
    let end = begun + how.warm_up + how.duration;
    let mut due = begun;
    let count = lanes.len();
    for turn in (0..count).cycle() {
        let now = Instant::now();
        if now >= end {
            break;
        }
        if due > now {
            thread::sleep(due - now);
        }
        let lane = lanes.get_mut(turn).context("there are no connections")?;
        // The sleep's own lateness, some tens of microseconds, is not the server's.
        let sent = Instant::now();
        if lane.sent.send(sent).is_err() || lane.stream.write_all(&lane.frame).is_err() {
            break;
        }
        due += interval;
    }
    Ok(Instant::now())
}

/// Takes answers until all that was sent has one or the last moment has come.
///
/// Waits for the socket alone, one wake-up to an answer; its time is looked up afterwards.
fn receive(
    stream: TcpStream,
    sent_at: &Receiver<Instant>,
    last_moment: Instant,
) -> anyhow::Result<Vec<Answer>> {
    stream.set_read_timeout(Some(POLL))?;
    let mut reader = BufReader::new(stream);
    let mut answers = Vec::new();
    let mut oldest = None;
    loop {
        let came = comes(&mut reader)?;
        let now = Instant::now();
        oldest = oldest.or_else(|| sent_at.try_recv().ok());
        match (came, oldest) {
            (true, Some(sent)) => {
                let answered = is_good(&read_frame(&mut reader)?)?;
                answers.push(Answer { sent, wait: now - sent, answered });
                oldest = None;
            }
            (true, None) => bail!("an answer to nothing"),
            (false, None) if sent_at.try_recv() == Err(TryRecvError::Disconnected) => break,
            (false, _) => {}
        }
        if now > last_moment {
            break;
        }
    }
    let left = oldest.into_iter().chain(sent_at.iter());
    answers.extend(left.map(|sent| Answer { sent, wait: sent.elapsed(), answered: false }));
    Ok(answers)
}

/// Whether the beginning of an answer has come; not when the wait was in vain.
fn comes(reader: &mut BufReader<TcpStream>) -> anyhow::Result<bool> {
    match reader.fill_buf() {
        Ok([]) => bail!("the server has closed the connection"),
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

fn read_frame(reader: &mut BufReader<TcpStream>) -> anyhow::Result<Bytes> {
    let mut length = [0; 4];
    reader.read_exact(&mut length)?;
    let length = usize::try_from(i32::from_be_bytes(length))?;
    ensure!(length <= RESPONSE_BYTES_MAX, "an answer of {length} bytes");
    let mut frame = vec![0; length];
    reader.read_exact(&mut frame)?;
    Ok(Bytes::from(frame))
}
