//! Incremental fetch sessions (KIP-227), as state without IO.
//!
//! A session remembers what a consumer asks for and what it was last told, so that a request names
//! only what changes and an answer only what is new. The cache has a bounded number of slots and
//! bounded memory; when there is no more the consumer is served without a session, which is always
//! legal.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millstream_types::{Monotonic, Offset, TopicId};

/// A session that was used within this time keeps its slot (Kafka's
/// `min.incremental.fetch.session.eviction.ms`).
const EVICTION_AGE_MIN: Duration = Duration::from_secs(120);

/// What a partition of a session takes beside the name of its topic, in bytes: its places in a table and
/// a tree.
const PARTITION_BYTES: usize = 240;

/// The epoch of a request that wants no session, or ends the one it names.
const EPOCH_FINAL: i32 = -1;
/// The epoch of a request that opens a session.
const EPOCH_INITIAL: i32 = 0;
/// "No session".
pub(crate) const NO_SESSION: i32 = 0;

/// A topic as the request named it: by name up to version 12, by id from 13 on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum TopicKey {
    Name(Arc<str>),
    Id(TopicId),
}

/// One partition of a session or a full request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) topic: TopicKey,
    pub(crate) partition: i32,
}

/// What is asked of one partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) from: Offset,
    pub(crate) bytes_max: i32,
    pub(crate) leader_epoch: i32,
    pub(crate) last_fetched_epoch: i32,
}

/// What an incremental answer compares with what was said before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) high_watermark: Offset,
    pub(crate) log_start: Offset,
}

/// Why a session can't go on; the client opens a new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SessionError {
    NotFound,
    WrongEpoch,
    /// The session names topics the other way (names or ids) than the request.
    TopicIdsDiffer,
}

/// How the answer to one request is to be put together.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Everything to be read, in the order in which it is served.
    pub(crate) asks: Vec<(Key, Ask)>,
    /// The session to filter with; `None`: answer everything, session id 0.
    pub(crate) session: Option<Handle>,
}

/// A session that the plan's request goes on with.
#[derive(Clone, Debug)]
pub(crate) struct Handle {
    pub(crate) id: i32,
    /// Whether the answer names only what changed.
    pub(crate) incremental: bool,
    session: Arc<Mutex<Session>>,
}

/// All sessions of the broker.
#[derive(Debug)]
pub(crate) struct Sessions {
    slots_max: usize,
    memory: Arc<Memory>,
    slots: Mutex<HashMap<i32, Arc<Mutex<Session>>>>,
}

/// What all sessions take together.
#[derive(Debug)]
struct Memory {
    bytes_max: usize,
    used: AtomicUsize,
}

#[derive(Debug)]
struct Session {
    memory: Arc<Memory>,
    /// What it takes of the memory.
    bytes: usize,
    by_id: bool,
    /// What the next incremental request must carry.
    epoch: i32,
    used: Monotonic,
    partitions: HashMap<Key, Entry>,
    /// Service order: a partition that was answered with records goes to the end.
    order: BTreeMap<u64, Key>,
    turn: u64,
}

#[derive(Debug)]
struct Entry {
    ask: Ask,
    told: Option<Told>,
    turn: u64,
}

/// What a request says about its session.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) session_id: i32,
    pub(crate) epoch: i32,
    pub(crate) by_id: bool,
    pub(crate) asks: Vec<(Key, Ask)>,
    pub(crate) forgotten: Vec<Key>,
}

impl Sessions {
    /// At most `slots_max` sessions, which take at most `bytes_max` bytes together.
    pub(crate) fn new(slots_max: usize, bytes_max: usize) -> Self {
        let memory = Arc::new(Memory { bytes_max, used: AtomicUsize::new(0) });
        Self { slots_max, memory, slots: Mutex::default() }
    }

    /// Plans the answer to `request`. `fresh` yields random ids for a new session.
    pub(crate) fn plan(
        &self,
        request: Request,
        now: Monotonic,
        fresh: impl FnMut() -> i32,
    ) -> Result<Plan, SessionError> {
        if request.epoch == EPOCH_FINAL || request.epoch == EPOCH_INITIAL {
            if request.session_id != NO_SESSION {
                lock(&self.slots).remove(&request.session_id);
            }
            let session =
                if request.epoch == EPOCH_INITIAL { self.open(&request, now, fresh) } else { None };
            return Ok(Plan { asks: request.asks, session });
        }
        self.resume(request, now)
    }

    fn open(
        &self,
        request: &Request,
        now: Monotonic,
        mut fresh: impl FnMut() -> i32,
    ) -> Option<Handle> {
        let mut slots = lock(&self.slots);
        if slots.len() >= self.slots_max {
            evict(&mut slots, now);
        }
        if slots.len() >= self.slots_max {
            return None;
        }
        let mut id = fresh() & i32::MAX;
        while id == NO_SESSION || slots.contains_key(&id) {
            id = fresh() & i32::MAX;
        }
        let mut session = Session::new(Arc::clone(&self.memory), request.by_id, now);
        if !session.put_all(&request.asks) {
            return None;
        }
        let session = Arc::new(Mutex::new(session));
        slots.insert(id, Arc::clone(&session));
        Some(Handle { id, incremental: false, session })
    }

    fn resume(&self, request: Request, now: Monotonic) -> Result<Plan, SessionError> {
        let found = lock(&self.slots).get(&request.session_id).cloned();
        let session = found.ok_or(SessionError::NotFound)?;
        let mut state = lock(&session);
        if state.epoch != request.epoch {
            return Err(SessionError::WrongEpoch);
        }
        if state.by_id != request.by_id && !(request.asks.is_empty() && state.partitions.is_empty())
        {
            return Err(SessionError::TopicIdsDiffer);
        }
        state.epoch = if state.epoch == i32::MAX { 1 } else { state.epoch + 1 };
        state.used = now;
        for key in &request.forgotten {
            state.forget(key);
        }
        if !state.put_all(&request.asks) {
            // It opens another one, which it gets when there is memory for it.
            drop(state);
            lock(&self.slots).remove(&request.session_id);
            return Err(SessionError::NotFound);
        }
        let asks = state
            .order
            .values()
            .filter_map(|key| Some((key.clone(), state.partitions.get(key)?.ask)))
            .collect();
        drop(state);
        let handle = Handle { id: request.session_id, incremental: true, session };
        Ok(Plan { asks, session: Some(handle) })
    }

    /// How many sessions there are.
    #[cfg(test)]
    fn len(&self) -> usize {
        lock(&self.slots).len()
    }
}

impl Handle {
    /// Whether `key` belongs into the answer; notes what the consumer is told by it.
    ///
    /// `told` is `None` for a partition in error: errors are always told, and so is whatever
    /// comes after one.
    pub(crate) fn tell(&self, key: &Key, told: Option<Told>, has_records: bool) -> bool {
        let mut session = lock(&self.session);
        if has_records {
            session.move_to_end(key);
        }
        let Some(entry) = session.partitions.get_mut(key) else { return true };
        let news = has_records || told.is_none() || entry.told != told;
        entry.told = told;
        news || !self.incremental
    }
}

impl Session {
    fn new(memory: Arc<Memory>, by_id: bool, now: Monotonic) -> Self {
        Self {
            memory,
            bytes: 0,
            by_id,
            epoch: 1,
            used: now,
            partitions: HashMap::new(),
            order: BTreeMap::new(),
            turn: 0,
        }
    }

    /// Adds partitions, or changes what is asked of them. Whether there is memory for all of them.
    fn put_all(&mut self, asks: &[(Key, Ask)]) -> bool {
        asks.iter().all(|(key, ask)| self.put(key, *ask))
    }

    fn put(&mut self, key: &Key, ask: Ask) -> bool {
        if let Some(entry) = self.partitions.get_mut(key) {
            entry.ask = ask;
            return true;
        }
        if !self.memory.take(key.bytes()) {
            return false;
        }
        self.bytes += key.bytes();
        self.turn += 1;
        self.order.insert(self.turn, key.clone());
        self.partitions.insert(key.clone(), Entry { ask, told: None, turn: self.turn });
        true
    }

    fn forget(&mut self, key: &Key) {
        if let Some(entry) = self.partitions.remove(key) {
            self.order.remove(&entry.turn);
            self.bytes -= key.bytes();
            self.memory.give_back(key.bytes());
        }
    }

    fn move_to_end(&mut self, key: &Key) {
        let Some(entry) = self.partitions.get_mut(key) else { return };
        self.order.remove(&entry.turn);
        self.turn += 1;
        entry.turn = self.turn;
        self.order.insert(self.turn, key.clone());
    }
}

impl Key {
    /// What a session takes for it, in bytes; names may be shared, but need not be.
    fn bytes(&self) -> usize {
        let name = match &self.topic {
            TopicKey::Name(name) => name.len(),
            TopicKey::Id(_) => 0,
        };
        PARTITION_BYTES + name
    }
}

impl Memory {
    fn take(&self, bytes: usize) -> bool {
        let taken = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| {
            used.checked_add(bytes).filter(|used| *used <= self.bytes_max)
        });
        taken.is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.memory.give_back(self.bytes);
    }
}

/// Frees the slot that was left unused for longest, if that is long enough.
fn evict(slots: &mut HashMap<i32, Arc<Mutex<Session>>>, now: Monotonic) {
    let oldest = slots.iter().map(|(id, session)| (lock(session).used, *id)).min();
    if let Some((used, id)) = oldest
        && now.since(used) >= EVICTION_AGE_MIN
    {
        slots.remove(&id);
    }
}

/// A panic while a lock was held leaves a session that is at worst stale; clients recover from it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(partition: i32) -> Key {
        Key { topic: TopicKey::Name("t".into()), partition }
    }

    fn ask(from: i64) -> Ask {
        Ask { from: Offset(from), bytes_max: 1, leader_epoch: -1, last_fetched_epoch: -1 }
    }

    fn request(session_id: i32, epoch: i32, asks: &[(i32, i64)]) -> Request {
        let asks = asks.iter().map(|&(partition, from)| (key(partition), ask(from))).collect();
        Request { session_id, epoch, by_id: false, asks, forgotten: Vec::new() }
    }

    fn told(high_watermark: i64) -> Option<Told> {
        Some(Told { high_watermark: Offset(high_watermark), log_start: Offset::ZERO })
    }

    fn order(plan: &Plan) -> Vec<(i32, i64)> {
        plan.asks.iter().map(|(key, ask)| (key.partition, ask.from.0)).collect()
    }

    const NOW: Monotonic = Monotonic(0);

    fn opened(sessions: &Sessions) -> Handle {
        let plan = sessions.plan(request(0, 0, &[(0, 5), (1, 6), (2, 7)]), NOW, || 42);
        plan.expect("opens").session.expect("there is a slot")
    }

    #[test]
    fn a_request_without_session_gets_none() {
        let sessions = Sessions::new(10, 1 << 20);
        let plan = sessions.plan(request(0, -1, &[(0, 5)]), NOW, || 42).expect("is legal");
        assert!(plan.session.is_none());
        assert_eq!(order(&plan), [(0, 5)]);
        assert_eq!(sessions.len(), 0);
    }

    #[test]
    fn an_incremental_request_names_only_what_changes() {
        let sessions = Sessions::new(10, 1 << 20);
        let handle = opened(&sessions);
        assert_eq!(handle.id, 42);
        let mut next = request(42, 1, &[(1, 60), (3, 8)]);
        next.forgotten = vec![key(2)];
        let plan = sessions.plan(next, NOW, || 0).expect("goes on");
        assert_eq!(order(&plan), [(0, 5), (1, 60), (3, 8)]);
    }

    #[test]
    fn an_incremental_answer_names_only_what_is_new() {
        let sessions = Sessions::new(10, 1 << 20);
        let first = opened(&sessions);
        assert!(first.tell(&key(0), told(5), false), "a full answer names everything");
        let plan = sessions.plan(request(42, 1, &[]), NOW, || 0).expect("goes on");
        let handle = plan.session.expect("in session");
        let cases = [
            (0, told(5), false, false, "nothing new"),
            (0, told(6), false, true, "the high watermark has moved"),
            (0, told(6), true, true, "there are records"),
            (0, None, false, true, "an error"),
            (0, None, false, true, "the error again"),
            (0, told(6), false, true, "no error any more"),
            (0, told(6), false, false, "nothing new again"),
            (1, told(6), false, true, "never told before"),
        ];
        for (partition, told, has_records, expected, why) in cases {
            assert_eq!(handle.tell(&key(partition), told, has_records), expected, "{why}");
        }
    }

    #[test]
    fn what_was_served_goes_move_to_end() {
        let sessions = Sessions::new(10, 1 << 20);
        opened(&sessions).tell(&key(0), told(9), true);
        let plan = sessions.plan(request(42, 1, &[]), NOW, || 0).expect("goes on");
        assert_eq!(order(&plan), [(1, 6), (2, 7), (0, 5)]);
    }

    /// Pitfall 43.
    #[test]
    fn wrong_sessions_are_refused() {
        let sessions = Sessions::new(10, 1 << 20);
        opened(&sessions);
        let mut by_id = request(42, 1, &[(0, 1)]);
        by_id.by_id = true;
        let cases = [
            (request(7, 1, &[]), SessionError::NotFound),
            (request(42, 2, &[]), SessionError::WrongEpoch),
            (by_id, SessionError::TopicIdsDiffer),
        ];
        for (request, expected) in cases {
            assert_eq!(sessions.plan(request, NOW, || 0).err(), Some(expected));
        }
    }

    #[test]
    fn closing_or_reopening_frees_the_old_slot() {
        for epoch in [-1, 0] {
            let sessions = Sessions::new(10, 1 << 20);
            opened(&sessions);
            let plan = sessions.plan(request(42, epoch, &[(0, 1)]), NOW, || 43).expect("legal");
            assert_eq!(plan.session.map(|handle| handle.id), (epoch == 0).then_some(43));
            assert_eq!(
                sessions.plan(request(42, 1, &[]), NOW, || 0).err(),
                Some(SessionError::NotFound)
            );
        }
    }

    /// Pitfall 43.
    #[test]
    fn a_full_cache_keeps_what_is_in_use() {
        let sessions = Sessions::new(1, 1 << 20);
        opened(&sessions);
        let soon = NOW.plus(EVICTION_AGE_MIN - Duration::from_millis(1));
        let refused = sessions.plan(request(0, 0, &[(0, 1)]), soon, || 43).expect("legal");
        assert!(refused.session.is_none());
        let later = NOW.plus(EVICTION_AGE_MIN);
        let plan = sessions.plan(request(0, 0, &[(0, 1)]), later, || 43).expect("legal");
        assert_eq!(plan.session.map(|handle| handle.id), Some(43));
        assert_eq!(sessions.len(), 1);
    }

    #[test]
    fn sessions_take_bounded_memory_and_give_it_back() {
        let sessions = Sessions::new(10, 4 * key(0).bytes());
        let used = || sessions.memory.used.load(Ordering::Relaxed) / key(0).bytes();
        let first = opened(&sessions);
        assert_eq!(used(), 3);
        let plan = sessions.plan(request(0, 0, &[(0, 5), (1, 6)]), NOW, || 43).expect("legal");
        assert!(plan.session.is_none(), "there is memory for one more partition");
        assert_eq!(order(&plan), [(0, 5), (1, 6)], "it is served all the same");
        assert_eq!(used(), 3);
        let mut next = request(42, 1, &[(3, 8), (4, 9)]);
        next.forgotten = vec![key(0)];
        sessions.plan(next, NOW, || 0).expect("two for one");
        assert_eq!(used(), 4);
        let refused = sessions.plan(request(42, 2, &[(5, 1)]), NOW, || 0);
        assert_eq!(refused.err(), Some(SessionError::NotFound));
        assert_eq!(sessions.len(), 0);
        drop(first);
        assert_eq!(used(), 0);
    }
}
