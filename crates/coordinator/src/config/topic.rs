//! What a topic's configs come to.

use std::time::Duration;

use millstream_record::{Compression, TimestampType};
use millstream_types::limits::BATCH_BYTES_CEILING;

use super::layers::{BrokerOverrides, Values};
use super::{BrokerConfig, Kind, Overrides};

/// A topic's configs, read once. [`TopicConfig::resolve`] is the only way to one, so that nothing
/// in it contradicts the tables.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// Whether old records go by age and size (`cleanup.policy` has `delete`).
    pub deletes: bool,
    /// Whether only the newest record of a key stays (`cleanup.policy` has `compact`); a record
    /// without a key is refused then.
    pub compacts: bool,
    /// How long records are kept (`retention.ms`); `None`: for ever. Applies where `deletes`.
    pub retention: Option<Duration>,
    /// How many bytes of a partition are kept (`retention.bytes`); `None`: all. Applies where
    /// `deletes`.
    pub retention_bytes: Option<u64>,
    /// The size that a segment doesn't exceed, in bytes (`segment.bytes`); at least 1.
    pub segment_bytes: u64,
    /// How long a batch waits to be laid out (`segment.ms`); at least 1 ms.
    pub segment_age: Duration,
    /// The largest batch, in bytes as sent (`max.message.bytes`); at most [`BATCH_BYTES_CEILING`].
    pub message_bytes_max: usize,
    /// The largest batch after decompression, in bytes (`max.decompressed.message.bytes`); at
    /// most [`BATCH_BYTES_CEILING`].
    pub decompressed_bytes_max: usize,
    /// Whose time records carry (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
    /// How far a producer's timestamp may lie in the past (`message.timestamp.before.max.ms`);
    /// `None`: any way.
    pub timestamp_before_max: Option<Duration>,
    /// How far a producer's timestamp may lie in the future (`message.timestamp.after.max.ms`);
    /// `None`: any way.
    pub timestamp_after_max: Option<Duration>,
    /// How batches are stored (`compression.type`); `None`: as they were sent.
    pub compression: Option<Compression>,
    /// The level for `compression`; `None`: the codec's own choice, or it has no levels.
    pub compression_level: Option<i32>,
    /// How long compaction keeps the mark of a deleted key (`delete.retention.ms`).
    pub delete_retention: Duration,
    /// How long a record is safe from compaction (`min.compaction.lag.ms`).
    pub compaction_lag_min: Duration,
    /// How long a record may wait for compaction (`max.compaction.lag.ms`); `None`: for ever.
    pub compaction_lag_max: Option<Duration>,
    /// Which share must be uncompacted before compaction looks at a partition
    /// (`min.cleanable.dirty.ratio`); from 0 to 1.
    pub dirty_ratio_min: f64,
}

/// What topics start from: the defaults, as the broker's configs change them.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicDefaults(Values);

impl TopicDefaults {
    pub(super) fn resolve(broker: &BrokerOverrides) -> Self {
        Self(Values::of_topics(broker))
    }
}

impl TopicConfig {
    /// What `overrides` come to on a broker of that configuration.
    ///
    /// Overrides were checked when they were set. What this release doesn't know or allow counts
    /// as not set, so that one such value can't keep a broker from starting.
    #[must_use]
    pub fn resolve(overrides: &Overrides, broker: &BrokerConfig) -> Self {
        let values = broker.topic_defaults.0.overridden(Kind::Topic, overrides);
        let segment_bytes =
            values.number_of("internal.segment.bytes").unwrap_or(values.number("segment.bytes"));
        let (compression, compression_level) = compression(&values);
        Self {
            deletes: values.has_item("cleanup.policy", "delete"),
            compacts: values.has_item("cleanup.policy", "compact"),
            retention: lasting(values.number("retention.ms")),
            retention_bytes: u64::try_from(values.number("retention.bytes")).ok(),
            segment_bytes: segment_bytes.unsigned_abs(),
            segment_age: millis(values.number("segment.ms")),
            message_bytes_max: size(values.number("max.message.bytes")).min(BATCH_BYTES_CEILING),
            decompressed_bytes_max: size(values.number("max.decompressed.message.bytes"))
                .min(BATCH_BYTES_CEILING),
            timestamp_type: match values.text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            timestamp_before_max: lasting(values.number("message.timestamp.before.max.ms")),
            timestamp_after_max: lasting(values.number("message.timestamp.after.max.ms")),
            compression,
            compression_level,
            delete_retention: millis(values.number("delete.retention.ms")),
            compaction_lag_min: millis(values.number("min.compaction.lag.ms")),
            compaction_lag_max: lasting(values.number("max.compaction.lag.ms")),
            dirty_ratio_min: values.fraction("min.cleanable.dirty.ratio"),
        }
    }
}

impl Default for TopicConfig {
    /// A topic without overrides on a broker without overrides.
    fn default() -> Self {
        Self::resolve(&Overrides::new(), &BrokerConfig::default())
    }
}

fn compression(values: &Values) -> (Option<Compression>, Option<i32>) {
    let level = |name| i32::try_from(values.number(name)).ok();
    match values.text("compression.type") {
        "uncompressed" => (Some(Compression::None), None),
        "gzip" => {
            let level = level("compression.gzip.level").filter(|level| *level != -1);
            (Some(Compression::Gzip), level)
        }
        "snappy" => (Some(Compression::Snappy), None),
        "lz4" => (Some(Compression::Lz4), None),
        "zstd" => (Some(Compression::Zstd), level("compression.zstd.level")),
        _ => (None, None),
    }
}

/// A number of milliseconds; none below zero.
pub(super) fn millis(number: i64) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or_default())
}

/// A number of milliseconds; `None` where it stands for "for ever", as negative numbers and the
/// largest one do. (So nobody has to add the largest one to a time.)
fn lasting(number: i64) -> Option<Duration> {
    let limit = u64::try_from(number).ok().filter(|_| number != i64::MAX);
    limit.map(Duration::from_millis)
}

/// A number of bytes or of things; none below zero.
pub(super) fn size(number: i64) -> usize {
    usize::try_from(number.max(0)).unwrap_or(usize::MAX)
}
