//! `millstream quota remove`.

use anyhow::bail;
use clap::Args;
use millstream_client::QuotaLimits;

use super::{Use, WhomArgs, check, none, shown, table};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `quota remove` takes.
#[derive(Debug, Args)]
#[command(
    group(clap::ArgGroup::new("whose").required(true).multiple(true)
        .args(["user", "user_default", "client_id", "client_id_default", "ip", "ip_default"])),
    after_help = "\
Examples:
  millstream quota remove --user ann                 all limits of ann
  millstream quota remove --user ann --bytes-in      only this one
  millstream quota remove --user ann --client-id reports

Shows what it has removed. Limits of others stay: those of ann with a client id, for example. See before
with `millstream quota list`."
)]
pub struct RemoveArgs {
    #[command(flatten)]
    whom: WhomArgs,
    /// The limit of bytes produced
    #[arg(long, help_heading = "Limits")]
    bytes_in: bool,
    /// The limit of bytes consumed
    #[arg(long, help_heading = "Limits")]
    bytes_out: bool,
    /// The limit of the time that requests take
    #[arg(long, help_heading = "Limits")]
    requests: bool,
    /// The limit of partitions made and deleted
    #[arg(long, help_heading = "Limits")]
    mutations: bool,
    /// The limit of connections
    #[arg(long, help_heading = "Limits")]
    connections: bool,
    /// Limits that are not there are no error
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    cluster: ClusterArgs,
}

impl RemoveArgs {
    /// What is named; nothing stands for all.
    fn named(&self) -> Vec<Use> {
        let all = [
            (Use::BytesIn, self.bytes_in),
            (Use::BytesOut, self.bytes_out),
            (Use::Requests, self.requests),
            (Use::Mutations, self.mutations),
            (Use::Connections, self.connections),
        ];
        all.into_iter().filter(|(_, is_named)| *is_named).map(|(of, _)| of).collect()
    }
}

pub(super) async fn run(args: RemoveArgs) -> anyhow::Result<()> {
    let (entity, named) = (args.whom.entity(), args.named());
    check(&entity, named.iter().copied())?;
    let admin = admin(&args.cluster).await?;
    let mut removed: QuotaLimits = admin.quotas(&entity).await?.remove(&entity).unwrap_or_default();
    removed.retain(|key, _| named.is_empty() || named.iter().any(|of| of.key() == key));
    if removed.is_empty() && !args.if_exists {
        bail!("{entity} has no such limit: `millstream quota list` shows what there is");
    }
    if !removed.is_empty() {
        let changes = removed.keys().map(|key| (key.clone(), None)).collect();
        admin.alter_quotas(&entity, &changes).await?;
    }
    let quotas = (!removed.is_empty()).then_some((&entity, &removed));
    show(args.cluster.json, &shown(quotas), || match quotas {
        None => none(),
        Some(_) => format!("removed:\n{}", table(quotas)),
    })
}
