//! A member of a streams group: what it says of itself, and which tasks it has.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::tasks::Held;
use crate::group::consumer::member::MemberState;

/// Where a member answers queries (`application.server`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The host.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
}

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
    pub(in crate::group) rebalance_timeout_ms: i32,
    /// The epoch of the topology that it was started with.
    pub(in crate::group) topology_epoch: i32,
    /// The process that it is part of.
    pub(in crate::group) process: Arc<str>,
    pub(in crate::group) endpoint: Option<Endpoint>,
    pub(in crate::group) tags: BTreeMap<Arc<str>, Arc<str>>,
}

/// How far a member has come on the way to its target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::group) struct Current {
    /// What it was told last; [`crate::group::consumer::member::LEFT_FOR_A_WHILE`] for a static member
    /// that is away.
    pub(in crate::group) epoch: i32,
    /// What it was told before.
    pub(in crate::group) previous_epoch: i32,
    pub(in crate::group) state: MemberState,
    /// The tasks that it may have.
    pub(in crate::group) assigned: Held,
    /// The tasks that it must give up, and has not said that it did.
    pub(in crate::group) revoking: Held,
}

/// What keeping a member takes beside its texts, in bytes: its places in the tables.
const MEMBER_BYTES: usize = 1_024;
/// What a tag takes beside its texts.
const TAG_BYTES: usize = 96;

impl About {
    /// What keeping it takes, in bytes.
    pub(in crate::group) fn bytes(&self, id: &str) -> usize {
        let host = self.endpoint.as_ref().map(|endpoint| &endpoint.host);
        let optional = self.instance.iter().chain(&self.rack).chain(host);
        let texts = [&self.client_id, &self.client_host, &self.process];
        let texts: usize = texts.into_iter().chain(optional).map(|text| text.len()).sum();
        let tags = self.tags.iter().map(|(key, value)| key.len() + value.len() + TAG_BYTES);
        MEMBER_BYTES + 3 * id.len() + texts + tags.sum::<usize>()
    }
}

impl Current {
    /// Whether the member need not be looked at while the target's epoch is `epoch`.
    pub(in crate::group) fn is_reconciled_to(&self, epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == epoch
    }
}
