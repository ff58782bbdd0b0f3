//! Tasks, and in which role a member has them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Tasks: of each subtopology, by its id, the partitions.
pub type Tasks = BTreeMap<Arc<str>, BTreeSet<i32>>;

/// Active tasks, each with the epoch in which it was given (KIP-1251).
pub(in crate::group) type Owned = BTreeMap<Arc<str>, BTreeMap<i32, i32>>;

/// The tasks of a member.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assignment {
    /// Those that it works on.
    pub active: Tasks,
    /// Those whose state it follows.
    pub standby: Tasks,
    /// Those whose state it is to have before it gets them.
    pub warmup: Tasks,
}

/// What a member has a task for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::group) enum Role {
    Active,
    Standby,
    Warmup,
}

/// Tasks that a member has been given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Held {
    pub(in crate::group) active: Owned,
    pub(in crate::group) standby: Tasks,
    pub(in crate::group) warmup: Tasks,
}

impl Held {
    pub(in crate::group) fn is_empty(&self) -> bool {
        self.active.is_empty() && self.standby.is_empty() && self.warmup.is_empty()
    }

    /// The same without epochs.
    pub(in crate::group) fn assignment(&self) -> Assignment {
        let active = self.active.iter();
        Assignment {
            active: active
                .map(|(id, all)| (Arc::clone(id), all.keys().copied().collect()))
                .collect(),
            standby: self.standby.clone(),
            warmup: self.warmup.clone(),
        }
    }

    /// All tasks, each with its role.
    pub(in crate::group) fn each(&self) -> impl Iterator<Item = (&Arc<str>, i32, Role)> {
        let active = self.active.iter();
        let active =
            active.flat_map(|(id, all)| all.keys().map(move |index| (id, *index, Role::Active)));
        active.chain(each(&self.standby, Role::Standby)).chain(each(&self.warmup, Role::Warmup))
    }
}

impl Assignment {
    /// Whether there is a task of `held` in the same role.
    pub(in crate::group) fn meets(&self, held: &Held) -> bool {
        let active = self.active.iter().any(|(id, all)| {
            let had = held.active.get(id);
            had.is_some_and(|had| all.iter().any(|index| had.contains_key(index)))
        });
        active || meet(&self.standby, &held.standby) || meet(&self.warmup, &held.warmup)
    }

    /// Whether each task is one of `held`, in the same role.
    pub(in crate::group) fn is_within(&self, held: &Held) -> bool {
        let active = self.active.iter().all(|(id, all)| {
            let had = held.active.get(id);
            all.iter().all(|index| had.is_some_and(|had| had.contains_key(index)))
        });
        active && within(&self.standby, &held.standby) && within(&self.warmup, &held.warmup)
    }

    /// All tasks, whatever their role.
    pub(in crate::group) fn each(&self) -> impl Iterator<Item = (&Arc<str>, i32)> {
        let roles = [&self.active, &self.standby, &self.warmup];
        roles
            .into_iter()
            .flat_map(|tasks| each(tasks, Role::Active))
            .map(|(id, index, _)| (id, index))
    }
}

fn each(tasks: &Tasks, role: Role) -> impl Iterator<Item = (&Arc<str>, i32, Role)> {
    tasks.iter().flat_map(move |(id, all)| all.iter().map(move |index| (id, *index, role)))
}

fn meet(some: &Tasks, others: &Tasks) -> bool {
    some.iter().any(|(id, all)| others.get(id).is_some_and(|others| !all.is_disjoint(others)))
}

fn within(some: &Tasks, others: &Tasks) -> bool {
    some.iter().all(|(id, all)| {
        let others = others.get(id);
        all.iter().all(|index| others.is_some_and(|others| others.contains(index)))
    })
}
