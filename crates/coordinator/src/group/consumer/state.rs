//! What a restart must find again of a consumer group, and the only place where it changes.
//!
//! Members, targets and owners are shared maps: a command works on a copy ([`super::draft`]), which
//! costs nothing but what it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_types::{Timestamp, TopicId};

use super::member::{About, Current, Member, Partitions};

/// What a record says of a consumer group; `None` is that there is no such thing any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::group) enum ConsumerFact {
    /// The group itself.
    Epoch(Option<GroupEpoch>),
    /// What a member says of itself.
    About(Arc<str>, Option<About>),
    /// The epoch of the target assignment.
    TargetEpoch(Option<TargetEpoch>),
    /// What a member is to own.
    Target(Arc<str>, Option<Partitions>),
    /// How far a member has come.
    Current(Arc<str>, Option<Current>),
    /// Which topics a regular expression has matched.
    Regex(Arc<str>, Option<Resolved>),
}

impl ConsumerFact {
    /// Whether it says that something is there no more.
    pub(in crate::group) const fn is_end(&self) -> bool {
        matches!(
            self,
            Self::Epoch(None)
                | Self::About(_, None)
                | Self::TargetEpoch(None)
                | Self::Target(_, None)
                | Self::Current(_, None)
                | Self::Regex(_, None)
        )
    }
}

/// The epoch of a group: rises with each change of members, subscriptions, or their topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct GroupEpoch {
    pub(in crate::group) epoch: i32,
    /// A hash of the topics that members read, with their partitions.
    pub(in crate::group) topics_hash: i64,
}

/// The epoch that the target assignment was worked out for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct TargetEpoch {
    pub(in crate::group) epoch: i32,
    /// When; 0 where an older coordinator did not say.
    pub(in crate::group) at: Timestamp,
}

/// The topics that a regular expression matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Resolved {
    pub(in crate::group) topics: BTreeSet<Arc<str>>,
    /// The version of the topics then.
    pub(in crate::group) version: i64,
    pub(in crate::group) at: Timestamp,
}

/// A consumer group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct ConsumerGroup {
    pub(in crate::group) group: GroupEpoch,
    pub(in crate::group) target: TargetEpoch,
    members: Arc<BTreeMap<Arc<str>, Arc<Member>>>,
    targets: Arc<BTreeMap<Arc<str>, Arc<Partitions>>>,
    regexes: Arc<BTreeMap<Arc<str>, Arc<Resolved>>>,
    /// Member ids by instance.
    statics: Arc<BTreeMap<Arc<str>, Arc<str>>>,
    /// Who has a partition, or has not given it up yet.
    owners: Arc<BTreeMap<TopicId, Arc<Owners>>>,
    /// What members say of themselves takes, in bytes.
    bytes: usize,
    /// How many members speak the classic protocol.
    classics: usize,
}

type Owners = BTreeMap<i32, Arc<str>>;

impl ConsumerGroup {
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

    /// What a member is to own.
    pub(in crate::group) fn target_of(&self, id: &str) -> Option<&Arc<Partitions>> {
        self.targets.get(id)
    }

    pub(in crate::group) fn regexes(&self) -> &BTreeMap<Arc<str>, Arc<Resolved>> {
        &self.regexes
    }

    /// Who has a partition.
    pub(in crate::group) fn owner(&self, topic: TopicId, index: i32) -> Option<&Arc<str>> {
        self.owners.get(&topic)?.get(&index)
    }

    /// What members say of themselves takes, in bytes.
    pub(in crate::group) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many members speak the classic protocol.
    pub(in crate::group) const fn classics(&self) -> usize {
        self.classics
    }

    /// Whether all members speak the classic protocol, and there are some.
    pub(in crate::group) fn is_all_classic(&self) -> bool {
        self.classics > 0 && self.classics == self.members.len()
    }

    /// Changes the state. Whether the group is still there is the caller's affair.
    pub(in crate::group) fn apply(&mut self, fact: ConsumerFact) {
        match fact {
            ConsumerFact::Epoch(epoch) => self.group = epoch.unwrap_or_default(),
            ConsumerFact::TargetEpoch(epoch) => self.target = epoch.unwrap_or_default(),
            ConsumerFact::About(id, Some(about)) => self.put_about(&id, about),
            ConsumerFact::About(id, None) => self.remove(&id),
            ConsumerFact::Target(id, target) => {
                let targets = Arc::make_mut(&mut self.targets);
                match target {
                    Some(target) => targets.insert(id, Arc::new(target)),
                    None => targets.remove(&id),
                };
            }
            ConsumerFact::Current(id, current) => self.put_current(&id, current),
            ConsumerFact::Regex(regex, resolved) => {
                let regexes = Arc::make_mut(&mut self.regexes);
                match resolved {
                    Some(resolved) => regexes.insert(regex, Arc::new(resolved)),
                    None => regexes.remove(&regex),
                };
            }
        }
    }

    fn put_about(&mut self, id: &Arc<str>, about: About) {
        self.uncount(id);
        if let Some(instance) = &about.instance {
            Arc::make_mut(&mut self.statics).insert(Arc::clone(instance), Arc::clone(id));
        }
        self.bytes += about.bytes(id);
        self.classics += usize::from(about.classic.is_some());
        let members = Arc::make_mut(&mut self.members);
        Arc::make_mut(members.entry(Arc::clone(id)).or_default()).about = about;
    }

    /// Takes what a member says of itself out of the counts.
    fn uncount(&mut self, id: &Arc<str>) {
        let Some(member) = self.members.get(id) else { return };
        self.bytes -= member.about.bytes(id);
        self.classics -= usize::from(member.about.classic.is_some());
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
        let owners = Arc::make_mut(&mut self.owners);
        for (topic, index) in current.held() {
            Arc::make_mut(owners.entry(topic).or_default()).insert(index, Arc::clone(id));
        }
        if !self.members.contains_key(id) {
            // Nothing is left of what it said, or it was never written.
            self.put_about(id, About::default());
        }
        if let Some(member) = Arc::make_mut(&mut self.members).get_mut(id) {
            Arc::make_mut(member).current = current;
        }
    }

    /// Makes others free to have what a member has. A record of somebody else that came before, and
    /// that compaction has left, may name the same partition: that one stays the owner.
    fn release(&mut self, id: &Arc<str>) {
        let Some(member) = self.members.get(id) else { return };
        if member.current.assigned.is_empty() && member.current.revoking.is_empty() {
            return;
        }
        let owners = Arc::make_mut(&mut self.owners);
        for (topic, index) in member.current.held() {
            let Some(of_topic) = owners.get_mut(&topic) else { continue };
            if of_topic.get(&index) == Some(id) {
                let of_topic = Arc::make_mut(of_topic);
                of_topic.remove(&index);
                if of_topic.is_empty() {
                    owners.remove(&topic);
                }
            }
        }
    }

    fn remove(&mut self, id: &Arc<str>) {
        self.uncount(id);
        self.release(id);
        Arc::make_mut(&mut self.members).remove(id);
    }

    /// The facts that rebuild this state, in the order in which a coordinator writes them.
    pub(in crate::group) fn facts(&self) -> Vec<ConsumerFact> {
        let mut facts = Vec::new();
        for (id, member) in self.members.iter() {
            facts.push(ConsumerFact::About(Arc::clone(id), Some(member.about.clone())));
        }
        for (regex, resolved) in self.regexes.iter() {
            facts.push(ConsumerFact::Regex(Arc::clone(regex), Some((**resolved).clone())));
        }
        facts.push(ConsumerFact::Epoch(Some(self.group)));
        for (id, target) in self.targets.iter() {
            facts.push(ConsumerFact::Target(Arc::clone(id), Some((**target).clone())));
        }
        facts.push(ConsumerFact::TargetEpoch(Some(self.target)));
        for (id, member) in self.members.iter() {
            facts.push(ConsumerFact::Current(Arc::clone(id), Some(member.current.clone())));
        }
        facts
    }

    /// The facts that forget all of it, the group itself last.
    pub(in crate::group) fn farewell(&self) -> Vec<ConsumerFact> {
        let mut facts = Vec::new();
        let members = || self.members.keys().map(Arc::clone);
        facts.extend(members().map(|id| ConsumerFact::Current(id, None)));
        facts.extend(self.targets.keys().map(|id| ConsumerFact::Target(Arc::clone(id), None)));
        facts.push(ConsumerFact::TargetEpoch(None));
        facts.extend(members().map(|id| ConsumerFact::About(id, None)));
        facts.extend(self.regexes.keys().map(|regex| ConsumerFact::Regex(Arc::clone(regex), None)));
        facts.push(ConsumerFact::Epoch(None));
        facts
    }
}

#[cfg(test)]
impl ConsumerGroup {
    /// The indexes say what the members say, and nobody owns what another one owns.
    pub(in crate::group) fn check(&self) {
        let mut owners: BTreeMap<TopicId, Arc<Owners>> = BTreeMap::new();
        let mut statics = BTreeMap::new();
        for (id, member) in self.members.iter() {
            for (topic, index) in member.current.held() {
                let of_topic = Arc::make_mut(owners.entry(topic).or_default());
                let former = of_topic.insert(index, Arc::clone(id));
                assert!(former.is_none(), "{topic}-{index} is owned by {former:?} and by {id}");
            }
            statics.extend(member.about.instance.clone().map(|it| (it, Arc::clone(id))));
        }
        assert_eq!(*self.owners, owners);
        assert_eq!(*self.statics, statics);
        assert_eq!(
            self.bytes,
            self.members.iter().map(|(id, it)| it.about.bytes(id)).sum::<usize>()
        );
        let classics = self.members.values().filter(|member| member.about.classic.is_some());
        assert_eq!(self.classics, classics.count());
        assert!(self.target.epoch <= self.group.epoch, "the target is not ahead of the group");
    }
}
