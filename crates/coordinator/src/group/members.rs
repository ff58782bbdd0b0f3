//! The members of a live group, with the indexes that keep every question about them cheap.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_types::Monotonic;

use super::command::{Protocol, Ticket};
use super::reply::{DescribedMember, JoinedMember};

/// One member of a live group.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) instance: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    /// Best first, each name once. Changed by [`Members::update`] alone, which counts them.
    protocols: Vec<Protocol>,
    pub(super) assignment: Bytes,
    /// Whether it has never been answered a join: it does not know its id, so that its connection
    /// may be gone for good while its join is parked.
    pub(super) newcomer: bool,
    /// When its session ends; `None` while a parked request proves that it is there.
    pub(super) session_end: Option<Monotonic>,
    /// Its parked join. Changed by [`Members`] alone, which counts them.
    join: Option<Ticket>,
    /// Its parked sync.
    pub(super) sync: Option<Ticket>,
    /// Whether it has been answered a join but has not sent its sync.
    pub(super) owes_sync: bool,
}

/// What a member is made from.
#[derive(Clone, Debug)]
pub(super) struct Introduction {
    pub(super) instance: Option<Arc<str>>,
    pub(super) client_id: Arc<str>,
    pub(super) client_host: Arc<str>,
    pub(super) session_timeout_ms: i32,
    pub(super) rebalance_timeout_ms: i32,
    pub(super) protocols: Vec<Protocol>,
}

/// Members by id.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    by_id: BTreeMap<Arc<str>, Member>,
    /// Member ids by instance.
    by_instance: BTreeMap<Arc<str>, Arc<str>>,
    /// How many members speak each protocol; never zero.
    speakers: BTreeMap<Arc<str>, usize>,
    /// How many members have a parked join.
    joining: usize,
    /// What members said of themselves, in bytes, with what keeping a member takes.
    bytes: usize,
}

/// What a member takes beside its texts and what it says, in bytes: its places in the tables.
const MEMBER_BYTES: usize = 512;

/// What a member takes, in bytes; each name is in more than one place.
pub(super) fn member_bytes(id: &str, protocols: &[Protocol]) -> usize {
    MEMBER_BYTES + 2 * id.len() + protocols_bytes(protocols)
}

fn protocols_bytes(protocols: &[Protocol]) -> usize {
    let each = protocols
        .iter()
        .map(|protocol| size_of::<Protocol>() + protocol.name.len() + protocol.metadata.len());
    each.sum()
}

/// A length of time as the protocol writes it; a negative one is none.
pub(super) fn millis(ms: i32) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Keeps the first of protocols that bear the same name, in memory of its own: a slice would keep
/// the member's whole request.
pub(super) fn each_name_once(protocols: Vec<Protocol>) -> Vec<Protocol> {
    let mut names = BTreeSet::new();
    protocols
        .into_iter()
        .filter(|protocol| names.insert(Arc::clone(&protocol.name)))
        .map(|Protocol { name, metadata }| Protocol {
            name,
            metadata: Bytes::copy_from_slice(&metadata),
        })
        .collect()
}

impl Member {
    pub(super) fn new(from: Introduction) -> Self {
        Self {
            instance: from.instance,
            client_id: from.client_id,
            client_host: from.client_host,
            session_timeout_ms: from.session_timeout_ms,
            rebalance_timeout_ms: from.rebalance_timeout_ms,
            protocols: each_name_once(from.protocols),
            assignment: Bytes::new(),
            newcomer: false,
            session_end: None,
            join: None,
            sync: None,
            owes_sync: false,
        }
    }

    /// The protocols that it speaks, best first.
    pub(super) fn protocols(&self) -> &[Protocol] {
        &self.protocols
    }

    /// Whether a parked request proves that the member is there.
    pub(super) const fn is_waiting(&self) -> bool {
        self.join.is_some() || self.sync.is_some()
    }

    pub(super) const fn is_joining(&self) -> bool {
        self.join.is_some()
    }

    /// What the member said for `protocol`; empty when it does not speak it.
    pub(super) fn metadata(&self, protocol: Option<&str>) -> Bytes {
        self.protocols
            .iter()
            .find(|spoken| Some(&*spoken.name) == protocol)
            .map_or_else(Bytes::new, |spoken| spoken.metadata.clone())
    }

    /// Whether the member would say nothing new by joining with `protocols`.
    pub(super) fn says(&self, protocols: &[Protocol]) -> bool {
        self.protocols == protocols
    }

    /// The member as its leader sees it.
    fn joined(&self, id: &Arc<str>, protocol: Option<&str>) -> JoinedMember {
        JoinedMember {
            member: Arc::clone(id),
            instance: self.instance.clone(),
            metadata: self.metadata(protocol),
        }
    }

    /// The member as an administrator sees it; `stable` is the protocol of a stable group.
    pub(super) fn described(&self, id: &Arc<str>, stable: Option<&str>) -> DescribedMember {
        DescribedMember {
            member: Arc::clone(id),
            instance: self.instance.clone(),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            metadata: self.metadata(stable),
            assignment: stable.map_or_else(Bytes::new, |_| self.assignment.clone()),
        }
    }
}

impl Members {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_id.is_empty()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Member> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Member> {
        self.by_id.get_mut(id)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Member)> {
        self.by_id.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Arc<str>, &mut Member)> {
        self.by_id.iter_mut()
    }

    /// What all members take, in bytes; not what they were assigned.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// What the member `id` takes of that; nothing when there is none.
    pub(super) fn bytes_of(&self, id: &str) -> usize {
        self.by_id.get(id).map_or(0, |member| member_bytes(id, &member.protocols))
    }

    /// The id of the static member `instance`.
    pub(super) fn id_of(&self, instance: &str) -> Option<&Arc<str>> {
        self.by_instance.get(instance)
    }

    /// How many members have a parked join.
    pub(super) const fn joining(&self) -> usize {
        self.joining
    }

    /// Adds a member; one of the same id or instance must not be there.
    pub(super) fn insert(&mut self, id: Arc<str>, member: Member) {
        debug_assert!(!self.by_id.contains_key(&id) && member.join.is_none());
        if let Some(instance) = &member.instance {
            self.by_instance.insert(Arc::clone(instance), Arc::clone(&id));
        }
        self.count(&member.protocols);
        self.bytes += member_bytes(&id, &member.protocols);
        self.by_id.insert(id, member);
    }

    /// Takes a member out, with its parked join.
    pub(super) fn remove(&mut self, id: &str) -> Option<(Member, Option<Ticket>)> {
        let mut member = self.by_id.remove(id)?;
        self.discount(&member.protocols);
        self.bytes -= member_bytes(id, &member.protocols);
        let join = member.join.take();
        if join.is_some() {
            self.joining -= 1;
        }
        if let Some(instance) = &member.instance {
            self.by_instance.remove(instance);
        }
        Some((member, join))
    }

    /// Parks a join; returns the one that it takes the place of.
    pub(super) fn park_join(&mut self, id: &str, ticket: Ticket) -> Option<Ticket> {
        let member = self.by_id.get_mut(id)?;
        let former = member.join.replace(ticket);
        if former.is_none() {
            self.joining += 1;
        }
        former
    }

    /// Takes a parked join in order to answer it.
    pub(super) fn take_join(&mut self, id: &str) -> Option<Ticket> {
        let ticket = self.by_id.get_mut(id)?.join.take();
        if ticket.is_some() {
            self.joining -= 1;
        }
        ticket
    }

    /// Replaces what a member said of itself.
    pub(super) fn update(
        &mut self,
        id: &str,
        protocols: Vec<Protocol>,
        session_timeout_ms: i32,
        rebalance_timeout_ms: i32,
    ) {
        let protocols = each_name_once(protocols);
        self.count(&protocols);
        if let Some(member) = self.by_id.get_mut(id) {
            member.session_timeout_ms = session_timeout_ms;
            member.rebalance_timeout_ms = rebalance_timeout_ms;
            self.bytes += protocols_bytes(&protocols);
            let former = std::mem::replace(&mut member.protocols, protocols);
            self.bytes -= protocols_bytes(&former);
            self.discount(&former);
        }
    }

    /// Whether every member speaks `protocol`.
    pub(super) fn all_speak(&self, protocol: &str) -> bool {
        self.speakers.get(protocol).copied().unwrap_or(0) == self.by_id.len()
    }

    /// The protocol with most votes among those that every member speaks: each member votes for
    /// the first of its own that qualifies. The first name in order wins a tie.
    pub(super) fn elect_protocol(&self) -> Option<Arc<str>> {
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.by_id.values() {
            let vote = member.protocols.iter().find(|spoken| self.all_speak(&spoken.name));
            if let Some(vote) = vote {
                *votes.entry(&vote.name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes.into_iter().find(|(_, count)| *count == most).map(|(name, _)| Arc::clone(name))
    }

    /// The longest time that any member may take to join again.
    pub(super) fn rebalance_timeout(&self) -> Duration {
        let longest = self.by_id.values().map(|member| member.rebalance_timeout_ms).max();
        millis(longest.unwrap_or(0))
    }

    /// Everybody, as the leader sees them.
    pub(super) fn joined(&self, protocol: Option<&str>) -> Vec<JoinedMember> {
        self.by_id.iter().map(|(id, member)| member.joined(id, protocol)).collect()
    }

    fn count(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            *self.speakers.entry(Arc::clone(&protocol.name)).or_default() += 1;
        }
    }

    fn discount(&mut self, protocols: &[Protocol]) {
        for protocol in protocols {
            if let Some(count) = self.speakers.get_mut(&protocol.name) {
                *count -= 1;
                if *count == 0 {
                    self.speakers.remove(&protocol.name);
                }
            }
        }
    }
}

#[cfg(test)]
impl Member {
    pub(super) fn parked(&self) -> impl Iterator<Item = Ticket> {
        self.join.into_iter().chain(self.sync)
    }
}

#[cfg(test)]
impl Members {
    /// The indexes say what the members say.
    pub(super) fn check(&self) {
        let joining = self.by_id.values().filter(|member| member.is_joining()).count();
        assert_eq!(self.joining, joining);
        let mut speakers: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut by_instance = BTreeMap::new();
        for (id, member) in &self.by_id {
            for protocol in &member.protocols {
                *speakers.entry(Arc::clone(&protocol.name)).or_default() += 1;
            }
            by_instance
                .extend(member.instance.iter().map(|name| (Arc::clone(name), Arc::clone(id))));
        }
        let bytes = self.by_id.iter().map(|(id, member)| member_bytes(id, &member.protocols));
        assert_eq!(self.bytes, bytes.sum::<usize>());
        assert_eq!(self.speakers, speakers);
        assert_eq!(self.by_instance, by_instance);
    }
}
