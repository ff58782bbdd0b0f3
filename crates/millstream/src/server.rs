//! A running broker: stores, broker, doors, wired together.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use millstream_broker::config::{
    BrokerConfig, BrokerOverrides, Durability as Wanted, TransportConfig, validate_start,
};
use millstream_broker::log::AppendError;
use millstream_broker::{Broker, Node, StartError, Stores};
use millstream_console::Pages;
use millstream_env::{DataDir, Durability, Env, JournalError, JournalSettings, JournalStats};
use millstream_kafka::Door;
use millstream_tls::{Reload, ServerTls, TlsError};
use millstream_types::BrokerId;
use millstream_types::limits::BATCH_BYTES_CEILING;
use prometheus_client::registry::Registry;
use tokio::io::DuplexStream;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::client_metrics::ClientMetricsCollector;
use crate::issuer::Issuers;
use crate::listeners::Listening;
use crate::metrics::{BrokerCollector, IssuerCollector, TlsCollector};
use crate::pages::PagesAt;

/// Configuration by name, as `--set` and the configuration file give it.
pub type Settings = std::collections::BTreeMap<String, String>;

/// The size of a file of the journal. No frame ever spans two: the largest batch fits into one.
const JOURNAL_FILE_BYTES: u64 = 128 * 1024 * 1024;
const _: () = assert!(BATCH_BYTES_CEILING as u64 + (1 << 20) < JOURNAL_FILE_BYTES);

/// There is one node; the number is Kafka's customary first.
const NODE_ID: BrokerId = BrokerId(1);

/// Where a server keeps its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In this directory, which is made if need be.
    Directory(PathBuf),
    /// In memory: gone when the server stops. For tests.
    Memory,
}

/// What a server is told at its start.
#[derive(Clone)]
pub struct ServerConfig {
    /// Where the data is.
    pub place: Place,
    /// Where Kafka clients connect, in plain text; `None` for where the setting `listeners` says, and
    /// without that for in-process clients only. Port 0 takes a free one.
    pub kafka_listen: Option<SocketAddr>,
    /// Where `/livez`, `/readyz` and `/metrics` are; `None` for nowhere. Port 0 takes a free one.
    pub http_listen: Option<SocketAddr>,
    /// The host and port that clients of `kafka_listen` are told to connect to; `None` for where it listens.
    pub advertise: Option<(String, u16)>,
    /// Configuration of the broker, by Kafka's names.
    pub settings: Settings,
}

/// Without the values of settings: there are secrets among them.
impl fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConfig")
            .field("place", &self.place)
            .field("kafka_listen", &self.kafka_listen)
            .field("http_listen", &self.http_listen)
            .field("advertise", &self.advertise)
            .field("settings", &self.settings.keys())
            .finish()
    }
}

/// A running server. Stops when it is dropped; [`Server::stop`] waits until everything is on
/// stable storage and the data directory is free.
#[derive(Debug)]
pub struct Server {
    broker: Broker,
    door: Door,
    /// Each listener's name and where it listens.
    kafka_addresses: Vec<(String, SocketAddr)>,
    /// What listeners speak that speak TLS.
    tls: Vec<Arc<ServerTls>>,
    /// Where the pages are, and whether over TLS.
    http_at: Option<(SocketAddr, bool)>,
    /// Gone when the server stops: nothing makes it ready again then.
    ready: Arc<watch::Sender<bool>>,
    stop: watch::Sender<bool>,
}

impl ServerConfig {
    /// A server in memory on a free port of the loopback interface, without HTTP: what a test
    /// wants. Groups form without delay.
    #[must_use]
    pub fn in_memory() -> Self {
        let delay = ("group.initial.rebalance.delay.ms".to_owned(), "0".to_owned());
        Self {
            place: Place::Memory,
            kafka_listen: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            http_listen: None,
            advertise: None,
            settings: Settings::from([delay]),
        }
    }

    /// The same over a directory.
    #[must_use]
    pub fn in_directory(path: impl Into<PathBuf>) -> Self {
        Self { place: Place::Directory(path.into()), ..Self::in_memory() }
    }
}

impl Server {
    /// Starts a server on the current tokio runtime. When this returns, clients are served.
    ///
    /// # Errors
    ///
    /// Says what stands in the way, and what to do about it.
    pub async fn start(config: ServerConfig) -> anyhow::Result<Self> {
        validate_start(&config.settings)?;
        let env = Env::real(Handle::current());
        let start =
            BrokerOverrides { start: config.settings.clone(), ..BrokerOverrides::default() };
        let (transport, mut issuers) = (TransportConfig::resolve(&start), Issuers::default());
        let kafka = Listening::open(&config, &transport, &mut issuers, &env).await?;
        let http = match config.http_listen {
            None => None,
            Some(at) => Some(PagesAt::open(at, &transport, &start, &mut issuers, &env).await?),
        };
        let issuers = issuers.into_all();
        let http_at = http.as_ref().map(|http| (http.address, http.tls.is_some()));
        let of_pages = http.iter().filter_map(|http| http.tls.as_ref());
        let tls: Vec<_> = kafka.tls.iter().chain(of_pages).cloned().collect();
        let (ready, is_ready) = watch::channel(false);
        let (notices, notice) = watch::channel(String::new());
        let (stop, stopped) = watch::channel(false);
        let metrics = Arc::new(Mutex::new(Registry::default()));
        let known = Arc::new(OnceLock::new());
        if let Some(http) = http {
            let (metrics, broker) = (Arc::clone(&metrics), Arc::clone(&known));
            let hosts = http_hosts(&transport, &kafka);
            let (logins, issuer) = (http.logins, http.issuer.clone());
            let pages = Pages { ready: is_ready, notice, metrics, hosts, logins, issuer, broker };
            serve_http(&env, http, pages, stopped);
        }
        let (broker, journal) = start_broker(&env, &config, &kafka)
            .await
            .map_err(|error| with_advice(error, &config.place))?;
        known.get_or_init(|| broker.clone());
        let door = {
            let mut registry = metrics.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            registry.register_collector(Box::new(BrokerCollector::new(broker.clone(), journal)));
            registry.register_collector(Box::new(ClientMetricsCollector(broker.clone())));
            if !tls.is_empty() {
                registry.register_collector(Box::new(TlsCollector(tls.clone())));
            }
            for tls in &tls {
                env.spawn("certificates", millstream_tls::watch(Arc::downgrade(tls), env.clone()));
            }
            if !issuers.is_empty() {
                registry.register_collector(Box::new(IssuerCollector(issuers)));
            }
            Door::new(broker.clone(), &mut registry)
        };
        let kafka_addresses = accept(&env, &door, kafka)?;
        let ready = Arc::new(ready);
        env.spawn("readiness", follow_readiness(broker.ready(), Arc::downgrade(&ready)));
        env.spawn("notices", follow_space(broker.reserve().low(), notices));
        Ok(Self { broker, door, kafka_addresses, tls, http_at, ready, stop })
    }

    /// Where Kafka clients connect, if in the network: at the first listener.
    #[must_use]
    pub fn kafka_address(&self) -> Option<SocketAddr> {
        self.kafka_addresses.first().map(|(_, address)| *address)
    }

    /// Every listener's name and where it listens, in the order in which they were set.
    #[must_use]
    pub fn kafka_addresses(&self) -> &[(String, SocketAddr)] {
        &self.kafka_addresses
    }

    /// Looks at once whether the files of TLS have changed, and uses them if they are good; the server does
    /// so every ten seconds. Whether any have changed; `None` where no listener speaks TLS.
    ///
    /// # Errors
    ///
    /// Says what is wrong with new files; those before them stay in use.
    pub fn reload_certificates(&self) -> Option<Result<bool, TlsError>> {
        let looks: Vec<_> = self.tls.iter().map(|tls| tls.reload()).collect();
        let outcomes = looks.into_iter().map(|look| match look {
            Reload::Changed => Ok(true),
            Reload::Unchanged | Reload::StillRefused => Ok(false),
            Reload::Refused(error) => Err(error),
        });
        outcomes.reduce(|one, other| Ok(one? | other?))
    }

    /// Where the HTTP pages are, if anywhere.
    #[must_use]
    pub fn http_address(&self) -> Option<SocketAddr> {
        self.http_at.map(|(address, _)| address)
    }

    /// The same as people and programs ask for it: `http://127.0.0.1:8080`.
    #[must_use]
    pub fn http_url(&self) -> Option<String> {
        let (address, over_tls) = self.http_at?;
        Some(format!("http{}://{address}", if over_tls { "s" } else { "" }))
    }

    /// A Kafka connection without a network, for clients in this process.
    #[must_use]
    pub fn connect(&self) -> DuplexStream {
        self.door.connect()
    }

    /// The broker, for those who embed it.
    #[must_use]
    pub fn broker(&self) -> &Broker {
        &self.broker
    }

    /// Takes no more requests, makes everything durable, and frees port and data directory.
    pub async fn stop(mut self) {
        self.ready.send_replace(false);
        drop(std::mem::take(&mut self.ready));
        self.door.close().await;
        self.broker.close().await;
        self.stop.send_replace(true);
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.door.shut();
        self.stop.send_replace(true);
    }
}

/// Lets clients in.
fn accept(env: &Env, door: &Door, kafka: Listening) -> anyhow::Result<Vec<(String, SocketAddr)>> {
    let mut addresses = Vec::with_capacity(kafka.sockets.len());
    for socket in kafka.sockets {
        addresses.push((socket.name.clone(), socket.address));
        let (listener, at) = socket.into_parts()?;
        let (door, at) = (door.clone(), Arc::new(at));
        env.spawn("kafka listener", async move { door.listen(listener, at).await });
    }
    Ok(addresses)
}

/// What the program knows of itself and tools ask the broker for.
fn report(settings: &mut Settings, place: &Place, kafka: &Listening) {
    let directory = match place {
        // Tools that move partitions between directories want absolute paths.
        Place::Directory(path) => {
            std::path::absolute(path).unwrap_or_else(|_| path.clone()).display().to_string()
        }
        Place::Memory => "memory".to_owned(),
    };
    for (name, value) in [
        ("node.id", NODE_ID.to_string()),
        ("broker.id", NODE_ID.to_string()),
        ("process.roles", "broker,controller".to_owned()),
        ("log.dir", directory.clone()),
        ("log.dirs", directory),
    ] {
        settings.insert(name.to_owned(), value);
    }
    settings.extend(kafka.report());
}

/// The names under which pages are asked for: those that are listed, and those that clients are told.
fn http_hosts(transport: &TransportConfig, kafka: &Listening) -> Arc<[String]> {
    let told = kafka.sockets.iter().map(|socket| socket.told.host.clone());
    transport.http_hosts.iter().cloned().chain(told).collect()
}

/// Says that clients are served while the broker can write.
async fn follow_readiness(mut broker: watch::Receiver<bool>, pages: Weak<watch::Sender<bool>>) {
    loop {
        let Some(ready) = pages.upgrade() else { return };
        ready.send_replace(*broker.borrow_and_update());
        drop(ready);
        if broker.changed().await.is_err() {
            return;
        }
    }
}

/// Says that records are refused while the disk is full.
async fn follow_space(mut low: watch::Receiver<bool>, notices: watch::Sender<String>) {
    loop {
        let notice = if *low.borrow_and_update() {
            AppendError::DiskFull.to_string()
        } else {
            String::new()
        };
        notices.send_replace(notice);
        if low.changed().await.is_err() {
            return;
        }
    }
}

fn serve_http(env: &Env, at: PagesAt, pages: Pages, mut stopped: watch::Receiver<bool>) {
    env.spawn("http", async move {
        let stop = async move {
            // An error means that the server is gone, which is a stop too.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        if let Err(error) = millstream_console::serve(at.socket, at.tls, pages, stop).await {
            warn!(%error, "the HTTP listener has failed");
        }
    });
}

/// Names the commands that help where something stored is damaged.
fn with_advice(error: anyhow::Error, place: &Place) -> anyhow::Error {
    let Place::Directory(path) = place else { return error };
    let is_damage = match (error.downcast_ref::<StartError>(), error.downcast_ref::<JournalError>())
    {
        (Some(start), _) => start.is_damage(),
        (_, Some(JournalError::Corrupt(_))) => true,
        _ => false,
    };
    if !is_damage {
        return error;
    }
    let path = path.display();
    error.context(format!(
        "the data directory is damaged. `millstream log verify --data-dir {path}` names all of it, and \
         `millstream log repair --data-dir {path}` says what can be done and what would be lost"
    ))
}

async fn start_broker(
    env: &Env,
    config: &ServerConfig,
    kafka: &Listening,
) -> anyhow::Result<(Broker, Arc<JournalStats>)> {
    let data = match &config.place {
        Place::Directory(path) => DataDir::open(path, env.clone())?,
        Place::Memory => DataDir::in_memory(env.clone())?,
    };
    let (host, port) = match kafka.first() {
        Some(first) => (first.told.host.clone(), first.told.port),
        None => ("in-process".to_owned(), 0),
    };
    let mut settings = config.settings.clone();
    report(&mut settings, &config.place, kafka);
    let start = BrokerOverrides { start: settings.clone(), ..BrokerOverrides::default() };
    let broker_config = BrokerConfig::resolve(&start);
    let cluster_id = data.cluster();
    if data.is_new() {
        match &config.place {
            Place::Directory(path) => {
                info!(%cluster_id, path = %path.display(), "new data directory");
            }
            Place::Memory => info!(%cluster_id, "all data is in memory"),
        }
    }
    let node = Node { id: NODE_ID, cluster_id, host, port: i32::from(port) };
    let data = match &config.place {
        Place::Directory(_) => data.with_reserve(broker_config.reserve_bytes)?,
        Place::Memory => data,
    };
    let journals = data.journals(journal_settings(&config.place, &broker_config)).await?;
    let stats = journals.stats();
    let (blobs, metadata, reserve) = (data.blobs()?, data.meta(), data.reserve());
    let stores = Stores { journals, blobs, metadata, reserve };
    let broker = Broker::start(env.clone(), node, stores, settings).await?;
    Ok((broker, stats))
}

fn journal_settings(place: &Place, config: &BrokerConfig) -> JournalSettings {
    let defaults = match place {
        Place::Directory(_) => JournalSettings::default(),
        Place::Memory => return JournalSettings::in_memory(),
    };
    let files = config.journal_bytes.div_ceil(JOURNAL_FILE_BYTES).max(2);
    JournalSettings {
        file_bytes: JOURNAL_FILE_BYTES,
        files_max: usize::try_from(files).unwrap_or(usize::MAX),
        durability: match config.durability {
            Wanted::Flush => Durability::Flushed,
            Wanted::Os => Durability::Os,
        },
        ..defaults
    }
}
