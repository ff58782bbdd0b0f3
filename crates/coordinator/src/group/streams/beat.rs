//! A heartbeat: join with a topology, stay, leave, say which tasks one has, and hear which one is to
//! have.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::check::check;
use super::draft::Draft;
use super::member::{About, Current, Member};
use super::soft::Soft;
use super::state::{GroupFact, NO_EPOCH, StreamsGroup};
use super::topics::{Configured, Status, StatusCode};
use super::topology::Topology;
use crate::group::command::StreamsHeartbeat;
use crate::group::consumer::World;
use crate::group::consumer::check::Wish;
use crate::group::consumer::member::LEFT_FOR_A_WHILE;
use crate::group::consumer::times::Due;
use crate::group::live::Moment;
use crate::group::members::millis;
use crate::group::reply::{EndpointPartitions, StreamsBeat, StreamsHeartbeatError as Refused};
use crate::group::settings::StreamsSettings;

/// The shortest interval that a member is told, in milliseconds.
const INTERVAL_MIN_MS: i32 = 50;

/// The name under which the number of standbys is stored, as in Kafka.
const STANDBYS: &str = "num.standby.replicas";

/// What holds while a heartbeat is answered.
#[derive(Clone, Copy)]
pub(in crate::group) struct Around<'a> {
    pub(in crate::group) world: &'a dyn World,
    pub(in crate::group) at: Moment,
}

impl Around<'_> {
    const fn settings(&self) -> &StreamsSettings {
        &self.at.settings.streams
    }

    fn session_timeout(&self, id: &str) -> Duration {
        let own = self.world.overrides(id).streams.session_timeout_ms;
        millis(self.settings().session_timeout.resolve(own))
    }

    fn standbys(&self, id: &str) -> i32 {
        let own = self.world.overrides(id).streams.standby_replicas;
        self.settings().standby_replicas.resolve(own)
    }
}

/// Checks a heartbeat alone; whether it is a join.
pub(in crate::group) fn is_join(
    beat: &StreamsHeartbeat,
    settings: &StreamsSettings,
) -> Result<bool, Refused> {
    Ok(check(beat, settings)? == Wish::Join)
}

/// Carries out a heartbeat on `draft`.
pub(in crate::group) fn beat(
    draft: &mut Draft,
    soft: &mut Soft,
    beat: &StreamsHeartbeat,
    around: Around<'_>,
) -> Result<StreamsBeat, Refused> {
    match check(beat, around.settings())? {
        Wish::Leave | Wish::Pause => leave(draft, soft, beat),
        wish @ (Wish::Join | Wish::Stay) => stay(draft, soft, beat, wish, around),
    }
}

fn stay(
    draft: &mut Draft,
    soft: &mut Soft,
    beat: &StreamsHeartbeat,
    wish: Wish,
    around: Around<'_>,
) -> Result<StreamsBeat, Refused> {
    let id = Arc::clone(&beat.member);
    let begins = draft.group.members().is_empty();
    let replaced = find(draft, &id, beat, wish)?;
    let known = draft.group.member(&id).cloned();
    let about = about(beat, known.as_deref());
    let topology = topology(&draft.group, beat)?;
    has_room_for(draft, &id, known.as_deref(), &about, &topology, around)?;
    let looked = soft.configure(&topology, around.world);
    let (configured, topics_hash) = looked.map_err(|why| Refused::InvalidTopology(why.0))?;
    check_tasks(beat, &configured)?;
    let topology_epoch = about.topology_epoch;
    let changed = draft.note(&id, about);
    if draft.group.topology().is_none() {
        draft.begin_topology((*topology).clone());
    }
    let ready_epoch = if configured.is_ready() { topology.epoch } else { NO_EPOCH };
    let standbys = around.standbys(&draft.id);
    let configs = BTreeMap::from([(Arc::from(STANDBYS), Arc::from(standbys.to_string()))]);
    let now = GroupFact { topics_hash, ready_epoch, configs, ..(*draft.group.group).clone() };
    draft.raise(changed, &now);
    if begins {
        begin_wait(soft, &draft.id, around);
    }
    let waits = assign_in_time(draft, soft, &configured, standbys, around);
    let is_initial = soft.waits_until.is_some();
    draft.reconcile(&id, beat.owned.as_ref(), is_initial);
    if let Some(former) = replaced {
        soft.times.forget(&former);
    }
    keep_time(draft, soft, &id, around);
    if beat.shutdown {
        soft.shutdown.get_or_insert_with(|| Arc::clone(&id));
    }
    let statuses = statuses(soft, &configured, &topology, topology_epoch, waits.as_ref());
    let waits = waits.map(|(rest, _)| rest);
    let heartbeat_interval_ms = interval(&draft.id, waits, &configured, around);
    let before = known.as_ref().map(|member| &member.current);
    let endpoints = |group: &StreamsGroup| group.endpoints(&configured, around.world);
    let told = answer(draft, soft, beat, before, endpoints);
    let missing = configured.missing.clone();
    Ok(StreamsBeat { heartbeat_interval_ms, statuses, missing, ..told })
}

/// What the member is told of tasks: its own, and where all are, unless it knows.
fn answer(
    draft: &Draft,
    soft: &mut Soft,
    beat: &StreamsHeartbeat,
    before: Option<&Current>,
    endpoints: impl FnOnce(&StreamsGroup) -> Vec<EndpointPartitions>,
) -> StreamsBeat {
    let member = draft.group.member(&beat.member).cloned().unwrap_or_default();
    let assigned = member.current.assigned.assignment();
    let had = before.map(|before| before.assigned.assignment()).unwrap_or_default();
    // Who joins knows nothing; who comes with the epoch before has missed an answer, and who says that
    // it has something else may have: else it would not learn what it is to give up.
    let missed = before.is_some_and(|before| before.epoch != beat.epoch)
        || beat.owned.as_ref().is_some_and(|owned| *owned != assigned);
    let has_changed = beat.epoch == 0 || assigned != had;
    let is_told = has_changed || missed;
    if has_changed && member.about.endpoint.is_some() {
        soft.endpoints_changed();
    }
    let knows = soft.endpoints_epoch == beat.endpoints_epoch;
    let endpoints = (!knows).then(|| endpoints(&draft.group));
    StreamsBeat {
        member: Arc::clone(&beat.member),
        epoch: member.current.epoch,
        assignment: is_told.then_some(assigned),
        endpoints_epoch: soft.endpoints_epoch,
        endpoints,
        ..StreamsBeat::default()
    }
}

/// Finds the member that speaks, or makes room for it; the member whose place it takes, if it does.
fn find(
    draft: &mut Draft,
    id: &Arc<str>,
    beat: &StreamsHeartbeat,
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
    let holds = draft.group.member(&holder).map(|member| member.current.epoch);
    if holds != Some(LEFT_FOR_A_WHILE) {
        return Err(Refused::UnreleasedInstance);
    }
    draft.replace(&holder, id);
    Ok(Some(holder))
}

/// A member may be one epoch behind when it has missed an answer, and then has no task that it should
/// not.
fn check_epoch(current: &Current, beat: &StreamsHeartbeat) -> Result<(), Refused> {
    if beat.epoch == current.epoch {
        return Ok(());
    }
    let missed = beat.epoch < current.epoch
        && beat.epoch == current.previous_epoch
        && beat.owned.as_ref().is_some_and(|owned| owned.is_within(&current.assigned));
    if missed {
        Ok(())
    } else {
        Err(Refused::FencedEpoch { known: current.epoch, said: beat.epoch })
    }
}

/// What the member says of itself now: what it leaves out is as before.
fn about(beat: &StreamsHeartbeat, known: Option<&Member>) -> About {
    let known = known.map(|member| member.about.clone()).unwrap_or_default();
    About {
        instance: beat.instance.clone().or(known.instance),
        rack: beat.rack.clone().or(known.rack),
        client_id: Arc::clone(&beat.client_id),
        client_host: Arc::clone(&beat.client_host),
        rebalance_timeout_ms: match beat.rebalance_timeout_ms {
            ..0 => known.rebalance_timeout_ms,
            timeout => timeout,
        },
        topology_epoch: beat.topology.as_ref().map_or(known.topology_epoch, |it| it.epoch),
        process: beat.process.clone().unwrap_or(known.process),
        endpoint: beat.endpoint.clone().or(known.endpoint),
        tags: beat.tags.clone().unwrap_or(known.tags),
    }
}

/// The group's topology, which is that of its first member. One with an older epoch may stay; another
/// one can't come.
fn topology(group: &StreamsGroup, beat: &StreamsHeartbeat) -> Result<Arc<Topology>, Refused> {
    match (group.topology(), &beat.topology) {
        (Some(known), Some(said)) if known.epoch <= said.epoch && **known != *said => {
            Err(Refused::Invalid(
                "Topology updates are not supported yet. Give the application another \
                 application.id, or stop it and delete its group."
                    .into(),
            ))
        }
        (Some(known), _) => Ok(Arc::clone(known)),
        (None, Some(said)) => Ok(Arc::new(said.clone())),
        // A record of the topology is missing: whoever joins brings it again.
        (None, None) => Err(Refused::UnknownMember),
    }
}

fn has_room_for(
    draft: &Draft,
    id: &Arc<str>,
    known: Option<&Member>,
    about: &About,
    topology: &Topology,
    around: Around<'_>,
) -> Result<(), Refused> {
    let group = &draft.group;
    if known.is_none() && group.members().len() >= around.settings().members_max {
        return Err(Refused::GroupFull);
    }
    let others = group.bytes() - known.map_or(0, |member| member.about.bytes(id));
    let all = others + about.bytes(id) + topology.bytes();
    if all > around.at.settings.group_bytes_max { Err(Refused::GroupFull) } else { Ok(()) }
}

/// A member has no tasks that there are not.
fn check_tasks(beat: &StreamsHeartbeat, configured: &Configured) -> Result<(), Refused> {
    let Some(owned) = beat.owned.as_ref().filter(|_| configured.is_ready()) else { return Ok(()) };
    for (id, index) in owned.each() {
        let Some(part) = configured.parts.get(id) else {
            let why = format!("Subtopology {id} does not exist in the topology.");
            return Err(Refused::Invalid(why.into()));
        };
        if !(0..part.tasks).contains(&index) {
            let tasks = part.tasks;
            let why = format!(
                "Task {index} for subtopology {id} is invalid. Number of tasks for this \
                 subtopology: {tasks}"
            );
            return Err(Refused::Invalid(why.into()));
        }
    }
    Ok(())
}

/// The first member of an empty group: the first assignment waits for others.
fn begin_wait(soft: &mut Soft, id: &str, around: Around<'_>) {
    let own = around.world.overrides(id).streams.initial_rebalance_delay_ms;
    let delay = own.unwrap_or(around.settings().initial_rebalance_delay_ms);
    soft.waits_until = (delay > 0).then(|| around.at.now.plus(millis(delay)));
}

/// Works out the target if it is behind and it is time to; else how long that takes, and why.
fn assign_in_time(
    draft: &mut Draft,
    soft: &mut Soft,
    configured: &Configured,
    standbys: i32,
    around: Around<'_>,
) -> Option<(Duration, &'static str)> {
    if let Some(until) = soft.waits_until.filter(|until| *until > around.at.now) {
        let rest = until.since(around.at.now);
        return Some((rest, "Assignment delayed due to the configured initial rebalance delay."));
    }
    soft.waits_until = None;
    let group = &draft.group;
    if group.target.epoch >= group.group.epoch {
        return None;
    }
    let own = around.world.overrides(&draft.id).streams.assignment_interval_ms;
    let interval = around.settings().assignment_interval.resolve(own);
    let age = around.at.wall.0.saturating_sub(group.target.at.0);
    let rest = i64::from(interval).saturating_sub(age);
    // A clock that was put back must not keep a group waiting.
    if group.target.at.0 > 0 && age >= 0 && rest > 0 {
        let rest = Duration::from_millis(rest.unsigned_abs());
        return Some((rest, "Assignment delayed due to the configured assignment interval."));
    }
    draft.assign(configured, usize::try_from(standbys).unwrap_or_default(), around.at);
    None
}

/// What the member is told of the group.
fn statuses(
    soft: &Soft,
    configured: &Configured,
    topology: &Topology,
    epoch: i32,
    waits: Option<&(Duration, &'static str)>,
) -> Vec<Status> {
    let stale = (epoch < topology.epoch).then(|| Status {
        code: StatusCode::StaleTopology,
        detail: format!(
            "The member's topology epoch {epoch} is behind the group's topology epoch {}.",
            topology.epoch
        ),
    });
    let delayed =
        waits.map(|(_, why)| Status { code: StatusCode::Delayed, detail: (*why).to_owned() });
    let shutdown = soft.shutdown.as_ref().map(|member| Status {
        code: StatusCode::Shutdown,
        detail: format!(
            "Streams group member {member} encountered a fatal error and requested a shutdown for \
             the entire application."
        ),
    });
    stale.into_iter().chain(delayed).chain(configured.problem.clone()).chain(shutdown).collect()
}

/// How soon the member is to come again: sooner when there will be something to hear.
fn interval(id: &str, waits: Option<Duration>, configured: &Configured, around: Around<'_>) -> i32 {
    let own = around.world.overrides(id).streams.heartbeat_interval_ms;
    let interval = around.settings().heartbeat_interval.resolve(own);
    let problem = configured.problem.as_ref().map(|problem| problem.code);
    let soon = match (problem, waits) {
        (None | Some(StatusCode::MissingInternals), Some(waits)) => waits,
        // Topics are about to be made.
        (Some(StatusCode::MissingInternals), None) => Duration::ZERO,
        // Members give up when the topics that they read are still missing after two intervals.
        (_, _) => return interval,
    };
    let soon = i32::try_from(soon.as_millis()).unwrap_or(i32::MAX).saturating_add(1);
    interval.min(soon.max(INTERVAL_MIN_MS))
}

/// Starts the member's session anew, and the time for what it has to give up.
fn keep_time(draft: &Draft, soft: &mut Soft, id: &Arc<str>, around: Around<'_>) {
    let Some(member) = draft.group.member(id) else { return };
    soft.times.heard(id, around.at.now.plus(around.session_timeout(&draft.id)));
    match draft.group.revokes(id) {
        Some(epoch) => {
            let until = around.at.now.plus(millis(member.about.rebalance_timeout_ms));
            soft.times.revokes(id, epoch, until);
        }
        None => soft.times.has_revoked(id),
    }
}

fn leave(
    draft: &mut Draft,
    soft: &mut Soft,
    beat: &StreamsHeartbeat,
) -> Result<StreamsBeat, Refused> {
    let id = &beat.member;
    if let Some(instance) = &beat.instance {
        let holder = draft.group.id_of(instance).ok_or(Refused::UnknownMember)?;
        if holder != id {
            return Err(Refused::FencedInstance);
        }
    }
    let member = draft.group.member(id).cloned().ok_or(Refused::UnknownMember)?;
    if beat.shutdown {
        soft.shutdown.get_or_insert_with(|| Arc::clone(id));
    }
    if beat.epoch == LEFT_FOR_A_WHILE {
        draft.pause(id, &member.current, LEFT_FOR_A_WHILE);
        soft.times.has_revoked(id);
    } else {
        remove(draft, soft, id);
        raise_without(draft);
    }
    forget_shutdown(draft, soft);
    Ok(StreamsBeat { member: Arc::clone(id), epoch: beat.epoch, ..StreamsBeat::default() })
}

fn remove(draft: &mut Draft, soft: &mut Soft, id: &Arc<str>) {
    let answers_queries =
        draft.group.member(id).is_some_and(|member| member.about.endpoint.is_some());
    if answers_queries {
        soft.endpoints_changed();
    }
    draft.remove(id);
    soft.times.forget(id);
}

/// Members have gone: what they had is to be assigned anew.
fn raise_without(draft: &mut Draft) {
    let now = (*draft.group.group).clone();
    draft.raise(true, &now);
}

/// A shutdown is over when nobody is there any more.
fn forget_shutdown(draft: &Draft, soft: &mut Soft) {
    if draft.group.members().is_empty() {
        soft.shutdown = None;
        soft.waits_until = None;
    }
}

/// Takes out members that were not heard of, or have not given up in time what they had to.
pub(in crate::group) fn expire(draft: &mut Draft, soft: &mut Soft, at: Moment) {
    let mut removed = false;
    for (id, due) in soft.times.take_due(at.now) {
        let fails = match due {
            Due::Session | Due::Round => draft.group.member(&id).is_some(),
            Due::Revocation(epoch) => draft.group.revokes(&id) == Some(epoch),
        };
        if fails {
            remove(draft, soft, &id);
            removed = true;
        }
    }
    if removed {
        raise_without(draft);
        forget_shutdown(draft, soft);
    }
}

/// Gives a session to all members that have none: those of a group that was read back.
pub(in crate::group) fn restore(
    id: &Arc<str>,
    group: &StreamsGroup,
    soft: &mut Soft,
    around: Around<'_>,
) {
    let draft = Draft::of(id, group.clone());
    for member in group.members().keys() {
        if !soft.times.has_session(member) {
            keep_time(&draft, soft, member, around);
        }
    }
}
