//! One step of a member towards its target: give up, say so, then get.
//!
//! ```text
//!            it has something to give up             it says that it has given it up
//!   Stable ------------------------------> Unrevoked ------------------------------+
//!     ^  |                                                                         |
//!     |  |  nothing to give up; others have not given up all that it gets          v
//!     |  +---------------------------> Unreleased <--------------------------------+
//!     |                                     |  others have given it up             |
//!     +-------------------------------------+--------------------------------------+
//! ```
//!
//! A partition is taken from one member and given to another in different steps, and the second only
//! when the first has said that it stopped: that is why no two members read it at a time.

use std::collections::BTreeMap;

use millstream_types::TopicId;

use super::member::{Current, MemberState, Owned, Partitions};

/// Where a member is to go.
pub(in crate::group) struct Goal<'a> {
    /// The epoch of the target assignment.
    pub(in crate::group) epoch: i32,
    /// What the member is to own.
    pub(in crate::group) target: &'a Partitions,
    /// What it says that it owns, if it says so.
    pub(in crate::group) says: Option<&'a Partitions>,
}

/// The member after the next step; `is_free` tells whether nobody else has a partition.
pub(in crate::group) fn step(
    member: &Current,
    goal: &Goal<'_>,
    is_free: impl Fn(TopicId, i32) -> bool,
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

/// The same for a member that has reached its epoch but asks for other topics now: it gives up
/// without waiting for the next target.
pub(in crate::group) fn step_again(
    member: &Current,
    goal: &Goal<'_>,
    is_free: impl Fn(TopicId, i32) -> bool,
) -> Current {
    match member.state {
        MemberState::Stable => next(member, member.epoch, goal, is_free),
        _ => step(member, goal, is_free),
    }
}

fn next(
    member: &Current,
    epoch: i32,
    goal: &Goal<'_>,
    is_free: impl Fn(TopicId, i32) -> bool,
) -> Current {
    let (mut assigned, revoking) = split(&member.assigned, goal.target);
    if goal.still_has(&revoking) {
        return Current {
            epoch,
            previous_epoch: member.epoch,
            state: MemberState::Unrevoked,
            assigned,
            revoking,
        };
    }
    let mut waits = false;
    for (topic, indexes) in goal.target {
        for &index in indexes {
            if assigned.get(topic).is_some_and(|of_topic| of_topic.contains_key(&index)) {
                continue;
            }
            if is_free(*topic, index) {
                assigned.entry(*topic).or_default().insert(index, goal.epoch);
            } else {
                waits = true;
            }
        }
    }
    Current {
        epoch: goal.epoch,
        previous_epoch: member.epoch,
        state: if waits { MemberState::Unreleased } else { MemberState::Stable },
        assigned,
        revoking: Owned::new(),
    }
}

impl Goal<'_> {
    /// Whether the member has not said that it gave up all of `revoking`.
    fn still_has(&self, revoking: &Owned) -> bool {
        if revoking.is_empty() {
            return false;
        }
        let Some(says) = self.says else { return true };
        says.iter().any(|(topic, indexes)| {
            let of_topic = revoking.get(topic);
            of_topic.is_some_and(|it| indexes.iter().any(|index| it.contains_key(index)))
        })
    }
}

/// What stays and what goes.
fn split(assigned: &Owned, target: &Partitions) -> (Owned, Owned) {
    let (mut stays, mut goes) = (Owned::new(), Owned::new());
    for (topic, indexes) in assigned {
        let wanted = target.get(topic);
        let (kept, lost): (BTreeMap<_, _>, BTreeMap<_, _>) = indexes
            .iter()
            .map(|(index, epoch)| (*index, *epoch))
            .partition(|(index, _)| wanted.is_some_and(|wanted| wanted.contains(index)));
        if !kept.is_empty() {
            stays.insert(*topic, kept);
        }
        if !lost.is_empty() {
            goes.insert(*topic, lost);
        }
    }
    (stays, goes)
}
