//! Who may connect: SASL mechanisms, and the state of a connection that logs in.
//!
//! Pure: nonces and times are arguments, users are asked for by a trait ([`Users`]). From the bottom up:
//! [`Hash`] has the primitives; [`Credential`] is what a server keeps of a password; [`Exchange`] is one
//! login by one [`Mechanism`], and [`ClientExchange`] its other side; [`Gate`] is a connection's whole life
//! with logins, before the first and after it. Only [`Gate::admits`] says whether a request may be served.
//! [`Jwt`], [`KeySet`] and [`Expected`] say of tokens whom they stand for.
//!
//! What is kept of a password can't be used to log in, and a user that does not exist is answered as one
//! whose password is wrong. Secrets are compared in constant time, and are left out of `Debug`.

mod bearer;
mod client;
mod connection_string;
mod credential;
mod delegation;
mod exchange;
mod gate;
mod hash;
mod json;
mod mechanism;
mod password;
mod plain;
mod scram;
mod token;

pub use bearer::BearerToken;
pub use client::{ClientExchange, Distrust};
pub use credential::{Credential, ITERATIONS_MAX, ITERATIONS_MIN, SALT_BYTES, Secret, Shape};
pub use delegation::{TokenHmac, TokenKey};
pub use exchange::{Exchange, Nonce, Proven, Refused, Step, TokenOwner, Users};
pub use gate::{Ask, Gate, HandshakeRefused, LOGIN_TIME_MAX, Login, TokenStep};
pub use hash::Hash;
pub use mechanism::Mechanism;
pub use password::{Derivation, PasswordCheck};
pub use token::{
    Algorithm, BadKeySet, BadToken, Expected, Jwt, Key, KeyMaterial, KeySet, TOKEN_BYTES_MAX,
    Verified,
};
