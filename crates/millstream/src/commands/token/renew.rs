//! `millstream token renew`.

use std::time::Duration;

use clap::Args;

use super::{Changed, find};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::{show, time};

/// What `token renew` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream token renew ID --login ann
  millstream token renew ID --login scheduler --for 12h

Its owner and its renewers may do so, as long as it has not expired.")]
pub struct RenewArgs {
    /// The token's id
    #[arg(value_name = "ID")]
    token: String,
    /// How long it is to last from now on, but not beyond its end [default: delegation.token.expiry.time.ms]
    #[arg(long = "for", value_name = "SPAN", value_parser = time::span)]
    period: Option<Duration>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: RenewArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let token = find(&admin, &args.token).await?;
    let expires = admin.renew_token(&token.hmac, args.period).await?;
    let changed = Changed { token: args.token, expires: expires.0 };
    show(args.cluster.json, &changed, || {
        format!("token {} expires at {}", changed.token, time::display(expires))
    })
}
