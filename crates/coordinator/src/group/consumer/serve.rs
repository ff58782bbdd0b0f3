//! The shard's part in consumer groups: finds the group, has the command carried out on a draft, and
//! keeps the times.

use std::sync::Arc;

use super::beat::{self, Around};
use super::draft::Draft;
use super::state::ConsumerGroup;
use crate::group::Effects;
use crate::group::command::{ConsumerHeartbeat, Reader};
use crate::group::live::Moment;
use crate::group::record::Fact;
use crate::group::reply::{
    ConsumerBeat, ConsumerDescription, ConsumerHeartbeatError as Refused, FetchRefused,
};
use crate::group::shard::Groups;
use crate::host::HostFailure;

impl Groups {
    pub(in crate::group) fn consumer_heartbeat(
        &mut self,
        request: &ConsumerHeartbeat,
        at: Moment,
        out: &mut Effects,
    ) -> Result<ConsumerBeat, Refused> {
        let joins = beat::is_join(request, &at.settings.consumer)?;
        let id = &request.group;
        let mut draft = self.draft(id, joins)?;
        let world = Arc::clone(&self.world);
        let around = Around { world: &*world, at };
        let group = self.groups.get_mut(id);
        let mut times = group.map(|group| std::mem::take(&mut group.times)).unwrap_or_default();
        let beat = beat::beat(&mut draft, &mut times, request, around);
        if beat.is_ok() {
            let group = self.entry(id);
            group.times = times;
            group.begins = group.hard.consumer.is_none();
            out.records.append(&mut draft.records);
            self.settle(id);
        } else if let Some(group) = self.groups.get_mut(id) {
            group.times = times;
        }
        beat
    }

    /// Records of a consumer group were not appended: what they said is to be looked at again, and
    /// members that were to be taken out have another session.
    pub(in crate::group) fn consumer_failed(&mut self, id: &Arc<str>, at: Moment) {
        let world = Arc::clone(&self.world);
        let Some(group) = self.groups.get_mut(id) else { return };
        group.times.seen = None;
        group.begins = false;
        if let Some(consumer) = &group.hard.consumer {
            beat::restore(id, consumer, &mut group.times, Around { world: &*world, at });
        }
        self.settle(id);
    }

    /// The consumer group as it is, or a new one in place of nothing or of an empty classic group.
    fn draft(&self, id: &Arc<str>, may_begin: bool) -> Result<Draft, Refused> {
        let Some(group) = self.groups.get(id) else {
            return match (may_begin, self.has_room_for(id)) {
                (false, _) => Err(Refused::GroupNotFound),
                (true, false) => Err(Refused::Host(HostFailure::Unavailable)),
                (true, true) => Ok(Draft::of(id, ConsumerGroup::default())),
            };
        };
        if let Some(consumer) = &group.hard.consumer {
            return Ok(Draft::of(id, (**consumer).clone()));
        }
        if !may_begin || !group.live.is_empty() {
            return Err(Refused::GroupNotFound);
        }
        let mut draft = Draft::of(id, ConsumerGroup::default());
        if group.hard.stored.is_some() {
            Fact::Group { group: Arc::clone(id), value: None }.put(&mut draft.records);
        }
        Ok(draft)
    }

    /// Does what is due in a consumer group.
    pub(in crate::group) fn on_consumer_time(
        &mut self,
        id: &Arc<str>,
        at: Moment,
        out: &mut Effects,
    ) {
        let world = Arc::clone(&self.world);
        let Some(group) = self.groups.get_mut(id) else { return };
        let Some(consumer) = &group.hard.consumer else { return };
        let mut draft = Draft::of(id, (**consumer).clone());
        beat::expire(&mut draft, &mut group.times, Around { world: &*world, at });
        out.records.append(&mut draft.records);
    }

    /// A consumer group, its members and what they do; `None` when there is no such group, or it is
    /// of another type.
    #[must_use]
    pub fn describe_consumer(&self, group: &str) -> Option<ConsumerDescription> {
        let consumer = self.groups.get(group)?.hard.consumer.as_ref()?;
        Some(consumer.describe(&*self.world, self.settings.consumer.assignors()))
    }

    /// Whether a member may be told offsets.
    ///
    /// # Errors
    ///
    /// When the group is a consumer group and the reader is not in the epoch that it says.
    pub fn check_fetch(&self, group: &str, reader: &Reader) -> Result<(), FetchRefused> {
        match self.groups.get(group).and_then(|group| group.hard.consumer.as_ref()) {
            Some(consumer) => consumer.check_fetch(reader),
            None => Ok(()),
        }
    }
}
