//! What DescribeConfigs tells.

use super::super::describe::{Described, Target, describe, described};
use super::super::entry::{ConfigType, Entry, string};
use super::super::layers::trail;
use super::super::{BrokerOverrides, ConfigError, Kind, Source};
use super::{overrides, started};

fn one(target: Target<'_>, name: &str) -> Described {
    let mut described = describe(target, Some(&[name]));
    assert_eq!(described.len(), 1, "{name}");
    described.remove(0)
}

/// `value source [name=value source, ...]`
fn line(described: &Described) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or("-".to_owned());
    let synonyms: Vec<_> = described
        .synonyms
        .iter()
        .map(|one| format!("{}={} {:?}", one.name, text(&one.value), one.source))
        .collect();
    format!("{} {:?} [{}]", text(&described.value), described.source, synonyms.join(", "))
}

/// Pitfall 21.
#[test]
fn every_config_is_listed_once_unless_it_is_hidden() {
    #[track_caller]
    fn check(target: Target<'_>) {
        let visible = target.kind().entries().filter(|entry| !entry.hidden);
        let expected: Vec<_> = visible.map(|entry| entry.name).collect();
        for keys in [None, Some(&[] as &[&str])] {
            let names: Vec<_> = describe(target, keys).iter().map(|one| one.name).collect();
            assert_eq!(names, expected);
        }
    }
    let (nothing, broker) = (overrides(&[]), BrokerOverrides::default());
    check(Target::Topic(&nothing, &broker));
    check(Target::Broker(&broker));
    check(Target::Group(&nothing, &broker));
    check(Target::ClientMetrics(&nothing));
}

#[test]
fn hidden_configs_are_listed_once_they_are_set() {
    let set = overrides(&[("internal.segment.bytes", "5")]);
    let broker = BrokerOverrides::default();
    let all = describe(Target::Topic(&set, &broker), None);
    assert!(all.iter().any(|one| one.name == "internal.segment.bytes"));
}

#[test]
fn keys_choose_and_those_that_do_not_exist_are_left_out() {
    let (nothing, broker) = (overrides(&[]), BrokerOverrides::default());
    let keys = ["segment.ms", "no.such.config", "retention.ms"];
    let names: Vec<_> = describe(Target::Topic(&nothing, &broker), Some(&keys))
        .iter()
        .map(|one| one.name)
        .collect();
    assert_eq!(names, ["retention.ms", "segment.ms"]);
}

/// Connect refuses to start unless its topics read exactly so (apache/kafka#8828).
/// Pitfall 21.
#[test]
fn a_compact_topic_reads_compact() {
    let broker = BrokerOverrides::default();
    for stored in ["compact", " compact ", "compact,compact"] {
        let set = overrides(&[("cleanup.policy", stored)]);
        let described = one(Target::Topic(&set, &broker), "cleanup.policy");
        assert_eq!(described.value.as_deref(), Some("compact"), "{stored:?}");
        assert_eq!(described.source, Source::Topic);
        assert_eq!(described.config_type, ConfigType::List);
    }
}

#[test]
fn a_topic_tells_where_its_values_come_from() {
    #[track_caller]
    fn check(set: &[(&str, &str)], broker: &BrokerOverrides, name: &str, expected: &str) {
        let set = overrides(set);
        let described = one(Target::Topic(&set, broker), name);
        assert_eq!(line(&described), expected);
        assert!(!described.read_only && !described.sensitive);
    }
    let plain = BrokerOverrides::default();
    check(
        &[],
        &plain,
        "segment.bytes",
        "1073741824 Default [log.segment.bytes=1073741824 Default]",
    );
    // Of other units' defaults nothing is told, as Kafka does, unless the first name has a value.
    check(&[], &plain, "retention.ms", "604800000 Default []");
    check(&[], &plain, "remote.storage.enable", "false Default []");
    // Set to what the default is, it is still set (redpanda#21360).
    check(
        &[("retention.ms", "604800000")],
        &plain,
        "retention.ms",
        "604800000 Topic [retention.ms=604800000 Topic]",
    );
    let broker = BrokerOverrides {
        start: overrides(&[("log.retention.hours", "5"), ("log.retention.minutes", "7")]),
        cluster: overrides(&[("log.retention.ms", "11")]),
        node: overrides(&[("log.retention.ms", "12")]),
    };
    check(
        &[("retention.ms", "-1")],
        &broker,
        "retention.ms",
        "-1 Topic [retention.ms=-1 Topic, log.retention.ms=12 DynamicBroker, \
         log.retention.ms=11 DynamicDefaultBroker, log.retention.minutes=7 StaticBroker, \
         log.retention.hours=5 StaticBroker, log.retention.hours=168 Default]",
    );
    check(
        &[],
        &started(&[("log.retention.minutes", "7")]),
        "retention.ms",
        "420000 StaticBroker [log.retention.minutes=7 StaticBroker]",
    );
}

#[test]
fn a_broker_tells_where_its_values_come_from() {
    #[track_caller]
    fn check(broker: &BrokerOverrides, name: &str, read_only: bool, expected: &str) {
        let described = one(Target::Broker(broker), name);
        assert_eq!(line(&described), expected);
        assert_eq!(described.read_only, read_only, "{name}");
    }
    let plain = BrokerOverrides::default();
    check(&plain, "num.partitions", true, "1 Default [num.partitions=1 Default]");
    check(&plain, "log.retention.ms", false, "- Default []");
    let broker = BrokerOverrides {
        start: overrides(&[("message.max.bytes", "1"), ("node.id", "7")]),
        cluster: overrides(&[("message.max.bytes", "2")]),
        node: overrides(&[("message.max.bytes", "3")]),
    };
    check(
        &broker,
        "message.max.bytes",
        false,
        "3 DynamicBroker [message.max.bytes=3 DynamicBroker, \
         message.max.bytes=2 DynamicDefaultBroker, message.max.bytes=1 StaticBroker, \
         message.max.bytes=1048588 Default]",
    );
    check(&broker, "node.id", true, "7 StaticBroker [node.id=7 StaticBroker]");
    // What the same thing in other units says comes behind.
    let broker =
        BrokerOverrides { cluster: overrides(&[("log.retention.ms", "9")]), ..plain.clone() };
    check(
        &broker,
        "log.retention.ms",
        false,
        "9 DynamicDefaultBroker [log.retention.ms=9 DynamicDefaultBroker, \
         log.retention.hours=168 Default]",
    );
    check(&broker, "log.retention.hours", true, "168 Default [log.retention.hours=168 Default]");
}

#[test]
fn all_brokers_tell_only_what_was_set_on_them_all() {
    let broker = BrokerOverrides {
        start: overrides(&[("log.segment.bytes", "1048576")]),
        cluster: overrides(&[("message.max.bytes", "2")]),
        node: overrides(&[("message.max.bytes", "3")]),
    };
    let described = describe(Target::Brokers(&broker), None);
    let lines: Vec<_> = described.iter().map(line).collect();
    let expected = "2 DynamicDefaultBroker [message.max.bytes=2 DynamicDefaultBroker]";
    assert_eq!(lines, [expected]);
}

#[test]
fn groups_and_client_metrics_tell_their_own() {
    let broker = BrokerOverrides::default();
    let set = overrides(&[("share.session.timeout.ms", "46000")]);
    let described = one(Target::Group(&set, &broker), "share.session.timeout.ms");
    assert_eq!(
        line(&described),
        "46000 Group [share.session.timeout.ms=46000 Group, \
         group.share.session.timeout.ms=45000 Default]"
    );
    // Where no broker config says anything, a group's own default is told.
    let described = one(Target::Group(&set, &broker), "share.auto.offset.reset");
    assert_eq!(line(&described), "latest Default [share.auto.offset.reset=latest Default]");
    let set = overrides(&[("interval.ms", "100")]);
    let described = one(Target::ClientMetrics(&set), "interval.ms");
    assert_eq!(line(&described), "100 ClientMetrics [interval.ms=100 ClientMetrics]");
    let described = one(Target::ClientMetrics(&set), "metrics");
    assert_eq!(line(&described), " Default []");
}

#[test]
fn sources_have_the_numbers_of_the_protocol() {
    use Source::*;
    let sources =
        [Topic, DynamicBroker, DynamicDefaultBroker, StaticBroker, Default, ClientMetrics, Group];
    assert_eq!(sources.map(|one| one as i8), [1, 2, 3, 4, 5, 7, 8]);
}

#[test]
fn everything_that_is_told_is_documented_and_can_be_set_again() {
    let (nothing, broker) = (overrides(&[]), BrokerOverrides::default());
    let targets = [
        Target::Topic(&nothing, &broker),
        Target::Broker(&broker),
        Target::Group(&nothing, &broker),
        Target::ClientMetrics(&nothing),
    ];
    for target in targets {
        let kind: Kind = target.kind();
        for described in describe(target, None) {
            assert!(!described.documentation.is_empty(), "{kind} {}", described.name);
            // Read, modify, write: the value that was read must be one that is taken.
            if let Some(value) = described.value {
                assert_eq!(super::validate(kind, described.name, &value), Ok(()));
            }
        }
    }
}

/// No table has a secret yet; the first one must not be told by mistake.
#[test]
fn secrets_are_not_told() {
    static SECRET: Entry =
        Entry { config_type: ConfigType::Password, ..string("secret", "s3cr3t") };
    let (set, broker) = (overrides(&[("secret", "0p3n")]), BrokerOverrides::default());
    let trail = trail(&SECRET, (&set, Source::Topic), &broker);
    let told = described(&SECRET, &trail, Target::Topic(&set, &broker)).unwrap();
    assert!(told.sensitive);
    assert_eq!(line(&told), "- Topic [secret=- Topic]");
    let refused = ConfigError::invalid(Kind::Topic, &SECRET, "0p3n");
    assert!(!refused.to_string().contains("0p3n"), "{refused}");
}
