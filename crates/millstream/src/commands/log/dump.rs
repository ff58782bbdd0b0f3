//! `millstream log dump`.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use millstream_log::offline::StoredAt;
use millstream_record::batch::TimestampType;
use millstream_record::control::{ControlRecord, EndTransaction, Outcome};
use millstream_record::{BatchHeader, Record};
use millstream_types::Offset;
use millstream_types::limits::BATCH_BYTES_CEILING;
use serde::Serialize;

use super::directory::{At, Directory, Named};
use super::text::{bytes, range};
use super::{ChoiceArgs, DataArgs};
use crate::output::record::{Blob, HeaderJson, RecordOut};
use crate::output::time::stored;
use crate::output::{human, remark};

/// What `log dump` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream log dump --topic flights --partition 0 --from 1000 --count 5
  millstream log dump --topic flights --records --json | jq .value

With --records --json the lines are those of `consume --json`: `produce --json` reads them.")]
pub struct DumpArgs {
    #[command(flatten)]
    data: DataArgs,
    #[command(flatten)]
    choice: ChoiceArgs,
    /// Begin with the batch that holds this offset, in each partition
    #[arg(long, value_name = "OFFSET", default_value_t = 0)]
    from: i64,
    /// Stop after so many lines
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// One line for each record instead of one for each batch
    #[arg(long)]
    records: bool,
    /// One JSON object on each line, for programs
    #[arg(long)]
    json: bool,
}

/// A batch, for programs.
#[derive(Serialize)]
struct BatchLine<'a> {
    topic: &'a str,
    partition: i32,
    base_offset: i64,
    last_offset: i64,
    records: i32,
    leader_epoch: i32,
    base_timestamp: Option<String>,
    max_timestamp: Option<String>,
    timestamp_type: &'static str,
    compression: String,
    producer_id: i64,
    producer_epoch: i16,
    base_sequence: i32,
    transactional: bool,
    control: bool,
    size: usize,
    #[serde(flatten)]
    at: At,
}

/// A record, for programs: as `consume --json` shows it, so that `produce --json` can read it.
#[derive(Serialize)]
struct RecordLine<'a> {
    #[serde(flatten)]
    record: RecordOut<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    control: Option<String>,
}

pub(super) async fn run(args: DumpArgs, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let directory = Directory::open(&args.data).await?;
    let chosen = directory.chosen(&args.choice)?;
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut damaged: u64 = 0;
    for named in chosen {
        let Some(mut reader) = directory.offline.read(named.id, Offset(args.from)) else {
            continue;
        };
        while left > 0
            && let Some(next) = reader.next().await
        {
            let found = match next {
                Ok(found) => found,
                Err(finding) => {
                    damaged += 1;
                    remark(&directory.told(&finding));
                    continue;
                }
            };
            if !args.records {
                left -= 1;
                let at = directory.at(&found.place);
                batch(&found, at, &named, args.json, out)?;
            } else if let Err(error) = records(&found, &named, &args, &mut left, out)? {
                damaged += 1;
                let header = &found.header;
                let offsets = range(header.base_offset.0, header.last_offset().0);
                remark(&format_args!("damage: {named}, offsets {offsets}: {error}"));
            }
        }
    }
    if damaged > 0 {
        let parts = human::counted(damaged, "part");
        bail!("{parts} of the log can't be read; `millstream log verify` says all of it");
    }
    Ok(())
}

fn batch(
    found: &StoredAt,
    at: At,
    named: &Named,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let header = &found.header;
    if !json {
        writeln!(out, "{}", batch_text(header, found.batch.size(), &at, named))?;
        return Ok(());
    }
    let line = BatchLine {
        topic: &named.topic,
        partition: named.id.index,
        base_offset: header.base_offset.0,
        last_offset: header.last_offset().0,
        records: header.records_count,
        leader_epoch: header.leader_epoch.0,
        base_timestamp: stored(header.base_timestamp),
        max_timestamp: stored(header.max_timestamp),
        timestamp_type: timestamp_type(header),
        compression: compression(header),
        producer_id: header.producer_id.0,
        producer_epoch: header.producer_epoch.0,
        base_sequence: header.base_sequence,
        transactional: header.attributes.is_transactional(),
        control: header.attributes.is_control(),
        size: found.batch.size(),
        at,
    };
    serde_json::to_writer(&mut *out, &line)?;
    writeln!(out)?;
    Ok(())
}

fn batch_text(header: &BatchHeader, size: usize, at: &At, named: &Named) -> String {
    let offsets = range(header.base_offset.0, header.last_offset().0);
    let none = || "none".to_owned();
    let mut text = format!(
        "{named} offsets {offsets} records {} epoch {} {} {}..{} compression {}",
        header.records_count,
        header.leader_epoch,
        timestamp_type(header),
        stored(header.base_timestamp).unwrap_or_else(none),
        stored(header.max_timestamp).unwrap_or_else(none),
        compression(header),
    );
    if header.producer_id.0 >= 0 {
        let sequence = range(header.base_sequence.into(), header.last_sequence().into());
        let (id, epoch) = (header.producer_id, header.producer_epoch);
        text.push_str(&format!(" producer {id} producer-epoch {epoch} sequence {sequence}"));
    }
    if header.attributes.is_transactional() {
        text.push_str(" transactional");
    }
    if header.attributes.is_control() {
        text.push_str(" control");
    }
    text.push_str(&format!(" size {size} in {at}"));
    text
}

/// Shows a batch's records. The inner error is the batch's: it can't be decompressed or decoded.
fn records(
    found: &StoredAt,
    named: &Named,
    args: &DumpArgs,
    left: &mut u64,
    out: &mut dyn Write,
) -> anyhow::Result<Result<(), millstream_record::BatchError>> {
    let records = match found.batch.records(BATCH_BYTES_CEILING) {
        Ok(records) => records,
        Err(error) => return Ok(Err(error)),
    };
    for record in records.iter() {
        let record = match record {
            Ok(record) => record,
            Err(error) => return Ok(Err(error)),
        };
        if record.offset(&found.header).0 < args.from {
            continue;
        }
        if *left == 0 {
            break;
        }
        *left -= 1;
        show_record(&record, &found.header, named, args.json, out)?;
    }
    Ok(Ok(()))
}

fn show_record(
    record: &Record<'_>,
    header: &BatchHeader,
    named: &Named,
    json: bool,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let offset = record.offset(header);
    let timestamp = record.timestamp(header);
    let control = header.attributes.is_control().then(|| control(record));
    if json {
        let headers = record.headers().map(|header| HeaderJson {
            key: String::from_utf8_lossy(header.key).into_owned(),
            value: header.value.map(Blob::new),
        });
        let record = RecordOut {
            topic: &named.topic,
            partition: named.id.index,
            offset: offset.0,
            timestamp: timestamp.0,
            key: record.key.map(Blob::new),
            value: record.value.map(Blob::new),
            headers: headers.collect(),
        };
        serde_json::to_writer(&mut *out, &RecordLine { record, control })?;
        writeln!(out)?;
        return Ok(());
    }
    let timestamp = stored(timestamp).unwrap_or_else(|| "none".to_owned());
    write!(out, "{named} offset {offset} time {timestamp}")?;
    match control {
        Some(control) => write!(out, " control {control}")?,
        None => write!(out, " key {} value {}", bytes(record.key), bytes(record.value))?,
    }
    let headers: Vec<_> = record
        .headers()
        .map(|header| format!("{}={}", bytes(Some(header.key)), bytes(header.value)))
        .collect();
    if !headers.is_empty() {
        write!(out, " headers {}", headers.join(","))?;
    }
    writeln!(out)?;
    Ok(())
}

fn control(record: &Record<'_>) -> String {
    match ControlRecord::decode(record) {
        Ok(ControlRecord::EndTransaction(EndTransaction { outcome, coordinator_epoch })) => {
            let outcome = match outcome {
                Outcome::Commit => "commit",
                Outcome::Abort => "abort",
            };
            format!("{outcome} coordinator-epoch {coordinator_epoch}")
        }
        Ok(ControlRecord::LeaderChange { leader }) => format!("leader-change to {leader}"),
        Ok(ControlRecord::Other { kind }) => format!("type {kind}"),
        Err(error) => format!("unreadable ({error})"),
    }
}

fn timestamp_type(header: &BatchHeader) -> &'static str {
    match header.attributes.timestamp_type() {
        TimestampType::CreateTime => "create-time",
        TimestampType::LogAppendTime => "log-append-time",
    }
}

fn compression(header: &BatchHeader) -> String {
    match header.attributes.compression() {
        Ok(compression) => format!("{compression:?}").to_lowercase(),
        Err(error) => error.to_string(),
    }
}
