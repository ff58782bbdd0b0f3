//! `millstream topic describe`.

use std::fmt::Write as _;

use clap::Args;
use millstream_client::{
    Admin, ConfigEntry, ConfigSource, Error, Isolation, OffsetSpec, Resource, TopicPartition,
};
use serde::Serialize;

use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::{Table, human, show};

/// What `topic describe` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream topic describe flights
  millstream topic describe flights --all
  millstream topic describe flights --json | jq '.partitions[].end_offset'")]
pub struct DescribeArgs {
    /// The topic's name
    topic: String,
    /// All settings, not only those that differ from the broker's defaults
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Described {
    topic: String,
    id: String,
    internal: bool,
    partitions: Vec<PartitionLine>,
    configs: Vec<ConfigLine>,
}

#[derive(Serialize)]
struct PartitionLine {
    partition: i32,
    leader: Option<i32>,
    leader_epoch: i32,
    replicas: Vec<i32>,
    in_sync_replicas: Vec<i32>,
    start_offset: Option<i64>,
    end_offset: Option<i64>,
}

#[derive(Serialize)]
struct ConfigLine {
    name: String,
    value: Option<String>,
    /// `topic`, `broker` or `default`.
    source: &'static str,
}

pub(super) async fn run(args: DescribeArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let described = describe(&admin, &args).await?;
    show(args.cluster.json, &described, || described.text(args.all))
}

async fn describe(admin: &Admin, args: &DescribeArgs) -> Result<Described, Error> {
    let topic = admin.cluster().topic(&args.topic).await?;
    let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
    let led: Vec<_> = led.map(|p| TopicPartition::new(args.topic.as_str(), p.index)).collect();
    let find = async |spec| {
        let wanted: Vec<_> = led.iter().map(|of| (of.clone(), spec)).collect();
        admin.list_offsets(&wanted, Isolation::ReadUncommitted).await
    };
    let (first, next) = (find(OffsetSpec::Earliest).await?, find(OffsetSpec::Latest).await?);
    let configs = admin.describe_configs(&Resource::Topic(args.topic.clone())).await?;
    let partitions = topic.partitions.iter().map(|partition| {
        let of = TopicPartition::new(args.topic.as_str(), partition.index);
        PartitionLine {
            partition: partition.index,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch.0,
            replicas: partition.replicas.clone(),
            in_sync_replicas: partition.in_sync.clone(),
            start_offset: first.get(&of).and_then(|found| found.offset).map(|offset| offset.0),
            end_offset: next.get(&of).and_then(|found| found.offset).map(|offset| offset.0),
        }
    });
    let shown = configs.into_iter().filter(|entry| args.all || entry.source == ConfigSource::Topic);
    Ok(Described {
        topic: args.topic.clone(),
        id: topic.id.to_string(),
        internal: topic.internal,
        partitions: partitions.collect(),
        configs: shown.map(config_line).collect(),
    })
}

fn config_line(entry: ConfigEntry) -> ConfigLine {
    let source = match entry.source {
        ConfigSource::Topic => "topic",
        ConfigSource::Broker | ConfigSource::Brokers | ConfigSource::Start => "broker",
        ConfigSource::Default | ConfigSource::Group | ConfigSource::Other(_) => "default",
    };
    ConfigLine { name: entry.name, value: entry.value, source }
}

impl Described {
    fn text(&self, all: bool) -> String {
        let mut text = format!(
            "topic {} ({}), {}\n",
            self.topic,
            self.id,
            human::counted(self.partitions.len() as i128, "partition")
        );
        let mut table = Table::new([
            "#PARTITION",
            "LEADER",
            "REPLICAS",
            "IN SYNC",
            "#START",
            "#END",
            "#RECORDS",
        ]);
        let unknown = || "-".to_owned();
        let number = |offset: Option<i64>| offset.map_or_else(unknown, human::count);
        let numbers =
            |ids: &[i32]| ids.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
        for line in &self.partitions {
            let count = line.end_offset.zip(line.start_offset).map(|(end, start)| end - start);
            table.row([
                line.partition.to_string(),
                line.leader.map_or_else(|| "none".to_owned(), |leader| leader.to_string()),
                numbers(&line.replicas),
                numbers(&line.in_sync_replicas),
                number(line.start_offset),
                number(line.end_offset),
                number(count),
            ]);
        }
        // Writing to a string can't fail.
        let _ = write!(text, "\n{table}");
        if self.configs.is_empty() {
            text.push_str("\nall settings are the broker's defaults (--all shows them)\n");
            return text;
        }
        let _ = write!(text, "\n{}", self.config_table(all));
        text
    }

    /// The settings, with where they come from when those are shown too that nobody has set.
    fn config_table(&self, all: bool) -> Table {
        let value = |line: &ConfigLine| match &line.value {
            None => "-".to_owned(),
            Some(value) => match human::meaning(&line.name, value) {
                None => value.clone(),
                Some(meaning) => format!("{value} ({meaning})"),
            },
        };
        let mut table = if all {
            Table::new(["SETTING", "VALUE", "FROM"])
        } else {
            Table::new(["SETTING", "VALUE"])
        };
        for line in &self.configs {
            let (name, value) = (line.name.clone(), value(line));
            if all {
                table.row([name, value, line.source.to_owned()]);
            } else {
                table.row([name, value]);
            }
        }
        table
    }
}
