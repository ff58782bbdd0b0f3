//! The shard's part in streams groups: finds the group, has the command carried out on a draft, and
//! keeps what is only in memory.

use std::sync::Arc;

use super::beat::{self, Around};
use super::describe::StreamsDescription;
use super::draft::Draft;
use super::soft::Soft;
use super::state::StreamsGroup;
use super::topology::Topology;
use crate::group::Effects;
use crate::group::command::StreamsHeartbeat;
use crate::group::live::{Live, Moment};
use crate::group::record::Fact;
use crate::group::reply::{StreamsBeat, StreamsHeartbeatError as Refused};
use crate::group::shard::Groups;
use crate::host::HostFailure;

impl Groups {
    pub(in crate::group) fn streams_heartbeat(
        &mut self,
        request: &StreamsHeartbeat,
        at: Moment,
        out: &mut Effects,
    ) -> Result<StreamsBeat, Refused> {
        let joins = beat::is_join(request, &at.settings.streams)?;
        let id = &request.group;
        let mut draft = self.streams_draft(id, joins)?;
        let world = Arc::clone(&self.world);
        let around = Around { world: &*world, at };
        let mut soft = self.take_soft(id);
        let beat = beat::beat(&mut draft, &mut soft, request, around);
        match beat {
            Ok(_) => self.adopt_streams(draft, soft, out),
            Err(_) => self.put_soft(id, soft),
        }
        beat
    }

    /// The streams group as it is; or a new one in place of nothing or of an empty classic group.
    fn streams_draft(&self, id: &Arc<str>, may_begin: bool) -> Result<Draft, Refused> {
        let Some(group) = self.groups.get(id) else {
            return match (may_begin, self.has_room_for(id)) {
                (false, _) => Err(Refused::GroupNotFound),
                (true, false) => Err(Refused::Host(HostFailure::Unavailable)),
                (true, true) => Ok(Draft::of(id, StreamsGroup::default())),
            };
        };
        if let Some(streams) = &group.hard.streams {
            return Ok(Draft::of(id, (**streams).clone()));
        }
        let is_free = group.hard.consumer.is_none() && group.live.is_empty();
        if !may_begin || !is_free {
            return Err(Refused::GroupNotFound);
        }
        let mut draft = Draft::of(id, StreamsGroup::default());
        if group.hard.stored.is_some() {
            Fact::Group { group: Arc::clone(id), value: None }.put(&mut draft.records);
        }
        Ok(draft)
    }

    fn take_soft(&mut self, id: &str) -> Soft {
        self.groups.get_mut(id).map(|group| std::mem::take(&mut group.soft)).unwrap_or_default()
    }

    fn put_soft(&mut self, id: &str, soft: Soft) {
        if let Some(group) = self.groups.get_mut(id) {
            group.soft = soft;
        }
    }

    /// Takes over what a draft has come to.
    fn adopt_streams(&mut self, mut draft: Draft, soft: Soft, out: &mut Effects) {
        let id = Arc::clone(&draft.id);
        let group = self.entry(&id);
        group.begins = group.hard.streams.is_none();
        if group.begins {
            group.live = Live::new(Arc::clone(&id));
        }
        group.soft = soft;
        out.records.append(&mut draft.records);
        self.settle(&id);
    }

    /// Records of a streams group were not appended: members that were to be taken out have another
    /// session, and a group that was to begin does not.
    pub(in crate::group) fn streams_failed(&mut self, id: &Arc<str>, at: Moment) {
        let world = Arc::clone(&self.world);
        let Some(group) = self.groups.get_mut(id) else { return };
        group.begins = false;
        match &group.hard.streams {
            Some(streams) => {
                beat::restore(id, streams, &mut group.soft, Around { world: &*world, at });
            }
            None => group.soft = Soft::default(),
        }
        self.settle(id);
    }

    /// Does what is due in a streams group.
    pub(in crate::group) fn on_streams_time(
        &mut self,
        id: &Arc<str>,
        at: Moment,
        out: &mut Effects,
    ) {
        let streams = self.groups.get(id).and_then(|group| group.hard.streams.as_ref());
        let Some(streams) = streams else { return };
        let mut draft = Draft::of(id, (**streams).clone());
        let mut soft = self.take_soft(id);
        beat::expire(&mut draft, &mut soft, at);
        self.adopt_streams(draft, soft, out);
    }

    /// The topology of a streams group; `None` when there is none, or no such group.
    #[must_use]
    pub fn streams_topology(&self, group: &str) -> Option<Arc<Topology>> {
        self.groups.get(group)?.hard.streams.as_ref()?.topology().cloned()
    }

    /// A streams group, its members and what they do; `None` when there is no such group, or it is of
    /// another type.
    #[must_use]
    pub fn describe_streams(&self, group: &str) -> Option<StreamsDescription> {
        let streams = self.groups.get(group)?.hard.streams.as_ref()?;
        Some(streams.describe(&*self.world))
    }
}
