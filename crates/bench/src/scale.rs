//! `millstream-bench scale`: what many partitions cost. One server over one directory, which is
//! filled, killed and started again; all figures are read from outside.
//!
//! To add a figure: a step of [`Run`] that calls [`Run::row`].

mod compacted;
mod node;
mod send;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use bytes::Bytes;
use millstream_types::Timestamp;
use tokio::runtime::Runtime;

use crate::peer::Peer;
use crate::shape::{Batches, Shape};
use crate::watch;
use node::Node;

const MIB: f64 = 1024.0 * 1024.0;

/// How long a figure of a server at rest is taken over.
const IDLE: Duration = Duration::from_secs(10);

/// How long a server may go on with what it put off before it counts as resting.
const REST_MAX: Duration = Duration::from_secs(30);

/// Times that an empty directory is started on; the median counts.
const EMPTY_STARTS: usize = 5;

/// The two kinds of load: a small batch now and then to each of many, ten of them in a request; much to
/// a few.
const TINY_RECORDS: usize = 4;
const TINY_RECORD_BYTES: usize = 230;
const TINY_TOGETHER: usize = 10;
const LARGE: Shape =
    Shape { batch_bytes: 1_000_000, record_bytes: 1024, partitions: 8, producers: 1 };

/// Requests that are sent in turn, and about how many bytes of batches are in each.
#[derive(Clone, Debug)]
struct Load {
    frames: Vec<Bytes>,
    bytes: u64,
}

/// What is to be measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ScalePlan {
    /// The program `millstream`.
    #[arg(long)]
    server: PathBuf,
    /// Where it keeps its data, emptied first: on the disk that is measured.
    #[arg(long)]
    scratch: PathBuf,
    /// Topics.
    #[arg(long, default_value_t = 100)]
    topics: i32,
    /// Partitions of each.
    #[arg(long, default_value_t = 100)]
    partitions: i32,
    /// MiB that are produced to measure what is written for it, once in tiny batches, once in large.
    #[arg(long, default_value_t = 1536)]
    mebibytes: u64,
    /// Where the table is written, too.
    #[arg(long)]
    report: PathBuf,
}

/// A measurement under way.
struct Run<'a> {
    plan: &'a ScalePlan,
    runtime: &'a Runtime,
    folder: PathBuf,
    rows: String,
}

/// Measures, and writes the table.
///
/// # Errors
///
/// When the server or a load fails.
pub(crate) fn run(plan: &ScalePlan) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let folder = plan.scratch.join("scale");
    let rows = "| what | figure | goal |\n|---|---|---|\n".to_owned();
    let mut run = Run { plan, runtime: &runtime, folder, rows };
    run.empty()?;
    let tiny = run.fill()?;
    run.restarts()?;
    run.amplification("tiny batches", 3.5, &tiny)?;
    let large = run.large()?;
    run.amplification("large batches", 2.2, &large)?;
    run.full_journal("tiny batches", &tiny)?;
    run.full_journal("large batches", &large)?;
    run.compacted()?;
    fs::remove_dir_all(&run.folder)?;
    let text = format!("{}{}", head(plan)?, run.rows);
    fs::write(&plan.report, &text).with_context(|| plan.report.display().to_string())?;
    println!("{text}");
    Ok(())
}

/// What was measured, and on what.
fn head(plan: &ScalePlan) -> anyhow::Result<String> {
    let disk = watch::disk(&plan.scratch)?;
    Ok(format!(
        "# What thousands of partitions cost\n\n\
        Written by `cargo xtask bench --scale`; don't edit.\n\n\
        **Machine**: {}. Its disk takes {:.0} µs for a write of 4 KiB and a flush, {:.0} MB/s in place, flushed \
        every 4 MiB, and {:.0} MB/s into new files.\n\n\
        **Method**: one server as it ships (everything flushed before it is acknowledged) over one directory, \
        which is filled, killed and started again; {} topics of {} partitions; all figures are read from outside. \
        *Tiny batches*: about 1 KiB, now and then one to each partition. *Large batches*: 1 MB, to 8 \
        partitions.\n\n",
        watch::machine()?,
        disk.flush_us,
        disk.rewritten,
        disk.fresh,
        plan.topics,
        plan.partitions,
    ))
}

impl Run<'_> {
    fn row(&mut self, what: &str, figure: &str, goal: &str) {
        eprintln!("{what}: {figure}");
        // Writing to a string does not fail.
        let _ = writeln!(self.rows, "| {what} | {figure} | {goal} |");
    }

    fn start(&self) -> anyhow::Result<Node> {
        Node::start(&self.plan.server, &self.folder, self.runtime)
    }

    /// The same on an empty directory.
    fn start_anew(&self) -> anyhow::Result<Node> {
        if self.folder.exists() {
            fs::remove_dir_all(&self.folder)?;
        }
        fs::create_dir_all(&self.folder)?;
        self.start()
    }

    /// A new directory, several times; the last one stays.
    fn empty(&mut self) -> anyhow::Result<()> {
        let mut times = Vec::new();
        for _ in 0..EMPTY_STARTS {
            let node = self.start_anew()?;
            times.push(node.ready_after);
            if times.len() == EMPTY_STARTS {
                thread::sleep(Duration::from_secs(2));
                let resident = node.resident()?;
                self.row("idle, empty", &format!("{resident:.1} MiB"), "under 32 MiB");
            }
            node.stop()?;
        }
        times.sort_unstable();
        let median = times.get(EMPTY_STARTS / 2).context("no start")?;
        self.row("ready, empty directory", &millis(*median), "100 ms");
        Ok(())
    }

    /// Makes the partitions and puts something into each. Returns a load for all of them.
    fn fill(&mut self) -> anyhow::Result<Load> {
        let node = self.start()?;
        thread::sleep(Duration::from_secs(1));
        let before = node.resident()?;
        let names: Vec<_> = (0..self.plan.topics).map(|number| format!("tiny-{number}")).collect();
        let begun = Instant::now();
        for name in &names {
            self.topic(node.kafka, name, self.plan.partitions, &[])?;
        }
        let count = self.plan.topics * self.plan.partitions;
        self.row(&format!("making {count} partitions"), &millis(begun.elapsed()), "");
        let made = node.resident()?;
        self.row("memory for them, empty", &format!("{:.1} MiB", made - before), "");
        let load = self.tiny(&names, Batches::new)?;
        self.load(node.kafka, &load, 4 * load.bytes * load.frames.len() as u64)?;
        rest(&node)?;
        let filled = node.resident()? - before;
        let tail = value(&node.metrics()?.0, "millstream_tail_bytes")? / MIB;
        let text = format!("{filled:.1} MiB, of which {tail:.1} MiB are recent batches");
        self.row("memory for them, four batches of 1 KiB in each", &text, "under 100 MiB");
        self.idle(&node, "at rest with them")?;
        let took = node.stop()?;
        self.row("a clean stop", &millis(took), "");
        Ok(load)
    }

    /// Small batches for all partitions of these topics; neighbours are strangers.
    fn tiny(
        &self,
        names: &[String],
        make: impl Fn(&str, usize, Timestamp) -> anyhow::Result<Batches>,
    ) -> anyhow::Result<Load> {
        let partitions: Vec<_> =
            (0..self.plan.partitions).map(|partition| (partition, TINY_RECORDS)).collect();
        let mut frames = Vec::new();
        let batches = names.iter().map(|name| make(name, TINY_RECORD_BYTES, now()));
        let batches = batches.collect::<anyhow::Result<Vec<_>>>()?;
        for some in partitions.chunks(TINY_TOGETHER) {
            for of_topic in &batches {
                frames.push(of_topic.request(some)?);
            }
        }
        let bytes = frames.first().context("no topic")?.len() as u64;
        Ok(Load { frames, bytes })
    }

    /// Large batches for a topic of their own, which is made.
    fn large(&self) -> anyhow::Result<Load> {
        let node = self.start()?;
        self.topic(node.kafka, "large", LARGE.partitions, &[])?;
        node.stop()?;
        let encoded = LARGE.encode("large", now())?;
        Ok(Load { frames: encoded.frames, bytes: encoded.batch_bytes })
    }

    /// A server that has nothing to do.
    fn idle(&mut self, node: &Node, what: &str) -> anyhow::Result<()> {
        let before = node.used()?;
        thread::sleep(IDLE);
        let (cpu, wakes) = node.used()?.per_second(&before);
        let text = format!("{cpu:.2} ms of CPU and {wakes:.1} wake-ups per second");
        self.row(what, &text, "");
        let (_, took) = node.metrics()?;
        self.row("a look at /metrics", &millis(took), "");
        Ok(())
    }

    fn restarts(&mut self) -> anyhow::Result<()> {
        let node = self.start()?;
        self.row("ready, after a clean stop", &millis(node.ready_after), "1 s");
        thread::sleep(Duration::from_secs(3));
        let resident = node.resident()?;
        self.row("memory after that start, all", &format!("{resident:.1} MiB"), "");
        node.kill()?;
        let node = self.start()?;
        self.row("ready, after a kill", &millis(node.ready_after), "1 s");
        node.stop()?;
        Ok(())
    }

    /// What is written to the disk for what is produced.
    fn amplification(&mut self, what: &str, goal: f64, load: &Load) -> anyhow::Result<()> {
        let node = self.start()?;
        rest(&node)?;
        let (before, _) = node.metrics()?;
        let written_before = node.written()?;
        let begun = Instant::now();
        self.load(node.kafka, load, self.plan.mebibytes * (1 << 20))?;
        let rate = self.plan.mebibytes as f64 / begun.elapsed().as_secs_f64();
        rest(&node)?;
        let written = node.written()? - written_before;
        let (after, _) = node.metrics()?;
        let grown =
            |name: &str| Ok::<_, anyhow::Error>(value(&after, name)? - value(&before, name)?);
        let produced = grown("millstream_appended_bytes_total")?;
        let mut kinds = String::new();
        let mut told = 0.0;
        for (name, now) in &after {
            let Some(kind) = name.strip_prefix("millstream_device_written_bytes_total{kind=\"")
            else {
                continue;
            };
            let bytes = now - before.get(name).copied().unwrap_or_default();
            let kind = kind.trim_end_matches("\"}");
            // Filling a new file of the journal with zeros happens once in its life.
            told += if kind == "journal_zero" { 0.0 } else { bytes };
            write!(kinds, ", {kind} {:.3}", bytes / produced)?;
        }
        // What is in the journal only will be laid out once.
        let to_come = grown("millstream_backlog_bytes")?.max(0.0);
        let text = format!(
            "{:.2} ({:.0} MiB at {rate:.0} MiB/s{kinds}; to come {:.3}; by the kernel's count {:.2})",
            (told + to_come) / produced,
            produced / MIB,
            to_come / produced,
            written / produced,
        );
        self.row(&format!("written per byte produced, {what}"), &text, &format!("{goal}"));
        let resident = node.resident()?;
        self.row("memory after that load, all", &format!("{resident:.1} MiB"), "");
        node.stop()?;
        Ok(())
    }

    /// Kills the server when its journal is as full as it gets, and looks how it comes back.
    fn full_journal(&mut self, what: &str, load: &Load) -> anyhow::Result<()> {
        let node = self.start()?;
        let mut used: f64 = 0.0;
        let deadline = Instant::now() + REST_MAX;
        while used < 0.95 && Instant::now() < deadline {
            self.load(node.kafka, load, 64 << 20)?;
            let (metrics, _) = node.metrics()?;
            let now = value(&metrics, "millstream_journal_used_bytes")?
                / value(&metrics, "millstream_journal_max_bytes")?;
            // It gives space back behind our back: the fullest moment is what is wanted.
            let was_full = used > 0.6 && now < used;
            used = now;
            if was_full {
                break;
            }
        }
        node.kill()?;
        let node = self.start()?;
        let text =
            format!("{} ({:.0}% of the journal in use)", millis(node.ready_after), used * 100.0);
        self.row(&format!("ready, after a kill under load, {what}"), &text, "1 s");
        node.stop()?;
        Ok(())
    }

    fn topic(
        &self,
        at: SocketAddr,
        name: &str,
        partitions: i32,
        configs: &[(&'static str, &'static str)],
    ) -> anyhow::Result<()> {
        self.runtime.block_on(async {
            Peer::connect(at).await?.create_topic(name, partitions, configs).await
        })
    }

    /// Sends about so many bytes, spread over all partitions of the load.
    fn load(&self, at: SocketAddr, load: &Load, bytes: u64) -> anyhow::Result<()> {
        self.runtime.block_on(send::send(at, &load.frames, bytes / load.bytes))
    }
}

/// Waits until the server has done what it put off.
fn rest(node: &Node) -> anyhow::Result<()> {
    let deadline = Instant::now() + REST_MAX;
    while Instant::now() < deadline {
        let before = node.used()?;
        thread::sleep(Duration::from_millis(500));
        if node.used()?.per_second(&before).0 < 30.0 {
            break;
        }
    }
    Ok(())
}

fn value(metrics: &BTreeMap<String, f64>, name: &str) -> anyhow::Result<f64> {
    metrics.get(name).copied().with_context(|| format!("no metric {name}"))
}

fn millis(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1e3)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
