//! Configs of a group (resource type 32): those of Kafka 4.4's `GroupConfig`. Classic groups take
//! what their members ask for instead.

use super::super::Section;
use super::super::entry::Allowed::{AtLeast, Distinct, OneOf, StartOffset};
use super::super::entry::Effect::{AcceptedOnly, Later};
use super::super::entry::{Entry, boolean, int, list, long, same, string};
use super::words::ISOLATION_LEVELS;

pub(crate) static SECTIONS: &[Section] = &[
    Section { title: "Consumer groups", entries: CONSUMER },
    Section { title: "Share groups", entries: SHARE },
    Section { title: "Streams groups", entries: STREAMS },
];

static CONSUMER: &[Entry] = &[
    int("consumer.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .from(&[same("group.consumer.session.timeout.ms")])
        .doc("How long a member may be silent before it is removed, in milliseconds."),
    int("consumer.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .from(&[same("group.consumer.heartbeat.interval.ms")])
        .doc("How often members are told to send a heartbeat, in milliseconds."),
    int("consumer.assignment.interval.ms", "1000")
        .allow(AtLeast(0))
        .from(&[same("group.consumer.assignment.interval.ms")])
        .doc("How much time passes at least between two assignments, in milliseconds."),
    boolean("consumer.assignor.offload.enable", "true").hidden().effect(AcceptedOnly).doc(
        "Whether assignments are worked out on a thread of their own. Without effect: they \
         need none.",
    ),
];

static SHARE: &[Entry] = &[
    int("share.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .from(&[same("group.share.session.timeout.ms")])
        .effect(Later)
        .doc("How long a member may be silent before it is removed, in milliseconds."),
    int("share.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .from(&[same("group.share.heartbeat.interval.ms")])
        .effect(Later)
        .doc("How often members are told to send a heartbeat, in milliseconds."),
    int("share.assignment.interval.ms", "1000")
        .allow(AtLeast(0))
        .from(&[same("group.share.assignment.interval.ms")])
        .effect(Later)
        .doc("How much time passes at least between two assignments, in milliseconds."),
    boolean("share.assignor.offload.enable", "true").hidden().effect(AcceptedOnly).doc(
        "Whether assignments are worked out on a thread of their own. Without effect: they \
         need none.",
    ),
    int("share.record.lock.duration.ms", "30000")
        .allow(AtLeast(1_000))
        .from(&[same("group.share.record.lock.duration.ms")])
        .effect(Later)
        .doc("How long a record is held for the member that fetched it, in milliseconds."),
    int("share.delivery.count.limit", "5")
        .allow(AtLeast(2))
        .from(&[same("group.share.delivery.count.limit")])
        .effect(Later)
        .doc("How often a record is delivered before it is given up."),
    int("share.partition.max.record.locks", "2000")
        .allow(AtLeast(100))
        .from(&[same("group.share.partition.max.record.locks")])
        .effect(Later)
        .doc("How many records of a partition may be held at a time."),
    string("share.auto.offset.reset", "latest").allow(StartOffset).effect(Later).doc(
        "Where a new group starts: `latest`, `earliest`, or `by_duration:` and how far \
         back, such as `PT1H`.",
    ),
    string("share.isolation.level", "read_uncommitted")
        .allow(OneOf(ISOLATION_LEVELS))
        .effect(Later)
        .doc("Whether the group sees records of transactions before they are committed."),
    boolean("share.renew.acknowledge.enable", "true")
        .effect(Later)
        .doc("Whether members may prolong the time for which a record is held for them."),
    string("errors.deadletterqueue.topic.name", "")
        .effect(Later)
        .doc("The topic that takes records which could not be processed; none if empty."),
    boolean("errors.deadletterqueue.copy.record.enable", "false")
        .effect(Later)
        .doc("Whether the dead letter topic gets the record itself, and not only its place."),
];

static STREAMS: &[Entry] = &[
    int("streams.session.timeout.ms", "45000")
        .allow(AtLeast(1))
        .from(&[same("group.streams.session.timeout.ms")])
        .doc("How long a member may be silent before it is removed, in milliseconds."),
    int("streams.heartbeat.interval.ms", "5000")
        .allow(AtLeast(1))
        .from(&[same("group.streams.heartbeat.interval.ms")])
        .doc("How often members are told to send a heartbeat, in milliseconds."),
    int("streams.assignment.interval.ms", "1000")
        .allow(AtLeast(0))
        .from(&[same("group.streams.assignment.interval.ms")])
        .doc("How much time passes at least between two assignments, in milliseconds."),
    boolean("streams.assignor.offload.enable", "true").hidden().effect(AcceptedOnly).doc(
        "Whether assignments are worked out on a thread of their own. Without effect: they \
         need none.",
    ),
    string("streams.assignor.name", "")
        .unset()
        .allow(OneOf(&["sticky"]))
        .effect(AcceptedOnly)
        .doc("The assignor. Without effect: there is only `sticky`."),
    int("streams.initial.rebalance.delay.ms", "3000")
        .allow(AtLeast(0))
        .from(&[same("group.streams.initial.rebalance.delay.ms")])
        .doc(
            "How long the first assignment of an empty group waits for more members, in \
             milliseconds.",
        ),
    int("streams.num.standby.replicas", "0")
        .allow(AtLeast(0))
        .from(&[same("group.streams.num.standby.replicas")])
        .doc("How many standby copies each task's state has."),
    int("streams.num.warmup.replicas", "2")
        .allow(AtLeast(0))
        .from(&[same("group.streams.num.warmup.replicas")])
        .hidden()
        .effect(Later)
        .doc("How many tasks may warm up on another member at a time."),
    long("streams.acceptable.recovery.lag", "10000")
        .allow(AtLeast(0))
        .from(&[same("group.streams.acceptable.recovery.lag")])
        .hidden()
        .effect(Later)
        .doc("How many records a copy of a task's state may lag and still take over."),
    int("streams.task.offset.interval.ms", "60000")
        .allow(AtLeast(1))
        .from(&[same("group.streams.task.offset.interval.ms")])
        .hidden()
        .effect(Later)
        .doc("How often members report how far their tasks' state is, in milliseconds."),
    list("streams.rack.aware.assignment.tags", "")
        .allow(Distinct)
        .from(&[same("group.streams.rack.aware.assignment.tags")])
        .effect(Later)
        .doc("The client tags by which standby copies are kept apart."),
];
