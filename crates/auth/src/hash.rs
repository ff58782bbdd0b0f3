//! The hash functions of SCRAM, and what it makes of them (RFC 5802 section 2.2).

use hmac::digest::Output;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest as _, Sha256, Sha512};

/// A hash function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Hash {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// How long its results are, in bytes.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha512 => 64,
        }
    }

    /// The hash of `bytes`.
    pub(crate) fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha512 => Sha512::digest(bytes).to_vec(),
        }
    }

    /// The HMAC of `parts`, one behind the other.
    pub(crate) fn hmac(self, key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
        fn of<M: Mac + KeyInit>(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
            let mut mac = keyed::<M>(key);
            parts.iter().for_each(|part| mac.update(part));
            mac.finalize().into_bytes().to_vec()
        }
        match self {
            Self::Sha256 => of::<Hmac<Sha256>>(key, parts),
            Self::Sha512 => of::<Hmac<Sha512>>(key, parts),
        }
    }
}

/// `Hi` of RFC 5802, which is PBKDF2 with one block, in steps: a login must not keep a thread from others
/// for as long as all of it takes.
#[derive(Clone)]
pub(crate) enum Hi {
    Sha256(Box<Rounds<Hmac<Sha256>>>),
    Sha512(Box<Rounds<Hmac<Sha512>>>),
}

impl Hi {
    /// After the first of its rounds.
    pub(crate) fn begin(hash: Hash, password: &[u8], salt: &[u8]) -> Self {
        match hash {
            Hash::Sha256 => Self::Sha256(Box::new(Rounds::begin(password, salt))),
            Hash::Sha512 => Self::Sha512(Box::new(Rounds::begin(password, salt))),
        }
    }

    pub(crate) fn advance(&mut self, rounds: u32) {
        match self {
            Self::Sha256(state) => state.advance(rounds),
            Self::Sha512(state) => state.advance(rounds),
        }
    }

    pub(crate) fn result(&self) -> &[u8] {
        match self {
            Self::Sha256(state) => &state.sum,
            Self::Sha512(state) => &state.sum,
        }
    }
}

#[derive(Clone)]
pub(crate) struct Rounds<M: Mac> {
    /// What the password makes of the hash function.
    keyed: M,
    last: Output<M>,
    sum: Output<M>,
}

impl<M: Mac + KeyInit + Clone> Rounds<M> {
    fn begin(password: &[u8], salt: &[u8]) -> Self {
        let keyed = keyed::<M>(password);
        let mut first = keyed.clone();
        first.update(salt);
        first.update(&1_u32.to_be_bytes());
        let last = first.finalize().into_bytes();
        Self { keyed, sum: last.clone(), last }
    }

    fn advance(&mut self, rounds: u32) {
        for _ in 0..rounds {
            let mut mac = self.keyed.clone();
            mac.update(&self.last);
            self.last = mac.finalize().into_bytes();
            self.sum.iter_mut().zip(&self.last).for_each(|(sum, byte)| *sum ^= byte);
        }
    }
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn keyed<M: Mac + KeyInit>(key: &[u8]) -> M {
    <M as KeyInit>::new_from_slice(key).expect("a key of any length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// RFC 4231, test cases 2 and 6 (a key that is longer than a block).
    #[test]
    fn hmac_is_that_of_the_rfc() {
        let what = b"what do ya want for nothing?";
        let long = b"Test Using Larger Than Block-Size Key - Hash Key First";
        for (hash, key, text, expected) in [
            (
                Hash::Sha256,
                &b"Jefe"[..],
                &what[..],
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Hash::Sha256,
                &[0xaa; 131],
                long,
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
            (
                Hash::Sha512,
                b"Jefe",
                what,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554\
                 9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737",
            ),
        ] {
            assert_eq!(hex(&hash.hmac(key, &[&text[..3], &text[3..]])), expected);
        }
    }

    /// RFC 7914 section 11: PBKDF2-HMAC-SHA256 of `passwd` and `salt`, one round; the first block.
    #[test]
    fn hi_is_pbkdf2() {
        let hi = Hi::begin(Hash::Sha256, b"passwd", b"salt");
        let expected = "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc";
        assert_eq!(hex(hi.result()), expected);
    }

    #[test]
    fn hi_is_the_same_in_any_steps() {
        for hash in Hash::ALL {
            let begin = || Hi::begin(hash, b"password", b"salt");
            let (mut whole, mut parts) = (begin(), begin());
            whole.advance(1_000);
            (0..10).for_each(|_| parts.advance(100));
            assert_eq!(whole.result(), parts.result());
            assert_eq!(whole.result().len(), hash.size());
        }
    }
}
