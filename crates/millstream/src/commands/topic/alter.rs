//! `millstream topic alter`.

use anyhow::bail;
use clap::Args;
use millstream_client::{ConfigChange, Resource};
use serde::Serialize;

use crate::cli::{ClusterArgs, NameValue};
use crate::commands::admin;
use crate::output::{human, show};

/// What `topic alter` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream topic alter flights --set retention.ms=604800000 --unset max.message.bytes
  millstream topic alter flights --append cleanup.policy=compact
  millstream topic alter flights --partitions 24

Partitions can't be taken away. Records that are there stay where they are, while new ones with the
same keys may go to other partitions.")]
pub struct AlterArgs {
    /// The topic's name
    topic: String,
    /// Set a setting; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<NameValue>,
    /// Go back to the broker's default for a setting; may be repeated
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// Add to a setting that is a list; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    append: Vec<NameValue>,
    /// Take from a setting that is a list; may be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    subtract: Vec<NameValue>,
    /// How many partitions the topic shall have
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// Only check whether it could be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Altered {
    topic: String,
    settings_changed: usize,
    partitions: Option<i32>,
    dry_run: bool,
}

pub(super) async fn run(args: AlterArgs) -> anyhow::Result<()> {
    let changes = args.changes();
    if changes.is_empty() && args.partitions.is_none() {
        bail!(
            "nothing to change: say what with --set, --unset, --append, --subtract, --partitions"
        );
    }
    let admin = admin(&args.cluster).await?;
    if !changes.is_empty() {
        let topic = Resource::Topic(args.topic.clone());
        admin.alter_configs(&topic, &changes, args.dry_run).await?;
    }
    if let Some(count) = args.partitions {
        admin.create_partitions(&args.topic, count, args.dry_run).await?;
    }
    let altered = Altered {
        topic: args.topic,
        settings_changed: changes.len(),
        partitions: args.partitions,
        dry_run: args.dry_run,
    };
    show(args.cluster.json, &altered, || altered.sentence())
}

impl AlterArgs {
    fn changes(&self) -> Vec<ConfigChange> {
        let pair = |NameValue { name, value }: &NameValue| (name.clone(), value.clone());
        let set = self.set.iter().map(pair).map(|(name, value)| ConfigChange::Set(name, value));
        let unset = self.unset.iter().cloned().map(ConfigChange::Delete);
        let append = self.append.iter().map(pair);
        let append = append.map(|(name, value)| ConfigChange::Append(name, value));
        let subtract = self.subtract.iter().map(pair);
        let subtract = subtract.map(|(name, value)| ConfigChange::Subtract(name, value));
        set.chain(unset).chain(append).chain(subtract).collect()
    }
}

impl Altered {
    fn sentence(&self) -> String {
        let settings = match self.settings_changed {
            0 => None,
            some => Some(format!("{} changed", human::counted(some as i128, "setting"))),
        };
        let now = if self.dry_run { "" } else { " now" };
        let partitions =
            self.partitions.map(|count| format!("{}{now}", human::counted(count, "partition")));
        let what: Vec<_> = settings.into_iter().chain(partitions).collect();
        let what = what.join(", ");
        let topic = &self.topic;
        if self.dry_run {
            format!("topic {topic} could be altered: {what}")
        } else {
            format!("topic {topic}: {what}")
        }
    }
}
