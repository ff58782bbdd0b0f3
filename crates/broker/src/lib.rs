//! The domain: topics, partitions, groups, configuration. Knows no API key, version or error code.
//!
//! A [`Broker`] is one node over one log. Reads and writes go straight to partition handles
//! ([`Topic`]); changes of metadata go through one writer ([`metadata`]); groups are pure state
//! hosted in [`group_host`].

use std::convert::Infallible;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use millstream_auth::Secret;
use millstream_coordinator::cluster::{ClusterState, Overrides};
use millstream_coordinator::config::BrokerConfig;
use millstream_coordinator::group::{
    Command, ConsumerDescription, Description, FetchRefused, FetchTopic, Fetched as FetchedOffset,
    GroupSettings, ListFilter, Listed, Reader, Reply, StreamsDescription,
};
use millstream_env::{
    BlobError, BlobName, BlobStore, Env, JournalError, JournalStore, MetaError, MetaLog, Reserve,
    Space,
};
pub use millstream_log::LogStats;
use millstream_log::{Former, OpenError, SessionOver, Trim};
use millstream_types::{BrokerId, ClusterId, Lsn, ProducerId, SessionId};
use tokio::sync::watch;
use tracing::info;

mod acls;
mod admin;
mod audit;
mod backup;
mod budget;
mod configs;
mod credentials;
mod delegations;
mod epoch;
mod fetch;
mod group_host;
mod group_world;
mod host;
mod life;
mod line;
mod metadata;
mod offline;
mod offsets;
mod produce;
mod producers;
mod quotas;
mod repair;
mod telemetry;
mod topics;
mod transactions;
mod txn_host;

pub use acls::{REMOVED_MAX, RemoveError};
pub use admin::{DeleteError, DescribedTopic, TopicError, TopicRequest};
pub use audit::AuditCounts;
pub use backup::{BackupError, BackupStep, Checked, backup, verify};
pub use budget::Share;
pub use configs::{ConfigTarget, ConfigsError};
pub use credentials::{HeldCredential, StoredUsers};
pub use delegations::{TokenError, TokenRequest};
pub use epoch::EpochError;
pub use fetch::{Answer, Bounds, FetchError, Fetched, Want};
pub use group_host::GroupsError;
pub use host::LoadError;
pub use life::Newest;
pub use metadata::{ChangeError, MetadataError};
pub use offline::{StoredLog, StoredMetadata, StoredTopic};
pub use offsets::{Found, OffsetError, OffsetSpec};
pub use produce::{ProduceError, Sent};
pub use quotas::Quota;
pub use repair::{Repair, RepairFailed};
pub use telemetry::{PushError, Pushing};
pub use topics::{AUDIT_TOPIC, OFFSETS_TOPIC, TRANSACTIONS_TOPIC, Topic, TopicRef, is_internal};
pub use transactions::{EnlistError, Marker, transactional_producer};
pub use txn_host::TxnError;

/// What the log takes, gives and refuses, as the broker passes it on.
pub mod log {
    pub use millstream_log::{
        AppendError, Appended, DeleteError, Isolation, ProducerInfo, ReadError, Slice,
    };
}
/// What records are made of, where the doors need to know.
pub mod record {
    pub use millstream_record::batch::BatchError;
    pub use millstream_record::compression::{Compression, CompressionError};
}
/// Who may do what.
pub use millstream_coordinator::acl;
/// What is noted of who does what.
pub use millstream_coordinator::audit as audited;
pub use millstream_coordinator::cluster::{CreateError, PartitionsError};
/// Names, types and defaults of all configuration.
pub use millstream_coordinator::config;
/// Changes of users' credentials.
pub use millstream_coordinator::credentials::{Alteration, CredentialError, KnownUsers, Upsertion};
/// Delegation tokens.
pub use millstream_coordinator::delegation;
/// What is asked of and answered by the coordinator of groups.
pub use millstream_coordinator::group as groups;
/// What can be limited, for whom, and to how much.
pub use millstream_coordinator::quota;
/// What is asked of and told by clients that push metrics of theirs.
pub use millstream_coordinator::telemetry as client_metrics;
/// What is asked of and answered by the coordinator of transactions.
pub use millstream_coordinator::txn;

use acls::Authorizer;
use admin::COMPACTED;
use audit::Audit;
use budget::Budget;
use credentials::Passwords;
use life::Life;
use line::Lines;
use metadata::Metadata;
use producers::ProducerIds;
use quotas::Usage;
use telemetry::ClientMetrics;

/// Who this node is, as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its number.
    pub id: BrokerId,
    /// The cluster it belongs to.
    pub cluster_id: ClusterId,
    /// The host that clients are told to connect to.
    pub host: String,
    /// The port that clients are told to connect to.
    pub port: i32,
}

/// What a broker stands on.
#[derive(Debug)]
pub struct Stores {
    /// Journals.
    pub journals: Arc<dyn JournalStore>,
    /// Segments and checkpoints.
    pub blobs: Arc<dyn BlobStore>,
    /// Metadata.
    pub metadata: Arc<dyn MetaLog>,
    /// The space that they have.
    pub reserve: Arc<Reserve>,
}

/// How far a group is behind on one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupLag {
    /// The group.
    pub group: Arc<str>,
    /// The topic.
    pub topic: Arc<str>,
    /// The partition's number.
    pub partition: i32,
    /// Records from the committed offset to the high watermark.
    pub records: i64,
}

/// Why a broker could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The metadata can't be read or written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The log can't be opened.
    #[error(transparent)]
    Log(#[from] OpenError),
    /// The groups can't be loaded.
    #[error("the groups can't be loaded: {0}")]
    Groups(#[from] LoadError),
    /// There are no metadata, but data that they would have to know.
    #[error(
        "there are journals or segments, but the metadata that say what is in them are empty or \
         missing: put back the metadata that belong to this data, or start in an empty place"
    )]
    NoMetadata,
    /// The journals or segments can't be listed.
    #[error("what is stored can't be listed: {0}")]
    Stores(String),
    /// The metadata name a checkpoint by an impossible name.
    #[error("the metadata name the checkpoint {0:?}, which no store can hold")]
    Checkpoint(String),
}

impl StartError {
    /// Whether it is because something stored is damaged or missing, so that checking and repairing
    /// what is stored may help.
    #[must_use]
    pub const fn is_damage(&self) -> bool {
        match self {
            Self::Metadata(MetadataError::Log(error)) => matches!(error, MetaError::Corrupt(_)),
            Self::Metadata(MetadataError::Entry { .. }) | Self::Checkpoint(_) => true,
            Self::Log(OpenError::Journal { why, .. }) => matches!(why, JournalError::Corrupt(_)),
            Self::Log(OpenError::Blob(error)) => matches!(error, BlobError::NotFound(_)),
            Self::Log(
                OpenError::Checkpoint(_) | OpenError::JournalLost { .. } | OpenError::Frame { .. },
            )
            | Self::Groups(_) => true,
            Self::NoMetadata | Self::Stores(_) => false,
        }
    }
}

/// One node. Cheap to clone.
#[derive(Clone)]
pub struct Broker(Arc<Inner>);

struct Inner {
    env: Env,
    node: Node,
    /// What was set when the program was started.
    fixed: Overrides,
    /// `fixed` and what has been set since, resolved.
    config: RwLock<Arc<BrokerConfig>>,
    stores: Stores,
    metadata: Arc<Metadata>,
    /// What belongs to the session of now. Exchanged under the lock of the metadata.
    life: RwLock<Arc<Life>>,
    producer_ids: ProducerIds,
    authorizer: Authorizer,
    /// Of quotas.
    usage: Usage,
    client_metrics: ClientMetrics,
    audit: Arc<Audit>,
    /// What credentials are made from of users that there are not, while there are no users at all.
    decoy_secret: Secret,
    passwords: Passwords,
    /// Of those who wait for room in the journal.
    lines: Lines,
    /// Of answers.
    answers: Arc<Budget>,
    /// Held while an internal topic is being made, so that it is made once.
    setting_up: tokio::sync::Mutex<()>,
    /// Held while the next session is opened.
    recovering: tokio::sync::Mutex<()>,
    recoveries: AtomicU64,
    /// Whether records can be written.
    ready: watch::Sender<bool>,
    /// Whether [`Broker::close`] was called.
    closing: watch::Sender<bool>,
}

impl Broker {
    /// Starts a node: reads the metadata, opens a new session, recovers the log, loads the groups.
    /// `fixed` is the configuration given at the start, already validated.
    ///
    /// # Errors
    ///
    /// When anything stored can't be read.
    pub async fn start(
        env: Env,
        node: Node,
        stores: Stores,
        fixed: Overrides,
    ) -> Result<Self, StartError> {
        let metadata = {
            let (log, reserve) = (Arc::clone(&stores.metadata), Arc::clone(&stores.reserve));
            Metadata::open(env.clone(), log, reserve).await?
        };
        let former = metadata.read(former)?;
        if former.is_none() {
            refuse_unknown(&stores).await?;
        }
        let config =
            Arc::new(metadata.read(|state| configs::broker_config(&fixed, state, node.id)));
        let life = Life::open(&env, &stores, &metadata, &config, node.cluster_id).await?;
        life.load_groups(&config).await?;
        life.load_transactions(&config).await?;
        let session = life.log.session();
        let answers = Budget::new(config.response_memory_bytes);
        let usage = metadata.read(Usage::new);
        let client_metrics =
            metadata.read(|state| ClientMetrics::new(state, config.telemetry.bytes_max));
        let authorizer = Authorizer::new(config.authorizer.as_ref());
        let decoy_secret = credentials::draw_secret(&env);
        let broker = Self(Arc::new(Inner {
            env,
            node,
            fixed,
            config: RwLock::new(config),
            stores,
            metadata,
            life: RwLock::new(Arc::new(life)),
            producer_ids: ProducerIds::default(),
            authorizer,
            usage,
            client_metrics,
            audit: Arc::default(),
            decoy_secret,
            passwords: Passwords::default(),
            lines: Lines::default(),
            answers,
            setting_up: tokio::sync::Mutex::default(),
            recovering: tokio::sync::Mutex::default(),
            recoveries: AtomicU64::new(0),
            ready: watch::Sender::new(true),
            closing: watch::Sender::new(false),
        }));
        broker.follow_metadata();
        broker.spawn_chores();
        info!(%session, topics = broker.topics().len(), "broker started");
        Ok(broker)
    }

    /// The world that the broker runs in.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// Who this node is.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.0.node
    }

    /// The broker's configuration as of now.
    #[must_use]
    pub fn config(&self) -> Arc<BrokerConfig> {
        self.0.config()
    }

    /// A topic, if there is one.
    #[must_use]
    pub fn topic(&self, topic: TopicRef<'_>) -> Option<Arc<Topic>> {
        self.0.life().topics.find(topic)
    }

    /// All topics, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.0.life().topics.all()
    }

    /// Reads from many partitions; see [`fetch::fetch`].
    pub async fn fetch(&self, wants: &[Want], bounds: Bounds) -> Answer {
        fetch::fetch(&self.0.env, &self.0.answers, wants, bounds).await
    }

    /// A share of the memory for answers, for one that is no fetch.
    #[must_use]
    pub fn answer_share(&self) -> Share {
        self.0.answers.share()
    }

    /// Whether the memory for answers is used up, so that readers that have stopped are in the way.
    #[must_use]
    pub fn answers_are_short(&self) -> bool {
        self.0.answers.is_short()
    }

    /// Completes when another answer may be begun: not while answers that have not been sent take far
    /// more memory than they should.
    pub async fn answer_room(&self) {
        self.0.answers.room().await;
    }

    /// Completes when everything that an answer depends on is durable.
    ///
    /// # Errors
    ///
    /// When the session of the log ended before: what was appended may or may not be there.
    pub async fn wait_durable(&self, newest: Newest) -> Result<(), SessionOver> {
        let durable = match newest {
            Newest::Nothing => return Ok(()),
            Newest::Torn => return Err(SessionOver),
            Newest::At(session, end) => {
                let life = self.0.life();
                // Positions of another session say nothing here.
                if life.log.session() != session {
                    return Err(SessionOver);
                }
                life.log.wait_durable(end)
            }
        };
        durable.await
    }

    /// Whether records can be written; not while the log is being recovered after a failure.
    #[must_use]
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.0.ready.subscribe()
    }

    /// The space on the disk, and whether it is full.
    #[must_use]
    pub fn reserve(&self) -> &Reserve {
        &self.0.stores.reserve
    }

    /// How many sessions of the log have failed and been recovered since the start.
    #[must_use]
    pub fn recoveries(&self) -> u64 {
        self.0.recoveries.load(Ordering::Relaxed)
    }

    /// A producer id that nobody else has.
    ///
    /// # Errors
    ///
    /// When the metadata can't be written.
    pub async fn new_producer_id(&self) -> Result<ProducerId, ChangeError<Infallible>> {
        self.0.producer_ids.next(&self.0.metadata).await
    }

    /// Has a command on a group carried out.
    ///
    /// # Errors
    ///
    /// When the coordinator is not set up, or what the reply depends on did not become durable.
    pub async fn group(&self, group: &str, command: Command) -> Result<Reply, GroupsError> {
        self.0.life().groups.call(group, command).await
    }

    /// A group's committed offsets: of `topics`, or all; unless `reader` may not be told them.
    ///
    /// # Errors
    ///
    /// As [`Broker::group`].
    pub async fn group_offsets(
        &self,
        group: &str,
        reader: &Reader,
        topics: Option<&[FetchTopic]>,
        require_stable: bool,
    ) -> Result<Result<Vec<(Arc<str>, Vec<FetchedOffset>)>, FetchRefused>, GroupsError> {
        self.0.life().groups.fetch_offsets(group, reader, topics, require_stable).await
    }

    /// A group's state and members; `None` when there is no such group.
    ///
    /// # Errors
    ///
    /// As [`Broker::group`].
    pub async fn describe_group(&self, group: &str) -> Result<Option<Description>, GroupsError> {
        self.0.life().groups.describe(group).await
    }

    /// A consumer group's state and members; `None` when there is no such group, or it is of another
    /// type.
    ///
    /// # Errors
    ///
    /// As [`Broker::group`].
    pub async fn describe_consumer_group(
        &self,
        group: &str,
    ) -> Result<Option<ConsumerDescription>, GroupsError> {
        self.0.life().groups.describe_consumer(group).await
    }

    /// The same of a streams group.
    ///
    /// # Errors
    ///
    /// As [`Broker::group`].
    pub async fn describe_streams_group(
        &self,
        group: &str,
    ) -> Result<Option<StreamsDescription>, GroupsError> {
        self.0.life().groups.describe_streams(group).await
    }

    /// What the members of a streams group run, if there is such a group.
    ///
    /// # Errors
    ///
    /// As [`Broker::group`].
    pub async fn streams_topology(
        &self,
        group: &str,
    ) -> Result<Option<Arc<groups::Topology>>, GroupsError> {
        self.0.life().groups.streams_topology(group).await
    }

    /// All groups that `filter` lets through.
    ///
    /// # Errors
    ///
    /// As [`Broker::group`].
    pub async fn list_groups(&self, filter: &ListFilter) -> Result<Vec<Listed>, GroupsError> {
        self.0.life().groups.list(filter).await
    }

    /// How far each group is behind, for figures: by what is appended, not by what is durable.
    #[must_use]
    pub fn group_lags(&self) -> Vec<GroupLag> {
        let committed = self.0.life().groups.committed().into_iter();
        let lags = committed.filter_map(|(group, topic, partition, offset)| {
            let found = self.topic(TopicRef::Name(&topic))?;
            let end = found.partition(partition)?.ends().high_watermark;
            let records = (end.0 - offset.0).max(0);
            Some(GroupLag { group, topic, partition, records })
        });
        lags.collect()
    }

    /// How much room there is where the data is; `None` where that has no bound.
    ///
    /// # Errors
    ///
    /// When the storage fails.
    pub async fn space(&self) -> Result<Option<Space>, BlobError> {
        self.0.stores.blobs.space().await
    }

    /// How far the cluster's metadata have come: the session that may write them, and the number of
    /// the entry that comes next.
    pub async fn metadata_end(&self) -> (SessionId, u64) {
        self.0.metadata.end().await
    }

    /// What the log counts.
    #[must_use]
    pub fn log_stats(&self) -> LogStats {
        self.0.life().log.stats()
    }

    /// Bytes that were written for metadata since the start.
    #[must_use]
    pub fn metadata_written(&self) -> u64 {
        self.0.stores.metadata.written()
    }

    /// Stops cleanly: everything appended becomes durable and a checkpoint is written. Requests
    /// that come later fail.
    pub async fn close(&self) {
        self.0.closing.send_replace(true);
        self.0.ready.send_replace(false);
        // A session that is just being opened is closed, too.
        let _none = self.0.recovering.lock().await;
        self.write_audit(0).await;
        self.0.life().log.close().await;
        self.0.stores.reserve.rest().await;
    }

    /// Sets the coordinator of groups up: makes its topic if need be, and loads it.
    ///
    /// # Errors
    ///
    /// When the topic can't be made or read.
    pub async fn set_up_groups(&self) -> Result<(), TopicError> {
        if self.0.life().groups.is_ready() {
            return Ok(());
        }
        let _once = self.0.setting_up.lock().await;
        if self.topic(TopicRef::Name(OFFSETS_TOPIC)).is_none() {
            let partitions = self.config().offsets_topic_partitions;
            self.create_internal(OFFSETS_TOPIC, partitions, &COMPACTED).await?;
        }
        self.0.life().load_groups(&self.config()).await.map_err(TopicError::Groups)
    }

    /// Has topics, log, groups and configuration follow the metadata.
    fn follow_metadata(&self) {
        let weak = Arc::downgrade(&self.0);
        self.0.metadata.follow_by(move |state, entries| {
            if let Some(inner) = weak.upgrade() {
                inner.reconfigure(state, entries);
                inner.usage.follow(state, entries);
                inner.client_metrics.follow(entries);
                inner.life().follow(state, entries, &inner.config());
            }
        });
    }

    /// Background work; each task ends when the broker has been dropped.
    fn spawn_chores(&self) {
        let weak = Arc::downgrade(&self.0);
        self.0.env.spawn("group timers", async move {
            while let Some(inner) = weak.upgrade() {
                let step = inner.life().groups.next_timer();
                drop(inner);
                step.await;
                let Some(inner) = weak.upgrade() else { return };
                inner.life().groups.tick();
            }
        });
        let weak = Arc::downgrade(&self.0);
        self.0.env.spawn("transaction timers", async move {
            while let Some(inner) = weak.upgrade() {
                let step = inner.life().transactions.next_timer();
                drop(inner);
                step.await;
                let Some(inner) = weak.upgrade() else { return };
                let life = inner.life();
                life.transactions.tick(&life);
            }
        });
        let (weak, env) = (Arc::downgrade(&self.0), self.0.env.clone());
        let (audit, closing) = (Arc::clone(&self.0.audit), self.0.closing.subscribe());
        self.0.env.spawn("audit", audit::write(audit, weak, closing, env));
        let (weak, env) = (Arc::downgrade(&self.0), self.0.env.clone());
        self.0.env.spawn("retention", async move {
            while let Some(inner) = weak.upgrade() {
                let interval = inner.config().retention_check_interval;
                let mut low = inner.stores.reserve.low();
                low.mark_unchanged();
                drop(inner);
                tokio::select! {
                    biased;
                    () = env.sleep(interval) => {}
                    // There may be something that nobody wants any more.
                    Ok(()) = low.changed() => {}
                }
                let Some(inner) = weak.upgrade() else { return };
                inner.life().log.retain(env.clock.expiry());
            }
        });
        self.0.stores.reserve.keep(&self.0.env);
        self.0.env.spawn("log recovery", life::watch(Arc::downgrade(&self.0)));
    }
}

impl Inner {
    fn config(&self) -> Arc<BrokerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The session before this one, whose journal is to be recovered.
fn former(state: &ClusterState) -> Result<Option<Former>, StartError> {
    match state.session() {
        SessionId(0) => Ok(None),
        session => former_at(state, session).map(Some),
    }
}

/// The same where `session` is known to be the one, whatever the metadata say.
fn former_at(state: &ClusterState, session: SessionId) -> Result<Former, StartError> {
    let trim = match state.trimmed() {
        None => None,
        Some(trimmed) => {
            let name = &trimmed.checkpoint;
            let checkpoint =
                BlobName::new(name).ok_or_else(|| StartError::Checkpoint(name.clone()))?;
            Some(Trim { session: trimmed.session, lsn: Lsn(trimmed.lsn), checkpoint })
        }
    };
    Ok(Former { session, trim })
}

/// Refuses to begin where somebody else has: the metadata are written before anything else.
async fn refuse_unknown(stores: &Stores) -> Result<(), StartError> {
    let failed = |error: &dyn fmt::Display| StartError::Stores(error.to_string());
    let sessions = stores.journals.sessions().await.map_err(|error| failed(&error))?;
    let blobs = stores.blobs.list("").await.map_err(|error| failed(&error))?;
    if sessions.is_empty() && blobs.is_empty() { Ok(()) } else { Err(StartError::NoMetadata) }
}

async fn open_session(metadata: &Arc<Metadata>) -> Result<(), MetadataError> {
    let opened: Result<(), ChangeError<Infallible>> =
        metadata.change(|state| Ok((vec![state.open_session()], ()))).await;
    match opened {
        Ok(()) => Ok(()),
        Err(ChangeError::Refused(never)) => match never {},
        Err(ChangeError::Metadata(error)) => Err(error),
    }
}

fn group_settings(config: &BrokerConfig) -> GroupSettings {
    GroupSettings {
        session_timeout_min_ms: config.group_session_timeout_min_ms,
        session_timeout_max_ms: config.group_session_timeout_max_ms,
        initial_rebalance_delay: config.group_initial_rebalance_delay,
        members_max: config.group_members_max,
        group_bytes_max: config.group_bytes_max,
        groups_max: config.groups_max,
        offset_metadata_max: config.offset_metadata_max,
        offsets_retention: config.offsets_retention,
        expiry_interval: config.offsets_expiry_interval,
        newcomer_timeout: NEWCOMER_TIMEOUT,
        consumer: config.consumer_groups,
        streams: config.streams_groups,
    }
}

/// How long a member that was told its id may take to come back with it (Kafka: the session
/// timeout it asked for; a bound for those that ask for hours).
const NEWCOMER_TIMEOUT: Duration = Duration::from_secs(300);

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Broker").field("node", &self.0.node).finish_non_exhaustive()
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("node", &self.node).finish_non_exhaustive()
    }
}
