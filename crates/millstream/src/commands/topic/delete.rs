//! `millstream topic delete`.

use clap::Args;
use millstream_wire::ErrorCode;
use serde::Serialize;

use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `topic delete` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream topic delete clicks
  millstream topic delete a b c --if-exists

This can't be undone.")]
pub struct DeleteArgs {
    /// The topics' names
    #[arg(required = true, value_name = "TOPIC")]
    topics: Vec<String>,
    /// Topics that are not there are no error
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Deleted {
    topic: String,
    /// `deleted` or `missing`.
    outcome: &'static str,
}

pub(super) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    for topic in args.topics {
        let outcome = match admin.delete_topic(&topic).await {
            Ok(()) => "deleted",
            Err(error)
                if args.if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition) =>
            {
                "missing"
            }
            Err(error) => return Err(error.into()),
        };
        let deleted = Deleted { topic, outcome };
        show(args.cluster.json, &deleted, || match outcome {
            "deleted" => format!("deleted topic {}", deleted.topic),
            _ => format!("there is no topic {}", deleted.topic),
        })?;
    }
    Ok(())
}
