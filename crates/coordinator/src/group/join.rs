//! Joins: newcomers, members that come back, static members that take their own place.

use std::fmt::Write as _;
use std::sync::Arc;

use millstream_types::Uuid;

use super::Effects;
use super::command::{Join, Protocol, Ticket};
use super::live::{Live, Moment, NotMember, Phase};
use super::members::{Introduction, Member, member_bytes, millis};
use super::reply::{JoinError, JoinRefused, Joined, Reply, SyncError};

/// How much of a client's name goes into a member id, in bytes: what is stored must fit Kafka's
/// string of 32,767 bytes.
const NAME_IN_ID_MAX: usize = 1_000;

impl Live {
    /// Answers a join, at once or when the group is ready.
    pub(super) fn join(&mut self, join: Join, ticket: Ticket, at: Moment, out: &mut Effects) {
        if !self.has_room_for(&join.member, at) || !self.has_memory_for(&join, at) {
            self.remove(&join.member, out);
            self.complete_join_if_ready(at, out);
            return refuse(ticket, "", JoinError::GroupFull, out);
        }
        if !self.speaks_with(&join.protocol_type, &join.protocols) {
            return refuse(ticket, &join.member, JoinError::InconsistentProtocol, out);
        }
        if !join.member.is_empty() {
            return self.join_by_id(join, ticket, at, out);
        }
        let id = member_id(join.instance.as_ref().unwrap_or(&join.client_id), join.fresh);
        let known = join.instance.as_ref().and_then(|name| self.members.id_of(name)).cloned();
        if let Some(former) = known {
            self.replace_static(&former, Join { member: id, ..join }, ticket, at, out);
        } else if join.instance.is_none() && join.require_known_member_id {
            let until = at.now.plus(millis(join.session_timeout_ms));
            self.pending.insert(Arc::clone(&id), until);
            self.wake_by(until);
            refuse(ticket, &id, JoinError::MemberIdRequired, out);
        } else {
            self.admit(Join { member: id, ..join }, ticket, at, out);
        }
    }

    /// A member that was a member stays one; others are welcome while there is room.
    fn has_room_for(&self, member: &str, at: Moment) -> bool {
        let known = self.members.get(member);
        match self.phase {
            Phase::Empty => true,
            // Who has joined counts, not who is expected: the last to come back are out.
            Phase::Preparing { .. } => {
                known.is_some_and(Member::is_joining)
                    || self.members.joining() < at.settings.members_max
            }
            Phase::Completing | Phase::Stable => {
                known.is_some() || self.members.len() < at.settings.members_max
            }
        }
    }

    /// Whether the group may take what the member says of itself. An id that was given out counts for as
    /// much as a member that says nothing.
    fn has_memory_for(&self, join: &Join, at: Moment) -> bool {
        let pending = self.pending.len() * (NAME_IN_ID_MAX + member_bytes("", &[]));
        let others = self.members.bytes() - self.members.bytes_of(&join.member);
        others + pending + member_bytes(&join.member, &join.protocols)
            <= at.settings.group_bytes_max
    }

    /// Whether a member that speaks `protocols` can be understood by all others.
    fn speaks_with(&self, protocol_type: &str, protocols: &[Protocol]) -> bool {
        if self.phase == Phase::Empty {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        self.protocol_type.as_deref() == Some(protocol_type)
            && protocols.iter().any(|spoken| self.members.all_speak(&spoken.name))
    }

    /// Adds the member that `join` names and has the group take note.
    fn admit(&mut self, join: Join, ticket: Ticket, at: Moment, out: &mut Effects) {
        let id = join.member;
        if self.members.is_empty() {
            self.protocol_type = Some(join.protocol_type);
        }
        if let Phase::Preparing { initial: Some(initial), .. } = &mut self.phase {
            initial.newcomer = true;
        }
        let mut member = Member::new(Introduction {
            instance: join.instance,
            client_id: join.client_id,
            client_host: join.client_host,
            session_timeout_ms: join.session_timeout_ms,
            rebalance_timeout_ms: join.rebalance_timeout_ms,
            protocols: join.protocols,
        });
        member.newcomer = true;
        let end = at.now.plus(at.settings.newcomer_timeout);
        member.session_end = Some(end);
        self.wake_by(end);
        self.pending.remove(&id);
        self.members.insert(Arc::clone(&id), member);
        self.members.park_join(&id, ticket);
        if self.leader.is_none() {
            self.leader = Some(id);
        }
        self.rebalance(at, out);
    }

    /// A join of somebody who names an id.
    fn join_by_id(&mut self, join: Join, ticket: Ticket, at: Moment, out: &mut Effects) {
        let id = Arc::clone(&join.member);
        // An id is given out to dynamic members only, so a pending one has no instance.
        if self.pending.contains_key(&id) && join.instance.is_none() {
            return self.admit(join, ticket, at, out);
        }
        if let Err(not) = self.check_member(&id, join.instance.as_deref()) {
            let error = match not {
                NotMember::Unknown => JoinError::UnknownMember,
                NotMember::Fenced => JoinError::FencedInstance,
            };
            return refuse(ticket, &id, error, out);
        }
        let says_the_same =
            self.members.get(&id).is_some_and(|member| member.says(&join.protocols));
        match self.phase {
            // It may have missed the reply to its join.
            Phase::Completing if says_the_same => {
                out.reply(ticket, Reply::Join(Ok(self.joined(&id))));
            }
            // A leader that joins again asks for a rebalance: something that it sees has changed.
            Phase::Stable if says_the_same && !self.is_leader(&id) => {
                out.reply(ticket, Reply::Join(Ok(self.joined(&id))));
            }
            Phase::Preparing { .. } | Phase::Completing | Phase::Stable => {
                self.note(&id, &join);
                self.park(&id, ticket, out);
                self.rebalance(at, out);
            }
            Phase::Empty => refuse(ticket, &id, JoinError::UnknownMember, out),
        }
    }

    /// Notes what a member says of itself now.
    fn note(&mut self, id: &str, join: &Join) {
        let (session, rebalance) = (join.session_timeout_ms, join.rebalance_timeout_ms);
        self.members.update(id, join.protocols.clone(), session, rebalance);
    }

    /// Has a member's join wait; an older one of the same member will not be answered better.
    fn park(&mut self, id: &str, ticket: Ticket, out: &mut Effects) {
        if let Some(former) = self.members.park_join(id, ticket) {
            refuse(former, id, JoinError::Superseded, out);
        }
    }

    /// A static member has come back under a new id: it takes its own place, and the holder of the
    /// old id is fenced. A stable group goes on undisturbed if it would choose the same protocol.
    fn replace_static(
        &mut self,
        former: &Arc<str>,
        join: Join,
        ticket: Ticket,
        at: Moment,
        out: &mut Effects,
    ) {
        let id = Arc::clone(&join.member);
        let led_by = self.leader.clone();
        self.rename(former, &id, out);
        self.note(&id, &join);
        self.extend_session(&id, at);
        if self.phase == Phase::Stable && self.members.elect_protocol() == self.protocol {
            let joined = self.rejoined_static(&id, led_by, join.can_skip_assignment);
            out.reply(ticket, Reply::Join(Ok(joined)));
            return self.store(out);
        }
        // If the leader is computing an assignment, it does so for the old id: start again.
        self.park(&id, ticket, out);
        self.rebalance(at, out);
    }

    /// Moves a static member to a new id, and fences whoever waits under the old one.
    fn rename(&mut self, former: &Arc<str>, id: &Arc<str>, out: &mut Effects) {
        let Some((mut member, join)) = self.members.remove(former) else { return };
        // It is as old as its instance: while its join is parked, its session does not end.
        member.newcomer = false;
        if let Some(ticket) = join {
            refuse(ticket, former, JoinError::FencedInstance, out);
        }
        if let Some(ticket) = member.sync.take() {
            out.reply(ticket, Reply::Sync(Err(SyncError::FencedInstance)));
        }
        self.members.insert(Arc::clone(id), member);
        if self.is_leader(former) {
            self.leader = Some(Arc::clone(id));
        }
    }

    /// The answer to a static member that is back in a stable group. A client that cannot skip the
    /// assignment must not be told that it leads, or it would compute one that nobody waits for.
    fn rejoined_static(
        &self,
        id: &Arc<str>,
        led_by: Option<Arc<str>>,
        can_skip_assignment: bool,
    ) -> Joined {
        let joined = self.joined(id);
        if can_skip_assignment {
            return Joined { skip_assignment: self.is_leader(id), ..joined };
        }
        Joined { leader: led_by.unwrap_or_else(|| Arc::from("")), members: Vec::new(), ..joined }
    }
}

fn refuse(ticket: Ticket, member: &str, error: JoinError, out: &mut Effects) {
    out.reply(ticket, Reply::Join(Err(JoinRefused { member: Arc::from(member), error })));
}

/// A member id as Kafka makes them: a name that people recognise, and an id in hexadecimal.
pub(super) fn member_id(name: &str, fresh: Uuid) -> Arc<str> {
    let mut cut = name.len().min(NAME_IN_ID_MAX);
    while !name.is_char_boundary(cut) {
        cut -= 1;
    }
    let mut id = String::with_capacity(cut + 37);
    id.push_str(name.get(..cut).unwrap_or_default());
    for (at, byte) in fresh.0.iter().enumerate() {
        if matches!(at, 0 | 4 | 6 | 8 | 10) {
            id.push('-');
        }
        // Writing to a string cannot fail.
        let _ = write!(id, "{byte:02x}");
    }
    Arc::from(id)
}
