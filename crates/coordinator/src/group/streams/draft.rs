//! A streams group as it will be when the records of a command have been replayed: see
//! [`crate::group::consumer::draft`].

use std::collections::BTreeMap;
use std::sync::Arc;

use super::assign::{Candidate, Problem, assign};
use super::member::{About, Current};
use super::reconcile::{self, Goal};
use super::state::{GroupFact, StreamsFact, StreamsGroup};
use super::tasks::{Assignment, Held};
use super::topics::Configured;
use super::topology::Topology;
use crate::group::consumer::member::MemberState;
use crate::group::consumer::state::TargetEpoch;
use crate::group::live::Moment;
use crate::group::record::Fact;
use crate::host::StoredRecord;

/// The draft of a group.
#[derive(Debug)]
pub(in crate::group) struct Draft {
    pub(in crate::group) id: Arc<str>,
    pub(in crate::group) group: StreamsGroup,
    pub(in crate::group) records: Vec<StoredRecord>,
}

impl Draft {
    pub(in crate::group) fn of(id: &Arc<str>, group: StreamsGroup) -> Self {
        Self { id: Arc::clone(id), group, records: Vec::new() }
    }

    pub(in crate::group) fn put(&mut self, fact: StreamsFact) {
        let group = Arc::clone(&self.id);
        Fact::Streams { group, fact: fact.clone() }.put(&mut self.records);
        self.group.apply(fact);
    }

    /// Takes a member out. The epoch is the caller's affair.
    pub(in crate::group) fn remove(&mut self, member: &Arc<str>) {
        self.put(StreamsFact::Current(Arc::clone(member), None));
        if self.group.target_of(member).is_some() {
            self.put(StreamsFact::Target(Arc::clone(member), None));
        }
        self.put(StreamsFact::About(Arc::clone(member), None));
    }

    /// Gives the place of a static member that has left for a while to its next run, under a new id: it
    /// keeps what it was to have.
    pub(in crate::group) fn replace(&mut self, former: &Arc<str>, id: &Arc<str>) {
        let Some(member) = self.group.member(former).cloned() else { return };
        let target = self.group.target_of(former).cloned();
        self.remove(former);
        self.put(StreamsFact::About(Arc::clone(id), Some(member.about.clone())));
        if let Some(target) = target {
            self.put(StreamsFact::Target(Arc::clone(id), Some((*target).clone())));
        }
        let current = Current { epoch: 0, previous_epoch: 0, ..member.current.clone() };
        self.put(StreamsFact::Current(Arc::clone(id), Some(current)));
    }

    /// Notes what a member says of itself; whether that is not what it said before.
    pub(in crate::group) fn note(&mut self, member: &Arc<str>, about: About) -> bool {
        let known = self.group.member(member);
        if known.is_some_and(|known| known.about == about) {
            return false;
        }
        let moves = known.is_some_and(|known| known.about.process != about.process);
        if moves {
            // Another process: whatever it had is not there.
            self.put(StreamsFact::Current(Arc::clone(member), Some(Current::default())));
        }
        self.put(StreamsFact::About(Arc::clone(member), Some(about)));
        true
    }

    /// Notes the topology.
    pub(in crate::group) fn begin_topology(&mut self, topology: Topology) {
        self.put(StreamsFact::Topology(Some(topology)));
    }

    /// Raises the epoch if something has changed that the assignment goes by.
    pub(in crate::group) fn raise(&mut self, changed: bool, now: &GroupFact) {
        let before = &self.group.group;
        let now = GroupFact { epoch: before.epoch, ..now.clone() };
        if changed || now != **before {
            let epoch = before.epoch.saturating_add(1);
            self.put(StreamsFact::Group(Some(GroupFact { epoch, ..now })));
        }
    }

    /// Works out who is to have what.
    pub(in crate::group) fn assign(
        &mut self,
        configured: &Configured,
        standbys: usize,
        at: Moment,
    ) {
        let members = self.group.members().iter().map(|(id, member)| Candidate {
            id: Arc::clone(id),
            process: Arc::clone(&member.about.process),
            had: self.group.target_of(id).cloned().unwrap_or_default(),
        });
        let parts: BTreeMap<_, _> = if configured.is_ready() {
            let parts = configured.parts.iter();
            parts.map(|(id, part)| (Arc::clone(id), (part.tasks, part.stateful))).collect()
        } else {
            BTreeMap::new()
        };
        let problem = Problem { parts, standbys, members: members.collect() };
        for (id, target) in assign(&problem) {
            if self.group.target_of(&id).is_none_or(|known| **known != target) {
                self.put(StreamsFact::Target(id, Some(target)));
            }
        }
        let epoch = self.group.group.epoch;
        self.put(StreamsFact::TargetEpoch(Some(TargetEpoch { epoch, at: at.wall })));
    }

    /// Takes a member one step towards its target, which is nothing while the first assignment
    /// `waits`.
    pub(in crate::group) fn reconcile(
        &mut self,
        id: &Arc<str>,
        says: Option<&Assignment>,
        waits: bool,
    ) {
        let Some(member) = self.group.member(id).cloned() else { return };
        let epoch = self.group.target.epoch;
        if member.current.is_reconciled_to(epoch) {
            return;
        }
        let target = self.group.target_of(id).filter(|_| !waits).cloned().unwrap_or_default();
        let goal = Goal { epoch, target: &target, says };
        let is_free = |role, part: &str, index| self.group.is_free(id, role, part, index);
        let next = reconcile::step(&member.current, &goal, is_free);
        // Who stays where it is may still come with the epoch before: it may have missed the answer.
        let previous_epoch = member.current.previous_epoch;
        if (Current { previous_epoch, ..next.clone() }) != member.current {
            self.put(StreamsFact::Current(Arc::clone(id), Some(next)));
        }
    }

    /// A static member leaves for a while: it keeps what it was given.
    pub(in crate::group) fn pause(&mut self, id: &Arc<str>, current: &Current, epoch: i32) {
        let current = Current { epoch, revoking: Held::default(), ..current.clone() };
        self.put(StreamsFact::Current(Arc::clone(id), Some(current)));
    }
}

impl StreamsGroup {
    /// The epoch in which a member must still say that it gave something up.
    pub(in crate::group) fn revokes(&self, member: &str) -> Option<i32> {
        let current = &self.member(member)?.current;
        (current.state == MemberState::Unrevoked).then_some(current.epoch)
    }
}
