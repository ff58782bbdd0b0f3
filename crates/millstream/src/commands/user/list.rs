//! `millstream user list`.

use clap::Args;
use millstream_auth::Mechanism;
use serde::Serialize;

use super::{PlaceArgs, Users};
use crate::output::{Table, human, show};

/// What `user list` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream user list
  millstream user list --json | jq -r '.[].user'
  millstream user list --data-dir ./millstream-data")]
pub struct ListArgs {
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct Listed {
    user: String,
    credentials: Vec<Held>,
}

#[derive(Serialize)]
struct Held {
    mechanism: &'static str,
    iterations: u32,
}

pub(super) async fn run(args: ListArgs) -> anyhow::Result<()> {
    let users = Users::open(&args.place).await?.all().await?;
    let listed: Vec<_> = users
        .into_iter()
        .map(|user| Listed {
            user: user.name,
            credentials: user
                .credentials
                .into_iter()
                .map(|(hash, iterations)| Held {
                    mechanism: Mechanism::Scram(hash).name(),
                    iterations,
                })
                .collect(),
        })
        .collect();
    show(args.place.cluster.json, &listed, || {
        if listed.is_empty() {
            return "there are no users; add one with `millstream user add NAME`".to_owned();
        }
        let mut table = Table::new(["USER", "MECHANISM", "#ITERATIONS"]);
        for user in &listed {
            for held in &user.credentials {
                table.row([
                    user.user.clone(),
                    held.mechanism.to_owned(),
                    human::count(i128::from(held.iterations)),
                ]);
            }
        }
        table.to_string()
    })
}
