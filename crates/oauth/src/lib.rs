//! Trust in tokens that others issue: their public keys, fetched and renewed while logins go on, and the
//! signatures that these verify.
//!
//! What a token has to be and to say is decided in `millstream-auth`, by pure functions. Here is what touches the
//! world: [`Place`] is where an issuer's keys are, [`Issuer`] has them and judges tokens. Signatures are computed
//! by AWS-LC, which does TLS, too.

mod fetch;
mod http;
mod issuer;
mod place;
mod signer;
mod verify;

pub use fetch::FetchError;
pub use http::HttpError;
pub use issuer::{Issuer, IssuerSettings, watch};
pub use place::{BadPlace, Place};
pub use signer::{BadKey, Signer};
