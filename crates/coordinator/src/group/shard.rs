//! All groups of one partition of `__consumer_offsets`, their timers, and what the host calls.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use millstream_types::{Monotonic, ProducerId, Timestamp};
use millstream_wire::DecodeError;

use crate::host::{HostFailure, ReplayError, StoredRecord, TEXT_LEN_MAX};

use super::Effects;
use super::command::{
    Command, Commit, DeleteGroups, DeleteOffsets, FetchTopic, Heartbeat, Join, Leave, ListFilter,
    Sync, Ticket,
};
use super::consumer::beat::{self, Around};
use super::consumer::times::Times;
use super::consumer::{NoWorld, World};
use super::live::{Live, Moment};
use super::offsets::{self, Hard};
use super::record::{Fact, StoredOffset};
use super::reply::{
    CommitError, DeleteGroupError, DeleteOffsetsError, Description, Fetched, GroupType,
    HeartbeatError, JoinError, JoinRefused, LeaveError, LeaveMemberError, Listed, Reply, SyncError,
};
use super::settings::GroupSettings;
use super::streams::beat as streams_beat;
use super::streams::soft::Soft;
use super::subscription;

/// What streams groups say that their protocol is for.
const STREAMS_PROTOCOL_TYPE: &str = "streams";

/// How many offsets one tick looks at for expiry, so that a tick stays short.
const EXPIRY_LOOKS_MAX: usize = 10_000;

/// Groups that are being read from their partition.
#[derive(Clone, Debug, Default)]
pub struct Loading {
    groups: BTreeMap<Arc<str>, Hard>,
    transactions: Transactions,
}

/// The groups that open transactions have staged offsets of.
type Transactions = BTreeMap<ProducerId, BTreeSet<Arc<str>>>;

/// All groups of one partition of `__consumer_offsets`.
#[derive(Clone, Debug)]
pub struct Groups {
    pub(super) settings: GroupSettings,
    pub(super) world: Arc<dyn World>,
    pub(super) groups: BTreeMap<Arc<str>, Group>,
    /// At most one entry per group: its [`Group::scheduled`].
    pub(super) timers: BTreeSet<(Monotonic, Arc<str>)>,
    pub(super) transactions: Transactions,
    expiry: ExpiryRound,
}

#[derive(Clone, Debug)]
pub(super) struct Group {
    pub(super) hard: Hard,
    pub(super) live: Live,
    /// When the group's timer rings; never later than its live part wants to be woken.
    pub(super) scheduled: Option<Monotonic>,
    /// Until when members of a consumer group must be heard of.
    pub(super) times: Times,
    /// What is known of a streams group only in memory.
    pub(super) soft: Soft,
    /// Whether records that begin a consumer or streams group are on their way to the log: until they are
    /// replayed, or have failed, the group is not forgotten.
    pub(super) begins: bool,
}

/// The look at all offsets for those that have expired, in steps.
#[derive(Clone, Debug)]
struct ExpiryRound {
    /// When the next step is due.
    at: Monotonic,
    /// The last group that this round has looked at.
    after: Option<Arc<str>>,
    paused: bool,
}

impl Loading {
    /// Nothing loaded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next record of the partition.
    ///
    /// # Errors
    ///
    /// When the record is not what a coordinator writes; nothing has changed then.
    pub fn replay(&mut self, record: &StoredRecord) -> Result<(), ReplayError> {
        let (group, is_void) = match Fact::decode(record)? {
            None => return Ok(()),
            Some(Fact::Offset { group, topic, partition, value }) => {
                let hard = self.groups.entry(Arc::clone(&group)).or_default();
                hard.apply_offset(topic, partition, value);
                (group, hard.is_void())
            }
            Some(Fact::Group { group, value }) => {
                let hard = self.groups.entry(Arc::clone(&group)).or_default();
                hard.stored = value;
                (group, hard.is_void())
            }
            Some(Fact::Consumer { group, fact }) => {
                let hard = self.groups.entry(Arc::clone(&group)).or_default();
                hard.apply_consumer(fact);
                (group, hard.is_void())
            }
            Some(Fact::Streams { group, fact }) => {
                let hard = self.groups.entry(Arc::clone(&group)).or_default();
                hard.apply_streams(fact);
                (group, hard.is_void())
            }
        };
        if is_void {
            self.groups.remove(&group);
        }
        Ok(())
    }

    /// Takes in the next record of the partition, which is part of a producer's transaction.
    ///
    /// # Errors
    ///
    /// When the record is not what a coordinator writes; nothing has changed then.
    pub fn replay_within(
        &mut self,
        producer: ProducerId,
        record: &StoredRecord,
    ) -> Result<(), ReplayError> {
        let Some((group, topic, partition, offset)) = staged(record)? else { return Ok(()) };
        self.transactions.entry(producer).or_default().insert(Arc::clone(&group));
        self.groups.entry(group).or_default().stage(producer, topic, partition, offset);
        Ok(())
    }

    /// Takes in that a producer's transaction has ended.
    pub fn end_transaction(&mut self, producer: ProducerId, commit: bool) {
        for id in self.transactions.remove(&producer).unwrap_or_default() {
            if let Some(hard) = self.groups.get_mut(&id) {
                hard.end_transaction(producer, commit);
                if hard.is_void() {
                    self.groups.remove(&id);
                }
            }
        }
    }

    /// Everything has been read: members are taken to be there, each for a session from now.
    /// `world` tells of topics and of what is configured for groups.
    pub fn finish(
        self,
        settings: GroupSettings,
        world: Arc<dyn World>,
        now: Monotonic,
        wall: Timestamp,
    ) -> (Groups, Effects) {
        let at = Moment { now, wall, settings };
        let expiry =
            ExpiryRound { at: now.plus(settings.expiry_interval), after: None, paused: false };
        let (groups, timers) = (BTreeMap::new(), BTreeSet::new());
        let transactions = self.transactions;
        let world_of = Arc::clone(&world);
        let mut loaded = Groups { settings, world: world_of, groups, timers, transactions, expiry };
        let mut out = Effects::default();
        for (id, hard) in self.groups {
            let mut live = match &hard.stored {
                Some(stored) => Live::restore(Arc::clone(&id), stored, at),
                None => Live::new(Arc::clone(&id)),
            };
            if live.members.len() > loaded.settings.members_max {
                live.prepare(at, &mut out);
            }
            let around = Around { world: &*world, at };
            let consumer = hard.consumer.as_deref();
            let mut times = Times::default();
            if let Some(group) = consumer {
                beat::restore(&id, group, &mut times, around);
            }
            let mut soft = Soft::default();
            if let Some(group) = hard.streams.as_deref() {
                soft = Soft::restored(wall);
                let around = streams_beat::Around { world: &*world, at };
                streams_beat::restore(&id, group, &mut soft, around);
            }
            loaded.groups.insert(
                Arc::clone(&id),
                Group { hard, live, scheduled: None, times, soft, begins: false },
            );
            loaded.settle(&id);
        }
        out.next_deadline = loaded.next_deadline();
        (loaded, out)
    }
}

impl Groups {
    /// A coordinator of no groups.
    #[must_use]
    pub fn new(settings: GroupSettings, now: Monotonic) -> Self {
        Loading::new().finish(settings, Arc::new(NoWorld), now, Timestamp::NONE).0
    }

    /// When [`Groups::tick`] is to be called.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let expiry = (!self.expiry.paused).then_some(self.expiry.at);
        self.timers.first().map(|(at, _)| *at).into_iter().chain(expiry).min()
    }

    /// Changes the settings, from now on.
    pub fn configure(&mut self, settings: GroupSettings) {
        self.settings = settings;
    }

    /// Stops or resumes the expiry of offsets: for a host whose wall clock cannot be trusted.
    pub fn pause_expiry(&mut self, paused: bool) {
        self.expiry.paused = paused;
    }

    /// Answers a command, at once or later. See the module's documentation for what is to be done
    /// with the effects.
    pub fn handle(
        &mut self,
        now: Monotonic,
        wall: Timestamp,
        command: Command,
        ticket: Ticket,
    ) -> Effects {
        let at = Moment { now, wall, settings: self.settings };
        let mut out = Effects::default();
        match command {
            Command::Join(join) => self.join(join, ticket, at, &mut out),
            Command::Sync(sync) => self.sync(sync, ticket, at, &mut out),
            Command::Heartbeat(heartbeat) => {
                let result = self.heartbeat(&heartbeat, at);
                out.reply(ticket, Reply::Heartbeat(result));
            }
            Command::ConsumerHeartbeat(heartbeat) => {
                let result = self.consumer_heartbeat(&heartbeat, at, &mut out);
                out.reply(ticket, Reply::ConsumerHeartbeat(result));
            }
            Command::StreamsHeartbeat(heartbeat) => {
                let result = self.streams_heartbeat(&heartbeat, at, &mut out);
                out.reply(ticket, Reply::StreamsHeartbeat(result));
            }
            Command::Leave(leave) => {
                let result = self.leave(&leave, at, &mut out);
                out.reply(ticket, Reply::Leave(result));
            }
            Command::Commit(commit) => {
                let result = self.commit(&commit, false, at, &mut out);
                out.reply(ticket, Reply::Commit(result));
            }
            Command::CommitWithin(producer, epoch, commit) => {
                let result = self.commit(&commit, true, at, &mut out);
                out.within = Some((producer, epoch));
                out.reply(ticket, Reply::Commit(result));
            }
            Command::DeleteOffsets(request) => {
                let result = self.delete_offsets(&request, &mut out);
                out.reply(ticket, Reply::DeleteOffsets(result));
            }
            Command::DeleteGroups(request) => self.delete_groups(&request, ticket, &mut out),
        }
        out.next_deadline = self.next_deadline();
        out
    }

    /// Does what has become due.
    pub fn tick(&mut self, now: Monotonic, wall: Timestamp) -> Effects {
        let at = Moment { now, wall, settings: self.settings };
        let mut out = Effects::default();
        let mut due = Vec::new();
        while self.timers.first().is_some_and(|(when, _)| *when <= now) {
            due.extend(self.timers.pop_first());
        }
        for (_, id) in due {
            if let Some(group) = self.groups.get_mut(&id) {
                group.scheduled = None;
                group.live.on_time(at, &mut out);
                self.on_consumer_time(&id, at, &mut out);
                self.on_streams_time(&id, at, &mut out);
                self.settle(&id);
            }
        }
        if !self.expiry.paused && self.expiry.at <= now {
            self.expire_offsets(at, &mut out);
        }
        out.next_deadline = self.next_deadline();
        out
    }

    /// Takes in a record that was appended: the only way in which hard state changes.
    ///
    /// # Errors
    ///
    /// When the record is not what a coordinator writes; nothing has changed then.
    pub fn replay(&mut self, record: &StoredRecord) -> Result<(), ReplayError> {
        let id = match Fact::decode(record)? {
            None => return Ok(()),
            Some(Fact::Offset { group, topic, partition, value }) => {
                self.entry(&group).hard.apply_offset(topic, partition, value);
                group
            }
            Some(Fact::Group { group, value }) => {
                let known = self.entry(&group);
                known.live.in_flight = false;
                if value.is_none() && known.live.is_idle() {
                    known.live = Live::new(Arc::clone(&group));
                }
                known.hard.stored = value;
                group
            }
            Some(Fact::Consumer { group, fact }) => {
                let known = self.entry(&group);
                known.begins &= fact.is_end();
                known.hard.apply_consumer(fact);
                if known.hard.consumer.is_none() && !known.begins {
                    known.times = Times::default();
                }
                group
            }
            Some(Fact::Streams { group, fact }) => {
                let known = self.entry(&group);
                known.begins &= fact.is_end();
                known.hard.apply_streams(fact);
                if known.hard.streams.is_none() && !known.begins {
                    known.soft = Soft::default();
                }
                group
            }
        };
        self.settle(&id);
        Ok(())
    }

    /// Takes in a record that was appended as part of a producer's transaction ([`Effects::within`]).
    ///
    /// # Errors
    ///
    /// When the record is not what a coordinator writes; nothing has changed then.
    pub fn replay_within(
        &mut self,
        producer: ProducerId,
        record: &StoredRecord,
    ) -> Result<(), ReplayError> {
        let Some((group, topic, partition, offset)) = staged(record)? else { return Ok(()) };
        self.transactions.entry(producer).or_default().insert(Arc::clone(&group));
        self.entry(&group).hard.stage(producer, topic, partition, offset);
        self.settle(&group);
        Ok(())
    }

    /// Takes in the marker of a producer's transaction: what it staged counts from now on, or never.
    pub fn end_transaction(&mut self, producer: ProducerId, commit: bool) {
        for id in self.transactions.remove(&producer).unwrap_or_default() {
            if let Some(group) = self.groups.get_mut(&id) {
                group.hard.end_transaction(producer, commit);
                self.settle(&id);
            }
        }
    }

    /// The records of `effects` were not appended and will not be: replies that claim success turn
    /// into failures, and groups that were to be stored form a new generation. What follows from
    /// that never has records of its own.
    pub fn append_failed(
        &mut self,
        now: Monotonic,
        wall: Timestamp,
        effects: Effects,
        why: HostFailure,
    ) -> Effects {
        let at = Moment { now, wall, settings: self.settings };
        let mut out = Effects::default();
        for (ticket, reply) in effects.replies {
            out.reply(ticket, reply.failed(why));
        }
        for record in &effects.records {
            match Fact::decode(record) {
                Ok(Some(Fact::Group { group: id, value: Some(_) })) => {
                    if let Some(group) = self.groups.get_mut(&id) {
                        group.live.recover(at, &mut out);
                        self.settle(&id);
                    }
                }
                Ok(Some(Fact::Consumer { group: id, .. })) => {
                    self.consumer_failed(&id, at, &mut out);
                }
                Ok(Some(Fact::Streams { group: id, .. })) => self.streams_failed(&id, at),
                _ => {}
            }
        }
        out.next_deadline = self.next_deadline();
        out
    }

    /// Ends the coordinator: whoever waits is told to look for another one.
    pub fn resign(self) -> Effects {
        let mut out = Effects::default();
        for (_, mut group) in self.groups {
            group.live.dismiss(HostFailure::NotCoordinator, &mut out);
        }
        out
    }

    /// The records that forget all offsets of a topic that has been deleted.
    pub fn topic_deleted(&self, topic: &Arc<str>) -> Effects {
        let mut out = Effects::default();
        for (id, group) in &self.groups {
            group.hard.forget_topic(id, topic, &mut out.records);
        }
        out.next_deadline = self.next_deadline();
        out
    }

    /// Committed offsets: of the topics asked for, in the order asked, or (`None`) all there are.
    /// What was never committed has none. `require_stable` refuses offsets that an open transaction
    /// may change.
    #[must_use]
    pub fn fetch_offsets(
        &self,
        group: &str,
        topics: Option<&[FetchTopic]>,
        require_stable: bool,
    ) -> Vec<(Arc<str>, Vec<Fetched>)> {
        match self.groups.get(group) {
            Some(group) => group.hard.fetch(topics, require_stable),
            None => Hard::default().fetch(topics, require_stable),
        }
    }

    /// A classic group, its members and what they do; `None` when there is no such group, or it is of
    /// another type.
    #[must_use]
    pub fn describe(&self, group: &str) -> Option<Description> {
        let group = self.groups.get(group).filter(|group| group.hard.is_classic())?;
        Some(group.live.describe())
    }

    /// All groups that `filter` lets through.
    #[must_use]
    pub fn list(&self, filter: &ListFilter) -> Vec<Listed> {
        let any = |wanted: &[String], name: &str| {
            wanted.is_empty() || wanted.iter().any(|it| it.trim().eq_ignore_ascii_case(name))
        };
        let listed = self.groups.iter().map(|(id, group)| group.listed(id));
        let wanted = listed.filter(|listed| {
            any(&filter.types, listed.group_type.name()) && any(&filter.states, listed.state.name())
        });
        wanted.collect()
    }

    /// The records that rebuild all hard state, but for what open transactions have staged: what a
    /// checkpoint keeps instead of the partition.
    #[must_use]
    pub fn snapshot(&self) -> Vec<StoredRecord> {
        let mut records = Vec::new();
        for (id, group) in &self.groups {
            group.hard.facts(id).for_each(|fact| fact.put(&mut records));
        }
        records
    }

    fn join(&mut self, join: Join, ticket: Ticket, at: Moment, out: &mut Effects) {
        let allowed = self.settings.session_timeout_min_ms..=self.settings.session_timeout_max_ms;
        let error = if join.group.is_empty() {
            Some(JoinError::InvalidGroupId)
        } else if !allowed.contains(&join.session_timeout_ms) {
            Some(JoinError::InvalidSessionTimeout)
        } else if !join.member.is_empty() && !self.groups.contains_key(&join.group) {
            Some(JoinError::UnknownMember)
        } else if !is_storable(&join) {
            Some(JoinError::Host(HostFailure::TooLarge))
        } else if !self.has_room_for(&join.group) {
            Some(JoinError::Host(HostFailure::Unavailable))
        } else {
            None
        };
        if let Some(error) = error {
            let refused = JoinRefused { member: join.member, error };
            return out.reply(ticket, Reply::Join(Err(refused)));
        }
        let id = Arc::clone(&join.group);
        let group = self.entry(&id);
        if group.hard.consumer.is_some() {
            if !group.hard.has_nobody() {
                return self.join_consumers(join, ticket, at, out);
            }
            group.hard.forget_group(&id, &mut out.records);
        } else if group.hard.streams.is_some() {
            if !group.hard.has_nobody() {
                let error = JoinError::InconsistentProtocol;
                let refused = JoinRefused { member: join.member, error };
                return out.reply(ticket, Reply::Join(Err(refused)));
            }
            group.hard.forget_group(&id, &mut out.records);
        }
        self.entry(&id).live.join(join, ticket, at, out);
        self.settle(&id);
    }

    /// Whether the group is there, or there may be another one.
    pub(super) fn has_room_for(&self, group: &str) -> bool {
        self.groups.len() < self.settings.groups_max || self.groups.contains_key(group)
    }

    fn sync(&mut self, sync: Sync, ticket: Ticket, at: Moment, out: &mut Effects) {
        let id = Arc::clone(&sync.speaker.group);
        if id.is_empty() {
            return out.reply(ticket, Reply::Sync(Err(SyncError::InvalidGroupId)));
        }
        if self.is_consumer(&id) {
            return self.sync_consumers(&sync, ticket, at, out);
        }
        let Some(group) = self.groups.get_mut(&id) else {
            return out.reply(ticket, Reply::Sync(Err(SyncError::UnknownMember)));
        };
        group.live.sync(sync, ticket, at, out);
        self.settle(&id);
    }

    fn heartbeat(&mut self, heartbeat: &Heartbeat, at: Moment) -> Result<(), HeartbeatError> {
        let id = &heartbeat.speaker.group;
        if id.is_empty() {
            return Err(HeartbeatError::InvalidGroupId);
        }
        if self.is_consumer(id) {
            return self.beat_consumers(&heartbeat.speaker, at);
        }
        let group = self.groups.get_mut(id).ok_or(HeartbeatError::UnknownMember)?;
        let result = group.live.heartbeat(heartbeat, at);
        self.settle(id);
        result
    }

    fn leave(
        &mut self,
        leave: &Leave,
        at: Moment,
        out: &mut Effects,
    ) -> Result<Vec<Result<(), LeaveMemberError>>, LeaveError> {
        if leave.group.is_empty() {
            return Err(LeaveError::InvalidGroupId);
        }
        if self.is_consumer(&leave.group) {
            return Ok(self.leave_consumers(leave, at, out));
        }
        let Some(group) = self.groups.get_mut(&leave.group) else {
            return Ok(vec![Err(LeaveMemberError::UnknownMember); leave.members.len()]);
        };
        let results = group.live.leave(leave, at, out);
        self.settle(&leave.group);
        Ok(results)
    }

    fn commit(
        &mut self,
        commit: &Commit,
        within: bool,
        at: Moment,
        out: &mut Effects,
    ) -> Result<Vec<super::CommittedTopic>, CommitError> {
        let id = &commit.speaker.group;
        let has_room = self.has_room_for(id);
        match self.groups.get_mut(id) {
            Some(Group { hard: Hard { consumer: Some(consumer), .. }, .. }) => {
                if !(within && commit.speaker.is_nobody()) {
                    consumer.check_commit(commit, &*self.world)?;
                }
            }
            Some(Group { hard: Hard { streams: Some(streams), .. }, .. }) => {
                if !(within && commit.speaker.is_nobody()) {
                    streams.check_commit(commit, within)?;
                }
            }
            Some(group) => {
                group.live.check_commit(commit, within, at)?;
                self.settle(id);
            }
            None if commit.speaker.generation >= 0 => return Err(CommitError::GroupNotFound),
            // Anybody may begin a group by committing to it.
            None if has_room => {}
            None => return Err(CommitError::Host(HostFailure::Unavailable)),
        }
        let texts = commit.topics.iter().map(|topic| &topic.name).chain([id]);
        if texts.into_iter().any(|text| text.len() > TEXT_LEN_MAX) {
            return Err(CommitError::Host(HostFailure::TooLarge));
        }
        let metadata_max = self.settings.offset_metadata_max;
        Ok(offsets::commit(commit, at.wall, metadata_max, &mut out.records))
    }

    fn delete_offsets(
        &self,
        request: &DeleteOffsets,
        out: &mut Effects,
    ) -> Result<Vec<super::DeletedTopic>, DeleteOffsetsError> {
        let group = self.groups.get(&request.group).ok_or(DeleteOffsetsError::GroupNotFound)?;
        let live = &group.live;
        let consumers = live.protocol_type.as_deref() == Some(subscription::PROTOCOL_TYPE);
        if !live.is_empty() && !consumers {
            return Err(DeleteOffsetsError::NonEmptyGroup);
        }
        Ok(group.hard.delete(request, &live.subscribed(), &mut out.records))
    }

    fn delete_groups(&mut self, request: &DeleteGroups, ticket: Ticket, out: &mut Effects) {
        let mut results = Vec::with_capacity(request.groups.len());
        let mut seen = BTreeSet::new();
        for id in &request.groups {
            let result = match self.groups.get_mut(id) {
                _ if !seen.insert(id) => Err(DeleteGroupError::GroupNotFound),
                None => Err(DeleteGroupError::GroupNotFound),
                Some(group) if !group.live.is_empty() || !group.hard.has_nobody() => {
                    Err(DeleteGroupError::NonEmptyGroup)
                }
                Some(group) => {
                    // Whoever was given an id is told to start anew when it comes back with it.
                    group.live.pending.clear();
                    group.hard.forget_all(id, &mut out.records);
                    self.settle(id);
                    Ok(())
                }
            };
            results.push((Arc::clone(id), result));
        }
        out.reply(ticket, Reply::DeleteGroups(results));
    }

    /// One step of the round that looks for expired offsets.
    fn expire_offsets(&mut self, at: Moment, out: &mut Effects) {
        let from = match self.expiry.after.take() {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let mut looks = 0_usize;
        let mut void = Vec::new();
        for (id, group) in self.groups.range((from, Bound::Unbounded)) {
            if looks >= EXPIRY_LOOKS_MAX {
                break;
            }
            looks = looks.saturating_add(group.hard.offsets_count()).saturating_add(1);
            let retention = self.settings.offsets_retention;
            let nothing_left = group.hard.expire(&group.live, at.wall, retention, &mut out.records);
            if nothing_left && group.live.is_idle() && group.hard.has_nobody() {
                group.hard.forget_group(id, &mut out.records);
                void.push(Arc::clone(id));
            }
            self.expiry.after = Some(Arc::clone(id));
        }
        for id in void {
            self.settle(&id);
        }
        if looks < EXPIRY_LOOKS_MAX {
            self.expiry.after = None;
            self.expiry.at = at.now.plus(self.settings.expiry_interval);
        }
    }

    /// The group, made if there is none.
    pub(super) fn entry(&mut self, id: &Arc<str>) -> &mut Group {
        self.groups.entry(Arc::clone(id)).or_insert_with(|| Group {
            hard: Hard::default(),
            live: Live::new(Arc::clone(id)),
            scheduled: None,
            times: Times::default(),
            soft: Soft::default(),
            begins: false,
        })
    }

    /// After anything that may have changed a group: sets its timer, or forgets a group of which
    /// nothing is left.
    pub(super) fn settle(&mut self, id: &Arc<str>) {
        let Some(group) = self.groups.get_mut(id) else { return };
        if group.hard.is_void() && group.live.is_idle() && !group.begins {
            if let Some(at) = group.scheduled {
                self.timers.remove(&(at, Arc::clone(id)));
            }
            self.groups.remove(id);
            return;
        }
        let wakes = [group.live.wake, group.times.wake(), group.soft.wake()];
        let Some(wake) = wakes.into_iter().flatten().min() else { return };
        if group.scheduled.is_none_or(|at| wake < at) {
            if let Some(at) = group.scheduled.replace(wake) {
                self.timers.remove(&(at, Arc::clone(id)));
            }
            self.timers.insert((wake, Arc::clone(id)));
        }
    }
}

impl Group {
    fn listed(&self, id: &Arc<str>) -> Listed {
        let group = Arc::clone(id);
        if let Some(consumer) = &self.hard.consumer {
            let protocol_type = Arc::from(subscription::PROTOCOL_TYPE);
            let group_type = GroupType::Consumer;
            return Listed { group, protocol_type, state: consumer.state(), group_type };
        }
        if let Some(streams) = &self.hard.streams {
            let protocol_type = Arc::from(STREAMS_PROTOCOL_TYPE);
            let group_type = GroupType::Streams;
            return Listed { group, protocol_type, state: streams.state(), group_type };
        }
        Listed {
            group,
            protocol_type: self.live.protocol_type.clone().unwrap_or_else(|| Arc::from("")),
            state: self.live.state(),
            group_type: GroupType::Classic,
        }
    }
}

/// What a record of a transaction says: an offset, always.
#[expect(clippy::type_complexity, reason = "named at each use")]
fn staged(
    record: &StoredRecord,
) -> Result<Option<(Arc<str>, Arc<str>, i32, StoredOffset)>, ReplayError> {
    match Fact::decode(record)? {
        None => Ok(None),
        Some(Fact::Offset { group, topic, partition, value: Some(offset) }) => {
            Ok(Some((group, topic, partition, offset)))
        }
        Some(_) => Err(ReplayError(DecodeError::Invalid { field: "record within a transaction" })),
    }
}

/// Whether records can hold what a member says of itself.
fn is_storable(join: &Join) -> bool {
    [&join.group, &join.member, &join.client_id, &join.client_host, &join.protocol_type]
        .into_iter()
        .chain(&join.instance)
        .chain(join.protocols.iter().map(|protocol| &protocol.name))
        .all(|text| text.len() <= TEXT_LEN_MAX)
}
