//! What administrators and other members see of a streams group.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::member::Endpoint;
use super::soft::ByTopic;
use super::state::StreamsGroup;
use super::tasks::{Assignment, Tasks};
use super::topics::{Configured, configure};
use super::topology::{Subtopology, Topology};
use crate::group::consumer::World;
use crate::group::reply::{EndpointPartitions, GroupState};

/// A streams group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamsDescription {
    /// Its state.
    pub state: GroupState,
    /// Its epoch.
    pub epoch: i32,
    /// The epoch of its target assignment.
    pub target_epoch: i32,
    /// Its topology; numbers of partitions that the coordinator decides are 0 while it cannot.
    pub topology: Option<Topology>,
    /// The members.
    pub members: Vec<DescribedStreamsMember>,
}

/// A member of a streams group, described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DescribedStreamsMember {
    /// The member's id.
    pub member: Arc<str>,
    /// The static member's own name.
    pub instance: Option<Arc<str>>,
    /// Where it is.
    pub rack: Option<Arc<str>>,
    /// Its epoch.
    pub epoch: i32,
    /// The client's name for itself.
    pub client_id: Arc<str>,
    /// Where the client connects from.
    pub client_host: Arc<str>,
    /// The epoch of the topology that it was started with.
    pub topology_epoch: i32,
    /// The process that it is part of.
    pub process: Arc<str>,
    /// Where it answers queries.
    pub endpoint: Option<Endpoint>,
    /// What it says of where it is.
    pub tags: BTreeMap<Arc<str>, Arc<str>>,
    /// The tasks that it has.
    pub assigned: Assignment,
    /// The tasks that it is to have.
    pub target: Assignment,
}

impl StreamsGroup {
    pub(in crate::group) fn describe(&self, world: &dyn World) -> StreamsDescription {
        let members = self.members().iter().map(|(id, member)| DescribedStreamsMember {
            member: Arc::clone(id),
            instance: member.about.instance.clone(),
            rack: member.about.rack.clone(),
            epoch: member.current.epoch,
            client_id: Arc::clone(&member.about.client_id),
            client_host: Arc::clone(&member.about.client_host),
            topology_epoch: member.about.topology_epoch,
            process: Arc::clone(&member.about.process),
            endpoint: member.about.endpoint.clone(),
            tags: member.about.tags.clone(),
            assigned: member.current.assigned.assignment(),
            target: self.target_of(id).map(|target| (**target).clone()).unwrap_or_default(),
        });
        StreamsDescription {
            state: self.state(),
            epoch: self.group.epoch,
            target_epoch: self.target.epoch,
            topology: self.topology().map(|topology| with_numbers(topology, world)),
            members: members.collect(),
        }
    }

    /// Where the tasks are whose members answer queries.
    pub(super) fn endpoints(
        &self,
        configured: &Configured,
        world: &dyn World,
    ) -> Vec<EndpointPartitions> {
        let Some(topology) = self.topology() else { return Vec::new() };
        let members = self.members().values().filter_map(|member| {
            let endpoint = member.about.endpoint.clone()?;
            let assigned = member.current.assigned.assignment();
            let by_topic = |tasks| by_topic(tasks, topology, configured, world);
            let (active, standby) = (by_topic(&assigned.active), by_topic(&assigned.standby));
            Some(EndpointPartitions { endpoint, active, standby })
        });
        members.collect()
    }
}

/// The partitions that tasks read.
fn by_topic(
    tasks: &Tasks,
    topology: &Topology,
    configured: &Configured,
    world: &dyn World,
) -> ByTopic {
    let mut all = ByTopic::new();
    for (id, indexes) in tasks {
        let part = topology.subtopologies.get(id).filter(|_| configured.parts.contains_key(id));
        for name in part.into_iter().flat_map(Subtopology::inputs) {
            let count = world.named(name).map_or(0, |(_, count)| count);
            let read = indexes.iter().copied().filter(|index| *index < count);
            all.entry(Arc::clone(name)).or_default().extend(read);
        }
    }
    all.retain(|_, indexes| !indexes.is_empty());
    all
}

/// The topology with the numbers of partitions that are decided when the topics are there.
fn with_numbers(topology: &Topology, world: &dyn World) -> Topology {
    let mut topology = topology.clone();
    let count = |name: &str| world.named(name).map(|(_, count)| count);
    let Ok(configured) = configure(&topology, &count) else { return topology };
    if !configured.is_ready() {
        return topology;
    }
    for (id, part) in &mut topology.subtopologies {
        let Some(numbers) = configured.parts.get(id) else { continue };
        for topic in part.repartitions.iter_mut().chain(&mut part.changelogs) {
            topic.partitions = numbers.internals.get(&topic.name).copied().unwrap_or_default();
        }
    }
    topology
}
