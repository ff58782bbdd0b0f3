//! A cluster as a client sees it: which brokers there are, who leads what, and connections to them.

mod metadata;
mod retry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_env::Env;
use millstream_types::Monotonic;
use millstream_wire::metadata_request::MetadataRequestTopic;
use millstream_wire::{
    ErrorCode, FindCoordinatorRequest, FindCoordinatorResponse, MetadataRequest, Request, StrBytes,
};

pub use metadata::{Broker, Metadata, Partition, Topic, TopicName, TopicPartition};
pub use retry::{Backoff, Retry};

use crate::connection::{Connection, ConnectionSettings, LoginSettings};
use crate::connector::{Address, Connector};
use crate::error::Error;

/// How a client deals with a cluster.
#[derive(Clone, Debug)]
pub struct ClusterSettings {
    /// Where to ask first; the cluster tells the rest.
    pub bootstrap: Vec<Address>,
    /// How the client calls itself in every request.
    pub client_id: String,
    /// How long opening a connection may take.
    pub connect_timeout: Duration,
    /// How long an answer may take.
    pub request_timeout: Duration,
    /// How long a call is tried again while its errors may go away.
    pub patience: Duration,
    /// How long to wait between attempts.
    pub backoff: Backoff,
    /// How long what the cluster said of a topic is relied on.
    pub metadata_age_max: Duration,
    /// The longest answer that is taken, in bytes.
    pub frame_bytes_max: usize,
    /// Who the client is, where it has to say so.
    pub login: Option<LoginSettings>,
}

impl ClusterSettings {
    /// The defaults, for a cluster that can be asked at `bootstrap`.
    #[must_use]
    pub fn new(bootstrap: Vec<Address>) -> Self {
        Self {
            bootstrap,
            client_id: "millstream".to_owned(),
            connect_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            patience: Duration::from_secs(60),
            backoff: Backoff::default(),
            metadata_age_max: Duration::from_secs(300),
            frame_bytes_max: 128 << 20,
            login: None,
        }
    }
}

/// A cluster. Cheap to clone; all clones share connections and what is known.
#[derive(Clone, Debug)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    env: Env,
    connector: Arc<dyn Connector>,
    settings: ClusterSettings,
    known: Mutex<Known>,
    slots: Mutex<BTreeMap<(Address, Lane), Slot>>,
    lane_owners: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    metadata: Arc<Metadata>,
    /// What was learned before is not relied on.
    valid_from: Monotonic,
    /// Whether there ever was an answer.
    reached: bool,
    coordinators: BTreeMap<Coordinated, i32>,
}

/// The place of one connection; whoever finds it empty opens one while others wait.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// Which of the connections to one broker: answers come in the order of the requests, so that what
/// may take long does not share a connection with what must not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Short requests.
    Control,
    /// Produce.
    Produce,
    /// Fetch of one consumer, which waits for records.
    Fetch(LaneOwner),
    /// Membership of one consumer: joining a group waits for its other members, which may be
    /// consumers of the same cluster value.
    Group(LaneOwner),
}

/// Whose connections are shared with nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LaneOwner(u64);

/// What a coordinator coordinates.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coordinated {
    /// A consumer group.
    Group(String),
    /// A transactional producer.
    Transaction(String),
}

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Any broker.
    Any,
    /// The controller.
    Controller,
    /// A certain broker.
    Broker(i32),
    /// The leader of a partition.
    Leader(TopicPartition),
    /// The coordinator.
    Coordinator(Coordinated),
}

impl Cluster {
    /// A cluster, and a first answer from it.
    ///
    /// # Errors
    ///
    /// When no bootstrap address answers.
    pub async fn connect(
        env: Env,
        connector: Arc<dyn Connector>,
        settings: ClusterSettings,
    ) -> Result<Self, Error> {
        let cluster = Self(Arc::new(Inner {
            env,
            connector,
            settings,
            known: Mutex::default(),
            slots: Mutex::default(),
            lane_owners: AtomicU64::new(0),
        }));
        cluster.ask_metadata(Some(&[]), false).await?;
        Ok(cluster)
    }

    /// The world that the client runs in.
    #[must_use]
    pub fn env(&self) -> &Env {
        &self.0.env
    }

    /// How the client deals with the cluster.
    #[must_use]
    pub fn settings(&self) -> &ClusterSettings {
        &self.0.settings
    }

    /// What is known of the cluster.
    #[must_use]
    pub fn metadata(&self) -> Arc<Metadata> {
        Arc::clone(&self.known().metadata)
    }

    /// A series of attempts at something that goes to `target`.
    #[must_use]
    pub fn retry(&self, target: Target) -> Retry<'_> {
        self.retry_for(target, self.settings().patience)
    }

    /// As [`Cluster::retry`], for as long as `patience`.
    #[must_use]
    pub fn retry_for(&self, target: Target, patience: Duration) -> Retry<'_> {
        Retry::new(self, target, patience)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Who panicked with the lock has left nothing half done: every holder makes one change.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether `error` says that nobody was there from the beginning: then a wrong address is more
    /// likely than a cluster that will be back.
    fn is_unknown_to_us(&self, error: &Error) -> bool {
        matches!(error, Error::Unreachable { .. }) && !self.known().reached
    }

    /// Makes the next request to `target` look up anew where to go.
    pub fn forget(&self, target: &Target) {
        let now = self.env().clock.monotonic();
        let mut known = self.known();
        match target {
            Target::Any => {}
            Target::Controller | Target::Broker(_) | Target::Leader(_) => {
                known.valid_from = now;
            }
            Target::Coordinator(of) => {
                known.coordinators.remove(of);
            }
        }
    }
}

/// Topics.
impl Cluster {
    /// Asks for all topics.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub async fn all_topics(&self) -> Result<Vec<Arc<Topic>>, Error> {
        let mut retry = self.retry(Target::Any);
        loop {
            match self.ask_metadata(None, false).await {
                // A topic that is just being created or deleted is not there.
                Ok(topics) => return Ok(topics.into_iter().filter_map(|(_, t)| t.ok()).collect()),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// What is known of a topic; asks for it, once, if that is too old.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] with `UNKNOWN_TOPIC_OR_PARTITION` when there is no such topic.
    pub async fn topic(&self, name: &str) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.cached_topic(name) {
            return Ok(topic);
        }
        let mut retry = self.retry(Target::Any);
        loop {
            match self.ask_topic(name, false).await {
                Ok(topic) => return Ok(topic),
                Err(error) if is_unknown_topic(&error) => return Err(error),
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// As [`Cluster::topic`], but a topic that is not there may be created by the broker, if it
    /// does that; this waits up to `patience` for it to appear.
    ///
    /// # Errors
    ///
    /// As [`Cluster::topic`].
    pub async fn topic_or_created(
        &self,
        name: &str,
        patience: Duration,
    ) -> Result<Arc<Topic>, Error> {
        if let Some(topic) = self.cached_topic(name) {
            return Ok(topic);
        }
        let mut retry = self.retry_for(Target::Any, patience).awaiting_topics();
        loop {
            match self.ask_topic(name, true).await {
                Ok(topic) if topic.partitions.iter().all(|p| p.leader.is_some()) => {
                    return Ok(topic);
                }
                Ok(_) => retry.after(no_leader(name)).await?,
                Err(error) => retry.after(error).await?,
            }
        }
    }

    /// What is known of a topic, without asking.
    #[must_use]
    pub fn cached_topic(&self, name: &str) -> Option<Arc<Topic>> {
        let age_max = self.settings().metadata_age_max;
        let now = self.env().clock.monotonic();
        let known = self.known();
        let age = u64::try_from(age_max.as_nanos()).unwrap_or(u64::MAX);
        let since = known.valid_from.max(Monotonic(now.0.saturating_sub(age)));
        known.metadata.topic(name, since).map(Arc::clone)
    }

    /// How many partitions topics have by now; a topic that is not there is left out.
    ///
    /// # Errors
    ///
    /// When no broker answers.
    pub async fn partition_counts(
        &self,
        topics: &BTreeSet<TopicName>,
    ) -> Result<BTreeMap<TopicName, i32>, Error> {
        let names: Vec<_> = topics.iter().map(AsRef::as_ref).collect();
        let mut retry = self.retry(Target::Any);
        let answer = loop {
            match self.ask_metadata(Some(&names), false).await {
                Ok(answer) => break answer,
                Err(error) => retry.after(error).await?,
            }
        };
        let counts = answer.into_iter().filter_map(|(name, topic)| {
            let count = i32::try_from(topic.ok()?.partitions.len()).ok()?;
            Some((name, count))
        });
        Ok(counts.collect())
    }

    /// Asks for one topic, whatever is known.
    async fn ask_topic(&self, name: &str, create: bool) -> Result<Arc<Topic>, Error> {
        let answer = self.ask_metadata(Some(&[name]), create).await?;
        let found = answer.into_iter().find(|(found, _)| found.as_ref() == name);
        found.map_or_else(|| Err(unknown_topic(name)), |(_, topic)| topic)
    }

    /// Asks any broker about topics (all for `None`), once.
    async fn ask_metadata(
        &self,
        topics: Option<&[&str]>,
        create: bool,
    ) -> Result<Vec<(TopicName, Result<Arc<Topic>, Error>)>, Error> {
        let connection = self.any().await?;
        // Before version 1 an empty list means all topics.
        let version = connection.version::<MetadataRequest>()?;
        let named = |name: &&str| MetadataRequestTopic {
            name: Some(StrBytes::from((*name).to_owned())),
            ..Default::default()
        };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            // Older brokers create what they are configured to, whatever is asked.
            allow_auto_topic_creation: create || version < 4,
            ..Default::default()
        };
        let answer = connection.call(&request, version).await?;
        let whole = || format!("metadata of {}", connection.address());
        Error::check(answer.error_code, None, whole)?;
        let now = self.env().clock.monotonic();
        let mut known = self.known();
        known.reached = true;
        let mut metadata = Metadata::clone(&known.metadata);
        let topics = metadata.apply(&answer, now);
        known.metadata = Arc::new(metadata);
        Ok(topics)
    }
}

/// Where to go.
impl Cluster {
    /// The leader of a partition.
    ///
    /// # Errors
    ///
    /// As [`Cluster::topic`]; [`Error::NoLeader`] when it has none.
    pub async fn leader(&self, of: &TopicPartition) -> Result<i32, Error> {
        let topic = self.topic(&of.topic).await?;
        match topic.partition(of.partition) {
            Some(partition) => partition.leader.ok_or_else(|| no_leader(of)),
            None => Err(Error::Refused {
                what: format!("partition {of}"),
                code: ErrorCode::UnknownTopicOrPartition,
                message: Some(format!(
                    "topic {} has {} partitions, from 0 on",
                    of.topic,
                    topic.partitions.len()
                )),
            }),
        }
    }

    async fn controller(&self) -> Result<i32, Error> {
        let fresh = || {
            let known = self.known();
            let controller = known.metadata.controller?;
            known.metadata.brokers.contains_key(&controller).then_some(controller)
        };
        if let Some(controller) = fresh() {
            return Ok(controller);
        }
        self.ask_metadata(Some(&[]), false).await?;
        fresh().ok_or_else(|| Error::NoLeader { what: "the cluster".to_owned() })
    }

    pub(crate) async fn coordinator(&self, of: &Coordinated) -> Result<i32, Error> {
        if let Some(&id) = self.known().coordinators.get(of) {
            return Ok(id);
        }
        let (kind, key) = match of {
            Coordinated::Group(id) => (0, id),
            Coordinated::Transaction(id) => (1, id),
        };
        let connection = self.any().await?;
        let version = connection.version::<FindCoordinatorRequest>()?;
        let text = StrBytes::from(key.clone());
        let request = if version >= 4 {
            let coordinator_keys = vec![text];
            FindCoordinatorRequest { key_type: kind, coordinator_keys, ..Default::default() }
        } else {
            FindCoordinatorRequest { key_type: kind, key: text, ..Default::default() }
        };
        let answer = connection.call(&request, version).await?;
        let id = coordinator_in(&answer, version, key)?;
        // A coordinator may be a broker that nobody has told us about yet.
        if !self.metadata().brokers.contains_key(&id) {
            self.ask_metadata(Some(&[]), false).await?;
        }
        self.known().coordinators.insert(of.clone(), id);
        Ok(id)
    }

    /// A connection to where requests for `target` go.
    ///
    /// # Errors
    ///
    /// When that is not known, or can't be reached.
    pub async fn connection(&self, target: &Target, lane: Lane) -> Result<Connection, Error> {
        let broker = match target {
            Target::Any => return self.any().await,
            Target::Controller => self.controller().await?,
            Target::Broker(id) => *id,
            Target::Leader(of) => self.leader(of).await?,
            Target::Coordinator(of) => self.coordinator(of).await?,
        };
        let address = self.address(broker).await?;
        self.open(address, lane, false).await
    }

    /// Sends one request to `target` and awaits the answer; does not try again.
    ///
    /// # Errors
    ///
    /// As [`Cluster::connection`] and [`Connection::call`].
    pub async fn call<R: Request>(
        &self,
        target: &Target,
        lane: Lane,
        request: &R,
    ) -> Result<R::Response, Error> {
        self.call_within(target, lane, request, i16::MAX).await
    }

    /// As [`Cluster::call`], in a version of at most `newest`.
    ///
    /// # Errors
    ///
    /// As [`Cluster::call`].
    pub async fn call_within<R: Request>(
        &self,
        target: &Target,
        lane: Lane,
        request: &R,
        newest: i16,
    ) -> Result<R::Response, Error> {
        let connection = self.connection(target, lane).await?;
        let version = connection.version_within::<R>(newest)?;
        connection.call(request, version).await
    }

    /// Somebody who wants connections of their own.
    #[must_use]
    pub fn lane_owner(&self) -> LaneOwner {
        LaneOwner(self.0.lane_owners.fetch_add(1, Ordering::Relaxed))
    }

    /// Lets go of the connections that are shared with nobody else.
    pub fn release(&self, owner: LaneOwner) {
        self.slots().retain(|(_, lane), _| match lane {
            Lane::Control | Lane::Produce => true,
            Lane::Fetch(of) | Lane::Group(of) => *of != owner,
        });
    }

    async fn address(&self, broker: i32) -> Result<Address, Error> {
        let find = || self.known().metadata.brokers.get(&broker).map(|b| b.address.clone());
        if let Some(address) = find() {
            return Ok(address);
        }
        self.ask_metadata(Some(&[]), false).await?;
        find().ok_or_else(|| Error::NoLeader { what: format!("what broker {broker} led") })
    }

    /// A connection to any broker: one that is open, else the first that can be opened.
    async fn any(&self) -> Result<Connection, Error> {
        let advertised: Vec<_> =
            self.metadata().brokers.values().map(|broker| broker.address.clone()).collect();
        for address in &advertised {
            let open = self.slot(address, Lane::Control);
            let open = open.try_lock().ok().and_then(|slot| slot.clone());
            if let Some(connection) = open.filter(|connection| !connection.is_over()) {
                return Ok(connection);
            }
        }
        let mut last = Error::Invalid("no bootstrap address was given".to_owned());
        for address in &self.settings().bootstrap {
            match self.open(address.clone(), Lane::Control, true).await {
                Ok(connection) => return Ok(connection),
                Err(error) => last = error,
            }
        }
        for address in advertised {
            if let Ok(connection) = self.open(address, Lane::Control, false).await {
                return Ok(connection);
            }
        }
        Err(last)
    }

    fn slot(&self, address: &Address, lane: Lane) -> Slot {
        Arc::clone(self.slots().entry((address.clone(), lane)).or_default())
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<(Address, Lane), Slot>> {
        self.0.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn open(
        &self,
        address: Address,
        lane: Lane,
        bootstrap: bool,
    ) -> Result<Connection, Error> {
        let slot = self.slot(&address, lane);
        let mut slot = slot.lock().await;
        if let Some(connection) = slot.as_ref().filter(|connection| !connection.is_over()) {
            return Ok(connection.clone());
        }
        *slot = None;
        let connection = self.open_new(address, bootstrap).await?;
        *slot = Some(connection.clone());
        Ok(connection)
    }

    async fn open_new(&self, address: Address, bootstrap: bool) -> Result<Connection, Error> {
        let unreachable = |kind, why| {
            let address = address.clone();
            Error::Unreachable { address, kind, why, bootstrap }
        };
        let settings = self.settings();
        let stream = tokio::select! {
            biased;
            stream = self.0.connector.connect(&address) => {
                stream.map_err(|error| unreachable(error.kind(), error.to_string()))?
            }
            () = self.env().sleep(settings.connect_timeout) => {
                let why = format!("no answer within {:?}", settings.connect_timeout);
                return Err(unreachable(std::io::ErrorKind::TimedOut, why));
            }
        };
        let connection = ConnectionSettings {
            client_id: StrBytes::from(settings.client_id.clone()),
            frame_bytes_max: settings.frame_bytes_max,
            request_timeout: settings.request_timeout,
            login: settings.login.clone(),
        };
        Connection::open(self.env().clone(), stream, address, connection).await
    }
}

fn coordinator_in(answer: &FindCoordinatorResponse, version: i16, key: &str) -> Result<i32, Error> {
    let what = || format!("coordinator of {key}");
    if version < 4 {
        Error::check(answer.error_code, answer.error_message.as_deref(), what)?;
        return Ok(answer.node_id);
    }
    let Some(found) = answer.coordinators.iter().find(|found| found.key == key) else {
        return Err(Error::NoLeader { what: format!("group {key}") });
    };
    Error::check(found.error_code, found.error_message.as_deref(), what)?;
    Ok(found.node_id)
}

fn no_leader(what: impl std::fmt::Display) -> Error {
    Error::NoLeader { what: what.to_string() }
}

/// The error for a topic that is not there.
pub(crate) fn unknown_topic(name: &str) -> Error {
    let (what, code) = (format!("topic {name}"), ErrorCode::UnknownTopicOrPartition);
    Error::Refused { what, code, message: None }
}

fn is_unknown_topic(error: &Error) -> bool {
    matches!(
        error.code(),
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::InvalidTopicException)
    )
}
