//! A host in miniature: it appends, replays, sends replies, keeps the time, crashes; and after every
//! step it checks what must always hold.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{Monotonic, ProducerEpoch, ProducerId, Timestamp};

use super::super::live::Phase;
use super::super::*;

/// The wall clock when a test begins.
pub(super) const START: Timestamp = Timestamp(1_700_000_000_000);

/// What is in the partition.
#[derive(Clone, Debug)]
pub(super) enum Logged {
    Record(StoredRecord),
    Within(ProducerId, StoredRecord),
    End(ProducerId, bool),
}

/// What a restart makes of the partition.
pub(super) fn load(log: &[Logged]) -> Loading {
    let mut loading = Loading::new();
    for logged in log {
        match logged {
            Logged::Record(record) => loading.replay(record).unwrap(),
            Logged::Within(producer, record) => loading.replay_within(*producer, record).unwrap(),
            Logged::End(producer, commit) => loading.end_transaction(*producer, *commit),
        }
    }
    loading
}

#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) groups: Groups,
    pub(super) settings: GroupSettings,
    pub(super) world: Arc<dyn World>,
    pub(super) now: Monotonic,
    pub(super) log: Vec<Logged>,
    pub(super) answers: BTreeMap<Ticket, Reply>,
    pub(super) open: BTreeSet<Ticket>,
    /// The next append fails.
    pub(super) fails: Option<HostFailure>,
    /// Groups whose last append failed: memory and log need not agree.
    disagreeing: BTreeSet<Arc<str>>,
    generations: BTreeMap<Arc<str>, i32>,
    epochs: BTreeMap<Arc<str>, (i32, i32)>,
    tickets: u64,
}

impl Host {
    pub(super) fn new(settings: GroupSettings) -> Self {
        Self {
            groups: Groups::new(settings, Monotonic(0)),
            settings,
            world: Arc::new(NoWorld),
            now: Monotonic(0),
            log: Vec::new(),
            answers: BTreeMap::new(),
            open: BTreeSet::new(),
            fails: None,
            disagreeing: BTreeSet::new(),
            generations: BTreeMap::new(),
            epochs: BTreeMap::new(),
            tickets: 0,
        }
    }

    pub(super) fn wall(&self) -> Timestamp {
        START.plus(Duration::from_nanos(self.now.0))
    }

    /// A host whose groups see `world`.
    pub(super) fn within(world: Arc<dyn World>, settings: GroupSettings) -> Self {
        let mut host = Self::new(settings);
        host.world = world;
        host.groups = host.reload().0;
        host
    }

    pub(super) fn send(&mut self, command: Command) -> Ticket {
        self.tickets += 1;
        let ticket = Ticket(self.tickets);
        self.open.insert(ticket);
        let effects = self.groups.handle(self.now, self.wall(), command, ticket);
        self.carry_out(effects);
        ticket
    }

    /// Lets time pass, with a tick whenever one is due.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now.plus(by);
        while let Some(due) = self.groups.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.tick();
        }
        self.now = end;
    }

    /// Lets time pass until the next thing is due, and does it.
    pub(super) fn tick(&mut self) {
        if let Some(due) = self.groups.next_deadline() {
            self.now = self.now.max(due);
        }
        let effects = self.groups.tick(self.now, self.wall());
        self.carry_out(effects);
    }

    pub(super) fn delete_topic(&mut self, topic: &str) {
        let effects = self.groups.topic_deleted(&Arc::from(topic));
        self.carry_out(effects);
    }

    /// A marker of the coordinator of transactions.
    pub(super) fn end_transaction(&mut self, producer: ProducerId, commit: bool) {
        self.log.push(Logged::End(producer, commit));
        self.groups.end_transaction(producer, commit);
        self.check();
    }

    /// Stores offsets within a transaction.
    pub(super) fn commit_within(&mut self, producer: i64, commit: Commit) -> Ticket {
        self.send(Command::CommitWithin(ProducerId(producer), ProducerEpoch(0), commit))
    }

    /// What is in memory is lost; what is in the log is not.
    pub(super) fn crash(&mut self) {
        let fresh = Groups::new(self.settings, self.now);
        let farewell = std::mem::replace(&mut self.groups, fresh).resign();
        self.deliver(farewell);
        self.generations.clear();
        self.disagreeing.clear();
        let (groups, effects) = self.reload();
        self.groups = groups;
        self.carry_out(effects);
    }

    /// What a restart would find now.
    pub(super) fn reload(&self) -> (Groups, Effects) {
        load(&self.log).finish(self.settings, Arc::clone(&self.world), self.now, self.wall())
    }

    fn carry_out(&mut self, effects: Effects) {
        assert_eq!(effects.next_deadline, self.groups.next_deadline(), "effects name the deadline");
        if !effects.records.is_empty()
            && let Some(why) = self.fails.take()
        {
            for record in &effects.records {
                if let Ok(Some(record::Fact::Group { group, .. })) = record::Fact::decode(record) {
                    self.disagreeing.insert(group);
                }
            }
            let wall = self.wall();
            let after = self.groups.append_failed(self.now, wall, effects, why);
            assert!(after.records.is_empty(), "a failure needs no append");
            return self.carry_out(after);
        }
        for record in &effects.records {
            if let Ok(Some(record::Fact::Group { group, .. })) = record::Fact::decode(record) {
                self.disagreeing.remove(&group);
            }
            let record = record.clone();
            self.log.push(match effects.within {
                None => {
                    self.groups.replay(&record).unwrap();
                    Logged::Record(record)
                }
                Some((producer, _)) => {
                    self.groups.replay_within(producer, &record).unwrap();
                    Logged::Within(producer, record)
                }
            });
        }
        self.deliver(effects);
        self.check();
    }

    fn deliver(&mut self, effects: Effects) {
        for (ticket, reply) in effects.replies {
            assert!(self.open.remove(&ticket), "{ticket:?} is answered once: {reply:?}");
            self.answers.insert(ticket, reply);
        }
    }

    /// What must hold after every step.
    pub(super) fn check(&mut self) {
        let mut parked = BTreeSet::new();
        let mut timers = BTreeSet::new();
        for (id, group) in &self.groups.groups {
            let live = &group.live;
            let consumer = group.hard.consumer.iter().map(|it| (it.group.epoch, it.target.epoch));
            let streams = group.hard.streams.iter().map(|it| (it.group.epoch, it.target.epoch));
            if let Some(now) = consumer.chain(streams).next() {
                let known = self.epochs.insert(Arc::clone(id), now);
                assert!(
                    known.is_none_or(|known| known.0 <= now.0 && known.1 <= now.1),
                    "epochs rise"
                );
            } else {
                self.epochs.remove(id);
            }
            live.members.check();
            for (_, member) in live.members.iter() {
                parked.extend(member.parked());
            }
            check_leader(live);
            check_waiting(live);
            assert!(
                !group.hard.is_void() || !live.is_idle(),
                "a group of which nothing is left is forgotten: {id}"
            );
            self.check_consumers(id, group);
            check_streams(id, group);
            let deadline = live.earliest_deadline();
            assert!(
                deadline.is_none_or(|due| group.scheduled.is_some_and(|at| at <= due)),
                "nobody waits for ever: {live:?}"
            );
            timers.extend(group.scheduled.map(|at| (at, Arc::clone(id))));
            let settled = matches!(live.phase, Phase::Stable | Phase::Empty);
            if let Some(stored) = group.hard.stored.as_ref()
                && settled
                && !self.disagreeing.contains(id)
            {
                assert_eq!(*stored, live.to_stored(), "a settled group is what its record says");
            }
            if !group.hard.is_classic() {
                self.generations.remove(id);
                continue;
            }
            let known = self.generations.insert(Arc::clone(id), live.generation);
            assert!(known.is_none_or(|known| known <= live.generation), "generations rise");
        }
        self.generations.retain(|id, _| self.groups.groups.contains_key(id));
        self.epochs.retain(|id, _| self.groups.groups.contains_key(id));
        assert_eq!(self.groups.timers, timers, "one timer per group");
        assert_eq!(parked, self.open, "who is not answered is waiting");
    }
}

impl Host {
    fn check_consumers(&self, id: &Arc<str>, group: &shard::Group) {
        let Some(consumer) = &group.hard.consumer else { return };
        consumer.check();
        assert!(group.live.members.is_empty(), "a group is of one type");
        for member in consumer.members().keys() {
            assert!(group.times.has_session(member), "{member} of {id} is not waited for for ever");
        }
        let wake = group.times.wake();
        assert!(wake.is_none_or(|wake| group.scheduled.is_some_and(|at| at <= wake)));
    }
}

fn check_streams(id: &Arc<str>, group: &shard::Group) {
    let Some(streams) = &group.hard.streams else { return };
    streams.check();
    let alone = group.live.members.is_empty() && group.hard.consumer.is_none();
    assert!(alone, "a group is of one type");
    for member in streams.members().keys() {
        assert!(group.soft.times.has_session(member), "{member} of {id} is waited for");
    }
    let wake = group.soft.wake();
    assert!(wake.is_none_or(|wake| group.scheduled.is_some_and(|at| at <= wake)));
}

fn check_leader(live: &live::Live) {
    match &live.leader {
        Some(leader) => assert!(live.members.get(leader).is_some(), "the leader is a member"),
        None => assert!(live.members.is_empty(), "a group with members has a leader"),
    }
    if live.phase == Phase::Empty {
        assert!(live.members.is_empty() && live.protocol.is_none(), "empty is empty");
    }
    if matches!(live.phase, Phase::Completing | Phase::Stable) {
        let protocol = live.protocol.as_deref().expect("a generation has a protocol");
        assert!(!live.members.is_empty() && live.protocol_type.is_some());
        assert!(live.members.all_speak(protocol), "every member speaks the protocol");
    }
}

fn check_waiting(live: &live::Live) {
    for (id, member) in live.members.iter() {
        let preparing = matches!(live.phase, Phase::Preparing { .. });
        assert!(!member.is_joining() || preparing, "joins wait for the join phase to end");
        assert!(
            member.sync.is_none() || live.phase == Phase::Completing,
            "syncs wait for the leader"
        );
        assert!(member.session_end.is_some() || member.is_waiting(), "silence has an end");
        assert!(!live.pending.contains_key(id), "a member is not pending");
        assert!(
            !member.owes_sync || live.sync_until.is_some(),
            "who owes a sync has until then to send it"
        );
    }
}
