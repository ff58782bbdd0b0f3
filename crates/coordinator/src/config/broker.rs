//! What a broker's configs come to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use millstream_auth::{Mechanism, TokenKey};
use millstream_types::limits::BATCH_BYTES_CEILING;

use super::group::{consumer_settings, streams_settings};
use super::layers::{BrokerOverrides, Values};
use super::topic::{TopicDefaults, millis, size};
use super::value::{address_limits, users};
use crate::audit::Level;
use crate::group::{ConsumerSettings, StreamsSettings};
use crate::txn::TxnSettings;

/// A broker's configs, read once. Those that can change at run time do so by a new value of this
/// struct.
#[derive(Clone, Debug, PartialEq)]
pub struct BrokerConfig {
    /// How many partitions a topic gets when nobody says how many (`num.partitions`); at least 1.
    pub num_partitions: i32,
    /// The replication factor that a topic reports when nobody asks for one
    /// (`default.replication.factor`); at least 1.
    pub default_replication_factor: i16,
    /// Whether asking for a topic's metadata may create it (`auto.create.topics.enable`).
    pub auto_create_topics: bool,
    /// Whether topics can be deleted (`delete.topic.enable`).
    pub delete_topics: bool,
    /// The largest batch, in bytes, where the topic doesn't say (`message.max.bytes`); at most
    /// [`BATCH_BYTES_CEILING`].
    pub message_bytes_max: usize,
    /// The most bytes of one Fetch (`fetch.max.bytes`).
    pub fetch_bytes_max: usize,
    /// How many incremental fetch sessions are kept (`max.incremental.fetch.session.cache.slots`).
    pub fetch_session_slots: usize,
    /// The largest request, in bytes (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// The most partitions in one answer to DescribeTopicPartitions
    /// (`max.request.partition.size.limit`); at least 1.
    pub described_partitions_max: usize,
    /// How much memory requests may take that are read and not answered, in bytes
    /// (`queued.max.request.bytes`); `None` for any amount.
    pub request_memory_bytes: Option<usize>,
    /// With so many bytes of requests begun, a connection begins no other one, in bytes
    /// (`millstream.connection.request.bytes`).
    pub connection_request_bytes: usize,
    /// How much memory fetch sessions may take, in bytes (`millstream.fetch.session.bytes`).
    pub fetch_session_bytes: usize,
    /// When a connection without requests is closed (`connections.max.idle.ms`). A hundred years
    /// stand for never.
    pub connection_idle_max: Duration,
    /// The most connections in the network at a time (`max.connections`).
    pub connections_max: usize,
    /// The most of them from one address (`max.connections.per.ip`).
    pub connections_per_address_max: usize,
    /// The same for single addresses (`max.connections.per.ip.overrides`).
    pub connections_of_addresses: BTreeMap<IpAddr, usize>,
    /// The most of them that are accepted in a second (`max.connection.creation.rate`).
    pub connection_rate_max: usize,
    /// How many partitions the internal topic of offsets gets (`offsets.topic.num.partitions`); at
    /// least 1.
    pub offsets_topic_partitions: i32,
    /// Partitions of the internal topic of transactions (`transaction.state.log.num.partitions`).
    pub transactions_topic_partitions: i32,
    /// What the coordinator of transactions is told.
    pub transactions: TxnSettings,
    /// How long offsets outlive their group's last member (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// How often offsets are looked at for expiry (`offsets.retention.check.interval.ms`).
    pub offsets_expiry_interval: Duration,
    /// The longest note on an offset, in UTF-16 units (`offset.metadata.max.bytes`).
    pub offset_metadata_max: usize,
    /// How long the first rebalance of an empty group waits (`group.initial.rebalance.delay.ms`).
    pub group_initial_rebalance_delay: Duration,
    /// The shortest session timeout of a classic member, in ms (`group.min.session.timeout.ms`).
    pub group_session_timeout_min_ms: i32,
    /// The longest session timeout of a classic member, in ms (`group.max.session.timeout.ms`).
    pub group_session_timeout_max_ms: i32,
    /// What holds for consumer groups (`group.consumer.`).
    pub consumer_groups: ConsumerSettings,
    /// What holds for streams groups (`group.streams.`).
    pub streams_groups: StreamsSettings,
    /// The most members of a group (`group.max.size`).
    pub group_members_max: usize,
    /// What the members of a group may take in memory, in bytes (`millstream.group.bytes`).
    pub group_bytes_max: usize,
    /// The most groups (`millstream.groups.max`).
    pub groups_max: usize,
    /// The most partitions of all topics (`millstream.partitions.max`).
    pub partitions_max: usize,
    /// When an idle producer is forgotten (`producer.id.expiration.ms`).
    pub producer_expiry: Duration,
    /// How often partitions are looked at for old records (`log.retention.check.interval.ms`).
    pub retention_check_interval: Duration,
    /// Whether topics are compacted (`log.cleaner.enable`).
    pub compaction_is_on: bool,
    /// How long compaction rests when there is nothing to do (`log.cleaner.backoff.ms`).
    pub compaction_pause: Duration,
    /// How much memory compaction may take for keys, in bytes (`log.cleaner.dedupe.buffer.size`).
    pub compaction_keys_bytes: u64,
    /// How much it may read and write, in bytes per second (`log.cleaner.io.max.bytes.per.second`);
    /// `None`: no bound of its own.
    pub compaction_rate: Option<u64>,
    /// How much disk the journal may take, in bytes (`millstream.journal.bytes`).
    pub journal_bytes: u64,
    /// How much of the disk is set aside for when it is full, in bytes
    /// (`millstream.reserve.bytes`).
    pub reserve_bytes: u64,
    /// How much memory recent batches may take, in bytes (`millstream.tail.bytes`).
    pub tail_bytes: u64,
    /// How much memory answers may take, in bytes (`millstream.response.bytes`).
    pub response_memory_bytes: usize,
    /// What an acknowledgement waits for (`millstream.durability`).
    pub durability: Durability,
    /// Whether compressed batches are decompressed to be checked (`record.validation` is `full`).
    pub full_validation: bool,
    /// Who may do everything, and what else holds where requests need a right; `None`: they need none
    /// (`authorizer.class.name`).
    pub authorizer: Option<AuthorizerConfig>,
    /// What clients may use at once after a while without any use, as time at the rate of their quota
    /// (`quota.window.`).
    pub quota_burst: Duration,
    /// The same of making and deleting partitions (`controller.quota.window.`).
    pub mutation_burst: Duration,
    /// The mechanisms by which clients may log in (`sasl.enabled.mechanisms`).
    pub sasl_mechanisms: Vec<Mechanism>,
    /// Whether PLAIN takes connection strings of `$ConnectionString`
    /// (`millstream.sasl.plain.connection.strings`).
    pub connection_strings: bool,
    /// How long a login holds (`connections.max.reauth.ms`); `None`: for ever.
    pub session_lifetime_max: Option<Duration>,
    /// How long after its last request a client is answered that has failed to log in
    /// (`connection.failed.authentication.delay.ms`).
    pub failed_login_delay: Duration,
    /// What holds for delegation tokens (`delegation.token.`).
    pub delegation: DelegationConfig,
    /// How much the audit notes (`millstream.audit.level`).
    pub audit: Level,
    /// What holds for metrics of clients.
    pub telemetry: TelemetryConfig,
    /// Where the data is, for people and tools (`log.dir`).
    pub data_place: String,
    /// What topics start from.
    pub topic_defaults: TopicDefaults,
}

/// What holds where requests need a right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthorizerConfig {
    /// The names of the users who may do everything (`super.users`).
    pub super_users: BTreeSet<String>,
    /// Whether everybody may do everything to what no rule speaks of
    /// (`allow.everyone.if.no.acl.found`).
    pub allow_if_no_rule: bool,
}

/// What holds for delegation tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DelegationConfig {
    /// What they are made from (`secret.key`); `None`: there are none.
    pub key: Option<TokenKey>,
    /// How long one lasts at most (`max.lifetime.ms`).
    pub lifetime_max: Duration,
    /// How long one lasts without being renewed (`expiry.time.ms`).
    pub renewal: Duration,
}

/// What holds for metrics of clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// The most that a client may push at a time, in bytes (`telemetry.max.bytes`).
    pub push_bytes_max: usize,
    /// How much memory they may take, in bytes (`millstream.telemetry.bytes`).
    pub bytes_max: usize,
}

/// What an acknowledgement waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Stable storage: neither a crash nor a power cut loses what was acknowledged.
    #[default]
    Flush,
    /// The operating system: a power cut loses what was acknowledged. For comparisons.
    Os,
}

/// Stands for "never": far enough away for everybody, near enough to be added to any time.
const HUNDRED_YEARS: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);

fn txn_settings(values: &Values) -> TxnSettings {
    let time = |name| millis(values.number(name));
    TxnSettings {
        timeout_max: time("transaction.max.timeout.ms"),
        expiration: time("transactional.id.expiration.ms"),
        expiry_interval: time("transaction.remove.expired.transaction.cleanup.interval.ms"),
        ..TxnSettings::default()
    }
}

fn authorizer(values: &Values) -> Option<AuthorizerConfig> {
    let is_on = !values.text("authorizer.class.name").is_empty();
    is_on.then(|| AuthorizerConfig {
        super_users: users(values.text("super.users")).unwrap_or_default(),
        allow_if_no_rule: values.flag("allow.everyone.if.no.acl.found"),
    })
}

fn delegation(values: &Values) -> DelegationConfig {
    DelegationConfig {
        key: TokenKey::new(values.text("delegation.token.secret.key")),
        lifetime_max: millis(values.number("delegation.token.max.lifetime.ms")),
        renewal: millis(values.number("delegation.token.expiry.time.ms")),
    }
}

fn durability(values: &Values) -> Durability {
    match values.text("millstream.durability") {
        "os" => Durability::Os,
        _ => Durability::Flush,
    }
}

fn telemetry(values: &Values) -> TelemetryConfig {
    TelemetryConfig {
        push_bytes_max: size(values.number("telemetry.max.bytes")),
        bytes_max: size(values.number("millstream.telemetry.bytes")),
    }
}

/// Where nobody has said it, what is done by right is worth a record where rights are asked for.
fn audit(values: &Values) -> Level {
    let authorizes = !values.text("authorizer.class.name").is_empty();
    let default = if authorizes { Level::Changes } else { Level::None };
    Level::named(values.text("millstream.audit.level")).unwrap_or(default)
}

impl BrokerConfig {
    /// What `overrides` come to.
    ///
    /// They were checked when they were set ([`super::validate_start`], [`super::apply`]). What
    /// this release doesn't know or allow counts as not set.
    #[must_use]
    pub fn resolve(overrides: &BrokerOverrides) -> Self {
        let values = Values::of_broker(overrides);
        let number = |name| values.number(name);
        let int = |name| i32::try_from(number(name)).unwrap_or(i32::MAX);
        let bytes = |name| number(name).unsigned_abs();
        Self {
            num_partitions: int("num.partitions"),
            default_replication_factor: i16::try_from(number("default.replication.factor"))
                .unwrap_or(i16::MAX),
            auto_create_topics: values.flag("auto.create.topics.enable"),
            delete_topics: values.flag("delete.topic.enable"),
            message_bytes_max: size(number("message.max.bytes")).min(BATCH_BYTES_CEILING),
            fetch_bytes_max: size(number("fetch.max.bytes")),
            fetch_session_slots: size(number("max.incremental.fetch.session.cache.slots")),
            request_bytes_max: size(number("socket.request.max.bytes")),
            described_partitions_max: size(number("max.request.partition.size.limit")),
            request_memory_bytes: usize::try_from(number("queued.max.request.bytes")).ok(),
            connection_request_bytes: size(number("millstream.connection.request.bytes")),
            fetch_session_bytes: size(number("millstream.fetch.session.bytes")),
            connection_idle_max: idle_max(number("connections.max.idle.ms")),
            connections_max: size(number("max.connections")),
            connections_per_address_max: size(number("max.connections.per.ip")),
            connections_of_addresses: address_limits(
                values.text("max.connections.per.ip.overrides"),
            )
            .unwrap_or_default(),
            connection_rate_max: size(number("max.connection.creation.rate")),
            offsets_topic_partitions: int("offsets.topic.num.partitions"),
            transactions_topic_partitions: int("transaction.state.log.num.partitions"),
            transactions: txn_settings(&values),
            offsets_retention: millis(number("offsets.retention.minutes").saturating_mul(60_000)),
            offsets_expiry_interval: millis(number("offsets.retention.check.interval.ms")),
            offset_metadata_max: size(number("offset.metadata.max.bytes")),
            group_initial_rebalance_delay: millis(number("group.initial.rebalance.delay.ms")),
            group_session_timeout_min_ms: int("group.min.session.timeout.ms"),
            group_session_timeout_max_ms: int("group.max.session.timeout.ms"),
            consumer_groups: consumer_settings(&values),
            streams_groups: streams_settings(&values),
            group_members_max: size(number("group.max.size")),
            group_bytes_max: size(number("millstream.group.bytes")),
            groups_max: size(number("millstream.groups.max")),
            partitions_max: size(number("millstream.partitions.max")),
            producer_expiry: millis(number("producer.id.expiration.ms")),
            retention_check_interval: millis(number("log.retention.check.interval.ms")),
            compaction_is_on: values.flag("log.cleaner.enable"),
            compaction_pause: millis(number("log.cleaner.backoff.ms")),
            compaction_keys_bytes: bytes("log.cleaner.dedupe.buffer.size"),
            compaction_rate: rate(values.fraction("log.cleaner.io.max.bytes.per.second")),
            journal_bytes: bytes("millstream.journal.bytes"),
            reserve_bytes: bytes("millstream.reserve.bytes"),
            tail_bytes: bytes("millstream.tail.bytes"),
            response_memory_bytes: size(number("millstream.response.bytes")),
            durability: durability(&values),
            full_validation: values.text("record.validation") == "full",
            authorizer: authorizer(&values),
            quota_burst: quota_burst(&values),
            mutation_burst: mutation_burst(&values),
            sasl_mechanisms: mechanisms(values.items("sasl.enabled.mechanisms")),
            connection_strings: values.flag("millstream.sasl.plain.connection.strings"),
            session_lifetime_max: lifetime(number("connections.max.reauth.ms")),
            failed_login_delay: millis(number("connection.failed.authentication.delay.ms")),
            audit: audit(&values),
            delegation: delegation(&values),
            telemetry: telemetry(&values),
            data_place: values.text("log.dir").to_owned(),
            topic_defaults: TopicDefaults::resolve(overrides),
        }
    }
}

/// All windows but the one that has just begun.
fn quota_burst(values: &Values) -> Duration {
    let count = values.number("quota.window.num").saturating_sub(1);
    windows(count, values.number("quota.window.size.seconds"))
}

/// All windows (KIP-599).
fn mutation_burst(values: &Values) -> Duration {
    let count = values.number("controller.quota.window.num");
    windows(count, values.number("controller.quota.window.size.seconds"))
}

/// So many windows of so many seconds.
fn windows(count: i64, seconds: i64) -> Duration {
    millis(count.saturating_mul(seconds).saturating_mul(1_000)).min(HUNDRED_YEARS)
}

fn mechanisms(names: &[String]) -> Vec<Mechanism> {
    names.iter().filter_map(|name| Mechanism::named(name)).collect()
}

/// How long something may rest; less than nothing stands for "for ever".
fn idle_max(number: i64) -> Duration {
    match u64::try_from(number) {
        Ok(millis) => Duration::from_millis(millis).min(HUNDRED_YEARS),
        Err(_) => HUNDRED_YEARS,
    }
}

/// How long something lasts, of which 0 stands for "for ever".
fn lifetime(number: i64) -> Option<Duration> {
    (number != 0).then(|| millis(number).min(HUNDRED_YEARS))
}

/// A rate in whole units; `None` for one that is no bound.
fn rate(number: f64) -> Option<u64> {
    /// The largest that is one.
    const MOST: f64 = 1e18;
    (number < MOST).then_some(number.max(1.0) as u64)
}

impl Default for BrokerConfig {
    /// A broker without overrides.
    fn default() -> Self {
        Self::resolve(&BrokerOverrides::default())
    }
}
