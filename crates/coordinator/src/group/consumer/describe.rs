//! What administrators see of a consumer group.

use std::sync::Arc;

use millstream_types::TopicId;

use super::assign::Assignor;
use super::member::Partitions;
use super::state::ConsumerGroup;
use super::world::World;
use crate::group::reply::{ConsumerDescription, DescribedConsumer, GroupState, NamedPartitions};

impl ConsumerGroup {
    /// The group's state, as clients and tools know it.
    pub(in crate::group) fn state(&self) -> GroupState {
        if self.members().is_empty() {
            GroupState::Empty
        } else if self.group.epoch > self.target.epoch {
            GroupState::Assigning
        } else if self.is_reconciled() {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    pub(in crate::group) fn describe(
        &self,
        world: &dyn World,
        assignors: &[Assignor],
    ) -> ConsumerDescription {
        let members = self.members().iter().map(|(id, member)| DescribedConsumer {
            member: Arc::clone(id),
            instance: member.about.instance.clone(),
            rack: member.about.rack.clone(),
            epoch: member.current.epoch,
            client_id: Arc::clone(&member.about.client_id),
            client_host: Arc::clone(&member.about.client_host),
            topics: member.about.topics.iter().cloned().collect(),
            regex: member.about.regex.clone(),
            assigned: named(&member.current.partitions(), world),
            target: self.target_of(id).map(|target| named(target, world)).unwrap_or_default(),
            classic: member.about.classic.is_some(),
        });
        ConsumerDescription {
            state: self.state(),
            epoch: self.group.epoch,
            target_epoch: self.target.epoch,
            assignor: self.assignor(assignors),
            members: members.collect(),
        }
    }
}

/// Partitions of topics that there are, by name.
fn named(partitions: &Partitions, world: &dyn World) -> Vec<NamedPartitions> {
    let named = |(topic, indexes): (&TopicId, &std::collections::BTreeSet<i32>)| {
        let indexes = indexes.iter().copied().collect();
        Some(NamedPartitions { topic: *topic, name: world.name_of(*topic)?, indexes })
    };
    partitions.iter().filter_map(named).collect()
}
