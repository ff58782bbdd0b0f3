//! What groups are told of the world: the topics of the session, and what is configured for groups.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use millstream_coordinator::cluster::{ClusterState, Entry, Overrides, Resource};
use millstream_coordinator::group::{GroupOverrides, World};
use millstream_types::TopicId;

use crate::topics::{TopicRef, Topics};

/// The world of the groups of one session. It is asked under the lock of a shard, and asks for no
/// lock itself under which a shard is looked for.
#[derive(Default)]
pub(crate) struct GroupWorld {
    pub(crate) topics: Arc<Topics>,
    overrides: RwLock<HashMap<String, GroupOverrides>>,
}

impl GroupWorld {
    /// Takes what is configured for all groups.
    pub(crate) fn load(&self, state: &ClusterState) {
        let groups = state.configured().filter_map(|(resource, overrides)| match resource {
            Resource::Group(name) => Some((name.clone(), GroupOverrides::resolve(overrides))),
            Resource::Brokers | Resource::Broker(_) | Resource::ClientMetrics(_) => None,
        });
        let groups = groups.collect();
        *self.overrides.write().unwrap_or_else(PoisonError::into_inner) = groups;
    }

    /// Follows changes of what is configured for groups.
    pub(crate) fn follow(&self, entries: &[Entry]) {
        for entry in entries {
            if let Entry::OverridesSet { resource: Resource::Group(name), overrides } = entry {
                self.set(name, overrides);
            }
        }
    }

    fn set(&self, group: &str, overrides: &Overrides) {
        let mut table = self.overrides.write().unwrap_or_else(PoisonError::into_inner);
        if overrides.is_empty() {
            table.remove(group);
        } else {
            table.insert(group.to_owned(), GroupOverrides::resolve(overrides));
        }
    }
}

impl World for GroupWorld {
    fn version(&self) -> u64 {
        self.topics.version()
    }

    fn named(&self, name: &str) -> Option<(TopicId, i32)> {
        let topic = self.topics.find(TopicRef::Name(name))?;
        Some((topic.id, i32::try_from(topic.partitions().len()).unwrap_or(i32::MAX)))
    }

    fn name_of(&self, topic: TopicId) -> Option<Arc<str>> {
        self.topics.find(TopicRef::Id(topic)).map(|topic| Arc::clone(&topic.name))
    }

    fn matching(&self, wanted: &mut dyn FnMut(&str) -> bool) -> Vec<Arc<str>> {
        self.topics.matching(wanted)
    }

    fn overrides(&self, group: &str) -> GroupOverrides {
        let table = self.overrides.read().unwrap_or_else(PoisonError::into_inner);
        table.get(group).copied().unwrap_or_default()
    }
}

impl fmt::Debug for GroupWorld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupWorld").finish_non_exhaustive()
    }
}
