//! Configs of a topic (resource type 2): those of Kafka 4.4's `LogConfig`.

use super::super::Section;
use super::super::entry::Allowed::{
    AtLeast, Between, BetweenOrDefault, ListOf, OneOf, Share, ThrottledReplicas,
};
use super::super::entry::Effect::{AcceptedOnly, Later};
use super::super::entry::{Entry, boolean, double, hours, int, list, long, minutes, same, string};
use super::words::{CLEANUP_POLICIES, COMPRESSIONS, INT_MAX_ARRAY, NEVER, TIMESTAMP_TYPES};

pub(crate) static SECTIONS: &[Section] = &[
    Section { title: "Retention and compaction", entries: RETENTION },
    Section { title: "Records", entries: RECORDS },
    Section { title: "Segments and flushing", entries: SEGMENTS },
    Section { title: "Replication, tiers, queues", entries: PLACES },
];

static RETENTION: &[Entry] = &[
    list("cleanup.policy", "delete")
        .allow(ListOf(CLEANUP_POLICIES))
        .from(&[same("log.cleanup.policy")])
        .doc(
            "What happens to old records: `delete` drops them by age and size, `compact` keeps \
             the newest of each key and takes no record without one, nothing keeps all. Compaction \
             begins when records are in segments, after an hour at most.",
        ),
    long("retention.ms", "604800000")
        .allow(AtLeast(-1))
        .from(&[
            same("log.retention.ms"),
            minutes("log.retention.minutes"),
            hours("log.retention.hours"),
        ])
        .doc(
            "How long records are kept under the policy `delete`, in milliseconds; -1 keeps \
             them for ever.",
        ),
    long("retention.bytes", "-1").from(&[same("log.retention.bytes")]).doc(
        "How much of each partition is kept under the policy `delete`, in bytes: the oldest \
         segments go while the rest still holds so many. A negative number sets no limit.",
    ),
    long("delete.retention.ms", "86400000")
        .allow(AtLeast(0))
        .from(&[same("log.cleaner.delete.retention.ms")])
        .doc(
            "How long tombstones, and ends of transactions of which nothing else is left, are kept \
             after the first compaction that meets them, in milliseconds.",
        ),
    long("min.compaction.lag.ms", "0")
        .allow(AtLeast(0))
        .from(&[same("log.cleaner.min.compaction.lag.ms")])
        .doc(
            "How long a record is safe from compaction, in milliseconds. May not exceed \
             `max.compaction.lag.ms`.",
        ),
    long("max.compaction.lag.ms", NEVER)
        .allow(AtLeast(1))
        .from(&[same("log.cleaner.max.compaction.lag.ms")])
        .doc("How long a record may wait for compaction, in milliseconds."),
    double("min.cleanable.dirty.ratio", "0.5")
        .allow(Share)
        .from(&[same("log.cleaner.min.cleanable.ratio")])
        .doc("Which share of a partition must be uncompacted before compaction looks at it."),
];

static RECORDS: &[Entry] = &[
    int("max.message.bytes", "1048588").allow(AtLeast(0)).from(&[same("message.max.bytes")]).doc(
        "The largest batch that is taken, in bytes as sent (compressed, with its header). \
         More than 100 MiB counts as 100 MiB.",
    ),
    int("max.decompressed.message.bytes", INT_MAX_ARRAY)
        .allow(Between(1, 2_147_483_639))
        .from(&[same("max.decompressed.message.bytes")])
        .doc(
            "The largest size of a whole batch (not of each record) after decompression, in \
             bytes, where the broker has to decompress it; a larger one is refused as \
             MESSAGE_TOO_LARGE, so that the producer splits it. More than 100 MiB counts as \
             100 MiB.",
        ),
    string("compression.type", "producer")
        .allow(OneOf(COMPRESSIONS))
        .from(&[same("compression.type")])
        .doc(
            "How batches are stored: `producer` leaves each as it was sent; any other value \
             recompresses those that were sent otherwise.",
        ),
    int("compression.gzip.level", "-1")
        .allow(BetweenOrDefault(1, 9))
        .from(&[same("compression.gzip.level")])
        .doc("The gzip level where `compression.type` is `gzip`; -1 is the codec's own choice."),
    int("compression.lz4.level", "9")
        .allow(Between(1, 17))
        .from(&[same("compression.lz4.level")])
        .effect(AcceptedOnly)
        .doc(
            "The lz4 level where `compression.type` is `lz4`. Without effect: the codec in use \
             has one level.",
        ),
    int("compression.zstd.level", "3")
        .allow(Between(-131_072, 22))
        .from(&[same("compression.zstd.level")])
        .doc("The zstd level where `compression.type` is `zstd`; higher is smaller and slower."),
    string("message.timestamp.type", "CreateTime")
        .allow(OneOf(TIMESTAMP_TYPES))
        .from(&[same("log.message.timestamp.type")])
        .doc(
            "Whose time records carry: `CreateTime` is the producer's, `LogAppendTime` the \
             broker's when it appends.",
        ),
    long("message.timestamp.before.max.ms", NEVER)
        .allow(AtLeast(0))
        .from(&[same("log.message.timestamp.before.max.ms")])
        .doc(
            "How far a producer's timestamp may lie behind the broker's clock, in milliseconds; \
             older ones are refused. Does not apply to `LogAppendTime`.",
        ),
    long("message.timestamp.after.max.ms", "3600000")
        .allow(AtLeast(0))
        .from(&[same("log.message.timestamp.after.max.ms")])
        .doc(
            "How far a producer's timestamp may lie ahead of the broker's clock, in \
             milliseconds; later ones are refused. Does not apply to `LogAppendTime`.",
        ),
];

static SEGMENTS: &[Entry] = &[
    int("segment.bytes", "1073741824")
        .allow(AtLeast(1_048_576))
        .from(&[same("log.segment.bytes")])
        .doc("The size that a segment does not exceed when it is laid out, in bytes."),
    int("internal.segment.bytes", "1073741824")
        .unset()
        .allow(AtLeast(1))
        .hidden()
        .doc("Goes before `segment.bytes` and may be smaller, in bytes: for tests."),
    long("segment.ms", "604800000")
        .allow(AtLeast(1))
        .from(&[same("log.roll.ms"), hours("log.roll.hours")])
        .doc(
            "How long the oldest batch of a partition may wait before it is laid out into a \
             segment, in milliseconds.",
        ),
    long("segment.jitter.ms", "0")
        .allow(AtLeast(0))
        .from(&[same("log.roll.jitter.ms"), hours("log.roll.jitter.hours")])
        .effect(AcceptedOnly)
        .doc(
            "A random part taken off `segment.ms`, in milliseconds. Without effect: segments \
             are laid out one after the other by a background writer, so they never roll at \
             once.",
        ),
    int("segment.index.bytes", "10485760")
        .allow(AtLeast(4))
        .from(&[same("log.index.size.max.bytes")])
        .effect(AcceptedOnly)
        .doc(
            "The size of an offset index, in bytes. Without effect: an index is part of its \
             segment and as large as it needs to be.",
        ),
    int("index.interval.bytes", "4096")
        .allow(AtLeast(0))
        .from(&[same("log.index.interval.bytes")])
        .effect(AcceptedOnly)
        .doc(
            "How many bytes lie between entries of the offset index. Without effect: the \
             segment format fixes the distance.",
        ),
    long("file.delete.delay.ms", "60000")
        .allow(AtLeast(0))
        .from(&[same("log.segment.delete.delay.ms")])
        .effect(AcceptedOnly)
        .doc(
            "How long a deleted file stays, in milliseconds. Without effect: a segment goes \
             when its last reader has finished.",
        ),
    long("flush.messages", NEVER)
        .allow(AtLeast(1))
        .from(&[same("log.flush.interval.messages")])
        .effect(AcceptedOnly)
        .doc(
            "After how many records a flush is due. Without effect: `millstream.durability` \
             says what an acknowledgement waits for.",
        ),
    long("flush.ms", NEVER)
        .allow(AtLeast(0))
        .from(&[same("log.flush.interval.ms"), same("log.flush.scheduler.interval.ms")])
        .effect(AcceptedOnly)
        .doc(
            "After how many milliseconds a flush is due. Without effect: \
             `millstream.durability` says what an acknowledgement waits for.",
        ),
    boolean("preallocate", "false").from(&[same("log.preallocate")]).effect(AcceptedOnly).doc(
        "Whether segment files take their whole size when they are made. Without effect: \
         segments are written whole, and journal files always have their full size.",
    ),
];

static PLACES: &[Entry] = &[
    int("min.insync.replicas", "1")
        .allow(AtLeast(1))
        .from(&[same("min.insync.replicas")])
        .effect(AcceptedOnly)
        .doc(
            "How many replicas must have a batch before it is acknowledged. Without effect: \
             durability comes from the store below, not from replicas.",
        ),
    boolean("unclean.leader.election.enable", "false")
        .from(&[same("unclean.leader.election.enable")])
        .effect(AcceptedOnly)
        .doc(
            "Whether a replica that lags may lead. Without effect: there are no replicas that \
             could lag, so no election loses records.",
        ),
    list("leader.replication.throttled.replicas", "")
        .allow(ThrottledReplicas)
        .effect(AcceptedOnly)
        .doc(
            "Which replicas are slowed down on the leader's side. Without effect: brokers do \
             not copy records from each other.",
        ),
    list("follower.replication.throttled.replicas", "")
        .allow(ThrottledReplicas)
        .effect(AcceptedOnly)
        .doc(
            "Which replicas are slowed down on the follower's side. Without effect: brokers do \
             not copy records from each other.",
        ),
    boolean("remote.storage.enable", "false").effect(Later).doc(
        "Whether old segments move to a remote store. Without effect yet: all segments are \
         in the store that the broker was started with.",
    ),
    long("local.retention.ms", "-2")
        .allow(AtLeast(-2))
        .from(&[same("log.local.retention.ms")])
        .effect(Later)
        .doc(
            "How long segments stay here after they have been copied to a remote store, in \
             milliseconds; -2 means as long as `retention.ms`.",
        ),
    long("local.retention.bytes", "-2")
        .allow(AtLeast(-2))
        .from(&[same("log.local.retention.bytes")])
        .effect(Later)
        .doc(
            "How much of each partition stays here after it has been copied to a remote store, \
             in bytes; -2 means as much as `retention.bytes`.",
        ),
    long("remote.copy.lag.ms", "0")
        .allow(AtLeast(-1))
        .from(&[same("log.remote.copy.lag.ms")])
        .effect(Later)
        .doc(
            "How old a segment must be before it is copied to a remote store, in milliseconds; \
             -1 means as old as `local.retention.ms`.",
        ),
    long("remote.copy.lag.bytes", "-1")
        .allow(AtLeast(-1))
        .from(&[same("log.remote.copy.lag.bytes")])
        .effect(Later)
        .doc(
            "How many newer bytes a partition must hold before a segment is copied to a remote \
             store; -1 means as many as `local.retention.bytes`.",
        ),
    boolean("remote.log.copy.disable", "false")
        .effect(Later)
        .doc("Whether a topic with a remote store stops copying to it."),
    boolean("remote.log.delete.on.disable", "false")
        .effect(Later)
        .doc("Whether turning `remote.storage.enable` off deletes what is in the remote store."),
    boolean("errors.deadletterqueue.group.enable", "false")
        .effect(Later)
        .doc("Whether share groups may send records that could not be processed to this topic."),
];
