//! The work behind: one task lays out, takes checkpoints, and deletes what died.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use millstream_types::Lsn;
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::chain::Chain;
use crate::checkpoint::Held;
use crate::error::{AppendError, MaintenanceError};
use crate::layout::Unreadable;
use crate::log::{Inner, Log};
use crate::plan::Pressure;

/// A checkpoint because the journal fills up is worth its while when at least this part of the
/// journal was appended since the last.
const JOURNAL_STEP_DIVISOR: u64 = 32;
/// On a full disk the journal is laid out when at least this part of it, and as much again as is laid
/// out, comes back.
const JOURNAL_WORTH_DIVISOR: u64 = 8;
/// How often in one round everything is laid out while more comes.
const LAYOUT_ROUNDS_MAX: usize = 4;

/// How far maintenance is.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// The checkpoints that recovery would start from.
    pub(crate) chain: Chain,
    /// What they refer to in journals.
    pub(crate) held: Held,
    /// Where this session's journal ended then; `None` when it is of a former session.
    pub(crate) checkpoint_end: Option<Lsn>,
    /// Bytes of former sessions' journals that recovery would replay again.
    pub(crate) replayed_bytes: u64,
    /// What [`Inner::laid`] was then.
    pub(crate) checkpoint_laid: u64,
    /// Whether orphans were removed.
    pub(crate) swept: bool,
    /// Partitions that have batches to lay out that the disk does not read.
    pub(crate) unread: Unreadable,
    /// The same with segments that are to be merged.
    pub(crate) unmerged: Unreadable,
    /// Since when there has been no room for blobs.
    pub(crate) full: Backoff,
}

/// Maintains the log as long as there is one.
pub(crate) async fn run(log: Weak<Inner>, due: Arc<Notify>) {
    let mut is_rested = false;
    loop {
        let Some(inner) = log.upgrade() else { return };
        if is_rested {
            inner.blobs.store.trim();
        }
        if inner.is_closing() || inner.durable.is_over() {
            return;
        }
        let pause = inner.env.sleep(inner.settings.maintenance_interval);
        let log = Log { inner };
        if let Err(error) = log.maintain().await {
            tracing::warn!(%error, "maintenance is put off");
        }
        drop(log);
        is_rested = tokio::select! {
            biased;
            () = due.notified() => false,
            () = pause => true,
        };
    }
}

impl Log {
    /// Does what is due: removes orphans once, lays out, takes a checkpoint, deletes dead blobs. The
    /// engine does this by itself unless [`crate::LogSettings::background`] is off.
    ///
    /// # Errors
    ///
    /// [`MaintenanceError`]; what is left is done the next time.
    pub async fn maintain(&self) -> Result<(), MaintenanceError> {
        let mut progress = self.inner.maintenance.lock().await;
        if self.inner.is_closing() {
            return Ok(());
        }
        // On a full disk nobody writes what gives none of its space back. The journal's own space
        // matters when what must go on finds none: clients are refused before they come to it.
        let is_low = self.inner.settings.reserve.is_low();
        let helps = is_low && self.inner.layout_helps();
        let pressure = if helps { Pressure::Journal } else { self.inner.pressure() };
        self.inner.counters.crowded.store(false, Ordering::Relaxed);
        // One step's failure must not keep another from giving back space.
        let swept = self.inner.sweep(&mut progress).await;
        let laid = match is_low && !helps {
            true => Ok(()),
            false => self.inner.lay_out_round(pressure, false, &mut progress).await,
        };
        let merged = if is_low { Ok(()) } else { self.inner.merge(&mut progress).await };
        // Much may have come meanwhile.
        let pressed = pressure == Pressure::Journal || self.inner.pressure() == Pressure::Journal;
        // Closing takes its own.
        let is_due = !self.inner.is_closing()
            && (self.inner.checkpoint_due(pressed, &progress)
                || helps
                || is_low && self.inner.has_let_go());
        let taken = match is_due {
            true => self.inner.checkpoint(&mut progress).await,
            false => Ok(()),
        };
        let reaped = self.inner.blobs.reap(self.inner.durable.done()).await;
        swept.and(laid).and(merged).and(taken).and(reaped.map(|_| ()).map_err(Into::into))
    }

    /// Lays out everything that is durable, due or not.
    ///
    /// # Errors
    ///
    /// [`MaintenanceError`].
    pub async fn lay_out(&self) -> Result<(), MaintenanceError> {
        let mut progress = self.inner.maintenance.lock().await;
        self.inner.lay_out_round(Pressure::Journal, true, &mut progress).await
    }

    /// Takes a checkpoint now and trims the journal.
    ///
    /// # Errors
    ///
    /// [`MaintenanceError`].
    pub async fn checkpoint(&self) -> Result<(), MaintenanceError> {
        let mut progress = self.inner.maintenance.lock().await;
        self.inner.checkpoint(&mut progress).await
    }
}

impl Inner {
    /// What needs space.
    pub(crate) fn pressure(&self) -> Pressure {
        let (used, max) = self.journal.usage();
        let fresh = self.counters.fresh_bytes.load(Ordering::Relaxed);
        if used.saturating_mul(100) > max.saturating_mul(self.settings.journal_used_percent) {
            Pressure::Journal
        } else if fresh >= self.fresh_bytes_max() {
            Pressure::Tail
        } else {
            Pressure::None
        }
    }

    /// Lays out what is due. When the journal has no room even for the frames of that, a checkpoint
    /// in between gives back what is laid out already.
    async fn lay_out_round(
        self: &Arc<Self>,
        pressure: Pressure,
        is_asked: bool,
        progress: &mut Progress,
    ) -> Result<(), MaintenanceError> {
        let all = pressure == Pressure::Journal;
        if pressure != Pressure::None {
            self.counters.fresh_bytes.store(0, Ordering::Relaxed);
        }
        for _ in 0..LAYOUT_ROUNDS_MAX {
            let before = self.laid();
            match self.lay_out(pressure, is_asked, progress).await {
                Err(MaintenanceError::Append(AppendError::Full)) if !self.is_closing() => {
                    self.checkpoint(progress).await?;
                    continue;
                }
                laid => laid?,
            }
            if !all || self.is_closing() || self.laid() == before {
                break;
            }
        }
        Ok(())
    }

    /// Rises with everything that is laid out, or given up.
    pub(crate) fn laid(&self) -> u64 {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        count(&self.counters.layouts) + count(&self.counters.losses)
    }

    /// What a restart would have to replay now, in bytes.
    fn to_replay(&self, progress: &Progress) -> u64 {
        let before = progress.checkpoint_end.unwrap_or_default();
        let appended = self.journal.end().0.saturating_sub(before.0);
        appended.saturating_add(progress.replayed_bytes)
    }

    /// Takes a checkpoint between two pieces of other work when a restart would have too much to
    /// replay by now: that work takes long when there is much of it.
    ///
    /// # Errors
    ///
    /// [`MaintenanceError`] of the checkpoint.
    pub(crate) async fn bound_replay(
        self: &Arc<Self>,
        progress: &mut Progress,
    ) -> Result<(), MaintenanceError> {
        if self.to_replay(progress) < self.settings.checkpoint_bytes {
            return Ok(());
        }
        self.checkpoint(progress).await
    }

    fn checkpoint_due(&self, pressed: bool, progress: &Progress) -> bool {
        let since = self.to_replay(progress);
        let refused = self.counters.refused.swap(false, Ordering::Relaxed);
        let (_, max) = self.journal.usage();
        // Former sessions' journals go with this one's first checkpoint. A refusal alone may be for
        // a moment's lack of a file; it counts when space is short. What was laid out gives space back
        // with the next checkpoint, however little was appended: who waits for the space appends nothing.
        let worthwhile = refused
            || progress.checkpoint_end.is_none()
            || self.laid() != progress.checkpoint_laid
            || since >= max / JOURNAL_STEP_DIVISOR;
        since >= self.settings.checkpoint_bytes || (pressed && worthwhile)
    }

    /// Whether laying out is worth its space on a full disk: something that must go on was refused, or
    /// the journal gives back much more than it takes.
    fn layout_helps(&self) -> bool {
        if self.counters.refused.load(Ordering::Relaxed) {
            return true;
        }
        let (used, max) = self.journal.usage();
        let backlog = self.pace.backlog_bytes();
        used > backlog.saturating_mul(2).saturating_add(max / JOURNAL_WORTH_DIVISOR)
    }

    /// Whether a checkpoint would give back files of the journal, because what they hold was deleted.
    fn has_let_go(&self) -> bool {
        self.counters.deletions.swap(false, Ordering::Relaxed)
    }

    /// Removes what a crash of a former session left behind, once.
    async fn sweep(&self, progress: &mut Progress) -> Result<(), MaintenanceError> {
        if progress.swept {
            return Ok(());
        }
        let orphans = self.blobs.orphans(self.session, &progress.chain).await?;
        if !orphans.is_empty() {
            tracing::info!(count = orphans.len(), "removing blobs that a crash left behind");
            self.blobs.store.delete(orphans).await?;
        }
        progress.swept = true;
        Ok(())
    }
}
