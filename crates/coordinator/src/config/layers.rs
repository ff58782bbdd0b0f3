//! Where a value comes from: the layers of a broker's configs, and which of them wins.

use std::collections::BTreeMap;

use super::entry::{Entry, Synonym, same};
use super::value::{Value, parse};
use super::{Kind, Overrides, find, of_listener};

/// What was set on a broker, layer by layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerOverrides {
    /// On this broker, while it ran (the resource with its number).
    pub node: Overrides,
    /// On all brokers, while they ran (the resource with an empty name).
    pub cluster: Overrides,
    /// When it was started: `--config`, `--set`, and what the program reports of itself.
    pub start: Overrides,
}

impl BrokerOverrides {
    /// What was set, as it counts for one listener: what was set for it (`listener.name.<listener>.<setting>`)
    /// comes before what was set for all.
    #[must_use]
    pub fn for_listener(&self, listener: &str) -> Self {
        let mut overrides = self.clone();
        for (name, value) in &self.start {
            if let Some((of, setting)) = of_listener(name)
                && of == listener.to_lowercase()
            {
                overrides.start.insert(setting.to_owned(), value.clone());
            }
        }
        overrides
    }
}

/// Where a value comes from, with DescribeConfigs' number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// It was set on the topic.
    Topic = 1,
    /// It was set on this broker, while it ran.
    DynamicBroker = 2,
    /// It was set on all brokers, while they ran.
    DynamicDefaultBroker = 3,
    /// The broker was started with it.
    StaticBroker = 4,
    /// Nobody set it.
    Default = 5,
    /// It was set on the subscription to client metrics.
    ClientMetrics = 7,
    /// It was set on the group.
    Group = 8,
}

/// One place that gives a config a value.
#[derive(Clone, Debug)]
pub(super) struct Found {
    pub(super) name: &'static str,
    /// The value, in the unit of the config called `name`.
    pub(super) value: Value,
    /// What to multiply it with.
    pub(super) scale: i64,
    pub(super) source: Source,
}

/// The values of one kind's configs, read. A config without a value is not in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Values(BTreeMap<&'static str, Value>);

/// Everything that gives `entry` of a topic, group or subscription a value; what wins comes first.
/// `own`: what was set on it, and what that is called.
pub(super) fn trail(
    entry: &'static Entry,
    own: (&Overrides, Source),
    broker: &BrokerOverrides,
) -> Vec<Found> {
    let (overrides, source) = own;
    let mut trail = Vec::new();
    trail.extend(found(entry, overrides, 1, source));
    trail.extend(broker_trail(entry.synonyms, broker));
    trail
}

/// Everything that gives the broker config `entry` a value; what wins comes first.
pub(super) fn own_trail(entry: &'static Entry, broker: &BrokerOverrides) -> Vec<Found> {
    broker_trail(&[same(entry.name)], broker)
}

/// As [`own_trail`], with what the same thing in other units says behind it.
pub(super) fn family_trail(entry: &Entry, broker: &BrokerOverrides) -> Vec<Found> {
    let is_of = |family: &&[Synonym]| family.iter().any(|one| one.name == entry.name);
    let families = Kind::Topic.entries().map(|topic| topic.synonyms);
    let family = families.filter(|family| family.len() > 1).find(is_of);
    let Some(family) = family else { return broker_trail(&[same(entry.name)], broker) };
    let trail = broker_trail(family, broker);
    trail.into_iter().skip_while(|found| found.name != entry.name).collect()
}

fn broker_trail(synonyms: &[Synonym], broker: &BrokerOverrides) -> Vec<Found> {
    let layers = [
        (&broker.node, Source::DynamicBroker),
        (&broker.cluster, Source::DynamicDefaultBroker),
        (&broker.start, Source::StaticBroker),
    ];
    let entries: Vec<_> = synonyms
        .iter()
        .filter_map(|synonym| Some((find(Kind::Broker, synonym.name)?, synonym.scale)))
        .collect();
    let mut trail = Vec::new();
    for (overrides, source) in layers {
        for &(entry, scale) in &entries {
            trail.extend(found(entry, overrides, scale, source));
        }
    }
    let defaults = entries.into_iter().filter_map(|(entry, scale)| {
        let found = defaulted(entry)?;
        Some(Found { scale, ..found })
    });
    trail.extend(defaults);
    trail
}

/// The default of `entry`, if it has one.
pub(super) fn defaulted(entry: &Entry) -> Option<Found> {
    let value = parse(entry, entry.default?)?;
    Some(Found { name: entry.name, value, scale: 1, source: Source::Default })
}

/// What `overrides` say of `entry`. A stored value that the entry doesn't allow (it may come from
/// another release) is passed over, here and therefore everywhere.
fn found(
    entry: &'static Entry,
    overrides: &Overrides,
    scale: i64,
    source: Source,
) -> Option<Found> {
    let value = parse(entry, overrides.get(entry.name)?)?;
    Some(Found { name: entry.name, value, scale, source })
}

/// The value that wins, in `entry`'s own unit; `None` when it has none.
pub(super) fn effective(entry: &Entry, trail: &[Found]) -> Option<Value> {
    match trail.first() {
        Some(found) => Some(found.value.clone().scaled(found.scale)),
        None => parse(entry, entry.default?),
    }
}

impl Values {
    /// The values of all broker configs.
    pub(super) fn of_broker(broker: &BrokerOverrides) -> Self {
        let value = |entry| Some((entry, effective(entry, &own_trail(entry, broker))?));
        Self::collect(Kind::Broker, value)
    }

    /// The values that topics have where they set nothing.
    pub(super) fn of_topics(broker: &BrokerOverrides) -> Self {
        let nothing = Overrides::new();
        let trail = |entry| trail(entry, (&nothing, Source::Topic), broker);
        Self::collect(Kind::Topic, |entry| Some((entry, effective(entry, &trail(entry))?)))
    }

    fn collect(
        kind: Kind,
        value: impl Fn(&'static Entry) -> Option<(&'static Entry, Value)>,
    ) -> Self {
        Self(kind.entries().filter_map(value).map(|(entry, value)| (entry.name, value)).collect())
    }

    /// These values, but for what `overrides` say.
    pub(super) fn overridden(&self, kind: Kind, overrides: &Overrides) -> Self {
        let mut values = self.0.clone();
        for (name, text) in overrides {
            if let Some(entry) = find(kind, name)
                && let Some(value) = parse(entry, text)
            {
                values.insert(entry.name, value);
            }
        }
        Self(values)
    }

    /// The number of that name, if it has a value.
    pub(super) fn number_of(&self, name: &str) -> Option<i64> {
        match self.0.get(name) {
            Some(Value::Number(number)) => Some(*number),
            _ => None,
        }
    }

    // The following are for entries that have a default. That a name is wrong shows in the tests:
    // they compare every field with its default, and none is zero, empty or false by chance.

    pub(super) fn number(&self, name: &str) -> i64 {
        self.number_of(name).unwrap_or_default()
    }

    pub(super) fn flag(&self, name: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Flag(true)))
    }

    pub(super) fn fraction(&self, name: &str) -> f64 {
        match self.0.get(name) {
            Some(Value::Fraction(fraction)) => *fraction,
            _ => 0.0,
        }
    }

    pub(super) fn text(&self, name: &str) -> &str {
        match self.0.get(name) {
            Some(Value::Text(text)) => text,
            _ => "",
        }
    }

    /// The first item of a list.
    pub(super) fn first_item(&self, name: &str) -> Option<&str> {
        match self.0.get(name) {
            Some(Value::Items(items)) => items.first().map(String::as_str),
            _ => None,
        }
    }

    /// The items of a list.
    pub(super) fn items(&self, name: &str) -> &[String] {
        match self.0.get(name) {
            Some(Value::Items(items)) => items,
            _ => &[],
        }
    }

    pub(super) fn has_item(&self, name: &str, item: &str) -> bool {
        matches!(self.0.get(name), Some(Value::Items(items)) if items.iter().any(|one| one == item))
    }
}
