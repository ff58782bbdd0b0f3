//! Metrics of clients (KIP-714, KIP-1076): who is asked for what, who may push now, and what was pushed.
//!
//! Pure state in memory: nothing of it survives a restart, and nothing needs to. A client that is not
//! known is known from its next request on, and gets the same number for what it is asked for.
//! Instances are bounded in number, and what they have pushed in bytes; who is silent for three of its
//! intervals is shown no longer. An instance belongs to the user that it was first heard of for:
//! its id is shown to whoever reads metrics, and is no secret.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{Monotonic, Uuid};

use crate::config::Overrides;

pub mod otlp;
mod series;
mod subscription;

pub use otlp::Figure;
pub use series::{Batch, Family, INSTANCE_LABEL, Kind, Labels, PREFIX, Series, Shown, families};
pub use subscription::{Client, Matched};

use series::bytes_of;
use subscription::Subscription;

/// How many instances are known at a time, as in Kafka. If there are more, those are forgotten that would
/// be first.
pub const INSTANCES_MAX: usize = 16_384;
/// How many intervals somebody may be silent before he is shown no longer.
const SILENT_INTERVALS: u32 = 3;
/// How long an instance is known at least (Kafka: `DEFAULT_CACHE_EXPIRY_MS`).
const KNOWN_MIN: Duration = Duration::from_secs(60);
/// What one instance may have of the memory for series: one in so many parts, so that a client that makes
/// names up does not take all of it.
const INSTANCE_SHARE: usize = 8;

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It names no instance, one that has said that it ends, or somebody else's.
    #[error("no instance that may push")]
    Invalid,
    /// It comes before its time.
    #[error("before the interval is over")]
    Early,
    /// What the client is asked for has changed: it has to ask again.
    #[error("what is asked for has changed")]
    UnknownSubscription,
    /// It is compressed in a way that there is not.
    #[error("a compression that there is not")]
    Compression,
    /// It is larger than it may be.
    #[error("too large")]
    TooLarge,
}

/// What is known of a push before its metrics are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Push {
    /// Who pushes.
    pub id: Uuid,
    /// What it thinks that it is asked for.
    pub subscription: i32,
    /// Whether it is the last one.
    pub terminating: bool,
    /// Whether its compression is one that there is.
    pub can_be_read: bool,
    /// How large it is, in bytes.
    pub bytes: usize,
}

/// What can be counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Instances that are known now.
    pub instances: usize,
    /// What is kept of their metrics, in bytes.
    pub bytes: usize,
    /// Pushes that were taken.
    pub pushes: u64,
    /// Requests that were refused.
    pub refused: u64,
    /// Points of pushes that are not shown.
    pub left_out: u64,
}

/// All of it.
#[derive(Debug)]
pub struct Telemetry {
    subscriptions: BTreeMap<String, Subscription>,
    /// Rises with each change of the subscriptions.
    revision: u64,
    instances: BTreeMap<Uuid, Instance>,
    /// Every instance, by when it is forgotten.
    by_expiry: BTreeSet<(Monotonic, Uuid)>,
    /// How many instances there have been.
    made: u64,
    bytes_max: usize,
    counts: Counts,
}

#[derive(Debug)]
struct Instance {
    client: Client,
    /// Its place in the order in which they came.
    order: u64,
    matched: Matched,
    revision: u64,
    expires: Monotonic,
    asked: Option<Monotonic>,
    /// Whether it has asked since it has pushed.
    has_asked: bool,
    pushed: Option<Monotonic>,
    has_ended: bool,
    /// Whether it was told to ask again at once.
    may_ask_again: bool,
    shown: Option<Kept>,
}

/// What an instance has pushed.
#[derive(Debug)]
struct Kept {
    at: Monotonic,
    bytes: usize,
    info: Arc<Labels>,
    series: Arc<Vec<Series>>,
}

impl Telemetry {
    /// Without instances; what they push may take `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self {
            subscriptions: BTreeMap::new(),
            revision: 1,
            instances: BTreeMap::new(),
            by_expiry: BTreeSet::new(),
            made: 0,
            bytes_max,
            counts: Counts::default(),
        }
    }

    /// Sets the subscription of that name, or removes it if nothing is set on it.
    pub fn set_subscription(&mut self, name: &str, overrides: &Overrides) {
        let subscription =
            Some(overrides).filter(|set| !set.is_empty()).and_then(Subscription::new);
        match subscription {
            Some(subscription) => self.subscriptions.insert(name.to_owned(), subscription),
            None => self.subscriptions.remove(name),
        };
        self.revision += 1;
    }

    /// Tells a client what it is asked for. `id`: who it is, if it knows.
    ///
    /// # Errors
    ///
    /// [`Refused::Early`], [`Refused::Invalid`].
    pub fn ask(&mut self, now: Monotonic, id: Uuid, client: &Client) -> Result<Matched, Refused> {
        let answer = self.check_ask(now, id, client);
        self.counts.refused += u64::from(answer.is_err());
        answer
    }

    fn check_ask(&mut self, now: Monotonic, id: Uuid, client: &Client) -> Result<Matched, Refused> {
        let instance = self.instance(now, id, client)?;
        let last = instance.asked.max(instance.pushed);
        let is_early = last.is_some_and(|last| now.since(last) < instance.matched.interval);
        if is_early && !instance.may_ask_again {
            return Err(Refused::Early);
        }
        instance.may_ask_again = false;
        (instance.asked, instance.has_asked) = (Some(now), true);
        Ok(instance.matched.clone())
    }

    /// Whether metrics may be pushed now; what they were asked for. What they are comes with
    /// [`Telemetry::keep`].
    ///
    /// # Errors
    ///
    /// The first of [`Refused`] that holds, in Kafka's order: [`Refused::Invalid`], [`Refused::Early`],
    /// [`Refused::UnknownSubscription`], [`Refused::Compression`], [`Refused::TooLarge`].
    pub fn push(
        &mut self,
        now: Monotonic,
        push: Push,
        client: &Client,
        bytes_max: usize,
    ) -> Result<Matched, Refused> {
        let answer = self.check_push(now, push, client, bytes_max);
        self.counts.refused += u64::from(answer.is_err());
        answer
    }

    fn check_push(
        &mut self,
        now: Monotonic,
        push: Push,
        client: &Client,
        bytes_max: usize,
    ) -> Result<Matched, Refused> {
        if push.id == Uuid::NIL {
            return Err(Refused::Invalid);
        }
        let instance = self.instance(now, push.id, client)?;
        if instance.has_ended {
            return Err(Refused::Invalid);
        }
        instance.has_ended = push.terminating;
        // Clients spread their first pushes over half an interval to one and a half.
        let has_asked = std::mem::take(&mut instance.has_asked);
        let is_early =
            instance.pushed.is_some_and(|pushed| now.since(pushed) < instance.matched.interval);
        if is_early && !has_asked && !push.terminating {
            return Err(Refused::Early);
        }
        instance.pushed = Some(now);
        let refused = if push.subscription != instance.matched.id {
            Some(Refused::UnknownSubscription)
        } else if !push.can_be_read {
            Some(Refused::Compression)
        } else {
            None
        };
        instance.may_ask_again = refused.is_some();
        match refused {
            Some(refused) => Err(refused),
            None if push.bytes > bytes_max => Err(Refused::TooLarge),
            None => Ok(instance.matched.clone()),
        }
    }

    /// Keeps what was pushed in place of what was before.
    pub fn keep(&mut self, now: Monotonic, id: Uuid, batch: Batch) {
        self.counts.pushes += 1;
        self.counts.left_out += batch.left_out;
        let Some(instance) = self.instances.get_mut(&id) else { return };
        let before = instance.shown.take();
        let freed = before.as_ref().map_or(0, |before| before.bytes);
        self.counts.bytes = self.counts.bytes.saturating_sub(freed);
        let room = self.bytes_max.saturating_sub(self.counts.bytes);
        let room = room.min(self.bytes_max / INSTANCE_SHARE);
        let info = instance.info(batch.info);
        let mut bytes = bytes_of(&info);
        if bytes > room {
            self.counts.left_out += batch.series.len() as u64;
            return;
        }
        let mut kept = Vec::new();
        let before = before.map(|before| before.series).unwrap_or_default();
        for (mut series, is_delta) in batch.series {
            let more = series.bytes();
            if bytes + more > room {
                self.counts.left_out += 1;
                continue;
            }
            bytes += more;
            if is_delta && let Some(before) = find(&before, &series) {
                series.add(before);
            }
            kept.push(series);
        }
        self.counts.bytes += bytes;
        let (info, series) = (Arc::new(info), Arc::new(kept));
        instance.shown = Some(Kept { at: now, bytes, info, series });
    }

    /// What is to be shown, who came first before others.
    pub fn show(&mut self, now: Monotonic) -> Vec<Shown> {
        self.expire(now);
        let mut shown: Vec<_> = self
            .instances
            .iter()
            .filter_map(|(id, instance)| {
                let kept = instance.shown.as_ref()?;
                let silent = instance.matched.interval * SILENT_INTERVALS;
                let (info, series) = (Arc::clone(&kept.info), Arc::clone(&kept.series));
                let shown = Shown { id: *id, info, series };
                (now.since(kept.at) < silent).then_some((instance.order, shown))
            })
            .collect();
        shown.sort_by_key(|(order, _)| *order);
        shown.into_iter().map(|(_, shown)| shown).collect()
    }

    /// What was counted.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { instances: self.instances.len(), ..self.counts }
    }

    /// The instance, which is made if it is not known, and known for some time more.
    fn instance(
        &mut self,
        now: Monotonic,
        id: Uuid,
        client: &Client,
    ) -> Result<&mut Instance, Refused> {
        self.expire(now);
        let known = self.instances.get(&id);
        if known.is_some_and(|known| known.client.user != client.user) {
            return Err(Refused::Invalid);
        }
        if known.is_none() && self.instances.len() >= INSTANCES_MAX {
            let first = self.by_expiry.first().map(|(_, id)| *id);
            first.into_iter().for_each(|first| self.forget(first));
        }
        let (made, revision, subscriptions) = (self.made, self.revision, &self.subscriptions);
        let instance = self.instances.entry(id).or_insert_with(|| Instance {
            client: client.clone(),
            order: made,
            matched: Matched::new(subscriptions, id, client),
            revision,
            expires: now,
            asked: None,
            has_asked: false,
            pushed: None,
            has_ended: false,
            may_ask_again: false,
            shown: None,
        });
        self.made += u64::from(instance.order == made);
        if instance.revision != revision {
            // Whatever it did before, it may ask now, and be told.
            instance.matched = Matched::new(subscriptions, id, &instance.client);
            instance.revision = revision;
            (instance.asked, instance.pushed) = (None, None);
        }
        self.by_expiry.remove(&(instance.expires, id));
        let known = KNOWN_MIN.max(instance.matched.interval * SILENT_INTERVALS);
        instance.expires = now.plus(known);
        self.by_expiry.insert((instance.expires, id));
        Ok(instance)
    }

    fn expire(&mut self, now: Monotonic) {
        while let Some((_, id)) = self.by_expiry.first().copied().filter(|(at, _)| *at <= now) {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: Uuid) {
        let Some(instance) = self.instances.remove(&id) else { return };
        self.by_expiry.remove(&(instance.expires, id));
        let freed = instance.shown.map_or(0, |kept| kept.bytes);
        self.counts.bytes = self.counts.bytes.saturating_sub(freed);
    }
}

/// The one of the same name and labels; all are in the order of these.
fn find<'a>(all: &'a [Series], wanted: &Series) -> Option<&'a Series> {
    let key = (&wanted.name, &wanted.labels);
    let at = all.binary_search_by(|one| (&one.name, &one.labels).cmp(&key)).ok()?;
    all.get(at)
}

impl Instance {
    /// What is said of it: what is known, then what it says itself.
    fn info(&self, said: Labels) -> Labels {
        let mut known = vec![("client_id", self.client.client_id.clone())];
        known.push(("user", series::cut(&self.client.user)));
        if let Some((name, version)) = &self.client.software {
            known.push(("client_software_name", name.clone()));
            known.push(("client_software_version", version.clone()));
        }
        if let Some(address) = self.client.address {
            known.push(("client_address", address.ip().to_string().into()));
        }
        let known = known.into_iter().map(|(key, value)| (key.into(), value));
        known.chain(said).collect()
    }
}

#[cfg(test)]
mod tests;
