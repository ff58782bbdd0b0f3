//! A group as it will be when the records of a command have been replayed.
//!
//! The draft changes by the same function as the group itself, so that what a command answers is
//! what the group will be. Making one costs nothing; changing it copies what is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_types::TopicId;

use super::assign::{Assignor, Candidate, Problem};
use super::hidden::{Hidden, Look};
use super::member::{About, Current, Member, MemberState, Partitions};
use super::pattern::Pattern;
use super::reconcile::{self, Goal};
use super::state::{ConsumerFact, ConsumerGroup, GroupEpoch, Resolved, TargetEpoch};
use super::times::Times;
use super::world::{Asker, World};
use crate::group::live::Moment;
use crate::group::record::Fact;
use crate::host::StoredRecord;

/// The draft of a group.
#[derive(Debug)]
pub(in crate::group) struct Draft {
    pub(in crate::group) id: Arc<str>,
    pub(in crate::group) group: ConsumerGroup,
    pub(in crate::group) records: Vec<StoredRecord>,
    /// What members are not to be assigned.
    hidden: Hidden,
}

impl Draft {
    pub(in crate::group) fn of(id: &Arc<str>, group: ConsumerGroup) -> Self {
        Self { id: Arc::clone(id), group, records: Vec::new(), hidden: Hidden::default() }
    }

    pub(in crate::group) fn put(&mut self, fact: ConsumerFact) {
        let group = Arc::clone(&self.id);
        Fact::Consumer { group, fact: fact.clone() }.put(&mut self.records);
        self.group.apply(fact);
    }

    /// Takes a member out. The epoch is the caller's affair.
    pub(in crate::group) fn remove(&mut self, member: &Arc<str>) {
        self.put(ConsumerFact::Current(Arc::clone(member), None));
        if self.group.target_of(member).is_some() {
            self.put(ConsumerFact::Target(Arc::clone(member), None));
        }
        self.put(ConsumerFact::About(Arc::clone(member), None));
    }

    /// Gives the place of a static member that has left for a while to its next run, under a new
    /// id: it asks for the same and keeps what it had.
    pub(in crate::group) fn replace(&mut self, former: &Arc<str>, id: &Arc<str>) {
        let Some(member) = self.group.member(former).cloned() else { return };
        let target = self.group.target_of(former).cloned();
        self.remove(former);
        self.put(ConsumerFact::About(Arc::clone(id), Some(member.about.clone())));
        if let Some(target) = target {
            self.put(ConsumerFact::Target(Arc::clone(id), Some((*target).clone())));
        }
        let current = Current { epoch: 0, previous_epoch: 0, ..member.current.clone() };
        self.put(ConsumerFact::Current(Arc::clone(id), Some(current)));
    }

    /// Notes what a member says of itself; whether it asks for other topics than before.
    pub(in crate::group) fn note(&mut self, member: &Arc<str>, about: About) -> bool {
        let known = self.group.member(member).map(|member| &member.about);
        if known == Some(&about) {
            return false;
        }
        let same = known.is_some_and(|known| known.subscribes_as(&about));
        self.put(ConsumerFact::About(Arc::clone(member), Some(about)));
        !same
    }

    /// Heeds what is hidden from members, as far as is known.
    pub(super) fn heed(&mut self, times: &Times) {
        self.hidden = times.hidden.clone();
    }

    /// As [`Draft::refresh`] for a member whom `asker` speaks for: looks also for what that one may know of, and, if it
    /// `resolves`, for what expressions match. A topic that comes or goes and is hidden from the member does not
    /// show by the group's epoch, unless somebody else reads it. Whether something is hidden now that was not.
    pub(super) fn refresh_for(
        &mut self,
        (id, asker): (&Arc<str>, Option<&Asker>),
        times: &mut Times,
        (resolves, changed): (bool, bool),
        world: &dyn World,
        at: Moment,
    ) -> bool {
        self.heed(times);
        let is_limited = asker.is_some() || self.hidden.last(id).is_some();
        let before = if is_limited { self.visible_to(id) } else { BTreeSet::new() };
        let matched = if resolves { self.resolve(world, at) } else { BTreeSet::new() };
        self.hide(id, asker, times, world);
        let sees_others = is_limited && self.visible_to(id) != before;
        let reads_others = |(other, member): (&Arc<str>, &Arc<Member>)| {
            let regex = member.about.regex.as_ref();
            !(is_limited && other == id) && regex.is_some_and(|regex| matched.contains(regex))
        };
        let changed = changed || sees_others || self.group.members().iter().any(reads_others);
        if changed || resolves {
            self.look(world, changed);
        }
        before.iter().any(|name| self.hidden.hides(id, name))
    }

    /// Whether it has to be looked again for what a member may know of.
    pub(super) fn may_see_others(
        &self,
        (id, asker): (&str, Option<&Asker>),
        times: &Times,
        world: &dyn World,
    ) -> bool {
        let Some(asker) = asker else { return times.hidden.last(id).is_some() };
        let now = (world.version(), asker.0.version(), self.resolved_of(id));
        let last = times.hidden.last(id);
        last.is_none_or(|last| (last.world, last.rights, last.resolved) != now)
    }

    /// Looks for what a member subscribes to and may not know of.
    fn hide(&mut self, id: &Arc<str>, asker: Option<&Asker>, times: &mut Times, world: &dyn World) {
        match (self.group.member(id), asker) {
            (Some(member), Some(Asker(asker))) => {
                let names = self.group.names(member);
                let topics = names.filter(|name| !asker.may_know_of(name)).collect();
                let (world, rights) = (world.version(), asker.version());
                let resolved = self.resolved_of(id);
                times.hidden.note(id, Look { world, rights, resolved, topics });
            }
            _ => times.hidden.forget(id),
        }
        self.heed(times);
    }

    /// The version of what a member's expression matches.
    fn resolved_of(&self, id: &str) -> Option<i64> {
        let regex = self.group.member(id)?.about.regex.as_ref()?;
        self.group.regexes().get(regex).map(|resolved| resolved.version)
    }

    /// The names of the topics that a member subscribes to and may know of.
    fn visible_to(&self, id: &str) -> BTreeSet<Arc<str>> {
        let member = self.group.member(id).into_iter();
        member.flat_map(|member| self.visible(id, member)).collect()
    }

    fn visible<'a>(
        &'a self,
        id: &'a str,
        member: &'a Member,
    ) -> impl Iterator<Item = Arc<str>> + 'a {
        self.group.names(member).filter(move |name| !self.hidden.hides(id, name))
    }

    /// Looks at the topics again: resolves expressions, and raises the epoch when what members
    /// subscribe to is not what it was, or `changed` says so.
    pub(in crate::group) fn refresh(&mut self, world: &dyn World, changed: bool, at: Moment) {
        let matches_others = !self.resolve(world, at).is_empty();
        self.look(world, changed || matches_others);
    }

    /// The same without looking for what expressions match.
    pub(in crate::group) fn look(&mut self, world: &dyn World, changed: bool) {
        let topics_hash = hash(self.subscribed().iter(), world);
        if topics_hash != self.group.group.topics_hash || changed {
            let epoch = self.group.group.epoch.saturating_add(1);
            self.put(ConsumerFact::Epoch(Some(GroupEpoch { epoch, topics_hash })));
        }
    }

    /// Looks for what expressions match; those that do not match what they did. Somebody else may read the
    /// same topics already, so that the hash does not show it.
    fn resolve(&mut self, world: &dyn World, at: Moment) -> BTreeSet<Arc<str>> {
        let mut match_others = BTreeSet::new();
        let used: BTreeSet<Arc<str>> =
            self.group.members().values().filter_map(|member| member.about.regex.clone()).collect();
        let unused: Vec<_> =
            self.group.regexes().keys().filter(|regex| !used.contains(*regex)).cloned().collect();
        for regex in unused {
            self.put(ConsumerFact::Regex(regex, None));
        }
        let version = i64::try_from(world.version()).unwrap_or(i64::MAX);
        for regex in used {
            // What a member said was read when it said so; what cannot be read matches nothing.
            let topics = match Pattern::new(&regex) {
                Ok(pattern) => world.matching(&mut |name| pattern.matches(name)),
                Err(_) => Vec::new(),
            };
            let topics: BTreeSet<Arc<str>> = topics.into_iter().collect();
            if self.group.regexes().get(&regex).is_none_or(|known| known.topics != topics) {
                let resolved = Resolved { topics, version, at: at.wall };
                self.put(ConsumerFact::Regex(Arc::clone(&regex), Some(resolved)));
                match_others.insert(regex);
            }
        }
        match_others
    }

    /// The names of all topics that members subscribe to and may know of.
    fn subscribed(&self) -> BTreeSet<Arc<str>> {
        let members = self.group.members().iter();
        members.flat_map(|(id, member)| self.visible(id, member)).collect()
    }

    /// Works out who is to own what, if the target is behind and it is time to.
    pub(in crate::group) fn assign(
        &mut self,
        world: &dyn World,
        assignors: &[Assignor],
        at: Moment,
    ) {
        let epoch = self.group.group.epoch;
        let mut problem = Problem::default();
        for (id, member) in self.group.members() {
            let topics = topics_of(self.visible(id, member), world, &mut problem.topics);
            let had = self.group.target_of(id).cloned().unwrap_or_default();
            problem.members.push(Candidate { id: Arc::clone(id), topics, had });
        }
        let solution = self.assignor(assignors).assign(&problem);
        for (id, target) in solution {
            if self.group.target_of(&id).is_none_or(|known| **known != target) {
                self.put(ConsumerFact::Target(id, Some(target)));
            }
        }
        self.put(ConsumerFact::TargetEpoch(Some(TargetEpoch { epoch, at: at.wall })));
    }

    /// The assignor that most members want; the first of `assignors` where none is wanted.
    pub(in crate::group) fn assignor(&self, assignors: &[Assignor]) -> Assignor {
        self.group.assignor(assignors)
    }

    /// Takes a member one step towards its target. Whether what it may read has changed.
    pub(in crate::group) fn reconcile(
        &mut self,
        id: &Arc<str>,
        world: &dyn World,
        says: Option<&Partitions>,
        asks_for_others: bool,
    ) -> bool {
        let Some(member) = self.group.member(id).cloned() else { return false };
        let epoch = self.group.target.epoch;
        if member.current.is_reconciled_to(epoch) && !asks_for_others {
            return false;
        }
        let target = self.group.target_of(id).cloned().unwrap_or_default();
        // While the target is behind, it may name topics that the member does not want any more.
        let target = if epoch < self.group.group.epoch {
            let wanted = topics_of(self.visible(id, &member), world, &mut BTreeMap::new());
            let wanted = |topic: &TopicId| wanted.contains(topic);
            target
                .iter()
                .filter(|(topic, _)| wanted(topic))
                .map(|(id, all)| (*id, all.clone()))
                .collect()
        } else {
            (*target).clone()
        };
        let goal = Goal { epoch, target: &target, says };
        let is_free = |topic, index| self.group.owner(topic, index).is_none_or(|owner| owner == id);
        let current = &member.current;
        let next = if asks_for_others {
            reconcile::step_again(current, &goal, is_free)
        } else {
            reconcile::step(current, &goal, is_free)
        };
        // Who stays where it is may still come with the epoch before: it may have missed the answer.
        if (Current { previous_epoch: current.previous_epoch, ..next.clone() }) == *current {
            return false;
        }
        let changed = next.partitions() != member.current.partitions();
        self.put(ConsumerFact::Current(Arc::clone(id), Some(next)));
        changed
    }
}

impl ConsumerGroup {
    /// The names of the topics that a member subscribes to, whether or not they exist. One that it
    /// names and describes comes twice.
    fn names<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = Arc<str>> + 'a {
        let matched = member.about.regex.as_ref().and_then(|regex| self.regexes().get(regex));
        let matched = matched.into_iter().flat_map(|resolved| &resolved.topics);
        member.about.topics.iter().chain(matched).cloned()
    }

    /// Whether some member reads the topic.
    pub(in crate::group) fn reads(&self, topic: &str) -> bool {
        self.members().values().any(|member| {
            let matched = member.about.regex.as_ref().and_then(|regex| self.regexes().get(regex));
            member.about.topics.contains(topic)
                || matched.is_some_and(|resolved| resolved.topics.contains(topic))
        })
    }

    /// The assignor that most members want; the first of `assignors` where none is wanted.
    pub(in crate::group) fn assignor(&self, assignors: &[Assignor]) -> Assignor {
        let mut votes: BTreeMap<Assignor, usize> = BTreeMap::new();
        for member in self.members().values() {
            let wanted = member.about.assignor.as_deref().and_then(Assignor::named);
            if let Some(wanted) = wanted.filter(|wanted| assignors.contains(wanted)) {
                *votes.entry(wanted).or_default() += 1;
            }
        }
        let best = votes.into_iter().max_by_key(|(_, count)| *count).map(|(assignor, _)| assignor);
        best.or_else(|| assignors.first().copied()).unwrap_or(Assignor::Uniform)
    }

    /// Whether every member has what it is to have.
    pub(in crate::group) fn is_reconciled(&self) -> bool {
        let epoch = self.target.epoch;
        self.members().values().all(|member| member.current.is_reconciled_to(epoch))
    }

    /// Whether a member has yet to say that it gave something up.
    pub(in crate::group) fn revokes(&self, member: &str) -> Option<i32> {
        let current = &self.member(member)?.current;
        (current.state == MemberState::Unrevoked).then_some(current.epoch)
    }
}

/// The topics of those `names` that exist; `counts` gets their partitions.
fn topics_of(
    names: impl Iterator<Item = Arc<str>>,
    world: &dyn World,
    counts: &mut BTreeMap<TopicId, i32>,
) -> BTreeSet<TopicId> {
    let found = names.filter_map(|name| world.named(&name));
    let mut topics = BTreeSet::new();
    for (topic, count) in found {
        topics.insert(topic);
        counts.insert(topic, count);
    }
    topics
}

/// A number that changes when a topic comes, goes, grows or is made anew (FNV-1a, 64 bits). The names
/// come in their order.
pub(in crate::group) fn hash<'a>(
    names: impl Iterator<Item = &'a Arc<str>>,
    world: &dyn World,
) -> i64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut add = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    for name in names {
        if let Some((topic, count)) = world.named(name) {
            add(name.as_bytes());
            add(&topic.0);
            add(&count.to_be_bytes());
        }
    }
    i64::from_be_bytes(hash.to_be_bytes())
}
