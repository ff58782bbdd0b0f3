//! A member of a consumer group: what it says of itself, and what it owns.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use millstream_types::TopicId;

/// Partitions of topics, such as those that a member is to own.
pub type Partitions = BTreeMap<TopicId, BTreeSet<i32>>;

/// Partitions that a member owns, each with the epoch in which it was given to it (KIP-1251).
pub(in crate::group) type Owned = BTreeMap<TopicId, BTreeMap<i32, i32>>;

/// The epoch of a static member that has left and may come back.
pub(in crate::group) const LEFT_FOR_A_WHILE: i32 = -2;

/// A member: what it says, and how far it has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Member {
    pub(in crate::group) about: About,
    pub(in crate::group) current: Current,
}

/// What a member says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct About {
    pub(in crate::group) instance: Option<Arc<str>>,
    pub(in crate::group) rack: Option<Arc<str>>,
    pub(in crate::group) client_id: Arc<str>,
    pub(in crate::group) client_host: Arc<str>,
    /// The topics that it names.
    pub(in crate::group) topics: BTreeSet<Arc<str>>,
    /// The topics that it describes; `None` for none, also where the client says an empty one.
    pub(in crate::group) regex: Option<Arc<str>>,
    pub(in crate::group) rebalance_timeout_ms: i32,
    pub(in crate::group) assignor: Option<Arc<str>>,
    /// What a member has said that speaks the classic protocol.
    pub(in crate::group) classic: Option<Classic>,
}

/// What a member of the classic protocol says on top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Classic {
    pub(in crate::group) session_timeout_ms: i32,
    /// Assignment protocols and what it said for each, best first.
    pub(in crate::group) protocols: Vec<(Arc<str>, Bytes)>,
}

/// How far a member has come on the way to its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Current {
    /// What it was told last; [`LEFT_FOR_A_WHILE`] for a static member that is away.
    pub(in crate::group) epoch: i32,
    /// What it was told before.
    pub(in crate::group) previous_epoch: i32,
    pub(in crate::group) state: MemberState,
    /// What it may read.
    pub(in crate::group) assigned: Owned,
    /// What it must give up, and has not said that it did.
    pub(in crate::group) revoking: Owned,
}

/// Where a member is on its way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::group) enum MemberState {
    /// It has what it is to have in its epoch.
    #[default]
    Stable,
    /// It must give up partitions before it goes on to the next epoch.
    Unrevoked,
    /// It has given up what it had to; others have yet to give up what it is to get.
    Unreleased,
    /// A newer coordinator knows.
    Unknown,
}

impl MemberState {
    /// The number that is stored.
    pub(in crate::group) const fn number(self) -> i8 {
        match self {
            Self::Stable => 1,
            Self::Unrevoked => 2,
            Self::Unreleased => 3,
            Self::Unknown => 127,
        }
    }

    pub(in crate::group) const fn of(number: i8) -> Self {
        match number {
            1 => Self::Stable,
            2 => Self::Unrevoked,
            3 => Self::Unreleased,
            _ => Self::Unknown,
        }
    }
}

/// What keeping a member takes beside its texts, in bytes: its places in the tables.
const MEMBER_BYTES: usize = 768;
/// What a name of a topic takes beside its text.
const TOPIC_BYTES: usize = 64;

impl About {
    /// What keeping it takes, in bytes.
    pub(in crate::group) fn bytes(&self, id: &str) -> usize {
        let texts = [&self.instance, &self.rack, &self.regex, &self.assignor];
        let optional: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
        let topics: usize = self.topics.iter().map(|topic| topic.len() + TOPIC_BYTES).sum();
        let classic: usize = self
            .classic
            .iter()
            .flat_map(|classic| &classic.protocols)
            .map(|(name, said)| name.len() + said.len() + TOPIC_BYTES)
            .sum();
        MEMBER_BYTES
            + 3 * id.len()
            + self.client_id.len()
            + self.client_host.len()
            + optional
            + topics
            + classic
    }

    /// Whether both ask for the same topics.
    pub(in crate::group) fn subscribes_as(&self, other: &Self) -> bool {
        self.topics == other.topics && self.regex == other.regex
    }
}

impl Current {
    /// The partitions that may be read.
    pub(in crate::group) fn partitions(&self) -> Partitions {
        partitions(&self.assigned)
    }

    /// All partitions that nobody else may have yet.
    pub(in crate::group) fn held(&self) -> impl Iterator<Item = (TopicId, i32)> {
        each(&self.assigned).chain(each(&self.revoking))
    }

    /// Whether the member need not be looked at while the target's epoch is `epoch`.
    pub(in crate::group) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }
}

/// The partitions, without their epochs.
pub(in crate::group) fn partitions(owned: &Owned) -> Partitions {
    owned.iter().map(|(topic, all)| (*topic, all.keys().copied().collect())).collect()
}

fn each(owned: &Owned) -> impl Iterator<Item = (TopicId, i32)> {
    owned.iter().flat_map(|(topic, all)| all.keys().map(move |index| (*topic, *index)))
}
