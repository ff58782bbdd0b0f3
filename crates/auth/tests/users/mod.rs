//! Three users of one password, and who is asked for besides.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use millstream_auth::{
    Credential, Derivation, Hash, ITERATIONS_MIN, Secret, Shape, TokenOwner, Users,
};
use millstream_types::Principal;

pub(crate) const PASSWORD: &str = "password";
/// A delegation token of Alice's. What belongs to it is the password of everybody here.
pub(crate) const TOKEN_ID: &str = "token";
/// For how long it is good.
pub(crate) const TOKEN_TIME: Duration = Duration::from_secs(40);
pub(crate) const NAMES: [&str; 3] = ["alice", "a,b=c", "käthe"];

/// Made once: each password is hashed for milliseconds.
static KNOWN: LazyLock<Known> = LazyLock::new(Known::make);

#[derive(Clone)]
pub(crate) struct Known(BTreeMap<(&'static str, Hash), Credential>, bool);

impl Known {
    pub(crate) fn new() -> Self {
        KNOWN.clone()
    }

    #[allow(dead_code, reason = "not every test needs them")]
    pub(crate) fn with_connection_strings() -> Self {
        Self(KNOWN.0.clone(), true)
    }

    fn make() -> Self {
        let all = NAMES.into_iter().flat_map(|name| Hash::ALL.map(|hash| (name, hash)));
        let with_credential = |(name, hash): (&'static str, Hash)| {
            let salt: Vec<u8> = name.bytes().chain([7; 32]).take(32).collect();
            let derivation = Derivation::new(hash, PASSWORD.as_bytes(), &salt, ITERATIONS_MIN);
            let salted = derivation.finish();
            ((name, hash), Credential::of_salted(hash, salt, ITERATIONS_MIN, &salted))
        };
        Self(all.map(with_credential).collect(), false)
    }
}

impl Users for Known {
    fn credential(&self, user: &str, hash: Hash) -> Credential {
        let known = NAMES.into_iter().find(|name| *name == user);
        let known = known.and_then(|name| self.0.get(&(name, hash)));
        known
            .cloned()
            .unwrap_or_else(|| Credential::decoy(hash, &Secret([9; 32]), user, Shape::default()))
    }

    fn any_credential(&self, user: &str) -> (Hash, Credential) {
        (Hash::Sha256, self.credential(user, Hash::Sha256))
    }

    fn token(&self, id: &str, hash: Hash) -> (Credential, Option<TokenOwner>) {
        if id != TOKEN_ID {
            return (self.credential("nobody", hash), None);
        }
        let owner = TokenOwner { user: Principal::user("alice"), lifetime: TOKEN_TIME };
        (self.credential("alice", hash), Some(owner))
    }

    fn takes_connection_strings(&self) -> bool {
        self.1
    }
}
