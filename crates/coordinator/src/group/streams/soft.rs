//! What is known of a streams group only in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::{Monotonic, Timestamp};

use super::topics::{self, Configured, Impossible};
use super::topology::Topology;
use crate::group::consumer::World;
use crate::group::consumer::draft::hash;
use crate::group::consumer::times::Times;

/// What a restart need not find again.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Soft {
    /// Until when members must be heard of, and must have given up what they have to.
    pub(in crate::group) times: Times,
    /// The member that has asked the application to shut down.
    pub(in crate::group) shutdown: Option<Arc<str>>,
    /// Rises whenever a member that answers queries has other tasks than before. Members that know
    /// another one are told where all tasks are.
    pub(in crate::group) endpoints_epoch: i32,
    /// Until when the first assignment waits for more members.
    pub(in crate::group) waits_until: Option<Monotonic>,
    seen: Option<Seen>,
}

/// The topics as they were looked at.
#[derive(Clone, Debug)]
struct Seen {
    version: u64,
    topology: Arc<Topology>,
    topics_hash: i64,
    configured: Arc<Configured>,
}

impl Soft {
    /// Of a group that was read back. What members were told of addresses before does not count, so
    /// that the epoch must be one that they do not know.
    pub(in crate::group) fn restored(wall: Timestamp) -> Self {
        let seconds = (wall.0 / 1_000).rem_euclid(i64::from(i32::MAX));
        Self { endpoints_epoch: i32::try_from(seconds).unwrap_or_default(), ..Self::default() }
    }

    /// The topics that `topology` needs, and a hash of them; looked at again when topics have changed.
    ///
    /// # Errors
    ///
    /// When the topology contradicts itself.
    pub(in crate::group) fn configure(
        &mut self,
        topology: &Arc<Topology>,
        world: &dyn World,
    ) -> Result<(Arc<Configured>, i64), Impossible> {
        let version = world.version();
        if let Some(seen) = &mut self.seen
            && seen.version == version
            && (Arc::ptr_eq(&seen.topology, topology) || *seen.topology == **topology)
        {
            // The next time it will be the same one.
            seen.topology = Arc::clone(topology);
            return Ok((Arc::clone(&seen.configured), seen.topics_hash));
        }
        let count = |name: &str| world.named(name).map(|(_, count)| count);
        let configured = Arc::new(topics::configure(topology, &count)?);
        let topics_hash = hash(topology.required().into_iter(), world);
        self.seen = Some(Seen {
            version,
            topology: Arc::clone(topology),
            topics_hash,
            configured: Arc::clone(&configured),
        });
        Ok((configured, topics_hash))
    }

    /// Where tasks are changed: members are told anew.
    pub(in crate::group) fn endpoints_changed(&mut self) {
        self.endpoints_epoch = self.endpoints_epoch.wrapping_add(1) & i32::MAX;
    }

    /// When to look for what is due.
    pub(in crate::group) fn wake(&self) -> Option<Monotonic> {
        self.times.wake()
    }
}

/// Partitions by the names of their topics.
pub(in crate::group) type ByTopic = BTreeMap<Arc<str>, Vec<i32>>;
