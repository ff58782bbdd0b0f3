//! Keys of every kind, and what they sign.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaEncoding};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use millstream_auth::Algorithm;

pub(crate) enum Key {
    Rsa(RsaKeyPair),
    Ec(&'static str, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

pub(crate) fn encoded(bytes: impl AsRef<[u8]>) -> String {
    BASE64.encode(bytes)
}

impl Key {
    pub(crate) fn of(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Es256 => Self::ec("P-256", &signature::ECDSA_P256_SHA256_FIXED_SIGNING),
            Algorithm::Es384 => Self::ec("P-384", &signature::ECDSA_P384_SHA384_FIXED_SIGNING),
            Algorithm::Es512 => Self::ec("P-521", &signature::ECDSA_P521_SHA512_FIXED_SIGNING),
            Algorithm::EdDsa => Self::Ed25519(Ed25519KeyPair::generate().unwrap()),
            _ => Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
        }
    }

    fn ec(curve: &'static str, algorithm: &'static signature::EcdsaSigningAlgorithm) -> Self {
        Self::Ec(curve, EcdsaKeyPair::generate(algorithm).unwrap())
    }

    /// The public key as others know it.
    pub(crate) fn public(&self) -> Vec<u8> {
        match self {
            Self::Rsa(key) => key.public_key().as_ref().to_vec(),
            Self::Ec(_, key) => key.public_key().as_ref().to_vec(),
            Self::Ed25519(key) => key.public_key().as_ref().to_vec(),
        }
    }

    pub(crate) fn jwk(&self, id: &str) -> String {
        let public = self.public();
        let kind = match self {
            // PKCS#1: a sequence of modulus and exponent, of 2,048 and 24 bits.
            Self::Rsa(_) => {
                let (n, e) = (encoded(&public[9..265]), encoded(&public[267..]));
                format!(r#""kty":"RSA","n":"{n}","e":"{e}""#)
            }
            Self::Ec(curve, _) => {
                let half = 1 + (public.len() - 1) / 2;
                let (x, y) = (encoded(&public[1..half]), encoded(&public[half..]));
                format!(r#""kty":"EC","crv":"{curve}","x":"{x}","y":"{y}""#)
            }
            Self::Ed25519(_) => {
                format!(r#""kty":"OKP","crv":"Ed25519","x":"{}""#, encoded(&public))
            }
        };
        format!(r#"{{{kind},"kid":"{id}","use":"sig"}}"#)
    }

    pub(crate) fn sign(&self, algorithm: Algorithm, text: &str) -> Vec<u8> {
        let (random, text) = (SystemRandom::new(), text.as_bytes());
        match self {
            Self::Rsa(key) => {
                let encoding: &'static dyn RsaEncoding = match algorithm {
                    Algorithm::Rs384 => &signature::RSA_PKCS1_SHA384,
                    Algorithm::Rs512 => &signature::RSA_PKCS1_SHA512,
                    Algorithm::Ps256 => &signature::RSA_PSS_SHA256,
                    Algorithm::Ps384 => &signature::RSA_PSS_SHA384,
                    Algorithm::Ps512 => &signature::RSA_PSS_SHA512,
                    _ => &signature::RSA_PKCS1_SHA256,
                };
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(encoding, &random, text, &mut signature).unwrap();
                signature
            }
            Self::Ec(_, key) => key.sign(&random, text).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(text).as_ref().to_vec(),
        }
    }

    /// A token that says that it is signed so, and is.
    pub(crate) fn token(&self, algorithm: Algorithm, id: &str, claims: &str) -> String {
        self.token_with(
            &format!(r#"{{"alg":"{}","kid":"{id}"}}"#, algorithm.name()),
            algorithm,
            claims,
        )
    }

    /// A token with this header, signed in this way.
    pub(crate) fn token_with(&self, header: &str, algorithm: Algorithm, claims: &str) -> String {
        let signed = format!("{}.{}", encoded(header), encoded(claims));
        let signature = self.sign(algorithm, &signed);
        format!("{signed}.{}", encoded(signature))
    }
}
