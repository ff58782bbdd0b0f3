//! The plan: which rows, in which order, how often.
//!
//! Both servers run throughout a repetition, so that each row measures them within seconds of each
//! other: on a machine with other work, that is what makes a ratio worth something. Only one is
//! under load at a time, and what one has left to the disk is flushed before the next begins.

use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use millstream_types::Timestamp;
use tokio::runtime::Runtime;

use crate::load::{self, Flood, Paced};
use crate::options::{LoadOnce, Plan};
use crate::peer::Peer;
use crate::report::{self, Facts};
use crate::samples::{Measure, Samples};
use crate::server::{Program, Server, System};
use crate::shape::Shape;
use crate::tools;
use crate::watch::{self, Cpu};

/// Row names; those of produce rows are their shapes' labels.
pub(crate) const START: &str = "start";
pub(crate) const LATENCY: &str = "latency";
pub(crate) const CONSUME: &str = "consume";
pub(crate) const TOOL: &str = "kafka-producer-perf-test";

/// What throughput loads use: several connections, and what a client has in flight by default.
pub(crate) const CONNECTIONS: usize = 8;
pub(crate) const IN_FLIGHT: u32 = 5;

/// The fixed rate of the latency row, and its connections, which are few.
pub(crate) const RATE: u32 = 5_000;
pub(crate) const RATE_CONNECTIONS: usize = 4;

const KIB: usize = 1024;
const LARGE: usize = 1_000_000;
const SMALL: usize = 16 * KIB;

/// What is read back.
const CONSUMED: Shape = Shape { batch_bytes: SMALL, record_bytes: KIB, partitions: 16 };

const QUICK_SHAPES: &[Shape] = &[
    Shape { batch_bytes: LARGE, record_bytes: KIB, partitions: 1 },
    Shape { batch_bytes: LARGE, record_bytes: KIB, partitions: 16 },
    Shape { batch_bytes: SMALL, record_bytes: 100, partitions: 1 },
    CONSUMED,
];

const SHAPES: &[Shape] = &[
    Shape { batch_bytes: LARGE, record_bytes: KIB, partitions: 1 },
    Shape { batch_bytes: LARGE, record_bytes: KIB, partitions: 16 },
    Shape { batch_bytes: LARGE, record_bytes: 100, partitions: 1 },
    Shape { batch_bytes: LARGE, record_bytes: 100, partitions: 16 },
    Shape { batch_bytes: SMALL, record_bytes: KIB, partitions: 1 },
    Shape { batch_bytes: SMALL, record_bytes: 100, partitions: 1 },
    Shape { batch_bytes: SMALL, record_bytes: 100, partitions: 16 },
    CONSUMED,
];

/// How long a server may go on with what it put off, before that no longer counts.
const REST_MAX: Duration = Duration::from_secs(3);

/// How much and how long: the difference between --quick and all of it.
#[derive(Clone, Copy, Debug)]
struct Size {
    repetitions: usize,
    shapes: &'static [Shape],
    starts: usize,
    idle: Duration,
    warm_up: Duration,
    flood: Duration,
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
        let size = if plan.quick {
            Self {
                repetitions: 3,
                shapes: QUICK_SHAPES,
                starts: 3,
                idle: seconds(1),
                warm_up: Duration::from_millis(1_500),
                flood: Duration::from_millis(1_500),
                paced: Duration::from_millis(1_500),
                consume: Duration::from_millis(1_500),
                tool_records: 200_000,
                tool_records_flushed: 20_000,
                time_max: seconds(220),
            }
        } else {
            Self {
                repetitions: 5,
                shapes: SHAPES,
                starts: 5,
                idle: seconds(2),
                warm_up: seconds(3),
                flood: Duration::from_millis(2_500),
                paced: seconds(3),
                consume: Duration::from_millis(2_500),
                tool_records: 300_000,
                tool_records_flushed: 20_000,
                time_max: seconds(14 * 60),
            }
        };
        Self { repetitions: plan.repetitions.unwrap_or(size.repetitions), ..size }
    }
}

/// One repetition under way.
struct Repetition<'a> {
    plan: &'a Plan,
    size: Size,
    runtime: &'a Runtime,
    number: usize,
    servers: Vec<(Program, Server)>,
    samples: &'a mut Samples,
}

/// Runs everything and writes the report.
///
/// # Errors
///
/// When a server or a generator fails.
pub(crate) fn run(plan: &Plan) -> anyhow::Result<()> {
    let begun = Instant::now();
    fs::create_dir_all(&plan.scratch)?;
    let size = Size::of(plan);
    let runtime = runtime()?;
    let mut facts = Facts { machine: watch::machine()?, disks: Vec::new(), quick: plan.quick };
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
        repetition.run()?;
        // Between the loads, when the disk has nothing else to do.
        facts.disks.push(watch::disk(&plan.scratch)?);
        done += 1;
        samples.save(&plan.samples)?;
        let each = begun.elapsed() / u32::try_from(done)?;
        if begun.elapsed() + each > size.time_max {
            break;
        }
    }
    let text = report::write(&samples, &facts, done);
    fs::write(&plan.report, &text).with_context(|| plan.report.display().to_string())?;
    println!("{text}");
    eprintln!("{} repetitions, {} s; {}", done, begun.elapsed().as_secs(), plan.report.display());
    Ok(())
}

impl Repetition<'_> {
    fn run(&mut self) -> anyhow::Result<()> {
        self.start()?;
        self.warm_up()?;
        let shapes = self.size.shapes;
        self.each_system(0, Self::latency)?;
        for (turn, shape) in shapes.iter().enumerate() {
            self.each_system(turn, |this, system| this.produce(*shape, system))?;
        }
        self.each_system(0, Self::consume)?;
        self.each_system(1, Self::tool)?;
        for (program, server) in std::mem::take(&mut self.servers) {
            let system = program.systems()[0];
            let resident = watch::resident_mebibytes(server.process())?;
            let mut cell = self.samples.cell(START, system, self.number);
            cell.put(Measure::LoadedMebibytes, resident);
            server.stop()?;
        }
        Ok(())
    }

    /// Programs in the order of this repetition: every other one begins with the other.
    fn programs(&self) -> Vec<Program> {
        let mut programs = vec![Program::Millstream];
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
            let starts = if program == Program::Millstream { self.size.starts } else { 1 };
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
        let (size, shape) = (self.size, CONSUMED);
        self.each_system(0, |this, system| {
            let topic = this.topic(system, "warm-up", shape.partitions)?;
            let encoded = shape.encode(&topic, now())?;
            let server = this.server(system)?;
            this.runtime.block_on(load::flood(server.address, &encoded, flood(size.warm_up)))?;
            let reading = load::consume(
                server.address,
                &topic,
                shape.partitions,
                CONNECTIONS,
                size.warm_up / 2,
            );
            this.runtime.block_on(reading)?;
            Ok(())
        })
    }

    fn produce(&mut self, shape: Shape, system: System) -> anyhow::Result<()> {
        let label = shape.label();
        let topic = self.topic(system, &label, shape.partitions)?;
        let encoded = shape.encode(&topic, now())?;
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let before = Cpu::now(process)?;
        let moved =
            self.runtime.block_on(load::flood(address, &encoded, flood(self.size.flood)))?;
        let during = before.since(process)?;
        watch::rest(process, REST_MAX)?;
        let used = before.since(process)?;
        self.samples
            .cell(&label, system, self.number)
            .put(Measure::MegabytesPerSecond, moved.megabytes_per_second())
            .put(Measure::RecordsPerSecond, moved.records_per_second())
            .put(Measure::CpuSecondsPerGibibyte, used.server / moved.gibibytes())
            .put(Measure::RefusedPercent, moved.refused * 100.0)
            .put(Measure::GeneratorCores, during.generator_cores)
            .put(Measure::OthersCores, during.others_cores);
        Ok(())
    }

    fn latency(&mut self, system: System) -> anyhow::Result<()> {
        let shape = Shape::single(KIB, i32::try_from(RATE_CONNECTIONS)?);
        let topic = self.topic(system, LATENCY, shape.partitions)?;
        let encoded = shape.encode(&topic, now())?;
        let server = self.server(system)?;
        let how = Paced {
            rate: RATE,
            connections: RATE_CONNECTIONS,
            warm_up: self.size.warm_up / 2,
            duration: self.size.paced,
        };
        let (address, process) = (server.address, server.process());
        let before = Cpu::now(process)?;
        let waits = load::paced(address, &encoded, how)?;
        let used = before.since(process)?;
        self.samples
            .cell(LATENCY, system, self.number)
            .put(Measure::P50Us, waits.percentile_us(0.5))
            .put(Measure::P99Us, waits.percentile_us(0.99))
            .put(Measure::AnswersPerSecond, waits.answered_rate)
            .put(Measure::OthersCores, used.others_cores);
        Ok(())
    }

    fn consume(&mut self, system: System) -> anyhow::Result<()> {
        if system == System::KafkaFlushed {
            // Reading does not know how the records were written.
            return Ok(());
        }
        let topic = topic_name(system, &CONSUMED.label());
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let before = Cpu::now(process)?;
        let (partitions, limit) = (CONSUMED.partitions, self.size.consume);
        let reading = load::consume(address, &topic, partitions, CONNECTIONS, limit);
        let moved = self.runtime.block_on(reading)?;
        let used = before.since(process)?;
        self.samples
            .cell(CONSUME, system, self.number)
            .put(Measure::MegabytesPerSecond, moved.megabytes_per_second())
            .put(Measure::RecordsPerSecond, moved.records_per_second())
            .put(Measure::CpuSecondsPerGibibyte, used.server / moved.gibibytes())
            .put(Measure::GeneratorCores, used.generator_cores)
            .put(Measure::OthersCores, used.others_cores);
        Ok(())
    }

    fn tool(&mut self, system: System) -> anyhow::Result<()> {
        if !self.plan.jars.is_dir() {
            return Ok(());
        }
        let topic = self.topic(system, TOOL, 4)?;
        let records = match system {
            System::KafkaFlushed => self.size.tool_records_flushed,
            System::Millstream | System::Kafka => self.size.tool_records,
        };
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let before = Cpu::now(process)?;
        let said = tools::producer_perf_test(&self.plan.jars, address, &topic, records, KIB)?;
        let used = before.since(process)?;
        let gibibytes = records as f64 * KIB as f64 / f64::from(1 << 30);
        self.samples
            .cell(TOOL, system, self.number)
            .put(Measure::MegabytesPerSecond, said.megabytes_per_second)
            .put(Measure::RecordsPerSecond, said.records_per_second)
            .put(Measure::P50Us, said.p50_us)
            .put(Measure::P99Us, said.p99_us)
            .put(Measure::CpuSecondsPerGibibyte, used.server / gibibytes);
        Ok(())
    }

    fn server(&self, system: System) -> anyhow::Result<&Server> {
        let mut servers = self.servers.iter();
        let found = servers.find(|(program, _)| program.systems().contains(&system));
        Ok(&found.context("the server is not running")?.1)
    }

    /// Makes the topic of a row.
    fn topic(&self, system: System, row: &str, partitions: i32) -> anyhow::Result<String> {
        let name = topic_name(system, row);
        let address = self.server(system)?.address;
        eprintln!("  {name}");
        self.runtime.block_on(async {
            let mut peer = Peer::connect(address).await?;
            peer.create_topic(&name, partitions, system.topic_configs()).await
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
    let batch_bytes = if load.rate.is_some() { 0 } else { load.batch };
    let shape = Shape { batch_bytes, record_bytes: load.record, partitions: load.partitions };
    let encoded = shape.encode(&topic, now())?;
    if let Some(rate) = load.rate {
        let how = Paced { rate, connections: RATE_CONNECTIONS, warm_up: Duration::ZERO, duration };
        let waits = load::paced(load.at, &encoded, how)?;
        let (p50, p99) = (waits.percentile_us(0.5), waits.percentile_us(0.99));
        println!("p50 {p50:.0} us, p99 {p99:.0} us, {:.0} answers/s", waits.answered_rate);
    } else {
        let moved = runtime.block_on(load::flood(load.at, &encoded, flood(duration)))?;
        told("produced", &moved);
        watch::rest(process, REST_MAX)?;
        let used = before.since(process)?;
        println!("server {:.2} CPU s/GiB, {used:?}", used.server / moved.gibibytes());
    }
    if load.consume {
        let before = Cpu::now(process)?;
        let reading = load::consume(load.at, &topic, load.partitions, CONNECTIONS, duration);
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

const fn flood(duration: Duration) -> Flood {
    Flood { connections: CONNECTIONS, in_flight: IN_FLIGHT, duration }
}

/// A name that is legal and says what for.
fn topic_name(system: System, row: &str) -> String {
    let legal = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    format!("{system:?} {row}").to_lowercase().chars().map(legal).collect()
}

fn runtime() -> anyhow::Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
