//! `millstream log export`.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;
use millstream_types::Offset;

use super::DataArgs;
use super::directory::Directory;
use super::kafka_log::KafkaLog;
use super::text::count;

/// What `log export` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Writes DIR/TOPIC-N/ with .log, .index and .timeindex files, offsets and leader epochs as stored.
Look at them with Apache Kafka's own tool:
  kafka-dump-log --files DIR/flights-0/00000000000000000000.log --print-data-log")]
pub struct ExportArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The folder to write to; it is made if need be
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Only this topic
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
}

pub(super) async fn run(args: ExportArgs, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let directory = Directory::open(&args.data).await?;
    let mut damaged: u64 = 0;
    for named in directory.chosen(args.topic.as_deref(), None)? {
        let folder = args.out.join(named.to_string());
        let failed = || format!("can't export to {}", folder.display());
        let Some(stored) = directory.offline.partition(named.id) else { continue };
        let Some(mut reader) = directory.offline.read(named.id, Offset::ZERO) else { continue };
        let mut log = KafkaLog::create(folder.clone()).with_context(failed)?;
        let (mut batches, mut bytes): (u64, u64) = (0, 0);
        while let Some(next) = reader.next().await {
            match next {
                Ok(found) => {
                    batches += 1;
                    bytes += found.batch.size() as u64;
                    log.push(&found.header, &found.batch).with_context(failed)?;
                }
                Err(finding) => {
                    damaged += 1;
                    eprintln!("{}", directory.told(&finding));
                }
            }
        }
        let files = log.finish(stored.log_start()).with_context(failed)?;
        let plural = if files == 1 { "file" } else { "files" };
        let (batches, bytes) = (count(batches), count(bytes));
        writeln!(out, "{named}: {batches} batches, {bytes} bytes in {files} {plural}")?;
    }
    if damaged > 0 {
        bail!("{damaged} parts of the log could not be read and are not in the export");
    }
    Ok(())
}
