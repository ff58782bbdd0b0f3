//! One step of a member towards its target: give up, say so, then get. As in a consumer group
//! ([`crate::group::consumer::reconcile`]), with three roles in place of one.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::member::Current;
use super::tasks::{Assignment, Held, Owned, Role, Tasks};
use crate::group::consumer::member::MemberState;

/// Where a member is to go.
pub(in crate::group) struct Goal<'a> {
    /// The epoch of the target assignment.
    pub(in crate::group) epoch: i32,
    /// What the member is to have.
    pub(in crate::group) target: &'a Assignment,
    /// What it says that it has, if it says so.
    pub(in crate::group) says: Option<&'a Assignment>,
}

/// The member after the next step; `is_free` tells whether nobody else is in the way of its having a
/// task in a role.
pub(in crate::group) fn step(
    member: &Current,
    goal: &Goal<'_>,
    is_free: impl Fn(Role, &str, i32) -> bool,
) -> Current {
    match member.state {
        MemberState::Stable if member.epoch == goal.epoch => member.clone(),
        MemberState::Unrevoked if goal.still_has(&member.revoking) => member.clone(),
        MemberState::Unrevoked => {
            next(member, member.epoch.saturating_add(1).min(goal.epoch), goal, is_free)
        }
        MemberState::Stable | MemberState::Unreleased | MemberState::Unknown => {
            next(member, member.epoch, goal, is_free)
        }
    }
}

fn next(
    member: &Current,
    epoch: i32,
    goal: &Goal<'_>,
    is_free: impl Fn(Role, &str, i32) -> bool,
) -> Current {
    let (mut assigned, revoking) = split(&member.assigned, goal.target);
    if goal.still_has(&revoking) {
        let state = MemberState::Unrevoked;
        return Current { epoch, previous_epoch: member.epoch, state, assigned, revoking };
    }
    let mut waits = false;
    for (id, indexes) in &goal.target.active {
        let of_part = assigned.active.entry(Arc::clone(id)).or_default();
        for &index in indexes {
            if of_part.contains_key(&index) {
                continue;
            }
            if is_free(Role::Active, id, index) {
                of_part.insert(index, goal.epoch);
            } else {
                waits = true;
            }
        }
    }
    assigned.active.retain(|_, of_part| !of_part.is_empty());
    waits |= take(&goal.target.standby, &mut assigned.standby, |id, index| {
        is_free(Role::Standby, id, index)
    });
    waits |= take(&goal.target.warmup, &mut assigned.warmup, |id, index| {
        is_free(Role::Warmup, id, index)
    });
    Current {
        epoch: goal.epoch,
        previous_epoch: member.epoch,
        state: if waits { MemberState::Unreleased } else { MemberState::Stable },
        assigned,
        revoking: Held::default(),
    }
}

/// Takes what is free; whether something is not.
fn take(target: &Tasks, assigned: &mut Tasks, is_free: impl Fn(&str, i32) -> bool) -> bool {
    let mut waits = false;
    for (id, indexes) in target {
        for &index in indexes {
            let has_it = assigned.get(id).is_some_and(|of_part| of_part.contains(&index));
            if !has_it && is_free(id, index) {
                assigned.entry(Arc::clone(id)).or_default().insert(index);
            } else if !has_it {
                waits = true;
            }
        }
    }
    waits
}

impl Goal<'_> {
    /// Whether the member has not said that it gave up all of `revoking`.
    fn still_has(&self, revoking: &Held) -> bool {
        !revoking.is_empty() && self.says.is_none_or(|says| says.meets(revoking))
    }
}

/// What stays and what goes.
fn split(assigned: &Held, target: &Assignment) -> (Held, Held) {
    let (mut stays, mut goes) = (Held::default(), Held::default());
    for (id, indexes) in &assigned.active {
        let wanted = target.active.get(id);
        let (kept, lost): (BTreeMap<_, _>, BTreeMap<_, _>) = indexes
            .iter()
            .map(|(index, epoch)| (*index, *epoch))
            .partition(|(index, _)| wanted.is_some_and(|wanted| wanted.contains(index)));
        put(&mut stays.active, id, kept);
        put(&mut goes.active, id, lost);
    }
    (stays.standby, goes.standby) = split_tasks(&assigned.standby, &target.standby);
    (stays.warmup, goes.warmup) = split_tasks(&assigned.warmup, &target.warmup);
    (stays, goes)
}

fn put(owned: &mut Owned, id: &Arc<str>, indexes: BTreeMap<i32, i32>) {
    if !indexes.is_empty() {
        owned.insert(Arc::clone(id), indexes);
    }
}

fn split_tasks(assigned: &Tasks, target: &Tasks) -> (Tasks, Tasks) {
    let (mut stays, mut goes) = (Tasks::new(), Tasks::new());
    for (id, indexes) in assigned {
        for &index in indexes {
            let wanted = target.get(id).is_some_and(|wanted| wanted.contains(&index));
            let side = if wanted { &mut stays } else { &mut goes };
            side.entry(Arc::clone(id)).or_default().insert(index);
        }
    }
    (stays, goes)
}
