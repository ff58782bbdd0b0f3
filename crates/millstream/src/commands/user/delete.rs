//! `millstream user delete`.

use anyhow::bail;
use clap::Args;
use millstream_auth::Hash;
use serde::Serialize;

use super::{PlaceArgs, Users, hash};
use crate::output::show;

/// What `user delete` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream user delete alice
  millstream user delete alice --mechanism SCRAM-SHA-256

Who is connected stays so: until his session ends, if connections.max.reauth.ms says so.")]
pub struct DeleteArgs {
    /// The user's name
    #[arg(value_name = "USER")]
    user: String,
    /// Only what he logs in with by this mechanism [default: all of it]
    #[arg(long, value_name = "NAME", value_parser = hash)]
    mechanism: Vec<Hash>,
    /// A user that is not there is no error
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct Deleted {
    user: String,
    /// `deleted` or `missing`.
    outcome: &'static str,
}

pub(super) async fn run(args: DeleteArgs) -> anyhow::Result<()> {
    let users = Users::open(&args.place).await?;
    let hashes = if args.mechanism.is_empty() { Hash::ALL.to_vec() } else { args.mechanism };
    let mut deleted_any = false;
    for hash in hashes {
        deleted_any |= users.delete(&args.user, hash).await?;
    }
    if !deleted_any && !args.if_exists {
        bail!("there is no such user, or not by this mechanism: `millstream user list` lists them");
    }
    let outcome = if deleted_any { "deleted" } else { "missing" };
    let deleted = Deleted { user: args.user, outcome };
    show(args.place.cluster.json, &deleted, || match outcome {
        "deleted" => format!("deleted user {}", deleted.user),
        _ => format!("there is no user {}", deleted.user),
    })
}
