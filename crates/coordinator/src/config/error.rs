//! Why a config was refused, and what was probably meant.

use std::fmt;

use super::entry::Entry;
use super::{Kind, VALUE_LEN_MAX};

/// Why a config was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// There is no such config.
    Unknown {
        /// What it was to be set on.
        kind: Kind,
        /// The name that was asked for.
        name: String,
        /// The config that was probably meant.
        hint: Option<&'static str>,
    },
    /// The config doesn't take that value.
    Invalid {
        /// What it was to be set on.
        kind: Kind,
        /// The config.
        name: &'static str,
        /// The value; not where the config is a secret.
        value: Option<String>,
        /// What it takes, in words.
        expects: String,
    },
    /// The value is longer than [`VALUE_LEN_MAX`].
    TooLong {
        /// The config.
        name: &'static str,
        /// How long the value is, in bytes.
        len: usize,
    },
    /// Items can be added to lists and taken from them, not from other values.
    NotAList {
        /// The config.
        name: &'static str,
    },
    /// A config is to be set, and there is no value to set it to.
    Null {
        /// The config.
        name: String,
    },
    /// One request changes the config twice.
    Duplicate {
        /// The config.
        name: String,
    },
    /// The config can be set only when the broker starts.
    ReadOnly {
        /// The config.
        name: &'static str,
    },
    /// The config tells of the broker; something else decides it.
    Reported {
        /// The config.
        name: &'static str,
        /// What decides.
        by: &'static str,
    },
    /// Requests are to need rights, and nobody could give any.
    NoSuperUsers,
    /// Two values contradict each other.
    Conflict {
        /// The config that may not be larger.
        lower: &'static str,
        /// Its value.
        lower_value: i64,
        /// The config that bounds it.
        upper: &'static str,
        /// Its value.
        upper_value: i64,
    },
}

/// Names and values from outside are cut to so many characters in messages.
const QUOTE_LEN_MAX: usize = 100;

/// Longer names get no hint: it would cost more than it helps.
const HINT_LEN_MAX: usize = 100;

impl ConfigError {
    pub(super) fn unknown(kind: Kind, name: &str) -> Self {
        Self::Unknown { kind, name: cut(name), hint: hint(kind, name) }
    }

    /// For a config `name` that is to be set to nothing.
    #[must_use]
    pub fn null(name: &str) -> Self {
        Self::Null { name: cut(name) }
    }

    pub(super) fn duplicate(name: &str) -> Self {
        Self::Duplicate { name: cut(name) }
    }

    pub(super) fn invalid(kind: Kind, entry: &Entry, value: &str) -> Self {
        let value = (!entry.sensitive()).then(|| cut(value));
        Self::Invalid { kind, name: entry.name, value, expects: entry.expects() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown { kind, name, hint } => {
                write!(f, "unknown {kind} config `{name}`")?;
                hint.map_or(Ok(()), |hint| write!(f, "; did you mean `{hint}`?"))
            }
            Self::Invalid { kind, name, value, expects } => match value {
                Some(value) => {
                    write!(f, "{kind} config `{name}` can't be `{value}`: it takes {expects}")
                }
                None => write!(f, "{kind} config `{name}` can't be that: it takes {expects}"),
            },
            Self::TooLong { name, len } => {
                write!(f, "the value of `{name}` has {len} bytes, {VALUE_LEN_MAX} are the most")
            }
            Self::NotAList { name } => {
                write!(f, "`{name}` is not a list: set it, nothing can be added or taken away")
            }
            Self::Null { name } => write!(f, "`{name}` needs a value"),
            Self::Duplicate { name } => write!(f, "`{name}` is changed twice in one request"),
            Self::ReadOnly { name } => write!(
                f,
                "broker config `{name}` can't be changed while the broker runs: start it with \
                 `--set {name}=...`"
            ),
            Self::Reported { name, by } => {
                write!(f, "broker config `{name}` can't be set: {by} decides it")
            }
            Self::NoSuperUsers => f.write_str(
                "`authorizer.class.name` is set and `super.users` is not: nobody could do anything, nor \
                 allow anything to anybody. Name at least one user who may do everything, such as \
                 `--set super.users=User:admin`",
            ),
            Self::Conflict { lower, lower_value, upper, upper_value } => {
                write!(f, "`{lower}` ({lower_value}) may not exceed `{upper}` ({upper_value})")
            }
        }
    }
}

impl std::error::Error for ConfigError {}

fn cut(text: &str) -> String {
    match text.char_indices().nth(QUOTE_LEN_MAX) {
        Some((at, _)) => format!("{}...", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

/// The config of `kind` that somebody who wrote `name` probably meant.
fn hint(kind: Kind, name: &str) -> Option<&'static str> {
    if name.len() > HINT_LEN_MAX {
        return None;
    }
    let name: String = name
        .trim()
        .chars()
        .map(|c| if matches!(c, '_' | '-' | ' ') { '.' } else { c.to_ascii_lowercase() })
        .collect();
    other_level(kind, &name).or_else(|| by_part(kind, &name)).or_else(|| by_distance(kind, &name))
}

/// The same thing on the other level: a topic's config for a broker's, or the other way round.
fn other_level(kind: Kind, name: &str) -> Option<&'static str> {
    let gives = |entry: &&Entry| entry.synonyms.iter().any(|synonym| synonym.name == name);
    match kind {
        Kind::Topic | Kind::Group => kind.entries().find(gives).map(|entry| entry.name),
        Kind::Broker => [Kind::Topic, Kind::Group]
            .into_iter()
            .flat_map(Kind::entries)
            .find(|entry| entry.name == name)
            .and_then(|entry| entry.synonyms.first())
            .map(|synonym| synonym.name),
        Kind::ClientMetrics => None,
    }
}

/// The shortest name that begins or ends with what was written.
fn by_part(kind: Kind, name: &str) -> Option<&'static str> {
    let has_part = |entry: &&Entry| {
        let begins = entry.name.strip_prefix(name).is_some_and(|rest| rest.starts_with('.'));
        let ends = entry.name.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'));
        begins || ends
    };
    kind.entries()
        .filter(|entry| !entry.hidden)
        .filter(has_part)
        .map(|entry| entry.name)
        .min_by_key(|candidate| candidate.len())
}

/// The nearest name, if it is near: one slip in four letters, and two in any case.
fn by_distance(kind: Kind, name: &str) -> Option<&'static str> {
    let near = (name.len() / 4).max(2);
    kind.entries()
        .filter(|entry| !entry.hidden && entry.name.len().abs_diff(name.len()) <= near)
        .map(|entry| (distance(name, entry.name), entry.name))
        .filter(|(distance, _)| *distance <= near)
        .min()
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, taken out, replaced or swapped with their neighbour.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    let mut last = None;
    for (i, letter) in from.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, &other) in to.iter().enumerate() {
            let replace = row[j] + usize::from(letter != other);
            let mut best = replace.min(row[j + 1] + 1).min(next[j] + 1);
            if j > 0 && last == Some(other) && to[j - 1] == letter {
                best = best.min(before[j - 1] + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut row, next);
        last = Some(letter);
    }
    row.last().copied().unwrap_or_default()
}
