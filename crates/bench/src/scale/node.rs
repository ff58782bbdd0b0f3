//! The server as a child process over a directory that outlives it, watched from outside.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use millstream_wire::MetadataRequest;
use tokio::runtime::Runtime;

use crate::peer::Peer;
use crate::watch;

/// How often a server is looked at while it starts or stops.
const POLL: Duration = Duration::from_millis(1);

/// How long a server may take to start, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

const METADATA_VERSION: i16 = 12;

/// A running server; killed when dropped. Its data stay.
#[derive(Debug)]
pub(super) struct Node {
    child: Child,
    http: SocketAddr,
    /// Where clients connect.
    pub(super) kafka: SocketAddr,
    /// From exec to the first answer to a client.
    pub(super) ready_after: Duration,
}

/// What the threads of a process have used up at one moment.
#[derive(Clone, Debug)]
pub(super) struct Use {
    at: Instant,
    /// CPU time in nanoseconds, and wake-ups, of each that runs: of one that ends, nobody can tell.
    threads: BTreeMap<OsString, (u64, u64)>,
}

impl Node {
    /// Starts `server` over `folder`/data and waits until it serves clients.
    ///
    /// # Errors
    ///
    /// When it does not come up; its log is in `folder`/server.log.
    pub(super) fn start(server: &Path, folder: &Path, runtime: &Runtime) -> anyhow::Result<Self> {
        let (kafka, http) = (free()?, free()?);
        let log = File::options().create(true).append(true).open(folder.join("server.log"))?;
        let mut command = Command::new(server);
        // Without core dumps only root may read what a process writes.
        command.args(["serve", "--core-dumps", "--kafka-listen", &kafka.to_string()]);
        command.args(["--http-listen", &http.to_string()]);
        command.arg("--data-dir").arg(folder.join("data"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let mut node = Self { child, http, kafka, ready_after: Duration::ZERO };
        while !runtime.block_on(serves(kafka)) {
            if let Some(status) = node.child.try_wait()? {
                bail!("the server ended ({status}): see {}", folder.join("server.log").display());
            }
            ensure!(begun.elapsed() < PATIENCE, "the server does not become ready");
            thread::sleep(POLL);
        }
        node.ready_after = begun.elapsed();
        Ok(node)
    }

    /// Ends it as a crash would.
    ///
    /// # Errors
    ///
    /// When it had ended before.
    pub(super) fn kill(mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "the server had ended");
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Ends it politely; returns how long that took.
    ///
    /// # Errors
    ///
    /// When it had ended before, or does not end.
    pub(super) fn stop(mut self) -> anyhow::Result<Duration> {
        ensure!(self.child.try_wait()?.is_none(), "the server had ended");
        let begun = Instant::now();
        Command::new("kill").args(["-s", "TERM", "--", &self.process().to_string()]).status()?;
        while self.child.try_wait()?.is_none() {
            ensure!(begun.elapsed() < PATIENCE, "the server does not stop");
            thread::sleep(POLL);
        }
        Ok(begun.elapsed())
    }

    /// Its resident memory in MiB.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub(super) fn resident(&self) -> anyhow::Result<f64> {
        watch::resident_mebibytes(self.process())
    }

    /// The most that was.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub(super) fn resident_peak(&self) -> anyhow::Result<f64> {
        watch::peak_mebibytes(self.process())
    }

    /// Bytes that it has sent to the disk since it was started, as the kernel counts them.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub(super) fn written(&self) -> anyhow::Result<f64> {
        let text = fs::read_to_string(format!("/proc/{}/io", self.process()))?;
        let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        Ok(line.context("/proc/PID/io")?.parse()?)
    }

    /// CPU time and wake-ups of all its threads.
    ///
    /// # Errors
    ///
    /// When it is gone.
    pub(super) fn used(&self) -> anyhow::Result<Use> {
        let mut used = Use { at: Instant::now(), threads: BTreeMap::new() };
        for task in fs::read_dir(format!("/proc/{}/task", self.process()))? {
            let task = task?;
            let folder = task.path();
            // A thread may end while it is looked at.
            let Ok(times) = fs::read_to_string(folder.join("schedstat")) else { continue };
            let nanos: u64 = times.split_whitespace().next().context("schedstat")?.parse()?;
            let Ok(status) = fs::read_to_string(folder.join("status")) else { continue };
            let wakes = status.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:"));
            let wakes = wakes.context("status")?.trim().parse()?;
            used.threads.insert(task.file_name(), (nanos, wakes));
        }
        Ok(used)
    }

    /// What it shows at `/metrics`, by name with labels, and how long it took to say.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub(super) fn metrics(&self) -> anyhow::Result<(BTreeMap<String, f64>, Duration)> {
        let begun = Instant::now();
        let mut stream = TcpStream::connect(self.http)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let took = begun.elapsed();
        let pairs = text.lines().filter_map(|line| line.rsplit_once(' '));
        let numbers =
            pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?)));
        Ok((numbers.collect(), took))
    }

    fn process(&self) -> u32 {
        self.child.id()
    }
}

impl Use {
    /// Seconds of CPU since `before`.
    pub(super) fn seconds_since(&self, before: &Self) -> f64 {
        self.per_second(before).0 / 1e3 * self.at.duration_since(before.at).as_secs_f64()
    }

    /// Milliseconds of CPU and wake-ups, each per second, since `before`.
    pub(super) fn per_second(&self, before: &Self) -> (f64, f64) {
        let seconds = self.at.duration_since(before.at).as_secs_f64();
        let (mut cpu, mut wakes) = (0, 0);
        for (thread, now) in &self.threads {
            let then = before.threads.get(thread).copied().unwrap_or_default();
            cpu += now.0 - then.0;
            wakes += now.1 - then.1;
        }
        (cpu as f64 / 1e6 / seconds, wakes as f64 / seconds)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Both fail only when there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Whether a client would be told of a node to talk to.
async fn serves(address: SocketAddr) -> bool {
    let asked = async {
        let mut peer = Peer::connect(address).await?;
        let request = MetadataRequest { topics: Some(Vec::new()), ..MetadataRequest::default() };
        peer.call(&request, METADATA_VERSION).await
    };
    asked.await.is_ok_and(|answer| !answer.brokers.is_empty())
}

fn free() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a port")?;
    Ok(listener.local_addr()?)
}
