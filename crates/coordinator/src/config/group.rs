//! What the configs of groups come to, on the broker and on single groups.

use super::error::ConfigError;
use super::layers::Values;
use super::value::{Value, parse};
use super::{Kind, Overrides, find};
use crate::group::{
    Assignor, Bounded, ConsumerSettings, GroupOverrides, Migration, StreamsOverrides,
    StreamsSettings,
};

/// What holds for all consumer groups.
pub(super) fn consumer_settings(values: &Values) -> ConsumerSettings {
    let bounded = |of: &str| bounded(values, "consumer", of);
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

/// What holds for all streams groups.
pub(super) fn streams_settings(values: &Values) -> StreamsSettings {
    let bounded = |of: &str| bounded(values, "streams", of);
    StreamsSettings {
        served: values.has_item("group.coordinator.rebalance.protocols", "streams"),
        session_timeout: bounded("session.timeout"),
        heartbeat_interval: bounded("heartbeat.interval"),
        assignment_interval: bounded("assignment.interval"),
        initial_rebalance_delay_ms: int(values, "group.streams.initial.rebalance.delay.ms"),
        standby_replicas: Bounded {
            default: int(values, "group.streams.num.standby.replicas"),
            min: 0,
            max: int(values, "group.streams.max.standby.replicas"),
        },
        members_max: super::topic::size(values.number("group.streams.max.size")),
    }
}

fn int(values: &Values, name: &str) -> i32 {
    i32::try_from(values.number(name)).unwrap_or(i32::MAX)
}

/// A time that groups of a kind may set within bounds.
fn bounded(values: &Values, kind: &str, of: &str) -> Bounded {
    Bounded {
        default: int(values, &format!("group.{kind}.{of}.ms")),
        min: int(values, &format!("group.{kind}.min.{of}.ms")),
        max: int(values, &format!("group.{kind}.max.{of}.ms")),
    }
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
            streams: StreamsOverrides {
                session_timeout_ms: number("streams.session.timeout.ms"),
                heartbeat_interval_ms: number("streams.heartbeat.interval.ms"),
                assignment_interval_ms: number("streams.assignment.interval.ms"),
                initial_rebalance_delay_ms: number("streams.initial.rebalance.delay.ms"),
                standby_replicas: number("streams.num.standby.replicas"),
            },
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
pub fn check_group(
    overrides: &Overrides,
    consumer: &ConsumerSettings,
    streams: &StreamsSettings,
) -> Result<(), ConfigError> {
    for (name, bounds, min, max) in bounds(consumer, streams) {
        let Some(value) = number(overrides, name) else { continue };
        agree((min, i64::from(bounds.min)), (name, value))?;
        agree((name, value), (max, i64::from(bounds.max)))?;
    }
    let intervals = [
        (
            "consumer.heartbeat.interval.ms",
            "consumer.session.timeout.ms",
            consumer.session_timeout.default,
        ),
        (
            "streams.heartbeat.interval.ms",
            "streams.session.timeout.ms",
            streams.session_timeout.default,
        ),
    ];
    for (interval, session, default) in intervals {
        let end = number(overrides, session).unwrap_or(i64::from(default));
        if let Some(each) = number(overrides, interval) {
            agree((interval, each), (session, end))?;
        }
    }
    Ok(())
}

/// A config of a group, its bounds, and the broker's configs that set them.
type Bound = (&'static str, Bounded, &'static str, &'static str);

fn bounds(consumer: &ConsumerSettings, streams: &StreamsSettings) -> [Bound; 7] {
    [
        (
            "consumer.session.timeout.ms",
            consumer.session_timeout,
            "group.consumer.min.session.timeout.ms",
            "group.consumer.max.session.timeout.ms",
        ),
        (
            "consumer.heartbeat.interval.ms",
            consumer.heartbeat_interval,
            "group.consumer.min.heartbeat.interval.ms",
            "group.consumer.max.heartbeat.interval.ms",
        ),
        (
            "consumer.assignment.interval.ms",
            consumer.assignment_interval,
            "group.consumer.min.assignment.interval.ms",
            "group.consumer.max.assignment.interval.ms",
        ),
        (
            "streams.session.timeout.ms",
            streams.session_timeout,
            "group.streams.min.session.timeout.ms",
            "group.streams.max.session.timeout.ms",
        ),
        (
            "streams.heartbeat.interval.ms",
            streams.heartbeat_interval,
            "group.streams.min.heartbeat.interval.ms",
            "group.streams.max.heartbeat.interval.ms",
        ),
        (
            "streams.assignment.interval.ms",
            streams.assignment_interval,
            "group.streams.min.assignment.interval.ms",
            "group.streams.max.assignment.interval.ms",
        ),
        (
            "streams.num.standby.replicas",
            streams.standby_replicas,
            // No broker's config sets the least, and 0 is the least that any may be.
            "streams.num.standby.replicas",
            "group.streams.max.standby.replicas",
        ),
    ]
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
