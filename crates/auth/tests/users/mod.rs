//! Three users of one password, and who is asked for besides.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use millstream_auth::{Credential, Derivation, Hash, ITERATIONS_MIN, Secret, Shape, Users};

pub(crate) const PASSWORD: &str = "password";
pub(crate) const NAMES: [&str; 3] = ["alice", "a,b=c", "käthe"];

/// Made once: each password is hashed for milliseconds.
static KNOWN: LazyLock<Known> = LazyLock::new(Known::make);

#[derive(Clone)]
pub(crate) struct Known(BTreeMap<(&'static str, Hash), Credential>);

impl Known {
    pub(crate) fn new() -> Self {
        KNOWN.clone()
    }

    fn make() -> Self {
        let all = NAMES.into_iter().flat_map(|name| Hash::ALL.map(|hash| (name, hash)));
        let with_credential = |(name, hash): (&'static str, Hash)| {
            let salt: Vec<u8> = name.bytes().chain([7; 32]).take(32).collect();
            let derivation = Derivation::new(hash, PASSWORD.as_bytes(), &salt, ITERATIONS_MIN);
            let salted = derivation.finish();
            ((name, hash), Credential::of_salted(hash, salt, ITERATIONS_MIN, &salted))
        };
        Self(all.map(with_credential).collect())
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
}
