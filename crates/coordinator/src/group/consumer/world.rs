//! What a coordinator is told of the world around it.

use std::fmt;
use std::sync::Arc;

use millstream_types::TopicId;

/// The cluster's topics, and what is configured for groups, as of now.
///
/// It may change between two calls; every change of topics raises [`World::version`].
pub trait World: fmt::Debug + Send + Sync {
    /// Rises whenever topics come, go or grow.
    fn version(&self) -> u64;

    /// The topic of that name: its identity, and how many partitions it has.
    fn named(&self, name: &str) -> Option<(TopicId, i32)>;

    /// The name of the topic of that identity.
    fn name_of(&self, topic: TopicId) -> Option<Arc<str>>;

    /// The names of all topics that `wanted` lets through.
    fn matching(&self, wanted: &mut dyn FnMut(&str) -> bool) -> Vec<Arc<str>>;

    /// What is configured for a group.
    fn overrides(&self, group: &str) -> GroupOverrides;
}

/// What somebody may know of who speaks for a member. It is asked while others wait, and must not wait itself.
pub trait Rights: fmt::Debug + Send + Sync {
    /// Another one whenever an answer may be another than before.
    fn version(&self) -> u64;

    /// Whether he may know of the topic of that name.
    fn may_know_of(&self, topic: &str) -> bool;
}

/// Somebody with his rights. Two are the same only if one is a clone of the other.
#[derive(Clone, Debug)]
pub struct Asker(pub Arc<dyn Rights>);

impl PartialEq for Asker {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Asker {}

/// What is configured for one group; `None` where the broker's settings hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupOverrides {
    /// `consumer.session.timeout.ms`.
    pub session_timeout_ms: Option<i32>,
    /// `consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
    /// `consumer.assignment.interval.ms`.
    pub assignment_interval_ms: Option<i32>,
    /// What counts where it is a streams group.
    pub streams: StreamsOverrides,
}

/// What is configured for one streams group; `None` where the broker's settings hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamsOverrides {
    /// `streams.session.timeout.ms`.
    pub session_timeout_ms: Option<i32>,
    /// `streams.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: Option<i32>,
    /// `streams.assignment.interval.ms`.
    pub assignment_interval_ms: Option<i32>,
    /// `streams.initial.rebalance.delay.ms`.
    pub initial_rebalance_delay_ms: Option<i32>,
    /// `streams.num.standby.replicas`.
    pub standby_replicas: Option<i32>,
}

/// A world without topics.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoWorld;

impl World for NoWorld {
    fn version(&self) -> u64 {
        0
    }

    fn named(&self, _name: &str) -> Option<(TopicId, i32)> {
        None
    }

    fn name_of(&self, _topic: TopicId) -> Option<Arc<str>> {
        None
    }

    fn matching(&self, _wanted: &mut dyn FnMut(&str) -> bool) -> Vec<Arc<str>> {
        Vec::new()
    }

    fn overrides(&self, _group: &str) -> GroupOverrides {
        GroupOverrides::default()
    }
}
