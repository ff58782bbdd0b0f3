//! What belongs to one session of the log, and how the next one takes its place.
//!
//! A write or flush of the journal that fails ends its session: nobody can say what of it is on the
//! disk. Whoever waits is told, and what is durable is still read. Then the journal is recovered as
//! after a restart, under a new session, and what clients reach is exchanged in one step, under the
//! lock of the metadata, so that no topic is missed that comes or goes meanwhile. Handles of the old
//! session stay what they were: they refuse, and clients look again.

use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use millstream_coordinator::cluster::{ClusterState, Entry};
use millstream_coordinator::config::{BrokerConfig, Durability};
use millstream_env::{Env, JournalState};
use millstream_log::{AppendError, Log, LogSettings, Partition};
use millstream_record::control::EndTransaction;
use millstream_types::{ClusterId, Lsn, ProducerEpoch, ProducerId, SessionId};
use tracing::{error, info, warn};

use crate::group_host::{GroupHost, MarkerError};
use crate::group_world::GroupWorld;
use crate::host::{self, LoadError};
use crate::metadata::Metadata;
use crate::topics::{OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic, TopicRef, Topics};
use crate::txn_host::TxnHost;
use crate::{Inner, StartError, Stores, configs, former, group_settings, open_session, topics};

/// How long to wait after a first attempt that failed, and at most; each time twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// What belongs to one session.
pub(crate) struct Life {
    env: Env,
    pub(crate) log: Log,
    pub(crate) topics: Arc<Topics>,
    pub(crate) group_world: Arc<GroupWorld>,
    pub(crate) groups: GroupHost,
    pub(crate) transactions: TxnHost,
}

/// The positions in the journal that an answer depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Newest {
    /// It depends on nothing that was just written.
    #[default]
    Nothing,
    /// On everything in the journal of a session up to a position.
    At(SessionId, Lsn),
    /// On more than one session: all but the last are over, and nobody knows what is left of them.
    Torn,
}

impl Newest {
    /// Depends on everything up to `end` of `session`, too.
    pub fn add(&mut self, session: SessionId, end: Lsn) {
        *self = match *self {
            Self::Nothing => Self::At(session, end),
            Self::At(same, before) if same == session => Self::At(session, end.max(before)),
            Self::At(..) | Self::Torn => Self::Torn,
        };
    }

    /// Depends on all that `other` depends on, too.
    pub fn join(&mut self, other: Self) {
        match other {
            Self::Nothing => {}
            Self::At(session, end) => self.add(session, end),
            Self::Torn => *self = Self::Torn,
        }
    }
}

impl Life {
    /// Opens the next session over what is stored: the entry that begins it, then the log.
    pub(crate) async fn open(
        env: &Env,
        stores: &Stores,
        metadata: &Arc<Metadata>,
        config: &BrokerConfig,
        cluster: ClusterId,
    ) -> Result<Self, StartError> {
        let former = metadata.read(former)?;
        open_session(metadata).await?;
        let session = metadata.read(ClusterState::session);
        let specs = metadata.read(|state| topics::specs(state, config));
        let settings = LogSettings {
            tail_bytes: config.tail_bytes,
            cluster,
            journal_may_lose: config.durability == Durability::Os,
            reserve: Arc::clone(&stores.reserve),
            compaction: configs::compaction(config),
            ..LogSettings::default()
        };
        let (journals, blobs) = (Arc::clone(&stores.journals), Arc::clone(&stores.blobs));
        let sink = Arc::clone(metadata);
        let log =
            Log::open(env.clone(), journals, blobs, session, former, specs, sink, settings).await?;
        let group_world = Arc::new(GroupWorld::default());
        let topics = Arc::clone(&group_world.topics);
        metadata.read(|state| {
            topics.load(state, config, &log);
            group_world.load(state);
        });
        let groups = GroupHost::new(env.clone(), log.clone(), Arc::clone(&group_world) as _);
        let transactions = TxnHost::new(env.clone(), log.clone());
        Ok(Self { env: env.clone(), log, topics, group_world, groups, transactions })
    }

    /// Loads the groups, if there is a topic for them.
    pub(crate) async fn load_groups(&self, config: &BrokerConfig) -> Result<(), LoadError> {
        let Some(topic) = self.topics.find(TopicRef::Name(OFFSETS_TOPIC)) else { return Ok(()) };
        self.groups.load(&topic, &group_settings(config)).await?;
        self.forget_deleted();
        self.groups.settle().await;
        Ok(())
    }

    /// Loads the coordinator of transactions, if there is a topic for it. After the groups, which may
    /// have markers to take in.
    pub(crate) async fn load_transactions(&self, config: &BrokerConfig) -> Result<(), LoadError> {
        let topic = self.topics.find(TopicRef::Name(TRANSACTIONS_TOPIC));
        let Some(topic) = topic else { return Ok(()) };
        self.transactions.load(self, &topic, &config.transactions).await
    }

    /// The partitions among `named` that are there, for a transaction to be open in.
    pub(crate) fn enlist(&self, named: &[(Arc<str>, i32)], enlist: impl Fn(&Partition)) {
        for (topic, index) in named {
            let topic = self.topics.find(TopicRef::Name(topic));
            if let Some(partition) = topic.as_ref().and_then(|topic| topic.partition(*index)) {
                enlist(partition);
            }
        }
    }

    /// Ends a producer's transaction in a partition. Returns what must be durable for that to be so.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    pub(crate) fn end_in(
        &self,
        topic: &Topic,
        index: i32,
        producer: (ProducerId, ProducerEpoch),
        end: EndTransaction,
    ) -> Result<Lsn, MarkerError> {
        if topic.name.as_ref() == OFFSETS_TOPIC {
            return self.groups.end_transaction(index, producer, end);
        }
        let partition = topic.partition(index).ok_or(AppendError::NotLeader)?;
        Ok(host::append_marker(self.env.clock.wall(), partition, producer, end)?)
    }

    /// Has groups forget what they have committed on topics that are gone. Who deleted them may not have
    /// been able to write that down: the metadata tell of the topic, the journal of the offsets, and the
    /// power may have gone in between.
    fn forget_deleted(&self) {
        for topic in self.groups.committed_topics() {
            if self.topics.find(TopicRef::Name(&topic)).is_none() {
                self.groups.topic_deleted(&topic);
            }
        }
    }

    /// Follows changes of topics: handles, log, and what groups have committed on them.
    pub(crate) fn follow(&self, state: &ClusterState, entries: &[Entry], config: &BrokerConfig) {
        self.group_world.follow(entries);
        for deleted in self.topics.follow(state, entries, config, &self.log) {
            self.groups.topic_deleted(&deleted.name);
        }
    }

    /// Follows everything that has changed since this was opened.
    fn catch_up(&self, state: &ClusterState, config: &BrokerConfig) {
        self.topics.catch_up(state, config, &self.log);
        self.group_world.load(state);
        self.groups.configure(&group_settings(config));
        self.transactions.configure(&config.transactions);
        self.forget_deleted();
    }

    /// Tells everybody who waits for something here that it will not come.
    fn end(&self) {
        self.log.supersede();
        self.groups.end();
        self.transactions.end();
    }
}

/// Opens the next session whenever one has failed, until the broker is closed or dropped.
pub(crate) async fn watch(broker: Weak<Inner>) {
    loop {
        let Some(inner) = broker.upgrade() else { return };
        let over = inner.life().log.over();
        drop(inner);
        match over.await {
            JournalState::Fenced => {
                error!("another process has taken the journal over: stop this one");
                if let Some(inner) = broker.upgrade() {
                    inner.ready.send_replace(false);
                }
                return;
            }
            // Closed by the broker itself, which the next step finds, or because its follower died.
            JournalState::Open | JournalState::Closed | JournalState::Failed(_) => {}
        }
        if !recover(&broker).await {
            return;
        }
    }
}

/// Tries until the next session is open; `false` when nobody wants it any more.
async fn recover(broker: &Weak<Inner>) -> bool {
    let mut pause = PAUSE_MIN;
    loop {
        let Some(inner) = broker.upgrade() else { return false };
        // Whoever closes the broker has the lock below until that is done, and counts on the data
        // directory to be free then: nobody may wait here with a hand on it.
        if *inner.closing.borrow() {
            return false;
        }
        let attempt = {
            let _one = inner.recovering.lock().await;
            if *inner.closing.borrow() {
                return false;
            }
            inner.ready.send_replace(false);
            warn!("the session of the log is over: opening the next one; writes fail meanwhile");
            inner.next_life().await
        };
        let Err(why) = attempt else { return true };
        error!(
            error = %why, retry_in = ?pause,
            "the log can't be recovered yet; what is durable can be read, and nothing can be \
             written. Look after the disk; if this stays so, restart the broker"
        );
        let (sleep, mut closing) = (inner.env.sleep(pause), inner.closing.subscribe());
        drop(inner);
        tokio::select! {
            biased;
            () = sleep => {}
            // An error means that the broker is gone, which the next round finds.
            _ = closing.wait_for(|closing| *closing) => {}
        }
        pause = (pause * 2).min(PAUSE_MAX);
    }
}

impl Inner {
    /// What belongs to the session of now.
    pub(crate) fn life(&self) -> Arc<Life> {
        Arc::clone(&self.life.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens the next session, and has it take the place of the one that is over.
    async fn next_life(&self) -> Result<(), StartError> {
        let old = self.life();
        // Nothing that the old one has not finished may be done beside the new one.
        old.log.retire().await;
        let config = self.config();
        let cluster = self.node.cluster_id;
        let new = Life::open(&self.env, &self.stores, &self.metadata, &config, cluster).await?;
        if let Err(why) = new.load_groups(&config).await {
            // Whoever looks for the coordinator has it loaded again.
            error!(error = %why, "the groups can't be loaded");
        } else if let Err(why) = new.load_transactions(&config).await {
            error!(error = %why, "the transactions can't be loaded");
        }
        let new = Arc::new(new);
        new.log.inherit(&old.log);
        self.metadata.read(|state| {
            new.catch_up(state, &self.config());
            *self.life.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&new);
        });
        old.end();
        self.recoveries.fetch_add(1, Ordering::Relaxed);
        self.ready.send_replace(true);
        info!(session = %new.log.session(), "the log is recovered; clients are served again");
        Ok(())
    }
}

impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Life").field("log", &self.log).finish_non_exhaustive()
    }
}
