//! The shard's part in consumer groups: finds the group, has the command carried out on a draft, and
//! keeps the times.

use std::sync::Arc;

use super::beat::{self, Around};
use super::classic;
use super::draft::Draft;
use super::migrate;
use super::state::ConsumerGroup;
use super::times::Times;
use crate::group::Effects;
use crate::group::command::{ConsumerHeartbeat, Join, Leave, Reader, Speaker, Sync, Ticket};
use crate::group::live::{Live, Moment};
use crate::group::record::Fact;
use crate::group::reply::{
    ConsumerBeat, ConsumerDescription, ConsumerHeartbeatError as Refused, FetchRefused,
    HeartbeatError, LeaveMemberError, Reply, SyncError,
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
        let mut draft = self.draft(id, joins, at)?;
        let world = Arc::clone(&self.world);
        let around = Around { world: &*world, at };
        let mut times = self.take_times(id);
        draft.heed(&times);
        let beat = beat::beat(&mut draft, &mut times, request, around);
        match beat {
            Ok(_) => self.adopt(draft, times, at, out),
            Err(_) => self.put_times(id, times),
        }
        beat
    }

    /// The consumer group as it is; or a new one in place of nothing or of a classic group.
    fn draft(&self, id: &Arc<str>, may_begin: bool, at: Moment) -> Result<Draft, Refused> {
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
        if group.hard.streams.is_some() {
            return Err(Refused::GroupNotFound);
        }
        let settings = &at.settings.consumer;
        if group.live.is_empty() && may_begin {
            let mut draft = Draft::of(id, ConsumerGroup::default());
            if group.hard.stored.is_some() {
                Fact::Group { group: Arc::clone(id), value: None }.put(&mut draft.records);
            }
            return Ok(draft);
        }
        let fits = group.live.members.len() <= settings.members_max;
        if !may_begin || !fits || !settings.migration.upgrade {
            return Err(Refused::GroupNotFound);
        }
        migrate::upgrade(id, &group.live, &*self.world).ok_or(Refused::GroupNotFound)
    }

    fn take_times(&mut self, id: &str) -> Times {
        self.groups.get_mut(id).map(|group| std::mem::take(&mut group.times)).unwrap_or_default()
    }

    fn put_times(&mut self, id: &str, times: Times) {
        if let Some(group) = self.groups.get_mut(id) {
            group.times = times;
        }
    }

    /// Takes over what a draft has come to. Members of a classic group that it came from are told to
    /// join again; a group in which only members of the classic protocol are left becomes classic.
    fn adopt(&mut self, mut draft: Draft, mut times: Times, at: Moment, out: &mut Effects) {
        let id = Arc::clone(&draft.id);
        let world = Arc::clone(&self.world);
        let group = self.entry(&id);
        let had_consumers = group
            .hard
            .consumer
            .as_ref()
            .is_some_and(|consumer| consumer.members().len() > consumer.classics());
        group.begins = group.hard.consumer.is_none();
        if group.begins && !group.live.members.is_empty() {
            group.live.disperse(out);
            beat::restore(&id, &draft.group, &mut times, Around { world: &*world, at });
        }
        if group.begins {
            group.live = Live::new(Arc::clone(&id));
        }
        group.times = times;
        let fits = draft.group.members().len() <= at.settings.members_max;
        let downgrades = at.settings.consumer.migration.downgrade && fits;
        if had_consumers && downgrades && draft.group.is_all_classic() {
            self.become_classic(&draft, at, out);
        } else {
            out.records.append(&mut draft.records);
        }
        self.settle(&id);
    }

    fn become_classic(&mut self, draft: &Draft, at: Moment, out: &mut Effects) {
        let id = &draft.id;
        let mut stored = migrate::downgrade(&draft.group, at.wall, &*self.world);
        let Some(group) = self.groups.get_mut(id) else { return };
        let Some(before) = &group.hard.consumer else { return };
        for fact in before.farewell() {
            Fact::Consumer { group: Arc::clone(id), fact }.put(&mut out.records);
        }
        let lost_one = before.members().len() > draft.group.members().len();
        if lost_one {
            // What the others were told last: they are to learn of the rebalance, and not that they
            // are strangers.
            stored.generation = before.group.epoch;
        }
        group.live = Live::restore(Arc::clone(id), &stored, at);
        group.live.in_flight = true;
        Fact::Group { group: Arc::clone(id), value: Some(stored) }.put(&mut out.records);
        if lost_one {
            // There is something that nobody reads now.
            group.live.prepare(at, out);
        }
    }

    /// Records of a consumer group were not appended: what they said is to be looked at again,
    /// members that were to be taken out have another session, and a group that was to be of another
    /// type stays what it is.
    pub(in crate::group) fn consumer_failed(
        &mut self,
        id: &Arc<str>,
        at: Moment,
        out: &mut Effects,
    ) {
        let world = Arc::clone(&self.world);
        let Some(group) = self.groups.get_mut(id) else { return };
        group.times.seen = None;
        group.begins = false;
        if let Some(consumer) = &group.hard.consumer {
            group.live.disperse(out);
            group.live = Live::new(Arc::clone(id));
            beat::restore(id, consumer, &mut group.times, Around { world: &*world, at });
        } else if let Some(stored) = group.hard.stored.as_ref().filter(|_| group.live.is_idle()) {
            group.live = Live::restore(Arc::clone(id), stored, at);
            group.times = Times::default();
        }
        self.settle(id);
    }

    /// Does what is due in a consumer group.
    pub(in crate::group) fn on_consumer_time(
        &mut self,
        id: &Arc<str>,
        at: Moment,
        out: &mut Effects,
    ) {
        let world = Arc::clone(&self.world);
        let consumer = self.groups.get(id).and_then(|group| group.hard.consumer.as_ref());
        let Some(consumer) = consumer else { return };
        let mut draft = Draft::of(id, (**consumer).clone());
        let mut times = self.take_times(id);
        draft.heed(&times);
        beat::expire(&mut draft, &mut times, Around { world: &*world, at });
        self.adopt(draft, times, at, out);
    }

    /// Whether requests of the classic protocol meet a consumer group with members.
    pub(in crate::group) fn is_consumer(&self, id: &str) -> bool {
        let group = self.groups.get(id);
        group.is_some_and(|group| group.hard.consumer.is_some() && !group.hard.has_nobody())
    }

    /// A join of the classic protocol.
    pub(in crate::group) fn join_consumers(
        &mut self,
        join: Join,
        ticket: Ticket,
        at: Moment,
        out: &mut Effects,
    ) {
        let id = Arc::clone(&join.group);
        let Ok(mut draft) = self.draft(&id, false, at) else { return };
        let world = Arc::clone(&self.world);
        let around = Around { world: &*world, at };
        let mut times = self.take_times(&id);
        let joined = classic::join(&mut draft, &mut times, join, around);
        match joined {
            Ok(_) => self.adopt(draft, times, at, out),
            Err(_) => self.put_times(&id, times),
        }
        out.reply(ticket, Reply::Join(joined));
    }

    /// A sync of the classic protocol.
    pub(in crate::group) fn sync_consumers(
        &mut self,
        sync: &Sync,
        ticket: Ticket,
        at: Moment,
        out: &mut Effects,
    ) {
        let id = &sync.speaker.group;
        let world = Arc::clone(&self.world);
        let around = Around { world: &*world, at };
        let mut times = self.take_times(id);
        let consumer = self.groups.get(id).and_then(|group| group.hard.consumer.as_ref());
        let result = match consumer {
            Some(group) => classic::sync(group, &mut times, sync, around),
            None => Err(SyncError::UnknownMember),
        };
        self.put_times(id, times);
        self.settle(id);
        out.reply(ticket, Reply::Sync(result));
    }

    /// A heartbeat of the classic protocol.
    pub(in crate::group) fn beat_consumers(
        &mut self,
        speaker: &Speaker,
        at: Moment,
    ) -> Result<(), HeartbeatError> {
        let id = &speaker.group;
        let world = Arc::clone(&self.world);
        let around = Around { world: &*world, at };
        let mut times = self.take_times(id);
        let consumer = self.groups.get(id).and_then(|group| group.hard.consumer.as_ref());
        let result = match consumer {
            Some(group) => classic::heartbeat(group, &mut times, speaker, around),
            None => Err(HeartbeatError::UnknownMember),
        };
        self.put_times(id, times);
        self.settle(id);
        result
    }

    /// Members of the classic protocol leave, or are removed by an administrator.
    pub(in crate::group) fn leave_consumers(
        &mut self,
        leave: &Leave,
        at: Moment,
        out: &mut Effects,
    ) -> Vec<Result<(), LeaveMemberError>> {
        let id = &leave.group;
        let Ok(mut draft) = self.draft(id, false, at) else {
            return vec![Err(LeaveMemberError::UnknownMember); leave.members.len()];
        };
        let world = Arc::clone(&self.world);
        let around = Around { world: &*world, at };
        let mut times = self.take_times(id);
        draft.heed(&times);
        let results = classic::leave(&mut draft, &mut times, &leave.members, around);
        self.adopt(draft, times, at, out);
        results
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
    /// When the group is a consumer or streams group and the reader is not in the epoch that it says.
    pub fn check_fetch(&self, group: &str, reader: &Reader) -> Result<(), FetchRefused> {
        let Some(group) = self.groups.get(group) else { return Ok(()) };
        match (&group.hard.consumer, &group.hard.streams) {
            (Some(consumer), _) => consumer.check_fetch(reader),
            (None, Some(streams)) => streams.check_fetch(reader),
            (None, None) => Ok(()),
        }
    }
}
