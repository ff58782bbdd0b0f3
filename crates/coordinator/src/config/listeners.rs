//! Where a broker listens, and what it tells clients: `listeners`, `advertised.listeners`,
//! `listener.security.protocol.map`.
//!
//! A listener has a name, which by default is that of its protocol, as in Apache Kafka. Names are the same in
//! any case, and written in capitals.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::Overrides;

/// The map where nobody has set it: each protocol is the name of a listener that speaks it.
pub(super) const DEFAULT_MAP: &str =
    "SASL_SSL:SASL_SSL,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT";

/// What a listener speaks below Kafka's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// TCP; clients don't say who they are.
    Plaintext,
    /// TLS; clients may say who they are by a certificate.
    Ssl,
    /// TCP; clients say who they are by SASL.
    SaslPlaintext,
    /// TLS; clients say who they are by SASL.
    SaslSsl,
}

/// A host with a port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// A name or an address, without brackets; empty for all addresses of the machine.
    pub host: String,
    /// The port; 0 for a free one.
    pub port: u16,
}

/// One listener, as it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerSettings {
    /// Its name, in capitals.
    pub name: String,
    /// What it speaks.
    pub protocol: SecurityProtocol,
    /// Where it listens.
    pub bind: Endpoint,
    /// Where its clients are told to connect; `None` for where it listens.
    pub advertised: Option<Endpoint>,
}

/// Why listeners can't be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenersError {
    /// There is something that is no listener.
    NotAListener {
        /// The config in which it stands.
        config: &'static str,
        /// What stands there.
        text: String,
    },
    /// A part of the map is no `name:protocol`.
    NotAProtocol(String),
    /// It is not said what a listener speaks.
    NoProtocol(String),
    /// A name stands twice in a config.
    Twice {
        /// The config.
        config: &'static str,
        /// The name.
        name: String,
    },
    /// Two listeners are at one place.
    SamePlace(Endpoint),
    /// An address is told of a listener that there is not.
    NotListening(String),
    /// Clients of a listener can't be told where it is.
    NoAddress {
        /// Its name.
        name: String,
        /// The host that it listens at.
        host: String,
    },
    /// Clients are told an address that is none.
    BadAddress {
        /// The listener's name.
        name: String,
        /// What they would be told.
        address: Endpoint,
    },
}

/// The listeners that `settings` name; none where `listeners` is not set.
///
/// # Errors
///
/// [`ListenersError`] says what to do about it.
pub fn listeners(settings: &Overrides) -> Result<Vec<ListenerSettings>, ListenersError> {
    let text = |name: &str| settings.get(name).map(String::as_str);
    let map = protocols(text(MAP).unwrap_or(DEFAULT_MAP))?;
    let mut advertised = places(ADVERTISED, text(ADVERTISED).unwrap_or_default())?;
    let mut found = Vec::new();
    let mut taken = BTreeSet::new();
    for (name, bind) in places(LISTENERS, text(LISTENERS).unwrap_or_default())? {
        let protocol = map.get(&name).copied();
        let protocol = protocol.ok_or_else(|| ListenersError::NoProtocol(name.clone()))?;
        if bind.port != 0 && !taken.insert(bind.clone()) {
            return Err(ListenersError::SamePlace(bind));
        }
        let told = advertised.iter().position(|(told, _)| *told == name);
        let told = told.map(|at| advertised.swap_remove(at).1);
        match &told {
            None if bind.is_wildcard() => {
                return Err(ListenersError::NoAddress { name, host: bind.host });
            }
            Some(address) if address.is_wildcard() || address.port == 0 => {
                return Err(ListenersError::BadAddress { name, address: address.clone() });
            }
            _ => found.push(ListenerSettings { name, protocol, bind, advertised: told }),
        }
    }
    match advertised.into_iter().next() {
        Some((name, _)) => Err(ListenersError::NotListening(name)),
        None => Ok(found),
    }
}

const LISTENERS: &str = "listeners";
const ADVERTISED: &str = "advertised.listeners";
const MAP: &str = "listener.security.protocol.map";

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty())
}

fn protocols(text: &str) -> Result<BTreeMap<String, SecurityProtocol>, ListenersError> {
    let mut map = BTreeMap::new();
    for part in parts(text) {
        let bad = || ListenersError::NotAProtocol(part.to_owned());
        let (name, protocol) = part.split_once(':').ok_or_else(bad)?;
        let name = self::name(name.trim()).ok_or_else(bad)?;
        let protocol = protocol.trim().parse().map_err(|()| bad())?;
        if map.insert(name.clone(), protocol).is_some() {
            return Err(ListenersError::Twice { config: MAP, name });
        }
    }
    Ok(map)
}

fn places(config: &'static str, text: &str) -> Result<Vec<(String, Endpoint)>, ListenersError> {
    let mut places: Vec<(String, Endpoint)> = Vec::new();
    for part in parts(text) {
        let bad = || ListenersError::NotAListener { config, text: part.to_owned() };
        let (name, place) = part.split_once("://").ok_or_else(bad)?;
        let name = self::name(name).ok_or_else(bad)?;
        let place = place.parse().map_err(|()| bad())?;
        if places.iter().any(|(other, _)| *other == name) {
            return Err(ListenersError::Twice { config, name });
        }
        places.push((name, place));
    }
    Ok(places)
}

/// A listener's name, in capitals, if it is one.
fn name(text: &str) -> Option<String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    (!text.is_empty() && text.chars().all(legal)).then(|| text.to_ascii_uppercase())
}

impl Endpoint {
    /// Whether it stands for all addresses of the machine, so that nobody can connect to it.
    #[must_use]
    pub fn is_wildcard(&self) -> bool {
        self.host.is_empty()
            || self.host.parse().is_ok_and(|address: IpAddr| address.is_unspecified())
    }
}

impl FromStr for Endpoint {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port = port.parse().map_err(|_| ())?;
        let host = match host.strip_prefix('[') {
            Some(rest) => {
                let host = rest.strip_suffix(']').ok_or(())?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| ())?;
                host
            }
            None => host,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
        // An IPv6 address without brackets can't be told apart from its port.
        let is_name = text.starts_with('[') || host.chars().all(legal);
        if is_name { Ok(Self { host: host.to_owned(), port }) } else { Err(()) }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
    }
}

impl SecurityProtocol {
    /// Whether TLS is spoken.
    #[must_use]
    pub const fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether clients have to say who they are by SASL.
    #[must_use]
    pub const fn needs_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl FromStr for SecurityProtocol {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];
        all.into_iter().find(|one| one.to_string().eq_ignore_ascii_case(text)).ok_or(())
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        })
    }
}

impl fmt::Display for ListenersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAListener { config, text } => write!(
                f,
                "`{text}` in `{config}` is no listener: write NAME://HOST:PORT, such as \
                 SSL://0.0.0.0:9093, with commas between them"
            ),
            Self::NotAProtocol(text) => write!(
                f,
                "`{text}` in `{MAP}` does not say what a listener speaks: write NAME:PROTOCOL, \
                 where PROTOCOL is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
            ),
            Self::NoProtocol(name) => write!(
                f,
                "what listener `{name}` speaks is not said: call it PLAINTEXT, SSL, SASL_PLAINTEXT or \
                 SASL_SSL, or add `{name}:PROTOCOL` to `{MAP}`"
            ),
            Self::Twice { config, name } => write!(f, "`{name}` stands twice in `{config}`"),
            Self::SamePlace(place) => write!(f, "two listeners are at {place} in `{LISTENERS}`"),
            Self::NotListening(name) => write!(
                f,
                "`{ADVERTISED}` tells of listener `{name}`, which is not in `{LISTENERS}`"
            ),
            Self::NoAddress { name, host } => {
                let host = if host.is_empty() { "all addresses" } else { host };
                write!(
                    f,
                    "clients can't connect to {host}: say in `{ADVERTISED}` which address those of \
                     listener `{name}` shall use, for example {name}://kafka.example.org:9093"
                )
            }
            Self::BadAddress { name, address } => write!(
                f,
                "clients of listener `{name}` can't connect to {address}: `{ADVERTISED}` needs a host \
                 and a port that they can reach"
            ),
        }
    }
}

impl std::error::Error for ListenersError {}
