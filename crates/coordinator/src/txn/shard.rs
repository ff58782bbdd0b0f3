//! All transactional ids of one partition of `__transaction_state`, their timers, and what the
//! host calls.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::time::Duration;

use millstream_types::{Monotonic, Timestamp};

use super::command::{AddPartitions, Command, Init, ListFilter};
use super::record::{Fact, Stored};
use super::reply::{
    AddPartitionsError, Description, EndError, InitError, Listed, MarkerOrder, OngoingTransaction,
    Producer, Reply, TransactionState,
};
use super::settings::TxnSettings;
use super::{Effects, add, end, init};
use crate::host::{HostFailure, ReplayError, StoredRecord, TEXT_LEN_MAX};

/// How many ids one tick looks at for expiry, so that a tick stays short.
const EXPIRY_LOOKS_MAX: usize = 10_000;
/// How many bytes of aborts, and how many of what forgets, one tick makes, or a record more: all
/// must fit into one batch.
const TICK_BYTES_MAX: usize = 256 << 10;

/// Transactional ids that are being read from their partition.
#[derive(Clone, Debug, Default)]
pub struct Loading {
    ids: BTreeMap<Arc<str>, Stored>,
}

/// All transactional ids of one partition of `__transaction_state`.
#[derive(Clone, Debug)]
pub struct Transactions {
    settings: TxnSettings,
    pub(super) ids: BTreeMap<Arc<str>, Entry>,
    /// At most one entry per id: its [`Entry::deadline`].
    timers: BTreeSet<(Monotonic, Arc<str>)>,
    /// Those with markers to be written.
    preparing: BTreeSet<Arc<str>>,
    /// Those with a transaction that runs.
    ongoing: BTreeSet<Arc<str>>,
    /// The moment of the last command: what is replayed then happens at that time.
    clock: (Monotonic, Timestamp),
    expiry: ExpiryRound,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Hard state: what the newest record says.
    pub(super) stored: Stored,
    /// When to look at it: a transaction that runs has become too old then; of one that is decided
    /// the markers are still not written.
    deadline: Option<Monotonic>,
}

/// The look at all ids for those that have expired, in steps.
#[derive(Clone, Debug)]
struct ExpiryRound {
    /// When the next step is due.
    at: Monotonic,
    /// The last id that this round has looked at.
    after: Option<Arc<str>>,
    paused: bool,
}

impl Loading {
    /// Nothing loaded yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in the next record of the partition.
    ///
    /// # Errors
    ///
    /// When the record is not what a coordinator writes; nothing has changed then.
    pub fn replay(&mut self, record: &StoredRecord) -> Result<(), ReplayError> {
        match Fact::decode(record)? {
            None => {}
            Some(Fact { id, value: None }) => {
                self.ids.remove(&id);
            }
            Some(Fact { id, value: Some(stored) }) => {
                self.ids.insert(id, stored);
            }
        }
        Ok(())
    }

    /// Everything has been read. A transaction that runs has as much time left as its start and
    /// the wall clock say, at least none and at most its timeout.
    #[must_use]
    pub fn finish(self, settings: TxnSettings, now: Monotonic, wall: Timestamp) -> Transactions {
        let mut loaded = Transactions {
            settings,
            ids: BTreeMap::new(),
            timers: BTreeSet::new(),
            preparing: BTreeSet::new(),
            ongoing: BTreeSet::new(),
            clock: (now, wall),
            expiry: ExpiryRound {
                at: now.plus(settings.expiry_interval),
                after: None,
                paused: false,
            },
        };
        for (id, stored) in self.ids {
            loaded.apply(id, Some(stored));
        }
        loaded
    }
}

impl Transactions {
    /// A coordinator of no transactional ids.
    #[must_use]
    pub fn new(settings: TxnSettings, now: Monotonic) -> Self {
        Loading::new().finish(settings, now, Timestamp::NONE)
    }

    /// When [`Transactions::tick`] is to be called. Ask again after each replay.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let expiry = (!self.expiry.paused).then_some(self.expiry.at);
        self.timers.first().map(|(at, _)| *at).into_iter().chain(expiry).min()
    }

    /// Changes the settings, from now on.
    pub fn configure(&mut self, settings: TxnSettings) {
        self.settings = settings;
    }

    /// Stops or resumes the expiry of ids: for a host whose wall clock cannot be trusted.
    pub fn pause_expiry(&mut self, paused: bool) {
        self.expiry.paused = paused;
    }

    /// Answers a command. See the module's documentation for what is to be done with the effects.
    pub fn handle(&mut self, now: Monotonic, wall: Timestamp, command: Command) -> Effects {
        self.clock = (now, wall);
        let (id, (changed, reply)) = match command {
            Command::Init(it) => {
                let outcome = match self.check_init(&it) {
                    Ok(()) => init::init(self.stored(&it.id), &it, wall),
                    Err(error) => (None, Reply::Init(Err(error))),
                };
                (it.id, outcome)
            }
            Command::AddPartitions(it) => {
                let outcome = match check_add(&it) {
                    Ok(()) => add::add(self.stored(&it.id), &it, wall),
                    Err(error) => (None, Reply::AddPartitions(Err(error))),
                };
                (it.id, outcome)
            }
            Command::End(it) => {
                let outcome = match it.id.is_empty() {
                    false => end::end(self.stored(&it.id), &it, wall),
                    true => (None, Reply::End(Err(EndError::InvalidId))),
                };
                (it.id, outcome)
            }
            Command::Marked { id, producer, epoch } => {
                let ordered = Producer { id: producer, epoch };
                let outcome = end::marked(self.stored(&id), ordered, wall);
                (id, outcome)
            }
        };
        let mut out = Effects { records: Vec::new(), reply: Some(reply) };
        if let Some(stored) = changed {
            Fact { id, value: Some(stored) }.put(&mut out.records);
        }
        out
    }

    /// Does what has become due: aborts transactions that are too old, and forgets ids that are
    /// not used. After it the host looks at [`Transactions::orders`].
    pub fn tick(&mut self, now: Monotonic, wall: Timestamp) -> Effects {
        self.clock = (now, wall);
        let mut out = Effects::default();
        self.abort_old(&mut out);
        if !self.expiry.paused && self.expiry.at <= now {
            self.expire(&mut out);
        }
        out
    }

    /// Takes in a record that was appended: the only way in which hard state changes.
    ///
    /// # Errors
    ///
    /// When the record is not what a coordinator writes; nothing has changed then.
    pub fn replay(&mut self, record: &StoredRecord) -> Result<(), ReplayError> {
        if let Some(Fact { id, value }) = Fact::decode(record)? {
            self.apply(id, value);
        }
        Ok(())
    }

    /// The records of `effects` were not appended and will not be: a reply that claims success
    /// turns into a failure, and nothing else has changed.
    pub fn append_failed(&mut self, effects: Effects, why: HostFailure) -> Effects {
        Effects { records: Vec::new(), reply: effects.reply.map(|reply| reply.failed(why)) }
    }

    /// The transactions whose markers are to be written.
    #[must_use]
    pub fn orders(&self) -> Vec<MarkerOrder> {
        self.preparing.iter().filter_map(|id| self.order_of(id)).collect()
    }

    /// The markers that are to be written for `id`, if any.
    #[must_use]
    pub fn order_of(&self, id: &str) -> Option<MarkerOrder> {
        let (id, entry) = self.ids.get_key_value(id)?;
        let stored = &entry.stored;
        stored.state.is_prepare().then(|| MarkerOrder {
            id: Arc::clone(id),
            producer: stored.producer.id,
            epoch: stored.producer.epoch,
            commit: stored.state == TransactionState::PrepareCommit,
            partitions: stored.flat(),
            v2: stored.v2,
        })
    }

    /// The transactions that run: after loading, the host enlists them in their partitions.
    pub fn ongoing(&self) -> impl Iterator<Item = OngoingTransaction> {
        self.ongoing.iter().filter_map(|id| {
            let stored = self.stored(id)?;
            Some(OngoingTransaction {
                id: Arc::clone(id),
                producer: stored.producer.id,
                epoch: stored.producer.epoch,
                partitions: stored.flat(),
                v2: stored.v2,
            })
        })
    }

    /// A transactional id and its transaction; `None` when it is not known.
    #[must_use]
    pub fn describe(&self, id: &str) -> Option<Description> {
        let stored = self.stored(id)?;
        let topic = |(topic, partitions): (&Arc<str>, &BTreeSet<i32>)| {
            (Arc::clone(topic), partitions.iter().copied().collect())
        };
        Some(Description {
            state: stored.state,
            timeout_ms: stored.timeout_ms,
            started: stored.started,
            producer: stored.producer.id,
            epoch: stored.producer.epoch,
            topics: stored.partitions.iter().map(topic).collect(),
        })
    }

    /// All transactional ids that `filter` lets through and that are `wanted`.
    #[must_use]
    pub fn list(
        &self,
        filter: &ListFilter,
        wanted: impl Fn(&str) -> bool,
        wall: Timestamp,
    ) -> Vec<Listed> {
        let is_listed = |id: &str, stored: &Stored| {
            let state = stored.state.name();
            let age = || wall.0.saturating_sub(stored.started.unwrap_or(Timestamp::NONE).0);
            (filter.states.is_empty() || filter.states.iter().any(|it| it == state))
                && (filter.producer_ids.is_empty()
                    || filter.producer_ids.contains(&stored.producer.id))
                && filter.duration_ms.is_none_or(|at_least| age() > at_least)
                && wanted(id)
        };
        let listed = self.ids.iter().filter(|(id, entry)| is_listed(id, &entry.stored));
        let one = |(id, entry): (&Arc<str>, &Entry)| Listed {
            id: Arc::clone(id),
            producer: entry.stored.producer.id,
            state: entry.stored.state,
        };
        listed.map(one).collect()
    }

    /// The records that rebuild all hard state: what a checkpoint keeps instead of the partition.
    #[must_use]
    pub fn snapshot(&self) -> Vec<StoredRecord> {
        let mut records = Vec::new();
        for (id, entry) in &self.ids {
            let value = Some(entry.stored.clone());
            Fact { id: Arc::clone(id), value }.put(&mut records);
        }
        records
    }

    fn stored(&self, id: &str) -> Option<&Stored> {
        self.ids.get(id).map(|entry| &entry.stored)
    }

    fn check_init(&self, init: &Init) -> Result<(), InitError> {
        let allowed = i32::try_from(self.settings.timeout_max.as_millis()).unwrap_or(i32::MAX);
        if init.id.is_empty() {
            Err(InitError::InvalidId)
        } else if init.id.len() > TEXT_LEN_MAX {
            Err(InitError::Host(HostFailure::TooLarge))
        } else if !(1..=allowed).contains(&init.timeout_ms) {
            Err(InitError::InvalidTimeout)
        } else if self.ids.len() >= self.settings.ids_max && !self.ids.contains_key(&init.id) {
            Err(InitError::Host(HostFailure::Unavailable))
        } else {
            Ok(())
        }
    }

    /// Hard state becomes what a record says, and the timer follows.
    fn apply(&mut self, id: Arc<str>, value: Option<Stored>) {
        let before = self.ids.remove(&id);
        if let Some(at) = before.as_ref().and_then(|entry| entry.deadline) {
            self.timers.remove(&(at, Arc::clone(&id)));
        }
        self.preparing.remove(&id);
        self.ongoing.remove(&id);
        let Some(stored) = value else { return };
        let (now, wall) = self.clock;
        let deadline = match stored.state {
            TransactionState::Ongoing => {
                self.ongoing.insert(Arc::clone(&id));
                let runs_on = |entry: &Entry| {
                    entry.stored.state == TransactionState::Ongoing
                        && entry.stored.started == stored.started
                };
                let known = before.filter(runs_on).and_then(|entry| entry.deadline);
                Some(known.unwrap_or_else(|| now.plus(time_left(&stored, wall))))
            }
            state if state.is_prepare() => {
                self.preparing.insert(Arc::clone(&id));
                Some(now.plus(self.settings.retry_interval))
            }
            _ => None,
        };
        self.timers.extend(deadline.map(|at| (at, Arc::clone(&id))));
        self.ids.insert(id, Entry { stored, deadline });
    }

    fn abort_old(&mut self, out: &mut Effects) {
        let (now, wall) = self.clock;
        let again = now.plus(self.settings.retry_interval.max(Duration::from_millis(1)));
        let mut bytes = 0_usize;
        while bytes < TICK_BYTES_MAX
            && self.timers.first().is_some_and(|(when, _)| *when <= now)
            && let Some((_, id)) = self.timers.pop_first()
        {
            let Some(entry) = self.ids.get_mut(&id) else { continue };
            // Until the abort is replayed, or in case it never is.
            entry.deadline = Some(again);
            if entry.stored.state == TransactionState::Ongoing {
                let value = Some(init::fenced(&entry.stored, true, wall));
                Fact { id: Arc::clone(&id), value }.put(&mut out.records);
                bytes = bytes.saturating_add(out.records.last().map_or(0, size));
            }
            self.timers.insert((again, id));
        }
    }

    /// One step of the round that looks for ids that have expired.
    fn expire(&mut self, out: &mut Effects) {
        let (now, wall) = self.clock;
        let from = match self.expiry.after.take() {
            Some(after) => Bound::Excluded(after),
            None => Bound::Unbounded,
        };
        let mut looks = 0_usize;
        let mut bytes = 0_usize;
        let mut all_seen = true;
        for (id, entry) in self.ids.range((from, Bound::Unbounded)) {
            if looks >= EXPIRY_LOOKS_MAX || bytes >= TICK_BYTES_MAX {
                all_seen = false;
                break;
            }
            looks = looks.saturating_add(1);
            let stored = &entry.stored;
            let is_idle = stored.state != TransactionState::Ongoing && !stored.state.is_prepare();
            if is_idle && stored.updated.plus(self.settings.expiration) <= wall {
                Fact { id: Arc::clone(id), value: None }.put(&mut out.records);
                bytes = bytes.saturating_add(out.records.last().map_or(0, size));
            }
            self.expiry.after = Some(Arc::clone(id));
        }
        if all_seen {
            self.expiry.after = None;
            self.expiry.at = now.plus(self.settings.expiry_interval);
        }
    }
}

fn check_add(add: &AddPartitions) -> Result<(), AddPartitionsError> {
    if add.id.is_empty() {
        Err(AddPartitionsError::InvalidId)
    } else if add.partitions.iter().any(|(topic, _)| topic.len() > TEXT_LEN_MAX) {
        Err(AddPartitionsError::Host(HostFailure::TooLarge))
    } else {
        Ok(())
    }
}

/// How long a transaction may still run.
fn time_left(stored: &Stored, wall: Timestamp) -> Duration {
    let timeout = i64::from(stored.timeout_ms).max(0);
    let started = stored.started.map_or(wall.0, |started| started.0);
    let left = timeout.saturating_sub(wall.0.saturating_sub(started)).clamp(0, timeout);
    Duration::from_millis(left.unsigned_abs())
}

fn size(record: &StoredRecord) -> usize {
    record.key.len().saturating_add(record.value.as_ref().map_or(0, bytes::Bytes::len))
}
