//! Tokens to develop and test with.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

/// Signs tokens as an issuer does, by ES256, for those who have none.
pub struct Signer {
    key: EcdsaKeyPair,
    id: String,
}

/// A key can't be used, or the system has no randomness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is no private key of P-256 in PKCS#8")]
pub struct BadKey;

impl Signer {
    /// By a private key in PKCS#8.
    ///
    /// # Errors
    ///
    /// It is none of P-256.
    pub fn from_pkcs8(bytes: &[u8]) -> Result<Self, BadKey> {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes);
        Ok(Self::of(key.map_err(|_| BadKey)?))
    }

    /// By a new key.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn generate() -> Result<Self, BadKey> {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING);
        Ok(Self::of(key.map_err(|_| BadKey)?))
    }

    fn of(key: EcdsaKeyPair) -> Self {
        let hash = BASE64.encode(digest(&SHA256, key.public_key().as_ref()));
        let id = hash.chars().take(16).collect();
        Self { key, id }
    }

    /// The key set that verifies its tokens (RFC 7517).
    #[must_use]
    pub fn key_set(&self) -> String {
        // Uncompressed: 4, then both coordinates.
        let point = self.key.public_key().as_ref();
        let coordinate = |range| BASE64.encode(point.get(range).unwrap_or_default());
        let (x, y) = (coordinate(1..33), coordinate(33..65));
        format!(
            "{{\"keys\":[{{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"{x}\",\"y\":\"{y}\",\"kid\":\"{}\",\
             \"alg\":\"ES256\",\"use\":\"sig\"}}]}}\n",
            self.id
        )
    }

    /// A token with these claims, which are JSON.
    ///
    /// # Errors
    ///
    /// The system has no randomness.
    pub fn token(&self, claims: &str) -> Result<String, BadKey> {
        let header = format!("{{\"alg\":\"ES256\",\"typ\":\"at+jwt\",\"kid\":\"{}\"}}", self.id);
        let signed = format!("{}.{}", BASE64.encode(header), BASE64.encode(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes());
        let signature = signature.map_err(|_| BadKey)?;
        Ok(format!("{signed}.{}", BASE64.encode(signature)))
    }
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("id", &self.id).finish_non_exhaustive()
    }
}
