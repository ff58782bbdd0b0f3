//! The compact form: `header "." payload "." signature`, each in base64url.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use millstream_types::Timestamp;

use super::{Algorithm, BadToken, Expected, Verified, claims};
use crate::json::{self, Json};

/// The longest token, in bytes: as long as what HTTP servers take for a header.
pub const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The longest id of a key, in bytes.
const KEY_ID_BYTES_MAX: usize = 1_000;

/// What types of tokens are taken: those of access tokens (RFC 9068), and the general one.
const TYPES: [&str; 2] = ["JWT", "at+jwt"];

/// A token that claims to be signed.
pub struct Jwt<'a> {
    algorithm: Algorithm,
    key_id: Option<String>,
    /// Header and payload as they were signed.
    signed: &'a str,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

impl<'a> Jwt<'a> {
    /// Reads a token as far as it is needed to verify it.
    ///
    /// # Errors
    ///
    /// It is none, or is signed in a way that is never taken.
    pub fn parse(token: &'a str) -> Result<Self, BadToken> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(BadToken::TooLong);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(BadToken::Malformed)?;
        let (header, payload) = signed.split_once('.').ok_or(BadToken::Malformed)?;
        let decoded = |part: &str| BASE64.decode(part).map_err(|_| BadToken::Malformed);
        let header = json::object(&decoded(header)?).ok_or(BadToken::Malformed)?;
        let (payload, signature) = (decoded(payload)?, decoded(signature)?);
        let algorithm = header.get("alg").and_then(Json::text).and_then(Algorithm::named);
        let algorithm = algorithm.ok_or(BadToken::Algorithm)?;
        if header.contains_key("crit") {
            return Err(BadToken::Critical);
        }
        if !header.get("typ").is_none_or(is_taken) {
            return Err(BadToken::Type);
        }
        let key_id = match header.get("kid") {
            None => None,
            Some(Json::Text(id)) if id.len() <= KEY_ID_BYTES_MAX => Some(id.clone()),
            Some(_) => return Err(BadToken::Malformed),
        };
        Ok(Self { algorithm, key_id, signed, payload, signature })
    }

    /// How it claims to be signed.
    #[must_use]
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// By which key.
    #[must_use]
    pub fn key_id(&self) -> Option<&str> {
        self.key_id.as_deref()
    }

    /// Whom it stands for `now`, if `is_signed` says of what was signed, and of the signature, that they belong
    /// together.
    ///
    /// # Errors
    ///
    /// It is not to be trusted, or not for this, or not now.
    pub fn judge(
        &self,
        is_signed: impl FnOnce(&[u8], &[u8]) -> bool,
        expected: &Expected,
        now: Timestamp,
    ) -> Result<Verified, BadToken> {
        if !is_signed(self.signed.as_bytes(), &self.signature) {
            return Err(BadToken::Signature);
        }
        let claims = json::object(&self.payload).ok_or(BadToken::Malformed)?;
        claims::judge(&claims, expected, now)
    }
}

fn is_taken(typ: &Json) -> bool {
    let Some(typ) = typ.text() else { return false };
    let general = "application/";
    let typ = match typ.get(..general.len()) {
        Some(begins) if begins.eq_ignore_ascii_case(general) => &typ[general.len()..],
        _ => typ,
    };
    TYPES.iter().any(|taken| taken.eq_ignore_ascii_case(typ))
}

impl std::fmt::Debug for Jwt<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Jwt").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str, payload: &str, signature: &[u8]) -> String {
        let part = |bytes: &[u8]| BASE64.encode(bytes);
        format!("{}.{}.{}", part(header.as_bytes()), part(payload.as_bytes()), part(signature))
    }

    #[track_caller]
    fn check(token: &str, expected: Result<(Algorithm, Option<&str>), BadToken>) {
        let parsed = Jwt::parse(token);
        let parsed = parsed.as_ref().map(|jwt| (jwt.algorithm(), jwt.key_id()));
        assert_eq!(parsed.map_err(|why| *why), expected, "{token}");
    }

    #[test]
    fn headers_say_how_a_token_is_signed() {
        for algorithm in Algorithm::ALL {
            let header = format!(r#"{{"alg":"{}","kid":"k"}}"#, algorithm.name());
            check(&token(&header, "{}", b"x"), Ok((algorithm, Some("k"))));
        }
        for (header, expected) in [
            (r#"{"alg":"RS256"}"#, Ok((Algorithm::Rs256, None))),
            (r#"{"alg":"Ed25519","typ":"JWT"}"#, Ok((Algorithm::EdDsa, None))),
            (r#"{"alg":"ES256","typ":"jwt"}"#, Ok((Algorithm::Es256, None))),
            (r#"{"alg":"ES256","typ":"application/AT+jwt"}"#, Ok((Algorithm::Es256, None))),
            (r#"{"alg":"ES256","typ":"logout+jwt"}"#, Err(BadToken::Type)),
            (r#"{"alg":"ES256","typ":"application/"}"#, Err(BadToken::Type)),
            (r#"{"alg":"ES256","typ":1}"#, Err(BadToken::Type)),
            (r#"{"alg":"none"}"#, Err(BadToken::Algorithm)),
            (r#"{"alg":"None"}"#, Err(BadToken::Algorithm)),
            (r#"{"alg":"HS256"}"#, Err(BadToken::Algorithm)),
            (r#"{"alg":"HS512"}"#, Err(BadToken::Algorithm)),
            (r#"{"alg":"rs256"}"#, Err(BadToken::Algorithm)),
            (r#"{"alg":""}"#, Err(BadToken::Algorithm)),
            (r#"{"alg":null}"#, Err(BadToken::Algorithm)),
            (r#"{"alg":["RS256"]}"#, Err(BadToken::Algorithm)),
            (r#"{"typ":"JWT"}"#, Err(BadToken::Algorithm)),
            (r#"{"alg":"RS256","alg":"none"}"#, Err(BadToken::Malformed)),
            (r#"{"alg":"none","alg":"RS256"}"#, Err(BadToken::Malformed)),
            (r#"{"alg":"RS256","crit":["exp"]}"#, Err(BadToken::Critical)),
            (r#"{"alg":"RS256","b64":false,"crit":["b64"]}"#, Err(BadToken::Critical)),
            (r#"{"alg":"RS256","kid":7}"#, Err(BadToken::Malformed)),
            (r#"["RS256"]"#, Err(BadToken::Malformed)),
            ("", Err(BadToken::Malformed)),
        ] {
            check(&token(header, "{}", b"x"), expected);
        }
        let kid = |length: usize| {
            token(&format!(r#"{{"alg":"RS256","kid":"{}"}}"#, "k".repeat(length)), "{}", b"x")
        };
        assert!(Jwt::parse(&kid(KEY_ID_BYTES_MAX)).is_ok());
        check(&kid(KEY_ID_BYTES_MAX + 1), Err(BadToken::Malformed));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let good = token(r#"{"alg":"RS256"}"#, "{}", b"signature");
        assert!(Jwt::parse(&good).is_ok());
        let (signed, signature) = good.rsplit_once('.').expect("a token");
        for bad in [
            String::new(),
            ".".to_owned(),
            "..".to_owned(),
            signed.to_owned(),
            format!("{good}."),
            format!("{good}.{signature}"),
            format!(".{good}"),
            format!("{good}="),
            format!(" {good}"),
            good.replacen('.', "..", 1),
            format!("{signed}.a+/b"),
            // Bits that belong to no byte: the same token could be written in several ways.
            format!("{signed}.QR"),
        ] {
            check(&bad, Err(BadToken::Malformed));
        }
        let long = token(r#"{"alg":"RS256"}"#, &"x".repeat(TOKEN_BYTES_MAX), b"x");
        check(&long, Err(BadToken::TooLong));
    }
}
