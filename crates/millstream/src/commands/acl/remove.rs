//! `millstream acl remove`.

use clap::Args;
use millstream_client::{AclFilter, AclOperation, AclPattern};

use super::{ResourceArgs, shown, table};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `acl remove` takes.
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("which").required(true).multiple(true)
        .args(["principal", "operation", "host", "topic", "group", "transactional_id", "cluster", "all"])),
    after_help = "\
Examples:
  millstream acl remove --principal User:ann
  millstream acl remove --principal User:bob --operation write --topic orders- --prefixed
  millstream acl remove --all

Removes all rules that fit what is said, and shows them. See before with `millstream acl list`."
)]
pub struct RemoveArgs {
    /// Rules for this principal
    #[arg(long, value_name = "PRINCIPAL")]
    principal: Option<String>,
    /// Rules of this operation
    #[arg(long, value_name = "OPERATION")]
    operation: Option<AclOperation>,
    /// Rules for this host, as they are written
    #[arg(long, value_name = "HOST")]
    host: Option<String>,
    #[command(flatten)]
    resource: ResourceArgs,
    /// Rules that are written with the name as a prefix
    #[arg(long)]
    prefixed: bool,
    /// All rules
    #[arg(long, conflicts_with_all = ["principal", "operation", "host", "resource", "prefixed"])]
    all: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: RemoveArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let filter = AclFilter {
        principal: args.principal,
        operation: args.operation,
        host: args.host,
        ..AclFilter::default()
    };
    let pattern = args.prefixed.then_some(AclPattern::Prefixed);
    let mut rules = Vec::new();
    for filter in args.resource.filters(pattern, &filter) {
        rules.extend(admin.delete_acls(&filter).await?);
    }
    rules.sort();
    show(args.cluster.json, &shown(&rules), || {
        if rules.is_empty() {
            return "there are no such rules".to_owned();
        }
        format!("removed:\n{}", table(&rules))
    })
}
