//! `millstream log`: looking into a data directory that no server uses, and repairing it. Nothing but
//! a repair changes anything in it.

mod directory;
mod dump;
mod export;
mod kafka_log;
mod repair;
mod text;
mod verify;

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};

pub use dump::DumpArgs;
pub use export::ExportArgs;
pub use repair::RepairArgs;
pub use verify::VerifyArgs;

/// What can be done with a data directory.
#[derive(Clone, Debug, Subcommand)]
pub enum LogCommand {
    /// Show what is stored, batch by batch or record by record
    Dump(DumpArgs),
    /// Check everything that is stored, and name what is damaged
    Verify(VerifyArgs),
    /// Say what a repair of damaged data would lose; with --yes, do it
    Repair(RepairArgs),
    /// Write partitions as Apache Kafka keeps them on disk
    Export(ExportArgs),
}

/// Which data directory.
#[derive(Clone, Debug, Args)]
pub struct DataArgs {
    /// The data directory; no server may be using it
    #[arg(long, value_name = "DIR", default_value = "./millstream-data")]
    pub data_dir: PathBuf,
}

/// Which partitions.
#[derive(Clone, Debug, Args)]
pub struct ChoiceArgs {
    /// Only this topic
    #[arg(long, short, value_name = "NAME")]
    topic: Option<String>,
    /// Only partitions of this number
    #[arg(long, short, value_name = "N")]
    partition: Option<i32>,
    /// Topics of the cluster's own workings, too
    #[arg(long)]
    internal: bool,
}

/// Carries the command out, with its output on standard output.
///
/// # Errors
///
/// What stood in the way; and that something is damaged, when it is.
pub async fn run(command: LogCommand) -> anyhow::Result<()> {
    let mut out = BufWriter::new(io::stdout());
    let done = run_to(command, &mut out).await;
    let flushed = out.flush();
    done?;
    Ok(flushed?)
}

/// The same with its output anywhere.
///
/// # Errors
///
/// As [`run`].
pub async fn run_to(command: LogCommand, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    match command {
        LogCommand::Dump(args) => dump::run(args, out).await,
        LogCommand::Verify(args) => verify::run(args, out).await,
        LogCommand::Repair(args) => repair::run(args, out).await,
        LogCommand::Export(args) => export::run(args, out).await,
    }
}
