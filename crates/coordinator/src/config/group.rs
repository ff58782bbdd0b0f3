//! What the configs of groups come to, on the broker and on single groups.

use super::error::ConfigError;
use super::layers::Values;
use super::value::{Value, parse};
use super::{Kind, Overrides, find};
use crate::group::{Assignor, Bounded, ConsumerSettings, GroupOverrides, Migration};

/// What holds for all consumer groups.
pub(super) fn consumer_settings(values: &Values) -> ConsumerSettings {
    let int = |name: &str| i32::try_from(values.number(name)).unwrap_or(i32::MAX);
    let bounded = |of: &str| Bounded {
        default: int(&format!("group.consumer.{of}.ms")),
        min: int(&format!("group.consumer.min.{of}.ms")),
        max: int(&format!("group.consumer.max.{of}.ms")),
    };
    let policy = values.text("group.consumer.migration.policy").to_ascii_lowercase();
    let assignors: Vec<_> = [Assignor::Uniform, Assignor::Range]
        .into_iter()
        .filter(|known| values.has_item("group.consumer.assignors", known.name()))
        .collect();
    let first = values.first_item("group.consumer.assignors").and_then(Assignor::named);
    let assignors: Vec<_> = first.into_iter().chain(assignors).collect();
    let mut settings = ConsumerSettings::default().with_assignors(&assignors);
    settings.served = values.has_item("group.coordinator.rebalance.protocols", "consumer");
    settings.session_timeout = bounded("session.timeout");
    settings.heartbeat_interval = bounded("heartbeat.interval");
    settings.assignment_interval = bounded("assignment.interval");
    settings.members_max = super::topic::size(values.number("group.consumer.max.size"));
    settings.migration = Migration {
        upgrade: matches!(&*policy, "bidirectional" | "upgrade"),
        downgrade: matches!(&*policy, "bidirectional" | "downgrade"),
    };
    settings
}

impl GroupOverrides {
    /// What is set on a group, as far as this release knows and allows it.
    #[must_use]
    pub fn resolve(overrides: &Overrides) -> Self {
        let number = |name| number(overrides, name).and_then(|ms| i32::try_from(ms).ok());
        Self {
            session_timeout_ms: number("consumer.session.timeout.ms"),
            heartbeat_interval_ms: number("consumer.heartbeat.interval.ms"),
            assignment_interval_ms: number("consumer.assignment.interval.ms"),
        }
    }
}

fn number(overrides: &Overrides, name: &str) -> Option<i64> {
    match parse(find(Kind::Group, name)?, overrides.get(name)?)? {
        Value::Number(number) => Some(number),
        _ => None,
    }
}

/// Whether what is set on a group lies within the broker's bounds.
///
/// # Errors
///
/// [`ConfigError::Conflict`] names the bound.
pub fn check_group(overrides: &Overrides, broker: &ConsumerSettings) -> Result<(), ConfigError> {
    let bounded = [
        (
            "consumer.session.timeout.ms",
            broker.session_timeout,
            "group.consumer.min.session.timeout.ms",
            "group.consumer.max.session.timeout.ms",
        ),
        (
            "consumer.heartbeat.interval.ms",
            broker.heartbeat_interval,
            "group.consumer.min.heartbeat.interval.ms",
            "group.consumer.max.heartbeat.interval.ms",
        ),
        (
            "consumer.assignment.interval.ms",
            broker.assignment_interval,
            "group.consumer.min.assignment.interval.ms",
            "group.consumer.max.assignment.interval.ms",
        ),
    ];
    for (name, bounds, min, max) in bounded {
        let Some(value) = number(overrides, name) else { continue };
        agree((min, i64::from(bounds.min)), (name, value))?;
        agree((name, value), (max, i64::from(bounds.max)))?;
    }
    let session = number(overrides, "consumer.session.timeout.ms");
    let session = session.unwrap_or(i64::from(broker.session_timeout.default));
    match number(overrides, "consumer.heartbeat.interval.ms") {
        None => Ok(()),
        Some(interval) => agree(
            ("consumer.heartbeat.interval.ms", interval),
            ("consumer.session.timeout.ms", session),
        ),
    }
}

fn agree(lower: (&'static str, i64), upper: (&'static str, i64)) -> Result<(), ConfigError> {
    if lower.1 <= upper.1 {
        return Ok(());
    }
    Err(ConfigError::Conflict {
        lower: lower.0,
        lower_value: lower.1,
        upper: upper.0,
        upper_value: upper.1,
    })
}
