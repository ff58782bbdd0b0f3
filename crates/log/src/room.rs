//! Waiting for room in the journal, instead of turning producers away for a moment's lack of it.

use std::sync::atomic::Ordering;

use millstream_env::{JournalState, JournalStatus};
use millstream_types::Lsn;
use tokio::sync::watch;

use crate::error::SessionOver;
use crate::partition::Partition;

/// Follows whether the journal has room again, or layout has come further.
#[derive(Debug)]
pub struct Room {
    status: watch::Receiver<JournalStatus>,
    /// The journal's count of returning room before the last try.
    tried_at: u64,
    laid: watch::Receiver<()>,
}

/// The journal is crowded when more of it is used, as a percentage: well above what has it laid out, and
/// far enough below all of it that those who write little find room while those who write much wait.
const CROWDED_PERCENT: u64 = 75;

impl Partition {
    /// Whether so much of the journal is used that those who write much should leave the rest to others.
    /// Then space is given back as soon as may be: they wait for it.
    #[must_use]
    pub fn is_journal_crowded(&self) -> bool {
        let (used, max) = self.log.journal.usage();
        let is_crowded = used.saturating_mul(100) > max.saturating_mul(CROWDED_PERCENT);
        if is_crowded && !self.log.counters.crowded.swap(true, Ordering::Relaxed) {
            self.log.due.notify_one();
        }
        is_crowded
    }

    /// Whether batches come faster than they are laid out, so that more of them would have to be read
    /// back for that: those who write much do better to wait for it.
    #[must_use]
    pub fn is_layout_behind(&self) -> bool {
        self.log.pace.is_behind()
    }

    /// Below here everything of its session is durable and visible.
    #[must_use]
    pub fn durable(&self) -> Lsn {
        self.log.durable.done()
    }

    /// Completes when everything below `end` of its session is durable and visible.
    ///
    /// # Errors
    ///
    /// When the session ended before.
    pub fn wait_durable(
        &self,
        end: Lsn,
    ) -> impl Future<Output = Result<(), SessionOver>> + Send + use<> {
        self.log.durable.wait(end)
    }

    /// To be called before the append that may be refused as
    /// [`AppendError::Full`](crate::AppendError::Full), so that no room that comes back in between
    /// is missed.
    #[must_use]
    pub fn room(&self) -> Room {
        let status = self.log.journal.status();
        let tried_at = status.borrow().room;
        Room { status, tried_at, laid: self.log.pace.news() }
    }
}

impl Room {
    /// Completes when another try is worth it. `false`: nobody can tell when, because the disk is
    /// full or the session is over.
    pub async fn comes(&mut self) -> bool {
        let tried_at = self.tried_at;
        let look = |status: &JournalStatus| {
            status.room != tried_at || status.disk_full || status.state != JournalState::Open
        };
        // An error: the journal is gone without a word, with its runtime.
        let status = tokio::select! {
            biased;
            status = self.status.wait_for(look) => status,
            Ok(()) = self.laid.changed() => return true,
        };
        let Ok(status) = status else { return false };
        self.tried_at = status.room;
        !status.disk_full && status.state == JournalState::Open
    }
}
