//! What things cost, read from outside: `/proc` of a process, `/proc` of the machine, the disk.

use std::fs;
use std::io::IoSlice;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use millstream_env::disk::{Access, AlignedBuffer, Caching, Disk as _, DiskFile, RealDisk};

/// `USER_HZ`: what `/proc` counts CPU time in, per second; 100 on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;

/// A process at rest uses less than this share of one core.
const REST_SHARE: f64 = 0.1;

const REST_LOOK: Duration = Duration::from_millis(200);

/// CPU time of a process and of the whole machine at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    at: Instant,
    server: f64,
    generator: f64,
    machine: f64,
}

/// What was used between two moments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Used {
    /// CPU-seconds of the server.
    pub(crate) server: f64,
    /// Cores that the generator kept busy, on average.
    pub(crate) generator_cores: f64,
    /// Cores that everything else on the machine kept busy, on average.
    pub(crate) others_cores: f64,
}

impl Cpu {
    /// Reads the counters; `server` is its process.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub(crate) fn now(server: u32) -> anyhow::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            server: process_seconds(&server.to_string())?,
            generator: process_seconds("self")?,
            machine: machine_seconds()?,
        })
    }

    /// What was used since.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub(crate) fn since(&self, server: u32) -> anyhow::Result<Used> {
        let now = Self::now(server)?;
        let elapsed = now.at.duration_since(self.at).as_secs_f64();
        let (server, generator) = (now.server - self.server, now.generator - self.generator);
        let others = now.machine - self.machine - server - generator;
        Ok(Used {
            server,
            generator_cores: generator / elapsed,
            others_cores: (others / elapsed).max(0.0),
        })
    }
}

/// Waits until a process has done the work that it put off, at most `limit`.
///
/// # Errors
///
/// When the process is gone.
pub(crate) fn rest(process: u32, limit: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + limit;
    let process = process.to_string();
    while Instant::now() < deadline {
        let before = process_seconds(&process)?;
        std::thread::sleep(REST_LOOK);
        let used = process_seconds(&process)? - before;
        if used < REST_SHARE * REST_LOOK.as_secs_f64() {
            break;
        }
    }
    Ok(())
}

/// The resident memory of a process, in MiB.
///
/// # Errors
///
/// When the process is gone.
pub(crate) fn resident_mebibytes(process: u32) -> anyhow::Result<f64> {
    status_mebibytes(process, "VmRSS:")
}

/// The most resident memory that a process has ever had, in MiB.
///
/// # Errors
///
/// When the process is gone.
pub(crate) fn peak_mebibytes(process: u32) -> anyhow::Result<f64> {
    status_mebibytes(process, "VmHWM:")
}

fn status_mebibytes(process: u32, name: &'static str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(name)).context(name)?;
    let kibibytes: f64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes / 1024.0)
}

/// Empties the system's page cache; what was written must have been flushed before. Whether it could:
/// that takes root.
pub(crate) fn drop_caches() -> bool {
    fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}

/// What was asked of a process when it was started.
pub(crate) fn command_line(process: u32) -> String {
    let bytes = fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).replace('\0', " ")
}

/// Cores and memory, in words.
///
/// # Errors
///
/// When `/proc` can't be read.
pub(crate) fn machine() -> anyhow::Result<String> {
    let cores = std::thread::available_parallelism()?;
    let memory = fs::read_to_string("/proc/meminfo")?;
    let total = memory.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes: f64 =
        total.context("no MemTotal")?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(format!("{cores} cores, {:.0} GiB of memory", kibibytes / f64::from(1 << 20)))
}

/// What a disk gives a program that waits for it and goes around the page cache.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    /// Median time to write 4 KiB in place and flush, in microseconds.
    pub(crate) flush_us: f64,
    /// Writing where something was written before, flushed every 4 MiB, in MB per second.
    pub(crate) rewritten: f64,
    /// Writing new files, in MB per second: the file system and what lies below find them a place first.
    pub(crate) fresh: f64,
}

/// How much the probe writes at a time, and how much in a file, in bytes.
const PROBE_STEP: usize = 4 << 20;
const PROBE_FILE: u64 = 64 << 20;
/// How often it does that. Every other time to a new file.
const PROBE_FILES: usize = 8;
const PROBE_FLUSHES: usize = 200;

impl Disk {
    /// How fast bytes can go to a place that was written before and then to a new one, in MB per second: what a
    /// log that writes each of them twice can't exceed.
    pub(crate) fn twice(self) -> f64 {
        1.0 / (1.0 / self.rewritten + 1.0 / self.fresh)
    }
}

/// Measures the disk that holds `folder`.
///
/// # Errors
///
/// When it can't be written.
pub(crate) fn disk(folder: &Path) -> anyhow::Result<Disk> {
    let disk = RealDisk::open(folder)?;
    let open = |name: &str| {
        // One that was interrupted has left it.
        let _ = disk.remove(name);
        disk.open(name, Access::Create, Caching::Direct)
    };
    let in_place = open("probe-in-place")?;
    in_place.resize(PROBE_FILE)?;
    fill(&*in_place, PROBE_STEP)?;
    let mut block = AlignedBuffer::new(4096);
    block.bytes_mut().fill(0xA5);
    let mut flushes = Vec::with_capacity(PROBE_FLUSHES);
    for at in 0..PROBE_FLUSHES {
        let begun = Instant::now();
        in_place.write_at(&[IoSlice::new(block.bytes())], 4096 * at as u64)?;
        in_place.sync()?;
        flushes.push(begun.elapsed());
    }
    flushes.sort_unstable();
    let flush = flushes.get(PROBE_FLUSHES / 2).context("no flush was measured")?;
    let (mut rewritten, mut fresh) = (Duration::ZERO, Duration::ZERO);
    for number in 0..PROBE_FILES / 2 {
        rewritten += fill(&*in_place, PROBE_STEP)?;
        let name = format!("probe-{number}");
        let begun = Instant::now();
        fill(&*open(&name)?, usize::MAX)?;
        fresh += begun.elapsed();
        disk.remove(&name)?;
    }
    disk.remove("probe-in-place")?;
    let megabytes = (PROBE_FILE * PROBE_FILES as u64 / 2) as f64 / 1e6;
    Ok(Disk {
        flush_us: flush.as_secs_f64() * 1e6,
        rewritten: megabytes / rewritten.as_secs_f64(),
        fresh: megabytes / fresh.as_secs_f64(),
    })
}

/// Writes a probe's file from its beginning, and flushes it every `flushed` bytes and at the end. Returns how
/// long that took.
fn fill(file: &dyn DiskFile, flushed: usize) -> anyhow::Result<Duration> {
    let mut buffer = AlignedBuffer::new(PROBE_STEP);
    buffer.bytes_mut().fill(0x5A);
    let begun = Instant::now();
    let mut unflushed = 0;
    for at in (0..PROBE_FILE).step_by(PROBE_STEP) {
        file.write_at(&[IoSlice::new(buffer.bytes())], at)?;
        unflushed += PROBE_STEP;
        if unflushed >= flushed {
            file.sync()?;
            unflushed = 0;
        }
    }
    file.sync()?;
    Ok(begun.elapsed())
}

/// User and system time of a process, all its threads, in seconds.
fn process_seconds(process: &str) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))
        .with_context(|| format!("process {process} is gone"))?;
    // The name before may hold anything, a `)` too.
    let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
    let ticks: f64 = fields.split_whitespace().skip(11).take(2).map_while(number).sum();
    Ok(ticks / TICKS_PER_SECOND)
}

/// All time that the machine was not idle, in seconds.
fn machine_seconds() -> anyhow::Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().context("/proc/stat")?;
    let ticks: Vec<f64> = line.split_whitespace().skip(1).take(8).map_while(number).collect();
    // Without idle (3) and waiting for disks (4).
    let busy: f64 =
        ticks.iter().enumerate().filter(|(at, _)| !(3..=4).contains(at)).map(|(_, t)| t).sum();
    Ok(busy / TICKS_PER_SECOND)
}

fn number(word: &str) -> Option<f64> {
    word.parse().ok()
}
