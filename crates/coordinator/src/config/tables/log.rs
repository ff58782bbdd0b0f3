//! Configs of a broker's log. Most are the defaults of topic configs.

use super::super::entry::Allowed::{AtLeast, ListOf, NotZero, OneOf, Share};
use super::super::entry::Effect::{AcceptedOnly, Later};
use super::super::entry::{Entry, boolean, double, int, list, long, string};
use super::words::{CLEANUP_POLICIES, NEVER, TIMESTAMP_TYPES};

pub(super) static LOG: &[Entry] =
    &[
        list("log.cleanup.policy", "delete")
            .allow(ListOf(CLEANUP_POLICIES))
            .doc("The default of the topic config `cleanup.policy`."),
        long("log.retention.ms", "604800000").unset().allow(NotZero).doc(
            "The default of the topic config `retention.ms`, in milliseconds; goes before \
             `log.retention.minutes`. A negative number keeps records for ever.",
        ),
        int("log.retention.minutes", "10080").unset().allow(NotZero).read_only().doc(
            "The default of the topic config `retention.ms`, in minutes; goes before \
             `log.retention.hours`. A negative number keeps records for ever.",
        ),
        int("log.retention.hours", "168").allow(NotZero).read_only().doc(
            "The default of the topic config `retention.ms`, in hours. A negative number keeps \
             records for ever.",
        ),
        long("log.retention.bytes", "-1").doc(
            "The default of the topic config `retention.bytes`, in bytes for each partition. A \
             negative number sets no limit.",
        ),
        long("log.retention.check.interval.ms", "300000")
            .allow(AtLeast(1))
            .read_only()
            .doc("How often partitions are looked at for old records, in milliseconds."),
        int("log.segment.bytes", "1073741824")
            .allow(AtLeast(1_048_576))
            .doc("The default of the topic config `segment.bytes`, in bytes."),
        long("log.roll.ms", "604800000").unset().allow(AtLeast(1)).doc(
            "The default of the topic config `segment.ms`, in milliseconds; goes before \
             `log.roll.hours`.",
        ),
        int("log.roll.hours", "168")
            .allow(AtLeast(1))
            .read_only()
            .doc("The default of the topic config `segment.ms`, in hours."),
        long("log.roll.jitter.ms", "0").unset().allow(AtLeast(0)).effect(AcceptedOnly).doc(
            "The default of the topic config `segment.jitter.ms`, in milliseconds. Without \
             effect as that is.",
        ),
        int("log.roll.jitter.hours", "0").allow(AtLeast(0)).read_only().effect(AcceptedOnly).doc(
            "The default of the topic config `segment.jitter.ms`, in hours. Without effect as \
             that is.",
        ),
        string("log.message.timestamp.type", "CreateTime")
            .allow(OneOf(TIMESTAMP_TYPES))
            .doc("The default of the topic config `message.timestamp.type`."),
        long("log.message.timestamp.before.max.ms", NEVER).allow(AtLeast(0)).doc(
            "The default of the topic config `message.timestamp.before.max.ms`, in milliseconds.",
        ),
        long("log.message.timestamp.after.max.ms", "3600000").allow(AtLeast(0)).doc(
            "The default of the topic config `message.timestamp.after.max.ms`, in milliseconds.",
        ),
        int("log.index.size.max.bytes", "10485760").allow(AtLeast(4)).effect(AcceptedOnly).doc(
            "The default of the topic config `segment.index.bytes`. Without effect as that is.",
        ),
        int("log.index.interval.bytes", "4096").allow(AtLeast(0)).effect(AcceptedOnly).doc(
            "The default of the topic config `index.interval.bytes`. Without effect as that is.",
        ),
        long("log.segment.delete.delay.ms", "60000").allow(AtLeast(0)).effect(AcceptedOnly).doc(
            "The default of the topic config `file.delete.delay.ms`. Without effect as that is.",
        ),
        long("log.flush.interval.messages", NEVER).allow(AtLeast(1)).effect(AcceptedOnly).doc(
            "The default of the topic config `flush.messages`. Without effect: \
             `millstream.durability` says what an acknowledgement waits for.",
        ),
        long("log.flush.interval.ms", NEVER).unset().allow(AtLeast(0)).effect(AcceptedOnly).doc(
            "The default of the topic config `flush.ms`, in milliseconds. Without effect: \
             `millstream.durability` says what an acknowledgement waits for.",
        ),
        long("log.flush.scheduler.interval.ms", NEVER)
            .allow(AtLeast(0))
            .read_only()
            .effect(AcceptedOnly)
            .doc(
                "How often logs are looked at for a flush, in milliseconds. Without effect: \
                 `millstream.durability` says what an acknowledgement waits for.",
            ),
        boolean("log.preallocate", "false")
            .effect(AcceptedOnly)
            .doc("The default of the topic config `preallocate`. Without effect as that is."),
        long("log.local.retention.ms", "-2")
            .allow(AtLeast(-2))
            .effect(Later)
            .doc("The default of the topic config `local.retention.ms`, in milliseconds."),
        long("log.local.retention.bytes", "-2")
            .allow(AtLeast(-2))
            .effect(Later)
            .doc("The default of the topic config `local.retention.bytes`, in bytes."),
        long("log.remote.copy.lag.ms", "0")
            .allow(AtLeast(-1))
            .effect(Later)
            .doc("The default of the topic config `remote.copy.lag.ms`, in milliseconds."),
        long("log.remote.copy.lag.bytes", "-1")
            .allow(AtLeast(-1))
            .effect(Later)
            .doc("The default of the topic config `remote.copy.lag.bytes`, in bytes."),
    ];

pub(super) static CLEANER: &[Entry] = &[
    boolean("log.cleaner.enable", "true")
        .read_only()
        .doc("Whether topics with the policy `compact` are compacted."),
    int("log.cleaner.threads", "1").allow(AtLeast(0)).effect(AcceptedOnly).doc(
        "How many threads compact. Without effect: one partition is compacted at a time, by the \
         workers that there are for everything.",
    ),
    long("log.cleaner.backoff.ms", "15000")
        .allow(AtLeast(0))
        .doc("How long compaction rests when there is nothing to do, in milliseconds."),
    long("log.cleaner.delete.retention.ms", "86400000")
        .allow(AtLeast(0))
        .doc("The default of the topic config `delete.retention.ms`, in milliseconds."),
    long("log.cleaner.min.compaction.lag.ms", "0")
        .allow(AtLeast(0))
        .doc("The default of the topic config `min.compaction.lag.ms`, in milliseconds."),
    long("log.cleaner.max.compaction.lag.ms", NEVER)
        .allow(AtLeast(1))
        .doc("The default of the topic config `max.compaction.lag.ms`, in milliseconds."),
    double("log.cleaner.min.cleanable.ratio", "0.5")
        .allow(Share)
        .doc("The default of the topic config `min.cleanable.dirty.ratio`."),
    long("log.cleaner.dedupe.buffer.size", "134217728").allow(AtLeast(1024 * 1024)).doc(
        "How much memory compaction may take for keys, in bytes: 24 for each key of what is \
             new in a partition, while it is compacted, and none at other times.",
    ),
    int("log.cleaner.io.buffer.size", "524288")
        .allow(AtLeast(0))
        .effect(AcceptedOnly)
        .doc("The buffers of compaction, in bytes. Without effect: they are the log's own."),
    double("log.cleaner.io.buffer.load.factor", "0.9")
        .effect(AcceptedOnly)
        .doc("How full the table of keys may get. Without effect: it is 0.9."),
    double("log.cleaner.io.max.bytes.per.second", "1.7976931348623157E308").doc(
        "How many bytes compaction may read and write in a second. It never takes more than \
             32 MiB, and less while segments are late.",
    ),
];
