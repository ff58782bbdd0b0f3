//! Topics as they run: a name, an identity, and a handle per partition.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use millstream_coordinator::cluster::{ClusterState, Entry, TopicState};
use millstream_coordinator::config::{BrokerConfig, TopicConfig};
use millstream_log::{Log, Partition, PartitionConfig, PartitionSpec};
use millstream_types::{PartitionId, TopicId};

/// The internal topic that holds groups and their offsets.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";
/// The internal topic that holds transactions.
pub const TRANSACTIONS_TOPIC: &str = "__transaction_state";
/// The internal topic that holds the audit.
pub const AUDIT_TOPIC: &str = "__millstream_audit";

/// One topic, as of its newest change. What changes gets a new value; holders of the old one go on
/// with what they have.
#[derive(Debug)]
pub struct Topic {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity.
    pub id: TopicId,
    /// Whether only the broker writes it.
    pub internal: bool,
    /// The replication factor that was asked for.
    pub replication: i16,
    /// Its configuration, resolved.
    pub config: Arc<TopicConfig>,
    partitions: Vec<Partition>,
}

/// How a client names a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopicRef<'a> {
    /// By name.
    Name(&'a str),
    /// By identity.
    Id(TopicId),
}

/// All topics of the node.
#[derive(Debug, Default)]
pub(crate) struct Topics {
    table: RwLock<Table>,
    /// Rises when topics come, go or grow.
    version: AtomicU64,
}

#[derive(Debug, Default)]
struct Table {
    by_name: BTreeMap<Arc<str>, Arc<Topic>>,
    by_id: HashMap<TopicId, Arc<Topic>>,
}

impl Topic {
    /// The handle of partition `index`, if there is such a partition.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    /// The handles of all partitions, by number.
    #[must_use]
    pub fn partitions(&self) -> &[Partition] {
        &self.partitions
    }
}

impl Topics {
    pub(crate) fn find(&self, topic: TopicRef<'_>) -> Option<Arc<Topic>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        match topic {
            TopicRef::Name(name) => table.by_name.get(name).cloned(),
            TopicRef::Id(id) => table.by_id.get(&id).cloned(),
        }
    }

    /// Rises when topics come, go or grow.
    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// The names of those that `wanted` lets through.
    pub(crate) fn matching(&self, wanted: &mut dyn FnMut(&str) -> bool) -> Vec<Arc<str>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.by_name.keys().filter(|name| wanted(name)).cloned().collect()
    }

    /// All topics, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Topic>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = table.by_id.values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Takes every topic of `state`, whose partitions `log` has opened.
    pub(crate) fn load(&self, state: &ClusterState, broker: &BrokerConfig, log: &Log) {
        for topic in state.topics() {
            self.put(state, topic, broker, log);
        }
    }

    /// Follows changes that have been made to `state`. Returns the topics that are gone.
    pub(crate) fn follow(
        &self,
        state: &ClusterState,
        entries: &[Entry],
        broker: &BrokerConfig,
        log: &Log,
    ) -> Vec<Arc<Topic>> {
        let mut deleted = Vec::new();
        for entry in entries {
            match entry {
                Entry::TopicCreated(TopicState { id, .. })
                | Entry::PartitionsSet { id, .. }
                | Entry::TopicOverridesSet { id, .. } => {
                    if let Some(topic) = state.topic(*id) {
                        self.put(state, topic, broker, log);
                    }
                }
                Entry::TopicDeleted { id } => deleted.extend(self.remove(*id, log)),
                // A broker's defaults reach into every topic that does not override them.
                Entry::OverridesSet { .. } => self.load(state, broker, log),
                Entry::SessionOpened { .. }
                | Entry::ProducerIdsTaken { .. }
                | Entry::QuotasSet { .. }
                | Entry::AclAdded(_)
                | Entry::AclRemoved(_)
                | Entry::CredentialSet { .. }
                | Entry::CredentialDeleted { .. }
                | Entry::DecoySecretSet { .. }
                | Entry::DelegationSet(_)
                | Entry::DelegationRemoved { .. }
                | Entry::Trimmed(_) => {}
            }
        }
        deleted
    }

    /// Follows everything that has changed since `load`.
    pub(crate) fn catch_up(&self, state: &ClusterState, broker: &BrokerConfig, log: &Log) {
        let stored = log.partitions().into_iter().map(|partition| partition.topic);
        let known = self.all().into_iter().map(|topic| topic.id);
        let gone: BTreeSet<TopicId> =
            stored.chain(known).filter(|id| state.topic(*id).is_none()).collect();
        for id in gone {
            self.remove(id, log);
        }
        self.load(state, broker, log);
    }

    fn put(&self, state: &ClusterState, topic: &TopicState, broker: &BrokerConfig, log: &Log) {
        let config = Arc::new(TopicConfig::resolve(&topic.overrides, broker));
        let stored = Arc::new(partition_config(&config, broker));
        let mut partitions = Vec::new();
        for index in 0..topic.partitions {
            let id = PartitionId { topic: topic.id, index };
            if log.partition(id).is_none() {
                let config = Arc::clone(&stored);
                log.create_partition(PartitionSpec { id, epoch: state.epoch(topic), config });
            }
            partitions.extend(log.partition(id));
        }
        log.reconfigure(topic.id, stored);
        let topic = Arc::new(Topic {
            name: Arc::clone(&topic.name),
            id: topic.id,
            internal: is_internal(&topic.name),
            replication: topic.replication,
            config,
            partitions,
        });
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        table.by_name.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        let partitions = topic.partitions.len();
        let former = table.by_id.insert(topic.id, topic);
        if former.is_none_or(|former| former.partitions.len() != partitions) {
            self.version.fetch_add(1, Ordering::Release);
        }
    }

    fn remove(&self, id: TopicId, log: &Log) -> Option<Arc<Topic>> {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        let removed = table.by_id.remove(&id);
        if let Some(topic) = &removed {
            table.by_name.remove(&topic.name);
            self.version.fetch_add(1, Ordering::Release);
        }
        drop(table);
        log.delete_topic(id);
        removed
    }
}

/// What the log is to open: every partition of every topic.
pub(crate) fn specs(state: &ClusterState, broker: &BrokerConfig) -> Vec<PartitionSpec> {
    let mut specs = Vec::new();
    for topic in state.topics() {
        let config = TopicConfig::resolve(&topic.overrides, broker);
        let config = Arc::new(partition_config(&config, broker));
        specs.extend((0..topic.partitions).map(|index| PartitionSpec {
            id: PartitionId { topic: topic.id, index },
            epoch: state.epoch(topic),
            config: Arc::clone(&config),
        }));
    }
    specs
}

/// Whether a topic is the broker's own.
#[must_use]
pub fn is_internal(name: &str) -> bool {
    [OFFSETS_TOPIC, TRANSACTIONS_TOPIC, AUDIT_TOPIC].contains(&name)
}

/// What the log needs of a topic's configuration.
fn partition_config(topic: &TopicConfig, broker: &BrokerConfig) -> PartitionConfig {
    PartitionConfig {
        retention: topic.retention,
        retention_bytes: topic.retention_bytes,
        segment_bytes: topic.segment_bytes,
        segment_age: topic.segment_age,
        deletes: topic.deletes,
        compacts: topic.compacts,
        delete_retention: topic.delete_retention,
        dirty_ratio: topic.dirty_ratio_min,
        compaction_lag_min: topic.compaction_lag_min,
        compaction_lag_max: topic.compaction_lag_max,
        timestamp_type: topic.timestamp_type,
        producer_expiry: broker.producer_expiry,
    }
}
