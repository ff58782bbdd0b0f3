//! Waiting for room in the journal, first come first served.
//!
//! Without the line, small batches would take each bit of room that comes back, in front of a large
//! one that came before them, until its patience is used up. Then the next batch of its producer
//! would find room, and be stored first.
//!
//! There are two lines: those who have written much of late find the journal full when it is crowded,
//! and stand in a line of their own, so that one client that floods the broker is held back by what the
//! disk can do, and others are not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millstream_env::Env;
use millstream_log::{AppendError, Appended, Origin, Partition, SessionOver};
use millstream_record::ValidBatch;
use millstream_types::Monotonic;
use tokio::sync::{Mutex, oneshot};

/// The lines of a node.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    /// Of those who write little.
    light: Arc<Line>,
    /// Of those who write much.
    heavy: Arc<Line>,
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
        if line.waiting.load(Ordering::Relaxed) == 0 {
            let appended = self.try_now();
            if appended != Err(AppendError::Full) {
                return appended;
            }
        }
        let place = Place::take(line);
        let (mut tell, told) = oneshot::channel();
        let wait = self.wait(place, env.clone());
        // A task of its own: the first of the line must go on even while its connection does something
        // else, such as writing an answer to somebody who does not read.
        env.spawn("append that waits", async move {
            let appended = tokio::select! {
                appended = wait => appended,
                () = tell.closed() => return,
            };
            // Who has stopped waiting in this moment does not mind.
            let _ = tell.send(appended);
        });
        // The task goes without a word only with its runtime.
        told.await.unwrap_or(Err(AppendError::SessionOver(SessionOver)))
    }

    async fn wait(self, place: Place, env: Env) -> Result<Appended, AppendError> {
        let mut patience = env.clock.sleep_until(self.patience);
        let _first = tokio::select! {
            first = place.0.first.lock() => first,
            () = &mut patience => return self.append(),
        };
        let mut room = self.partition.room();
        loop {
            let appended = self.try_now();
            if appended != Err(AppendError::Full) {
                return appended;
            }
            let another = tokio::select! {
                comes = room.comes() => comes,
                () = &mut patience => false,
            };
            if !another {
                // A last try, which counts as one: what its producer sends next must not be stored.
                return self.append();
            }
        }
    }

    fn try_now(&self) -> Result<Appended, AppendError> {
        if self.heavy && self.partition.is_journal_crowded() {
            return Err(AppendError::Full);
        }
        self.append()
    }

    fn append(&self) -> Result<Appended, AppendError> {
        let batch = std::slice::from_ref(&self.batch);
        self.partition.append_pinned(batch, Origin::Client, Some(self.pinned))
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
