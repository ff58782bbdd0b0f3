//! Configs of a broker's groups and their offsets.

use super::super::entry::Allowed::{AtLeast, Between, Distinct, ListOf, OneOfAnyCase};
use super::super::entry::Effect::{AcceptedOnly, Later, Partly};
use super::super::entry::{Entry, boolean, int, list, long, short, string};
use super::words::INT_MAX;

pub(super) static OFFSETS: &[Entry] = &[
    int("offsets.topic.num.partitions", "50")
        .allow(AtLeast(1))
        .read_only()
        .doc("How many partitions the internal topic of offsets gets when it is created."),
    short("offsets.topic.replication.factor", "3")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "The replication factor of the internal topic of offsets. Without effect: \
             durability comes from the store below.",
        ),
    int("offsets.retention.minutes", "10080").allow(AtLeast(1)).read_only().doc(
        "How long offsets are kept after the last member of their group has left, in \
         minutes.",
    ),
    long("offsets.retention.check.interval.ms", "600000")
        .allow(AtLeast(1))
        .read_only()
        .doc("How often offsets are looked at for expiry, in milliseconds."),
    int("offset.metadata.max.bytes", "4096")
        .allow(AtLeast(0))
        .read_only()
        .doc("The longest note that a consumer may leave on an offset, in characters."),
    int("offsets.commit.timeout.ms", "5000")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "How long a commit waits for replicas, in milliseconds. Without effect: it waits \
             for the journal, which ends or fails.",
        ),
    int("offsets.topic.segment.bytes", "104857600")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "`segment.bytes` of the internal topic of offsets. Without effect: segments are laid \
             out as for every topic. Loading reads the whole topic.",
        ),
    int("offsets.load.buffer.size", "5242880")
        .allow(AtLeast(1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "How many bytes are read at a time while offsets are loaded. Without effect: the \
             broker has its own measure.",
        ),
    int("offsets.topic.compression.codec", "0")
        .allow(Between(0, 4))
        .read_only()
        .effect(AcceptedOnly)
        .doc("How the internal topic of offsets is compressed. Without effect: it is not."),
];

pub(super) static CLASSIC: &[Entry] = &[
    int("group.initial.rebalance.delay.ms", "3000").allow(AtLeast(0)).read_only().doc(
        "How long the first rebalance of an empty group waits for more members, in \
         milliseconds.",
    ),
    int("group.min.session.timeout.ms", "6000").allow(AtLeast(0)).read_only().doc(
        "The shortest session timeout that a member may ask for, in milliseconds. May not \
         exceed `group.max.session.timeout.ms`.",
    ),
    int("group.max.session.timeout.ms", "1800000")
        .allow(AtLeast(0))
        .read_only()
        .doc("The longest session timeout that a member may ask for, in milliseconds."),
    int("group.max.size", INT_MAX)
        .allow(AtLeast(1))
        .read_only()
        .doc("The most members of a group."),
    list("group.coordinator.rebalance.protocols", "classic,consumer,streams")
        .allow(ListOf(&["consumer", "classic", "share", "streams"]))
        .read_only()
        .effect(Partly)
        .doc(
            "Which kinds of group are served. `classic` always is, `consumer` and `streams` if they \
             are named; `share` is not yet.",
        ),
    int("group.coordinator.threads", "4").allow(AtLeast(1)).read_only().effect(AcceptedOnly).doc(
        "How many threads coordinate groups. Without effect: there is one worker for each \
         core, for everything.",
    ),
    int("group.coordinator.append.linger.ms", "-1")
        .allow(AtLeast(-1))
        .read_only()
        .effect(AcceptedOnly)
        .doc(
            "How long a coordinator collects writes, in milliseconds. Without effect: the \
             journal collects by itself.",
        ),
];

pub(super) static CONSUMER: &[Entry] = &[
    int("group.consumer.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .read_only()
        .doc("How long a member may be silent before it is removed, in milliseconds."),
    int("group.consumer.min.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The least that a group may set for `consumer.session.timeout.ms`."),
    int("group.consumer.max.session.timeout.ms", "60000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The most that a group may set for `consumer.session.timeout.ms`."),
    int("group.consumer.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .read_only()
        .doc("How often members are told to send a heartbeat, in milliseconds."),
    int("group.consumer.min.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The least that a group may set for `consumer.heartbeat.interval.ms`."),
    int("group.consumer.max.heartbeat.interval.ms", "15000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The most that a group may set for `consumer.heartbeat.interval.ms`."),
    int("group.consumer.assignment.interval.ms", "1000")
        .allow(AtLeast(0))
        .doc("How much time passes at least between two assignments, in milliseconds."),
    int("group.consumer.min.assignment.interval.ms", "0")
        .allow(AtLeast(0))
        .read_only()
        .doc("The least that a group may set for `consumer.assignment.interval.ms`."),
    int("group.consumer.max.assignment.interval.ms", "15000")
        .allow(AtLeast(0))
        .read_only()
        .doc("The most that a group may set for `consumer.assignment.interval.ms`."),
    int("group.consumer.max.size", INT_MAX)
        .allow(AtLeast(1))
        .read_only()
        .doc("The most members of a consumer group."),
    list("group.consumer.assignors", "uniform,range")
        .allow(ListOf(&["uniform", "range"]))
        .read_only()
        .doc("The server-side assignors, the default first: `uniform` and `range`."),
    string("group.consumer.migration.policy", "bidirectional")
        .allow(OneOfAnyCase(&["disabled", "downgrade", "upgrade", "bidirectional"]))
        .read_only()
        .doc("Which way a group may change between the classic and the consumer protocol."),
];

pub(super) static SHARE: &[Entry] = &[
    int("group.share.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .read_only()
        .effect(Later)
        .doc("How long a member may be silent before it is removed, in milliseconds."),
    int("group.share.min.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .read_only()
        .effect(Later)
        .doc("The least that a group may set for `share.session.timeout.ms`."),
    int("group.share.max.session.timeout.ms", "60000")
        .allow(AtLeast(1))
        .read_only()
        .effect(Later)
        .doc("The most that a group may set for `share.session.timeout.ms`."),
    int("group.share.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .read_only()
        .effect(Later)
        .doc("How often members are told to send a heartbeat, in milliseconds."),
    int("group.share.min.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .read_only()
        .effect(Later)
        .doc("The least that a group may set for `share.heartbeat.interval.ms`."),
    int("group.share.max.heartbeat.interval.ms", "15000")
        .allow(AtLeast(1))
        .read_only()
        .effect(Later)
        .doc("The most that a group may set for `share.heartbeat.interval.ms`."),
    int("group.share.assignment.interval.ms", "1000")
        .allow(AtLeast(0))
        .effect(Later)
        .doc("How much time passes at least between two assignments, in milliseconds."),
    int("group.share.min.assignment.interval.ms", "0")
        .allow(AtLeast(0))
        .read_only()
        .effect(Later)
        .doc("The least that a group may set for `share.assignment.interval.ms`."),
    int("group.share.max.assignment.interval.ms", "15000")
        .allow(AtLeast(0))
        .read_only()
        .effect(Later)
        .doc("The most that a group may set for `share.assignment.interval.ms`."),
    int("group.share.record.lock.duration.ms", "30000")
        .allow(Between(1_000, 3_600_000))
        .read_only()
        .effect(Later)
        .doc("How long a record is held for the member that fetched it, in milliseconds."),
    int("group.share.min.record.lock.duration.ms", "15000")
        .allow(Between(1_000, 30_000))
        .read_only()
        .effect(Later)
        .doc("The least that a group may set for `share.record.lock.duration.ms`."),
    int("group.share.max.record.lock.duration.ms", "60000")
        .allow(Between(30_000, 3_600_000))
        .read_only()
        .effect(Later)
        .doc("The most that a group may set for `share.record.lock.duration.ms`."),
    int("group.share.delivery.count.limit", "5")
        .allow(Between(2, 10))
        .read_only()
        .effect(Later)
        .doc("How often a record is delivered before it is given up."),
    int("group.share.min.delivery.count.limit", "2")
        .allow(Between(2, 5))
        .read_only()
        .effect(Later)
        .doc("The least that a group may set for `share.delivery.count.limit`."),
    int("group.share.max.delivery.count.limit", "10")
        .allow(Between(5, 25))
        .read_only()
        .effect(Later)
        .doc("The most that a group may set for `share.delivery.count.limit`."),
    int("group.share.partition.max.record.locks", "2000")
        .allow(Between(100, 10_000))
        .read_only()
        .effect(Later)
        .doc("How many records of a partition may be held at a time."),
    int("group.share.min.partition.max.record.locks", "100")
        .allow(Between(100, 2_000))
        .read_only()
        .effect(Later)
        .doc("The least that a group may set for `share.partition.max.record.locks`."),
    int("group.share.max.partition.max.record.locks", "4000")
        .allow(Between(2_000, 10_000))
        .read_only()
        .effect(Later)
        .doc("The most that a group may set for `share.partition.max.record.locks`."),
    int("group.share.max.size", "200")
        .allow(Between(1, 1_000))
        .read_only()
        .effect(Later)
        .doc("The most members of a share group."),
    int("group.share.max.share.sessions", "2000")
        .allow(AtLeast(1))
        .read_only()
        .effect(Later)
        .doc("The most share sessions at a time."),
    list("group.share.assignors", "simple")
        .allow(Distinct)
        .read_only()
        .effect(Later)
        .doc("The server-side assignors, the default first."),
    boolean("errors.deadletterqueue.auto.create.topics.enable", "false")
        .effect(Later)
        .doc("Whether a dead letter topic is created when it is needed."),
    string("errors.deadletterqueue.topic.name.prefix", "dlq.")
        .effect(Later)
        .doc("How the names of dead letter topics must begin."),
];

pub(super) static STREAMS: &[Entry] = &[
    int("group.streams.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .read_only()
        .doc("How long a member may be silent before it is removed, in milliseconds."),
    int("group.streams.min.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The least that a group may set for `streams.session.timeout.ms`."),
    int("group.streams.max.session.timeout.ms", "60000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The most that a group may set for `streams.session.timeout.ms`."),
    int("group.streams.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .read_only()
        .doc("How often members are told to send a heartbeat, in milliseconds."),
    int("group.streams.min.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The least that a group may set for `streams.heartbeat.interval.ms`."),
    int("group.streams.max.heartbeat.interval.ms", "15000")
        .allow(AtLeast(1))
        .read_only()
        .doc("The most that a group may set for `streams.heartbeat.interval.ms`."),
    int("group.streams.assignment.interval.ms", "1000")
        .allow(AtLeast(0))
        .doc("How much time passes at least between two assignments, in milliseconds."),
    int("group.streams.min.assignment.interval.ms", "0")
        .allow(AtLeast(0))
        .read_only()
        .doc("The least that a group may set for `streams.assignment.interval.ms`."),
    int("group.streams.max.assignment.interval.ms", "15000")
        .allow(AtLeast(0))
        .read_only()
        .doc("The most that a group may set for `streams.assignment.interval.ms`."),
    int("group.streams.initial.rebalance.delay.ms", "3000").allow(AtLeast(0)).read_only().doc(
        "How long the first assignment of an empty group waits for more members, in \
             milliseconds.",
    ),
    int("group.streams.num.standby.replicas", "0")
        .allow(AtLeast(0))
        .read_only()
        .doc("How many standby copies each task's state has."),
    int("group.streams.max.standby.replicas", "2")
        .allow(AtLeast(0))
        .read_only()
        .doc("The most that a group may set for `streams.num.standby.replicas`."),
    int("group.streams.num.warmup.replicas", "2")
        .allow(AtLeast(0))
        .read_only()
        .hidden()
        .effect(Later)
        .doc("How many tasks may warm up on another member at a time."),
    long("group.streams.acceptable.recovery.lag", "10000")
        .allow(AtLeast(0))
        .read_only()
        .hidden()
        .effect(Later)
        .doc("How many records a copy of a task's state may lag and still take over."),
    int("group.streams.task.offset.interval.ms", "60000")
        .allow(AtLeast(1))
        .read_only()
        .hidden()
        .effect(Later)
        .doc("How often members report how far their tasks' state is, in milliseconds."),
    int("group.streams.max.size", INT_MAX)
        .allow(AtLeast(1))
        .read_only()
        .doc("The most members of a streams group."),
    list("group.streams.assignors", "sticky")
        .allow(ListOf(&["sticky"]))
        .read_only()
        .doc("The server-side assignors, the default first."),
    list("group.streams.rack.aware.assignment.tags", "")
        .allow(Distinct)
        .read_only()
        .effect(Later)
        .doc("The client tags by which standby copies are kept apart."),
];
