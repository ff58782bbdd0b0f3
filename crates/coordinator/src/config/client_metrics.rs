//! What a subscription to client metrics comes to.

use std::time::Duration;

use super::value::{Value, parse};
use super::{Kind, Overrides, find};

/// A subscription's configs, read once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSubscription {
    /// Prefixes of the names of metrics, or `*` (`metrics`).
    pub metrics: Vec<String>,
    /// How often they are pushed (`interval.ms`).
    pub interval: Duration,
    /// What a client is selected by, and the pattern that it has to match (`match`).
    pub selectors: Vec<(String, String)>,
}

impl ClientSubscription {
    /// How often clients push, or ask again, to whom no subscription says otherwise.
    pub const INTERVAL: Duration = Duration::from_secs(300);

    /// What is set; `None` when it can't be read, which is checked before it is stored.
    #[must_use]
    pub fn resolve(overrides: &Overrides) -> Option<Self> {
        let value = |name: &str| {
            let entry = find(Kind::ClientMetrics, name)?;
            parse(entry, overrides.get(name).map(String::as_str).or(entry.default)?)
        };
        let items = |name: &str| match value(name)? {
            Value::Items(items) => Some(items),
            _ => None,
        };
        let interval = match value("interval.ms")? {
            Value::Number(ms) => Duration::from_millis(u64::try_from(ms).ok()?),
            _ => return None,
        };
        let selector = |item: String| {
            let (name, pattern) = item.split_once('=')?;
            Some((name.trim().to_owned(), pattern.trim().to_owned()))
        };
        Some(Self {
            metrics: items("metrics")?,
            interval,
            selectors: items("match")?.into_iter().map(selector).collect::<Option<_>>()?,
        })
    }
}
