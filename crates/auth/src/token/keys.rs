//! An issuer's public keys (RFC 7517, RFC 7518 section 6, RFC 8037).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use super::Algorithm;
use crate::json::{self, Json, Object};

/// The most keys of one issuer; real ones have two or three.
const KEYS_MAX: usize = 100;

/// The shortest and the longest modulus of RSA, in bytes: 2,048 and 8,192 bits.
const MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=1_024;

/// The longest public exponent of RSA, in bytes; nearly all are 65,537.
const EXPONENT_BYTES_MAX: usize = 4;

/// All keys of an issuer that can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeySet {
    keys: Vec<Key>,
    left_out: usize,
}

/// One key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    /// What signatures are verified with.
    pub material: KeyMaterial,
}

/// What signatures are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyMaterial {
    /// RSA: both numbers with their highest byte first, and no zero before it.
    Rsa {
        /// The modulus.
        modulus: Vec<u8>,
        /// The exponent.
        exponent: Vec<u8>,
    },
    /// A point on the curve of the key's one algorithm, uncompressed (SEC 1 section 2.3.3).
    Ec(Vec<u8>),
    /// Ed25519.
    Ed25519(Vec<u8>),
}

/// Why there are no keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKeySet {
    /// It is something else.
    #[error(
        "it is not a set of JSON web keys (RFC 7517): an object with a list `keys`, no name twice"
    )]
    Malformed,
    /// There are too many.
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
    /// None can be used.
    #[error(
        "none of its keys can be used: tokens are verified by public keys for signatures, RSA of 2,048 to 8,192 \
         bits, P-256, P-384, P-521 or Ed25519"
    )]
    NoKeys,
}

impl KeySet {
    /// Reads a key set. What is for something else, or of a kind that is not known, is left out.
    ///
    /// # Errors
    ///
    /// [`BadKeySet`].
    pub fn parse(bytes: &[u8]) -> Result<Self, BadKeySet> {
        let set = json::object(bytes).ok_or(BadKeySet::Malformed)?;
        let listed = set.get("keys").and_then(Json::list).ok_or(BadKeySet::Malformed)?;
        if listed.len() > KEYS_MAX {
            return Err(BadKeySet::TooMany);
        }
        let keys: Vec<Key> = listed.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err(BadKeySet::NoKeys);
        }
        Ok(Self { left_out: listed.len() - keys.len(), keys })
    }

    /// How many keys can be used.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// How many there are besides that can't.
    #[must_use]
    pub const fn left_out(&self) -> usize {
        self.left_out
    }

    /// The key of that id for that algorithm. Where no id is said there must be one key only that it could be.
    #[must_use]
    pub fn find(&self, algorithm: Algorithm, id: Option<&str>) -> Option<&Key> {
        let fits = |key: &&Key| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id)
        };
        let mut fitting = self.keys.iter().filter(fits);
        let first = fitting.next()?;
        if id.is_none() && fitting.next().is_some() { None } else { Some(first) }
    }
}

/// A key that can verify tokens.
fn key(json: &Json) -> Option<Key> {
    let Json::Object(jwk) = json else { return None };
    let text = |name| jwk.get(name).and_then(Json::text);
    if jwk.contains_key("use") && text("use") != Some("sig") {
        return None;
    }
    if let Some(operations) = jwk.get("key_ops")
        && !operations.texts()?.contains(&"verify")
    {
        return None;
    }
    let (material, fitting) = match text("kty")? {
        "RSA" => (rsa(jwk)?, Algorithm::OF_RSA.to_vec()),
        "EC" => {
            let (algorithm, size) = match text("crv")? {
                "P-256" => (Algorithm::Es256, 32),
                "P-384" => (Algorithm::Es384, 48),
                "P-521" => (Algorithm::Es512, 66),
                _ => return None,
            };
            let (x, y) = (number(jwk, "x", size)?, number(jwk, "y", size)?);
            (KeyMaterial::Ec([vec![4], x, y].concat()), vec![algorithm])
        }
        "OKP" if text("crv")? == "Ed25519" => {
            (KeyMaterial::Ed25519(number(jwk, "x", 32)?), vec![Algorithm::EdDsa])
        }
        _ => return None,
    };
    // A key that says what it is for is for nothing else.
    let algorithms = match jwk.get("alg") {
        None => fitting,
        Some(named) => {
            let named = Algorithm::named(named.text()?)?;
            if !fitting.contains(&named) {
                return None;
            }
            vec![named]
        }
    };
    let id = match jwk.get("kid") {
        None => None,
        Some(id) => Some(id.text()?.to_owned()),
    };
    Some(Key { id, algorithms, material })
}

fn rsa(jwk: &Object) -> Option<KeyMaterial> {
    let part = |name| {
        let bytes = BASE64.decode(jwk.get(name)?.text()?).ok()?;
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Some(bytes.get(zeros..)?.to_vec())
    };
    let (modulus, exponent) = (part("n")?, part("e")?);
    let is_sound = MODULUS_BYTES.contains(&modulus.len())
        && (1..=EXPONENT_BYTES_MAX).contains(&exponent.len());
    is_sound.then_some(KeyMaterial::Rsa { modulus, exponent })
}

/// A number of exactly so many bytes.
fn number(jwk: &Object, name: &str, size: usize) -> Option<Vec<u8>> {
    let bytes = BASE64.decode(jwk.get(name)?.text()?).ok()?;
    (bytes.len() == size).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(size: usize) -> String {
        BASE64.encode(vec![7; size])
    }

    fn rsa(besides: &str) -> String {
        format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"{besides}}}"#, encoded(256))
    }

    fn ec(curve: &str, size: usize, besides: &str) -> String {
        let coordinate = encoded(size);
        format!(r#"{{"kty":"EC","crv":"{curve}","x":"{coordinate}","y":"{coordinate}"{besides}}}"#)
    }

    fn parse(keys: &[String]) -> Result<KeySet, BadKeySet> {
        KeySet::parse(format!(r#"{{"keys":[{}]}}"#, keys.join(",")).as_bytes())
    }

    /// The algorithms that one key verifies.
    fn of(key: String) -> Vec<Algorithm> {
        let Ok(set) = parse(&[key]) else { return Vec::new() };
        Algorithm::ALL.into_iter().filter(|one| set.find(*one, None).is_some()).collect()
    }

    /// No algorithm is verified by a key that is for another one.
    #[test]
    fn a_key_is_for_the_algorithms_of_its_kind() {
        let ed25519 = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{}"}}"#, encoded(32));
        for (key, expected) in [
            (rsa(""), Algorithm::OF_RSA.to_vec()),
            (rsa(r#","alg":"PS384","use":"sig""#), vec![Algorithm::Ps384]),
            (rsa(r#","key_ops":["verify"]"#), Algorithm::OF_RSA.to_vec()),
            (ec("P-256", 32, ""), vec![Algorithm::Es256]),
            (ec("P-384", 48, ""), vec![Algorithm::Es384]),
            (ec("P-521", 66, r#","alg":"ES512""#), vec![Algorithm::Es512]),
            (ed25519, vec![Algorithm::EdDsa]),
            // For something else, of another kind, too weak, or wrong.
            (rsa(r#","use":"enc""#), vec![]),
            (rsa(r#","use":1"#), vec![]),
            (rsa(r#","key_ops":["encrypt"]"#), vec![]),
            (rsa(r#","alg":"RSA-OAEP""#), vec![]),
            (rsa(r#","alg":"ES256""#), vec![]),
            (rsa(r#","alg":"HS256""#), vec![]),
            (rsa(r#","alg":"none""#), vec![]),
            (rsa(r#","kid":1"#), vec![]),
            (ec("P-256", 48, ""), vec![]),
            (ec("P-256", 32, r#","alg":"ES384""#), vec![]),
            (ec("secp256k1", 32, ""), vec![]),
            (format!(r#"{{"kty":"oct","k":"{}","alg":"HS256"}}"#, encoded(32)), vec![]),
            (format!(r#"{{"kty":"oct","k":"{}"}}"#, encoded(32)), vec![]),
            (format!(r#"{{"kty":"OKP","crv":"X25519","x":"{}"}}"#, encoded(32)), vec![]),
            (format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, encoded(128)), vec![]),
            (format!(r#"{{"kty":"RSA","n":"{}","e":"AQAB"}}"#, encoded(1_025)), vec![]),
            (format!(r#"{{"kty":"RSA","n":"{}","e":""}}"#, encoded(256)), vec![]),
            (format!(r#"{{"kty":"RSA","n":"{}","e":"AAA"}}"#, encoded(256)), vec![]),
            (r#""RSA""#.to_owned(), vec![]),
        ] {
            assert_eq!(of(key.clone()), expected, "{key}");
        }
    }

    #[test]
    fn a_key_is_found_by_its_id() {
        let keys = [rsa(r#","kid":"a""#), rsa(r#","kid":"b""#), ec("P-256", 32, r#","kid":"a""#)];
        let set = parse(&keys).expect("a set");
        for (algorithm, id, is_found) in [
            (Algorithm::Rs256, Some("a"), true),
            (Algorithm::Rs256, Some("b"), true),
            (Algorithm::Rs256, Some("c"), false),
            (Algorithm::Rs256, Some(""), false),
            (Algorithm::Rs256, None, false),
            (Algorithm::Es256, Some("a"), true),
            (Algorithm::Es256, Some("b"), false),
            (Algorithm::Es256, None, true),
            (Algorithm::Es384, Some("a"), false),
        ] {
            let found = set.find(algorithm, id);
            assert_eq!(found.is_some(), is_found, "{algorithm:?} {id:?}");
            assert!(found.is_none_or(|key| key.algorithms.contains(&algorithm)));
        }
    }

    #[test]
    fn what_is_no_key_set_is_told() {
        let other = r#"{"kty":"oct","k":"AAAA"}"#.to_owned();
        let set = parse(&[rsa(""), other.clone()]).expect("a set");
        assert_eq!((set.count(), set.left_out()), (1, 1));
        assert_eq!(parse(&[other]), Err(BadKeySet::NoKeys));
        assert_eq!(parse(&[]), Err(BadKeySet::NoKeys));
        assert_eq!(parse(&vec![rsa(""); KEYS_MAX + 1]), Err(BadKeySet::TooMany));
        for malformed in ["", "[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[],"keys":[]}"#, "<html>"] {
            assert_eq!(KeySet::parse(malformed.as_bytes()), Err(BadKeySet::Malformed));
        }
    }
}
