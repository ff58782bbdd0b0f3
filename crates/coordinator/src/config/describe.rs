//! What DescribeConfigs answers.

use super::entry::{ConfigType, Entry, Update};
use super::layers::{
    BrokerOverrides, Found, Source, defaulted, effective, family_trail, own_trail, trail,
};
use super::{Kind, Overrides};

/// What is to be described, with everything that has been set on it.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// A topic: its overrides, on this broker.
    Topic(&'a Overrides, &'a BrokerOverrides),
    /// This broker.
    Broker(&'a BrokerOverrides),
    /// All brokers (the resource with an empty name): only what was set on them all.
    Brokers(&'a BrokerOverrides),
    /// A group: its overrides, on this broker.
    Group(&'a Overrides, &'a BrokerOverrides),
    /// A subscription to client metrics: its overrides.
    ClientMetrics(&'a Overrides),
}

/// One config, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: &'static str,
    /// Its value; `None` when it has none or is a secret.
    pub value: Option<String>,
    /// Where the value comes from: set to what the default is, it is still set.
    pub source: Source,
    /// Everything that gives it a value, what wins first; each in its own unit.
    pub synonyms: Vec<DescribedSynonym>,
    /// What its value is.
    pub config_type: ConfigType,
    /// Whether it can't be changed at run time.
    pub read_only: bool,
    /// Whether its value is never told.
    pub sensitive: bool,
    /// What it means.
    pub documentation: &'static str,
}

/// One place that gives a config a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedSynonym {
    /// The name there.
    pub name: &'static str,
    /// The value there; `None` when it is a secret.
    pub value: Option<String>,
    /// The layer.
    pub source: Source,
}

/// Describes `keys` of `target`; all where there is no list of keys or an empty one. Keys that
/// don't exist are left out, as Kafka does.
#[must_use]
pub fn describe(target: Target<'_>, keys: Option<&[&str]>) -> Vec<Described> {
    let keys = keys.filter(|keys| !keys.is_empty());
    target
        .kind()
        .entries()
        .filter(|entry| keys.is_none_or(|keys| keys.contains(&entry.name)))
        .filter_map(|entry| described(entry, &target.trail(entry), target))
        .collect()
}

pub(super) fn described(entry: &Entry, trail: &[Found], target: Target<'_>) -> Option<Described> {
    let source = trail.first().map_or(Source::Default, |found| found.source);
    let unlisted = entry.hidden || matches!(target, Target::Brokers(_));
    if unlisted && source == Source::Default {
        return None;
    }
    let told = |value: String| (!entry.sensitive()).then_some(value);
    let synonym = |found: &Found| DescribedSynonym {
        name: found.name,
        value: told(found.value.to_string()),
        source: found.source,
    };
    Some(Described {
        name: entry.name,
        value: effective(entry, trail).and_then(|value| told(value.to_string())),
        source,
        synonyms: target.synonyms(entry, trail).iter().map(synonym).collect(),
        config_type: entry.config_type,
        read_only: entry.update == Update::ReadOnly,
        sensitive: entry.sensitive(),
        documentation: entry.doc,
    })
}

impl Target<'_> {
    /// The kind whose table describes it.
    #[must_use]
    pub const fn kind(self) -> Kind {
        match self {
            Self::Topic(..) => Kind::Topic,
            Self::Broker(_) | Self::Brokers(_) => Kind::Broker,
            Self::Group(..) => Kind::Group,
            Self::ClientMetrics(_) => Kind::ClientMetrics,
        }
    }

    /// What is told besides the value: as Kafka does, nothing of other units' defaults unless the first
    /// name has a value, of a broker config also what other units say, and a group's own default.
    fn synonyms(self, entry: &Entry, trail: &[Found]) -> Vec<Found> {
        let mut told = match self {
            Self::Broker(broker) => family_trail(entry, broker),
            _ => trail.to_vec(),
        };
        if let (Self::Topic(..), Some(first)) = (self, entry.synonyms.first()) {
            let other = |found: &Found| found.name != first.name && found.name != entry.name;
            let has_first = told.iter().any(|found| found.name == first.name);
            told.retain(|found| has_first || found.source != Source::Default || !other(found));
        }
        if let Self::Group(..) = self
            && entry.synonyms.is_empty()
        {
            told.extend(defaulted(entry));
        }
        told
    }

    fn trail(self, entry: &'static Entry) -> Vec<Found> {
        match self {
            Self::Topic(overrides, broker) => trail(entry, (overrides, Source::Topic), broker),
            Self::Group(overrides, broker) => trail(entry, (overrides, Source::Group), broker),
            Self::ClientMetrics(overrides) => {
                let own = (overrides, Source::ClientMetrics);
                trail(entry, own, &BrokerOverrides::default())
            }
            Self::Broker(broker) => own_trail(entry, broker),
            Self::Brokers(broker) => {
                let mut trail = own_trail(entry, broker);
                trail.retain(|found| found.source == Source::DynamicDefaultBroker);
                trail
            }
        }
    }
}
