//! `millstream backup`: a copy of a data directory, also while a server works in it.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use millstream_broker::{BackupStep, backup};
use millstream_env::{DataDir, Env};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::output::{Progress, human, show};

/// What `backup` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream backup /backup/2026-01-31
  millstream backup /backup/2026-01-31 --data-dir /var/lib/millstream --json
  millstream restore /backup/2026-01-31 --data-dir /var/lib/millstream

The server may go on working. The backup holds everything that was acknowledged before it began,
and what came later up to one moment; it is read back and checked before it is called one. It is
complete in itself: keep as many as you like, delete one by deleting its directory.")]
pub struct BackupArgs {
    /// The directory to write to; it is empty or not there yet
    #[arg(value_name = "TO")]
    to: PathBuf,
    /// The data directory to copy
    #[arg(long, value_name = "DIR", default_value = "./millstream-data")]
    data_dir: PathBuf,
    /// Show what was copied as JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    from: PathBuf,
    to: PathBuf,
    cluster: String,
    partitions: u64,
    batches: u64,
    records: u64,
    /// Of batches.
    bytes: u64,
    files: usize,
    /// Of files, holes included.
    file_bytes: u64,
    rounds: u32,
    seconds: f64,
}

/// Carries the command out.
///
/// # Errors
///
/// What stood in the way; then there is no backup.
pub async fn run(args: BackupArgs) -> anyhow::Result<()> {
    let env = Env::real(Handle::current());
    let source = DataDir::open_beside(&args.data_dir, env.clone())?;
    let target = DataDir::create_copy(&args.to, env.clone(), source.cluster())?;
    let mut progress = Progress::new(&env, true);
    let mut tell = |step| match step {
        BackupStep::Blobs { done, total } => progress.update_of(done, total, &"copying segments"),
        BackupStep::Journals { round } => {
            progress.doing(&format_args!("copying the journal, round {round}"));
        }
        BackupStep::Checked { done, total } => progress.update_of(done, total, &"checking"),
    };
    let no_use = || format!("no backup was made; remove what is in {}", args.to.display());
    let checked = backup(&source, &target, &mut tell).await.with_context(no_use)?;
    let mut sums = |done, total| progress.update_of(done, total, &"writing down checksums");
    let manifest = target.publish(&mut sums).await.with_context(no_use)?;
    progress.clear();
    let document = Document {
        cluster: manifest.cluster.to_string(),
        partitions: checked.partitions,
        batches: checked.batches,
        records: checked.records,
        bytes: checked.bytes,
        files: manifest.parts.len(),
        file_bytes: manifest.bytes(),
        rounds: checked.rounds,
        seconds: progress.elapsed().as_secs_f64(),
        from: args.data_dir,
        to: args.to,
    };
    show(args.json, &document, || {
        format!(
            "{} holds {} in {} ({}), checked",
            document.to.display(),
            human::counted(document.records, "record"),
            human::counted(document.partitions, "partition"),
            human::bytes(document.bytes),
        )
    })
}
