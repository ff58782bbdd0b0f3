//! Hosts the coordinator of transactions: one shard per partition of `__transaction_state`.
//!
//! Everything that ends a transaction is done under the shard's lock, in one go: the decision is
//! appended, then the markers, then that they are written. All of it goes to one journal, in that
//! order, so that a crash keeps a marker only together with the decision; one flush makes an end
//! durable, and nobody who waits for that sees a transaction between its states.
//!
//! Order of locks: shard of transactions, shard of groups, partition.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

use millstream_coordinator::txn::{
    Command, Description, Effects, InitError, ListFilter, Listed, Loading, MarkerOrder,
    ReplayError, Reply, StoredRecord, Transactions, TxnSettings, partition_of,
};
use millstream_env::Env;
use millstream_log::{AppendError, FirstSequence, Log, Partition, SessionOver};
use millstream_record::control::{EndTransaction, Outcome};
use millstream_types::{Lsn, ProducerId};
use tracing::{info, warn};

use crate::group_host::MarkerError;
use crate::host::{self, LoadError, Replays, Sleep, Timers, lock};
use crate::life::Life;
use crate::topics::{Topic, TopicRef};

/// Why a transaction can't be served now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TxnError {
    /// The coordinator has not been set up yet: ask for it first.
    #[error("the coordinator of transactions is not available yet")]
    NotReady,
    /// What the answer depends on did not become durable.
    #[error("the session of the log is over")]
    SessionOver,
    /// There is no new producer id to be had.
    #[error("no producer id can be had now: the metadata can't be written")]
    NoProducerId,
}

/// The coordinator of transactions of this node.
#[derive(Debug)]
pub(crate) struct TxnHost {
    env: Env,
    log: Log,
    shards: OnceLock<Vec<Shard>>,
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
    transactions: Transactions,
    /// The end of the newest record that the state contains, or marker that it has had written.
    newest: Lsn,
}

impl TxnHost {
    pub(crate) fn new(env: Env, log: Log) -> Self {
        let (shards, timers) = (OnceLock::new(), Timers::new());
        Self { env, log, shards, ended: AtomicBool::new(false), timers }
    }

    /// Whether the shards are there.
    pub(crate) fn is_ready(&self) -> bool {
        self.shards.get().is_some()
    }

    /// Loads the shards from the partitions of `topic`, enlists what is open, and writes the markers
    /// that were not written. Does nothing the second time.
    pub(crate) async fn load(
        &self,
        life: &Life,
        topic: &Topic,
        settings: &TxnSettings,
    ) -> Result<(), LoadError> {
        if self.is_ready() {
            return Ok(());
        }
        let settings = of_shard(settings, topic.partitions().len());
        let mut shards = Vec::with_capacity(topic.partitions().len());
        for partition in topic.partitions() {
            let mut loading = Loading::new();
            host::load(partition, &mut loading).await?;
            let (now, wall) = (self.env.clock.monotonic(), self.env.clock.wall());
            let transactions = loading.finish(settings, now, wall);
            for open in transactions.ongoing() {
                let first = first_sequence(open.v2);
                life.enlist(&open.partitions, |one| one.enlist(open.producer, open.epoch, first));
            }
            let state = State { transactions, newest: Lsn(0) };
            shards.push(Shard { partition: partition.clone(), state: Mutex::new(state) });
        }
        info!(shards = shards.len(), "coordinator of transactions loaded");
        // A second loader has read the same; whoever came first stays.
        if self.shards.set(shards).is_ok() {
            for shard in self.shards.get().into_iter().flatten() {
                self.end_decided(life, shard, &mut lock(&shard.state));
            }
        }
        self.timers.wake();
        Ok(())
    }

    /// Has a command carried out and waits for its reply to be durable.
    pub(crate) async fn call(
        &self,
        life: &Life,
        id: &str,
        command: Command,
    ) -> Result<Reply, TxnError> {
        let (reply, newest) = self.call_now(life, id, &command)?;
        self.durable(newest).await?;
        Ok(reply)
    }

    /// Has a command carried out. Its reply may be told to others when the position is durable.
    pub(crate) fn call_now(
        &self,
        life: &Life,
        id: &str,
        command: &Command,
    ) -> Result<(Reply, Lsn), TxnError> {
        let shard = self.shard(id)?;
        let mut state = lock(&shard.state);
        if self.ended.load(Ordering::SeqCst) {
            return Err(TxnError::SessionOver);
        }
        let reply = self.carry_out(life, shard, &mut state, command);
        self.timers.deadline(state.transactions.next_deadline());
        Ok((reply, state.newest))
    }

    /// A transactional id; `None` when it is not known.
    pub(crate) async fn describe(&self, id: &str) -> Result<Option<Description>, TxnError> {
        let (found, newest) = {
            let state = lock(&self.shard(id)?.state);
            (state.transactions.describe(id), state.newest)
        };
        self.durable(newest).await?;
        Ok(found)
    }

    /// All transactional ids that `filter` lets through and that are `wanted`. None when none has been
    /// seen yet.
    pub(crate) async fn list(
        &self,
        filter: &ListFilter,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Vec<Listed>, TxnError> {
        let (mut listed, mut newest) = (Vec::new(), Lsn(0));
        let wall = self.env.clock.wall();
        for shard in self.shards.get().into_iter().flatten() {
            let state = lock(&shard.state);
            listed.extend(state.transactions.list(filter, &wanted, wall));
            newest = newest.max(state.newest);
        }
        self.durable(newest).await?;
        Ok(listed)
    }

    /// Follows a change of settings.
    pub(crate) fn configure(&self, settings: &TxnSettings) {
        let shards = self.shards.get().map_or(&[][..], Vec::as_slice);
        let settings = of_shard(settings, shards.len());
        for shard in shards {
            lock(&shard.state).transactions.configure(settings);
        }
        self.timers.wake();
    }

    /// Ends the host, when that of the next session has taken its place.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.timers.wake();
    }

    /// Completes when a timer may be due; borrows nothing.
    pub(crate) fn next_timer(&self) -> Sleep {
        let next = || {
            let shards = self.shards.get().into_iter().flatten();
            shards.filter_map(|shard| lock(&shard.state).transactions.next_deadline()).min()
        };
        self.timers.next(&self.env, next)
    }

    /// Does what is due: aborts what is too old, writes the markers that could not be written.
    pub(crate) fn tick(&self, life: &Life) {
        let now = self.env.clock.monotonic();
        if self.ended.load(Ordering::SeqCst) {
            return;
        }
        for shard in self.shards.get().into_iter().flatten() {
            let mut state = lock(&shard.state);
            if state.transactions.next_deadline().is_some_and(|deadline| deadline <= now) {
                let effects = state.transactions.tick(now, self.env.clock.expiry());
                self.append(shard, &mut state, effects);
                self.end_decided(life, shard, &mut state);
            }
        }
    }

    /// Carries a command out, and what follows from it.
    fn carry_out(&self, life: &Life, shard: &Shard, state: &mut State, command: &Command) -> Reply {
        let mut reply = self.apply(shard, state, command.clone());
        match (command, &reply) {
            (Command::AddPartitions(add), Reply::AddPartitions(Ok(_))) if !add.verify_only => {
                let first = first_sequence(add.v2);
                life.enlist(&add.partitions, |one| one.enlist(add.producer, add.epoch, first));
            }
            // What is in the way has just been aborted, as a rule.
            (Command::Init(init), Reply::Init(Err(InitError::Concurrent)))
                if self.end_order(life, shard, state, state.transactions.order_of(&init.id)) =>
            {
                reply = self.apply(shard, state, command.clone());
            }
            (Command::End(end), Reply::End(Ok(_))) => {
                self.end_order(life, shard, state, state.transactions.order_of(&end.id));
            }
            _ => {}
        }
        reply
    }

    fn apply(&self, shard: &Shard, state: &mut State, command: Command) -> Reply {
        let (now, wall) = (self.env.clock.monotonic(), self.env.clock.wall());
        let effects = state.transactions.handle(now, wall, command);
        // A command is always answered.
        self.append(shard, state, effects).unwrap_or(Reply::NeedsProducerId)
    }

    fn append(&self, shard: &Shard, state: &mut State, effects: Effects) -> Option<Reply> {
        let wall = self.env.clock.wall();
        let kept = (&mut state.transactions, &mut state.newest);
        match host::append(wall, &shard.partition, &effects.records, None, kept) {
            Ok(()) => effects.reply,
            Err(why) => state.transactions.append_failed(effects, why).reply,
        }
    }

    /// Writes the markers of everything that is decided.
    fn end_decided(&self, life: &Life, shard: &Shard, state: &mut State) {
        for order in state.transactions.orders() {
            self.end_order(life, shard, state, Some(order));
        }
    }

    /// Writes the markers of one transaction. Whether it is complete then; otherwise a timer tries
    /// again.
    fn end_order(
        &self,
        life: &Life,
        shard: &Shard,
        state: &mut State,
        order: Option<MarkerOrder>,
    ) -> bool {
        let Some(order) = order else { return false };
        let coordinator_epoch = shard.partition.ends().epoch.0;
        match self.write_markers(life, &order, coordinator_epoch) {
            Ok(newest) => state.newest = state.newest.max(newest),
            Err(error) => {
                warn!(id = %order.id, %error, "a transaction's markers are not written yet");
                return false;
            }
        }
        let (id, producer, epoch) = (order.id, order.producer, order.epoch);
        let reply = self.apply(shard, state, Command::Marked { id, producer, epoch });
        matches!(reply, Reply::Marked(Ok(())))
    }

    fn write_markers(
        &self,
        life: &Life,
        order: &MarkerOrder,
        coordinator_epoch: i32,
    ) -> Result<Lsn, MarkerError> {
        let outcome = if order.commit { Outcome::Commit } else { Outcome::Abort };
        let end = EndTransaction { outcome, coordinator_epoch };
        let mut newest = Lsn(0);
        for (topic, index) in &order.partitions {
            let Some(found) = life.topics.find(TopicRef::Name(topic)) else { continue };
            let Some(partition) = found.partition(*index) else { continue };
            // Written before, in an attempt that failed elsewhere; or nothing came before a restart.
            if !partition.awaits_marker(order.producer) {
                continue;
            }
            let producer = (order.producer, order.epoch);
            match life.end_in(&found, *index, producer, end) {
                Ok(marker) => newest = newest.max(marker),
                // Somebody with more to say has ended it, or the partition has just gone.
                Err(MarkerError::Append(
                    error @ (AppendError::InvalidProducerEpoch { .. }
                    | AppendError::CoordinatorFenced { .. }
                    | AppendError::NotLeader),
                )) => warn!(id = %order.id, %topic, index, %error, "no marker is needed"),
                Err(error) => return Err(error),
            }
        }
        Ok(newest)
    }

    async fn durable(&self, newest: Lsn) -> Result<(), TxnError> {
        let waited = self.log.wait_durable(newest).await;
        waited.map_err(|_: SessionOver| TxnError::SessionOver)
    }

    fn shard(&self, id: &str) -> Result<&Shard, TxnError> {
        let shards = self.shards.get().ok_or(TxnError::NotReady)?;
        let count = i32::try_from(shards.len()).unwrap_or(i32::MAX);
        let index = usize::try_from(partition_of(id, count)).unwrap_or_default();
        shards.get(index).ok_or(TxnError::NotReady)
    }
}

/// Each transaction of the second protocol has an epoch of its own.
const fn first_sequence(v2: bool) -> FirstSequence {
    if v2 { FirstSequence::Zero } else { FirstSequence::Any }
}

/// What holds for one of `shards`: ids are spread over them by their hashes.
fn of_shard(settings: &TxnSettings, shards: usize) -> TxnSettings {
    TxnSettings { ids_max: settings.ids_max.div_ceil(shards.max(1)), ..*settings }
}

impl Replays for Loading {
    fn record(&mut self, record: &StoredRecord, _: Option<ProducerId>) -> Result<(), ReplayError> {
        self.replay(record)
    }

    fn end(&mut self, _: ProducerId, _: bool) {}
}

impl Replays for Transactions {
    fn record(&mut self, record: &StoredRecord, _: Option<ProducerId>) -> Result<(), ReplayError> {
        self.replay(record)
    }

    fn end(&mut self, _: ProducerId, _: bool) {}
}
