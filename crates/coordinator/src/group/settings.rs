//! What a coordinator of groups may be told.

use std::time::Duration;

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
        }
    }
}
