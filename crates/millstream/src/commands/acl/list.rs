//! `millstream acl list`.

use clap::Args;
use millstream_client::{AclFilter, AclPattern};

use super::{ResourceArgs, shown, table};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `acl list` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream acl list
  millstream acl list --principal User:ann
  millstream acl list --topic orders --matching")]
pub struct ListArgs {
    /// Rules for this principal
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    #[command(flatten)]
    resource: ResourceArgs,
    /// All rules that speak of what is named, also by a prefix or `*`
    #[arg(long)]
    matching: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let filter = AclFilter { principal: args.principal, ..AclFilter::default() };
    let pattern = args.matching.then_some(AclPattern::Match);
    let mut rules = Vec::new();
    for filter in args.resource.filters(pattern, &filter) {
        rules.extend(admin.describe_acls(&filter).await?);
    }
    rules.sort();
    rules.dedup();
    show(args.cluster.json, &shown(&rules), || {
        if rules.is_empty() {
            return "there are no such rules; `millstream acl add` makes one".to_owned();
        }
        table(&rules)
    })
}
