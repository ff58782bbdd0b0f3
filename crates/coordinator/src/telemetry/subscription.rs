//! What is asked of clients: subscriptions, and what those that fit a client come to together.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use millstream_record::crc32c;
use millstream_types::Uuid;

use crate::config::{ClientSubscription, Overrides};
use crate::group::Pattern;

use super::series::cut;

/// What asks for all metrics.
const ALL: &str = "*";

/// A client, as far as the connection by which it asks tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Whom it speaks for.
    pub user: Arc<str>,
    /// What it calls itself.
    pub client_id: Box<str>,
    /// What program it says that it is (KIP-511); nothing if it does not.
    pub software: Option<(Box<str>, Box<str>)>,
    /// Where it connects from; `None` within the process.
    pub address: Option<SocketAddr>,
}

impl Client {
    /// A client whose names are kept as far as they are of a bearable length.
    #[must_use]
    pub fn new(
        user: &str,
        client_id: &str,
        software: Option<(&str, &str)>,
        address: Option<SocketAddr>,
    ) -> Self {
        Self {
            user: Arc::from(user),
            client_id: cut(client_id),
            software: software.map(|(name, version)| (cut(name), cut(version))),
            address,
        }
    }
}

/// One subscription.
#[derive(Clone, Debug)]
pub(super) struct Subscription {
    metrics: BTreeSet<String>,
    interval: Duration,
    patterns: Vec<(String, Pattern)>,
}

/// What a client is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matched {
    /// Tells the client, and us, whether it has changed.
    pub id: i32,
    /// Prefixes of names; one `*` for all.
    pub metrics: Arc<[String]>,
    /// How often.
    pub interval: Duration,
}

impl Subscription {
    /// `None` when what is stored can't be read; it was checked before it was.
    pub(super) fn new(overrides: &Overrides) -> Option<Self> {
        let ClientSubscription { metrics, interval, selectors } =
            ClientSubscription::resolve(overrides)?;
        let patterns = selectors.into_iter().map(|(name, pattern)| {
            let pattern = Pattern::new(&pattern).ok()?;
            Some((name, pattern))
        });
        let patterns = patterns.collect::<Option<_>>()?;
        Some(Self { metrics: metrics.into_iter().collect(), interval, patterns })
    }

    /// Whether all patterns match what they are for. What a client does not say matches none.
    fn is_for(&self, id: Uuid, client: &Client) -> bool {
        let matches = |(name, pattern): &(String, Pattern)| match name.as_str() {
            "client_instance_id" => pattern.matches(&id.to_string()),
            "client_id" => pattern.matches(&client.client_id),
            "client_software_name" => {
                client.software.as_ref().is_some_and(|(name, _)| pattern.matches(name))
            }
            "client_software_version" => {
                client.software.as_ref().is_some_and(|(_, version)| pattern.matches(version))
            }
            "client_source_address" => {
                client.address.is_some_and(|address| pattern.matches(&address.ip().to_string()))
            }
            "client_source_port" => {
                client.address.is_some_and(|address| pattern.matches(&address.port().to_string()))
            }
            _ => false,
        };
        self.patterns.iter().all(matches)
    }
}

impl Matched {
    /// What all subscriptions that fit ask of a client: every metric that one asks for, as often as the
    /// one that asks most often (KIP-714).
    pub(super) fn new(
        subscriptions: &BTreeMap<String, Subscription>,
        id: Uuid,
        client: &Client,
    ) -> Self {
        let fitting = || subscriptions.values().filter(|one| one.is_for(id, client));
        let mut metrics: BTreeSet<_> = fitting().flat_map(|one| one.metrics.clone()).collect();
        if metrics.contains(ALL) {
            metrics = BTreeSet::from([ALL.to_owned()]);
        }
        let default = ClientSubscription::INTERVAL;
        let interval = fitting().map(|one| one.interval).fold(default, Duration::min);
        Self {
            id: number(&metrics, interval, id),
            metrics: metrics.into_iter().collect(),
            interval,
        }
    }

    /// Whether a metric of that name was asked for.
    #[must_use]
    pub fn wants(&self, name: &[u8]) -> bool {
        self.metrics.iter().any(|prefix| prefix == ALL || name.starts_with(prefix.as_bytes()))
    }
}

/// As Kafka makes it, so that it is the same after a restart: a checksum of what is asked for, and the
/// instance's own bits.
fn number(metrics: &BTreeSet<String>, interval: Duration, id: Uuid) -> i32 {
    let mut text = metrics.iter().cloned().collect::<Vec<_>>().join(", ");
    text = format!("[{text}]{}", interval.as_millis());
    let (words, _) = id.0.as_chunks::<4>();
    let own = words.iter().fold(0, |bits, word| bits ^ u32::from_be_bytes(*word));
    (crc32c(text.as_bytes()) ^ own).cast_signed()
}
