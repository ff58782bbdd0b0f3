//! Delegation tokens (KIP-48, KIP-373): made for a user who has logged in, so that others can act as him for a
//! while without his password.
//!
//! What proves that somebody has a token follows from its id and a secret of the configuration, and is not kept:
//! its hash is, by which it is known again, and what SCRAM needs for a login. With another secret all tokens are
//! void.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millstream_auth::{Credential, Hash, TokenHmac, TokenKey};
use millstream_types::Timestamp;

use crate::cluster::Entry;

/// The most tokens there may be.
pub const TOKENS_MAX: usize = 10_000;

/// The most users that may renew a token.
pub const RENEWERS_MAX: usize = 100;

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delegation {
    /// By what it is known; everybody may.
    pub id: Arc<str>,
    /// Whom it stands for.
    pub owner: Arc<str>,
    /// Who has asked for it.
    pub requester: Arc<str>,
    /// Who may renew and end it, besides its owner.
    pub renewers: Vec<Arc<str>>,
    /// When it was made.
    pub issued: Timestamp,
    /// When it expires unless it is renewed.
    pub expires: Timestamp,
    /// When it expires in any case.
    pub ends: Timestamp,
    /// The hash of what proves that somebody has it ([`TokenHmac::digest`]).
    pub digest: [u8; 32],
    /// What logins by it go by.
    pub credentials: BTreeMap<Hash, Credential>,
}

/// All tokens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delegations {
    by_id: BTreeMap<Arc<str>, Arc<Delegation>>,
}

/// Why nothing becomes of what was asked about a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DelegationError {
    /// There is none of which this is the proof.
    #[error("there is no such token")]
    NotFound,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Somebody who neither owns it nor may renew it.
    #[error("the token is neither yours, nor one that you may renew")]
    NotYours,
    /// There are as many as may be.
    #[error("there are {TOKENS_MAX} tokens: end some, or let them expire")]
    TooMany,
}

impl Delegation {
    /// Whether `user` may renew and end it.
    #[must_use]
    pub fn is_managed_by(&self, user: &str) -> bool {
        *self.owner == *user || self.renewers.iter().any(|renewer| **renewer == *user)
    }

    /// Whether it counts at `now`, where `key` is the secret.
    #[must_use]
    pub fn is_valid(&self, key: &TokenKey, now: Timestamp) -> bool {
        !self.has_expired(now) && key.hmac(&self.id).digest() == self.digest
    }

    fn has_expired(&self, now: Timestamp) -> bool {
        self.expires.min(self.ends) <= now
    }

    fn until(&self, expires: Timestamp) -> Self {
        Self { expires: expires.min(self.ends), ..self.clone() }
    }
}

impl Delegations {
    /// All, by their ids, also those that have expired.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Delegation>> {
        self.by_id.values()
    }

    /// That of this id, also when it has expired.
    #[must_use]
    pub fn get(&self, id: &str) -> Option<&Arc<Delegation>> {
        self.by_id.get(id)
    }

    /// Entries that add `new`, and remove what has expired.
    ///
    /// # Errors
    ///
    /// [`DelegationError::TooMany`].
    pub fn added(&self, new: Delegation, now: Timestamp) -> Result<Vec<Entry>, DelegationError> {
        let mut entries = self.removals(now);
        if self.by_id.len() - entries.len() >= TOKENS_MAX {
            return Err(DelegationError::TooMany);
        }
        entries.push(Entry::DelegationSet(Arc::new(new)));
        Ok(entries)
    }

    /// Entries that make the token of which `hmac` is the proof last for `time` from `now` on, and when it
    /// expires then; asked by `user`.
    ///
    /// # Errors
    ///
    /// It is not there, has expired, or is not his.
    pub fn renewed(
        &self,
        hmac: &TokenHmac,
        user: &str,
        time: Duration,
        now: Timestamp,
    ) -> Result<(Vec<Entry>, Timestamp), DelegationError> {
        let renewed = self.managed(hmac, user, now)?.until(now.plus(time));
        let expires = renewed.expires;
        Ok((vec![Entry::DelegationSet(Arc::new(renewed))], expires))
    }

    /// Entries that end it at once, whoever may have expired meanwhile with it; asked by `user`.
    ///
    /// # Errors
    ///
    /// As [`Delegations::renewed`].
    pub fn ended(
        &self,
        hmac: &TokenHmac,
        user: &str,
        now: Timestamp,
    ) -> Result<Vec<Entry>, DelegationError> {
        let id = Arc::clone(&self.managed(hmac, user, now)?.id);
        let mut entries = self.removals(now);
        entries.push(Entry::DelegationRemoved { id });
        Ok(entries)
    }

    /// The token of which `hmac` is the proof, also when it has expired. It is looked for by the hash of that:
    /// who tries others learns nothing from how long it takes.
    #[must_use]
    pub fn of(&self, hmac: &TokenHmac) -> Option<&Arc<Delegation>> {
        let digest = hmac.digest();
        self.iter().find(|token| token.digest == digest)
    }

    fn managed(
        &self,
        hmac: &TokenHmac,
        user: &str,
        now: Timestamp,
    ) -> Result<&Delegation, DelegationError> {
        let token = self.of(hmac).ok_or(DelegationError::NotFound)?;
        if token.has_expired(now) {
            return Err(DelegationError::Expired);
        }
        if token.is_managed_by(user) { Ok(token) } else { Err(DelegationError::NotYours) }
    }

    fn removals(&self, now: Timestamp) -> Vec<Entry> {
        let expired = self.iter().filter(|token| token.has_expired(now));
        expired.map(|token| Entry::DelegationRemoved { id: Arc::clone(&token.id) }).collect()
    }

    pub(crate) fn set(&mut self, token: Arc<Delegation>) {
        self.by_id.insert(Arc::clone(&token.id), token);
    }

    pub(crate) fn remove(&mut self, id: &str) {
        self.by_id.remove(id);
    }

    /// Entries that lead from nothing to this.
    pub(crate) fn snapshot(&self) -> impl Iterator<Item = Entry> {
        self.iter().cloned().map(Entry::DelegationSet)
    }
}

#[cfg(test)]
mod tests;
