//! `millstream group delete`.

use clap::Args;
use serde::Serialize;

use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::show;

/// What `group delete` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Example:
  millstream group delete delays

Only groups without members can be deleted. This can't be undone.")]
pub struct DeleteArgs {
    /// The groups' names
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Deleted {
    group: String,
    outcome: &'static str,
}

pub(super) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    for group in args.groups {
        admin.delete_group(&group).await?;
        let deleted = Deleted { group, outcome: "deleted" };
        show(args.cluster.json, &deleted, || format!("deleted group {}", deleted.group))?;
    }
    Ok(())
}
