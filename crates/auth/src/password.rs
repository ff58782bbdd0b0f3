//! Hashing a password in steps, and checking it so.

use std::fmt;

use millstream_types::Principal;

use crate::exchange::{Refused, Users};
use crate::hash::Hi;
use crate::{Credential, Hash};

/// A password being hashed with a salt, as SCRAM does: `Hi(password, salt, iterations)`.
#[derive(Clone)]
pub struct Derivation {
    hash: Hash,
    hi: Hi,
    left: u32,
}

impl Derivation {
    /// Begins it. Less than one round is one.
    ///
    /// The password is taken byte by byte, as Apache Kafka does: it is not prepared by SASLprep, so that
    /// what looks alike but is written in other characters is another password.
    #[must_use]
    pub fn new(hash: Hash, password: &[u8], salt: &[u8], iterations: u32) -> Self {
        Self { hash, hi: Hi::begin(hash, password, salt), left: iterations.saturating_sub(1) }
    }

    /// Does as many rounds at most. Whether it is done.
    pub fn advance(&mut self, rounds: u32) -> bool {
        let rounds = rounds.min(self.left);
        self.hi.advance(rounds);
        self.left -= rounds;
        self.left == 0
    }

    /// The salted password; all rounds are done first.
    #[must_use]
    pub fn finish(mut self) -> Vec<u8> {
        self.advance(u32::MAX);
        self.hi.result().to_vec()
    }
}

impl fmt::Debug for Derivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Derivation")
            .field("hash", &self.hash)
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

/// A password that a client has said, being compared with what is kept of the user's.
#[derive(Clone, Debug)]
pub struct PasswordCheck {
    user: Principal,
    credential: Credential,
    derivation: Derivation,
}

impl PasswordCheck {
    /// Begins to check whether `password` is that of `user`. It takes as long for a user that there is not.
    #[must_use]
    pub fn of(user: &str, password: &str, users: &impl Users) -> Self {
        let (hash, credential) = users.any_credential(user);
        Self::new(user, password.as_bytes(), hash, credential)
    }

    fn new(user: &str, password: &[u8], hash: Hash, credential: Credential) -> Self {
        let derivation = Derivation::new(hash, password, &credential.salt, credential.iterations);
        Self { user: Principal::user(user), credential, derivation }
    }

    /// Does as many rounds at most; what it has come to, once it has.
    pub fn advance(&mut self, rounds: u32) -> Option<Result<Principal, Refused>> {
        if !self.derivation.advance(rounds) {
            return None;
        }
        let fits = self.credential.fits(self.derivation.hash, self.derivation.hi.result());
        Some(if fits { Ok(self.user.clone()) } else { Err(Refused::Credentials) })
    }
}
