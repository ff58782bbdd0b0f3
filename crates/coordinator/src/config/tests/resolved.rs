//! The typed configurations.

use crate::audit::Level;
use crate::group::{ConsumerSettings, StreamsSettings};
use crate::txn::TxnSettings;
use std::collections::BTreeMap;
use std::time::Duration;

use millstream_auth::{Hash, Mechanism, TokenKey};
use millstream_record::{Compression, TimestampType};

use super::super::{
    AuthorizerConfig, BrokerConfig, BrokerOverrides, DelegationConfig, Durability, Kind,
    TelemetryConfig, TopicConfig,
};
use super::{overrides, started};

const WEEK: Duration = Duration::from_hours(168);

#[test]
fn the_defaults_of_a_topic() {
    let expected = TopicConfig {
        deletes: true,
        compacts: false,
        retention: Some(WEEK),
        retention_bytes: None,
        segment_bytes: 1 << 30,
        segment_age: WEEK,
        message_bytes_max: 1_048_588,
        decompressed_bytes_max: 100 << 20,
        timestamp_type: TimestampType::CreateTime,
        timestamp_before_max: None,
        timestamp_after_max: Some(Duration::from_hours(1)),
        compression: None,
        compression_level: None,
        delete_retention: Duration::from_hours(24),
        compaction_lag_min: Duration::ZERO,
        compaction_lag_max: None,
        dirty_ratio_min: 0.5,
    };
    assert_eq!(TopicConfig::default(), expected);
}

#[test]
fn the_defaults_of_a_broker() {
    let expected = BrokerConfig {
        num_partitions: 1,
        default_replication_factor: 1,
        auto_create_topics: true,
        delete_topics: true,
        message_bytes_max: 1_048_588,
        fetch_bytes_max: 57_671_680,
        fetch_session_slots: 1_000,
        request_bytes_max: 104_857_600,
        described_partitions_max: 2_000,
        request_memory_bytes: Some(64 << 20),
        connection_request_bytes: 2 << 20,
        fetch_session_bytes: 32 << 20,
        connection_idle_max: Duration::from_mins(10),
        connections_max: 2_147_483_647,
        connections_per_address_max: 2_147_483_647,
        connections_of_addresses: BTreeMap::new(),
        connection_rate_max: 2_147_483_647,
        offsets_topic_partitions: 50,
        transactions_topic_partitions: 50,
        transactions: TxnSettings::default(),
        offsets_retention: WEEK,
        offsets_expiry_interval: Duration::from_mins(10),
        offset_metadata_max: 4_096,
        group_initial_rebalance_delay: Duration::from_secs(3),
        group_session_timeout_min_ms: 6_000,
        group_session_timeout_max_ms: 1_800_000,
        consumer_groups: ConsumerSettings::default(),
        streams_groups: StreamsSettings::default(),
        group_members_max: 2_147_483_647,
        group_bytes_max: 64 << 20,
        groups_max: 100_000,
        partitions_max: 100_000,
        producer_expiry: Duration::from_hours(24),
        compaction_is_on: true,
        compaction_pause: Duration::from_secs(15),
        compaction_keys_bytes: 134_217_728,
        compaction_rate: None,
        retention_check_interval: Duration::from_mins(5),
        journal_bytes: 1 << 30,
        reserve_bytes: 192 << 20,
        tail_bytes: 64 << 20,
        response_memory_bytes: 64 << 20,
        durability: Durability::Flush,
        full_validation: false,
        authorizer: None,
        quota_burst: Duration::from_secs(10),
        mutation_burst: Duration::from_secs(11),
        sasl_mechanisms: vec![Mechanism::Scram(Hash::Sha256), Mechanism::Scram(Hash::Sha512)],
        connection_strings: false,
        session_lifetime_max: None,
        failed_login_delay: Duration::from_millis(100),
        delegation: DelegationConfig {
            key: None,
            lifetime_max: WEEK,
            renewal: Duration::from_hours(24),
        },
        audit: Level::None,
        telemetry: TelemetryConfig { push_bytes_max: 1 << 20, bytes_max: 16 << 20 },
        data_place: "./millstream-data".to_owned(),
        topic_defaults: BrokerConfig::default().topic_defaults,
    };
    assert_eq!(BrokerConfig::default(), expected);
}

#[test]
fn who_may_do_everything() {
    #[track_caller]
    fn check(set: &[(&str, &str)], expected: Option<(&[&str], bool)>) {
        let expected = expected.map(|(users, allow_if_no_rule)| AuthorizerConfig {
            super_users: users.iter().map(|user| (*user).to_owned()).collect(),
            allow_if_no_rule,
        });
        assert_eq!(BrokerConfig::resolve(&started(set)).authorizer, expected);
    }
    let kafkas = "org.apache.kafka.metadata.authorizer.StandardAuthorizer";
    let ann = ("super.users", "User:ann");
    check(&[ann], None);
    check(&[("authorizer.class.name", kafkas), ann], Some((&["ann"], false)));
    check(
        &[
            ("authorizer.class.name", "standard"),
            ("super.users", "User:CN=ann,O=x; User:bob;"),
            ("allow.everyone.if.no.acl.found", "true"),
        ],
        Some((&["CN=ann,O=x", "bob"], true)),
    );
}

/// Every field of a topic follows its config.
#[test]
fn what_a_topic_sets() {
    #[track_caller]
    fn check(set: &[(&str, &str)], change: impl Fn(&mut TopicConfig)) {
        let mut expected = TopicConfig::default();
        change(&mut expected);
        assert_ne!(expected, TopicConfig::default(), "this shows nothing");
        let config = TopicConfig::resolve(&overrides(set), &BrokerConfig::default());
        assert_eq!(config, expected);
    }
    let ms = |number| Some(Duration::from_millis(number));
    check(&[("cleanup.policy", "compact")], |c| (c.deletes, c.compacts) = (false, true));
    check(&[("cleanup.policy", "compact,delete")], |c| c.compacts = true);
    check(&[("cleanup.policy", "")], |c| c.deletes = false);
    check(&[("retention.ms", "5")], |c| c.retention = ms(5));
    check(&[("retention.ms", "-1")], |c| c.retention = None);
    check(&[("retention.ms", "9223372036854775807")], |c| c.retention = None);
    check(&[("retention.bytes", "0")], |c| c.retention_bytes = Some(0));
    check(&[("segment.bytes", "1048576")], |c| c.segment_bytes = 1 << 20);
    check(&[("internal.segment.bytes", "1"), ("segment.bytes", "1048576")], |c| {
        c.segment_bytes = 1;
    });
    check(&[("segment.ms", "1")], |c| c.segment_age = Duration::from_millis(1));
    check(&[("max.message.bytes", "0")], |c| c.message_bytes_max = 0);
    check(&[("max.message.bytes", "2147483647")], |c| c.message_bytes_max = 100 << 20);
    check(&[("max.decompressed.message.bytes", "7")], |c| c.decompressed_bytes_max = 7);
    check(&[("message.timestamp.type", "LogAppendTime")], |c| {
        c.timestamp_type = TimestampType::LogAppendTime;
    });
    check(&[("message.timestamp.before.max.ms", "5")], |c| c.timestamp_before_max = ms(5));
    check(&[("message.timestamp.after.max.ms", "9223372036854775807")], |c| {
        c.timestamp_after_max = None;
    });
    check(&[("delete.retention.ms", "5")], |c| c.delete_retention = Duration::from_millis(5));
    check(&[("min.compaction.lag.ms", "5")], |c| c.compaction_lag_min = Duration::from_millis(5));
    check(&[("max.compaction.lag.ms", "5")], |c| c.compaction_lag_max = ms(5));
    check(&[("min.cleanable.dirty.ratio", "0.75")], |c| c.dirty_ratio_min = 0.75);
}

#[test]
fn the_level_belongs_to_the_codec() {
    #[track_caller]
    fn check(codec: &str, compression: Option<Compression>, level: Option<i32>) {
        let set = overrides(&[
            ("compression.type", codec),
            ("compression.gzip.level", "2"),
            ("compression.lz4.level", "3"),
            ("compression.zstd.level", "-4"),
        ]);
        let config = TopicConfig::resolve(&set, &BrokerConfig::default());
        assert_eq!((config.compression, config.compression_level), (compression, level), "{codec}");
    }
    check("producer", None, None);
    check("uncompressed", Some(Compression::None), None);
    check("gzip", Some(Compression::Gzip), Some(2));
    check("snappy", Some(Compression::Snappy), None);
    check("lz4", Some(Compression::Lz4), None);
    check("zstd", Some(Compression::Zstd), Some(-4));
    let gzip = overrides(&[("compression.type", "gzip")]);
    let config = TopicConfig::resolve(&gzip, &BrokerConfig::default());
    assert_eq!(config.compression_level, None);
}

/// Every field of a broker follows its config.
#[track_caller]
fn check_broker(name: &str, value: &str, change: impl Fn(&mut BrokerConfig)) {
    assert_eq!(super::validate(Kind::Broker, name, value), Ok(()));
    let mut expected = BrokerConfig::default();
    change(&mut expected);
    let mut config = BrokerConfig::resolve(&started(&[(name, value)]));
    config.topic_defaults = BrokerConfig::default().topic_defaults;
    assert_eq!(config, expected, "{name}");
    assert_ne!(config, BrokerConfig::default(), "{name}: this shows nothing");
}

#[test]
fn what_a_broker_sets_about_logins() {
    use check_broker as check;
    let ms = Duration::from_millis;
    check("millstream.sasl.plain.connection.strings", "true", |c| c.connection_strings = true);
    let secret = "as long as such a secret has to be";
    check("delegation.token.secret.key", secret, |c| c.delegation.key = TokenKey::new(secret));
    check("delegation.token.max.lifetime.ms", "5", |c| c.delegation.lifetime_max = ms(5));
    check("delegation.token.expiry.time.ms", "5", |c| c.delegation.renewal = ms(5));
}

#[test]
fn what_a_broker_sets() {
    use check_broker as check;
    let ms = Duration::from_millis;
    let years = Duration::from_hours(100 * 365 * 24);
    check("num.partitions", "4", |c| c.num_partitions = 4);
    check("default.replication.factor", "3", |c| c.default_replication_factor = 3);
    check("auto.create.topics.enable", "False", |c| c.auto_create_topics = false);
    check("delete.topic.enable", "false", |c| c.delete_topics = false);
    check("message.max.bytes", "5", |c| c.message_bytes_max = 5);
    check("fetch.max.bytes", "1024", |c| c.fetch_bytes_max = 1024);
    check("max.incremental.fetch.session.cache.slots", "0", |c| c.fetch_session_slots = 0);
    check("socket.request.max.bytes", "5", |c| c.request_bytes_max = 5);
    check("connections.max.idle.ms", "5", |c| c.connection_idle_max = ms(5));
    check("connections.max.idle.ms", "-1", |c| c.connection_idle_max = years);
    check("connections.max.idle.ms", "9223372036854775807", |c| c.connection_idle_max = years);
    check("queued.max.request.bytes", "5", |c| c.request_memory_bytes = Some(5));
    check("queued.max.request.bytes", "-1", |c| c.request_memory_bytes = None);
    check("millstream.connection.request.bytes", "5", |c| c.connection_request_bytes = 5);
    check("millstream.fetch.session.bytes", "5", |c| c.fetch_session_bytes = 5);
    check("max.connections.per.ip.overrides", "192.0.2.7:100, [2001:db8::7]:5", |c| {
        let limits = [("192.0.2.7", 100), ("2001:db8::7", 5)];
        c.connections_of_addresses =
            limits.map(|(address, most)| (address.parse().unwrap(), most)).into();
    });
    check("max.connection.creation.rate", "5", |c| c.connection_rate_max = 5);
    check("max.connections", "5", |c| c.connections_max = 5);
    check("max.connections.per.ip", "5", |c| c.connections_per_address_max = 5);
    check("offsets.topic.num.partitions", "5", |c| c.offsets_topic_partitions = 5);
    check("transaction.state.log.num.partitions", "5", |c| c.transactions_topic_partitions = 5);
    check("transaction.max.timeout.ms", "5", |c| c.transactions.timeout_max = ms(5));
    check("transactional.id.expiration.ms", "5", |c| c.transactions.expiration = ms(5));
    check("transaction.remove.expired.transaction.cleanup.interval.ms", "5", |c| {
        c.transactions.expiry_interval = ms(5);
    });
    check("offsets.retention.minutes", "5", |c| c.offsets_retention = Duration::from_mins(5));
    check("offsets.retention.check.interval.ms", "5", |c| c.offsets_expiry_interval = ms(5));
    check("offset.metadata.max.bytes", "5", |c| c.offset_metadata_max = 5);
    check("group.initial.rebalance.delay.ms", "0", |c| c.group_initial_rebalance_delay = ms(0));
    check("group.min.session.timeout.ms", "5", |c| c.group_session_timeout_min_ms = 5);
    check("group.max.session.timeout.ms", "7", |c| c.group_session_timeout_max_ms = 7);
    check("group.max.size", "5", |c| c.group_members_max = 5);
    check("millstream.group.bytes", "5", |c| c.group_bytes_max = 5);
    check("millstream.groups.max", "5", |c| c.groups_max = 5);
    check("millstream.partitions.max", "5", |c| c.partitions_max = 5);
    check("producer.id.expiration.ms", "5", |c| c.producer_expiry = ms(5));
    check("log.cleaner.enable", "false", |c| c.compaction_is_on = false);
    check("log.cleaner.backoff.ms", "5", |c| c.compaction_pause = ms(5));
    check("log.cleaner.dedupe.buffer.size", "2000000", |c| c.compaction_keys_bytes = 2_000_000);
    check("log.cleaner.io.max.bytes.per.second", "1.5e6", |c| c.compaction_rate = Some(1_500_000));
    check("log.cleaner.io.max.bytes.per.second", "0.1", |c| c.compaction_rate = Some(1));
    check("log.retention.check.interval.ms", "5", |c| c.retention_check_interval = ms(5));
    check("millstream.journal.bytes", "134217728", |c| c.journal_bytes = 128 << 20);
    check("millstream.reserve.bytes", "0", |c| c.reserve_bytes = 0);
    check("millstream.tail.bytes", "1048576", |c| c.tail_bytes = 1 << 20);
    check("millstream.response.bytes", "1048576", |c| c.response_memory_bytes = 1 << 20);
    check("millstream.durability", "os", |c| c.durability = Durability::Os);
    check("record.validation", "full", |c| c.full_validation = true);
}

#[test]
fn a_topic_takes_what_its_broker_says_the_finest_unit_first() {
    #[track_caller]
    fn check(broker: &BrokerOverrides, retention: Option<Duration>, segment_age: Duration) {
        let broker = BrokerConfig::resolve(broker);
        let topic = TopicConfig::resolve(&overrides(&[]), &broker);
        assert_eq!((topic.retention, topic.segment_age), (retention, segment_age));
    }
    let hours = Duration::from_hours;
    let minutes = ("log.retention.minutes", "7");
    let ms = ("log.retention.ms", "9");
    check(&started(&[]), Some(WEEK), WEEK);
    check(&started(&[("log.retention.hours", "5")]), Some(hours(5)), WEEK);
    check(&started(&[("log.retention.hours", "5"), minutes]), Some(Duration::from_mins(7)), WEEK);
    check(
        &started(&[("log.retention.hours", "5"), minutes, ms]),
        Some(Duration::from_millis(9)),
        WEEK,
    );
    check(&started(&[("log.retention.hours", "-1")]), None, WEEK);
    check(&started(&[("log.retention.hours", "5"), ("log.retention.minutes", "-3")]), None, WEEK);
    check(&started(&[("log.retention.hours", "2147483647")]), Some(hours(2_147_483_647)), WEEK);
    check(&started(&[("log.roll.hours", "5")]), Some(WEEK), hours(5));
    check(
        &started(&[("log.roll.hours", "5"), ("log.roll.ms", "9")]),
        Some(WEEK),
        Duration::from_millis(9),
    );
    // A layer that was set later wins, whatever its unit; on one broker before all of them.
    let mut broker = started(&[("log.retention.ms", "9"), ("log.roll.ms", "9")]);
    broker.cluster = overrides(&[("log.retention.ms", "11"), ("log.roll.hours", "5")]);
    check(&broker, Some(Duration::from_millis(11)), hours(5));
    broker.node = overrides(&[("log.retention.ms", "12")]);
    check(&broker, Some(Duration::from_millis(12)), hours(5));
}

#[test]
fn every_broker_config_that_a_topic_config_names_reaches_it() {
    #[track_caller]
    fn check(broker: (&str, &str), topic: (&str, &str)) {
        let from_broker = BrokerConfig::resolve(&started(&[broker]));
        let from_broker = TopicConfig::resolve(&overrides(&[]), &from_broker);
        let from_topic = TopicConfig::resolve(&overrides(&[topic]), &BrokerConfig::default());
        assert_eq!(from_broker, from_topic);
        assert_ne!(from_broker, TopicConfig::default(), "this shows nothing");
    }
    check(("log.cleanup.policy", "compact"), ("cleanup.policy", "compact"));
    check(("log.retention.bytes", "5"), ("retention.bytes", "5"));
    check(("log.segment.bytes", "1048576"), ("segment.bytes", "1048576"));
    check(("message.max.bytes", "5"), ("max.message.bytes", "5"));
    check(("compression.type", "zstd"), ("compression.type", "zstd"));
    check(
        ("log.message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.type", "LogAppendTime"),
    );
    check(("log.message.timestamp.before.max.ms", "5"), ("message.timestamp.before.max.ms", "5"));
    check(("log.message.timestamp.after.max.ms", "5"), ("message.timestamp.after.max.ms", "5"));
    check(("log.cleaner.delete.retention.ms", "5"), ("delete.retention.ms", "5"));
    check(("log.cleaner.min.compaction.lag.ms", "5"), ("min.compaction.lag.ms", "5"));
    check(("log.cleaner.max.compaction.lag.ms", "5"), ("max.compaction.lag.ms", "5"));
    check(("log.cleaner.min.cleanable.ratio", "0.1"), ("min.cleanable.dirty.ratio", "0.1"));
}

#[test]
fn what_is_stored_and_no_longer_allowed_counts_as_not_set() {
    let stored = overrides(&[("retention.ms", "soon"), ("of.another.release", "x")]);
    let topic = TopicConfig::resolve(&stored, &BrokerConfig::default());
    assert_eq!(topic, TopicConfig::default());
    let broker = BrokerOverrides {
        node: overrides(&[("log.retention.ms", "soon")]),
        start: overrides(&[("log.retention.ms", "5"), ("of.another.release", "x")]),
        ..BrokerOverrides::default()
    };
    let topic = TopicConfig::resolve(&stored, &BrokerConfig::resolve(&broker));
    assert_eq!(topic.retention, Some(Duration::from_millis(5)));
}
