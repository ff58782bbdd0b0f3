//! A well-behaved client beside hostile ones: what it notices, and what they cost the server.
//!
//! In each round the well-behaved client is measured alone and then beside all of these at once:
//!
//! * one that floods: the largest batches, as fast as its socket takes them;
//! * one that never reads: asks for records and metadata and takes no answer;
//! * one that sends garbage: random bytes, real headers before random bodies, lengths that are lies,
//!   requests that are never ended; after each it connects anew;
//! * thousands that are idle: each has asked for versions and metadata, and asks no more.
//!
//! All of it on the loopback interface of one machine, for some seconds each. Hostile clients would have a
//! machine of their own; here they make way for the server and for the client that is measured, as far as
//! the lowest priority does that: what counts is what they cost the server, not what their own work does.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow, ensure};
use bytes::Bytes;
use millstream_types::Timestamp;
use millstream_wire::fetch_request::{FetchPartition, FetchTopic};
use millstream_wire::{
    ApiKey, ApiVersionsRequest, FetchRequest, MetadataRequest, StrBytes, encode_request,
};
use rustix::process::setpriority_process;
use tokio::runtime::Runtime;

use crate::load::{Due, Paced, paced};
use crate::peer::Peer;
use crate::shape::{Batches, Shape};
use crate::watch::{self, Cpu};

/// What the clients are to be.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Hostile {
    /// How often it is measured alone and beside the others.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Requests of the well-behaved client in a second, one record of 1 KiB each.
    #[arg(long, default_value_t = 1_000)]
    rate: u32,
    /// Idle connections.
    #[arg(long, default_value_t = 5_000)]
    idle: usize,
    /// Hostile clients of each of the other kinds.
    #[arg(long, default_value_t = 1)]
    each: usize,
    /// Only these kinds, with commas between them: flood, deaf, garbage, idle.
    #[arg(long, value_delimiter = ',', default_value = "flood,deaf,garbage,idle")]
    kinds: Vec<String>,
    /// A quota for each client id but the well-behaved one, which has ten times what it sends, in MB/s:
    /// of what it writes, and of what it reads.
    #[arg(long)]
    quota: Option<f64>,
    /// The program `millstream`.
    #[arg(long)]
    server: PathBuf,
    /// Where the server keeps its data, emptied first.
    #[arg(long)]
    scratch: PathBuf,
}

/// The goals: how much longer the slowest hundredth may take, what an idle connection may cost, and how
/// much memory the server may ever have.
const P99_RATIO_MAX: f64 = 1.5;
const IDLE_BYTES_MAX: f64 = 20.0 * 1024.0;
const RESIDENT_MEBIBYTES_MAX: f64 = 256.0;

const KIB: usize = 1024;
const FLOOD_TOPIC: &str = "flooded";
const FLOOD: Shape =
    Shape { batch_bytes: 1_000_000, record_bytes: KIB, partitions: 4, producers: 1 };
const TOPIC: &str = "well-behaved";

/// What a client has in flight by default.
const IN_FLIGHT: usize = 5;

const METADATA_VERSION: i16 = 12;
const VERSIONS_VERSION: i16 = 3;
const FETCH_VERSION: i16 = 12;

/// What `nice` calls 19.
const PRIORITY_LEAST: i32 = 19;

/// How long a client that was thrown out waits before it comes back.
const RETURN_AFTER: Duration = Duration::from_millis(5);

/// How long the server may take to start, and to be at rest.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs the rounds and prints what came of them.
///
/// # Errors
///
/// When the server fails, or does not serve the well-behaved client.
pub(crate) fn run(plan: &Hostile) -> anyhow::Result<()> {
    let runtime = Runtime::new()?;
    let server = Server::start(plan)?;
    let batches = set_up(&runtime, server.address, plan)?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    let mut idle_bytes = Vec::new();
    // Memory and caches as they are after a while.
    measure(&server, &batches, plan)?;
    println!("round  client    p50 us   p99 us   server cores  resident MiB");
    for round in 1..=plan.rounds {
        alone.push(one(&server, &batches, plan, round, "alone ")?);
        let idle = Idle::open(&runtime, &server, plan)?;
        idle_bytes.extend(idle.bytes_each);
        let gang = Gang::start(&server, plan)?;
        beside.push(one(&server, &batches, plan, round, "beside")?);
        let done = gang.stop()?;
        println!("       hostile   {done}");
        drop(idle);
        watch::rest(server.process(), PATIENCE)?;
    }
    report(&server, &alone, &beside, &idle_bytes)?;
    server.stop()
}

/// What the well-behaved client sees.
#[derive(Clone, Copy, Debug)]
struct Seen {
    p50: f64,
    p99: f64,
}

fn one(
    server: &Server,
    batches: &Batches,
    plan: &Hostile,
    round: usize,
    who: &str,
) -> anyhow::Result<Seen> {
    let before = Cpu::now(server.process())?;
    let begun = Instant::now();
    let seen = measure(server, batches, plan)?;
    let cores = before.since(server.process())?.server / begun.elapsed().as_secs_f64();
    let resident = watch::resident_mebibytes(server.process())?;
    println!(
        "{round:>5}  {who} {:>9.0} {:>8.0} {cores:>14.2} {resident:>13.0}",
        seen.p50, seen.p99
    );
    Ok(seen)
}

fn measure(server: &Server, batches: &Batches, plan: &Hostile) -> anyhow::Result<Seen> {
    let how = Paced {
        rate: plan.rate,
        partitions: 1,
        connections: 1,
        in_flight: IN_FLIGHT,
        warm_up: Duration::from_secs(1),
        duration: Duration::from_secs_f64(plan.seconds),
    };
    let waits = paced(server.address, batches, how, &Due::new(1))?;
    Ok(Seen { p50: waits.percentile_us(0.5), p99: waits.percentile_us(0.99) })
}

fn report(
    server: &Server,
    alone: &[Seen],
    beside: &[Seen],
    idle_bytes: &[f64],
) -> anyhow::Result<()> {
    let p99 = |seen: &[Seen]| median(seen.iter().map(|seen| seen.p99).collect());
    let p50 = |seen: &[Seen]| median(seen.iter().map(|seen| seen.p50).collect());
    let ratio = p99(beside) / p99(alone);
    // Between rounds the server gives memory back, which would hide what connections take.
    let idle = idle_bytes.iter().copied().reduce(f64::max);
    let peak = watch::peak_mebibytes(server.process())?;
    let says = |good: bool| if good { "met" } else { "MISSED" };
    println!("\nmedians of {} rounds:", alone.len());
    println!("p50 alone {:.0} us, beside {:.0} us", p50(alone), p50(beside));
    println!(
        "p99 alone {:.0} us, beside {:.0} us: {ratio:.2} times (at most {P99_RATIO_MAX}: {})",
        p99(alone),
        p99(beside),
        says(ratio <= P99_RATIO_MAX)
    );
    if let Some(idle) = idle {
        println!(
            "{idle:.0} bytes for each idle connection, the most of any round (at most {IDLE_BYTES_MAX:.0}: {})",
            says(idle <= IDLE_BYTES_MAX)
        );
    }
    println!(
        "{peak:.0} MiB resident at the peak (at most {RESIDENT_MEBIBYTES_MAX:.0}: {})",
        says(peak <= RESIDENT_MEBIBYTES_MAX)
    );
    Ok(())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// Makes the topics, and what the well-behaved client sends; sets the quotas.
fn set_up(runtime: &Runtime, address: SocketAddr, plan: &Hostile) -> anyhow::Result<Batches> {
    runtime.block_on(async {
        let mut peer = Peer::connect(address).await?;
        if let Some(megabytes) = plan.quota {
            let ample = 10.0 * f64::from(plan.rate) * KIB as f64;
            peer.limit_clients(None, (megabytes * 1e6).round()).await?;
            // The client id is the topic's name.
            peer.limit_clients(Some(TOPIC), ample).await?;
        }
        peer.create_topic(TOPIC, 1, &[]).await?;
        peer.create_topic(FLOOD_TOPIC, FLOOD.partitions, &[]).await
    })?;
    Batches::new(TOPIC, KIB, now()?)
}

fn now() -> anyhow::Result<Timestamp> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    Ok(Timestamp(i64::try_from(since.as_millis())?))
}

/// The server, as it ships; killed when dropped.
struct Server {
    child: Child,
    address: SocketAddr,
    log: PathBuf,
}

impl Server {
    fn start(plan: &Hostile) -> anyhow::Result<Self> {
        let folder = plan.scratch.join("hostile");
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let log = folder.join("server.log");
        let mut command = Command::new(&plan.server);
        command.args(["serve", "--kafka-listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0"]);
        command.arg("--data-dir").arg(folder.join("data"));
        let file = File::create(&log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let mut child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&log)?;
            if let Some(address) = ready_at(&text) {
                return Ok(Self { child, address, log });
            }
            ensure!(child.try_wait()?.is_none(), "the server has ended:\n{text}");
            ensure!(Instant::now() < deadline, "the server is not ready:\n{text}");
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn process(&self) -> u32 {
        self.child.id()
    }

    fn stop(mut self) -> anyhow::Result<()> {
        let ended = self.child.try_wait()?;
        ensure!(ended.is_none(), "the server had ended:\n{}", fs::read_to_string(&self.log)?);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where a server says that it serves Kafka clients.
fn ready_at(log: &str) -> Option<SocketAddr> {
    let line = log.lines().find_map(|line| line.split_once("Kafka clients at "))?.1;
    line.split(',').next()?.trim().parse().ok()
}

/// Connections that have asked something and ask no more.
struct Idle {
    _peers: Vec<Peer>,
    /// What each has added to the server's resident memory, in bytes.
    bytes_each: Option<f64>,
}

impl Idle {
    fn open(runtime: &Runtime, server: &Server, plan: &Hostile) -> anyhow::Result<Self> {
        if !plan.has("idle") || plan.idle == 0 {
            return Ok(Self { _peers: Vec::new(), bytes_each: None });
        }
        watch::rest(server.process(), PATIENCE)?;
        let before = watch::resident_mebibytes(server.process())?;
        let peers = runtime.block_on(async {
            let mut peers = Vec::with_capacity(plan.idle);
            for _ in 0..plan.idle {
                let mut peer = Peer::connect(server.address).await?;
                let versions = ApiVersionsRequest {
                    client_software_name: StrBytes::from("idle"),
                    client_software_version: StrBytes::from("1"),
                    ..ApiVersionsRequest::default()
                };
                peer.call(&versions, VERSIONS_VERSION).await?;
                peer.call(&MetadataRequest::default(), METADATA_VERSION).await?;
                peers.push(peer);
            }
            anyhow::Ok(peers)
        })?;
        watch::rest(server.process(), PATIENCE)?;
        let after = watch::resident_mebibytes(server.process())?;
        let bytes_each = (after - before) * f64::from(1 << 20) / plan.idle as f64;
        Ok(Self { _peers: peers, bytes_each: Some(bytes_each) })
    }
}

/// All hostile clients that do something.
struct Gang {
    over: Arc<AtomicBool>,
    begun: Instant,
    counts: Arc<Counts>,
    threads: Vec<JoinHandle<anyhow::Result<()>>>,
}

#[derive(Debug, Default)]
struct Counts {
    flooded_bytes: AtomicU64,
    deaf_connections: AtomicU64,
    garbage_connections: AtomicU64,
}

impl Hostile {
    fn has(&self, kind: &str) -> bool {
        self.kinds.iter().any(|each| each == kind)
    }
}

impl Gang {
    fn start(server: &Server, plan: &Hostile) -> anyhow::Result<Self> {
        let (over, counts) = (Arc::new(AtomicBool::new(false)), Arc::new(Counts::default()));
        let mut gang = Self { over, begun: Instant::now(), counts, threads: Vec::new() };
        let flood = FLOOD.encode(FLOOD_TOPIC, now()?)?;
        let at = server.address;
        for number in 0..plan.each {
            let frames = flood.frames.clone();
            gang.add(plan.has("flood"), move |over, counts| flooding(at, &frames, over, counts));
            gang.add(plan.has("deaf"), move |over, counts| deaf(at, over, counts));
            gang.add(plan.has("garbage"), move |over, counts| {
                garbage(at, number as u64, over, counts)
            });
        }
        Ok(gang)
    }

    fn add(
        &mut self,
        wanted: bool,
        client: impl FnOnce(&AtomicBool, &Counts) -> anyhow::Result<()> + Send + 'static,
    ) {
        let (over, counts) = (Arc::clone(&self.over), Arc::clone(&self.counts));
        if wanted {
            self.threads.push(thread::spawn(move || {
                // Of this thread and those that it starts.
                setpriority_process(None, PRIORITY_LEAST)?;
                client(&over, &counts)
            }));
        }
    }

    /// Ends them; says what they did.
    fn stop(self) -> anyhow::Result<String> {
        self.over.store(true, Ordering::Relaxed);
        let seconds = self.begun.elapsed().as_secs_f64();
        for thread in self.threads {
            thread.join().map_err(|_| anyhow!("a hostile client has panicked"))??;
        }
        let of = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Ok(format!(
            "flooded {:.0} MB/s; {} connections that never read, {} of garbage",
            of(&self.counts.flooded_bytes) as f64 / 1e6 / seconds,
            of(&self.counts.deaf_connections),
            of(&self.counts.garbage_connections),
        ))
    }
}

/// Connects, such that nothing blocks for long.
fn connect(at: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect(at)?;
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(Duration::from_millis(200)))?;
    stream.set_read_timeout(Some(Duration::from_millis(50)))?;
    Ok(stream)
}

/// Whether the server has neither taken nor given anything for a moment, as opposed to the end.
fn is_pause(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// Produces as fast as the socket takes it, whatever has been answered.
fn flooding(
    at: SocketAddr,
    frames: &[Bytes],
    over: &AtomicBool,
    counts: &Counts,
) -> anyhow::Result<()> {
    let stream = connect(at)?;
    let mut reading = stream.try_clone()?;
    let reader = thread::spawn(move || {
        let mut answers = [0; 64 * KIB];
        loop {
            match reading.read(&mut answers) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if is_pause(&error) => {}
                Err(_) => return,
            }
        }
    });
    let mut writing = &stream;
    'all: for frame in frames.iter().cycle() {
        let mut rest = frame.as_ref();
        while !rest.is_empty() {
            if over.load(Ordering::Relaxed) {
                break 'all;
            }
            match writing.write(rest) {
                Ok(written) => {
                    rest = rest.get(written..).unwrap_or_default();
                    counts.flooded_bytes.fetch_add(written as u64, Ordering::Relaxed);
                }
                Err(error) if is_pause(&error) => {}
                Err(error) => return Err(error).context("the flood was refused"),
            }
        }
    }
    stream.shutdown(std::net::Shutdown::Both)?;
    reader.join().map_err(|_| anyhow!("a reader has panicked"))
}

/// Asks for records and metadata and takes no answer; comes back when it is thrown out.
fn deaf(at: SocketAddr, over: &AtomicBool, counts: &Counts) -> anyhow::Result<()> {
    let partitions = (0..FLOOD.partitions).map(|partition| FetchPartition {
        partition,
        partition_max_bytes: i32::MAX,
        ..FetchPartition::default()
    });
    let topic = FetchTopic {
        topic: StrBytes::from(FLOOD_TOPIC),
        partitions: partitions.collect(),
        ..FetchTopic::default()
    };
    let fetch = FetchRequest {
        max_wait_ms: 100,
        min_bytes: 1,
        max_bytes: i32::MAX,
        session_epoch: -1,
        topics: vec![topic],
        ..FetchRequest::default()
    };
    let mut wants = encode_request(&fetch, FETCH_VERSION, 1, Some("deaf".into()))?.concat();
    wants.extend(
        encode_request(&MetadataRequest::default(), METADATA_VERSION, 2, Some("deaf".into()))?
            .concat(),
    );
    while !over.load(Ordering::Relaxed) {
        let mut stream = connect(at)?;
        counts.deaf_connections.fetch_add(1, Ordering::Relaxed);
        while !over.load(Ordering::Relaxed) {
            match stream.write_all(&wants) {
                Ok(()) => {}
                // A part of a request may have gone: what follows is garbage, but nobody reads it.
                Err(error) if is_pause(&error) => thread::sleep(RETURN_AFTER),
                Err(_) => break,
            }
        }
        thread::sleep(RETURN_AFTER);
    }
    Ok(())
}

/// Sends what is no request, waits a moment for the end, and comes back.
fn garbage(at: SocketAddr, seed: u64, over: &AtomicBool, counts: &Counts) -> anyhow::Result<()> {
    let mut dice = Dice(seed.wrapping_add(0x9E37_79B9_7F4A_7C15));
    let mut kept: Vec<TcpStream> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let mut stream = connect(at)?;
        counts.garbage_connections.fetch_add(1, Ordering::Relaxed);
        let (bytes, ends) = nonsense(&mut dice);
        // The server may end it at any moment.
        let _ = stream.write_all(&bytes);
        if ends {
            let mut answer = [0; KIB];
            // Whatever it says.
            let _ = stream.read(&mut answer);
        } else {
            // Requests that are never ended stay for a while.
            kept.push(stream);
            if kept.len() > 100 {
                kept.clear();
            }
        }
        thread::sleep(RETURN_AFTER);
    }
    Ok(())
}

/// Something that is no request, and whether the server can see that.
fn nonsense(dice: &mut Dice) -> (Vec<u8>, bool) {
    let api = ApiKey::ALL[dice.below(ApiKey::ALL.len())];
    let len = dice.below(4 * KIB) + 8;
    let mut bytes: Vec<u8> = (0..len).map(|_| dice.below(256) as u8).collect();
    let announced = match dice.below(5) {
        // Random bytes, a length among them.
        0 => return (bytes, true),
        // A length that is no length, or no request's.
        1 => [-1, i32::MIN, i32::MAX][dice.below(3)],
        // Much is announced and does not come.
        2 => i32::try_from(KIB * KIB * (1 + dice.below(99))).unwrap_or(i32::MAX),
        // A header that says what it is, and a body of noise.
        _ => i32::try_from(len).unwrap_or(i32::MAX),
    };
    let version = i16::try_from(dice.below(14)).unwrap_or_default();
    bytes.splice(0..2, api.code().to_be_bytes());
    bytes.splice(2..4, version.to_be_bytes());
    let mut whole = announced.to_be_bytes().to_vec();
    whole.extend(bytes);
    (whole, announced <= 0 || usize::try_from(announced) == Ok(len))
}

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % bound as u64).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_says_ready_is_understood() {
        let log = "2026 INFO x\nready: Kafka clients at 127.0.0.1:40001, http://127.0.0.1:8080\n";
        assert_eq!(ready_at(log), Some("127.0.0.1:40001".parse().unwrap()));
        assert_eq!(ready_at("2026 INFO starting"), None);
    }

    #[test]
    fn nonsense_comes_in_every_kind() {
        let mut dice = Dice(1);
        let (mut ending, mut giants) = (0, 0);
        for _ in 0..1_000 {
            let (bytes, ends) = nonsense(&mut dice);
            let announced = i32::from_be_bytes(*bytes.first_chunk().unwrap());
            ending += usize::from(ends);
            giants += usize::from(!ends && announced > 1 << 20);
        }
        assert!(ending > 500 && giants > 100, "{ending} {giants}");
    }
}
