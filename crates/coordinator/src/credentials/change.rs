//! Setting and deleting credentials.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_auth::{Credential, Hash, ITERATIONS_MAX, ITERATIONS_MIN, Secret};
use millstream_types::is_reserved;

use super::{Credentials, USER_NAME_BYTES_MAX};
use crate::cluster::Entry;

/// The longest salt, in bytes; clients make some of 16 to 64.
const SALT_BYTES_MAX: usize = 1_024;

/// What becomes of each user whose credentials were to be changed.
pub type Outcomes = BTreeMap<Arc<str>, Result<(), CredentialError>>;

/// One change of a user's credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alteration {
    /// Deletes that of this hash function; `None` for a mechanism that there is not.
    Delete(Option<Hash>),
    /// Sets it.
    Set(Upsertion),
}

/// A credential as a client sends it: the password itself stays with the client.
#[derive(Clone, PartialEq, Eq)]
pub struct Upsertion {
    /// For which hash function; `None` for a mechanism that there is not.
    pub hash: Option<Hash>,
    /// How often the password was hashed.
    pub iterations: i32,
    /// With what.
    pub salt: Vec<u8>,
    /// What came of it. Who has it can log in: it is not kept.
    pub salted_password: Vec<u8>,
}

/// Why a user's credentials are not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// A user without a name.
    #[error("a user needs a name")]
    NoName,
    /// A name that is too long, or that no client could log in with.
    #[error("a user's name has at most {USER_NAME_BYTES_MAX} bytes, and no NUL")]
    BadName,
    /// A name that means others as well: nobody in particular, or everybody.
    #[error("`{0}` stands for others in access rules: nobody can be called so")]
    Reserved(Arc<str>),
    /// A mechanism that there is not.
    #[error("there is no such mechanism: SCRAM-SHA-256 is 1, SCRAM-SHA-512 is 2")]
    NoMechanism,
    /// Too few or too many rounds.
    #[error("a password is hashed {ITERATIONS_MIN} to {ITERATIONS_MAX} times, not {0} times")]
    Iterations(i32),
    /// A salt that there is not, or that is too long.
    #[error("a salt has 1 to {SALT_BYTES_MAX} bytes, not {0}")]
    Salt(usize),
    /// What is no result of the mechanism's hash function.
    #[error("a salted password of this mechanism has {expected} bytes, not {found}")]
    SaltedPassword {
        /// How long it has to be.
        expected: usize,
        /// How long it is.
        found: usize,
    },
    /// The user is named twice.
    #[error("the request names the user twice: change one of his credentials at a time")]
    Twice,
    /// There is nothing to delete.
    #[error("the user has no such credential: list what there is with `millstream user list`")]
    NotThere,
}

impl Credentials {
    /// The entries that make all changes of `wanted` that can be made, and what becomes of each user. Each is
    /// named once, or none of its changes is made. `drawn` is the secret for users that there are not, should
    /// there be none yet.
    #[must_use]
    pub fn altered(
        &self,
        wanted: &[(Arc<str>, Alteration)],
        drawn: &Secret,
    ) -> (Vec<Entry>, Outcomes) {
        let mut outcomes = BTreeMap::new();
        let mut changes = BTreeMap::new();
        for (user, alteration) in wanted {
            let outcome = if outcomes.contains_key(user) {
                changes.remove(user);
                Err(CredentialError::Twice)
            } else {
                self.entry(user, alteration).map(|entry| {
                    changes.insert(Arc::clone(user), entry);
                })
            };
            outcomes.insert(Arc::clone(user), outcome);
        }
        let mut entries: Vec<_> = changes.into_values().collect();
        if !entries.is_empty() && self.secret.is_none() {
            entries.insert(0, Entry::DecoySecretSet { secret: drawn.clone() });
        }
        (entries, outcomes)
    }

    fn entry(&self, user: &Arc<str>, alteration: &Alteration) -> Result<Entry, CredentialError> {
        if user.is_empty() {
            return Err(CredentialError::NoName);
        }
        let known = |hash: Option<Hash>| hash.ok_or(CredentialError::NoMechanism);
        let user = Arc::clone(user);
        match alteration {
            Alteration::Delete(hash) => {
                let hash = known(*hash)?;
                let is_there = self.of(&user).is_some_and(|held| held.contains_key(&hash));
                if is_there {
                    Ok(Entry::CredentialDeleted { user, hash })
                } else {
                    Err(CredentialError::NotThere)
                }
            }
            Alteration::Set(upsertion) => {
                if user.len() > USER_NAME_BYTES_MAX || user.contains('\0') {
                    return Err(CredentialError::BadName);
                }
                if is_reserved(&user) {
                    return Err(CredentialError::Reserved(user));
                }
                let hash = known(upsertion.hash)?;
                let credential = upsertion.credential(hash)?;
                Ok(Entry::CredentialSet { user, hash, credential })
            }
        }
    }
}

impl Upsertion {
    fn credential(&self, hash: Hash) -> Result<Credential, CredentialError> {
        let iterations = u32::try_from(self.iterations).unwrap_or_default();
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(CredentialError::Iterations(self.iterations));
        }
        if !(1..=SALT_BYTES_MAX).contains(&self.salt.len()) {
            return Err(CredentialError::Salt(self.salt.len()));
        }
        let (expected, found) = (hash.size(), self.salted_password.len());
        if found != expected {
            return Err(CredentialError::SaltedPassword { expected, found });
        }
        Ok(Credential::of_salted(hash, self.salt.clone(), iterations, &self.salted_password))
    }
}

impl std::fmt::Debug for Upsertion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Upsertion")
            .field("hash", &self.hash)
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
