//! `millstream topic list`.

use std::collections::BTreeMap;
use std::sync::Arc;

use clap::Args;
use millstream_client::{Admin, Isolation, OffsetSpec, Topic, TopicPartition};
use serde::Serialize;

use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::{Table, human, show};

/// What `topic list` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream topic list
  millstream topic list --json | jq -r '.[].topic'")]
pub struct ListArgs {
    /// Topics of the cluster's own workings, too
    #[arg(long)]
    internal: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Listed {
    topic: String,
    id: String,
    internal: bool,
    partitions: usize,
    replicas: usize,
    /// Offsets between the first and the next, of all partitions; null when not to be had. More
    /// than there are records where some have been compacted away.
    records: Option<i64>,
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let mut topics = admin.cluster().all_topics().await?;
    topics.retain(|topic| args.internal || !topic.internal);
    topics.sort_by(|a, b| a.name.cmp(&b.name));
    let records = records(&admin, &topics).await;
    let listed: Vec<_> = topics
        .iter()
        .map(|topic| Listed {
            topic: topic.name.to_string(),
            id: topic.id.to_string(),
            internal: topic.internal,
            partitions: topic.partitions.len(),
            replicas: topic.partitions.first().map_or(0, |partition| partition.replicas.len()),
            records: records.as_ref().map(|of| of.get(&*topic.name).copied().unwrap_or(0)),
        })
        .collect();
    show(args.cluster.json, &listed, || {
        if listed.is_empty() {
            return "there are no topics; create one with `millstream topic create NAME`"
                .to_owned();
        }
        let mut table = Table::new(["TOPIC", "#PARTITIONS", "#REPLICAS", "#RECORDS"]);
        for topic in &listed {
            table.row([
                topic.topic.clone(),
                human::count(topic.partitions as i128),
                human::count(topic.replicas as i128),
                topic.records.map_or_else(|| "-".to_owned(), human::count),
            ]);
        }
        table.to_string()
    })
}

/// How many offsets each topic has. `None` when that is not to be had of all of them: a list of
/// topics is of use without it.
async fn records(admin: &Admin, topics: &[Arc<Topic>]) -> Option<BTreeMap<String, i64>> {
    let partitions = topics.iter().flat_map(|topic| {
        let name = Arc::clone(&topic.name);
        let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
        led.map(move |partition| TopicPartition::new(Arc::clone(&name), partition.index))
    });
    let partitions: Vec<_> = partitions.collect();
    let find = async |spec| {
        let wanted: Vec<_> = partitions.iter().map(|of| (of.clone(), spec)).collect();
        admin.list_offsets(&wanted, Isolation::ReadUncommitted).await.ok()
    };
    let (first, next) = (find(OffsetSpec::Earliest).await?, find(OffsetSpec::Latest).await?);
    let mut records = BTreeMap::new();
    for (of, next) in next {
        let first = first.get(&of).and_then(|found| found.offset).unwrap_or_default();
        let count = next.offset.unwrap_or_default().0.saturating_sub(first.0).max(0);
        *records.entry(of.topic.to_string()).or_insert(0) += count;
    }
    Some(records)
}
