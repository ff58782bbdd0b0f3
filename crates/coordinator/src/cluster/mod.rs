//! Cluster metadata: topics, configuration overrides, access rules, quotas, credentials, delegation tokens,
//! sessions, producer ids, journal trims.
//!
//! A command looks at the state and yields entries; the host writes them to the metadata log; only
//! [`ClusterState::replay`] changes the state. A snapshot is a list of entries too, so that there
//! is one format and one way into the state.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use millstream_types::{LeaderEpoch, ProducerId, SessionId, TopicId};

use crate::acl::Acls;
use crate::credentials::Credentials;
use crate::delegation::Delegations;
use crate::quota::Quotas;

mod entry;
mod name;
mod topics;

pub use entry::{Entry, EntryError, decode, encode};
pub use name::{NameError, check_name};
pub use topics::{CreateError, NewTopic, PartitionsError, Replication};

/// Configuration set by somebody: what differs from the defaults, by name.
pub type Overrides = BTreeMap<String, String>;

/// How many producer ids are taken from the metadata log at once. Those that a crash leaves unused
/// are never given out.
pub const PRODUCER_ID_BLOCK: i64 = 1_000;

/// What configuration can be set on, apart from topics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Resource {
    /// All brokers.
    Brokers,
    /// One broker, by number.
    Broker(i32),
    /// A group, by name.
    Group(String),
    /// A subscription to client metrics, by name.
    ClientMetrics(String),
}

/// The newest checkpoint of a node's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trimmed {
    /// The session whose journal it belongs to.
    pub session: SessionId,
    /// Everything below this position is in the checkpoint.
    pub lsn: u64,
    /// The name of the checkpoint's blob.
    pub checkpoint: String,
}

/// A topic as the metadata knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicState {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity.
    pub id: TopicId,
    /// How many partitions it has, at least one.
    pub partitions: i32,
    /// The replication factor that was asked for: reported, without effect.
    pub replication: i16,
    /// The session that was open when it was created.
    pub created: SessionId,
    /// What differs from the defaults.
    pub overrides: Overrides,
}

/// All metadata of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    session: SessionId,
    topics: HashMap<TopicId, TopicState>,
    names: BTreeMap<Arc<str>, TopicId>,
    /// By collision key, the names that can collide: follows from `names`.
    collisions: HashMap<String, BTreeSet<Arc<str>>>,
    overrides: BTreeMap<Resource, Overrides>,
    quotas: Quotas,
    /// Shared with those who decide by them where nobody may wait.
    acls: Arc<Acls>,
    credentials: Credentials,
    delegations: Delegations,
    producer_ids_next: i64,
    trimmed: Option<Trimmed>,
}

impl ClusterState {
    /// The newest session; 0 before the first.
    #[must_use]
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// The newest checkpoint, if there is one.
    #[must_use]
    pub const fn trimmed(&self) -> Option<&Trimmed> {
        self.trimmed.as_ref()
    }

    /// The topic of that name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&TopicState> {
        self.topics.get(self.names.get(name)?)
    }

    /// The topic of that identity.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&TopicState> {
        self.topics.get(&id)
    }

    /// The topic whose name differs from `name` only in `.` and `_`, if there is one.
    fn colliding(&self, name: &str) -> Option<&Arc<str>> {
        let names = self.collisions.get(&name::collision_key(name)?)?;
        names.iter().find(|other| ***other != *name)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &TopicState> {
        self.names.values().filter_map(|id| self.topics.get(id))
    }

    /// The leader epoch of the topic's partitions: how many sessions have been opened since it was
    /// created. A restart raises every epoch by one, without a write per partition.
    #[must_use]
    pub fn epoch(&self, topic: &TopicState) -> LeaderEpoch {
        let sessions = self.session.0.saturating_sub(topic.created.0);
        LeaderEpoch(i32::try_from(sessions).unwrap_or(i32::MAX))
    }

    /// What was set on `resource`.
    #[must_use]
    pub fn overrides(&self, resource: &Resource) -> Option<&Overrides> {
        self.overrides.get(resource)
    }

    /// Everything that something was set on, topics apart.
    pub fn configured(&self) -> impl Iterator<Item = (&Resource, &Overrides)> {
        self.overrides.iter()
    }

    /// All quotas.
    #[must_use]
    pub const fn quotas(&self) -> &Quotas {
        &self.quotas
    }

    /// All access rules.
    #[must_use]
    pub const fn acls(&self) -> &Arc<Acls> {
        &self.acls
    }

    /// All credentials of users.
    #[must_use]
    pub const fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// All delegation tokens.
    #[must_use]
    pub const fn delegations(&self) -> &Delegations {
        &self.delegations
    }

    /// Opens the next session.
    #[must_use]
    pub fn open_session(&self) -> Entry {
        Entry::SessionOpened { session: SessionId(self.session.0.saturating_add(1)) }
    }

    /// Takes the next block of producer ids: `first` up to but without
    /// `first + PRODUCER_ID_BLOCK`.
    #[must_use]
    pub const fn allocate_producer_ids(&self) -> (Entry, ProducerId) {
        let first = self.producer_ids_next;
        let next = first.saturating_add(PRODUCER_ID_BLOCK);
        (Entry::ProducerIdsTaken { next }, ProducerId(first))
    }

    /// Changes the state by one entry: the only way in.
    pub fn replay(&mut self, entry: Entry) {
        match entry {
            Entry::SessionOpened { session } => self.session = session,
            Entry::TopicCreated(topic) => self.add(topic),
            Entry::TopicDeleted { id } => self.remove(id),
            Entry::PartitionsSet { id, partitions } => {
                if let Some(topic) = self.topics.get_mut(&id) {
                    topic.partitions = partitions;
                }
            }
            Entry::TopicOverridesSet { id, overrides } => {
                if let Some(topic) = self.topics.get_mut(&id) {
                    topic.overrides = overrides;
                }
            }
            Entry::OverridesSet { resource, overrides } => {
                if overrides.is_empty() {
                    self.overrides.remove(&resource);
                } else {
                    self.overrides.insert(resource, overrides);
                }
            }
            Entry::QuotasSet { entity, limits } => self.quotas.set(entity, limits),
            Entry::AclAdded(binding) => Arc::make_mut(&mut self.acls).add(binding),
            Entry::AclRemoved(binding) => Arc::make_mut(&mut self.acls).remove(&binding),
            Entry::CredentialSet { user, hash, credential } => {
                self.credentials.set(user, hash, credential);
            }
            Entry::CredentialDeleted { user, hash } => self.credentials.remove(&user, hash),
            Entry::DecoySecretSet { secret } => self.credentials.set_secret(secret),
            Entry::DelegationSet(token) => self.delegations.set(token),
            Entry::DelegationRemoved { id } => self.delegations.remove(&id),
            Entry::ProducerIdsTaken { next } => self.producer_ids_next = next,
            Entry::Trimmed(trimmed) => self.trimmed = Some(trimmed),
        }
    }

    /// Adds a topic. No command makes one whose name or identity is taken; if the log says so all the
    /// same, the newest counts, so that each name has one topic and each topic its name.
    fn add(&mut self, topic: TopicState) {
        self.remove(topic.id);
        if let Some(former) = self.names.get(&topic.name).copied() {
            self.remove(former);
        }
        if let Some(key) = name::collision_key(&topic.name) {
            self.collisions.entry(key).or_default().insert(Arc::clone(&topic.name));
        }
        self.names.insert(Arc::clone(&topic.name), topic.id);
        self.topics.insert(topic.id, topic);
    }

    fn remove(&mut self, id: TopicId) {
        let Some(topic) = self.topics.remove(&id) else { return };
        self.names.remove(&topic.name);
        let Some(key) = name::collision_key(&topic.name) else { return };
        if let Some(names) = self.collisions.get_mut(&key) {
            names.remove(&topic.name);
            if names.is_empty() {
                self.collisions.remove(&key);
            }
        }
    }

    /// Entries that lead from nothing to this state.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Entry> {
        let mut entries = vec![
            Entry::SessionOpened { session: self.session },
            Entry::ProducerIdsTaken { next: self.producer_ids_next },
        ];
        entries.extend(self.topics().cloned().map(Entry::TopicCreated));
        entries.extend(self.overrides.iter().map(|(resource, overrides)| Entry::OverridesSet {
            resource: resource.clone(),
            overrides: overrides.clone(),
        }));
        entries.extend(self.quotas.iter().map(|(entity, limits)| Entry::QuotasSet {
            entity: entity.clone(),
            limits: limits.clone(),
        }));
        entries.extend(self.acls.iter().cloned().map(Entry::AclAdded));
        entries.extend(self.credentials.snapshot());
        entries.extend(self.delegations.snapshot());
        entries.extend(self.trimmed.clone().map(Entry::Trimmed));
        entries
    }
}

#[cfg(test)]
mod tests;
