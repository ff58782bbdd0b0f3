//! What an application consists of, as its members say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The topology of an application.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The application's own number for it.
    pub epoch: i32,
    /// Its parts, by id.
    pub subtopologies: BTreeMap<Arc<str>, Subtopology>,
}

/// A part of a topology that no stream of records in memory connects to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subtopology {
    /// The topics that it reads and that others write.
    pub sources: Vec<Arc<str>>,
    /// The topics that keep its state, which the coordinator makes.
    pub changelogs: Vec<InternalTopic>,
    /// The topics that it writes for itself or other parts.
    pub sinks: Vec<Arc<str>>,
    /// The topics that it reads and that parts of the topology write, which the coordinator makes.
    pub repartitions: Vec<InternalTopic>,
    /// What must have the same number of partitions.
    pub copartitions: Vec<Copartition>,
}

/// A topic that the coordinator makes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InternalTopic {
    /// Its name.
    pub name: Arc<str>,
    /// How many partitions; 0 where the coordinator is to decide.
    pub partitions: i32,
    /// How many replicas; 0 for the broker's default.
    pub replicas: i16,
    /// Its configuration.
    pub configs: Vec<(Arc<str>, Arc<str>)>,
}

/// Topics of a subtopology that must have the same number of partitions, by their places in its lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Copartition {
    /// Places in [`Subtopology::sources`].
    pub sources: Vec<i16>,
    /// Places in [`Subtopology::repartitions`].
    pub repartitions: Vec<i16>,
}

/// What keeping a topic takes beside its texts, in bytes.
const TOPIC_BYTES: usize = 96;

impl Topology {
    /// The names of all topics that it reads or that keep its state.
    pub(in crate::group) fn required(&self) -> BTreeSet<&Arc<str>> {
        self.subtopologies
            .values()
            .flat_map(|part| part.inputs().chain(part.changelogs.iter().map(|topic| &topic.name)))
            .collect()
    }

    /// Whether a part of it reads the topic.
    pub(in crate::group) fn reads(&self, topic: &str) -> bool {
        self.reader_of(topic).is_some()
    }

    /// The id of the part that reads the topic.
    pub(in crate::group) fn reader_of(&self, topic: &str) -> Option<&Arc<str>> {
        let mut parts = self.subtopologies.iter();
        parts.find(|(_, part)| part.inputs().any(|name| &**name == topic)).map(|(id, _)| id)
    }

    /// What keeping it takes, in bytes.
    pub(in crate::group) fn bytes(&self) -> usize {
        self.subtopologies.iter().map(|(id, part)| id.len() + part.bytes()).sum()
    }
}

impl Subtopology {
    /// The names of all topics that it reads.
    pub(in crate::group) fn inputs(&self) -> impl Iterator<Item = &Arc<str>> {
        self.sources.iter().chain(self.repartitions.iter().map(|topic| &topic.name))
    }

    /// The topics that the coordinator makes for it.
    pub(in crate::group) fn internals(&self) -> impl Iterator<Item = &InternalTopic> {
        self.repartitions.iter().chain(&self.changelogs)
    }

    fn bytes(&self) -> usize {
        let names = self.sources.iter().chain(&self.sinks).map(|name| name.len() + TOPIC_BYTES);
        let configs = |topic: &InternalTopic| -> usize {
            topic.configs.iter().map(|(key, value)| key.len() + value.len() + TOPIC_BYTES).sum()
        };
        let topics = self.internals().map(|topic| topic.name.len() + TOPIC_BYTES + configs(topic));
        let groups = self.copartitions.iter();
        let groups = groups.map(|of| 64 + 2 * (of.sources.len() + of.repartitions.len()));
        TOPIC_BYTES + names.chain(topics).chain(groups).sum::<usize>()
    }
}
