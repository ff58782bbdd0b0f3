//! What proves that somebody has a delegation token (KIP-48): not kept, but made from its id and a secret.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::Hash;

/// What tokens are made from (`delegation.token.secret.key`). Who has it can log in by every token that there is.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenKey(Arc<str>);

/// What its holder has of a token besides its id: with both he can log in.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHmac(Vec<u8>);

impl TokenKey {
    /// A key of this text; `None` for an empty one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (!text.is_empty()).then(|| Self(Arc::from(text)))
    }

    /// What belongs to the token of that id: its HMAC with SHA-512.
    #[must_use]
    pub fn hmac(&self, id: &str) -> TokenHmac {
        TokenHmac(Hash::Sha512.hmac(self.0.as_bytes(), &[id.as_bytes()]))
    }
}

impl TokenHmac {
    /// What somebody says that it is.
    #[must_use]
    pub const fn said(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Its bytes, for who may have them.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The password that a login by the token goes by.
    #[must_use]
    pub fn password(&self) -> String {
        BASE64.encode(&self.0)
    }

    /// Its hash, by which it is known again: whoever has that can't log in with it.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        let mut digest = [0; 32];
        digest.copy_from_slice(&Hash::Sha256.digest(&self.0));
        digest
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey")
    }
}

impl fmt::Debug for TokenHmac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHmac")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tokens_proof_follows_from_its_id_and_the_key() {
        let key = TokenKey::new("secret-key").expect("a key");
        let hmac = key.hmac("id");
        // Worked out with Python's `hmac` and `hashlib`.
        let expected = "vpeFv0S+tR0KFju+mymNCEFskUDT0HAzERYnmsnBA6c4\
            2h+Vp0NUUHJChQv1wn2otb693ZnB0yRgGACr3ijEYA==";
        assert_eq!(hmac.password(), expected);
        assert_eq!(TokenHmac::said(hmac.bytes().to_vec()).digest(), hmac.digest());
        assert_ne!(key.hmac("other"), hmac);
        assert_ne!(TokenKey::new("other").expect("a key").hmac("id"), hmac);
        assert_eq!(TokenKey::new(""), None);
        assert_eq!(format!("{key:?} {hmac:?}"), "TokenKey TokenHmac");
    }
}
