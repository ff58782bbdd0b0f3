//! What a cluster says about itself, as far as it has been asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::{LeaderEpoch, Monotonic, Uuid};
use millstream_wire::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use millstream_wire::{ErrorCode, MetadataResponse};

use crate::connector::Address;
use crate::error::Error;

/// A topic's name; cheap to clone.
pub type TopicName = Arc<str>;

/// A partition by its topic's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition's number, from 0.
    pub partition: i32,
}

/// A broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broker {
    /// Its number.
    pub id: i32,
    /// Where it says that it listens.
    pub address: Address,
    /// The rack that it says it is in.
    pub rack: Option<String>,
}

/// A topic and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// The name.
    pub name: TopicName,
    /// The identity; [`Uuid::NIL`] where the broker is too old to say.
    pub id: Uuid,
    /// Whether it belongs to the cluster's own workings.
    pub internal: bool,
    /// The partitions by number, without gaps.
    pub partitions: Vec<Partition>,
}

/// A partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its number.
    pub index: i32,
    /// The broker that leads it, if one does.
    pub leader: Option<i32>,
    /// The epoch of that leader.
    pub leader_epoch: LeaderEpoch,
    /// The brokers that hold it.
    pub replicas: Vec<i32>,
    /// Those among them that have all that was acknowledged.
    pub in_sync: Vec<i32>,
}

/// Everything that is known of a cluster.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    /// The cluster's identity.
    pub cluster_id: Option<String>,
    /// The broker that admin requests go to.
    pub controller: Option<i32>,
    /// The live brokers.
    pub brokers: BTreeMap<i32, Broker>,
    topics: BTreeMap<TopicName, Known>,
}

#[derive(Clone, Debug)]
struct Known {
    since: Monotonic,
    topic: Arc<Topic>,
}

impl TopicPartition {
    /// A partition.
    pub fn new(topic: impl Into<TopicName>, partition: i32) -> Self {
        Self { topic: topic.into(), partition }
    }
}

impl std::fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl Topic {
    /// A partition by its number.
    #[must_use]
    pub fn partition(&self, index: i32) -> Option<&Partition> {
        usize::try_from(index).ok().and_then(|index| self.partitions.get(index))
    }

    fn decode(topic: &MetadataResponseTopic) -> Self {
        let name = topic.name.as_deref().unwrap_or_default();
        let mut partitions: Vec<_> = topic.partitions.iter().map(Partition::decode).collect();
        partitions.sort_by_key(|partition| partition.index);
        // A gap would make the number of partitions ambiguous: what follows it can't be used.
        let whole = (0..).zip(&partitions).take_while(|(at, p)| *at == p.index).count();
        partitions.truncate(whole);
        Self { name: name.into(), id: topic.topic_id, internal: topic.is_internal, partitions }
    }
}

impl Partition {
    fn decode(partition: &MetadataResponsePartition) -> Self {
        Self {
            index: partition.partition_index,
            leader: (partition.leader_id >= 0).then_some(partition.leader_id),
            leader_epoch: LeaderEpoch(partition.leader_epoch),
            replicas: partition.replica_nodes.clone(),
            in_sync: partition.isr_nodes.clone(),
        }
    }
}

impl Metadata {
    /// The topic, if it has been asked for at `since` or later.
    pub(super) fn topic(&self, name: &str, since: Monotonic) -> Option<&Arc<Topic>> {
        self.topics.get(name).filter(|known| known.since >= since).map(|known| &known.topic)
    }

    /// Takes in an answer that came `now`, and returns what it said about each topic.
    pub(super) fn apply(
        &mut self,
        answer: &MetadataResponse,
        now: Monotonic,
    ) -> Vec<(TopicName, Result<Arc<Topic>, Error>)> {
        let brokers = answer.brokers.iter().filter_map(|broker| {
            let port = u16::try_from(broker.port).ok()?;
            let address = Address::new(broker.host.as_str(), port);
            let rack = broker.rack.as_deref().map(str::to_owned);
            Some((broker.node_id, Broker { id: broker.node_id, address, rack }))
        });
        self.brokers = brokers.collect();
        self.cluster_id = answer.cluster_id.as_deref().map(str::to_owned);
        self.controller = (answer.controller_id >= 0).then_some(answer.controller_id);
        answer.topics.iter().map(|topic| self.apply_topic(topic, now)).collect()
    }

    fn apply_topic(
        &mut self,
        topic: &MetadataResponseTopic,
        now: Monotonic,
    ) -> (TopicName, Result<Arc<Topic>, Error>) {
        let decoded = Arc::new(Topic::decode(topic));
        let name = Arc::clone(&decoded.name);
        let what = || format!("topic {name}");
        match Error::check(topic.error_code, None, what) {
            Ok(()) => {
                let known = Known { since: now, topic: Arc::clone(&decoded) };
                self.topics.insert(Arc::clone(&name), known);
                (name, Ok(decoded))
            }
            Err(error) => {
                if error.code() == Some(ErrorCode::UnknownTopicOrPartition) {
                    self.topics.remove(&name);
                }
                (name, Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_wire::metadata_response::MetadataResponseBroker;

    fn answer(topics: &[(&'static str, ErrorCode, &[i32])]) -> MetadataResponse {
        let topics = topics.iter().map(|&(name, error, partitions)| MetadataResponseTopic {
            name: Some(name.into()),
            error_code: error.code(),
            partitions: partitions
                .iter()
                .map(|&partition_index| MetadataResponsePartition {
                    partition_index,
                    leader_id: partition_index - 1,
                    ..Default::default()
                })
                .collect(),
            ..Default::default()
        });
        MetadataResponse {
            brokers: vec![
                MetadataResponseBroker {
                    node_id: 7,
                    host: "kafka".into(),
                    port: 9092,
                    ..Default::default()
                },
                MetadataResponseBroker {
                    node_id: 8,
                    host: "x".into(),
                    port: 70_000,
                    ..Default::default()
                },
            ],
            topics: topics.collect(),
            ..Default::default()
        }
    }

    #[test]
    fn partitions_are_sorted_and_end_at_a_gap() {
        let mut metadata = Metadata::default();
        let answer = answer(&[("a", ErrorCode::None, &[1, 0, 2]), ("b", ErrorCode::None, &[0, 2])]);
        metadata.apply(&answer, Monotonic(5));
        let a = metadata.topic("a", Monotonic(5)).unwrap();
        assert_eq!(
            a.partitions.iter().map(|p| (p.index, p.leader)).collect::<Vec<_>>(),
            [(0, None), (1, Some(0)), (2, Some(1))]
        );
        assert_eq!(a.partition(3), None);
        assert_eq!(a.partition(-1), None);
        assert_eq!(metadata.topic("b", Monotonic(5)).unwrap().partitions.len(), 1);
    }

    #[test]
    fn brokers_without_a_real_port_are_left_out() {
        let mut metadata = Metadata::default();
        metadata.apply(&answer(&[]), Monotonic(0));
        assert_eq!(metadata.brokers.keys().collect::<Vec<_>>(), [&7]);
    }

    #[test]
    fn what_was_learned_too_long_ago_is_not_known() {
        let mut metadata = Metadata::default();
        metadata.apply(&answer(&[("a", ErrorCode::None, &[0])]), Monotonic(5));
        assert!(metadata.topic("a", Monotonic(5)).is_some());
        assert!(metadata.topic("a", Monotonic(6)).is_none());
    }

    #[test]
    fn a_topic_that_is_gone_is_forgotten() {
        let mut metadata = Metadata::default();
        metadata.apply(&answer(&[("a", ErrorCode::None, &[0])]), Monotonic(1));
        // A topic in trouble is still the topic that it was.
        metadata.apply(&answer(&[("a", ErrorCode::LeaderNotAvailable, &[0])]), Monotonic(2));
        assert!(metadata.topic("a", Monotonic(1)).is_some());
        metadata.apply(&answer(&[("a", ErrorCode::UnknownTopicOrPartition, &[])]), Monotonic(3));
        assert!(metadata.topic("a", Monotonic(0)).is_none());
    }
}
