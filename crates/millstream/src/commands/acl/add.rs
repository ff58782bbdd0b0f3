//! `millstream acl add`.

use clap::Args;
use millstream_client::{AclOperation, AclPattern, AclPermission, AclRule};

use super::{ResourceArgs, shown, table};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `acl add` takes.
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("whom").required(true)),
    group(clap::ArgGroup::new("what").required(true).multiple(true)
        .args(["topic", "group", "transactional_id", "cluster"])),
    after_help = "\
Examples:
  millstream acl add --allow User:ann --operation read --topic orders --group reports
  millstream acl add --allow User:bob --operation write --topic orders- --prefixed
  millstream acl add --deny User:* --operation all --topic secret --host 10.0.0.0/8

Rules count where the broker is started with authorizer.class.name and super.users set. To read,
write, delete or alter something includes to describe it. One that denies wins over all that allow."
)]
pub struct AddArgs {
    /// Who may, as `User:NAME`, or `User:*` for everybody
    #[arg(long, value_name = "PRINCIPAL", group = "whom")]
    allow: Vec<String>,
    /// Who may not
    #[arg(long, value_name = "PRINCIPAL", group = "whom")]
    deny: Vec<String>,
    /// What: read, write, create, delete, alter, describe, alter-configs, all, and so on
    #[arg(long, value_name = "OPERATION", required = true)]
    operation: Vec<AclOperation>,
    #[command(flatten)]
    resource: ResourceArgs,
    /// All whose name begins so
    #[arg(long)]
    prefixed: bool,
    /// From where: an address, a network such as 10.0.0.0/8, or `*`
    #[arg(long, value_name = "HOST", default_value = "*")]
    host: Vec<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: AddArgs) -> anyhow::Result<()> {
    let rules = rules(&args);
    admin(&args.cluster).await?.create_acls(&rules).await?;
    show(args.cluster.json, &shown(&rules), || table(&rules))
}

/// Each principal, host, operation and resource with each.
fn rules(args: &AddArgs) -> Vec<AclRule> {
    let allowed = args.allow.iter().map(|principal| (principal, AclPermission::Allow));
    let denied = args.deny.iter().map(|principal| (principal, AclPermission::Deny));
    let mut rules = Vec::new();
    for (principal, permission) in allowed.chain(denied) {
        for (resource, name) in args.resource.each() {
            let prefixed = args.prefixed && resource != millstream_client::AclResource::Cluster;
            for host in &args.host {
                rules.extend(args.operation.iter().map(|operation| AclRule {
                    resource,
                    pattern: if prefixed { AclPattern::Prefixed } else { AclPattern::Literal },
                    name: name.to_owned(),
                    principal: principal.clone(),
                    host: host.clone(),
                    operation: *operation,
                    permission,
                }));
            }
        }
    }
    rules
}
