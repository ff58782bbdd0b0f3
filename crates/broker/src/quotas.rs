//! Quotas at work: what clients use of the broker, beside what they may use.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use millstream_coordinator::cluster::{ClusterState, Entry};
use millstream_coordinator::quota::{
    Bucket, Change, Entity, Filter, Limit, Limits, QuotaError, Scope, Use,
};
use millstream_types::Monotonic;
use tracing::{info, warn};

use crate::Broker;
use crate::host::lock;
use crate::metadata::ChangeError;

/// Of how many clients it is known what they use. Names are the clients' to choose: if more than these
/// come at a time, those that come last share what one may use.
const BUCKETS_MAX: usize = 10_000;

/// What limits one kind of use for a client, and those with whom he shares it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Quota {
    limit: Limit,
    burst: Duration,
    bucket: Arc<Mutex<Bucket>>,
}

impl Quota {
    /// Notes that `amount` was used. Returns how long to wait before the next time.
    pub fn charge(&self, now: Monotonic, amount: f64) -> Duration {
        lock(&self.bucket).charge(now, amount, self.limit, self.burst)
    }

    /// How long to wait before the next time, as it is.
    #[must_use]
    pub fn wait(&self, now: Monotonic) -> Duration {
        lock(&self.bucket).wait(now, self.burst)
    }
}

/// What is used of all quotas.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    /// Another one after each change of the quotas; 0 while there are none.
    revision: AtomicU64,
    changes: AtomicU64,
    buckets: Mutex<HashMap<Key, Arc<Mutex<Bucket>>>>,
}

/// Who shares a bucket: a user, which may be an address, a client id, or both.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    of: Use,
    user: Option<Arc<str>>,
    client_id: Option<Arc<str>>,
}

impl Usage {
    pub(crate) fn new(state: &ClusterState) -> Self {
        let usage = Self::default();
        usage.changed(state);
        usage
    }

    /// Follows changes of the metadata.
    pub(crate) fn follow(&self, state: &ClusterState, entries: &[Entry]) {
        if entries.iter().any(|entry| matches!(entry, Entry::QuotasSet { .. })) {
            self.changed(state);
            info!("quotas changed");
        }
    }

    fn changed(&self, state: &ClusterState) {
        let change = self.changes.fetch_add(1, Ordering::Relaxed) + 1;
        let revision = if state.quotas().is_empty() { 0 } else { change };
        self.revision.store(revision, Ordering::Release);
    }

    fn bucket(&self, key: Key, now: Monotonic) -> Arc<Mutex<Bucket>> {
        let mut buckets = lock(&self.buckets);
        if let Some(bucket) = buckets.get(&key) {
            return Arc::clone(bucket);
        }
        if buckets.len() >= BUCKETS_MAX {
            buckets.retain(|_, bucket| Arc::strong_count(bucket) > 1 || !lock(bucket).is_idle(now));
        }
        let is_full = buckets.len() >= BUCKETS_MAX;
        let key = if is_full { Key { of: key.of, user: None, client_id: None } } else { key };
        if is_full && !buckets.contains_key(&key) {
            warn!(
                clients = BUCKETS_MAX,
                "so many clients have quotas at a time that others share one"
            );
        }
        Arc::clone(buckets.entry(key).or_default())
    }
}

impl Broker {
    /// Another number after each change of the quotas; 0 while there are none. While it stays the same
    /// what [`Broker::quota`] has returned holds.
    #[must_use]
    pub fn quotas_revision(&self) -> u64 {
        self.0.usage.revision.load(Ordering::Acquire)
    }

    /// What limits how much a client may use `of` the broker; `None`: nothing does.
    #[must_use]
    pub fn quota(&self, of: Use, user: &str, client_id: &str) -> Option<Quota> {
        let (limit, Scope { by_user, by_client_id }) =
            self.0.metadata.read(|state| state.quotas().limit(of, user, client_id))?;
        let user = by_user.then(|| Arc::from(user));
        let client_id = by_client_id.then(|| Arc::from(client_id));
        let bucket = self.0.usage.bucket(Key { of, user, client_id }, self.env().clock.monotonic());
        let config = self.config();
        let burst = match of {
            Use::ControllerMutationRate => config.mutation_burst,
            _ => config.quota_burst,
        };
        Some(Quota { limit, burst, bucket })
    }

    /// What limits how often an address may connect; `None`: nothing does.
    #[must_use]
    pub fn connection_quota(&self, address: IpAddr) -> Option<Quota> {
        if self.quotas_revision() == 0 {
            return None;
        }
        let address = address.to_string();
        let limit = self.0.metadata.read(|state| state.quotas().connection_rate(&address))?;
        let key = Key {
            of: Use::ConnectionCreationRate,
            user: Some(Arc::from(address)),
            client_id: None,
        };
        let bucket = self.0.usage.bucket(key, self.env().clock.monotonic());
        Some(Quota { limit, burst: self.config().quota_burst, bucket })
    }

    /// Changes the limits of `entity`; with `only_validate` nothing happens but the checks.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    pub async fn alter_quotas(
        &self,
        entity: Entity,
        changes: Vec<Change>,
        only_validate: bool,
    ) -> Result<(), ChangeError<QuotaError>> {
        let command = move |state: &ClusterState| {
            let limits = state.quotas().changed(&entity, &changes)?;
            Ok((vec![Entry::QuotasSet { entity, limits }], ()))
        };
        if only_validate {
            return self.0.metadata.read(command).map(|_| ()).map_err(ChangeError::Refused);
        }
        self.change(command).await
    }

    /// All limits of the entities that `filter` wants.
    #[must_use]
    pub fn quotas(&self, filter: &Filter) -> Vec<(Entity, Limits)> {
        self.0.metadata.read(|state| {
            let wanted = state.quotas().iter().filter(|(entity, _)| filter.wants(entity));
            wanted.map(|(entity, limits)| (entity.clone(), limits.clone())).collect()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(client_id: usize) -> Key {
        let client_id = Some(Arc::from(format!("client-{client_id}")));
        Key { of: Use::ProducerByteRate, user: None, client_id }
    }

    #[test]
    fn names_of_clients_take_no_more_memory_than_they_may() {
        let (usage, now) = (Usage::default(), Monotonic(1));
        let kept: Vec<_> = (0..BUCKETS_MAX).map(|client| usage.bucket(key(client), now)).collect();
        let (one, other) =
            (usage.bucket(key(BUCKETS_MAX), now), usage.bucket(key(usize::MAX), now));
        assert!(Arc::ptr_eq(&one, &other), "they share one");
        assert!(Arc::ptr_eq(&kept[7], &usage.bucket(key(7), now)), "known ones have theirs");
        assert_eq!(lock(&usage.buckets).len(), BUCKETS_MAX + 1);
        let limit = Limit::new(1.0).expect("a limit");
        lock(&kept[7]).charge(now, 5.0, limit, Duration::from_secs(1));
        drop(kept);
        usage.bucket(key(BUCKETS_MAX), now);
        let known = lock(&usage.buckets).contains_key(&key(7));
        assert!(known, "what it has used still counts");
        assert!(lock(&usage.buckets).len() < 10);
    }
}
