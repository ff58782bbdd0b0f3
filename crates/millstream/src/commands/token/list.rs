//! `millstream token list`.

use clap::Args;

use super::{Shown, table};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `token list` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream token list --login ann
  millstream token list --login admin --owner ann --owner bob --json")]
pub struct ListArgs {
    /// Those that this user owns or may renew; may be repeated [default: all that you may be told of]
    #[arg(long, value_name = "USER")]
    owner: Vec<String>,
    /// Show their HMACs, too: whoever sees one can act as its owner
    #[arg(long)]
    show_hmac: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let tokens = admin(&args.cluster).await?.tokens(&args.owner).await?;
    let shown: Vec<_> = tokens.iter().map(|token| Shown::of(token, args.show_hmac)).collect();
    show(args.cluster.json, &shown, || match shown.is_empty() {
        true => "there are no such tokens; `millstream token create` makes one".to_owned(),
        false => table(&shown),
    })
}
