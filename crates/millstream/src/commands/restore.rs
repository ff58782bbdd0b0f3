//! `millstream restore`: a backup becomes a data directory again.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use millstream_broker::{BackupStep, verify};
use millstream_env::{DataDir, Env};
use serde::Serialize;
use tokio::runtime::Handle;

use crate::output::{Progress, human, show};

/// What `restore` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream restore /backup/2026-01-31
  millstream restore /backup/2026-01-31 --data-dir /var/lib/millstream && \\
    millstream serve --data-dir /var/lib/millstream

Every file is compared with the checksum that the backup has of it, and the result is read and
checked as `millstream log verify` does. The backup stays as it is.")]
pub struct RestoreArgs {
    /// The directory that `millstream backup` has written
    #[arg(value_name = "FROM")]
    from: PathBuf,
    /// The data directory to make; it is empty or not there yet
    #[arg(long, value_name = "DIR", default_value = "./millstream-data")]
    data_dir: PathBuf,
    /// Show what was restored as JSON, for programs
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
    seconds: f64,
}

/// Carries the command out.
///
/// # Errors
///
/// What stood in the way.
pub async fn run(args: RestoreArgs) -> anyhow::Result<()> {
    let env = Env::real(Handle::current());
    let mut progress = Progress::new(&env, true);
    let mut copied = |done, total| progress.update_of(done, total, &"copying");
    let manifest = DataDir::restore(&args.from, &args.data_dir, &mut copied).await?;
    let dir = DataDir::open_read_only(&args.data_dir, env.clone())?;
    let mut tell = |step| {
        if let BackupStep::Checked { done, total } = step {
            progress.update_of(done, total, &"checking");
        }
    };
    let what = || format!("{} was restored and is not sound", args.data_dir.display());
    let checked = verify(&dir, &mut tell).await.with_context(what)?;
    progress.clear();
    let document = Document {
        cluster: manifest.cluster.to_string(),
        partitions: checked.partitions,
        batches: checked.batches,
        records: checked.records,
        bytes: checked.bytes,
        seconds: progress.elapsed().as_secs_f64(),
        from: args.from,
        to: args.data_dir,
    };
    show(args.json, &document, || {
        let to = document.to.display();
        format!(
            "{to} holds {} in {} ({}), checked; start it with:\n  millstream serve --data-dir {to}",
            human::counted(document.records, "record"),
            human::counted(document.partitions, "partition"),
            human::bytes(document.bytes),
        )
    })
}
