//! `millstream topic create`.

use clap::Args;
use millstream_client::NewTopic;
use millstream_wire::ErrorCode;
use serde::Serialize;

use crate::cli::{ClusterArgs, NameValue};
use crate::commands::admin;
use crate::output::{human, show};

/// What `topic create` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream topic create flights --partitions 12
  millstream topic create clicks --set retention.ms=86400000 --set compression.type=zstd
  millstream topic create a b c --if-not-exists

The settings have Kafka's names; `millstream topic describe TOPIC --all` lists them.")]
pub struct CreateArgs {
    /// The topics' names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// How many partitions each gets [default: the broker's num.partitions]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// How many replicas each partition gets [default: the broker's default.replication.factor]
    #[arg(
        long,
        short,
        value_name = "N",
        alias = "replication-factor",
        value_parser = clap::value_parser!(i16).range(1..)
    )]
    replicas: Option<i16>,
    /// A setting; may be repeated
    #[arg(long, value_name = "NAME=VALUE", alias = "config")]
    set: Vec<NameValue>,
    /// Leave topics alone that are there already
    #[arg(long)]
    if_not_exists: bool,
    /// Only check whether it could be done
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Created {
    topic: String,
    /// `created`, `exists`, or `valid` for a dry run.
    outcome: &'static str,
    id: Option<String>,
    partitions: Option<i32>,
    replicas: Option<i16>,
}

pub(super) async fn run(args: CreateArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let configs: Vec<_> =
        args.set.into_iter().map(|NameValue { name, value }| (name, value)).collect();
    for topic in args.topics {
        let new = NewTopic {
            name: topic.clone(),
            partitions: args.partitions,
            replicas: args.replicas,
            configs: configs.clone(),
        };
        let created = match admin.create_topic(&new, args.dry_run).await {
            Ok(created) => Created {
                topic,
                outcome: if args.dry_run { "valid" } else { "created" },
                id: (created.id != millstream_types::Uuid::NIL).then(|| created.id.to_string()),
                partitions: created.partitions,
                replicas: created.replicas,
            },
            Err(error)
                if args.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) =>
            {
                Created { topic, outcome: "exists", id: None, partitions: None, replicas: None }
            }
            Err(error) => return Err(error.into()),
        };
        show(args.cluster.json, &created, || created.sentence())?;
    }
    Ok(())
}

impl Created {
    fn sentence(&self) -> String {
        let Self { topic, outcome, partitions, replicas, .. } = self;
        let what = match *outcome {
            "created" => format!("created topic {topic}"),
            "exists" => format!("topic {topic} is there already"),
            _ => format!("topic {topic} could be created"),
        };
        let partitions = partitions.map(|count| human::counted(count, "partition"));
        let replicas = replicas.map(|count| human::counted(count, "replica"));
        let details: Vec<_> = partitions.into_iter().chain(replicas).collect();
        if details.is_empty() { what } else { format!("{what}: {}", details.join(", ")) }
    }
}
