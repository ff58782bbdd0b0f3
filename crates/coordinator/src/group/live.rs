//! One group as it lives in memory: who is there, who waits for what, and until when.
//!
//! ```text
//!            a member joins                   everyone has joined, or time is up
//!   Empty ------------------> Preparing ---------------------------------------> Completing
//!     ^                        ^     |                                               |
//!     |   nobody has joined    |     |            a member joins, leaves or fails    |
//!     +------------------------|-----+            +----------------------------------+
//!                              |                  v                                  | the leader
//!                              +-------------- Stable <------------------------------+ has synced
//! ```
//!
//! All of this is soft state. What a restart must find again is the [`StoredGroup`] that is
//! written when a group becomes stable or empty; in those two states, and in no other, the live
//! group and the stored one say the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_types::{Monotonic, Timestamp};

use crate::host::HostFailure;

use super::Effects;
use super::command::{Protocol, Ticket};
use super::members::{Introduction, Member, Members, millis};
use super::record::{Fact, StoredGroup, StoredMember};
use super::reply::{
    Description, GroupState, JoinError, JoinRefused, Joined, Reply, SyncError, Synced,
};
use super::settings::GroupSettings;
use super::subscription;

/// How long absent static members are waited for at least before they are looked for again: those that
/// say that they need no time to join must not keep the coordinator busy until their sessions end.
const ABSENT_TIMEOUT_MIN: Duration = Duration::from_secs(1);

/// The moment of a command, on both clocks, and the settings that hold then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) now: Monotonic,
    pub(super) wall: Timestamp,
    pub(super) settings: GroupSettings,
}

/// Where a group is in the life of a generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No members.
    Empty,
    /// Members join until `until`.
    Preparing { until: Monotonic, initial: Option<Initial> },
    /// The leader computes the assignment.
    Completing,
    /// Everybody has an assignment.
    Stable,
}

/// The first rebalance of an empty group, which waits for others to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Initial {
    /// How long this round of waiting takes.
    pub(super) delay: Duration,
    /// How long it may go on after this round.
    pub(super) remaining: Duration,
    /// Whether somebody came during this round, so that there will be another.
    pub(super) newcomer: bool,
}

/// A group.
#[derive(Clone, Debug)]
pub(super) struct Live {
    pub(super) id: Arc<str>,
    pub(super) phase: Phase,
    /// Since when it is in this phase; `None` when an old record did not say.
    pub(super) since: Option<Timestamp>,
    pub(super) protocol_type: Option<Arc<str>>,
    pub(super) protocol: Option<Arc<str>>,
    pub(super) leader: Option<Arc<str>>,
    pub(super) generation: i32,
    pub(super) members: Members,
    /// Ids that were given out but have not come back, and until when they may.
    pub(super) pending: BTreeMap<Arc<str>, Monotonic>,
    /// Until when members must have sent their sync.
    pub(super) sync_until: Option<Monotonic>,
    /// No deadline of the group is earlier. May be too early, never too late.
    pub(super) wake: Option<Monotonic>,
    /// Whether a record of it is on its way to the log: until that is replayed, or has failed, the
    /// group is not forgotten.
    pub(super) in_flight: bool,
}

/// Why a speaker is not the member it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotMember {
    Unknown,
    Fenced,
}

impl Live {
    pub(super) fn new(id: Arc<str>) -> Self {
        Self {
            id,
            phase: Phase::Empty,
            since: None,
            protocol_type: None,
            protocol: None,
            leader: None,
            generation: 0,
            members: Members::default(),
            pending: BTreeMap::new(),
            sync_until: None,
            wake: None,
            in_flight: false,
        }
    }

    /// The group as a restart finds it: the members are taken to be there, for a session from now.
    pub(super) fn restore(id: Arc<str>, stored: &StoredGroup, at: Moment) -> Self {
        let mut live = Self::new(id);
        live.since = stored.since;
        live.protocol_type.clone_from(&stored.protocol_type);
        live.protocol.clone_from(&stored.protocol);
        live.generation = stored.generation;
        let name = stored.protocol.clone().unwrap_or_else(|| Arc::from(""));
        for member in &stored.members {
            let known = live.members.get(&member.member).is_some()
                || member.instance.as_ref().is_some_and(|it| live.members.id_of(it).is_some());
            if known {
                continue;
            }
            let protocol =
                Protocol { name: Arc::clone(&name), metadata: member.subscription.clone() };
            let mut restored = Member::new(Introduction {
                instance: member.instance.clone(),
                client_id: Arc::clone(&member.client_id),
                client_host: Arc::clone(&member.client_host),
                session_timeout_ms: member.session_timeout_ms,
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                protocols: vec![protocol],
            });
            restored.assignment = member.assignment.clone();
            live.members.insert(Arc::clone(&member.member), restored);
            live.extend_session(&member.member, at);
        }
        if !live.members.is_empty() {
            live.phase = Phase::Stable;
            let leader = stored.leader.clone().filter(|id| live.members.get(id).is_some());
            live.leader = leader.or_else(|| live.any_member());
        }
        live
    }

    /// What a restart must find again.
    pub(super) fn to_stored(&self) -> StoredGroup {
        let members = self.members.iter().map(|(id, member)| StoredMember {
            member: Arc::clone(id),
            instance: member.instance.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            subscription: member.metadata(self.protocol.as_deref()),
            assignment: member.assignment.clone(),
        });
        StoredGroup {
            protocol_type: self.protocol_type.clone(),
            generation: self.generation,
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            since: self.since,
            members: members.collect(),
        }
    }

    pub(super) fn store(&mut self, out: &mut Effects) {
        self.in_flight = true;
        let value = Some(self.to_stored());
        Fact::Group { group: Arc::clone(&self.id), value }.put(&mut out.records);
    }

    pub(super) const fn state(&self) -> GroupState {
        match self.phase {
            Phase::Empty => GroupState::Empty,
            Phase::Preparing { .. } => GroupState::PreparingRebalance,
            Phase::Completing => GroupState::CompletingRebalance,
            Phase::Stable => GroupState::Stable,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.phase == Phase::Empty
    }

    /// Whether forgetting the group, if nothing is stored of it, would take nothing from anybody.
    pub(super) fn is_idle(&self) -> bool {
        self.is_empty() && self.pending.is_empty() && !self.in_flight
    }

    pub(super) fn is_leader(&self, member: &str) -> bool {
        self.leader.as_deref() == Some(member)
    }

    /// Which topics the members read, where that can be known.
    pub(super) fn subscribed(&self) -> Subscribed {
        let consumers = self.protocol_type.as_deref() == Some(subscription::PROTOCOL_TYPE);
        if !consumers {
            return Subscribed::NotConsumers;
        }
        let protocol = self.protocol.as_deref();
        let said = self.members.iter().map(|(_, member)| member.metadata(protocol));
        subscription::topics_of_all(said).map_or(Subscribed::Unknown, Subscribed::Topics)
    }

    pub(super) fn describe(&self) -> Description {
        let stable = self.phase == Phase::Stable;
        let protocol = self.protocol.as_ref().filter(|_| stable);
        let nothing = || Arc::from("");
        let shown = stable.then_some(protocol.map_or("", |name| &**name));
        Description {
            state: self.state(),
            protocol_type: self.protocol_type.clone().unwrap_or_else(nothing),
            protocol: protocol.cloned().unwrap_or_else(nothing),
            generation: self.generation,
            leader: self.leader.clone(),
            members: self.members.iter().map(|(id, it)| it.described(id, shown)).collect(),
        }
    }

    /// Checks that a speaker is the member it claims to be.
    pub(super) fn check_member(
        &self,
        member: &str,
        instance: Option<&str>,
    ) -> Result<(), NotMember> {
        if let Some(instance) = instance {
            match self.members.id_of(instance) {
                None => return Err(NotMember::Unknown),
                Some(id) if &**id != member => return Err(NotMember::Fenced),
                Some(_) => {}
            }
        }
        if self.members.get(member).is_some() { Ok(()) } else { Err(NotMember::Unknown) }
    }

    /// Makes sure that the group is looked at again by `deadline`.
    pub(super) fn wake_by(&mut self, deadline: Monotonic) {
        self.wake = Some(self.wake.map_or(deadline, |wake| wake.min(deadline)));
    }

    /// The member was heard: its session goes on.
    pub(super) fn extend_session(&mut self, member: &str, at: Moment) {
        let Some(known) = self.members.get_mut(member) else { return };
        let end = at.now.plus(millis(known.session_timeout_ms));
        known.session_end = Some(end);
        self.wake_by(end);
    }

    fn enter(&mut self, phase: Phase, at: Moment) {
        self.phase = phase;
        self.since = Some(at.wall);
        if let Phase::Preparing { until, .. } = phase {
            self.wake_by(until);
        }
    }

    fn any_member(&self) -> Option<Arc<str>> {
        self.members.iter().next().map(|(id, _)| Arc::clone(id))
    }

    /// Takes a member out. Its parked requests are answered: it is not a member any more.
    pub(super) fn remove(&mut self, member: &str, out: &mut Effects) {
        self.pending.remove(member);
        let Some((removed, join)) = self.members.remove(member) else { return };
        if let Some(ticket) = join {
            let refused = JoinRefused { member: Arc::from(""), error: JoinError::UnknownMember };
            out.reply(ticket, Reply::Join(Err(refused)));
        }
        if let Some(ticket) = removed.sync {
            out.reply(ticket, Reply::Sync(Err(SyncError::UnknownMember)));
        }
        if self.is_leader(member) {
            self.leader = self.any_member();
        }
    }

    /// Starts a rebalance, or, when one is under way, sees whether it is complete.
    pub(super) fn rebalance(&mut self, at: Moment, out: &mut Effects) {
        if let Phase::Preparing { .. } = self.phase {
            self.complete_join_if_ready(at, out);
        } else {
            self.prepare(at, out);
        }
    }

    /// Starts a rebalance.
    pub(super) fn prepare(&mut self, at: Moment, out: &mut Effects) {
        if self.phase == Phase::Completing {
            self.refuse_syncs(SyncError::RebalanceInProgress, at, out);
        }
        self.sync_until = None;
        for (_, member) in self.members.iter_mut() {
            member.owes_sync = false;
        }
        let timeout = self.members.rebalance_timeout();
        if self.phase == Phase::Empty {
            let delay = at.settings.initial_rebalance_delay;
            let remaining = timeout.saturating_sub(delay);
            let initial = Some(Initial { delay, remaining, newcomer: false });
            self.enter(Phase::Preparing { until: at.now.plus(delay), initial }, at);
            if delay.is_zero() {
                self.complete_join(at, out);
            }
        } else {
            self.enter(Phase::Preparing { until: at.now.plus(timeout), initial: None }, at);
            if self.all_joined() {
                self.complete_join(at, out);
            }
        }
    }

    /// Answers parked syncs: there will be no assignment in this generation.
    fn refuse_syncs(&mut self, why: SyncError, at: Moment, out: &mut Effects) {
        let mut answered = Vec::new();
        for (id, member) in self.members.iter_mut() {
            member.assignment = Bytes::new();
            if let Some(ticket) = member.sync.take() {
                out.reply(ticket, Reply::Sync(Err(why)));
                answered.push(Arc::clone(id));
            }
        }
        for id in answered {
            self.extend_session(&id, at);
        }
    }

    pub(super) fn all_joined(&self) -> bool {
        self.members.joining() == self.members.len() && self.pending.is_empty()
    }

    /// Ends the join phase when nobody is missing. The first rebalance of an empty group always
    /// takes its time, because nobody can know who is missing.
    pub(super) fn complete_join_if_ready(&mut self, at: Moment, out: &mut Effects) {
        if let Phase::Preparing { initial: None, .. } = self.phase
            && self.all_joined()
        {
            self.complete_join(at, out);
        }
    }

    /// Ends the join phase: who has not joined is out, except static members, who have until the
    /// end of their session.
    pub(super) fn complete_join(&mut self, at: Moment, out: &mut Effects) {
        let missing: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| !member.is_joining() && member.instance.is_none())
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in missing {
            self.remove(&id, out);
        }
        if self.members.is_empty() {
            self.become_empty(at, out);
        } else if self.elect_leader() {
            self.begin_generation(at, out);
        } else {
            // Only absent static members are left: wait until they come or their sessions end.
            let timeout = self.members.rebalance_timeout().max(ABSENT_TIMEOUT_MIN);
            let until = at.now.plus(timeout);
            self.phase = Phase::Preparing { until, initial: None };
            self.wake_by(until);
        }
    }

    /// Sees to it that the leader is one of those who have joined; whether there is one.
    fn elect_leader(&mut self) -> bool {
        let leads = self.leader.as_ref().and_then(|id| self.members.get(id));
        if leads.is_some_and(Member::is_joining) {
            return true;
        }
        let joined = self.members.iter().find(|(_, member)| member.is_joining());
        let Some(elected) = joined.map(|(id, _)| Arc::clone(id)) else { return false };
        self.leader = Some(elected);
        true
    }

    fn become_empty(&mut self, at: Moment, out: &mut Effects) {
        self.generation = next_generation(self.generation);
        self.protocol = None;
        self.leader = None;
        self.enter(Phase::Empty, at);
        self.store(out);
    }

    fn begin_generation(&mut self, at: Moment, out: &mut Effects) {
        self.generation = next_generation(self.generation);
        self.protocol = self.members.elect_protocol();
        self.enter(Phase::Completing, at);
        let ids: Vec<_> = self.members.iter().map(|(id, _)| Arc::clone(id)).collect();
        for id in &ids {
            if let Some(ticket) = self.members.take_join(id) {
                out.reply(ticket, Reply::Join(Ok(self.joined(id))));
            }
            if let Some(member) = self.members.get_mut(id) {
                member.newcomer = false;
                member.owes_sync = true;
            }
            self.extend_session(id, at);
        }
        let until = at.now.plus(self.members.rebalance_timeout());
        self.sync_until = Some(until);
        self.wake_by(until);
    }

    /// The answer to a join of `member` in this generation.
    pub(super) fn joined(&self, member: &Arc<str>) -> Joined {
        let leads = self.is_leader(member);
        Joined {
            member: Arc::clone(member),
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| Arc::from("")),
            skip_assignment: false,
            members: if leads { self.members.joined(self.protocol.as_deref()) } else { Vec::new() },
        }
    }

    /// The answer to a sync of a member whose assignment is `assignment`.
    pub(super) fn synced(&self, assignment: Bytes) -> Synced {
        let (protocol_type, protocol) = (self.protocol_type.clone(), self.protocol.clone());
        Synced { protocol_type, protocol, assignment }
    }

    /// Makes the leader's assignment everybody's, and answers those who wait for it.
    pub(super) fn become_stable(
        &mut self,
        mut assignments: BTreeMap<Arc<str>, Bytes>,
        at: Moment,
        out: &mut Effects,
    ) {
        let mut answers: Vec<(Arc<str>, Ticket, Bytes)> = Vec::new();
        for (id, member) in self.members.iter_mut() {
            // A slice would keep the leader's whole request in memory.
            let assignment = assignments.remove(id).unwrap_or_default();
            member.assignment = Bytes::copy_from_slice(&assignment);
            if let Some(ticket) = member.sync.take() {
                answers.push((Arc::clone(id), ticket, member.assignment.clone()));
            }
        }
        for (id, ticket, assignment) in answers {
            out.reply(ticket, Reply::Sync(Ok(self.synced(assignment))));
            self.extend_session(&id, at);
        }
        self.enter(Phase::Stable, at);
        self.store(out);
    }

    /// What the group was to be could not be stored: it goes on by forming a new generation.
    pub(super) fn recover(&mut self, at: Moment, out: &mut Effects) {
        self.in_flight = false;
        if matches!(self.phase, Phase::Stable | Phase::Completing) {
            for (_, member) in self.members.iter_mut() {
                member.assignment = Bytes::new();
            }
            self.prepare(at, out);
        }
    }

    /// Answers everything that waits: the group is not kept here any more.
    pub(super) fn dismiss(&mut self, why: HostFailure, out: &mut Effects) {
        self.answer_all(JoinError::Host(why), SyncError::Host(why), out);
    }

    /// Answers everything that waits: the members are to join again.
    pub(super) fn disperse(&mut self, out: &mut Effects) {
        self.answer_all(JoinError::Superseded, SyncError::RebalanceInProgress, out);
    }

    fn answer_all(&mut self, join: JoinError, sync: SyncError, out: &mut Effects) {
        let ids: Vec<_> = self.members.iter().map(|(id, _)| Arc::clone(id)).collect();
        for id in ids {
            if let Some(ticket) = self.members.take_join(&id) {
                let refused = JoinRefused { member: Arc::clone(&id), error: join };
                out.reply(ticket, Reply::Join(Err(refused)));
            }
            if let Some(ticket) = self.members.get_mut(&id).and_then(|member| member.sync.take()) {
                out.reply(ticket, Reply::Sync(Err(sync)));
            }
        }
    }
}

/// What is known of the topics that a group reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Subscribed {
    /// The group is not one of consumers, or only keeps offsets: it reads nothing that we know.
    NotConsumers,
    /// What some member said cannot be read: it may read anything.
    Unknown,
    /// These and no others.
    Topics(std::collections::BTreeSet<String>),
}

impl Subscribed {
    /// Whether the group reads `topic`, as far as anybody can tell.
    pub(super) fn includes(&self, topic: &str) -> bool {
        match self {
            Self::NotConsumers => false,
            Self::Unknown => true,
            Self::Topics(topics) => topics.contains(topic),
        }
    }
}

/// Generations rise; after the last one they start again.
const fn next_generation(generation: i32) -> i32 {
    match generation.checked_add(1) {
        Some(next) => next,
        None => 1,
    }
}
