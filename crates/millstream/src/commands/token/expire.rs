//! `millstream token expire`.

use std::time::Duration;

use clap::Args;

use super::{Changed, find};
use crate::cli::ClusterArgs;
use crate::commands::admin;
use crate::output::{show, time};

/// What `token expire` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream token expire ID --login ann
  millstream token expire ID --login ann --in 10m

Nobody can log in by it any more. Sessions that it has opened end when it would have expired, or by
connections.max.reauth.ms.")]
pub struct ExpireArgs {
    /// The token's id
    #[arg(value_name = "ID")]
    token: String,
    /// How long it is to last yet [default: it ends now]
    #[arg(long = "in", value_name = "SPAN", value_parser = time::span)]
    period: Option<Duration>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: ExpireArgs) -> anyhow::Result<()> {
    let admin = admin(&args.cluster).await?;
    let token = find(&admin, &args.token).await?;
    let expires = admin.expire_token(&token.hmac, args.period).await?;
    let changed = Changed { token: args.token, expires: expires.0 };
    show(args.cluster.json, &changed, || match args.period {
        None => format!("token {} has ended", changed.token),
        Some(_) => format!("token {} expires at {}", changed.token, time::display(expires)),
    })
}
