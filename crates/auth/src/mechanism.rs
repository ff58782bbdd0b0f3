//! The mechanisms of SASL.

use std::fmt;

use crate::Hash;

/// How a client proves who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mechanism {
    /// It says its password (RFC 4616): only over TLS.
    Plain,
    /// It proves that it knows its password, and that the server knows what belongs to it (RFC 5802).
    Scram(Hash),
    /// It shows a token that an issuer has given it (RFC 7628): only over TLS.
    OauthBearer,
}

impl Mechanism {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512), Self::OauthBearer];

    /// Those that go by passwords.
    pub const OF_PASSWORDS: [Self; 3] =
        [Self::Plain, Self::Scram(Hash::Sha256), Self::Scram(Hash::Sha512)];

    /// Its registered name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Scram(Hash::Sha256) => "SCRAM-SHA-256",
            Self::Scram(Hash::Sha512) => "SCRAM-SHA-512",
            Self::OauthBearer => "OAUTHBEARER",
        }
    }

    /// The mechanism of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name() == name)
    }
}

impl fmt::Display for Mechanism {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
