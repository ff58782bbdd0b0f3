//! What a coordinator of groups may be told.

use std::time::Duration;

use super::consumer::Assignor;

/// The settings of a coordinator of groups; the defaults are Kafka's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// The shortest session timeout that a member may ask for, in milliseconds
    /// (`group.min.session.timeout.ms`).
    pub session_timeout_min_ms: i32,
    /// The longest session timeout that a member may ask for, in milliseconds
    /// (`group.max.session.timeout.ms`).
    pub session_timeout_max_ms: i32,
    /// How long the first rebalance of an empty group waits for others
    /// (`group.initial.rebalance.delay.ms`). Zero ends the wait with the first member.
    pub initial_rebalance_delay: Duration,
    /// The most members of a group (`group.max.size`).
    pub members_max: usize,
    /// What the members of a group may take in memory, in bytes, and what they may be assigned
    /// (`millstream.group.bytes`).
    pub group_bytes_max: usize,
    /// The most groups in the same partition of `__consumer_offsets`: a share of
    /// `millstream.groups.max`.
    pub groups_max: usize,
    /// How long the join of a member that does not know its id yet may be parked.
    pub newcomer_timeout: Duration,
    /// The longest note on an offset, in UTF-16 units as Kafka counts
    /// (`offset.metadata.max.bytes`).
    pub offset_metadata_max: usize,
    /// How long offsets outlive the group's last member, or their commit when there never was one
    /// (`offsets.retention.minutes`).
    pub offsets_retention: Duration,
    /// How often offsets are looked at for expiry (`offsets.retention.check.interval.ms`).
    pub expiry_interval: Duration,
    /// What holds for consumer groups.
    pub consumer: ConsumerSettings,
    /// What holds for streams groups.
    pub streams: StreamsSettings,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self {
            session_timeout_min_ms: 6_000,
            session_timeout_max_ms: 1_800_000,
            initial_rebalance_delay: Duration::from_secs(3),
            members_max: i32::MAX as usize,
            group_bytes_max: 64 << 20,
            groups_max: 100_000,
            newcomer_timeout: Duration::from_secs(5 * 60),
            offset_metadata_max: 4_096,
            offsets_retention: Duration::from_secs(7 * 24 * 60 * 60),
            expiry_interval: Duration::from_secs(600),
            consumer: ConsumerSettings::default(),
            streams: StreamsSettings::default(),
        }
    }
}

/// The settings of consumer groups; the defaults are Kafka's. What a group sets for itself counts
/// within the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerSettings {
    /// Whether they are served (`group.coordinator.rebalance.protocols`).
    pub served: bool,
    /// How long a member may be silent, in milliseconds (`group.consumer.session.timeout.ms`).
    pub session_timeout: Bounded,
    /// How often members send a heartbeat, in milliseconds
    /// (`group.consumer.heartbeat.interval.ms`).
    pub heartbeat_interval: Bounded,
    /// How much time passes at least between two assignments, in milliseconds
    /// (`group.consumer.assignment.interval.ms`).
    pub assignment_interval: Bounded,
    /// The most members of a group (`group.consumer.max.size`).
    pub members_max: usize,
    /// The assignors, the default first (`group.consumer.assignors`).
    assignors: [Assignor; 2],
    assignors_count: usize,
    /// Which way groups may change (`group.consumer.migration.policy`).
    pub migration: Migration,
}

/// A number that groups may set within bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounded {
    /// Where the group sets none.
    pub default: i32,
    /// The least that counts.
    pub min: i32,
    /// The most that counts.
    pub max: i32,
}

/// The settings of streams groups; the defaults are Kafka's. What a group sets for itself counts within
/// the bounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StreamsSettings {
    /// Whether they are served (`group.coordinator.rebalance.protocols`).
    pub served: bool,
    /// How long a member may be silent, in milliseconds (`group.streams.session.timeout.ms`).
    pub session_timeout: Bounded,
    /// How often members send a heartbeat, in milliseconds
    /// (`group.streams.heartbeat.interval.ms`).
    pub heartbeat_interval: Bounded,
    /// How much time passes at least between two assignments, in milliseconds
    /// (`group.streams.assignment.interval.ms`).
    pub assignment_interval: Bounded,
    /// How long the first assignment of an empty group waits for more members, in milliseconds
    /// (`group.streams.initial.rebalance.delay.ms`).
    pub initial_rebalance_delay_ms: i32,
    /// How many standbys each task with state has (`group.streams.num.standby.replicas`).
    pub standby_replicas: Bounded,
    /// The most members of a group (`group.streams.max.size`).
    pub members_max: usize,
}

impl Default for StreamsSettings {
    fn default() -> Self {
        Self {
            served: true,
            session_timeout: Bounded { default: 45_000, min: 45_000, max: 60_000 },
            heartbeat_interval: Bounded { default: 5_000, min: 5_000, max: 15_000 },
            assignment_interval: Bounded { default: 1_000, min: 0, max: 15_000 },
            initial_rebalance_delay_ms: 3_000,
            standby_replicas: Bounded { default: 0, min: 0, max: 2 },
            members_max: i32::MAX as usize,
        }
    }
}

/// Which way a group may change while it has members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migration {
    /// From classic to consumer, when a member of the consumer protocol comes.
    pub upgrade: bool,
    /// From consumer to classic, when the last member of the consumer protocol goes.
    pub downgrade: bool,
}

impl Bounded {
    /// What counts for a group that sets `own`. Where the bounds contradict each other the lower
    /// one counts; the broker's own setting is not subject to them, as in Kafka.
    pub(super) fn resolve(self, own: Option<i32>) -> i32 {
        own.map_or(self.default, |own| own.min(self.max).max(self.min))
    }
}

impl ConsumerSettings {
    /// The assignors, the default first.
    #[must_use]
    pub fn assignors(&self) -> &[Assignor] {
        self.assignors.get(..self.assignors_count).unwrap_or_default()
    }

    /// The same with other assignors; none means all. One that is named again does not count.
    #[must_use]
    pub fn with_assignors(mut self, assignors: &[Assignor]) -> Self {
        self.assignors_count = 0;
        for assignor in assignors {
            if !self.assignors().contains(assignor)
                && let Some(place) = self.assignors.get_mut(self.assignors_count)
            {
                *place = *assignor;
                self.assignors_count += 1;
            }
        }
        if self.assignors_count == 0 {
            self.assignors = [Assignor::Uniform, Assignor::Range];
            self.assignors_count = 2;
        }
        self
    }

    pub(super) fn session_timeout_ms(&self, own: Option<i32>) -> i32 {
        self.session_timeout.resolve(own)
    }

    pub(super) fn heartbeat_interval_ms(&self, own: Option<i32>) -> i32 {
        self.heartbeat_interval.resolve(own)
    }

    pub(super) fn assignment_interval_ms(&self, own: Option<i32>) -> i32 {
        self.assignment_interval.resolve(own)
    }
}

impl Default for ConsumerSettings {
    fn default() -> Self {
        Self {
            served: true,
            session_timeout: Bounded { default: 45_000, min: 45_000, max: 60_000 },
            heartbeat_interval: Bounded { default: 5_000, min: 5_000, max: 15_000 },
            assignment_interval: Bounded { default: 1_000, min: 0, max: 15_000 },
            members_max: i32::MAX as usize,
            assignors: [Assignor::Uniform, Assignor::Range],
            assignors_count: 2,
            migration: Migration { upgrade: true, downgrade: true },
        }
    }
}
