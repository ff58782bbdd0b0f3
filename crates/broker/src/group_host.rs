//! Hosts the group coordinator: one shard per partition of `__consumer_offsets`.
//!
//! A shard is pure state behind a lock. What it wants written is appended under that lock and
//! replayed at once; replies leave with the position that they depend on, and go out when it is
//! durable. One task serves the timers of all shards.

use std::collections::{BTreeSet, HashMap};
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use millstream_coordinator::group::{
    Command, ConsumerDescription, Description, Effects, FetchRefused, FetchTopic, Fetched,
    GroupSettings, Groups, HostFailure, ListFilter, Listed, Loading, Reader, Reply, StoredRecord,
    Ticket, World, partition_of,
};
use millstream_env::Env;
use millstream_log::{AppendError, Isolation, Log, Origin, Partition, ReadError, SessionOver};
use millstream_record::batch::{BatchError, StoredBatch, ValidBatch};
use millstream_record::builder::BatchBuilder;
use millstream_types::limits::{BATCH_BYTES_CEILING, BATCH_BYTES_MAX};
use millstream_types::{DecodeError, Lsn, Monotonic, Offset, Timestamp};
use tokio::sync::{Notify, oneshot};
use tracing::{debug, error, info, warn};

use crate::topics::Topic;

/// How much of a shard's partition is read at once while loading, in bytes.
const LOAD_BYTES: usize = 1024 * 1024;

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

/// Why the groups of a partition could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A batch is not one.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A batch's header is not one.
    #[error(transparent)]
    Header(#[from] DecodeError),
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
    /// A deadline has come nearer than that for which the timers' task sleeps.
    sooner: Arc<Notify>,
    /// That deadline, in nanoseconds; the largest number for none.
    sleeps_until: AtomicU64,
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
            sooner: Arc::default(),
            sleeps_until: AtomicU64::new(u64::MAX),
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
            let loading = read_all(partition).await?;
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
        self.sooner.notify_one();
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
        self.sooner.notify_one();
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
        self.sooner.notify_one();
    }

    /// Completes when a timer may be due; borrows nothing, so that its task need not keep the
    /// broker alive.
    pub(crate) fn next_timer(&self) -> impl Future<Output = ()> + Send + use<> {
        // Announced before it is looked for: what comes in between wakes the task in vain at worst.
        self.sleeps_until.store(u64::MAX, Ordering::Release);
        let deadline = self.next_deadline();
        self.sleeps_until.store(deadline.map_or(u64::MAX, |at| at.0), Ordering::Release);
        let (env, sooner) = (self.env.clone(), Arc::clone(&self.sooner));
        async move {
            match deadline {
                Some(deadline) => tokio::select! {
                    () = env.clock.sleep_until(deadline) => {}
                    () = sooner.notified() => {}
                },
                None => sooner.notified().await,
            }
        }
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
        let effects = match self.append(shard, state, &effects.records) {
            Ok(()) => effects,
            Err(why) => {
                let (now, wall) = (self.env.clock.monotonic(), self.env.clock.wall());
                state.groups.append_failed(now, wall, effects, why)
            }
        };
        for (ticket, reply) in effects.replies {
            if let Some(waiter) = state.waiting.remove(&ticket) {
                // Nobody listens any more when the connection has gone.
                let _ = waiter.send((reply, state.newest));
            }
        }
        let sleeps_until = self.sleeps_until.load(Ordering::Acquire);
        if state.groups.next_deadline().is_some_and(|deadline| deadline.0 < sleeps_until) {
            self.sooner.notify_one();
        }
    }

    /// Appends `records` and replays them. They are one batch, but for those that delete much: of
    /// these, what is stored when the journal refuses the next batch is replayed all the same, so
    /// that the state is what the log says.
    fn append(
        &self,
        shard: &Shard,
        state: &mut State,
        records: &[StoredRecord],
    ) -> Result<(), HostFailure> {
        if records.is_empty() {
            return Ok(());
        }
        let mut rest = records;
        for (batch, count) in batches(records, self.env.clock.wall())? {
            let appended = shard.partition.append(&[batch], Origin::Internal).map_err(failure)?;
            state.newest = appended.end;
            let (stored, later) = rest.split_at(count);
            rest = later;
            for record in stored {
                if let Err(error) = state.groups.replay(record) {
                    error!(%error, "the group coordinator does not understand its own record");
                }
            }
        }
        Ok(())
    }
}

/// What holds for one of `shards`: groups are spread over them by their names' hashes.
fn of_shard(settings: &GroupSettings, shards: usize) -> GroupSettings {
    let groups_max = settings.groups_max.div_ceil(shards.max(1));
    GroupSettings { groups_max, ..*settings }
}

/// The records in as few batches as they need, each with its count of them; deleting a large group
/// makes more than one.
fn batches(
    records: &[StoredRecord],
    wall: Timestamp,
) -> Result<Vec<(ValidBatch, usize)>, HostFailure> {
    let refused = |error| {
        warn!(%error, "group records that the log does not take");
        HostFailure::TooLarge
    };
    let mut batches = Vec::new();
    let (mut batch, mut count) = (BatchBuilder::new(), 0);
    for record in records {
        count += 1;
        let size = batch.append(wall, Some(&record.key), record.value.as_deref(), &[]);
        if size >= BATCH_BYTES_MAX {
            let whole = std::mem::take(&mut batch).build_valid().map_err(refused)?;
            batches.push((whole, std::mem::take(&mut count)));
        }
    }
    if !batch.is_empty() {
        batches.push((batch.build_valid().map_err(refused)?, count));
    }
    Ok(batches)
}

fn failure(error: AppendError) -> HostFailure {
    warn!(%error, "group records were not appended");
    match error {
        AppendError::Full | AppendError::DiskFull => HostFailure::Unavailable,
        _ => HostFailure::NotCoordinator,
    }
}

async fn read_all(partition: &Partition) -> Result<Loading, LoadError> {
    let mut loading = Loading::new();
    let mut next = partition.ends().log_start;
    while next < partition.ends().high_watermark {
        let slice = match partition.read(next, LOAD_BYTES, true, Isolation::Committed).await {
            Err(ReadError::Corrupt { partition, from, upto, why }) if upto > next => {
                // Commits that were only there are older now, and are read again from. That is better
                // than no group at all.
                error!(%partition, %from, %upto, why, "commits of groups are lost");
                next = upto;
                continue;
            }
            read => read?,
        };
        let before = next;
        for stored in slice.batches {
            let header = stored.header()?;
            next = header.last_offset().next();
            if !header.attributes.is_control() {
                replay_batch(&mut loading, &stored, before)?;
            }
        }
        if next == before {
            break;
        }
    }
    Ok(loading)
}

fn replay_batch(loading: &mut Loading, batch: &StoredBatch, at: Offset) -> Result<(), LoadError> {
    let records = batch.records(BATCH_BYTES_CEILING)?;
    for record in &records {
        let record = record?;
        let Some(key) = record.key else { continue };
        let stored = StoredRecord {
            key: bytes::Bytes::copy_from_slice(key),
            value: record.value.map(bytes::Bytes::copy_from_slice),
        };
        if let Err(error) = loading.replay(&stored) {
            // What is not understood is kept in the log and left alone, as Kafka does.
            warn!(%at, %error, "skipped a record of the offsets topic");
        }
    }
    Ok(())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
