//! Waiting for room in the journal, first come first served.
//!
//! Without the line, small batches would take each bit of room that comes back, in front of a large
//! one that came before them, until its patience is used up. Then the next batch of its producer
//! would find room, and be stored first.
//!
//! There are two lines: those who have written much of late stand in one of their own, and leave room to
//! those who write little. They find the journal full when it is crowded, so that one client that floods
//! the broker is held back by what the disk can do, and others are not. And while others write, they
//! have no more on its way to the disk than what one write takes anyway: whoever comes then waits for one
//! such write, and not for all that a flood has queued up.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use millstream_env::Env;
use millstream_log::{AppendError, Appended, Origin, Partition, SessionOver};
use millstream_record::ValidBatch;
use millstream_types::{Lsn, Monotonic, SessionId};
use tokio::sync::{Mutex, oneshot};

/// What those who write much may have on its way to the disk while others write, in bytes, and one batch
/// more: enough to keep it busy with few writes.
const HEAVY_BYTES_MAX: usize = 512 * 1024;

/// Others write when one of them has written within this time.
const LIGHT_FOR: Duration = Duration::from_secs(1);

/// How many batches are remembered that may be on their way.
const FLIGHT_BATCHES_MAX: usize = 1_024;

/// The lines of a node.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Of those who write little.
    light: Arc<Line>,
    /// Of those who write much.
    heavy: Arc<Line>,
    shared: Arc<Shared>,
}

/// What those of one line have to know of those of the other.
#[derive(Debug, Default)]
struct Shared {
    /// When somebody who writes little has last written, in nanoseconds; zero for never.
    light_at: AtomicU64,
    /// What those who write much have on its way to the disk.
    flight: std::sync::Mutex<Flight>,
}

/// Batches that have been appended and are not durable, as far as anybody has looked.
#[derive(Debug, Default)]
struct Flight {
    /// The session, the end and the size of each, oldest first.
    batches: VecDeque<(SessionId, Lsn, usize)>,
    bytes: usize,
}

#[derive(Debug, Default)]
struct Line {
    waiting: AtomicUsize,
    /// Whoever holds it is the first. It is handed on in the order of asking.
    first: Mutex<()>,
}

/// A batch on its way into a partition.
#[derive(Clone, Debug)]
pub(crate) struct Append {
    pub(crate) partition: Partition,
    pub(crate) batch: ValidBatch,
    /// See [`Partition::append_pinned`].
    pub(crate) pinned: usize,
    /// Whether its sender has written much of late.
    pub(crate) heavy: bool,
    /// Until when it may wait.
    pub(crate) patience: Monotonic,
}

/// Counts one that waits, until it is dropped.
struct Place(Arc<Line>);

impl Append {
    /// Appends at once, unless others wait or there is no room: then after those who have come
    /// before. A producer that is faster than the disk is held back, not turned away.
    pub(crate) async fn run(self, lines: &Lines, env: &Env) -> Result<Appended, AppendError> {
        let line = if self.heavy { &lines.heavy } else { &lines.light };
        let shared = &lines.shared;
        if line.waiting.load(Ordering::Relaxed) == 0 {
            let (appended, _) = self.try_now(shared, env);
            if appended != Err(AppendError::Full) {
                return appended;
            }
        }
        let place = Place::take(line);
        let (mut tell, told) = oneshot::channel();
        let wait = self.wait(place, Arc::clone(shared), env.clone());
        // A task of its own: the first of the line must go on even while its connection does something
        // else, such as writing an answer to somebody who does not read.
        env.spawn("append that waits", async move {
            let appended = tokio::select! {
                biased;
                appended = wait => appended,
                () = tell.closed() => return,
            };
            // Who has stopped waiting in this moment does not mind.
            let _ = tell.send(appended);
        });
        // The task goes without a word only with its runtime.
        told.await.unwrap_or(Err(AppendError::SessionOver(SessionOver)))
    }

    async fn wait(
        self,
        place: Place,
        shared: Arc<Shared>,
        env: Env,
    ) -> Result<Appended, AppendError> {
        let mut patience = env.clock.sleep_until(self.patience);
        let _first = tokio::select! {
            biased;
            first = place.0.first.lock() => first,
            () = &mut patience => return self.append(&shared, &env),
        };
        let mut room = self.partition.room();
        loop {
            let (appended, behind) = self.try_now(&shared, &env);
            if appended != Err(AppendError::Full) {
                return appended;
            }
            let another = tokio::select! {
                biased;
                comes = room.comes() => comes,
                another = self.flushed(behind) => another,
                () = &mut patience => false,
            };
            if !another {
                // A last try, which counts as one: what its producer sends next must not be stored.
                return self.append(&shared, &env);
            }
        }
    }

    /// Appends, if it may; otherwise says which position must be durable first, where that is why.
    fn try_now(&self, shared: &Shared, env: &Env) -> (Result<Appended, AppendError>, Option<Lsn>) {
        let behind = if self.heavy { self.behind(shared, env) } else { None };
        let to = &self.partition;
        if behind.is_some() || self.heavy && (to.is_journal_crowded() || to.is_layout_behind()) {
            return (Err(AppendError::Full), behind);
        }
        (self.append(shared, env), None)
    }

    /// Where others write and enough of this kind is on its way to the disk already: the end of the oldest
    /// of that.
    fn behind(&self, shared: &Shared, env: &Env) -> Option<Lsn> {
        let light_at = Monotonic(shared.light_at.load(Ordering::Relaxed));
        let others_write =
            light_at != Monotonic(0) && env.clock.monotonic().since(light_at) < LIGHT_FOR;
        if others_write { shared.flight().behind(&self.partition) } else { None }
    }

    /// Completes when another try is worth it because everything below `behind` is durable. `false`: it
    /// never will be.
    async fn flushed(&self, behind: Option<Lsn>) -> bool {
        match behind {
            Some(end) => self.partition.wait_durable(end).await.is_ok(),
            None => std::future::pending().await,
        }
    }

    fn append(&self, shared: &Shared, env: &Env) -> Result<Appended, AppendError> {
        let batch = std::slice::from_ref(&self.batch);
        let appended = self.partition.append_pinned(batch, Origin::Client, Some(self.pinned))?;
        if self.heavy {
            shared.flight().add(&appended, self.batch.bytes().len());
        } else {
            shared.light_at.store(env.clock.monotonic().0.max(1), Ordering::Relaxed);
        }
        Ok(appended)
    }
}

impl Shared {
    fn flight(&self) -> std::sync::MutexGuard<'_, Flight> {
        // Nothing under this lock can leave a change half done.
        self.flight.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight {
    /// The end of the oldest batch on its way, by what is durable now in the session of `partition`, when
    /// there are as many as may be.
    fn behind(&mut self, partition: &Partition) -> Option<Lsn> {
        let (now, durable) = (partition.session(), partition.durable());
        let is_done =
            |(session, end, _): &(SessionId, Lsn, usize)| *session != now || *end <= durable;
        while let Some((_, _, bytes)) = self.batches.pop_front_if(|batch| is_done(batch)) {
            self.bytes -= bytes;
        }
        let (_, end, _) = self.batches.front().filter(|_| self.bytes >= HEAVY_BYTES_MAX)?;
        Some(*end)
    }

    fn add(&mut self, appended: &Appended, bytes: usize) {
        // Nobody may ask for long: then the oldest are not looked at, and need not be kept.
        if self.batches.len() >= FLIGHT_BATCHES_MAX
            && let Some((_, _, bytes)) = self.batches.pop_front()
        {
            self.bytes -= bytes;
        }
        self.batches.push_back((appended.session, appended.end, bytes));
        self.bytes += bytes;
    }
}

impl Place {
    fn take(line: &Arc<Line>) -> Self {
        line.waiting.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(line))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}
