//! What is set for groups, on the broker and on single groups.

use super::super::{BrokerConfig, ConfigError, check_group};
use super::{overrides, started};
use crate::group::{
    Assignor, Bounded, GroupOverrides, Migration, StreamsOverrides, StreamsSettings,
};

fn of_broker(values: &[(&str, &str)]) -> crate::group::ConsumerSettings {
    BrokerConfig::resolve(&started(values)).consumer_groups
}

#[test]
fn a_broker_sets_what_holds_for_consumer_groups() {
    let set = of_broker(&[
        ("group.coordinator.rebalance.protocols", "classic"),
        ("group.consumer.session.timeout.ms", "7"),
        ("group.consumer.min.session.timeout.ms", "5"),
        ("group.consumer.max.session.timeout.ms", "9"),
        ("group.consumer.heartbeat.interval.ms", "2"),
        ("group.consumer.assignment.interval.ms", "3"),
        ("group.consumer.max.size", "4"),
        ("group.consumer.assignors", "range,uniform"),
        ("group.consumer.migration.policy", "UPGRADE"),
    ]);
    assert!(!set.served);
    assert_eq!(set.session_timeout, Bounded { default: 7, min: 5, max: 9 });
    assert_eq!(set.heartbeat_interval.default, 2);
    assert_eq!(set.assignment_interval.default, 3);
    assert_eq!(set.members_max, 4);
    assert_eq!(set.assignors(), [Assignor::Range, Assignor::Uniform]);
    assert_eq!(set.migration, Migration { upgrade: true, downgrade: false });
    let one = of_broker(&[("group.consumer.assignors", "range")]);
    assert_eq!(one.assignors(), [Assignor::Range]);
    for (policy, upgrade, downgrade) in
        [("disabled", false, false), ("downgrade", false, true), ("Bidirectional", true, true)]
    {
        let set = of_broker(&[("group.consumer.migration.policy", policy)]);
        assert_eq!(set.migration, Migration { upgrade, downgrade }, "{policy}");
    }
}

#[test]
fn a_broker_sets_what_holds_for_streams_groups() {
    let set = BrokerConfig::resolve(&started(&[
        ("group.coordinator.rebalance.protocols", "classic,consumer"),
        ("group.streams.session.timeout.ms", "7"),
        ("group.streams.min.session.timeout.ms", "5"),
        ("group.streams.max.session.timeout.ms", "9"),
        ("group.streams.heartbeat.interval.ms", "2"),
        ("group.streams.assignment.interval.ms", "3"),
        ("group.streams.initial.rebalance.delay.ms", "8"),
        ("group.streams.num.standby.replicas", "1"),
        ("group.streams.max.standby.replicas", "4"),
        ("group.streams.max.size", "6"),
    ]));
    let expected = StreamsSettings {
        served: false,
        session_timeout: Bounded { default: 7, min: 5, max: 9 },
        heartbeat_interval: Bounded { default: 2, min: 5_000, max: 15_000 },
        assignment_interval: Bounded { default: 3, min: 0, max: 15_000 },
        initial_rebalance_delay_ms: 8,
        standby_replicas: Bounded { default: 1, min: 0, max: 4 },
        members_max: 6,
    };
    assert_eq!(set.streams_groups, expected);
}

/// What is set on a group, and which two settings it makes contradict each other.
type Case<'a> = (&'a [(&'a str, &'a str)], Option<(&'a str, &'a str)>);

#[test]
fn a_group_stays_within_the_brokers_bounds() {
    let broker = of_broker(&[]);
    let streams = StreamsSettings::default();
    let cases: &[Case<'_>] = &[
        (&[], None),
        (&[("consumer.session.timeout.ms", "45000")], None),
        (&[("consumer.session.timeout.ms", "60000")], None),
        (
            &[("consumer.session.timeout.ms", "44999")],
            Some(("group.consumer.min.session.timeout.ms", "consumer.session.timeout.ms")),
        ),
        (
            &[("consumer.session.timeout.ms", "60001")],
            Some(("consumer.session.timeout.ms", "group.consumer.max.session.timeout.ms")),
        ),
        (
            &[("consumer.heartbeat.interval.ms", "1")],
            Some(("group.consumer.min.heartbeat.interval.ms", "consumer.heartbeat.interval.ms")),
        ),
        (&[("consumer.assignment.interval.ms", "0")], None),
        (
            &[("consumer.assignment.interval.ms", "15001")],
            Some(("consumer.assignment.interval.ms", "group.consumer.max.assignment.interval.ms")),
        ),
        (&[("streams.session.timeout.ms", "45000"), ("streams.num.standby.replicas", "2")], None),
        (
            &[("streams.session.timeout.ms", "44999")],
            Some(("group.streams.min.session.timeout.ms", "streams.session.timeout.ms")),
        ),
        (
            &[("streams.heartbeat.interval.ms", "15001")],
            Some(("streams.heartbeat.interval.ms", "group.streams.max.heartbeat.interval.ms")),
        ),
        (
            &[("streams.num.standby.replicas", "3")],
            Some(("streams.num.standby.replicas", "group.streams.max.standby.replicas")),
        ),
    ];
    for (set, expected) in cases {
        let checked = check_group(&overrides(set), &broker, &streams);
        let refused = checked.err().map(|error| match error {
            ConfigError::Conflict { lower, upper, .. } => (lower, upper),
            other => panic!("{other}"),
        });
        assert_eq!(refused, *expected, "{set:?}");
    }
    let set = overrides(&[("consumer.session.timeout.ms", "50000")]);
    let expected = GroupOverrides { session_timeout_ms: Some(50_000), ..GroupOverrides::default() };
    assert_eq!(GroupOverrides::resolve(&set), expected);
    let set = overrides(&[
        ("streams.session.timeout.ms", "50000"),
        ("streams.heartbeat.interval.ms", "6000"),
        ("streams.assignment.interval.ms", "7"),
        ("streams.initial.rebalance.delay.ms", "8"),
        ("streams.num.standby.replicas", "1"),
    ]);
    let streams = StreamsOverrides {
        session_timeout_ms: Some(50_000),
        heartbeat_interval_ms: Some(6_000),
        assignment_interval_ms: Some(7),
        initial_rebalance_delay_ms: Some(8),
        standby_replicas: Some(1),
    };
    let expected = GroupOverrides { streams, ..GroupOverrides::default() };
    assert_eq!(GroupOverrides::resolve(&set), expected);
}
