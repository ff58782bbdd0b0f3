//! Members of a consumer group that speak the classic protocol, while a group changes from one to the
//! other (KIP-848, "online migration").
//!
//! To such a member the coordinator is a leader that it never sees: it joins and learns its epoch as
//! generation, syncs and learns its partitions, and is told by its heartbeats when to join again: when
//! the group's epoch has risen, when it has to give something up, and when it can have more.

use std::sync::Arc;

use super::beat::{Around, keep_time};
use super::draft::Draft;
use super::embedded::{self, Subscription};
use super::member::{About, Classic, Member, MemberState};
use super::state::ConsumerGroup;
use super::times::Times;
use crate::group::command::{Join, Leaver, Speaker, Sync};
use crate::group::join::member_id;
use crate::group::members::{each_name_once, millis};
use crate::group::reply::{
    HeartbeatError, JoinError, JoinRefused, Joined, LeaveMemberError, SyncError, Synced,
};
use crate::group::subscription::PROTOCOL_TYPE;

/// Carries out a join.
pub(in crate::group) fn join(
    draft: &mut Draft,
    times: &mut Times,
    join: Join,
    around: Around<'_>,
) -> Result<Joined, JoinRefused> {
    let named = Arc::clone(&join.member);
    let refuse = |error| JoinRefused { member: Arc::clone(&named), error };
    let is_new = join.member.is_empty();
    let id = if is_new {
        member_id(join.instance.as_ref().unwrap_or(&join.client_id), join.fresh)
    } else {
        Arc::clone(&join.member)
    };
    let subscription = understand(&draft.group, &join, around).map_err(refuse)?;
    if is_new && join.require_known_member_id && join.instance.is_none() {
        return Err(JoinRefused { member: id, error: JoinError::MemberIdRequired });
    }
    has_room_for(&draft.group, &id, &join, around).map_err(refuse)?;
    if let Some(former) = place_of(&draft.group, &id, &join, is_new).map_err(refuse)? {
        draft.replace(&former, &id);
        times.forget(&former);
    }
    let rebalance = millis(join.rebalance_timeout_ms);
    let asker = join.asker.clone();
    let (about, protocol) = about(join, &subscription);
    let known = draft.group.member(&id).is_some();
    let asks_for_others = draft.note(&id, about);
    let looks = (true, asks_for_others || !known);
    let loses = draft.refresh_for((&id, asker.as_ref()), times, looks, around.world, around.at);
    let asks_for_others = asks_for_others || loses;
    if draft.group.target.epoch < draft.group.group.epoch {
        // At once, whatever the interval: it would be told to join again until then.
        draft.assign(around.world, around.settings().assignors(), around.at);
    }
    draft.reconcile(&id, around.world, Some(&subscription.owned), asks_for_others && known);
    keep_time(draft, times, &id, around);
    times.end_round(&id);
    times.begin_round(&id, around.at.now.plus(rebalance));
    let generation = draft.group.member(&id).map_or(0, |member| member.current.epoch);
    Ok(Joined {
        member: id,
        generation,
        protocol_type: Some(Arc::from(PROTOCOL_TYPE)),
        protocol,
        leader: Arc::from(""),
        skip_assignment: false,
        members: Vec::new(),
    })
}

/// Reads what the member subscribes to, if the others of its kind can understand it.
fn understand(
    group: &ConsumerGroup,
    join: &Join,
    around: Around<'_>,
) -> Result<Subscription, JoinError> {
    if &*join.protocol_type != PROTOCOL_TYPE {
        return Err(JoinError::InconsistentProtocol);
    }
    let others = group.members().iter().filter(|(id, _)| **id != join.member);
    let others: Vec<&Classic> =
        others.filter_map(|(_, member)| member.about.classic.as_ref()).collect();
    let all_speak = |name: &Arc<str>| {
        others.iter().all(|other| other.protocols.iter().any(|(spoken, _)| spoken == name))
    };
    if !join.protocols.iter().any(|protocol| all_speak(&protocol.name)) {
        return Err(JoinError::InconsistentProtocol);
    }
    let first = join.protocols.first().ok_or(JoinError::InconsistentProtocol)?;
    embedded::subscription(&first.metadata, around.world).ok_or(JoinError::InconsistentProtocol)
}

fn has_room_for(
    group: &ConsumerGroup,
    id: &str,
    join: &Join,
    around: Around<'_>,
) -> Result<(), JoinError> {
    let known = group.member(id);
    let said: usize = join.protocols.iter().map(|it| 2 * it.metadata.len() + it.name.len()).sum();
    let others = group.bytes() - known.map_or(0, |member| member.about.bytes(id));
    let is_full = known.is_none() && group.members().len() >= around.settings().members_max;
    if is_full || others + said > around.at.settings.group_bytes_max {
        return Err(JoinError::GroupFull);
    }
    Ok(())
}

/// The member whose place a static member takes; `None` when it takes none.
fn place_of(
    group: &ConsumerGroup,
    id: &Arc<str>,
    join: &Join,
    is_new: bool,
) -> Result<Option<Arc<str>>, JoinError> {
    let Some(instance) = &join.instance else { return Ok(None) };
    match group.id_of(instance) {
        None if is_new => Ok(None),
        None => Err(JoinError::UnknownMember),
        Some(holder) if holder == id => Ok(None),
        Some(holder) if is_new => Ok(Some(Arc::clone(holder))),
        Some(_) => Err(JoinError::FencedInstance),
    }
}

/// What the member says of itself, and the protocol that it prefers.
fn about(join: Join, subscription: &Subscription) -> (About, Option<Arc<str>>) {
    let protocols = each_name_once(join.protocols);
    let preferred = protocols.first().map(|first| Arc::clone(&first.name));
    let about = About {
        instance: join.instance,
        rack: subscription.rack.clone(),
        client_id: join.client_id,
        client_host: join.client_host,
        topics: subscription.topics.clone(),
        regex: None,
        rebalance_timeout_ms: join.rebalance_timeout_ms,
        assignor: None,
        classic: Some(Classic {
            session_timeout_ms: join.session_timeout_ms,
            protocols: protocols.into_iter().map(|it| (it.name, it.metadata)).collect(),
        }),
    };
    (about, preferred)
}

/// Why a speaker is not a member of the classic protocol.
enum Stranger {
    Unknown,
    Fenced,
}

fn member<'a>(
    group: &'a ConsumerGroup,
    speaker: &Speaker,
) -> Result<(&'a Member, &'a Classic), Stranger> {
    if let Some(instance) = &speaker.instance {
        let holder = group.id_of(instance).ok_or(Stranger::Unknown)?;
        if *holder != speaker.member {
            return Err(Stranger::Fenced);
        }
    }
    let member = group.member(&speaker.member).ok_or(Stranger::Unknown)?;
    let classic = member.about.classic.as_ref().ok_or(Stranger::Unknown)?;
    Ok((member, classic))
}

/// Tells a member its partitions.
pub(in crate::group) fn sync(
    group: &ConsumerGroup,
    times: &mut Times,
    sync: &Sync,
    around: Around<'_>,
) -> Result<Synced, SyncError> {
    let speaker = &sync.speaker;
    let (member, classic) = member(group, speaker).map_err(|stranger| match stranger {
        Stranger::Unknown => SyncError::UnknownMember,
        Stranger::Fenced => SyncError::FencedInstance,
    })?;
    let current = &member.current;
    if speaker.generation != current.epoch {
        return Err(SyncError::IllegalGeneration);
    }
    let speaks = |name: &Arc<str>| classic.protocols.iter().any(|(spoken, _)| spoken == name);
    if sync.protocol_type.as_deref().is_some_and(|kind| kind != PROTOCOL_TYPE)
        || sync.protocol.as_ref().is_some_and(|name| !speaks(name))
    {
        return Err(SyncError::InconsistentProtocol);
    }
    let now = around.at.now;
    if group.group.epoch > current.epoch && current.state != MemberState::Unrevoked {
        let until = now.plus(millis(member.about.rebalance_timeout_ms));
        times.begin_round(&speaker.member, until);
        return Err(SyncError::RebalanceInProgress);
    }
    times.end_round(&speaker.member);
    times.heard(&speaker.member, now.plus(millis(classic.session_timeout_ms)));
    let preferred = classic.protocols.first();
    let said = preferred.map(|(_, said)| said.clone()).unwrap_or_default();
    Ok(Synced {
        protocol_type: Some(Arc::from(PROTOCOL_TYPE)),
        protocol: sync.protocol.clone().or_else(|| preferred.map(|(name, _)| Arc::clone(name))),
        assignment: embedded::write_assignment(&current.partitions(), &said, around.world),
    })
}

/// Keeps a member's session going, and tells it when to join again.
pub(in crate::group) fn heartbeat(
    group: &ConsumerGroup,
    times: &mut Times,
    speaker: &Speaker,
    around: Around<'_>,
) -> Result<(), HeartbeatError> {
    let (member, classic) = member(group, speaker).map_err(|stranger| match stranger {
        Stranger::Unknown => HeartbeatError::UnknownMember,
        Stranger::Fenced => HeartbeatError::FencedInstance,
    })?;
    if speaker.generation != member.current.epoch {
        return Err(HeartbeatError::IllegalGeneration);
    }
    let now = around.at.now;
    times.heard(&speaker.member, now.plus(millis(classic.session_timeout_ms)));
    let joins_again = match member.current.state {
        _ if member.current.epoch < group.group.epoch => true,
        MemberState::Unrevoked => true,
        MemberState::Unreleased => !group.waits_for_others(&speaker.member),
        MemberState::Stable | MemberState::Unknown => false,
    };
    if !joins_again {
        return Ok(());
    }
    times.begin_round(&speaker.member, now.plus(millis(member.about.rebalance_timeout_ms)));
    Err(HeartbeatError::RebalanceInProgress)
}

/// Lets members go; one result per leaver.
pub(in crate::group) fn leave(
    draft: &mut Draft,
    times: &mut Times,
    leavers: &[Leaver],
    around: Around<'_>,
) -> Vec<Result<(), LeaveMemberError>> {
    let before = draft.group.members().len();
    let mut results = Vec::with_capacity(leavers.len());
    for leaver in leavers {
        let found = find(&draft.group, leaver);
        if let Ok(id) = &found {
            draft.remove(id);
            times.forget(id);
        }
        results.push(found.map(|_| ()));
    }
    if draft.group.members().len() < before {
        draft.refresh(around.world, true, around.at);
    }
    results
}

/// An administrator may name a member by its instance alone, whichever protocol it speaks.
fn find(group: &ConsumerGroup, leaver: &Leaver) -> Result<Arc<str>, LeaveMemberError> {
    let id = match &leaver.instance {
        None => Arc::clone(&leaver.member),
        Some(instance) => {
            let holder = group.id_of(instance).ok_or(LeaveMemberError::UnknownMember)?;
            if !leaver.member.is_empty() && *holder != leaver.member {
                return Err(LeaveMemberError::FencedInstance);
            }
            Arc::clone(holder)
        }
    };
    let member = group.member(&id).ok_or(LeaveMemberError::UnknownMember)?;
    let is_administrator = leaver.member.is_empty();
    if member.about.classic.is_none() && !is_administrator {
        return Err(LeaveMemberError::UnknownMember);
    }
    Ok(id)
}

impl ConsumerGroup {
    /// Whether others have yet to give up something that the member is to get.
    fn waits_for_others(&self, id: &Arc<str>) -> bool {
        let target = self.target_of(id).into_iter().flat_map(|target| target.iter());
        target
            .flat_map(|(topic, indexes)| indexes.iter().map(move |index| (*topic, *index)))
            .any(|(topic, index)| self.owner(topic, index).is_some_and(|owner| owner != id))
    }
}
