//! `millstream user ...`: who may log in, in a cluster or in a data directory.

mod add;
mod delete;
mod list;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use clap::{Args, Subcommand};
use millstream_auth::{Derivation, Hash, Mechanism};
use millstream_broker::{Alteration, CredentialError, StoredUsers, Upsertion};
use millstream_client::{Admin, NewCredential, UserListing};
use millstream_env::{DataDir, Env};
use tokio::runtime::Handle;

use crate::cli::ClusterArgs;
use crate::commands::admin;

/// What can be done with users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Add a user, or change a user's password
    Add(add::AddArgs),
    /// List users
    List(list::ListArgs),
    /// Delete users
    Delete(delete::DeleteArgs),
}

/// Where users are.
#[derive(Clone, Debug, Args)]
pub struct PlaceArgs {
    /// A data directory that no server works in, instead of a cluster
    #[arg(long, value_name = "DIR", help_heading = "Cluster")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Who there is, somewhere.
enum Users {
    Cluster(Admin),
    Stored(StoredUsers),
}

pub(super) async fn run(command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::Add(args) => add::run(args).await,
        UserCommand::List(args) => list::run(args).await,
        UserCommand::Delete(args) => delete::run(args).await,
    }
}

/// Reads the name of a mechanism of SCRAM.
fn hash(text: &str) -> Result<Hash, String> {
    match Mechanism::named(&text.to_ascii_uppercase()) {
        Some(Mechanism::Scram(hash)) => Ok(hash),
        Some(Mechanism::Plain) => Err("PLAIN has no passwords of its own: it takes those of \
                                       SCRAM-SHA-256 and SCRAM-SHA-512"
            .to_owned()),
        Some(Mechanism::OauthBearer) => {
            Err("OAUTHBEARER has no passwords: its users are those whom the \
                                             issuer's tokens name"
                .to_owned())
        }
        None => Err(format!("`{text}` is neither SCRAM-SHA-256 nor SCRAM-SHA-512")),
    }
}

impl Users {
    async fn open(args: &PlaceArgs) -> anyhow::Result<Self> {
        let Some(path) = &args.data_dir else {
            return Ok(Self::Cluster(admin(&args.cluster).await?));
        };
        let env = Env::real(Handle::current());
        let data = DataDir::open(path, env.clone()).context(
            "a server that works there has to be stopped, or asked instead, without --data-dir",
        )?;
        Ok(Self::Stored(StoredUsers::open(data, env).await?))
    }

    async fn all(&self) -> anyhow::Result<Vec<UserListing>> {
        match self {
            Self::Cluster(admin) => Ok(admin.users(&[]).await?),
            Self::Stored(users) => {
                let all = users.all().into_iter().map(|(name, held)| UserListing {
                    name: name.to_string(),
                    credentials: held.iter().map(|held| (held.hash, held.iterations)).collect(),
                });
                Ok(all.collect())
            }
        }
    }

    async fn set(&self, user: &str, new: NewCredential) -> anyhow::Result<()> {
        match self {
            Self::Cluster(admin) => Ok(admin.set_credential(user, new).await?),
            Self::Stored(users) => {
                let NewCredential { hash, iterations, salt, password } = new;
                let derivation = Derivation::new(hash, password.as_bytes(), &salt, iterations);
                let upsertion = Upsertion {
                    hash: Some(hash),
                    iterations: i32::try_from(iterations).unwrap_or(i32::MAX),
                    salt,
                    salted_password: derivation.finish(),
                };
                alter(users, user, Alteration::Set(upsertion))
                    .await?
                    .map_err(|error| anyhow!(error))
            }
        }
    }

    /// Deletes a credential. Whether it was there.
    async fn delete(&self, user: &str, hash: Hash) -> anyhow::Result<bool> {
        match self {
            Self::Cluster(admin) => match admin.delete_credential(user, hash).await {
                Ok(()) => Ok(true),
                Err(error) if Admin::is_no_such_user(&error) => Ok(false),
                Err(error) => Err(error.into()),
            },
            Self::Stored(users) => {
                match alter(users, user, Alteration::Delete(Some(hash))).await? {
                    Ok(()) => Ok(true),
                    Err(CredentialError::NotThere) => Ok(false),
                    Err(error) => Err(error.into()),
                }
            }
        }
    }
}

async fn alter(
    users: &StoredUsers,
    user: &str,
    alteration: Alteration,
) -> anyhow::Result<Result<(), CredentialError>> {
    let outcomes = users.alter(vec![(Arc::from(user), alteration)]).await?;
    Ok(outcomes.into_values().next().unwrap_or(Ok(())))
}
