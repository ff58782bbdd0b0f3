//! What a restart must find again of a streams group, and the only place where it changes.
//!
//! As in consumer groups all that is large is shared: a command works on a copy ([`super::draft`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::member::{About, Current, Member};
use super::tasks::{Assignment, Role};
use super::topology::Topology;
use crate::group::consumer::state::TargetEpoch;
use crate::group::reply::GroupState;

/// What a record says of a streams group; `None` is that there is no such thing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) enum StreamsFact {
    /// The group itself.
    Group(Option<GroupFact>),
    /// What a member says of itself.
    About(Arc<str>, Option<About>),
    /// The epoch of the target assignment.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is to have.
    Target(Arc<str>, Option<Assignment>),
    /// How far a member has come.
    Current(Arc<str>, Option<Current>),
    /// The topology.
    Topology(Option<Topology>),
}

impl StreamsFact {
    /// Whether it says that something is there no more.
    pub(in crate::group) const fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Group(None)
                | Self::About(_, None)
                | Self::TargetEpoch(None)
                | Self::Target(_, None)
                | Self::Current(_, None)
                | Self::Topology(None)
        )
    }
}

/// No topology has been found to fit, or no description of one been stored.
pub(in crate::group) const NO_EPOCH: i32 = -1;

/// The epoch before that of the first assignment, as in Kafka: members that wait for it are in this
/// epoch, because 0 would mean that they join.
const FIRST_EPOCH: i32 = 1;

/// What is stored of a group itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct GroupFact {
    /// Rises with each change of members, of what they say, of the topics, and of what is configured.
    pub(in crate::group) epoch: i32,
    /// A hash of the topics that the topology needs, with their partitions.
    pub(in crate::group) topics_hash: i64,
    /// The epoch of the topology for which the topics were right; [`NO_EPOCH`] while they are not.
    pub(in crate::group) ready_epoch: i32,
    /// What the assignment goes by, as configured when the epoch rose last.
    pub(in crate::group) configs: BTreeMap<Arc<str>, Arc<str>>,
    /// The epoch of the topology whose description somebody keeps (KIP-1331): kept for who does.
    pub(in crate::group) described_epoch: i32,
    /// The same for one that was refused.
    pub(in crate::group) undescribed_epoch: i32,
}

impl Default for GroupFact {
    fn default() -> Self {
        Self {
            epoch: FIRST_EPOCH,
            topics_hash: 0,
            ready_epoch: NO_EPOCH,
            configs: BTreeMap::new(),
            described_epoch: NO_EPOCH,
            undescribed_epoch: NO_EPOCH,
        }
    }
}

/// A streams group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) struct StreamsGroup {
    pub(in crate::group) group: Arc<GroupFact>,
    pub(in crate::group) target: TargetEpoch,
    topology: Option<Arc<Topology>>,
    members: Arc<BTreeMap<Arc<str>, Arc<Member>>>,
    targets: Arc<BTreeMap<Arc<str>, Arc<Assignment>>>,
    /// Member ids by instance.
    statics: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    /// Who has a task, or has not given it up yet: by subtopology and partition.
    holders: Arc<BTreeMap<Arc<str>, Arc<Holders>>>,
    /// What members say of themselves takes, in bytes.
    bytes: usize,
}

type Holders = BTreeMap<i32, Vec<Holder>>;

/// Who has a task, and in which role.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Holder {
    member: Arc<str>,
    role: Role,
}

impl Default for StreamsGroup {
    fn default() -> Self {
        Self {
            group: Arc::default(),
            target: FIRST_TARGET,
            topology: None,
            members: Arc::default(),
            targets: Arc::default(),
            statics: Arc::default(),
            holders: Arc::default(),
            bytes: 0,
        }
    }
}

/// The assignment of nothing that a group begins with.
const FIRST_TARGET: TargetEpoch =
    TargetEpoch { epoch: FIRST_EPOCH, at: millstream_types::Timestamp(0) };

impl StreamsGroup {
    pub(in crate::group) fn members(&self) -> &BTreeMap<Arc<str>, Arc<Member>> {
        &self.members
    }

    pub(in crate::group) fn member(&self, id: &str) -> Option<&Arc<Member>> {
        self.members.get(id)
    }

    /// The member that has the name `instance`.
    pub(in crate::group) fn id_of(&self, instance: &str) -> Option<&Arc<str>> {
        self.statics.get(instance)
    }

    /// What a member is to have.
    pub(in crate::group) fn target_of(&self, id: &str) -> Option<&Arc<Assignment>> {
        self.targets.get(id)
    }

    pub(in crate::group) fn topology(&self) -> Option<&Arc<Topology>> {
        self.topology.as_ref()
    }

    /// What members say of themselves takes, in bytes.
    pub(in crate::group) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether nobody but `member` is in the way of its having a task in a role. A task is active at
    /// one member, and in one process only once in any role: its members share a disk.
    pub(in crate::group) fn is_free(&self, member: &str, role: Role, id: &str, index: i32) -> bool {
        let process = self.member(member).map(|member| &member.about.process);
        let holders = self.holders.get(id).and_then(|of_part| of_part.get(&index));
        holders.into_iter().flatten().filter(|holder| &*holder.member != member).all(|holder| {
            let other = self.member(&holder.member).map(|other| &other.about.process);
            other != process && (role != Role::Active || holder.role != Role::Active)
        })
    }

    /// The group's state, as clients and tools know it.
    pub(in crate::group) fn state(&self) -> GroupState {
        let topology = self.topology.as_ref().map(|topology| topology.epoch);
        if self.members.is_empty() {
            GroupState::Empty
        } else if topology != Some(self.group.ready_epoch) {
            GroupState::NotReady
        } else if self.group.epoch > self.target.epoch {
            GroupState::Assigning
        } else if self.is_reconciled() {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// Whether every member has what it is to have.
    fn is_reconciled(&self) -> bool {
        let epoch = self.target.epoch;
        self.members.values().all(|member| member.current.is_reconciled_to(epoch))
    }

    /// Whether somebody is there who reads the topic.
    pub(in crate::group) fn reads(&self, topic: &str) -> bool {
        let topology = self.topology.as_ref().filter(|_| !self.members.is_empty());
        topology.is_some_and(|topology| topology.reads(topic))
    }

    /// Changes the state. Whether the group is still there is the caller's affair.
    pub(in crate::group) fn apply(&mut self, fact: StreamsFact) {
        match fact {
            StreamsFact::Group(group) => self.group = Arc::new(group.unwrap_or_default()),
            StreamsFact::TargetEpoch(epoch) => self.target = epoch.unwrap_or(FIRST_TARGET),
            StreamsFact::Topology(topology) => self.topology = topology.map(Arc::new),
            StreamsFact::About(id, Some(about)) => self.put_about(&id, about),
            StreamsFact::About(id, None) => self.remove(&id),
            StreamsFact::Target(id, target) => {
                let targets = Arc::make_mut(&mut self.targets);
                match target {
                    Some(target) => targets.insert(id, Arc::new(target)),
                    None => targets.remove(&id),
                };
            }
            StreamsFact::Current(id, current) => self.put_current(&id, current),
        }
    }

    fn put_about(&mut self, id: &Arc<str>, about: About) {
        self.uncount(id);
        if let Some(instance) = &about.instance {
            Arc::make_mut(&mut self.statics).insert(Arc::clone(instance), Arc::clone(id));
        }
        self.bytes += about.bytes(id);
        let members = Arc::make_mut(&mut self.members);
        Arc::make_mut(members.entry(Arc::clone(id)).or_default()).about = about;
    }

    /// Takes what a member says of itself out of the counts.
    fn uncount(&mut self, id: &Arc<str>) {
        let Some(member) = self.members.get(id) else { return };
        self.bytes -= member.about.bytes(id);
        if let Some(instance) = &member.about.instance
            && self.statics.get(instance) == Some(id)
        {
            let instance = Arc::clone(instance);
            Arc::make_mut(&mut self.statics).remove(&instance);
        }
    }

    fn put_current(&mut self, id: &Arc<str>, current: Option<Current>) {
        self.release(id);
        let Some(current) = current else {
            let members = Arc::make_mut(&mut self.members);
            if let Some(member) = members.get_mut(id) {
                Arc::make_mut(member).current = Current::default();
            }
            return;
        };
        let holders = Arc::make_mut(&mut self.holders);
        for (part, index, role) in current.assigned.each().chain(current.revoking.each()) {
            let of_part = Arc::make_mut(holders.entry(Arc::clone(part)).or_default());
            let of_task = of_part.entry(index).or_default();
            of_task.push(Holder { member: Arc::clone(id), role });
            of_task.sort();
        }
        if !self.members.contains_key(id) {
            // Nothing is left of what it said, or it was never written.
            self.put_about(id, About::default());
        }
        if let Some(member) = Arc::make_mut(&mut self.members).get_mut(id) {
            Arc::make_mut(member).current = current;
        }
    }

    /// Makes others free to have what a member has.
    fn release(&mut self, id: &Arc<str>) {
        let Some(member) = self.members.get(id).cloned() else { return };
        if member.current.assigned.is_empty() && member.current.revoking.is_empty() {
            return;
        }
        let holders = Arc::make_mut(&mut self.holders);
        let current = &member.current;
        for (part, index, _) in current.assigned.each().chain(current.revoking.each()) {
            let Some(of_part) = holders.get_mut(part) else { continue };
            let of_part = Arc::make_mut(of_part);
            if let Some(of_task) = of_part.get_mut(&index) {
                of_task.retain(|holder| holder.member != *id);
                if of_task.is_empty() {
                    of_part.remove(&index);
                }
            }
            if of_part.is_empty() {
                holders.remove(part);
            }
        }
    }

    fn remove(&mut self, id: &Arc<str>) {
        self.uncount(id);
        self.release(id);
        Arc::make_mut(&mut self.members).remove(id);
    }

    /// The facts that rebuild this state, in the order in which a coordinator writes them.
    pub(in crate::group) fn facts(&self) -> Vec<StreamsFact> {
        let mut facts = Vec::new();
        for (id, member) in self.members.iter() {
            facts.push(StreamsFact::About(Arc::clone(id), Some(member.about.clone())));
        }
        if let Some(topology) = &self.topology {
            facts.push(StreamsFact::Topology(Some((**topology).clone())));
        }
        facts.push(StreamsFact::Group(Some((*self.group).clone())));
        for (id, target) in self.targets.iter() {
            facts.push(StreamsFact::Target(Arc::clone(id), Some((**target).clone())));
        }
        facts.push(StreamsFact::TargetEpoch(Some(self.target)));
        for (id, member) in self.members.iter() {
            facts.push(StreamsFact::Current(Arc::clone(id), Some(member.current.clone())));
        }
        facts
    }

    /// The facts that forget all of it. The group itself comes last but for its topology, which alone
    /// begins no group.
    pub(in crate::group) fn farewell(&self) -> Vec<StreamsFact> {
        let mut facts = Vec::new();
        let members = || self.members.keys().map(Arc::clone);
        facts.extend(members().map(|id| StreamsFact::Current(id, None)));
        facts.extend(self.targets.keys().map(|id| StreamsFact::Target(Arc::clone(id), None)));
        facts.push(StreamsFact::TargetEpoch(None));
        facts.extend(members().map(|id| StreamsFact::About(id, None)));
        facts.push(StreamsFact::Group(None));
        facts.push(StreamsFact::Topology(None));
        facts
    }
}

#[cfg(test)]
impl StreamsGroup {
    /// The indexes say what the members say, and nobody has what another one has.
    pub(in crate::group) fn check(&self) {
        let mut holders: BTreeMap<Arc<str>, Arc<Holders>> = BTreeMap::new();
        let mut statics = BTreeMap::new();
        for (id, member) in self.members.iter() {
            let current = &member.current;
            for (part, index, role) in current.assigned.each().chain(current.revoking.each()) {
                assert!(
                    self.is_free(id, role, part, index),
                    "{id} has {part}_{index} as {role:?}, and so has another: {:?}",
                    self.holders
                );
                let of_part = Arc::make_mut(holders.entry(Arc::clone(part)).or_default());
                let of_task = of_part.entry(index).or_default();
                of_task.push(Holder { member: Arc::clone(id), role });
                of_task.sort();
            }
            statics.extend(member.about.instance.clone().map(|it| (it, Arc::clone(id))));
        }
        assert_eq!(*self.holders, holders);
        assert_eq!(*self.statics, statics);
        assert_eq!(
            self.bytes,
            self.members.iter().map(|(id, it)| it.about.bytes(id)).sum::<usize>()
        );
        assert!(self.target.epoch <= self.group.epoch, "the target is not ahead of the group");
    }
}
