//! `millstream user add`.

use std::path::PathBuf;

use clap::Args;
use millstream_auth::{Hash, ITERATIONS_MAX, ITERATIONS_MIN, Mechanism, SALT_BYTES};
use millstream_client::NewCredential;
use millstream_env::Env;
use serde::Serialize;
use tokio::runtime::Handle;

use super::{PlaceArgs, Users, hash};
use crate::commands::password;
use crate::output::show;

/// What `user add` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  millstream user add admin --data-dir ./millstream-data     the first user, before the server starts
  millstream user add alice --login admin                    more of them, while it runs
  millstream user add alice --password-file alice.txt

The password is asked for, or read from a file or from standard input; it is never written down. What is
kept of it can't be used to log in. Whoever is there already gets the new password.")]
pub struct AddArgs {
    /// The user's name
    #[arg(value_name = "USER")]
    user: String,
    /// Read the password from the first line of this file; `-` is standard input
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// By which mechanism the user can log in; may be repeated [default: SCRAM-SHA-256 and SCRAM-SHA-512]
    #[arg(long, value_name = "NAME", value_parser = hash)]
    mechanism: Vec<Hash>,
    /// How often the password is hashed
    #[arg(
        long, value_name = "N", default_value_t = ITERATIONS_MIN,
        value_parser = clap::value_parser!(u32).range(i64::from(ITERATIONS_MIN)..=i64::from(ITERATIONS_MAX))
    )]
    iterations: u32,
    #[command(flatten)]
    place: PlaceArgs,
}

#[derive(Serialize)]
struct Added {
    user: String,
    mechanisms: Vec<&'static str>,
}

pub(super) async fn run(args: AddArgs) -> anyhow::Result<()> {
    // Before a password is asked for in vain.
    let users = Users::open(&args.place).await?;
    let password = match &args.password_file {
        Some(path) => password::from_file(path)?,
        None => password::of_new_user(&args.user)?,
    };
    let hashes = if args.mechanism.is_empty() { Hash::ALL.to_vec() } else { args.mechanism };
    let env = Env::real(Handle::current());
    for hash in &hashes {
        let mut salt = vec![0; SALT_BYTES];
        env.random.fill(&mut salt);
        let password = password.clone();
        let new = NewCredential { hash: *hash, iterations: args.iterations, salt, password };
        users.set(&args.user, new).await?;
    }
    let mechanisms = hashes.iter().map(|hash| Mechanism::Scram(*hash).name()).collect();
    let added = Added { user: args.user, mechanisms };
    show(args.place.cluster.json, &added, || {
        format!("{} can log in by {}", added.user, added.mechanisms.join(" and "))
    })
}
