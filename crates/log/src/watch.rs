//! Waiting for records: which of many partitions have moved, and by how much.
//!
//! A reader that waits on a thousand partitions is told which of them moved, and can count what came
//! without reading it: what a wake-up costs is in proportion to what changed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use millstream_types::Offset;
use tokio::sync::Notify;

use crate::partition::{Partition, Shared};
use crate::read::Isolation;
use crate::state::PartitionState;
use crate::util::locked;

/// What one reader hears of the partitions that it watches.
#[derive(Debug, Default)]
pub struct News {
    /// The numbers of those that have moved since the reader last took them.
    moved: Mutex<BTreeSet<usize>>,
    wake: Notify,
}

/// Ends a watch when it is dropped.
#[derive(Debug)]
pub struct WatchGuard {
    shared: Arc<Shared>,
    key: u64,
}

/// What has become visible since a reader looked last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// The size of its batches, in bytes.
    pub bytes: usize,
    /// The first offset after them.
    pub next: Offset,
}

impl News {
    fn tell(&self, which: usize) {
        locked(&self.moved).insert(which);
        self.wake.notify_one();
    }

    /// Waits until a partition moves; returns the numbers of all that have. Nothing is lost when the
    /// future is dropped.
    pub async fn comes(&self) -> BTreeSet<usize> {
        loop {
            let moved = std::mem::take(&mut *locked(&self.moved));
            if !moved.is_empty() {
                return moved;
            }
            self.wake.notified().await;
        }
    }
}

impl PartitionState {
    /// Tells everyone who watches.
    pub(crate) fn notify(&self) {
        for (news, which) in self.watchers.values() {
            news.tell(*which);
        }
    }
}

impl Partition {
    /// Tells `news`, which knows this partition as `which`, when the high watermark or the log start
    /// moves, and when the partition is deleted; until the guard is dropped. Look at the ends after
    /// this call and before you wait.
    #[must_use]
    pub fn watch(&self, news: &Arc<News>, which: usize) -> WatchGuard {
        let key = self.log.next_watcher();
        locked(&self.shared.state).watchers.insert(key, (Arc::clone(news), which));
        WatchGuard { shared: Arc::clone(&self.shared), key }
    }

    /// What is visible from `next` on, where an earlier read ended. Reads nothing; looks only at the
    /// batches that it counts. `None`: only another read can tell, because the partition was deleted,
    /// the log starts later now, or the batches are no longer in the journal.
    #[must_use]
    pub fn added(&self, next: Offset, isolation: Isolation) -> Option<Added> {
        let state = locked(&self.shared.state);
        let ends = state.ends();
        if state.deleted || next < ends.log_start {
            return None;
        }
        let bound = ends.visible(isolation);
        let mut added = Added { bytes: 0, next };
        if next < bound {
            let at = state.recent_at(next)?;
            for batch in state.recent.range(at..).take_while(|batch| batch.last < bound) {
                added.bytes += batch.size as usize;
                added.next = batch.last.next();
            }
        }
        Some(added)
    }
}

impl Drop for WatchGuard {
    fn drop(&mut self) {
        locked(&self.shared.state).watchers.remove(&self.key);
    }
}
