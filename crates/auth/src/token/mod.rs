//! Tokens of an issuer that others trust: JSON web tokens (RFC 7519) with a signature (JWS, RFC 7515), judged by
//! the issuer's public keys (JWKS, RFC 7517).
//!
//! [`Jwt::parse`] reads what is claimed of the signature, [`KeySet::find`] the key that it could be of,
//! [`Jwt::judge`] has it verified and looks at the claims, in this order: nothing that is not signed is looked at.
//! What computes signatures is an argument.

mod algorithm;
mod claims;
mod jwt;
mod keys;

pub use algorithm::Algorithm;
pub use claims::{Expected, Verified};
pub use jwt::{Jwt, TOKEN_BYTES_MAX};
pub use keys::{BadKeySet, Key, KeyMaterial, KeySet};

/// Why a token is refused. Says nothing that is not known to whoever has the token and the issuer's public keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadToken {
    /// It is too long.
    #[error("the token has more than {TOKEN_BYTES_MAX} bytes: ask for one with fewer claims")]
    TooLong,
    /// It is none.
    #[error("it is not a JSON web token with a signature (RFC 7515)")]
    Malformed,
    /// It is signed in no way that is taken, or not at all.
    #[error(
        "the token is signed by none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, ES512 and \
         EdDSA; one without a signature, or with one by a shared secret, is never taken"
    )]
    Algorithm,
    /// It has an extension that must be understood (RFC 7515 section 4.1.11).
    #[error("the token has critical extensions (`crit`), and none is known")]
    Critical,
    /// It is meant for something else (RFC 8725 section 3.11).
    #[error(
        "the token's type (`typ`) is neither `JWT` nor `at+jwt`: it is meant for something else"
    )]
    Type,
    /// The issuer's keys are not known at all.
    #[error("the issuer's keys can't be had at the moment: try again later")]
    NoKeys,
    /// There is no key that could have signed it.
    #[error("the issuer has no key of that id (`kid`) for the token's algorithm")]
    UnknownKey,
    /// The signature is not by that key.
    #[error("the token's signature is wrong")]
    Signature,
    /// A date is missing, or is none.
    #[error("the token must say since when (`iat`) and until when (`exp`) it is valid")]
    Dates,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet: are the clocks right?")]
    NotYet,
    /// It is another issuer's.
    #[error("the token is not by the expected issuer (sasl.oauthbearer.expected.issuer)")]
    Issuer,
    /// It is meant for others.
    #[error("the token is not for this audience (sasl.oauthbearer.expected.audience)")]
    Audience,
    /// It does not say whom it stands for.
    #[error(
        "the token names nobody (sasl.oauthbearer.sub.claim.name), or nobody who could be a user: a name has 1 \
         to 1,024 bytes and no control characters"
    )]
    Subject,
    /// Its scopes are none.
    #[error(
        "the token's scopes (sasl.oauthbearer.scope.claim.name) are not texts, or one stands twice"
    )]
    Scope,
}
