//! Produce latency at a fixed rate, as a client with `linger.ms=0` has it: each record is sent at once
//! when fewer than so many requests are in flight, and otherwise with all that has come meanwhile as
//! soon as an answer makes room. A record's time runs from the moment at which the clock wanted it
//! sent, so that a slow answer does not hide the waits behind it.
//!
//! Threads and blocking sockets, because an event loop's timers are too coarse.

use std::collections::VecDeque;
use std::io::{BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{anyhow, bail, ensure};
use bytes::Bytes;

use super::produce::outcome;
use crate::shape::{Batches, RECORDS_MAX};

/// How long answers are waited for after the last request.
const GRACE: Duration = Duration::from_secs(2);

/// How often a reader that waits in vain looks whether there is more to wait for.
const POLL: Duration = Duration::from_millis(100);

/// No answer is longer.
const RESPONSE_BYTES_MAX: usize = 1 << 20;

/// A fixed rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Paced {
    /// Records per second over all connections.
    pub(crate) rate: u32,
    /// Partitions of the topic, each used by one connection.
    pub(crate) partitions: i32,
    /// Connections, used in turn.
    pub(crate) connections: usize,
    /// Requests in flight on each.
    pub(crate) in_flight: usize,
    /// Records sent before the measurement.
    pub(crate) warm_up: Duration,
    /// For how long it is measured.
    pub(crate) duration: Duration,
}

/// How long records took.
#[derive(Clone, Debug)]
pub(crate) struct Waits {
    /// Ascending; a record without an answer counts with the time it was waited for.
    sorted: Vec<Duration>,
    /// Records per second that were answered while records were sent.
    pub(crate) rate: f64,
}

/// When each record was due, by partition and then by offset: the topic was empty before.
#[derive(Clone, Debug)]
pub(crate) struct Due(Arc<Vec<Mutex<Vec<Instant>>>>);

impl Waits {
    pub(crate) fn new(mut waits: Vec<Duration>, rate: f64) -> Self {
        waits.sort_unstable();
        Self { sorted: waits, rate }
    }

    /// The time within which this share of records was done, in microseconds.
    pub(crate) fn percentile_us(&self, share: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1);
        let at = (last as f64 * share).round() as usize;
        self.sorted.get(at).map_or(f64::NAN, |wait| wait.as_secs_f64() * 1e6)
    }
}

impl Due {
    pub(crate) fn new(partitions: i32) -> Self {
        Self(Arc::new((0..partitions).map(|_| Mutex::default()).collect()))
    }

    /// When the record at `offset` was due.
    pub(crate) fn at(&self, partition: i32, offset: usize) -> Option<Instant> {
        let partition = usize::try_from(partition).ok()?;
        lock(self.0.get(partition)?).get(offset).copied()
    }

    fn add(&self, partition: usize, due: Instant) {
        if let Some(all) = self.0.get(partition) {
            lock(all).push(due);
        }
    }
}

/// Sends at the rate and takes the time of each record.
///
/// # Errors
///
/// When a connection fails or the server answers with an error.
pub(crate) fn paced(
    address: SocketAddr,
    batches: &Batches,
    how: Paced,
    due: &Due,
) -> anyhow::Result<Waits> {
    let begun = Instant::now();
    let last_moment = begun + how.warm_up + how.duration + GRACE;
    let partitions = usize::try_from(how.partitions)?;
    let (mut lanes, mut readers) = (Vec::new(), Vec::new());
    for number in 0..how.connections {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(POLL))?;
        // A server that is far behind must not block the clock for ever.
        stream.set_write_timeout(Some(GRACE))?;
        let reading = stream.try_clone()?;
        let mine: Vec<usize> = (number..partitions).step_by(how.connections).collect();
        let lane = Arc::new(Lane {
            in_flight: how.in_flight,
            batches: batches.clone(),
            state: Mutex::new(State::new(stream, mine)),
        });
        lanes.push(Arc::clone(&lane));
        readers.push(thread::spawn(move || receive(reading, &lane, last_moment)));
    }
    let ended = pace(&lanes, how, due);
    for lane in &lanes {
        lock(&lane.state).done = true;
    }
    let measured = begun + how.warm_up;
    let mut answers = Vec::new();
    for reader in readers {
        answers.extend(reader.join().map_err(|_| anyhow!("a reader has panicked"))??);
    }
    let ended = ended?;
    answers.retain(|answer| answer.due >= measured);
    let in_time =
        answers.iter().filter(|answer| answer.answered && answer.due + answer.wait <= ended);
    let rate = in_time.count() as f64 / ended.duration_since(measured).as_secs_f64();
    Ok(Waits::new(answers.iter().map(|answer| answer.wait).collect(), rate))
}

/// A connection and the partitions that go over it.
struct Lane {
    in_flight: usize,
    batches: Batches,
    state: Mutex<State>,
}

struct State {
    stream: TcpStream,
    /// By partition: when the records that wait were due.
    waiting: Vec<(usize, VecDeque<Instant>)>,
    /// Requests without an answer, and when their records were due.
    sent: VecDeque<Vec<Instant>>,
    /// Nothing more will come.
    done: bool,
}

/// One record.
struct Answer {
    due: Instant,
    wait: Duration,
    /// With success.
    answered: bool,
}

impl State {
    fn new(stream: TcpStream, partitions: Vec<usize>) -> Self {
        let waiting = partitions.into_iter().map(|partition| (partition, VecDeque::new()));
        Self { stream, waiting: waiting.collect(), sent: VecDeque::new(), done: false }
    }

    fn waits(&self) -> bool {
        self.waiting.iter().any(|(_, records)| !records.is_empty())
    }
}

impl Lane {
    /// Sends what waits, if there is room in flight.
    fn send(&self, state: &mut State) -> anyhow::Result<()> {
        if state.sent.len() >= self.in_flight || !state.waits() {
            return Ok(());
        }
        let (mut counts, mut dues) = (Vec::new(), Vec::new());
        for (partition, records) in &mut state.waiting {
            let count = records.len().min(RECORDS_MAX);
            if count > 0 {
                counts.push((i32::try_from(*partition)?, count));
                dues.extend(records.drain(..count));
            }
        }
        let request = self.batches.request(&counts)?;
        state.sent.push_back(dues);
        Ok(state.stream.write_all(&request)?)
    }
}

/// Sends by the clock; returns when the last record was sent.
fn pace(lanes: &[Arc<Lane>], how: Paced, due: &Due) -> anyhow::Result<Instant> {
    let interval = Duration::from_secs(1) / how.rate;
    let partitions = usize::try_from(how.partitions)?;
    let mut next = Instant::now();
    let end = next + how.warm_up + how.duration;
    for partition in (0..partitions).cycle() {
        let mut now = Instant::now();
        if next >= end {
            break;
        }
        if next > now {
            thread::sleep(next - now);
            now = Instant::now();
        }
        // The sleep's own lateness, some tens of microseconds, is not the server's.
        let lane = lanes.get(partition % lanes.len()).ok_or_else(|| anyhow!("no connection"))?;
        let mut state = lock(&lane.state);
        due.add(partition, now);
        if let Some((_, records)) = state.waiting.get_mut(partition / lanes.len()) {
            records.push_back(now);
        }
        if lane.send(&mut state).is_err() {
            break;
        }
        next += interval;
    }
    Ok(Instant::now())
}

/// Takes answers until all that was sent has one or the last moment has come.
fn receive(stream: TcpStream, lane: &Lane, last_moment: Instant) -> anyhow::Result<Vec<Answer>> {
    let mut reader = BufReader::new(stream);
    let mut answers = Vec::new();
    loop {
        let came = comes(&mut reader)?;
        let now = Instant::now();
        if came {
            let answered = outcome(&read_frame(&mut reader)?)?.refused == 0;
            let mut state = lock(&lane.state);
            let Some(dues) = state.sent.pop_front() else { bail!("an answer to nothing") };
            lane.send(&mut state)?;
            drop(state);
            answers.extend(dues.into_iter().map(|due| Answer { due, wait: now - due, answered }));
        }
        let mut state = lock(&lane.state);
        let is_done = state.done && state.sent.is_empty() && !state.waits();
        if is_done || now > last_moment {
            let State { sent, waiting, .. } = &mut *state;
            let waiting = waiting.iter_mut().flat_map(|(_, records)| records.drain(..));
            let left: Vec<Instant> = sent.drain(..).flatten().chain(waiting).collect();
            answers.extend(left.into_iter().map(|due| Answer {
                due,
                wait: now - due,
                answered: false,
            }));
            return Ok(answers);
        }
    }
}

/// Whether the beginning of an answer has come; not when the wait was in vain.
fn comes(reader: &mut BufReader<TcpStream>) -> anyhow::Result<bool> {
    use std::io::BufRead as _;
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_sorted_waits() {
        let waits = (0..=100_u64).rev().map(Duration::from_micros).collect();
        let waits = Waits::new(waits, 1.0);
        for (share, expected) in [(0.0, 0.0), (0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            assert!((waits.percentile_us(share) - expected).abs() < 1e-6, "{share}");
        }
        assert!(Waits::new(Vec::new(), 0.0).percentile_us(0.5).is_nan());
    }

    #[test]
    fn due_times_are_found_by_partition_and_offset() {
        let due = Due::new(2);
        let now = Instant::now();
        due.add(1, now);
        assert_eq!(due.at(1, 0), Some(now));
        for (partition, offset) in [(0, 0), (1, 1), (2, 0), (-1, 0)] {
            assert_eq!(due.at(partition, offset), None);
        }
    }
}
