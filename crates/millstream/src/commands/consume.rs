//! `millstream consume`.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, Write};
use std::time::Duration;

use anyhow::bail;
use clap::{Args, ValueEnum};
use millstream_client::{
    Admin, Cluster, Consumer, ConsumerSettings, FetchedBatch, FetchedRecord, GroupSettings,
    Isolation, OffsetSpec, Reset, Start, TopicPartition,
};
use millstream_types::{Monotonic, Offset, limits};

use crate::cli::ClusterArgs;
use crate::commands::position::{Place, Position};
use crate::commands::{connect, interrupted};
use crate::output::record::{Blob, HeaderJson, RecordOut};
use crate::output::{Progress, remark};

/// What `consume` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream consume flights --count 3
  millstream consume flights --from latest --follow
  millstream consume flights --from -1h --format key-value
  millstream consume flights --from 1200 --partition 3 --json | jq .timestamp
  millstream consume flights --group delays               (goes on where the group has stopped)

Without --follow it stops at what was the end when it began. A group's offsets are committed when
the records have been written out.")]
pub struct ConsumeArgs {
    /// The topic's name
    topic: String,
    /// Where to begin: earliest, latest, an offset, or a time; for a group that has no offsets yet:
    /// earliest or latest
    #[arg(long, value_name = "WHERE", default_value = "earliest", allow_hyphen_values = true)]
    from: Position,
    /// Only this partition; may be repeated
    #[arg(long, short, value_name = "N", conflicts_with = "group")]
    partition: Vec<i32>,
    /// Read as a member of this group
    #[arg(long, short, value_name = "GROUP")]
    group: Option<String>,
    /// Stop after so many records
    #[arg(long, short = 'n', value_name = "N")]
    count: Option<u64>,
    /// Go on at the end, waiting for more
    #[arg(long, short)]
    follow: bool,
    /// What to show of a record [default: value; json with --json]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Output>,
    /// What stands between key and value with --format key-value
    #[arg(long, value_name = "TEXT", default_value = "\t", hide_default_value = true)]
    key_separator: String,
    /// Leave out records of transactions that are open or were aborted
    #[arg(long)]
    committed: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What is shown of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Output {
    Value,
    KeyValue,
    Json,
}

/// How often a group's offsets are committed.
const COMMIT_INTERVAL: Duration = Duration::from_secs(1);

pub(super) async fn run(args: ConsumeArgs) -> anyhow::Result<()> {
    let cluster = connect(&args.cluster).await?;
    let ends = args.ends(&cluster).await?;
    let mut consumer = args.consumer(&cluster, &ends)?;
    let mut shown = Shown::new(&args, &cluster);
    let outcome = tokio::select! {
        outcome = show_all(&args, &cluster, &mut consumer, &ends, &mut shown) => outcome,
        () = interrupted() => Ok(()),
    };
    let flushed = shown.flush();
    if outcome.is_ok() && shown.records == 0 && args.count != Some(0) && !args.follow {
        nothing(&args);
    }
    // Members leave whatever happened, so that others need not wait for them.
    if args.group.is_some() {
        let committed = match &flushed {
            Ok(()) => consumer.commit_offsets(&shown.next).await,
            Err(_) => Ok(()),
        };
        consumer.leave().await;
        outcome?;
        flushed?;
        return Ok(committed?);
    }
    outcome?;
    flushed
}

/// Says why there is no output, to a person.
fn nothing(args: &ConsumeArgs) {
    if std::io::stderr().is_terminal() {
        let from = if args.group.is_some() { "after the group's offsets" } else { "from there on" };
        remark(&format_args!("no records {from}; --follow waits for more"));
    }
}

/// Shows records until there are enough of them.
async fn show_all(
    args: &ConsumeArgs,
    cluster: &Cluster,
    consumer: &mut Consumer,
    ends: &BTreeMap<TopicPartition, Offset>,
    shown: &mut Shown,
) -> anyhow::Result<()> {
    let clock = &cluster.env().clock;
    let mut committed = Committed { at: clock.monotonic(), offsets: BTreeMap::new() };
    if args.count == Some(0) {
        return Ok(());
    }
    loop {
        if !args.follow && is_finished(args, consumer, ends) {
            return Ok(());
        }
        let is_behind = args.group.is_some() && shown.next != committed.offsets;
        let polled = tokio::select! {
            polled = consumer.poll() => polled?,
            // Nothing may come for long; what has been shown is committed all the same.
            () = clock.sleep_until(committed.at.plus(COMMIT_INTERVAL)), if is_behind => {
                commit(consumer, shown, cluster, &mut committed).await?;
                continue;
            }
        };
        if polled.reassigned {
            // What was shown of partitions that are others' now is theirs to commit.
            shown.next = consumer.positions();
            if !args.follow && consumer.assignment().next().is_none() {
                return Ok(());
            }
        }
        if polled.batches.is_empty() {
            // A group that has read nothing of a partition has a place in it all the same.
            for (of, at) in consumer.positions() {
                shown.next.entry(of).or_insert(at);
            }
        }
        for batch in &polled.batches {
            let end = ends.get(batch.partition()).filter(|_| !args.follow && args.group.is_none());
            if shown.batch(batch, end.copied(), args.count)? {
                return Ok(());
            }
        }
        shown.flush()?;
        if args.group.is_some() {
            commit(consumer, shown, cluster, &mut committed).await?;
        }
    }
}

/// What a group has committed last, and when that was tried.
struct Committed {
    at: Monotonic,
    offsets: BTreeMap<TopicPartition, Offset>,
}

/// Commits what has been shown, if that is due.
async fn commit(
    consumer: &mut Consumer,
    shown: &Shown,
    cluster: &Cluster,
    committed: &mut Committed,
) -> anyhow::Result<()> {
    let now = cluster.env().clock.monotonic();
    if now.since(committed.at) < COMMIT_INTERVAL {
        return Ok(());
    }
    committed.at = now;
    match consumer.commit_offsets(&shown.next).await {
        // The next poll joins again; what could not be committed is read again.
        Err(error) if error.is_about_membership() => Ok(()),
        Err(error) => Err(error.into()),
        Ok(()) => {
            committed.offsets.clone_from(&shown.next);
            Ok(())
        }
    }
}

/// Whether everything has been read to what was the end. Partitions of which that is true are let
/// go of, unless it is for the group to do that.
fn is_finished(
    args: &ConsumeArgs,
    consumer: &mut Consumer,
    ends: &BTreeMap<TopicPartition, Offset>,
) -> bool {
    let positions = consumer.positions();
    let (read, unread): (Vec<_>, Vec<_>) = consumer.assignment().cloned().partition(|of| {
        let end = ends.get(of).copied().unwrap_or_default();
        positions.get(of).is_some_and(|at| *at >= end)
    });
    if args.group.is_none() {
        read.iter().for_each(|of| consumer.unassign(of));
        return unread.is_empty();
    }
    // Before it has joined, a member has no partitions at all.
    unread.is_empty() && !read.is_empty()
}

impl ConsumeArgs {
    /// Where the partitions to be read end now.
    async fn ends(&self, cluster: &Cluster) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
        let topic = cluster.topic(&self.topic).await?;
        let count = topic.partitions.len();
        if let Some(unknown) = self.partition.iter().find(|it| topic.partition(**it).is_none()) {
            bail!("topic {} has no partition {unknown}: it has {count}, from 0 on", self.topic);
        }
        let all = topic.partitions.iter().map(|partition| partition.index);
        let chosen = all.filter(|it| self.partition.is_empty() || self.partition.contains(it));
        let wanted: Vec<_> = chosen
            .map(|index| (TopicPartition::new(self.topic.as_str(), index), OffsetSpec::Latest))
            .collect();
        let found = Admin::new(cluster.clone()).list_offsets(&wanted, self.isolation()).await?;
        Ok(found.into_iter().map(|(of, at)| (of, at.offset.unwrap_or_default())).collect())
    }

    const fn isolation(&self) -> Isolation {
        if self.committed { Isolation::ReadCommitted } else { Isolation::ReadUncommitted }
    }

    fn consumer(
        &self,
        cluster: &Cluster,
        ends: &BTreeMap<TopicPartition, Offset>,
    ) -> anyhow::Result<Consumer> {
        let settings = ConsumerSettings {
            isolation: self.isolation(),
            patience: (!self.follow).then_some(cluster.settings().patience),
            ..ConsumerSettings::default()
        };
        let Position(from) = self.from;
        let Some(group) = &self.group else {
            let mut consumer = Consumer::new(cluster.clone(), settings);
            let start = from.start(cluster.env().clock.wall());
            for (of, end) in ends {
                // So that "latest" means the end that it will stop at.
                let start = if start == Start::Latest { Start::At(*end) } else { start };
                consumer.assign(of.clone(), start);
            }
            return Ok(consumer);
        };
        let reset = match from {
            Place::Earliest => Reset::Earliest,
            Place::Latest => Reset::Latest,
            Place::At(_) | Place::Time(_) => bail!(
                "a group goes on where it has stopped: with --group, --from is earliest or latest; \
                 `millstream group reset {group} --topic {} --to ...` moves it",
                self.topic
            ),
        };
        let settings = ConsumerSettings { reset, ..settings };
        let group = GroupSettings::new(group.clone());
        Ok(Consumer::in_group(cluster.clone(), settings, group, [self.topic.as_str()]))
    }

    fn output(&self) -> Output {
        let default = if self.cluster.json { Output::Json } else { Output::Value };
        self.format.unwrap_or(default)
    }
}

/// What has been written out.
struct Shown {
    format: Output,
    key_separator: String,
    /// What has not been handed to the system.
    buffer: Vec<u8>,
    progress: Progress,
    records: u64,
    bytes: u64,
    /// The offset after the last record of each partition.
    next: BTreeMap<TopicPartition, Offset>,
}

/// The buffer is handed on when it has so many bytes.
const BUFFER_BYTES: usize = 64 << 10;

impl Shown {
    fn new(args: &ConsumeArgs, cluster: &Cluster) -> Self {
        Self {
            format: args.output(),
            key_separator: args.key_separator.clone(),
            buffer: Vec::with_capacity(2 * BUFFER_BYTES),
            progress: Progress::new(cluster.env(), false),
            records: 0,
            bytes: 0,
            next: BTreeMap::new(),
        }
    }

    /// Shows the records of a batch that lie before `end`; returns whether `count` records have
    /// been shown in all.
    fn batch(
        &mut self,
        batch: &FetchedBatch,
        end: Option<Offset>,
        count: Option<u64>,
    ) -> anyhow::Result<bool> {
        let of = batch.partition();
        for record in &batch.records(limits::BATCH_BYTES_CEILING)? {
            let record = record?;
            if end.is_some_and(|end| record.offset >= end) {
                return Ok(false);
            }
            self.record(of, &record)?;
            self.records += 1;
            if self.buffer.len() >= BUFFER_BYTES {
                self.flush()?;
            }
            if Some(self.records) == count {
                self.next.insert(of.clone(), record.offset.next());
                return Ok(true);
            }
        }
        self.next.insert(of.clone(), batch.next_offset());
        Ok(false)
    }

    fn record(&mut self, of: &TopicPartition, record: &FetchedRecord<'_>) -> anyhow::Result<()> {
        let FetchedRecord { offset, timestamp, record } = record;
        let (key, value) = (record.key, record.value);
        self.bytes += (key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len)) as u64;
        match self.format {
            Output::Value => self.buffer.extend_from_slice(value.unwrap_or_default()),
            Output::KeyValue => {
                self.buffer.extend_from_slice(key.unwrap_or_default());
                self.buffer.extend_from_slice(self.key_separator.as_bytes());
                self.buffer.extend_from_slice(value.unwrap_or_default());
            }
            Output::Json => {
                let headers = record.headers().map(|header| HeaderJson {
                    key: String::from_utf8_lossy(header.key).into_owned(),
                    value: header.value.map(Blob::new),
                });
                let out = RecordOut {
                    topic: &of.topic,
                    partition: of.partition,
                    offset: offset.0,
                    timestamp: timestamp.0,
                    key: key.map(Blob::new),
                    value: value.map(Blob::new),
                    headers: headers.collect(),
                };
                serde_json::to_writer(&mut self.buffer, &out)?;
            }
        }
        self.buffer.push(b'\n');
        Ok(())
    }

    /// Hands everything to the system.
    fn flush(&mut self) -> anyhow::Result<()> {
        self.progress.update(self.records, self.bytes);
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(&self.buffer)?;
        stdout.flush()?;
        self.buffer.clear();
        Ok(())
    }
}
