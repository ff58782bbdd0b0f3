//! Configuration: one table that drives parsing, validation, DescribeConfigs and the reference
//! page.
//!
//! Names, types, defaults and ranges are those of Kafka 4.4, so that every tool finds what it looks
//! for; our own are under `millstream.`. What is set is kept as text, as it was sent, in
//! [`Overrides`]; it is read once, when it changes, into [`BrokerConfig`] and [`TopicConfig`],
//! which are what the rest of the program looks at. To add a config, add an entry to its table in
//! `tables/`, a field to the typed struct if it is honoured, and renew `docs/configuration.md`
//! (`MILLSTREAM_BLESS=1`).
//!
//! What is set as `listener.name.<listener>.<setting>` comes before all else for that listener
//! ([`BrokerOverrides::for_listener`]).
//!
//! A value is looked for, in this order, in: what was set on the topic (or group); what was set on
//! this broker at run time; on all brokers at run time; when the broker was started; the default.
//! Where several broker configs give one topic config, the same layer asks them in their order:
//! milliseconds before minutes before hours.

use std::fmt;

mod broker;
mod client_metrics;
mod describe;
mod entry;
mod error;
mod group;
mod layers;
mod listeners;
mod markdown;
mod oauth;
mod overrides;
mod tables;
mod topic;
mod transport;
mod value;

#[cfg(test)]
mod tests;

pub use crate::cluster::Overrides;
pub use broker::{AuthorizerConfig, BrokerConfig, DelegationConfig, Durability, TelemetryConfig};
pub use client_metrics::ClientSubscription;
pub use describe::{Described, DescribedSynonym, Target, describe};
pub use entry::{Allowed, ConfigType, Effect, Entry, Synonym, Update};
pub use error::ConfigError;
pub use group::check_group;
pub use layers::{BrokerOverrides, Source};
pub use listeners::{Endpoint, ListenerSettings, ListenersError, SecurityProtocol, listeners};
pub use markdown::markdown;
pub use oauth::OauthConfig;
pub use overrides::{Change, Op, apply, replace, validate, validate_all, validate_start};
pub use topic::{TopicConfig, TopicDefaults};
pub use transport::{ClientCertificates, TlsConfig, TransportConfig};

/// No value is longer, in bytes: Kafka's bound, and no list that means anything comes near it.
pub const VALUE_LEN_MAX: usize = 32_767;

/// What configs can be set on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A topic.
    Topic,
    /// One broker, or all of them.
    Broker,
    /// A group.
    Group,
    /// A subscription to client metrics.
    ClientMetrics,
}

/// Entries that belong together, under a title.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// The title.
    pub title: &'static str,
    /// The entries, in the order of the reference page.
    pub entries: &'static [Entry],
}

impl Kind {
    /// All kinds, in the order of the reference page.
    pub const ALL: [Self; 4] = [Self::Topic, Self::Broker, Self::Group, Self::ClientMetrics];

    /// The kind of a resource type of the Kafka protocol; `None` for those that have no table
    /// (loggers) and those that don't exist.
    #[must_use]
    pub fn from_resource_type(resource_type: i8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.resource_type() == resource_type)
    }

    /// The resource type in the Kafka protocol.
    #[must_use]
    pub const fn resource_type(self) -> i8 {
        match self {
            Self::Topic => 2,
            Self::Broker => 4,
            Self::ClientMetrics => 16,
            Self::Group => 32,
        }
    }

    /// The tables of this kind.
    #[must_use]
    pub const fn sections(self) -> &'static [Section] {
        match self {
            Self::Topic => tables::topic::SECTIONS,
            Self::Broker => tables::broker::SECTIONS,
            Self::Group => tables::group::SECTIONS,
            Self::ClientMetrics => tables::client_metrics::SECTIONS,
        }
    }

    /// The entries of this kind, in the order of the reference page.
    pub fn entries(self) -> impl Iterator<Item = &'static Entry> {
        self.sections().iter().flat_map(|section| section.entries)
    }
}

/// The entry of that name.
///
/// # Errors
///
/// [`ConfigError::Unknown`] when there is none, with the name that was probably meant.
pub fn lookup(kind: Kind, name: &str) -> Result<&'static Entry, ConfigError> {
    let of_listener = || {
        let (_, setting) = of_listener(name).filter(|_| kind == Kind::Broker)?;
        find(kind, setting).filter(|entry| entry.of_listeners)
    };
    find(kind, name).or_else(of_listener).ok_or_else(|| ConfigError::unknown(kind, name))
}

/// What the names of settings begin with that count for one listener.
const OF_LISTENER: &str = "listener.name.";

/// The listener, in small letters, and the setting that `listener.name.<listener>.<setting>` is for.
#[must_use]
pub fn of_listener(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix(OF_LISTENER)?.split_once('.')
}

fn find(kind: Kind, name: &str) -> Option<&'static Entry> {
    kind.entries().find(|entry| entry.name == name)
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Topic => "topic",
            Self::Broker => "broker",
            Self::Group => "group",
            Self::ClientMetrics => "client metrics",
        })
    }
}
