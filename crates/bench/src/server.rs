//! The servers as child processes: started on an empty directory, awaited, stopped.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use millstream_wire::MetadataRequest;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::options::Plan;
use crate::peer::Peer;
use crate::watch;

/// How often a starting server is tried.
const POLL: Duration = Duration::from_millis(1);

/// How long a server may take to start, or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long compaction rests: what is to be compacted is begun with soon.
const CLEANER_BACKOFF: &str = "log.cleaner.backoff.ms=200";

/// Metadata, for the node and its topics: a broker that answers it serves clients.
const METADATA_VERSION: i16 = 12;

/// A program under measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    /// Ours.
    Millstream,
    /// The one to compare with.
    Kafka,
    /// This program's own, that keeps nothing.
    Null,
}

/// A program with a promise about acknowledged records: what a column of the report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum System {
    /// As it ships: answers after a flush.
    Millstream,
    /// As it ships: answers when the page cache has the records.
    Kafka,
    /// `flush.messages=1` on the topic: answers after a flush.
    KafkaFlushed,
    /// Answers when the batch is checked, and forgets it.
    Null,
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    folder: PathBuf,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// From exec to the first answer.
    pub(crate) ready_after: Duration,
}

impl System {
    /// The settings of topics that make the promise.
    pub(crate) const fn topic_configs(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Millstream | Self::Kafka | Self::Null => &[],
            Self::KafkaFlushed => &[("flush.messages", "1")],
        }
    }

    /// For the head of a table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Millstream => "Millstream (flushed)",
            Self::Kafka => "Kafka (not flushed)",
            Self::KafkaFlushed => "Kafka (flushed)",
            Self::Null => "null broker",
        }
    }

    /// Its bars in charts.
    pub(crate) const fn colour(self) -> &'static str {
        match self {
            Self::Millstream => "#1f77b4",
            Self::Kafka => "#ff7f0e",
            Self::KafkaFlushed => "#8c564b",
            Self::Null => "#c0c0c0",
        }
    }

    /// Whether it has what was produced.
    pub(crate) const fn keeps(self) -> bool {
        !matches!(self, Self::Null)
    }
}

impl Program {
    /// The columns of the report that it fills.
    pub(crate) const fn systems(self) -> &'static [System] {
        match self {
            Self::Millstream => &[System::Millstream],
            Self::Kafka => &[System::Kafka, System::KafkaFlushed],
            Self::Null => &[System::Null],
        }
    }

    fn command(
        self,
        plan: &Plan,
        port: u16,
        folder: &Path,
        settings: &[String],
    ) -> anyhow::Result<Command> {
        let data = folder.join("data");
        Ok(match self {
            Self::Millstream => {
                let mut command = Command::new(&plan.server);
                let listen = format!("127.0.0.1:{port}");
                let http = format!("127.0.0.1:{}", free_port()?);
                command.args(["serve", "--http-listen", &http]);
                if !settings.iter().any(|setting| setting.starts_with("listeners=")) {
                    command.args(["--kafka-listen", &listen]);
                }
                command.arg("--data-dir").arg(data);
                let journal = plan.journal_mebibytes * 1024 * 1024;
                command.args(["--set", &format!("millstream.journal.bytes={journal}")]);
                command.args(["--set", CLEANER_BACKOFF]);
                command.args(settings.iter().flat_map(|setting| ["--set", setting.as_str()]));
                command
            }
            Self::Null => {
                let mut command = Command::new(std::env::current_exe()?);
                command.args(["null", "--at", &format!("127.0.0.1:{port}")]);
                command
            }
            Self::Kafka => {
                let mut command = Command::new("bash");
                command.arg(&plan.kafka).arg(port.to_string()).arg(data).arg(CLEANER_BACKOFF);
                command.args(settings);
                command.env("KAFKA_LIB", &plan.jars);
                command
            }
        })
    }
}

impl Server {
    /// Starts a program on an empty directory and waits until it serves clients.
    ///
    /// # Errors
    ///
    /// When it does not come up; the end of its log is in the error.
    pub(crate) fn start(program: Program, plan: &Plan, runtime: &Runtime) -> anyhow::Result<Self> {
        Self::start_with(program, plan, runtime, |_port| ("", Vec::new()))
    }

    /// The same with further settings, which are told the port, and a directory of that name.
    ///
    /// # Errors
    ///
    /// As [`Server::start`].
    pub(crate) fn start_with(
        program: Program,
        plan: &Plan,
        runtime: &Runtime,
        settings: impl FnOnce(u16) -> (&'static str, Vec<String>),
    ) -> anyhow::Result<Self> {
        let port = free_port()?;
        let (name, settings) = settings(port);
        let folder = plan.scratch.join(format!("{program:?}{name}").to_lowercase());
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        let mut command = program.command(plan, port, &folder, &settings)?;
        let log = File::create(folder.join("server.log"))?;
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let begun = Instant::now();
        let child = command.spawn().with_context(|| format!("starting {command:?}"))?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut server = Self { child, folder, address, ready_after: Duration::ZERO };
        let begun = match program {
            Program::Millstream | Program::Null => begun,
            Program::Kafka => server.formatted()?,
        };
        server.until("ready", || runtime.block_on(serves(address)))?;
        server.ready_after = begun.elapsed();
        Ok(server)
    }

    /// Its process.
    pub(crate) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Ends it and deletes its data.
    ///
    /// # Errors
    ///
    /// When it had ended before.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        ensure!(self.child.try_wait()?.is_none(), "the server had ended:\n{}", self.log());
        Command::new("kill").args(["-s", "TERM", "--", &self.process().to_string()]).status()?;
        let deadline = Instant::now() + PATIENCE;
        while self.child.try_wait()?.is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Apache Kafka formats its directory in a run before: that is not counted. Returns when the
    /// broker itself was begun.
    fn formatted(&mut self) -> anyhow::Result<Instant> {
        let process = self.process();
        self.until("formatted", || watch::command_line(process).contains("kafka.Kafka"))?;
        Ok(Instant::now())
    }

    fn until(&mut self, what: &str, done: impl Fn() -> bool) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        while !done() {
            if let Some(status) = self.child.try_wait()? {
                bail!("the server ended before it was {what} ({status}):\n{}", self.log());
            }
            ensure!(Instant::now() < deadline, "not {what} in time:\n{}", self.log());
            thread::sleep(POLL);
        }
        Ok(())
    }

    fn log(&self) -> String {
        let text = fs::read_to_string(self.folder.join("server.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only when there is nothing left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whether a client would be told of a node to talk to.
async fn serves(address: SocketAddr) -> bool {
    let asked = async {
        let mut peer = Peer::connect(address).await?;
        peer.call(&MetadataRequest::default(), METADATA_VERSION).await
    };
    asked.await.is_ok_and(|answer| !answer.brokers.is_empty())
}

pub(crate) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("looking for a port")?;
    Ok(listener.local_addr()?.port())
}
