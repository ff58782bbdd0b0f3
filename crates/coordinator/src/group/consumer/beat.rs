//! A heartbeat: join, stay, leave, say what one owns, and hear what one is to own.

use std::sync::Arc;
use std::time::Duration;

use super::check::{Wish, check};
use super::draft::Draft;
use super::member::{About, Current, LEFT_FOR_A_WHILE, Member, Owned, Partitions};
use super::state::{ConsumerFact, ConsumerGroup};
use super::times::{Due, Times};
use super::world::World;
use crate::group::command::ConsumerHeartbeat;
use crate::group::live::Moment;
use crate::group::members::millis;
use crate::group::reply::{ConsumerBeat, ConsumerHeartbeatError as Refused};
use crate::group::settings::ConsumerSettings;

/// The most regular expressions of a group: each is looked for in all topics whenever one comes.
const REGEXES_MAX: usize = 100;

/// The shortest interval that a member is told, in milliseconds.
const INTERVAL_MIN_MS: i32 = 50;

/// What holds while a heartbeat is answered.
#[derive(Clone, Copy)]
pub(in crate::group) struct Around<'a> {
    pub(in crate::group) world: &'a dyn World,
    pub(in crate::group) at: Moment,
}

impl Around<'_> {
    pub(in crate::group) const fn settings(&self) -> &ConsumerSettings {
        &self.at.settings.consumer
    }

    fn session_timeout(&self, id: &str) -> Duration {
        let own = self.world.overrides(id).session_timeout_ms;
        millis(self.settings().session_timeout_ms(own))
    }
}

/// Checks a heartbeat alone; what it asks for.
pub(in crate::group) fn is_join(
    beat: &ConsumerHeartbeat,
    settings: &ConsumerSettings,
) -> Result<bool, Refused> {
    Ok(check(beat, settings)? == Wish::Join)
}

/// Carries out a heartbeat on `draft`.
pub(in crate::group) fn beat(
    draft: &mut Draft,
    times: &mut Times,
    beat: &ConsumerHeartbeat,
    around: Around<'_>,
) -> Result<ConsumerBeat, Refused> {
    match check(beat, around.settings())? {
        Wish::Leave | Wish::Pause => leave(draft, times, beat, around),
        wish @ (Wish::Join | Wish::Stay) => stay(draft, times, beat, wish, around),
    }
}

fn stay(
    draft: &mut Draft,
    times: &mut Times,
    beat: &ConsumerHeartbeat,
    wish: Wish,
    around: Around<'_>,
) -> Result<ConsumerBeat, Refused> {
    let id = if beat.member.is_empty() { fresh_id(beat) } else { Arc::clone(&beat.member) };
    let replaced = find(draft, &id, beat, wish)?;
    let known = draft.group.member(&id).cloned();
    let about = about(beat, known.as_deref());
    has_room_for(draft, &id, known.as_deref(), &about, around)?;
    let before = known.as_ref().map(|member| member.current.partitions()).unwrap_or_default();
    let asks_for_others = draft.note(&id, about);
    let is_news = times.seen.replace(around.world.version()) != Some(around.world.version());
    let has_changed = asks_for_others || known.is_none();
    let (who, mut waits) = ((&id, beat.asker.as_ref()), None);
    // As in Kafka: what an expression matches comes with the next heartbeat, and what the member names at
    // once.
    let is_later = has_changed && is_unresolved(draft, &id);
    if is_later {
        times.seen = None;
        waits = Some(Duration::ZERO);
    }
    let mut asks_for_others = asks_for_others;
    if is_news || has_changed || draft.may_see_others((&id, who.1), times, around.world) {
        let resolves = !is_later && (is_news || has_changed);
        let looks = (resolves, has_changed);
        asks_for_others |= draft.refresh_for(who, times, looks, around.world, around.at);
    }
    waits = assign_in_time(draft, around).or(waits);
    draft.reconcile(&id, around.world, beat.owned.as_ref(), asks_for_others && known.is_some());
    let member = draft.group.member(&id).cloned().unwrap_or_default();
    if let Some(former) = replaced {
        times.forget(&former);
    }
    keep_time(draft, times, &id, around);
    let assigned = member.current.partitions();
    // Who comes with the epoch before has missed an answer.
    let is_full = wish == Wish::Join
        || known.as_ref().is_some_and(|member| member.current.epoch != beat.epoch)
        || (beat.rebalance_timeout_ms >= 0
            && (beat.topics.is_some() || beat.regex.is_some())
            && beat.owned.is_some());
    Ok(ConsumerBeat {
        epoch: member.current.epoch,
        heartbeat_interval_ms: interval(&draft.id, waits, around),
        assignment: (is_full || assigned != before).then_some(assigned),
        member: id,
    })
}

/// Finds the member that speaks, or makes room for it; the member whose place it takes, if it does.
fn find(
    draft: &mut Draft,
    id: &Arc<str>,
    beat: &ConsumerHeartbeat,
    wish: Wish,
) -> Result<Option<Arc<str>>, Refused> {
    let holder = beat.instance.as_ref().and_then(|instance| draft.group.id_of(instance)).cloned();
    if wish == Wish::Stay {
        if beat.instance.is_some() && holder.is_none() {
            return Err(Refused::UnknownMember);
        }
        if holder.as_ref().is_some_and(|holder| holder != id) {
            return Err(Refused::FencedInstance);
        }
        let member = draft.group.member(id).ok_or(Refused::UnknownMember)?;
        check_epoch(&member.current, beat)?;
        return Ok(None);
    }
    let Some(holder) = holder.filter(|holder| holder != id) else { return Ok(None) };
    let speaks_classic = |member: &Arc<Member>| member.about.classic.is_some();
    let away = draft
        .group
        .member(&holder)
        .is_some_and(|member| member.current.epoch == LEFT_FOR_A_WHILE || speaks_classic(member));
    if !away {
        return Err(Refused::UnreleasedInstance);
    }
    draft.replace(&holder, id);
    Ok(Some(holder))
}

/// A member may be one epoch behind when it has missed an answer, and then owns nothing that it
/// should not.
fn check_epoch(current: &Current, beat: &ConsumerHeartbeat) -> Result<(), Refused> {
    if beat.epoch == current.epoch {
        return Ok(());
    }
    let missed = beat.epoch < current.epoch
        && beat.epoch == current.previous_epoch
        && beat.owned.as_ref().is_some_and(|owned| is_within(owned, &current.assigned));
    if missed {
        Ok(())
    } else {
        Err(Refused::FencedEpoch { known: current.epoch, said: beat.epoch })
    }
}

fn is_within(owned: &Partitions, assigned: &Owned) -> bool {
    owned.iter().all(|(topic, indexes)| {
        let of_topic = assigned.get(topic);
        indexes.iter().all(|index| of_topic.is_some_and(|it| it.contains_key(index)))
    })
}

/// What the member says of itself now: what it leaves out is as before.
fn about(beat: &ConsumerHeartbeat, known: Option<&Member>) -> About {
    let known = known.map(|member| member.about.clone()).unwrap_or_default();
    let regex = match &beat.regex {
        None => known.regex,
        Some(regex) if regex.is_empty() => None,
        Some(regex) => Some(Arc::clone(regex)),
    };
    About {
        instance: beat.instance.clone().or(known.instance),
        rack: beat.rack.clone().or(known.rack),
        client_id: Arc::clone(&beat.client_id),
        client_host: Arc::clone(&beat.client_host),
        topics: beat.topics.clone().unwrap_or(known.topics),
        regex,
        rebalance_timeout_ms: match beat.rebalance_timeout_ms {
            ..0 => known.rebalance_timeout_ms,
            timeout => timeout,
        },
        assignor: beat.assignor.clone().or(known.assignor),
        classic: None,
    }
}

fn has_room_for(
    draft: &Draft,
    id: &Arc<str>,
    known: Option<&Member>,
    about: &About,
    around: Around<'_>,
) -> Result<(), Refused> {
    let group = &draft.group;
    if known.is_none() && group.members().len() >= around.settings().members_max {
        return Err(Refused::GroupFull);
    }
    let others = group.bytes() - known.map_or(0, |member| member.about.bytes(id));
    if others + about.bytes(id) > around.at.settings.group_bytes_max {
        return Err(Refused::GroupFull);
    }
    let is_new = |regex: &Arc<str>| !group.regexes().contains_key(regex);
    if about.regex.as_ref().is_some_and(is_new) && group.regexes().len() >= REGEXES_MAX {
        let why = format!("the group has {REGEXES_MAX} different expressions, which is the most");
        return Err(Refused::InvalidRegex(why));
    }
    Ok(())
}

/// Works out the target if it is behind and the last one is old enough; else how long that takes.
pub(in crate::group) fn assign_in_time(draft: &mut Draft, around: Around<'_>) -> Option<Duration> {
    let group = &draft.group;
    if group.target.epoch >= group.group.epoch {
        return None;
    }
    let own = around.world.overrides(&draft.id).assignment_interval_ms;
    let interval = around.settings().assignment_interval_ms(own);
    let age = around.at.wall.0.saturating_sub(group.target.at.0);
    let rest = i64::from(interval).saturating_sub(age);
    // A clock that was put back must not keep a group waiting.
    if group.target.epoch > 0 && age >= 0 && rest > 0 {
        return Some(Duration::from_millis(rest.unsigned_abs()));
    }
    draft.assign(around.world, around.settings().assignors(), around.at);
    None
}

/// Whether nobody has looked yet for what the member's expression matches.
fn is_unresolved(draft: &Draft, id: &str) -> bool {
    let regex = draft.group.member(id).and_then(|member| member.about.regex.as_ref());
    regex.is_some_and(|regex| !draft.group.regexes().contains_key(regex))
}

/// How soon the member is to come again: sooner when its target is about to be worked out.
fn interval(id: &str, waits: Option<Duration>, around: Around<'_>) -> i32 {
    let own = around.world.overrides(id).heartbeat_interval_ms;
    let interval = around.settings().heartbeat_interval_ms(own);
    let Some(waits) = waits else { return interval };
    let waits = i32::try_from(waits.as_millis()).unwrap_or(i32::MAX);
    interval.min(waits.max(INTERVAL_MIN_MS))
}

/// Starts the member's session anew, and the time for what it has to give up.
pub(in crate::group) fn keep_time(
    draft: &Draft,
    times: &mut Times,
    id: &Arc<str>,
    around: Around<'_>,
) {
    let Some(member) = draft.group.member(id) else { return };
    let session = match &member.about.classic {
        Some(classic) => millis(classic.session_timeout_ms),
        None => around.session_timeout(&draft.id),
    };
    times.heard(id, around.at.now.plus(session));
    match draft.group.revokes(id) {
        Some(epoch) if member.about.classic.is_none() => {
            let until = around.at.now.plus(millis(member.about.rebalance_timeout_ms));
            times.revokes(id, epoch, until);
        }
        _ => times.has_revoked(id),
    }
}

fn leave(
    draft: &mut Draft,
    times: &mut Times,
    beat: &ConsumerHeartbeat,
    around: Around<'_>,
) -> Result<ConsumerBeat, Refused> {
    let id = &beat.member;
    if let Some(instance) = &beat.instance {
        let holder = draft.group.id_of(instance).ok_or(Refused::UnknownMember)?;
        if holder != id {
            return Err(Refused::FencedInstance);
        }
    }
    let member = draft.group.member(id).cloned().ok_or(Refused::UnknownMember)?;
    if beat.epoch == LEFT_FOR_A_WHILE {
        let current =
            Current { epoch: LEFT_FOR_A_WHILE, revoking: Owned::new(), ..member.current.clone() };
        draft.put(ConsumerFact::Current(Arc::clone(id), Some(current)));
        times.has_revoked(id);
    } else {
        draft.remove(id);
        draft.refresh(around.world, true, around.at);
        times.forget(id);
    }
    Ok(ConsumerBeat {
        member: Arc::clone(id),
        epoch: beat.epoch,
        heartbeat_interval_ms: 0,
        assignment: None,
    })
}

/// Takes out members that were not heard of, or have not done in time what they had to.
pub(in crate::group) fn expire(draft: &mut Draft, times: &mut Times, around: Around<'_>) {
    let mut removed = false;
    for (id, due) in times.take_due(around.at.now) {
        let fails = match due {
            Due::Session | Due::Round => draft.group.member(&id).is_some(),
            Due::Revocation(epoch) => draft.group.revokes(&id) == Some(epoch),
        };
        if fails {
            draft.remove(&id);
            times.forget(&id);
            removed = true;
        }
    }
    if removed {
        draft.refresh(around.world, true, around.at);
    }
}

/// Gives a session to all members that have none: those of a group that was read back.
pub(in crate::group) fn restore(
    id: &Arc<str>,
    group: &ConsumerGroup,
    times: &mut Times,
    around: Around<'_>,
) {
    let draft = Draft::of(id, group.clone());
    for member in group.members().keys() {
        if !times.has_session(member) {
            keep_time(&draft, times, member, around);
        }
    }
}

/// The id of a member that speaks the first version, in which clients do not draw their own.
fn fresh_id(beat: &ConsumerHeartbeat) -> Arc<str> {
    Arc::from(beat.fresh.to_string())
}
