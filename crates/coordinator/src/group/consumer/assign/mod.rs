//! Who is to own what: assignors as functions of members, topics, and what there was before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use millstream_types::TopicId;

use super::member::Partitions;

mod range;
mod uniform;

/// A way to spread partitions over members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Assignor {
    /// Every member gets as much as the others.
    Uniform,
    /// Of each topic every member gets a share; of topics with as many partitions, the same one.
    Range,
}

impl Assignor {
    /// The name that clients and tools know.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Uniform => "uniform",
            Self::Range => "range",
        }
    }

    /// The assignor of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Uniform, Self::Range].into_iter().find(|assignor| assignor.name() == name)
    }

    /// Spreads all partitions of `problem` over the members that subscribe to them.
    ///
    /// Each partition that somebody subscribes to is given to exactly one of those members, and as
    /// few as possible move. The same problem always has the same answer.
    pub(in crate::group) fn assign(self, problem: &Problem) -> Solution {
        match self {
            Self::Uniform => uniform::assign(problem),
            Self::Range => range::assign(problem),
        }
    }
}

/// What is to be spread over whom.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Problem {
    /// How many partitions each topic has.
    pub(in crate::group) topics: BTreeMap<TopicId, i32>,
    /// The members; all that they subscribe to is in `topics`.
    pub(in crate::group) members: Vec<Candidate>,
}

/// A member, as assignors see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Candidate {
    pub(in crate::group) id: Arc<str>,
    pub(in crate::group) topics: BTreeSet<TopicId>,
    /// What it was to own before. Nobody else was to own any of it.
    pub(in crate::group) had: Arc<Partitions>,
}

/// What each member is to own.
pub(in crate::group) type Solution = BTreeMap<Arc<str>, Partitions>;

impl Problem {
    /// The members that subscribe to each topic, by their places.
    fn subscribers(&self) -> BTreeMap<TopicId, Vec<usize>> {
        let mut all: BTreeMap<TopicId, Vec<usize>> = BTreeMap::new();
        for (place, member) in self.members.iter().enumerate() {
            for topic in &member.topics {
                all.entry(*topic).or_default().push(place);
            }
        }
        all
    }

    /// The answer, from what each member is to own by its place.
    fn solution(&self, shares: Vec<Partitions>) -> Solution {
        let ids = self.members.iter().map(|member| Arc::clone(&member.id));
        ids.zip(shares).collect()
    }

    /// Whether `topic` has a partition `index`.
    fn has(&self, topic: TopicId, index: i32) -> bool {
        index >= 0 && self.topics.get(&topic).is_some_and(|count| index < *count)
    }
}
