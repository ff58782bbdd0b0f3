//! What members do between joins: sync, heartbeat, leave, and fail to do any of it in time.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::host::HostFailure;

use super::Effects;
use super::command::{Commit, Heartbeat, Leave, Leaver, Sync, Ticket};
use super::live::{Initial, Live, Moment, NotMember, Phase};
use super::reply::{CommitError, HeartbeatError, LeaveMemberError, Reply, SyncError};

impl Live {
    /// Answers a sync, at once or when the leader has handed in the assignment.
    pub(super) fn sync(&mut self, sync: Sync, ticket: Ticket, at: Moment, out: &mut Effects) {
        if let Err(error) = self.check_sync(&sync) {
            return out.reply(ticket, Reply::Sync(Err(error)));
        }
        let assigned = sync.assignments.iter().map(|(id, work)| id.len() + work.len());
        if assigned.sum::<usize>() > at.settings.group_bytes_max {
            let error = SyncError::Host(HostFailure::TooLarge);
            return out.reply(ticket, Reply::Sync(Err(error)));
        }
        let id = &sync.speaker.member;
        let completing = self.phase == Phase::Completing;
        let leads = self.is_leader(id);
        let Some(member) = self.members.get_mut(id) else { return };
        member.owes_sync = false;
        if completing {
            if let Some(former) = member.sync.replace(ticket) {
                out.reply(former, Reply::Sync(Err(SyncError::Superseded)));
            }
        } else {
            let assignment = member.assignment.clone();
            out.reply(ticket, Reply::Sync(Ok(self.synced(assignment))));
        }
        if completing && leads {
            let assignments: BTreeMap<_, _> = sync.assignments.into_iter().collect();
            self.become_stable(assignments, at, out);
        }
    }

    fn check_sync(&self, sync: &Sync) -> Result<(), SyncError> {
        let speaker = &sync.speaker;
        self.check_member(&speaker.member, speaker.instance.as_deref()).map_err(
            |not| match not {
                NotMember::Unknown => SyncError::UnknownMember,
                NotMember::Fenced => SyncError::FencedInstance,
            },
        )?;
        if speaker.generation != self.generation {
            return Err(SyncError::IllegalGeneration);
        }
        let differs = |said: &Option<Arc<str>>, ours: &Option<Arc<str>>| {
            said.as_ref().zip(ours.as_ref()).is_some_and(|(said, ours)| said != ours)
        };
        if differs(&sync.protocol_type, &self.protocol_type)
            || differs(&sync.protocol, &self.protocol)
        {
            return Err(SyncError::InconsistentProtocol);
        }
        match self.phase {
            Phase::Empty => Err(SyncError::UnknownMember),
            Phase::Preparing { .. } => Err(SyncError::RebalanceInProgress),
            Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    /// Keeps a member's session going.
    pub(super) fn heartbeat(
        &mut self,
        heartbeat: &Heartbeat,
        at: Moment,
    ) -> Result<(), HeartbeatError> {
        let speaker = &heartbeat.speaker;
        self.check_member(&speaker.member, speaker.instance.as_deref()).map_err(
            |not| match not {
                NotMember::Unknown => HeartbeatError::UnknownMember,
                NotMember::Fenced => HeartbeatError::FencedInstance,
            },
        )?;
        if speaker.generation != self.generation {
            return Err(HeartbeatError::IllegalGeneration);
        }
        self.extend_session(&speaker.member, at);
        match self.phase {
            Phase::Preparing { .. } => Err(HeartbeatError::RebalanceInProgress),
            Phase::Empty | Phase::Completing | Phase::Stable => Ok(()),
        }
    }

    /// Whether a commit may be stored; a member's commit also keeps its session going. `within` a
    /// transaction, producers that do not say on behalf of which member they commit may do so, and
    /// while the group gets its assignment, too.
    pub(super) fn check_commit(
        &mut self,
        commit: &Commit,
        within: bool,
        at: Moment,
    ) -> Result<(), CommitError> {
        let speaker = &commit.speaker;
        if (speaker.generation < 0 && self.is_empty()) || (within && speaker.is_nobody()) {
            // An administrator, or a consumer that assigns partitions by hand: what it calls itself
            // does not matter, since nobody else's offsets can be meant (KAFKA-14201).
            return Ok(());
        }
        self.check_member(&speaker.member, speaker.instance.as_deref()).map_err(
            |not| match not {
                NotMember::Unknown => CommitError::UnknownMember,
                NotMember::Fenced => CommitError::FencedInstance,
            },
        )?;
        if speaker.generation != self.generation {
            return Err(CommitError::IllegalGeneration);
        }
        if within {
            return Ok(());
        }
        if self.phase == Phase::Completing {
            return Err(CommitError::RebalanceInProgress);
        }
        self.extend_session(&speaker.member, at);
        Ok(())
    }

    /// Lets members go; one result per leaver.
    pub(super) fn leave(
        &mut self,
        leave: &Leave,
        at: Moment,
        out: &mut Effects,
    ) -> Vec<Result<(), LeaveMemberError>> {
        let before = self.members.len();
        let results: Vec<_> = leave.members.iter().map(|one| self.let_go(one, out)).collect();
        if self.members.len() < before {
            self.rebalance(at, out);
        } else {
            // Somebody who never came back with its id: only a join phase can have waited for it.
            self.complete_join_if_ready(at, out);
        }
        results
    }

    fn let_go(&mut self, leaver: &Leaver, out: &mut Effects) -> Result<(), LeaveMemberError> {
        let id = if leaver.member.is_empty() {
            let instance = leaver.instance.as_deref().ok_or(LeaveMemberError::UnknownMember)?;
            let id = self.members.id_of(instance).ok_or(LeaveMemberError::UnknownMember)?;
            Arc::clone(id)
        } else if self.pending.contains_key(&leaver.member) {
            Arc::clone(&leaver.member)
        } else {
            self.check_member(&leaver.member, leaver.instance.as_deref()).map_err(
                |not| match not {
                    NotMember::Unknown => LeaveMemberError::UnknownMember,
                    NotMember::Fenced => LeaveMemberError::FencedInstance,
                },
            )?;
            Arc::clone(&leaver.member)
        };
        self.remove(&id, out);
        Ok(())
    }

    /// Does what is due, and finds out when to look again.
    pub(super) fn on_time(&mut self, at: Moment, out: &mut Effects) {
        self.wake = None;
        if let Phase::Preparing { until, initial } = self.phase
            && until <= at.now
        {
            self.on_join_deadline(initial, at, out);
        }
        if self.sync_until.is_some_and(|until| until <= at.now) {
            self.on_sync_deadline(at, out);
        }
        self.expire_pending(at, out);
        self.expire_members(at, out);
        self.wake = self.earliest_deadline();
    }

    fn on_join_deadline(&mut self, initial: Option<Initial>, at: Moment, out: &mut Effects) {
        match initial {
            Some(round) if round.newcomer && !round.remaining.is_zero() => {
                let delay = at.settings.initial_rebalance_delay.min(round.remaining);
                let remaining = round.remaining.saturating_sub(round.delay);
                let initial = Some(Initial { delay, remaining, newcomer: false });
                self.phase = Phase::Preparing { until: at.now.plus(delay), initial };
            }
            _ => self.complete_join(at, out),
        }
    }

    /// Who was answered a join and never synced is out.
    fn on_sync_deadline(&mut self, at: Moment, out: &mut Effects) {
        self.sync_until = None;
        let silent: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.owes_sync)
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in &silent {
            self.remove(id, out);
        }
        if !silent.is_empty() {
            self.rebalance(at, out);
        }
    }

    fn expire_pending(&mut self, at: Moment, out: &mut Effects) {
        let before = self.pending.len();
        self.pending.retain(|_, until| *until > at.now);
        if self.pending.len() < before
            && matches!(self.phase, Phase::Preparing { .. })
            && self.all_joined()
        {
            self.complete_join(at, out);
        }
    }

    fn expire_members(&mut self, at: Moment, out: &mut Effects) {
        let due: Vec<_> = self
            .members
            .iter()
            .filter(|(_, member)| member.session_end.is_some_and(|end| end <= at.now))
            .map(|(id, _)| Arc::clone(id))
            .collect();
        for id in due {
            // An earlier one's end may have been this one's answer, and with it a new session.
            let Some(member) = self.members.get_mut(&id) else { continue };
            if member.session_end.is_none_or(|end| end > at.now) {
                continue;
            }
            if member.is_waiting() && !member.newcomer {
                // Its parked request proves that it is there; the answer starts a new session.
                member.session_end = None;
                continue;
            }
            self.remove(&id, out);
            match self.phase {
                Phase::Stable | Phase::Completing => self.prepare(at, out),
                Phase::Preparing { .. } if self.all_joined() => self.complete_join(at, out),
                Phase::Preparing { .. } | Phase::Empty => {}
            }
        }
    }

    pub(super) fn earliest_deadline(&self) -> Option<millstream_types::Monotonic> {
        let join = match self.phase {
            Phase::Preparing { until, .. } => Some(until),
            _ => None,
        };
        let sessions = self.members.iter().filter_map(|(_, member)| member.session_end);
        let pending = self.pending.values().copied();
        sessions.chain(pending).chain(join).chain(self.sync_until).min()
    }
}
