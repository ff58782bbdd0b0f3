//! What consumers of the classic protocol say to each other, which the coordinator reads and writes
//! when they are in a consumer group: subscriptions and assignments by names of topics.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use millstream_wire::consumer_protocol_assignment::TopicPartition;
use millstream_wire::stored::{decode_value, encode_value, prefix};
use millstream_wire::{ConsumerProtocolAssignment, ConsumerProtocolSubscription, Message};

use super::member::Partitions;
use super::world::World;

/// What a member subscribes to and owns.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Subscription {
    pub(super) topics: BTreeSet<Arc<str>>,
    pub(super) owned: Partitions,
    pub(super) rack: Option<Arc<str>>,
}

/// Reads a subscription; `None` when it is none.
pub(super) fn subscription(said: &Bytes, world: &dyn World) -> Option<Subscription> {
    let read: ConsumerProtocolSubscription = read(said)?;
    let owned = read.owned_partitions.iter().map(|of| (of.topic.as_str(), &of.partitions));
    Some(Subscription {
        topics: read.topics.iter().map(|topic| Arc::from(topic.as_str())).collect(),
        owned: by_id(owned, world),
        rack: read.rack_id.map(|rack| Arc::from(rack.as_str())),
    })
}

/// Reads an assignment; nothing where it is empty or none.
pub(super) fn assignment(told: &Bytes, world: &dyn World) -> Partitions {
    let Some(read) = read::<ConsumerProtocolAssignment>(told) else { return Partitions::new() };
    let all = read.assigned_partitions.iter().map(|of| (of.topic.as_str(), &of.partitions));
    by_id(all, world)
}

/// Writes an assignment in the version of a subscription. Topics that are gone are left out.
pub(super) fn write_assignment(partitions: &Partitions, said: &Bytes, world: &dyn World) -> Bytes {
    let named = partitions.iter().filter_map(|(topic, indexes)| {
        Some(TopicPartition {
            topic: world.name_of(*topic)?.to_string().into(),
            partitions: indexes.iter().copied().collect(),
        })
    });
    let value =
        ConsumerProtocolAssignment { assigned_partitions: named.collect(), user_data: None };
    let newest = *ConsumerProtocolAssignment::VERSIONS.end();
    let version = prefix(said).unwrap_or(0).clamp(0, newest);
    // Names of topics fit.
    encode_value(&value, version).unwrap_or_default()
}

fn read<M: Message>(bytes: &Bytes) -> Option<M> {
    decode_value(bytes).ok()
}

fn by_id<'a>(
    named: impl Iterator<Item = (&'a str, &'a Vec<i32>)>,
    world: &dyn World,
) -> Partitions {
    let mut all = Partitions::new();
    for (name, indexes) in named {
        if let Some((topic, _)) = world.named(name).filter(|_| !indexes.is_empty()) {
            all.entry(topic).or_default().extend(indexes.iter().copied());
        }
    }
    all
}
