//! What a server keeps of a password (RFC 5802 section 3), and what stands for a user that there is not.

use std::fmt;

use subtle::ConstantTimeEq as _;

use crate::Hash;

/// The fewest rounds that a password is hashed with, as Apache Kafka wants it (and RFC 7677 advises).
pub const ITERATIONS_MIN: u32 = 4_096;
/// The most, as Apache Kafka allows: a login must not cost much more.
pub const ITERATIONS_MAX: u32 = 16_384;
/// How long the salts are that this program makes, in bytes.
pub const SALT_BYTES: usize = 32;

/// What a server keeps of a password. Who has it can't log in with it, but can try passwords, and can
/// pretend to be the server.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// Makes equal passwords different.
    pub salt: Vec<u8>,
    /// How many rounds the password is hashed with.
    pub iterations: u32,
    /// What the client's proof comes to.
    pub stored_key: Vec<u8>,
    /// What the server proves itself with.
    pub server_key: Vec<u8>,
}

/// What credentials of users that there are not are made from: drawn once, and kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

/// What can be seen of a credential from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// How many rounds.
    pub iterations: u32,
    /// How long its salt is, in bytes.
    pub salt_bytes: usize,
}

impl Default for Shape {
    /// That of what this program makes.
    fn default() -> Self {
        Self { iterations: ITERATIONS_MIN, salt_bytes: SALT_BYTES }
    }
}

impl Credential {
    /// What is kept of a salted password, which is forgotten.
    #[must_use]
    pub fn of_salted(hash: Hash, salt: Vec<u8>, iterations: u32, salted_password: &[u8]) -> Self {
        let stored_key = stored_key(hash, salted_password);
        let server_key = hash.hmac(salted_password, &[b"Server Key"]);
        Self { salt, iterations, stored_key, server_key }
    }

    /// What a user `name` has that there is not: the same each time, such as others have, and of no
    /// password.
    #[must_use]
    pub fn decoy(hash: Hash, secret: &Secret, name: &str, shape: Shape) -> Self {
        let part = |purpose: &[u8], number: u8| {
            let hash_id = [hash.size().to_le_bytes()[0], number];
            Hash::Sha512.hmac(&secret.0, &[purpose, &hash_id, name.as_bytes()])
        };
        let blocks = shape.salt_bytes.div_ceil(Hash::Sha512.size());
        let numbers = (0..=u8::MAX).take(blocks);
        let mut salt: Vec<u8> = numbers.flat_map(|number| part(b"salt", number)).collect();
        salt.truncate(shape.salt_bytes);
        let key = |purpose| part(purpose, 0).into_iter().take(hash.size()).collect();
        let (stored_key, server_key) = (key(b"stored"), key(b"server"));
        Self { salt, iterations: shape.iterations, stored_key, server_key }
    }

    /// What can be seen of it from outside.
    #[must_use]
    pub fn shape(&self) -> Shape {
        Shape { iterations: self.iterations, salt_bytes: self.salt.len() }
    }

    /// Whether it is that of a salted password.
    pub(crate) fn fits(&self, hash: Hash, salted_password: &[u8]) -> bool {
        stored_key(hash, salted_password).ct_eq(&self.stored_key).into()
    }
}

fn stored_key(hash: Hash, salted_password: &[u8]) -> Vec<u8> {
    hash.digest(&hash.hmac(salted_password, &[b"Client Key"]))
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decoys_stay_the_same_and_differ() {
        let secret = Secret([7; 32]);
        let shape = Shape { iterations: 8_192, salt_bytes: 100 };
        let decoy = |hash, name| Credential::decoy(hash, &secret, name, shape);
        let one = decoy(Hash::Sha256, "alice");
        assert_eq!(one, decoy(Hash::Sha256, "alice"));
        assert_eq!((one.shape(), one.stored_key.len()), (shape, 32));
        for other in [
            decoy(Hash::Sha256, "bob"),
            decoy(Hash::Sha512, "alice"),
            Credential::decoy(Hash::Sha256, &Secret([8; 32]), "alice", shape),
        ] {
            assert_ne!(one.salt, other.salt);
            assert_ne!(one.stored_key, other.stored_key);
        }
        assert_ne!(one.salt[..36], one.salt[64..], "no part repeats another");
    }

    #[test]
    fn nothing_secret_is_shown() {
        let credential = Credential::of_salted(Hash::Sha256, vec![201; 9], 4_096, b"salted");
        assert_eq!(format!("{credential:?}"), "Credential { iterations: 4096, .. }");
        assert_eq!(format!("{:?}", Secret([201; 32])), "Secret");
    }
}
