//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::hostile::Hostile;
use crate::scale::ScalePlan;

/// Benchmarks of Millstream beside Apache Kafka.
#[derive(Debug, clap::Parser)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Runs all rows against both servers and writes the report.
    Suite(Plan),
    /// What TLS and access rules cost, in a run of its own.
    Security(Plan),
    /// One produce load against a server that is there already: for profiling it.
    Load(LoadOnce),
    /// A well-behaved client beside hostile ones.
    Hostile(Hostile),
    /// The null broker: checks what it is sent, answers, and keeps nothing.
    Null {
        /// Where it listens.
        #[arg(long, default_value = "127.0.0.1:9092")]
        at: SocketAddr,
    },
    /// What thousands of partitions cost, and what a restart with them.
    Scale(ScalePlan),
}

/// What the suite is to do.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Plan {
    /// Fewer and shorter rows, three repetitions: some five minutes.
    #[arg(long)]
    pub(crate) quick: bool,
    /// How often everything is repeated, instead of five (three with --quick).
    #[arg(long)]
    pub(crate) repetitions: Option<usize>,
    /// Millstream and the null broker alone.
    #[arg(long)]
    pub(crate) without_kafka: bool,
    /// Only rows whose names hold one of these, such as `read,tailing`, and what they need. For a look at a
    /// change: tables of other rows stay empty.
    #[arg(long, visible_alias = "only", value_delimiter = ',')]
    pub(crate) rows: Vec<String>,
    /// The size of Millstream's journal (`millstream.journal.bytes`), in MiB. Each run writes four times
    /// as much and more, so that a smaller one makes a shorter benchmark, not an easier one.
    #[arg(long, default_value_t = 256)]
    pub(crate) journal_mebibytes: u64,
    /// The program `millstream`.
    #[arg(long)]
    pub(crate) server: PathBuf,
    /// The script that starts one node of Apache Kafka: PORT DATA_DIR [NAME=VALUE]...
    #[arg(long)]
    pub(crate) kafka: PathBuf,
    /// The folder with the jars of Apache Kafka.
    #[arg(long)]
    pub(crate) jars: PathBuf,
    /// Where the servers keep their data, emptied as needed: on the disk that is measured.
    #[arg(long)]
    pub(crate) scratch: PathBuf,
    /// Where the report is written.
    #[arg(long)]
    pub(crate) report: PathBuf,
    /// Where all samples are written, as JSON.
    #[arg(long)]
    pub(crate) samples: PathBuf,
}

/// One load.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct LoadOnce {
    /// The server.
    #[arg(long, default_value = "127.0.0.1:9092")]
    pub(crate) at: SocketAddr,
    /// The server's process, to report its cost.
    #[arg(long)]
    pub(crate) pid: Option<u32>,
    /// Bytes of a batch.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) batch: usize,
    /// Bytes of a record's value.
    #[arg(long, default_value_t = 1024)]
    pub(crate) record: usize,
    /// Partitions of the new topic.
    #[arg(long, default_value_t = 1)]
    pub(crate) partitions: i32,
    /// Seconds.
    #[arg(long, default_value_t = 5.0)]
    pub(crate) seconds: f64,
    /// Connections.
    #[arg(long, default_value_t = 8)]
    pub(crate) connections: usize,
    /// Records per second, instead of as fast as possible.
    #[arg(long)]
    pub(crate) rate: Option<u32>,
    /// Requests in flight on each connection, with --rate.
    #[arg(long, default_value_t = 5)]
    pub(crate) in_flight: usize,
    /// Read everything back afterwards.
    #[arg(long)]
    pub(crate) consume: bool,
}
