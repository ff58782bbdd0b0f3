//! `millstream group reset`.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use clap::Args;
use millstream_client::{
    Admin, CommittedOffset, Error, FoundOffset, Isolation, OffsetSpec, TopicPartition,
};
use millstream_types::{Offset, Timestamp};
use millstream_wire::ErrorCode;
use serde::Serialize;

use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::commands::position::{Move, NewPosition, Place};
use crate::output::time::display;
use crate::output::{Table, human, show};

/// What `group reset` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream group reset delays --topic flights --to earliest --dry-run
  millstream group reset delays --topic flights --to -1h
  millstream group reset delays --topic flights --partition 3 --to 1200
  millstream group reset delays --to -100        (100 records back, wherever it has been)

The group must have no members. An offset that is not there becomes the nearest that is.")]
pub struct ResetArgs {
    /// The group's name
    group: String,
    /// A topic; may be repeated [default: all for which the group has offsets]
    #[arg(long, short, value_name = "TOPIC")]
    topic: Vec<String>,
    /// A partition; may be repeated [default: all]
    #[arg(long, short, value_name = "N", requires = "topic")]
    partition: Vec<i32>,
    /// Where to go on: earliest, latest, an offset, +N or -N records, or a time
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    to: NewPosition,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Reset {
    topic: String,
    partition: i32,
    old_offset: Option<i64>,
    new_offset: i64,
}

pub(super) async fn run(args: ResetArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    check_empty(&admin, &args.group).await?;
    let committed = admin.committed_offsets(&args.group).await?;
    let partitions = partitions(&admin, &args, &committed).await?;
    let targets = targets(&admin, args.to, &partitions, &committed).await?;
    if !args.dry_run {
        let offsets = targets.iter().map(|(of, at)| (of.clone(), CommittedOffset::at(*at)));
        admin.commit_offsets(&args.group, &offsets.collect()).await?;
    }
    let resets = targets.iter().map(|(of, at)| Reset {
        topic: of.topic.to_string(),
        partition: of.partition,
        old_offset: committed.get(of).map(|old| old.offset.0),
        new_offset: at.0,
    });
    let resets: Vec<_> = resets.collect();
    let now = admin.cluster().env().clock.wall();
    show(args.cluster.json, &resets, || text(&resets, &args, now))
}

/// Members would go on where they are, and commit that.
async fn check_empty(admin: &Admin, group: &str) -> anyhow::Result<()> {
    match admin.describe_group(group).await {
        Ok(description) if description.members.is_empty() => Ok(()),
        Ok(description) => {
            let members = human::counted(description.members.len() as i128, "member");
            bail!(
                "group {group} has {members}; stop them first, or they would go on where they are"
            )
        }
        // It comes to be when offsets are committed.
        Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

async fn partitions(
    admin: &Admin,
    args: &ResetArgs,
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
) -> anyhow::Result<Vec<TopicPartition>> {
    if args.topic.is_empty() {
        if committed.is_empty() {
            bail!("group {} has no offsets; say for which topic with --topic", args.group);
        }
        return Ok(committed.keys().cloned().collect());
    }
    let wanted: BTreeSet<_> = args.partition.iter().copied().collect();
    let mut partitions = Vec::new();
    for name in &args.topic {
        let topic = admin.cluster().topic(name).await?;
        let count = topic.partitions.len();
        if let Some(unknown) = wanted.iter().find(|index| topic.partition(**index).is_none()) {
            bail!("topic {name} has no partition {unknown}: it has {count}, from 0 on");
        }
        let all = topic.partitions.iter().map(|partition| partition.index);
        let chosen = all.filter(|index| wanted.is_empty() || wanted.contains(index));
        partitions.extend(chosen.map(|index| TopicPartition::new(name.as_str(), index)));
    }
    Ok(partitions)
}

async fn targets(
    admin: &Admin,
    NewPosition(to): NewPosition,
    partitions: &[TopicPartition],
    committed: &BTreeMap<TopicPartition, CommittedOffset>,
) -> anyhow::Result<BTreeMap<TopicPartition, Offset>> {
    let first = find(admin, partitions, OffsetSpec::Earliest).await?;
    let end = find(admin, partitions, OffsetSpec::Latest).await?;
    let by_time = match to {
        Move::To(Place::Time(moment)) => {
            let at = moment.resolve(admin.cluster().env().clock.wall());
            find(admin, partitions, OffsetSpec::At(at)).await?
        }
        Move::To(Place::Earliest | Place::Latest | Place::At(_)) | Move::By(_) => BTreeMap::new(),
    };
    let offset = |of: &TopicPartition, found: &BTreeMap<TopicPartition, FoundOffset>| {
        found.get(of).and_then(|found| found.offset)
    };
    let mut targets = BTreeMap::new();
    for of in partitions {
        let first = offset(of, &first).unwrap_or_default();
        let end = offset(of, &end).unwrap_or(first).max(first);
        let target = match to {
            Move::To(Place::Earliest) => first,
            Move::To(Place::Latest) => end,
            Move::To(Place::At(offset)) => offset,
            // No record is as late: the next one will be.
            Move::To(Place::Time(_)) => offset(of, &by_time).unwrap_or(end),
            Move::By(records) => match committed.get(of) {
                Some(from) => from.offset.plus(records),
                // There is nothing to move from.
                None => continue,
            },
        };
        targets.insert(of.clone(), target.clamp(first, end));
    }
    if targets.is_empty() {
        bail!("the group has no offsets there to move from; say where to go in another way");
    }
    Ok(targets)
}

async fn find(
    admin: &Admin,
    partitions: &[TopicPartition],
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, FoundOffset>, Error> {
    let wanted: Vec<_> = partitions.iter().map(|of| (of.clone(), spec)).collect();
    admin.list_offsets(&wanted, Isolation::ReadUncommitted).await
}

fn text(resets: &[Reset], args: &ResetArgs, now: Timestamp) -> String {
    let mut table = Table::new(["TOPIC", "#PARTITION", "#OLD", "#NEW"]);
    for reset in resets {
        table.row([
            reset.topic.clone(),
            reset.partition.to_string(),
            reset.old_offset.map_or_else(|| "-".to_owned(), human::count),
            human::count(reset.new_offset),
        ]);
    }
    let mut text = table.to_string();
    if let Some(time) = args.to.time(now) {
        text.push_str("\nto the first records of ");
        text.push_str(&display(time));
        text.push_str(" or later\n");
    }
    if args.dry_run {
        text.push_str("\nnothing was changed (--dry-run)\n");
    } else {
        text.push_str(&format!("\ngroup {} goes on at the new offsets\n", args.group));
    }
    text
}
