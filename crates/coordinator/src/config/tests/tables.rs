//! The tables by themselves, and against what Kafka 4.4 says of itself.

use std::collections::BTreeSet;

use super::super::entry::ConfigType;
use super::super::value::parse;
use super::super::{Effect, Entry, Kind, Update, find};

fn all() -> impl Iterator<Item = (Kind, &'static Entry)> {
    Kind::ALL.into_iter().flat_map(|kind| kind.entries().map(move |entry| (kind, entry)))
}

#[test]
fn names_are_unique_among_their_kind() {
    for kind in Kind::ALL {
        let mut seen = BTreeSet::new();
        for entry in kind.entries() {
            assert!(seen.insert(entry.name), "{kind} config {} is there twice", entry.name);
        }
        assert!(!seen.is_empty(), "{kind}");
    }
}

#[test]
fn every_default_passes_its_own_validator_and_is_written_as_it_is_read() {
    for (kind, entry) in all() {
        let Some(default) = entry.default else { continue };
        let value = parse(entry, default);
        let written = value.map(|value| value.to_string());
        // Java and Rust write the largest double in different ways.
        let written =
            written.map(|text| text.replace('e', if default.contains('E') { "E" } else { "e" }));
        assert_eq!(written.as_deref(), Some(default), "{kind} config {}", entry.name);
    }
}

#[test]
fn every_synonym_is_a_broker_config_of_the_same_unit_and_default() {
    for (kind, entry) in all() {
        assert!(kind != Kind::Broker || entry.synonyms.is_empty(), "{}", entry.name);
        let mut defaults = Vec::new();
        for synonym in entry.synonyms {
            let broker = find(Kind::Broker, synonym.name);
            let broker = broker.unwrap_or_else(|| panic!("{}: no {}", entry.name, synonym.name));
            let value = broker.default.and_then(|default| parse(broker, default));
            defaults.extend(value.map(|value| value.scaled(synonym.scale)));
            assert_eq!(entry.effect, broker.effect, "{} and {}", entry.name, broker.name);
        }
        // Both give the same default, so that it doesn't matter who is asked.
        if let Some(first) = defaults.first() {
            let own = entry.default.and_then(|default| parse(entry, default));
            assert_eq!(own.as_ref(), Some(first), "{}", entry.name);
        }
    }
}

#[test]
fn every_sentence_fits_a_table_and_says_why_where_nothing_happens() {
    for (kind, entry) in all() {
        let doc = entry.doc;
        let place = format!("{kind} config {}: {doc}", entry.name);
        assert!(doc.ends_with('.') && !doc.contains(['|', '\n']) && !doc.contains("  "), "{place}");
        assert!((10..=300).contains(&doc.len()), "{place}");
        if entry.effect == Effect::AcceptedOnly {
            let why = doc.contains("Without effect") || doc.contains("without effect");
            assert!(why, "{place}");
        }
        let in_ms = entry.name.ends_with(".ms") && !doc.contains("a group may set");
        assert!(
            !in_ms || doc.contains("milliseconds") || doc.contains("Without effect"),
            "{place}"
        );
    }
}

#[test]
fn resource_types_are_read_as_they_are_written() {
    for kind in Kind::ALL {
        assert_eq!(Kind::from_resource_type(kind.resource_type()), Some(kind));
    }
    for unknown in [-1, 0, 1, 3, 8, 64] {
        assert_eq!(Kind::from_resource_type(unknown), None, "{unknown}");
    }
}

#[test]
fn config_types_have_the_numbers_of_the_protocol() {
    use ConfigType::*;
    let types = [Boolean, String, Int, Short, Long, Double, List, Class, Password];
    let numbers = types.map(|one| one as i8);
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

/// Name, type and default (`-`: none) of every topic config, asked of Apache Kafka 4.4.0's
/// `LogConfig` at run time.
const TOPIC_CONFIGS_OF_KAFKA: &str = "
cleanup.policy list delete
compression.gzip.level int -1
compression.lz4.level int 9
compression.type string producer
compression.zstd.level int 3
delete.retention.ms long 86400000
errors.deadletterqueue.group.enable boolean false
file.delete.delay.ms long 60000
flush.messages long 9223372036854775807
flush.ms long 9223372036854775807
follower.replication.throttled.replicas list ''
index.interval.bytes int 4096
internal.segment.bytes int -
leader.replication.throttled.replicas list ''
local.retention.bytes long -2
local.retention.ms long -2
max.compaction.lag.ms long 9223372036854775807
max.decompressed.message.bytes int 2147483639
max.message.bytes int 1048588
message.timestamp.after.max.ms long 3600000
message.timestamp.before.max.ms long 9223372036854775807
message.timestamp.type string CreateTime
min.cleanable.dirty.ratio double 0.5
min.compaction.lag.ms long 0
min.insync.replicas int 1
preallocate boolean false
remote.copy.lag.bytes long -1
remote.copy.lag.ms long 0
remote.log.copy.disable boolean false
remote.log.delete.on.disable boolean false
remote.storage.enable boolean false
retention.bytes long -1
retention.ms long 604800000
segment.bytes int 1073741824
segment.index.bytes int 10485760
segment.jitter.ms long 0
segment.ms long 604800000
unclean.leader.election.enable boolean false
";

/// The same of a group's configs: 4.4.0's `GroupConfig`.
const GROUP_CONFIGS_OF_KAFKA: &str = "
consumer.assignment.interval.ms int 1000
consumer.assignor.offload.enable boolean true
consumer.heartbeat.interval.ms int 5000
consumer.session.timeout.ms int 45000
errors.deadletterqueue.copy.record.enable boolean false
errors.deadletterqueue.topic.name string ''
share.assignment.interval.ms int 1000
share.assignor.offload.enable boolean true
share.auto.offset.reset string latest
share.delivery.count.limit int 5
share.heartbeat.interval.ms int 5000
share.isolation.level string read_uncommitted
share.partition.max.record.locks int 2000
share.record.lock.duration.ms int 30000
share.renew.acknowledge.enable boolean true
share.session.timeout.ms int 45000
streams.acceptable.recovery.lag long 10000
streams.assignment.interval.ms int 1000
streams.assignor.name string -
streams.assignor.offload.enable boolean true
streams.heartbeat.interval.ms int 5000
streams.initial.rebalance.delay.ms int 3000
streams.num.standby.replicas int 0
streams.num.warmup.replicas int 2
streams.rack.aware.assignment.tags list ''
streams.session.timeout.ms int 45000
streams.task.offset.interval.ms int 60000
";

/// What Apache Kafka 4.3.1 lets a running broker change, as its DescribeConfigs tells it, but for what
/// needs TLS, SASL or Java classes (`ssl.*`, `sasl.*`, `listeners` and their protocols, reporters, providers
/// and builders of principals).
const DYNAMIC_CONFIGS_OF_KAFKA: &str = "
background.threads int 10
compression.gzip.level int -1
compression.lz4.level int 9
compression.type string producer
compression.zstd.level int 3
cordoned.log.dirs list ''
follower.fetch.last.tiered.offset.enable boolean false
group.consumer.assignment.interval.ms int 1000
group.coordinator.cached.buffer.max.bytes int 1048588
group.share.assignment.interval.ms int 1000
group.streams.assignment.interval.ms int 1000
log.cleaner.backoff.ms long 15000
log.cleaner.dedupe.buffer.size long 134217728
log.cleaner.delete.retention.ms long 86400000
log.cleaner.io.buffer.load.factor double 0.9
log.cleaner.io.buffer.size int 524288
log.cleaner.io.max.bytes.per.second double 1.7976931348623157E308
log.cleaner.max.compaction.lag.ms long 9223372036854775807
log.cleaner.min.cleanable.ratio double 0.5
log.cleaner.min.compaction.lag.ms long 0
log.cleaner.threads int 1
log.cleanup.policy list delete
log.flush.interval.messages long 9223372036854775807
log.flush.interval.ms long -
log.index.interval.bytes int 4096
log.index.size.max.bytes int 10485760
log.local.retention.bytes long -2
log.local.retention.ms long -2
log.message.timestamp.after.max.ms long 3600000
log.message.timestamp.before.max.ms long 9223372036854775807
log.message.timestamp.type string CreateTime
log.preallocate boolean false
log.retention.bytes long -1
log.retention.ms long -
log.roll.jitter.ms long -
log.roll.ms long -
log.segment.bytes int 1073741824
log.segment.delete.delay.ms long 60000
max.connection.creation.rate int 2147483647
max.connections int 2147483647
max.connections.per.ip int 2147483647
max.connections.per.ip.overrides string ''
message.max.bytes int 1048588
min.insync.replicas int 1
num.io.threads int 8
num.network.threads int 3
num.recovery.threads.per.data.dir int 2
num.replica.fetchers int 1
producer.id.expiration.ms int 86400000
remote.fetch.max.wait.ms int 500
remote.list.offsets.request.timeout.ms long 30000
remote.log.index.file.cache.total.size.bytes long 1073741824
remote.log.manager.copier.thread.pool.size int 10
remote.log.manager.copy.max.bytes.per.second long 9223372036854775807
remote.log.manager.expiration.thread.pool.size int 10
remote.log.manager.fetch.max.bytes.per.second long 9223372036854775807
remote.log.manager.follower.thread.pool.size int 2
remote.log.reader.threads int 10
share.coordinator.cached.buffer.max.bytes int 1048588
transaction.partition.verification.enable boolean true
unclean.leader.election.enable boolean false
";

/// What a running broker may change here besides: configs of Kafka 4.4, those that Kafka takes without
/// listing them, and ours.
const DYNAMIC_CONFIGS_BESIDES: &[&str] = &[
    "errors.deadletterqueue.auto.create.topics.enable",
    "errors.deadletterqueue.topic.name.prefix",
    "follower.replication.throttled.rate",
    "leader.replication.throttled.rate",
    "log.remote.copy.lag.bytes",
    "log.remote.copy.lag.ms",
    "max.decompressed.message.bytes",
    "metric.reporters",
    "millstream.partitions.max",
    "record.validation",
    "replica.alter.log.dirs.io.max.bytes.per.second",
    "sasl.kerberos.min.time.before.relogin",
];

#[test]
fn brokers_change_while_they_run_what_kafkas_do() {
    let dynamic = Kind::Broker.entries().filter(|entry| entry.update == Update::Dynamic);
    let besides = |entry: &&Entry| !DYNAMIC_CONFIGS_BESIDES.contains(&entry.name);
    let mut ours: Vec<_> = dynamic.filter(besides).map(line).collect();
    ours.sort();
    assert_eq!(ours.join("\n"), DYNAMIC_CONFIGS_OF_KAFKA.trim());
}

/// `name type default`
fn line(entry: &Entry) -> String {
    let default = match entry.default {
        None => "-",
        Some("") => "''",
        Some(default) => default,
    };
    format!("{} {} {default}", entry.name, entry.config_type.word())
}

#[test]
fn topics_and_groups_have_every_config_that_kafka_has() {
    #[track_caller]
    fn check(kind: Kind, expected: &str) {
        let mut ours: Vec<_> = kind.entries().map(line).collect();
        ours.sort();
        assert_eq!(ours.join("\n"), expected.trim());
    }
    check(Kind::Topic, TOPIC_CONFIGS_OF_KAFKA);
    check(Kind::Group, GROUP_CONFIGS_OF_KAFKA);
}
