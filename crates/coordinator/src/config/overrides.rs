//! What has been set: checked, changed, replaced.

use std::collections::BTreeSet;

use super::entry::{ConfigType, Effect, Entry, Update};
use super::value::{Value, parse, split, users};
use super::{ConfigError, Kind, Overrides, VALUE_LEN_MAX, find, lookup};

/// One change of one config, as IncrementalAlterConfigs sends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The config.
    pub name: String,
    /// What happens to it.
    pub op: Op,
}

/// What happens to a config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// It gets this value.
    Set(String),
    /// It is no longer set. One that isn't set, or isn't known, is none the worse for it.
    Delete,
    /// These items are added to the list, but for those that it has.
    Append(String),
    /// These items are taken from the list, where it has them.
    Subtract(String),
}

/// Pairs of configs of which the first may not exceed the second.
const ORDERED: &[(Kind, &str, &str)] = &[
    (Kind::Topic, "min.compaction.lag.ms", "max.compaction.lag.ms"),
    (Kind::Broker, "log.cleaner.min.compaction.lag.ms", "log.cleaner.max.compaction.lag.ms"),
    (Kind::Broker, "group.min.session.timeout.ms", "group.max.session.timeout.ms"),
];

/// Whether config `name` takes `value`.
///
/// # Errors
///
/// [`ConfigError::Unknown`], [`ConfigError::TooLong`] or [`ConfigError::Invalid`].
pub fn validate(kind: Kind, name: &str, value: &str) -> Result<(), ConfigError> {
    check(kind, lookup(kind, name)?, value)
}

/// Whether `overrides` can be set together, as for a new topic.
///
/// # Errors
///
/// As [`validate`], and [`ConfigError::Conflict`] when two contradict each other.
pub fn validate_all(kind: Kind, overrides: &Overrides) -> Result<(), ConfigError> {
    for (name, value) in overrides {
        validate(kind, name, value)?;
    }
    agree(kind, overrides)
}

/// Whether a broker can be started with `overrides`.
///
/// # Errors
///
/// As [`validate_all`], [`ConfigError::Reported`] for what is not to be set in this way, and
/// [`ConfigError::NoSuperUsers`].
pub fn validate_start(overrides: &Overrides) -> Result<(), ConfigError> {
    validate_all(Kind::Broker, overrides)?;
    for entry in overrides.keys().filter_map(|name| find(Kind::Broker, name)) {
        if let Effect::Reported(by) = entry.effect {
            return Err(ConfigError::Reported { name: entry.name, by });
        }
    }
    let is_set = |name: &str| overrides.get(name).is_some_and(|value| !value.is_empty());
    let super_users = overrides.get("super.users").and_then(|value| users(value));
    if is_set("authorizer.class.name") && super_users.unwrap_or_default().is_empty() {
        return Err(ConfigError::NoSuperUsers);
    }
    Ok(())
}

/// `current` after `changes`: all of them, or an error.
///
/// Adding to a list, or taking from it, where nothing was set starts from its default.
///
/// # Errors
///
/// As [`validate_all`] for what has changed; [`ConfigError::NotAList`], [`ConfigError::Duplicate`];
/// [`ConfigError::ReadOnly`] and [`ConfigError::Reported`] for brokers.
pub fn apply(
    kind: Kind,
    current: &Overrides,
    changes: &[Change],
) -> Result<Overrides, ConfigError> {
    let mut after = current.clone();
    let mut seen = BTreeSet::new();
    for Change { name, op } in changes {
        if !seen.insert(name) {
            return Err(ConfigError::duplicate(name));
        }
        let value = match op {
            Op::Delete => {
                after.remove(name);
                continue;
            }
            Op::Set(value) => value.clone(),
            Op::Append(items) => {
                let (mut list, items) = lists(kind, current, name, items)?;
                let mut had: BTreeSet<_> = list.iter().cloned().collect();
                list.extend(items.into_iter().filter(|item| had.insert(item.clone())));
                list.join(",")
            }
            Op::Subtract(items) => {
                let (mut list, items) = lists(kind, current, name, items)?;
                let gone: BTreeSet<_> = items.into_iter().collect();
                list.retain(|item| !gone.contains(item));
                list.join(",")
            }
        };
        set(kind, &mut after, name, value)?;
    }
    agree(kind, &after)?;
    Ok(after)
}

/// The overrides that AlterConfigs leaves: these, and nothing of what was set before.
///
/// # Errors
///
/// As [`apply`].
pub fn replace(
    kind: Kind,
    values: impl IntoIterator<Item = (String, String)>,
) -> Result<Overrides, ConfigError> {
    let mut after = Overrides::new();
    for (name, value) in values {
        if after.contains_key(&name) {
            return Err(ConfigError::duplicate(&name));
        }
        set(kind, &mut after, &name, value)?;
    }
    agree(kind, &after)?;
    Ok(after)
}

fn set(
    kind: Kind,
    overrides: &mut Overrides,
    name: &str,
    value: String,
) -> Result<(), ConfigError> {
    let entry = lookup(kind, name)?;
    match (entry.effect, entry.update) {
        (Effect::Reported(by), _) => {
            return Err(ConfigError::Reported { name: entry.name, by });
        }
        (_, Update::ReadOnly) => return Err(ConfigError::ReadOnly { name: entry.name }),
        (_, Update::Dynamic) => {}
    }
    check(kind, entry, &value)?;
    overrides.insert(name.to_owned(), value);
    Ok(())
}

fn check(kind: Kind, entry: &Entry, value: &str) -> Result<(), ConfigError> {
    if value.len() > VALUE_LEN_MAX {
        return Err(ConfigError::TooLong { name: entry.name, len: value.len() });
    }
    match parse(entry, value) {
        Some(_) => Ok(()),
        None => Err(ConfigError::invalid(kind, entry, value)),
    }
}

/// The items that `name` has now, and those of `value`.
fn lists(
    kind: Kind,
    current: &Overrides,
    name: &str,
    value: &str,
) -> Result<(Vec<String>, Vec<String>), ConfigError> {
    let entry = lookup(kind, name)?;
    if entry.config_type != ConfigType::List {
        return Err(ConfigError::NotAList { name: entry.name });
    }
    if value.len() > VALUE_LEN_MAX {
        return Err(ConfigError::TooLong { name: entry.name, len: value.len() });
    }
    let now = current.get(name).map_or(entry.default.unwrap_or_default(), String::as_str);
    let mut now = split(now);
    now.retain(|item| !item.is_empty());
    Ok((now, split(value)))
}

fn agree(kind: Kind, overrides: &Overrides) -> Result<(), ConfigError> {
    let number = |name: &str| {
        let entry = find(kind, name)?;
        let text = overrides.get(name).map(String::as_str).or(entry.default)?;
        match parse(entry, text)? {
            Value::Number(number) => Some(number),
            _ => None,
        }
    };
    for &(_, lower, upper) in ORDERED.iter().filter(|(of, ..)| *of == kind) {
        if let (Some(lower_value), Some(upper_value)) = (number(lower), number(upper))
            && lower_value > upper_value
        {
            return Err(ConfigError::Conflict { lower, lower_value, upper, upper_value });
        }
    }
    Ok(())
}
