//! `millstream quota list`.

use clap::Args;

use super::{WhomArgs, none, shown, table};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `quota list` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream quota list
  millstream quota list --user ann             those of ann, and of ann with a client id
  millstream quota list --user-default --json")]
pub struct ListArgs {
    #[command(flatten)]
    whom: WhomArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let quotas = admin(&args.cluster).await?.quotas(&args.whom.entity()).await?;
    show(args.cluster.json, &shown(&quotas), || match quotas.is_empty() {
        true => none(),
        false => table(&quotas),
    })
}
