//! The plan: which rows, in which order, how often.
//!
//! Both servers run throughout a repetition, so that each row measures them within seconds of each
//! other: on a machine with other work, that is what makes a ratio worth something. Only one is
//! under load at a time, and what one has left to the disk is flushed before the next begins.

mod compaction;
mod security;
mod transactions;

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use millstream_types::Timestamp;
use tokio::runtime::Runtime;

use crate::load::{self, Due, Flood, Paced, Tailing, Waits};
use crate::options::{LoadOnce, Plan};
use crate::peer::Peer;
use crate::report::{self, Facts};
use crate::samples::{Measure, Samples};
use crate::server::{Program, Server, System};
use crate::shape::{Batches, Shape};
use crate::tools;
use crate::watch::{self, Cpu};

/// Row names; those of produce and latency rows are their labels.
pub(crate) const START: &str = "start";
pub(crate) const WARM: &str = "read what was just produced";
pub(crate) const COLD: &str = "read with empty caches";
pub(crate) const TAIL: &str = "tailing consumer";
pub(crate) const JAVA: &str = "kafka-producer-perf-test";
pub(crate) const KCAT: &str = "kcat";
pub(crate) use compaction::{CONSUME as COMPACTION_CONSUME, PRODUCE as COMPACTION_PRODUCE};
pub(crate) use security::rows as security_rows;
pub(crate) use transactions::{PRODUCERS, row as transactions_row};

/// What a client has in flight by default.
pub(crate) const IN_FLIGHT: u32 = 5;

/// The fixed rate of the latency rows, in records per second.
pub(crate) const RATE: u32 = 20_000;

/// Connections that read back.
pub(crate) const READERS: usize = 8;

const KIB: usize = 1024;
const LARGE: usize = 1_000_000;
/// `batch.size` of the Java client.
const USUAL: usize = 16 * KIB;
const MANY: i32 = 100;

/// What is read back.
pub(crate) const READ: Shape = shape(KIB, USUAL, MANY, 8);

const QUICK_SHAPES: &[Shape] =
    &[shape(100, USUAL, 1, 1), shape(KIB, USUAL, 1, 8), READ, shape(KIB, LARGE, MANY, 8)];

const SHAPES: &[Shape] = &[
    shape(100, USUAL, 1, 1),
    shape(100, USUAL, 1, 8),
    shape(100, USUAL, MANY, 1),
    shape(100, USUAL, MANY, 8),
    shape(KIB, USUAL, 1, 1),
    shape(KIB, USUAL, 1, 8),
    shape(KIB, USUAL, MANY, 1),
    READ,
    shape(KIB, LARGE, 1, 8),
    shape(KIB, LARGE, MANY, 8),
];

/// A latency row: how records at the fixed rate are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) label: &'static str,
    partitions: i32,
    connections: usize,
    in_flight: usize,
}

pub(crate) const PACES: [Pace; 3] = [
    Pace { label: "1 partition, 1 producer", partitions: 1, connections: 1, in_flight: 5 },
    Pace { label: "100 partitions, 4 producers", partitions: MANY, connections: 4, in_flight: 5 },
    Pace {
        label: "100 partitions, 4 producers, one request in flight",
        partitions: MANY,
        connections: 4,
        in_flight: 1,
    },
];

/// How long a server may go on with what it put off, before that no longer counts.
const REST_MAX: Duration = Duration::from_secs(3);

const fn shape(
    record_bytes: usize,
    batch_bytes: usize,
    partitions: i32,
    producers: usize,
) -> Shape {
    Shape { batch_bytes, record_bytes, partitions, producers }
}

/// How much and how long: the difference between --quick and all of it.
#[derive(Clone, Copy, Debug)]
struct Size {
    repetitions: usize,
    shapes: &'static [Shape],
    paces: &'static [Pace],
    starts: usize,
    idle: Duration,
    warm_up: Duration,
    /// Bytes of each throughput run: four times the journal and the tail, so that laying out is inside.
    flood_bytes: u64,
    /// A run ends by then, whatever it has written.
    flood_limit: Duration,
    paced: Duration,
    consume: Duration,
    tool_records: u64,
    /// With a flush to each request, Apache Kafka takes long.
    tool_records_flushed: u64,
    /// No repetition is begun that would probably end later.
    time_max: Duration,
}

impl Size {
    fn of(plan: &Plan) -> Self {
        let seconds = Duration::from_secs;
        let (journal, tail) = (plan.journal_mebibytes, TAIL_MEBIBYTES);
        let flood_bytes = 4 * (journal + tail) * 1024 * 1024;
        let size = if plan.quick {
            Self {
                repetitions: 3,
                shapes: QUICK_SHAPES,
                paces: &PACES,
                starts: 3,
                idle: seconds(1),
                warm_up: seconds(1),
                flood_bytes: flood_bytes / 2,
                flood_limit: seconds(2),
                paced: Duration::from_millis(1_500),
                consume: Duration::from_millis(1_500),
                tool_records: 200_000,
                tool_records_flushed: 10_000,
                time_max: seconds(5 * 60),
            }
        } else {
            Self {
                repetitions: 5,
                shapes: SHAPES,
                paces: &PACES,
                starts: 5,
                idle: seconds(2),
                warm_up: seconds(3),
                flood_bytes,
                flood_limit: seconds(8),
                paced: seconds(4),
                consume: seconds(4),
                tool_records: 400_000,
                tool_records_flushed: 20_000,
                time_max: seconds(60 * 60),
            }
        };
        Self { repetitions: plan.repetitions.unwrap_or(size.repetitions), ..size }
    }
}

/// The default of `millstream.tail.bytes`, in MiB.
const TAIL_MEBIBYTES: u64 = 64;

/// One repetition under way.
struct Repetition<'a> {
    plan: &'a Plan,
    size: Size,
    runtime: &'a Runtime,
    number: usize,
    servers: Vec<(Program, Server)>,
    samples: &'a mut Samples,
}

/// What is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// Rows against servers as they ship.
    Rows,
    /// What TLS and access rules cost.
    Security,
}

/// Runs a part of it, or what was asked for of that, and writes its report.
///
/// # Errors
///
/// When a server or a generator fails.
pub(crate) fn run(plan: &Plan, part: Part) -> anyhow::Result<()> {
    let begun = Instant::now();
    fs::create_dir_all(&plan.scratch)?;
    let size = Size::of(plan);
    let runtime = runtime()?;
    let mut facts = Facts {
        machine: watch::machine()?,
        disks: Vec::new(),
        quick: plan.quick,
        journal_mebibytes: plan.journal_mebibytes,
        run_mebibytes: size.flood_bytes >> 20,
    };
    let mut samples = Samples::default();
    let mut done = 0;
    while done < size.repetitions {
        eprintln!("repetition {} of {}", done + 1, size.repetitions);
        let mut repetition = Repetition {
            plan,
            size,
            runtime: &runtime,
            number: done,
            servers: Vec::new(),
            samples: &mut samples,
        };
        match part {
            Part::Rows => repetition.run()?,
            Part::Security => repetition.security()?,
        }
        // Between the loads, when the disk has nothing else to do.
        facts.disks.push(watch::disk(&plan.scratch)?);
        done += 1;
        samples.save(&plan.samples)?;
        let each = begun.elapsed() / u32::try_from(done)?;
        if begun.elapsed() + each > size.time_max {
            break;
        }
    }
    let text = match part {
        Part::Rows => report::write(&samples, &facts, done),
        Part::Security => report::write_security(&samples, &facts, done),
    };
    fs::write(&plan.report, &text).with_context(|| plan.report.display().to_string())?;
    if part == Part::Rows {
        report::charts(&samples, &plan.report)?;
    }
    println!("{text}");
    eprintln!("{} repetitions, {} s; {}", done, begun.elapsed().as_secs(), plan.report.display());
    Ok(())
}

impl Repetition<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        self.start()?;
        self.warm_up()?;
        for (turn, pace) in self.size.paces.iter().enumerate() {
            if self.wants(pace.label) {
                self.each_system(turn, |this, system| this.latency(*pace, system))?;
            }
        }
        if self.wants(TAIL) {
            self.each_system(1, Self::tail)?;
        }
        for (turn, shape) in self.size.shapes.iter().enumerate() {
            let is_read = *shape == READ && (self.wants(WARM) || self.wants(COLD));
            if is_read || self.wants(&shape.label()) {
                self.each_system(turn, |this, system| this.produce(*shape, system))?;
            }
            if is_read {
                self.each_system(turn, |this, system| this.consume(WARM, system))?;
            }
        }
        self.transactions()?;
        if self.wants(compaction::PRODUCE) || self.wants(compaction::CONSUME) {
            self.each_system(1, Self::compaction)?;
        }
        if self.wants(COLD) && watch::drop_caches() {
            self.each_system(0, |this, system| this.consume(COLD, system))?;
        }
        if self.wants(JAVA) {
            self.each_system(1, Self::java)?;
        }
        if self.wants(KCAT) {
            self.each_system(0, Self::kcat)?;
        }
        for (program, server) in std::mem::take(&mut self.servers) {
            let system = program.systems()[0];
            let resident = watch::resident_mebibytes(server.process())?;
            let mut cell = self.samples.cell(START, system, self.number);
            cell.put(Measure::LoadedMebibytes, resident);
            server.stop()?;
        }
        Ok(())
    }

    /// Whether a row is asked for.
    fn wants(&self, row: &str) -> bool {
        let rows = &self.plan.rows;
        rows.is_empty() || rows.iter().any(|part| row.contains(part.as_str()))
    }

    /// Programs in the order of this repetition: every other one begins with the other.
    fn programs(&self) -> Vec<Program> {
        let mut programs = vec![Program::Millstream, Program::Null];
        if !self.plan.without_kafka {
            programs.push(Program::Kafka);
        }
        if self.number % 2 == 1 {
            programs.reverse();
        }
        programs
    }

    /// Does one row with each system, in an order that changes from row to row and from
    /// repetition to repetition.
    fn each_system(
        &mut self,
        turn: usize,
        row: impl Fn(&mut Self, System) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut systems: Vec<System> =
            self.servers.iter().flat_map(|(program, _)| program.systems()).copied().collect();
        systems.sort_unstable();
        let first = (turn + self.number) % systems.len();
        systems.rotate_left(first);
        for system in systems {
            // What others have left to the disk is theirs.
            let flushed = Command::new("sync").arg("-f").arg(&self.plan.scratch).status();
            anyhow::ensure!(flushed.context("sync")?.success(), "sync has failed");
            row(self, system)?;
        }
        Ok(())
    }

    fn start(&mut self) -> anyhow::Result<()> {
        for program in self.programs() {
            let starts = if program == Program::Kafka { 1 } else { self.size.starts };
            for start in 1..=starts {
                let server = Server::start(program, self.plan, self.runtime)?;
                let ready = server.ready_after.as_secs_f64() * 1e3;
                let system = program.systems()[0];
                self.samples.cell(START, system, self.number).put(Measure::ReadyMs, ready);
                if start == starts {
                    thread::sleep(self.size.idle);
                    let resident = watch::resident_mebibytes(server.process())?;
                    let mut cell = self.samples.cell(START, system, self.number);
                    cell.put(Measure::IdleMebibytes, resident);
                    self.servers.push((program, server));
                } else {
                    server.stop()?;
                }
            }
        }
        Ok(())
    }

    /// A virtual machine compiles what it sees often: let it see what is to be measured.
    fn warm_up(&mut self) -> anyhow::Result<()> {
        let (size, shape) = (self.size, READ);
        self.each_system(0, |this, system| {
            let topic = this.topic(system, "warm-up", shape.partitions)?;
            let encoded = shape.encode(&topic, now())?;
            let server = this.server(system)?;
            let how = flood(shape, size.flood_bytes, size.warm_up);
            this.runtime.block_on(load::flood(server.address, &encoded, how))?;
            if system.keeps() {
                let limit = size.warm_up / 2;
                let reading =
                    load::consume(server.address, &topic, shape.partitions, READERS, limit);
                this.runtime.block_on(reading)?;
            }
            this.delete(system, &topic)
        })
    }

    fn produce(&mut self, shape: Shape, system: System) -> anyhow::Result<()> {
        let label = shape.label();
        let topic = self.topic(system, &label, shape.partitions)?;
        let encoded = shape.encode(&topic, now())?;
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let how = flood(shape, self.size.flood_bytes, self.size.flood_limit);
        let before = Cpu::now(process)?;
        let moved = self.runtime.block_on(load::flood(address, &encoded, how))?;
        let during = before.since(process)?;
        watch::rest(process, REST_MAX)?;
        let used = before.since(process)?;
        self.samples
            .cell(&label, system, self.number)
            .put(Measure::MegabytesPerSecond, moved.megabytes_per_second())
            .put(Measure::RecordsPerSecond, moved.records_per_second())
            .put(Measure::CpuSecondsPerGibibyte, used.server / moved.gibibytes())
            .put(Measure::RefusedPercent, moved.refused * 100.0)
            .put(Measure::ServerCores, during.server / moved.elapsed.as_secs_f64())
            .put(Measure::GeneratorCores, during.generator_cores)
            .put(Measure::OthersCores, during.others_cores);
        if shape == READ { Ok(()) } else { self.delete(system, &topic) }
    }

    fn latency(&mut self, pace: Pace, system: System) -> anyhow::Result<()> {
        let topic = self.topic(system, pace.label, pace.partitions)?;
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let batches = Batches::new(&topic, KIB, now())?;
        let before = Cpu::now(process)?;
        let due = Due::new(pace.partitions);
        let waits = load::paced(address, &batches, self.paced(pace), &due)?;
        let used = before.since(process)?;
        self.put_waits(pace.label, system, &waits, used.others_cores);
        self.delete(system, &topic)
    }

    /// End to end: from the moment a record is due to the one at which a consumer has it.
    fn tail(&mut self, system: System) -> anyhow::Result<()> {
        if !system.keeps() {
            return Ok(());
        }
        let pace = PACES[1];
        let topic = self.topic(system, TAIL, pace.partitions)?;
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let batches = Batches::new(&topic, KIB, now())?;
        let before = Cpu::now(process)?;
        let due = Due::new(pace.partitions);
        let how = self.paced(pace);
        let measured = Instant::now() + how.warm_up;
        let tailing = self.runtime.block_on(Tailing::start(address, &topic, pace.partitions))?;
        load::paced(address, &batches, how, &due)?;
        let waits = self.runtime.block_on(tailing.waits(&due, measured))?;
        let used = before.since(process)?;
        self.put_waits(TAIL, system, &waits, used.others_cores);
        self.delete(system, &topic)
    }

    fn paced(&self, pace: Pace) -> Paced {
        Paced {
            rate: RATE,
            partitions: pace.partitions,
            connections: pace.connections,
            in_flight: pace.in_flight,
            warm_up: self.size.warm_up / 2,
            duration: self.size.paced,
        }
    }

    fn put_waits(&mut self, row: &str, system: System, waits: &Waits, others_cores: f64) {
        self.samples
            .cell(row, system, self.number)
            .put(Measure::P50Us, waits.percentile_us(0.5))
            .put(Measure::P99Us, waits.percentile_us(0.99))
            .put(Measure::P999Us, waits.percentile_us(0.999))
            .put(Measure::AnswersPerSecond, waits.rate)
            .put(Measure::OthersCores, others_cores);
    }

    fn consume(&mut self, row: &str, system: System) -> anyhow::Result<()> {
        if !system.keeps() || system == System::KafkaFlushed {
            // Reading does not know how the records were written.
            return Ok(());
        }
        let topic = topic_name(system, &READ.label());
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let before = Cpu::now(process)?;
        let (partitions, limit) = (READ.partitions, self.size.consume);
        let reading = load::consume(address, &topic, partitions, READERS, limit);
        let moved = self.runtime.block_on(reading)?;
        let used = before.since(process)?;
        self.samples
            .cell(row, system, self.number)
            .put(Measure::MegabytesPerSecond, moved.megabytes_per_second())
            .put(Measure::RecordsPerSecond, moved.records_per_second())
            .put(Measure::CpuSecondsPerGibibyte, used.server / moved.gibibytes())
            .put(Measure::GeneratorCores, used.generator_cores)
            .put(Measure::OthersCores, used.others_cores);
        Ok(())
    }

    /// The load generator that comes with Apache Kafka: the Java client.
    fn java(&mut self, system: System) -> anyhow::Result<()> {
        if !self.plan.jars.is_dir() {
            return Ok(());
        }
        let jars = &self.plan.jars;
        let said = |address, topic: &str, records| {
            tools::producer_perf_test(jars, address, topic, records, KIB)
        };
        let records = self.tool_records(system);
        let (said, cpu) =
            self.tool(JAVA, system, |address, topic| said(address, topic, records))?;
        self.samples
            .cell(JAVA, system, self.number)
            .put(Measure::MegabytesPerSecond, said.megabytes_per_second)
            .put(Measure::RecordsPerSecond, said.records_per_second)
            .put(Measure::P50Us, said.p50_us)
            .put(Measure::P99Us, said.p99_us)
            .put(Measure::CpuSecondsPerGibibyte, cpu / gibibytes(records));
        Ok(())
    }

    /// librdkafka, by kcat.
    fn kcat(&mut self, system: System) -> anyhow::Result<()> {
        if !tools::has_kcat() {
            return Ok(());
        }
        let records = self.tool_records(system);
        let lines = tools::lines(&self.plan.scratch, records, KIB)?;
        let (took, cpu) =
            self.tool(KCAT, system, |address, topic| tools::kcat(address, topic, &lines))?;
        let rate = records as f64 / took.as_secs_f64();
        self.samples
            .cell(KCAT, system, self.number)
            .put(Measure::MegabytesPerSecond, rate * KIB as f64 / 1e6)
            .put(Measure::RecordsPerSecond, rate)
            .put(Measure::CpuSecondsPerGibibyte, cpu / gibibytes(records));
        Ok(())
    }

    /// Runs somebody else's generator against a new topic; what it says, and the server's CPU-seconds.
    fn tool<T>(
        &self,
        row: &str,
        system: System,
        run: impl Fn(std::net::SocketAddr, &str) -> anyhow::Result<T>,
    ) -> anyhow::Result<(T, f64)> {
        let topic = self.topic(system, row, MANY)?;
        let server = self.server(system)?;
        let process = server.process();
        let before = Cpu::now(process)?;
        let said = run(server.address, &topic)?;
        watch::rest(process, REST_MAX)?;
        let used = before.since(process)?;
        self.delete(system, &topic)?;
        Ok((said, used.server))
    }

    const fn tool_records(&self, system: System) -> u64 {
        match system {
            System::KafkaFlushed => self.size.tool_records_flushed,
            System::Millstream | System::Kafka | System::Null => self.size.tool_records,
        }
    }

    fn server(&self, system: System) -> anyhow::Result<&Server> {
        let mut servers = self.servers.iter();
        let found = servers.find(|(program, _)| program.systems().contains(&system));
        Ok(&found.context("the server is not running")?.1)
    }

    /// Deletes the topic of a row that is done with, so that its files make no work for the next.
    fn delete(&self, system: System, topic: &str) -> anyhow::Result<()> {
        if !system.keeps() {
            return Ok(());
        }
        let address = self.server(system)?.address;
        self.runtime.block_on(async { Peer::connect(address).await?.delete_topic(topic).await })
    }

    /// Makes the topic of a row.
    fn topic(&self, system: System, row: &str, partitions: i32) -> anyhow::Result<String> {
        self.topic_with(system, row, partitions, &[])
    }

    /// The same with settings of its own.
    fn topic_with(
        &self,
        system: System,
        row: &str,
        partitions: i32,
        configs: &[(&'static str, &'static str)],
    ) -> anyhow::Result<String> {
        let configs = [system.topic_configs(), configs].concat();
        let name = topic_name(system, row);
        let address = self.server(system)?.address;
        eprintln!("  {name}");
        self.runtime.block_on(async {
            let mut peer = Peer::connect(address).await?;
            peer.create_topic(&name, partitions, &configs).await
        })?;
        Ok(name)
    }
}

/// One load against a server that is there already.
///
/// # Errors
///
/// When the server or the generator fails.
pub(crate) fn load_once(load: &LoadOnce) -> anyhow::Result<()> {
    let runtime = runtime()?;
    let topic = format!("load-{}", now().0);
    let duration = Duration::from_secs_f64(load.seconds);
    runtime.block_on(async {
        Peer::connect(load.at).await?.create_topic(&topic, load.partitions, &[]).await
    })?;
    let process = load.pid.unwrap_or_else(std::process::id);
    let before = Cpu::now(process)?;
    if let Some(rate) = load.rate {
        let how = Paced {
            rate,
            partitions: load.partitions,
            connections: load.connections,
            in_flight: load.in_flight,
            warm_up: Duration::ZERO,
            duration,
        };
        let batches = Batches::new(&topic, load.record, now())?;
        let waits = load::paced(load.at, &batches, how, &Due::new(load.partitions))?;
        let [p50, p99, p999] = [0.5, 0.99, 0.999].map(|share| waits.percentile_us(share));
        println!(
            "p50 {p50:.0} us, p99 {p99:.0} us, p99.9 {p999:.0} us, {:.0} records/s",
            waits.rate
        );
        println!("{:?}", before.since(process)?);
    } else {
        let shape = shape(load.record, load.batch, load.partitions, load.connections);
        let encoded = shape.encode(&topic, now())?;
        let how = flood(shape, u64::MAX, duration);
        let moved = runtime.block_on(load::flood(load.at, &encoded, how))?;
        told("produced", &moved);
        watch::rest(process, REST_MAX)?;
        let used = before.since(process)?;
        println!("server {:.2} CPU s/GiB, {used:?}", used.server / moved.gibibytes());
    }
    if load.consume {
        let before = Cpu::now(process)?;
        let reading = load::consume(load.at, &topic, load.partitions, READERS, duration);
        let moved = runtime.block_on(reading)?;
        told("consumed", &moved);
        let used = before.since(process)?;
        println!("server {:.2} CPU s/GiB, {used:?}", used.server / moved.gibibytes());
    }
    Ok(())
}

fn told(what: &str, moved: &load::Moved) {
    let (megabytes, records) = (moved.megabytes_per_second(), moved.records_per_second());
    println!(
        "{what} {megabytes:.0} MB/s, {records:.0} records/s, {:.2} GiB, {:.1}% refused",
        moved.gibibytes(),
        moved.refused * 100.0
    );
}

const fn flood(shape: Shape, bytes: u64, limit: Duration) -> Flood {
    Flood { connections: shape.producers, in_flight: IN_FLIGHT, bytes, limit }
}

fn gibibytes(records: u64) -> f64 {
    records as f64 * KIB as f64 / f64::from(1 << 30)
}

/// A name that is legal and says what for.
fn topic_name(system: System, row: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("{system:?} {row}").to_lowercase().chars().map(legal).collect()
}

/// A runtime for generators.
///
/// # Errors
///
/// When the system gives no threads.
pub(crate) fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
