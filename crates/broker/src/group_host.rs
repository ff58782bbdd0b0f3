//! Hosts the group coordinator: one shard per partition of `__consumer_offsets`.
//!
//! A shard is pure state behind a lock. What it wants written is appended under that lock and
//! replayed at once; replies leave with the position that they depend on, and go out when it is
//! durable. One task serves the timers of all shards.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use millstream_coordinator::group::{
    Command, ConsumerDescription, Description, Effects, FetchRefused, FetchTopic, Fetched,
    GroupSettings, Groups, ListFilter, Listed, Loading, Reader, ReplayError, Reply, StoredRecord,
    StreamsDescription, Ticket, Topology, World, partition_of,
};
use millstream_env::Env;
use millstream_log::{AppendError, Log, Partition, SessionOver};
use millstream_record::control::{EndTransaction, Outcome};
use millstream_types::{Lsn, Monotonic, Offset, ProducerEpoch, ProducerId};
use tokio::sync::oneshot;
use tracing::{debug, info};

use crate::host::{self, LoadError, Replays, Sleep, Timers, lock};
use crate::topics::Topic;

/// Why a marker is not written yet.
#[derive(Debug, thiserror::Error)]
pub(crate) enum MarkerError {
    /// The groups are not loaded.
    #[error("the groups are not loaded yet")]
    NotReady,
    /// The log does not take it now.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Why a group can't be served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// The coordinator has not been set up yet: ask for it first.
    #[error("the group coordinator is not available yet")]
    NotReady,
    /// What the answer depends on did not become durable.
    #[error("the session of the log is over")]
    SessionOver,
}

/// The group coordinator of this node.
#[derive(Debug)]
pub(crate) struct GroupHost {
    env: Env,
    log: Log,
    world: Arc<dyn World>,
    shards: OnceLock<Vec<Shard>>,
    tickets: AtomicU64,
    /// Whether another host serves from now on. Set before the shards are locked one by one.
    ended: AtomicBool,
    timers: Timers,
}

#[derive(Debug)]
struct Shard {
    partition: Partition,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    groups: Groups,
    waiting: HashMap<Ticket, oneshot::Sender<(Reply, Lsn)>>,
    /// The end of the newest record that the state contains.
    newest: Lsn,
}

impl GroupHost {
    pub(crate) fn new(env: Env, log: Log, world: Arc<dyn World>) -> Self {
        Self {
            env,
            log,
            world,
            shards: OnceLock::new(),
            tickets: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            timers: Timers::new(),
        }
    }

    /// Whether the shards are there.
    pub(crate) fn is_ready(&self) -> bool {
        self.shards.get().is_some()
    }

    /// Loads the shards from the partitions of `topic`. Does nothing the second time.
    pub(crate) async fn load(
        &self,
        topic: &Topic,
        settings: &GroupSettings,
    ) -> Result<(), LoadError> {
        if self.is_ready() {
            return Ok(());
        }
        let settings = &of_shard(settings, topic.partitions().len());
        let mut shards = Vec::with_capacity(topic.partitions().len());
        for partition in topic.partitions() {
            let mut loading = Loading::new();
            host::load(partition, &mut loading).await?;
            let (now, wall) = (self.env.clock.monotonic(), self.env.clock.wall());
            let world = Arc::clone(&self.world);
            let (groups, effects) = loading.finish(*settings, world, now, wall);
            let state = State { groups, waiting: HashMap::new(), newest: Lsn(0) };
            let shard = Shard { partition: partition.clone(), state: Mutex::new(state) };
            self.carry_out(&shard, &mut lock(&shard.state), effects);
            shards.push(shard);
        }
        info!(shards = shards.len(), "group coordinator loaded");
        // A second loader has read the same; whoever came first stays.
        let _ = self.shards.set(shards);
        self.timers.wake();
        Ok(())
    }

    /// Has a command carried out and waits for its reply to be durable.
    pub(crate) async fn call(&self, group: &str, command: Command) -> Result<Reply, GroupsError> {
        let receiver = {
            let shard = self.shard(group)?;
            let mut state = lock(&shard.state);
            if self.ended.load(Ordering::SeqCst) {
                return Err(GroupsError::SessionOver);
            }
            let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
            let (sender, receiver) = oneshot::channel();
            state.waiting.insert(ticket, sender);
            let (now, wall) = (self.env.clock.monotonic(), self.env.clock.wall());
            let effects = state.groups.handle(now, wall, command, ticket);
            self.carry_out(shard, &mut state, effects);
            receiver
        };
        let (reply, newest) = receiver.await.map_err(|_| GroupsError::SessionOver)?;
        self.durable(newest).await?;
        Ok(reply)
    }

    /// Committed offsets of a group.
    pub(crate) async fn fetch_offsets(
        &self,
        group: &str,
        reader: &Reader,
        topics: Option<&[FetchTopic]>,
        require_stable: bool,
    ) -> Result<Result<Vec<(Arc<str>, Vec<Fetched>)>, FetchRefused>, GroupsError> {
        let fetch = |groups: &Groups| {
            groups.check_fetch(group, reader)?;
            Ok(groups.fetch_offsets(group, topics, require_stable))
        };
        self.look(group, fetch).await
    }

    /// A consumer group's state and members.
    pub(crate) async fn describe_consumer(
        &self,
        group: &str,
    ) -> Result<Option<ConsumerDescription>, GroupsError> {
        self.look(group, |groups| groups.describe_consumer(group)).await
    }

    /// A streams group's state, topology and members.
    pub(crate) async fn describe_streams(
        &self,
        group: &str,
    ) -> Result<Option<StreamsDescription>, GroupsError> {
        self.look(group, |groups| groups.describe_streams(group)).await
    }

    /// A streams group's topology.
    pub(crate) async fn streams_topology(
        &self,
        group: &str,
    ) -> Result<Option<Arc<Topology>>, GroupsError> {
        self.look(group, |groups| groups.streams_topology(group)).await
    }

    /// A group's state and members.
    pub(crate) async fn describe(&self, group: &str) -> Result<Option<Description>, GroupsError> {
        self.look(group, |groups| groups.describe(group)).await
    }

    /// All groups that `filter` lets through. None when no group has been seen yet.
    pub(crate) async fn list(&self, filter: &ListFilter) -> Result<Vec<Listed>, GroupsError> {
        let mut listed = Vec::new();
        let mut newest = Lsn(0);
        for shard in self.shards.get().into_iter().flatten() {
            let state = lock(&shard.state);
            listed.extend(state.groups.list(filter));
            newest = newest.max(state.newest);
        }
        self.durable(newest).await?;
        Ok(listed)
    }

    /// Every committed offset, as of now and perhaps not durable yet: for figures only.
    pub(crate) fn committed(&self) -> Vec<(Arc<str>, Arc<str>, i32, Offset)> {
        let mut all = Vec::new();
        for shard in self.shards.get().into_iter().flatten() {
            let state = lock(&shard.state);
            for listed in state.groups.list(&ListFilter::default()) {
                for (topic, partitions) in state.groups.fetch_offsets(&listed.group, None, false) {
                    all.extend(partitions.into_iter().filter_map(|partition| {
                        let offset = partition.committed.ok().flatten()?.offset;
                        Some((listed.group.clone(), topic.clone(), partition.index, offset))
                    }));
                }
            }
        }
        all
    }

    /// The topics that groups have committed offsets of.
    pub(crate) fn committed_topics(&self) -> BTreeSet<Arc<str>> {
        self.committed().into_iter().map(|(_, topic, _, _)| topic).collect()
    }

    /// Ends the host, when that of the next session has taken its place: whoever waits is told to
    /// ask again.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        for shard in self.shards.get().into_iter().flatten() {
            lock(&shard.state).waiting.clear();
        }
        self.timers.wake();
    }

    /// Forgets the offsets of a topic that has been deleted.
    pub(crate) fn topic_deleted(&self, topic: &Arc<str>) {
        for shard in self.shards.get().into_iter().flatten() {
            let mut state = lock(&shard.state);
            let effects = state.groups.topic_deleted(topic);
            self.carry_out(shard, &mut state, effects);
        }
    }

    /// Waits until everything that was written so far is durable, or the session is over: the next one
    /// goes by what is stored then.
    pub(crate) async fn settle(&self) {
        let shards = self.shards.get().into_iter().flatten();
        let newest = shards.map(|shard| lock(&shard.state).newest).max().unwrap_or_default();
        if self.durable(newest).await.is_err() {
            debug!("the session ended before the groups' records were durable");
        }
    }

    /// Follows a change of settings.
    pub(crate) fn configure(&self, settings: &GroupSettings) {
        let shards = self.shards.get().map_or(&[][..], Vec::as_slice);
        let settings = of_shard(settings, shards.len());
        for shard in shards {
            lock(&shard.state).groups.configure(settings);
        }
        self.timers.wake();
    }

    /// Completes when a timer may be due; borrows nothing.
    pub(crate) fn next_timer(&self) -> Sleep {
        self.timers.next(&self.env, || self.next_deadline())
    }

    fn next_deadline(&self) -> Option<Monotonic> {
        let shards = self.shards.get().into_iter().flatten();
        shards.filter_map(|shard| lock(&shard.state).groups.next_deadline()).min()
    }

    /// Does what is due.
    pub(crate) fn tick(&self) {
        let (now, wall) = (self.env.clock.monotonic(), self.env.clock.expiry());
        for shard in self.shards.get().into_iter().flatten() {
            let mut state = lock(&shard.state);
            if state.groups.next_deadline().is_some_and(|deadline| deadline <= now) {
                let effects = state.groups.tick(now, wall);
                self.carry_out(shard, &mut state, effects);
            }
        }
    }

    async fn look<T>(
        &self,
        group: &str,
        look: impl FnOnce(&Groups) -> T,
    ) -> Result<T, GroupsError> {
        let (answer, newest) = {
            let state = lock(&self.shard(group)?.state);
            (look(&state.groups), state.newest)
        };
        self.durable(newest).await?;
        Ok(answer)
    }

    async fn durable(&self, newest: Lsn) -> Result<(), GroupsError> {
        let waited = self.log.wait_durable(newest).await;
        waited.map_err(|_: SessionOver| GroupsError::SessionOver)
    }

    fn shard(&self, group: &str) -> Result<&Shard, GroupsError> {
        let shards = self.shards.get().ok_or(GroupsError::NotReady)?;
        let count = i32::try_from(shards.len()).unwrap_or(i32::MAX);
        let index = usize::try_from(partition_of(group, count)).unwrap_or_default();
        shards.get(index).ok_or(GroupsError::NotReady)
    }

    fn carry_out(&self, shard: &Shard, state: &mut State, effects: Effects) {
        let wall = self.env.clock.wall();
        let kept = (&mut state.groups, &mut state.newest);
        let effects =
            match host::append(wall, &shard.partition, &effects.records, effects.within, kept) {
                Ok(()) => effects,
                Err(why) => {
                    let now = self.env.clock.monotonic();
                    state.groups.append_failed(now, wall, effects, why)
                }
            };
        for (ticket, reply) in effects.replies {
            if let Some(waiter) = state.waiting.remove(&ticket) {
                // Nobody listens any more when the connection has gone.
                let _ = waiter.send((reply, state.newest));
            }
        }
        self.timers.deadline(state.groups.next_deadline());
    }

    /// Ends a producer's transaction in partition `index`: what it has committed there counts, or is
    /// dropped. Returns what must be durable for that to be so.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    pub(crate) fn end_transaction(
        &self,
        index: i32,
        producer: (ProducerId, ProducerEpoch),
        end: EndTransaction,
    ) -> Result<Lsn, MarkerError> {
        let shards = self.shards.get().ok_or(MarkerError::NotReady)?;
        let Some(shard) = usize::try_from(index).ok().and_then(|index| shards.get(index)) else {
            return Err(AppendError::NotLeader.into());
        };
        let mut state = lock(&shard.state);
        let wall = self.env.clock.wall();
        let newest = host::append_marker(wall, &shard.partition, producer, end)?;
        state.newest = newest;
        state.groups.end_transaction(producer.0, end.outcome == Outcome::Commit);
        Ok(newest)
    }
}

/// What holds for one of `shards`: groups are spread over them by their names' hashes.
fn of_shard(settings: &GroupSettings, shards: usize) -> GroupSettings {
    let groups_max = settings.groups_max.div_ceil(shards.max(1));
    GroupSettings { groups_max, ..*settings }
}

impl Replays for Loading {
    fn record(
        &mut self,
        record: &StoredRecord,
        within: Option<ProducerId>,
    ) -> Result<(), ReplayError> {
        match within {
            None => self.replay(record),
            Some(producer) => self.replay_within(producer, record),
        }
    }

    fn end(&mut self, producer: ProducerId, commit: bool) {
        self.end_transaction(producer, commit);
    }
}

impl Replays for Groups {
    fn record(
        &mut self,
        record: &StoredRecord,
        within: Option<ProducerId>,
    ) -> Result<(), ReplayError> {
        match within {
            None => self.replay(record),
            Some(producer) => self.replay_within(producer, record),
        }
    }

    fn end(&mut self, producer: ProducerId, commit: bool) {
        self.end_transaction(producer, commit);
    }
}
