//! Metrics of clients at work: subscriptions follow the metadata, what is pushed is unpacked and kept.

use std::sync::Mutex;

use millstream_coordinator::cluster::{ClusterState, Entry, Resource};
use millstream_coordinator::telemetry::{
    Batch, Client, Counts, Matched, Push, Refused, Shown, Telemetry, otlp,
};
use millstream_record::compression::{Compression, CompressionError, decompress};
use millstream_types::{DecodeError, Uuid};
use tokio::sync::Semaphore;
use tracing::info;

use crate::Broker;
use crate::host::lock;

/// How much metrics may have unpacked, in bytes: text that repeats itself packs well, and this is eight
/// times what may be sent by default.
const UNPACKED_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How many pushes are unpacked at a time, of all connections together: anybody can ask for it, and it takes
/// memory and milliseconds.
const UNPACKED_AT_A_TIME: usize = 2;

/// All of it.
#[derive(Debug)]
pub(crate) struct ClientMetrics {
    state: Mutex<Telemetry>,
    unpacking: Semaphore,
}

/// Metrics as a client pushes them.
#[derive(Clone, Copy, Debug)]
pub struct Pushing<'a> {
    /// Who pushes.
    pub id: Uuid,
    /// What it thinks that it is asked for.
    pub subscription: i32,
    /// Whether this is the last time.
    pub terminating: bool,
    /// How the metrics are compressed; `None`: in a way that there is not.
    pub compression: Option<Compression>,
    /// The metrics.
    pub metrics: &'a [u8],
}

/// Why metrics were not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// They may not be pushed, or not now.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// They can't be unpacked.
    #[error(transparent)]
    Compression(#[from] CompressionError),
    /// They are no metrics.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

impl ClientMetrics {
    pub(crate) fn new(state: &ClusterState, bytes_max: usize) -> Self {
        let mut telemetry = Telemetry::new(bytes_max);
        for (resource, overrides) in state.configured() {
            if let Resource::ClientMetrics(name) = resource {
                telemetry.set_subscription(name, overrides);
            }
        }
        Self { state: Mutex::new(telemetry), unpacking: Semaphore::new(UNPACKED_AT_A_TIME) }
    }

    /// Follows changes of the metadata.
    pub(crate) fn follow(&self, entries: &[Entry]) {
        for entry in entries {
            if let Entry::OverridesSet { resource: Resource::ClientMetrics(name), overrides } =
                entry
            {
                lock(&self.state).set_subscription(name, overrides);
                info!(subscription = name, "a subscription to metrics of clients has changed");
            }
        }
    }
}

impl Broker {
    /// Tells a client which of its metrics it is asked for. `id`: who it is; nobody, if it has not been told
    /// yet. Returns who it is, too.
    ///
    /// # Errors
    ///
    /// When it may not ask, or not now.
    pub fn telemetry_subscription(
        &self,
        id: Uuid,
        client: &Client,
    ) -> Result<(Uuid, Matched), Refused> {
        let id = if id == Uuid::NIL { self.env().uuid() } else { id };
        let now = self.env().clock.monotonic();
        let matched = lock(&self.0.client_metrics.state).ask(now, id, client)?;
        Ok((id, matched))
    }

    /// Takes a client's metrics.
    ///
    /// # Errors
    ///
    /// Nothing of them is shown then.
    pub async fn push_telemetry(
        &self,
        push: Pushing<'_>,
        client: &Client,
    ) -> Result<(), PushError> {
        let now = || self.env().clock.monotonic();
        let known = Push {
            id: push.id,
            subscription: push.subscription,
            terminating: push.terminating,
            can_be_read: push.compression.is_some(),
            bytes: push.metrics.len(),
        };
        let most = self.config().telemetry.push_bytes_max;
        let wanted = lock(&self.0.client_metrics.state).push(now(), known, client, most)?;
        let compression = push.compression.unwrap_or_default();
        // Never closed.
        let _one_of_few = self.0.client_metrics.unpacking.acquire().await;
        let batch = unpack(compression, push.metrics, &wanted)?;
        lock(&self.0.client_metrics.state).keep(now(), push.id, batch);
        Ok(())
    }

    /// What clients have pushed and is to be shown, who came first before others.
    #[must_use]
    pub fn client_metrics(&self) -> Vec<Shown> {
        lock(&self.0.client_metrics.state).show(self.env().clock.monotonic())
    }

    /// What was counted of them.
    #[must_use]
    pub fn client_metrics_counts(&self) -> Counts {
        lock(&self.0.client_metrics.state).counts()
    }
}

fn unpack(compression: Compression, metrics: &[u8], wanted: &Matched) -> Result<Batch, PushError> {
    if compression == Compression::None {
        return Ok(Batch::new(otlp::decode(metrics)?, wanted));
    }
    // Nothing can be pushed by a client that has nothing, and nothing is not what any codec writes.
    let unpacked = match metrics {
        [] => Vec::new(),
        metrics => decompress(compression, metrics, UNPACKED_BYTES_MAX)?,
    };
    Ok(Batch::new(otlp::decode(&unpacked)?, wanted))
}
