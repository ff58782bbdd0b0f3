//! TLS: certificates and keys from PEM files, and whom a client's certificate speaks for.
//!
//! rustls does the protocol, with one crypto provider for the whole program ([`provider`]). What is
//! here: what the settings mean ([`server`]), what the files hold ([`pem`]), how a certificate's subject is
//! written ([`name`]), and what user it becomes ([`rules`]). The last two are pure: they decide who
//! somebody is.

mod ahead;
mod client;
mod name;
mod pem;
mod rules;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

pub use ahead::Ahead;
pub use client::{ClientTls, ClientTlsSettings};
pub use name::{BadCertificate, Summary, not_after, subject, summary};
pub use pem::{TlsError, summaries};
pub use rules::{Rules, RulesError, Unmapped};
pub use server::{
    ClientAuth, HandshakeError, Reload, ServerTls, ServerTlsSettings, Version, watch,
};
/// What [`ServerTls::accept`] makes of a stream.
pub use tokio_rustls::server::TlsStream;

/// The cryptography of the whole program. It is named wherever it is needed, so that no global has to be
/// set, and no second one gets in unseen.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}
