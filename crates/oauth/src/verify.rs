//! Verifying signatures.

use aws_lc_rs::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use millstream_auth::{Algorithm, Key, KeyMaterial};

/// Whether `signature` is that of what was `signed`, by `key`, in this way. A key is of use only for what it is
/// meant for.
pub(crate) fn is_signed(key: &Key, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
    let rsa = |parameters: &RsaParameters| match &key.material {
        KeyMaterial::Rsa { modulus, exponent } => {
            let key = RsaPublicKeyComponents { n: modulus, e: exponent };
            key.verify(parameters, signed, signature).is_ok()
        }
        KeyMaterial::Ec(_) | KeyMaterial::Ed25519(_) => false,
    };
    let by = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8]| {
        UnparsedPublicKey::new(algorithm, key).verify(signed, signature).is_ok()
    };
    let ec = |algorithm: &'static dyn VerificationAlgorithm| match &key.material {
        KeyMaterial::Ec(point) => by(algorithm, point),
        KeyMaterial::Rsa { .. } | KeyMaterial::Ed25519(_) => false,
    };
    match algorithm {
        Algorithm::Rs256 => rsa(&signature::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::Rs384 => rsa(&signature::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::Rs512 => rsa(&signature::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::Ps256 => rsa(&signature::RSA_PSS_2048_8192_SHA256),
        Algorithm::Ps384 => rsa(&signature::RSA_PSS_2048_8192_SHA384),
        Algorithm::Ps512 => rsa(&signature::RSA_PSS_2048_8192_SHA512),
        Algorithm::Es256 => ec(&signature::ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => ec(&signature::ECDSA_P384_SHA384_FIXED),
        Algorithm::Es512 => ec(&signature::ECDSA_P521_SHA512_FIXED),
        Algorithm::EdDsa => match &key.material {
            KeyMaterial::Ed25519(public) => by(&signature::ED25519, public),
            KeyMaterial::Rsa { .. } | KeyMaterial::Ec(_) => false,
        },
    }
}
