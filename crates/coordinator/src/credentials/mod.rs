//! Users' credentials: what is kept of their passwords, for each hash function of SCRAM (KIP-554).
//!
//! A user may have one for each. None can be used to log in, and none is ever told: only which there are, and
//! how often the password was hashed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_auth::{Credential, Hash, Secret, Shape, TokenKey, TokenOwner, Users};
use millstream_types::{Principal, Timestamp};

use crate::cluster::Entry;
use crate::delegation::Delegations;

mod change;

pub use change::{Alteration, CredentialError, Outcomes, Upsertion};

/// The longest name of a user, in bytes: what RFC 4616 wants every server to take.
pub const USER_NAME_BYTES_MAX: usize = 255;

/// All credentials.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Credentials {
    by_user: BTreeMap<Arc<str>, BTreeMap<Hash, Credential>>,
    /// What credentials are made from of users that there are not; none before the first user.
    secret: Option<Secret>,
}

impl Credentials {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_user.is_empty()
    }

    /// What users that there are not are made from, once it was drawn.
    #[must_use]
    pub const fn secret(&self) -> Option<&Secret> {
        self.secret.as_ref()
    }

    /// All users, by name, and what they have.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &BTreeMap<Hash, Credential>)> {
        self.by_user.iter()
    }

    /// What `user` has.
    #[must_use]
    pub fn of(&self, user: &str) -> Option<&BTreeMap<Hash, Credential>> {
        self.by_user.get(user)
    }

    pub(crate) fn set_secret(&mut self, secret: Secret) {
        self.secret = Some(secret);
    }

    pub(crate) fn set(&mut self, user: Arc<str>, hash: Hash, credential: Credential) {
        self.by_user.entry(user).or_default().insert(hash, credential);
    }

    pub(crate) fn remove(&mut self, user: &str, hash: Hash) {
        let Some(held) = self.by_user.get_mut(user) else { return };
        held.remove(&hash);
        if held.is_empty() {
            self.by_user.remove(user);
        }
    }

    /// Entries that lead from nothing to this.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Entry> {
        let secret =
            self.secret.iter().map(|secret| Entry::DecoySecretSet { secret: secret.clone() });
        let all = self.by_user.iter().flat_map(|(user, held)| {
            held.iter().map(|(hash, credential)| Entry::CredentialSet {
                user: Arc::clone(user),
                hash: *hash,
                credential: credential.clone(),
            })
        });
        secret.chain(all)
    }

    /// What most credentials look like, so that those of users that there are not do, too.
    fn usual(&self, hash: Option<Hash>) -> (Hash, Shape) {
        let mut counts: BTreeMap<(Hash, Shape), usize> = BTreeMap::new();
        let all = self.by_user.values().flatten();
        for (of, credential) in all.filter(|(of, _)| hash.is_none_or(|hash| hash == **of)) {
            *counts.entry((*of, credential.shape())).or_default() += 1;
        }
        let most = counts.into_iter().max_by_key(|(_, count)| *count).map(|(usual, _)| usual);
        most.unwrap_or_else(|| (hash.unwrap_or(Hash::Sha256), Shape::default()))
    }
}

/// Who there is, for a login. `secret` is used as long as the state has none.
#[derive(Clone, Copy, Debug)]
pub struct KnownUsers<'a> {
    /// What there is.
    pub credentials: &'a Credentials,
    /// Drawn when the broker started.
    pub secret: &'a Secret,
    /// Whether connection strings are taken (`millstream.sasl.plain.connection.strings`).
    pub connection_strings: bool,
    /// The delegation tokens, with their secret; `None` where there are none.
    pub delegations: Option<(&'a Delegations, &'a TokenKey)>,
    /// When it is asked.
    pub now: Timestamp,
}

impl KnownUsers<'_> {
    fn decoy(&self, user: &str, hash: Option<Hash>) -> (Hash, Credential) {
        let (hash, shape) = self.credentials.usual(hash);
        (hash, Credential::decoy(hash, self.decoy_secret(), user, shape))
    }

    fn decoy_secret(&self) -> &Secret {
        self.credentials.secret.as_ref().unwrap_or(self.secret)
    }
}

/// What stands for a user that there is not is made for every user, so that it takes as long.
impl Users for KnownUsers<'_> {
    fn credential(&self, user: &str, hash: Hash) -> Credential {
        let (_, decoy) = self.decoy(user, Some(hash));
        let known = self.credentials.of(user).and_then(|held| held.get(&hash));
        known.cloned().unwrap_or(decoy)
    }

    /// The strongest that the user has.
    fn any_credential(&self, user: &str) -> (Hash, Credential) {
        let decoy = self.decoy(user, None);
        let known = self.credentials.of(user).and_then(BTreeMap::last_key_value);
        known.map_or(decoy, |(hash, credential)| (*hash, credential.clone()))
    }

    fn token(&self, id: &str, hash: Hash) -> (Credential, Option<TokenOwner>) {
        // All tokens look alike.
        let decoy = Credential::decoy(hash, self.decoy_secret(), id, Shape::default());
        let valid = self.delegations.and_then(|(delegations, key)| {
            delegations.get(id).filter(|token| token.is_valid(key, self.now))
        });
        let known = valid.and_then(|token| {
            let left = token.expires.min(token.ends).0.saturating_sub(self.now.0).unsigned_abs();
            let lifetime = Duration::from_millis(left);
            let owner = TokenOwner { user: Principal::user(Arc::clone(&token.owner)), lifetime };
            Some((token.credentials.get(&hash)?.clone(), Some(owner)))
        });
        known.unwrap_or((decoy, None))
    }

    fn takes_connection_strings(&self) -> bool {
        self.connection_strings
    }
}

#[cfg(test)]
mod tests;
