//! `millstream group list`.

use clap::Args;
use serde::Serialize;

use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::{Table, show};

/// What `group list` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream group list
  millstream group list --json | jq -r '.[] | select(.state == \"Empty\") | .group'")]
pub struct ListArgs {
    #[command(flatten)]
    cluster: ClusterArgs,
}

#[derive(Serialize)]
struct Listed {
    group: String,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    protocol_type: String,
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let groups = admin.list_groups().await?.into_iter().map(|group| Listed {
        group: group.id,
        kind: group.kind.to_lowercase(),
        state: group.state,
        protocol_type: group.protocol_type,
    });
    let groups: Vec<_> = groups.collect();
    show(args.cluster.json, &groups, || {
        if groups.is_empty() {
            return "there are no groups; `millstream consume TOPIC --group NAME` makes one"
                .to_owned();
        }
        let mut table = Table::new(["GROUP", "TYPE", "STATE", "PROTOCOL"]);
        for Listed { group, kind, state, protocol_type } in &groups {
            table.row([group.clone(), kind.clone(), state.clone(), protocol_type.clone()]);
        }
        table.to_string()
    })
}
