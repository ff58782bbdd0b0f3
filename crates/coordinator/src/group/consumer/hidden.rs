//! Which topics members may not know of, and are not assigned therefore, whatever they subscribe to.
//!
//! Whoever speaks for a member brings its rights; what has changed of them, or of the topics, counts from then on.
//! Only in memory: a member is told what it is to read when it comes, which it does with its rights. Others of the
//! group may have other rights, and read what it may not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What is hidden from the members of a group. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(in crate::group) struct Hidden(Arc<BTreeMap<Arc<str>, Look>>);

/// What was found when somebody last looked for a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Look {
    /// The version of the topics.
    pub(super) world: u64,
    /// The version of the rights.
    pub(super) rights: u64,
    /// The version of what the member's expression matches.
    pub(super) resolved: Option<i64>,
    /// What is hidden.
    pub(super) topics: BTreeSet<Arc<str>>,
}

impl Hidden {
    /// Whether the member may not know of the topic, as far as somebody has looked.
    pub(super) fn hides(&self, member: &str, topic: &str) -> bool {
        self.0.get(member).is_some_and(|look| look.topics.contains(topic))
    }

    /// What was found last.
    pub(super) fn last(&self, member: &str) -> Option<&Look> {
        self.0.get(member)
    }

    pub(super) fn note(&mut self, member: &Arc<str>, look: Look) {
        Arc::make_mut(&mut self.0).insert(Arc::clone(member), look);
    }

    pub(super) fn forget(&mut self, member: &str) {
        if self.0.contains_key(member) {
            Arc::make_mut(&mut self.0).remove(member);
        }
    }
}
