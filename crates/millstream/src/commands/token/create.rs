//! `millstream token create`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use clap::Args;
use millstream_client::NewToken;

use super::{Shown, table};
use crate::cli::ClusterArgs;
use crate::commands::{admin, private};
use crate::output::{show, time};

/// What `token create` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream token create --login ann --lifetime 7d --renewer scheduler
  millstream token create --login ann --hmac-file ann.token --json
  millstream topic list --login ID --login-by-token --login-password-file ann.token

Whoever has its id and its HMAC acts as its owner until it expires: by SCRAM, with the id for the name and the
HMAC for the password (`tokenauth=\"true\"` in a Java client's sasl.jaas.config). It takes a broker with
delegation.token.secret.key, and somebody who has logged in, and not by a token.")]
pub struct CreateArgs {
    /// As whom it lets act [default: who asks for it]
    #[arg(long, value_name = "USER")]
    owner: Option<String>,
    /// Who may renew it besides its owner; may be repeated
    #[arg(long, value_name = "USER")]
    renewer: Vec<String>,
    /// How long it lasts at most, renewed or not: 12h, 7d [default: delegation.token.max.lifetime.ms]
    #[arg(long, value_name = "SPAN", value_parser = time::span)]
    lifetime: Option<Duration>,
    /// Write the HMAC to this new file, which nobody else can read, instead of showing it
    #[arg(long, value_name = "FILE")]
    hmac_file: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

pub(super) async fn run(args: CreateArgs) -> anyhow::Result<()> {
    if let Some(path) = &args.hmac_file {
        // Before a token is made in vain.
        ensure!(!path.exists(), "{} is there already: name another file", path.display());
    }
    let new = NewToken { owner: args.owner, renewers: args.renewer, lifetime_max: args.lifetime };
    let token = admin(&args.cluster).await?.create_token(&new).await?;
    if let Some(path) = &args.hmac_file {
        private::write(path, &format!("{}\n", token.hmac.password()), false)?;
    }
    let shown = Shown::of(&token, args.hmac_file.is_none());
    show(args.cluster.json, &shown, || table(std::slice::from_ref(&shown)))
}
