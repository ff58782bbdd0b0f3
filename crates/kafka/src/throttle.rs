//! What the client of one connection uses of the broker, and for how long it is therefore left alone.
//!
//! A client that has used too much is answered at once and told how long it will not be listened to
//! (KIP-219). It is known by its user and its client id.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_broker::quota::Use;
use millstream_broker::{Broker, Quota};
use millstream_types::{Monotonic, Principal};
use millstream_wire::StrBytes;

/// Percent of a core that one core has.
const CORE: f64 = 100.0;

/// Whose use it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Client<'a> {
    pub(crate) user: &'a Principal,
    pub(crate) id: &'a StrBytes,
}

/// One connection's use.
#[derive(Debug, Default)]
pub(crate) struct Throttle {
    /// Until when no request of the connection starts, in nanoseconds; 0 for never.
    muted_until: AtomicU64,
    /// Taken for moments by the connection's own task.
    known: Mutex<Known>,
}

/// The quotas that hold for the connection's client.
#[derive(Debug, Default)]
struct Known {
    /// [`Broker::quotas_revision`] when they were looked up.
    revision: u64,
    /// Whom they hold for; `None` before the first look.
    client: Option<(Principal, StrBytes)>,
    producer: Option<Quota>,
    consumer: Option<Quota>,
    requests: Option<Quota>,
}

impl Throttle {
    /// Notes that the client has used `amount`, which is worked out only if it is limited; it is left alone
    /// for as long as that is too much.
    pub(crate) fn charge(
        &self,
        broker: &Broker,
        client: Client<'_>,
        of: Use,
        amount: impl FnOnce() -> f64,
    ) {
        if let Some(quota) = self.quota(broker, client, of) {
            let now = broker.env().clock.monotonic();
            self.mute(now, quota.charge(now, amount()));
        }
    }

    /// Notes how long the broker has worked for the client.
    pub(crate) fn charge_time(&self, broker: &Broker, client: Client<'_>, spent: Duration) {
        self.charge(broker, client, Use::RequestPercentage, || spent.as_secs_f64() * CORE);
    }

    /// Whether the time that is spent on the client's requests matters.
    pub(crate) fn is_timed(&self, broker: &Broker, client: Client<'_>) -> bool {
        self.quota(broker, client, Use::RequestPercentage).is_some()
    }

    /// Leaves the client alone for `wait`.
    pub(crate) fn mute(&self, now: Monotonic, wait: Duration) {
        if wait > Duration::ZERO {
            self.muted_until.fetch_max(now.plus(wait).0, Ordering::Relaxed);
        }
    }

    /// Until when the client is left alone; the beginning of time if it is not.
    pub(crate) fn muted_until(&self) -> Monotonic {
        Monotonic(self.muted_until.load(Ordering::Relaxed))
    }

    /// For how much longer the client is left alone, in milliseconds, as it is told. Without quotas this
    /// asks no clock.
    pub(crate) fn left_ms(&self, broker: &Broker) -> i32 {
        let until = self.muted_until();
        if until == Monotonic(0) {
            return 0;
        }
        let left = until.since(broker.env().clock.monotonic()).as_nanos().div_ceil(1_000_000);
        i32::try_from(left).unwrap_or(i32::MAX)
    }

    /// Notes that the client has made or deleted so many partitions. The next time shows if that was too
    /// much.
    pub(crate) fn charge_mutation(&self, broker: &Broker, client: Client<'_>, partitions: usize) {
        if let Some(quota) = self.quota(broker, client, Use::ControllerMutationRate) {
            quota.charge(broker.env().clock.monotonic(), partitions as f64);
        }
    }

    fn quota(&self, broker: &Broker, client: Client<'_>, of: Use) -> Option<Quota> {
        let revision = broker.quotas_revision();
        if revision == 0 {
            return None;
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.revision != revision || !known.holds_for(client) {
            *known = Known::look_up(broker, revision, client);
        }
        match of {
            Use::ProducerByteRate => known.producer.clone(),
            Use::ConsumerByteRate => known.consumer.clone(),
            Use::RequestPercentage => known.requests.clone(),
            // Seldom asked for.
            Use::ControllerMutationRate => broker.quota(of, client.user.name(), client.id),
            // Of addresses.
            Use::ConnectionCreationRate => None,
        }
    }

    /// Whether the client may make or delete partitions now; if not, it is left alone.
    pub(crate) fn may_mutate(&self, broker: &Broker, client: Client<'_>) -> bool {
        let quota = self.quota(broker, client, Use::ControllerMutationRate);
        let now = broker.env().clock.monotonic();
        let wait = quota.map_or(Duration::ZERO, |quota| quota.wait(now));
        self.mute(now, wait);
        wait == Duration::ZERO
    }
}

impl Known {
    fn look_up(broker: &Broker, revision: u64, client: Client<'_>) -> Self {
        let quota = |of| broker.quota(of, client.user.name(), client.id);
        Self {
            revision,
            client: Some((client.user.clone(), client.id.clone())),
            producer: quota(Use::ProducerByteRate),
            consumer: quota(Use::ConsumerByteRate),
            requests: quota(Use::RequestPercentage),
        }
    }

    fn holds_for(&self, client: Client<'_>) -> bool {
        self.client.as_ref().is_some_and(|(user, id)| user == client.user && id == client.id)
    }
}
