//! Users' credentials: changed and listed by the protocol, asked by logins, and changed in a data directory
//! that no broker uses.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_auth::{Hash, PasswordCheck, Refused, Secret};
use millstream_coordinator::cluster::ClusterState;
use millstream_coordinator::credentials::{Alteration, Credentials, KnownUsers, Outcomes};
use millstream_env::{DataDir, Env};
use millstream_types::Principal;
use tokio::sync::Semaphore;
use tracing::info;

use crate::Broker;
use crate::metadata::{ChangeError, Metadata, MetadataError};

/// How many rounds of hashing a password are done before others have their turn: a tenth of a millisecond's
/// work.
const ROUNDS_AT_A_TIME: u32 = 128;

/// How many passwords are hashed at a time, of all connections of all doors together. Anybody can ask for it,
/// and it takes milliseconds: the other cores are left to those who are logged in.
const PASSWORDS_AT_A_TIME: usize = 1;

/// The turn of those whose passwords are hashed.
#[derive(Debug)]
pub(crate) struct Passwords(Semaphore);

impl Default for Passwords {
    fn default() -> Self {
        Self(Semaphore::new(PASSWORDS_AT_A_TIME))
    }
}

/// What can be told of a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldCredential {
    /// Its hash function.
    pub hash: Hash,
    /// How often the password was hashed.
    pub iterations: u32,
}

impl Broker {
    /// Changes credentials of users, each by itself. All that can be changed is, or nothing.
    ///
    /// # Errors
    ///
    /// When the metadata can't be written. What is wrong with a change is said with its user.
    pub async fn alter_credentials(
        &self,
        wanted: Vec<(Arc<str>, Alteration)>,
    ) -> Result<Outcomes, MetadataError> {
        let outcomes = alter(&self.0.metadata, self.env(), wanted).await?;
        let changed = outcomes.values().filter(|outcome| outcome.is_ok()).count();
        if changed > 0 {
            info!(users = changed, "credentials changed");
        }
        Ok(outcomes)
    }

    /// All users that have credentials, by name, and what they have; never what is kept.
    #[must_use]
    pub fn credentials(&self) -> BTreeMap<Arc<str>, Vec<HeldCredential>> {
        self.0.metadata.read(|state| held(state.credentials()))
    }

    /// Lets a login look at who there is. `look` must not wait for anything.
    pub fn users<T>(&self, look: impl FnOnce(&KnownUsers<'_>) -> T) -> T {
        let config = self.config();
        let now = self.env().clock.wall();
        self.0.metadata.read(|state| {
            look(&KnownUsers {
                credentials: state.credentials(),
                secret: &self.0.decoy_secret,
                connection_strings: config.connection_strings,
                delegations: config.delegation.key.as_ref().map(|key| (state.delegations(), key)),
                now,
            })
        })
    }

    /// Works out whether a password is right, when it is its turn; others have theirs meanwhile.
    ///
    /// # Errors
    ///
    /// It is not. What it costs to have tried is the caller's affair.
    pub async fn check_password(
        &self,
        mut check: Box<PasswordCheck>,
    ) -> Result<Principal, Refused> {
        // Never closed.
        let _one_of_few = self.0.passwords.0.acquire().await;
        loop {
            if let Some(outcome) = check.advance(ROUNDS_AT_A_TIME) {
                return outcome;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Whether `password` is that of `user`: who it is then.
    ///
    /// # Errors
    ///
    /// As [`Broker::check_password`].
    pub async fn who_has_password(&self, user: &str, password: &str) -> Result<Principal, Refused> {
        let check = self.users(|users| PasswordCheck::of(user, password, users));
        self.check_password(Box::new(check)).await
    }
}

/// The users of a data directory that no broker uses: how the first one gets there, and how somebody comes
/// back in who has locked himself out.
#[derive(Debug)]
pub struct StoredUsers {
    metadata: Arc<Metadata>,
    env: Env,
    /// Locked as long as it is held.
    _data: DataDir,
}

impl StoredUsers {
    /// Reads those of `data`.
    ///
    /// # Errors
    ///
    /// When the metadata can't be read.
    pub async fn open(data: DataDir, env: Env) -> Result<Self, MetadataError> {
        let metadata = Metadata::open(env.clone(), data.meta(), data.reserve()).await?;
        Ok(Self { metadata, env, _data: data })
    }

    /// As [`Broker::alter_credentials`].
    ///
    /// # Errors
    ///
    /// When the metadata can't be written.
    pub async fn alter(
        &self,
        wanted: Vec<(Arc<str>, Alteration)>,
    ) -> Result<Outcomes, MetadataError> {
        alter(&self.metadata, &self.env, wanted).await
    }

    /// As [`Broker::credentials`].
    #[must_use]
    pub fn all(&self) -> BTreeMap<Arc<str>, Vec<HeldCredential>> {
        self.metadata.read(|state| held(state.credentials()))
    }
}

/// Draws what credentials are made from of users that there are not.
pub(crate) fn draw_secret(env: &Env) -> Secret {
    let mut secret = [0; 32];
    env.random.fill(&mut secret);
    Secret(secret)
}

async fn alter(
    metadata: &Arc<Metadata>,
    env: &Env,
    wanted: Vec<(Arc<str>, Alteration)>,
) -> Result<Outcomes, MetadataError> {
    let drawn = draw_secret(env);
    let command = move |state: &ClusterState| {
        Ok::<_, std::convert::Infallible>(state.credentials().altered(&wanted, &drawn))
    };
    match metadata.change(command).await {
        Ok(outcomes) => Ok(outcomes),
        Err(ChangeError::Refused(never)) => match never {},
        Err(ChangeError::Metadata(error)) => Err(error),
    }
}

fn held(credentials: &Credentials) -> BTreeMap<Arc<str>, Vec<HeldCredential>> {
    let all = credentials.iter().map(|(user, held)| {
        let held = held.iter().map(|(hash, credential)| HeldCredential {
            hash: *hash,
            iterations: credential.iterations,
        });
        (Arc::clone(user), held.collect())
    });
    all.collect()
}
