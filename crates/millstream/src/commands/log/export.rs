//! `millstream log export`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use millstream_types::Offset;
use serde::Serialize;

use super::directory::{Directory, Named};
use super::kafka_log::KafkaLog;
use super::{ChoiceArgs, DataArgs};
use crate::output::{Progress, Table, human, remark};

/// What `log export` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream log export --out /tmp/export
  millstream log export --out /tmp/export --topic flights --partition 3

Writes DIR/TOPIC-N/ with .log, .index and .timeindex files, offsets and leader epochs as stored.
Look at them with Apache Kafka's own tool:
  kafka-dump-log.sh --files DIR/flights-0/00000000000000000000.log --print-data-log")]
pub struct ExportArgs {
    #[command(flatten)]
    data: DataArgs,
    /// The folder to write to; it is made if need be
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Show what was written as JSON, for programs
    #[arg(long)]
    json: bool,
}

/// What was written of a partition.
#[derive(Serialize)]
struct Exported {
    topic: String,
    partition: i32,
    folder: PathBuf,
    files: u64,
    batches: u64,
    records: u64,
    bytes: u64,
}

/// An export under way.
struct Export<'a> {
    directory: &'a Directory,
    progress: Progress,
    /// Bytes of batches that there are, and that have been written.
    total: u64,
    written: u64,
    /// Parts of the log that could not be read.
    damaged: u64,
}

pub(super) async fn run(args: ExportArgs, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let directory = Directory::open(&args.data).await?;
    let chosen = directory.chosen(&args.choice)?;
    let mut export = Export {
        directory: &directory,
        progress: Progress::new(&directory.env, true),
        total: directory.bytes(&chosen),
        written: 0,
        damaged: 0,
    };
    let mut exported = Vec::new();
    for named in &chosen {
        let folder = args.out.join(named.to_string());
        let failed = format!("can't export to {}", folder.display());
        exported.extend(export.partition(named, folder).await.context(failed)?);
    }
    export.progress.clear();
    if args.json {
        serde_json::to_writer(&mut *out, &exported)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", text(&exported, &args.out))?;
    }
    if export.damaged > 0 {
        let parts = human::counted(export.damaged, "part");
        bail!("{parts} of the log could not be read and are not in the export");
    }
    Ok(())
}

impl Export<'_> {
    /// Writes a partition's folder; none where nothing was ever stored.
    async fn partition(
        &mut self,
        named: &Named,
        folder: PathBuf,
    ) -> anyhow::Result<Option<Exported>> {
        let offline = &self.directory.offline;
        let Some(stored) = offline.partition(named.id) else { return Ok(None) };
        let Some(mut reader) = offline.read(named.id, Offset::ZERO) else { return Ok(None) };
        let mut log = KafkaLog::create(folder.clone())?;
        let mut exported = Exported {
            topic: named.topic.to_string(),
            partition: named.id.index,
            folder,
            files: 0,
            batches: 0,
            records: 0,
            bytes: 0,
        };
        while let Some(next) = reader.next().await {
            match next {
                Ok(found) => {
                    log.push(&found.header, &found.batch)?;
                    let size = found.batch.size() as u64;
                    exported.batches += 1;
                    exported.records += u64::try_from(found.header.records_count).unwrap_or(0);
                    exported.bytes += size;
                    self.written += size;
                    self.progress.update_of(self.written, self.total, named);
                }
                Err(finding) => {
                    self.damaged += 1;
                    self.progress.clear();
                    remark(&self.directory.told(&finding));
                }
            }
        }
        exported.files = log.finish(stored.log_start())?;
        Ok(Some(exported))
    }
}

fn text(exported: &[Exported], out: &Path) -> String {
    if exported.is_empty() {
        return "there are no topics: nothing was written\n".to_owned();
    }
    let mut table = Table::new(["TOPIC", "#PARTITION", "#RECORDS", "#BATCHES", "#SIZE", "#FILES"]);
    for each in exported {
        table.row([
            each.topic.clone(),
            each.partition.to_string(),
            human::count(each.records),
            human::count(each.batches),
            human::bytes(each.bytes),
            human::count(each.files),
        ]);
    }
    format!("{table}\nwritten to {}\n", out.display())
}
