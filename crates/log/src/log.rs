//! The log of one node: all its partitions over one journal.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use millstream_env::{Env, Journal, JournalError, JournalState, JournalStore};
use millstream_record::journal::BLOCK;
use millstream_types::{Lsn, Monotonic, PartitionId, SessionId, Timestamp, TopicId};
use tokio::sync::Notify;

use crate::blobs::Blobs;
use crate::compaction::Compaction;
use crate::durable::Durable;
use crate::error::{AppendError, SessionOver};
use crate::indexes::Indexes;
use crate::maintenance::Progress;
use crate::pace::Pace;
use crate::partition::{Partition, Shared};
use crate::pins::Pins;
use crate::settings::{CompactionSettings, LogSettings, PartitionConfig, PartitionSpec, TrimSink};
use crate::state::PartitionState;
use crate::tail::Tail;
use crate::util::{locked, reading, writing};

/// All partitions that this node leads, for the length of one session. Cheap to clone. Dropping
/// the last handle, those of partitions included, stops it without a checkpoint;
/// [`Log::close`] is the polite way.
#[derive(Clone, Debug)]
pub struct Log {
    pub(crate) inner: Arc<Inner>,
}

/// What [`Log`] and the handles of its partitions share.
pub(crate) struct Inner {
    pub(crate) env: Env,
    pub(crate) journals: Arc<dyn JournalStore>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) blobs: Blobs,
    pub(crate) session: SessionId,
    pub(crate) trims: Arc<dyn TrimSink>,
    pub(crate) settings: LogSettings,
    pub(crate) partitions: RwLock<BTreeMap<PartitionId, Arc<Shared>>>,
    /// Partitions that may have something to lay out. Locked under a partition's lock.
    pub(crate) backlog: Mutex<BTreeSet<PartitionId>>,
    /// When one of them may be due, on the monotonic clock in nanoseconds: until then nobody need look
    /// at all of them.
    pub(crate) look_at: AtomicU64,
    /// Partitions that may have runs to merge. Locked under a partition's lock.
    pub(crate) mergeable: Mutex<BTreeSet<PartitionId>>,
    /// Partitions that have changed since the last checkpoint. Locked under a partition's lock.
    pub(crate) changed: Mutex<Vec<Arc<Shared>>>,
    pub(crate) durable: Arc<Durable>,
    pub(crate) tail: Tail,
    pub(crate) pace: Pace,
    pub(crate) compaction: Compaction,
    pub(crate) compaction_settings: RwLock<CompactionSettings>,
    pub(crate) indexes: Indexes,
    pub(crate) pins: Arc<Pins>,
    /// Layout and checkpoints run one at a time.
    pub(crate) maintenance: tokio::sync::Mutex<Progress>,
    /// Wakes maintenance before its time.
    pub(crate) due: Arc<Notify>,
    pub(crate) counters: Counters,
    /// The position of the newest frame.
    pub(crate) newest: AtomicU64,
    closing: AtomicBool,
    superseded: AtomicBool,
    watcher_next: AtomicU64,
}

/// What has happened since the log was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) appended_bytes: AtomicU64,
    /// Bytes that were appended since a round of layout took what the tail had.
    pub(crate) fresh_bytes: AtomicU64,
    pub(crate) laid_bytes: AtomicU64,
    pub(crate) layouts: AtomicU64,
    pub(crate) checkpoints: AtomicU64,
    pub(crate) deltas: AtomicU64,
    /// Bytes written to the store, in whole blocks: of segments, packs, merged runs, checkpoints.
    pub(crate) segment_written: AtomicU64,
    pub(crate) pack_written: AtomicU64,
    pub(crate) merge_written: AtomicU64,
    pub(crate) checkpoint_written: AtomicU64,
    pub(crate) compact_written: AtomicU64,
    /// Partitions that were compacted, records that went by it, segments that could not be.
    pub(crate) compactions: AtomicU64,
    pub(crate) compacted_records: AtomicU64,
    pub(crate) uncompacted: AtomicU64,
    /// Bytes of batches that compaction has read or written.
    pub(crate) compaction_moved: AtomicU64,
    pub(crate) merges: AtomicU64,
    pub(crate) losses: AtomicU64,
    pub(crate) cold_reads: AtomicU64,
    pub(crate) journal_reads: AtomicU64,
    /// Whether an append was refused since the last round of maintenance.
    pub(crate) refused: AtomicBool,
    /// Whether somebody has waited since then because the journal is crowded.
    pub(crate) crowded: AtomicBool,
    /// Whether anything was deleted since the last checkpoint that was taken for that.
    pub(crate) deletions: AtomicBool,
}

impl Counters {
    /// A checkpoint of so many bytes was stored.
    pub(crate) fn wrote_checkpoint(&self, bytes: u64) {
        self.checkpoint_written.fetch_add(bytes.next_multiple_of(BLOCK), Ordering::Relaxed);
    }
}

/// Figures for people and metrics. Bytes count since the log was opened, the rest is as it is now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogStats {
    /// How many partitions there are.
    pub partitions: u64,
    /// Bytes of batches that are in the journal only.
    pub backlog_bytes: u64,
    /// Bytes of batches in segments.
    pub segment_bytes: u64,
    /// Runs of batches in segments and packs.
    pub segments: u64,
    /// Segments and packs.
    pub blobs: u64,
    /// Memory that recent batches take, in bytes.
    pub tail_bytes: u64,
    /// Memory that indexes take, in bytes.
    pub index_bytes: u64,
    /// Bytes of the journal in use.
    pub journal_used: u64,
    /// The most bytes that the journal may use.
    pub journal_max: u64,
    /// Bytes of batches that were appended.
    pub appended_bytes: u64,
    /// Bytes of batches that were written to segments, merging included.
    pub laid_bytes: u64,
    /// Segments and packs that were written.
    pub layouts: u64,
    /// Times that runs of a partition in packs were merged.
    pub merges: u64,
    /// Offsets of batches that are lost: damaged before they were laid out.
    pub lost: u64,
    /// Checkpoints that were taken.
    pub checkpoints: u64,
    /// Those among them that hold only what had changed.
    pub deltas: u64,
    /// Bytes written to the store for segments that came from the journal, in whole blocks of 4 KiB
    /// as a disk takes them.
    pub segment_written: u64,
    /// The same for packs.
    pub pack_written: u64,
    /// The same for runs that were written again, merged.
    pub merge_written: u64,
    /// The same for checkpoints.
    pub checkpoint_written: u64,
    /// The same for runs that were written again, compacted.
    pub compact_written: u64,
    /// Times that a partition was compacted.
    pub compactions: u64,
    /// Records that went by it.
    pub compacted_records: u64,
    /// Times that a segment was left uncompacted because something in it can't be read.
    pub uncompacted: u64,
    /// Bytes of batches that compaction has read, the first time for their keys, or written.
    pub compaction_moved: u64,
    /// Reads that went to a segment.
    pub cold_reads: u64,
    /// Reads that went to the journal.
    pub journal_reads: u64,
}

/// What [`Inner::new`] takes.
pub(crate) struct Parts {
    pub(crate) env: Env,
    pub(crate) journals: Arc<dyn JournalStore>,
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) blobs: Blobs,
    pub(crate) session: SessionId,
    pub(crate) trims: Arc<dyn TrimSink>,
    pub(crate) settings: LogSettings,
    pub(crate) partitions: BTreeMap<PartitionId, Arc<Shared>>,
    pub(crate) progress: Progress,
}

impl Log {
    /// Begins to lead a partition that has no records yet. One that exists is left as it is.
    pub fn create_partition(&self, spec: PartitionSpec) {
        writing(&self.inner.partitions)
            .entry(spec.id)
            .or_insert_with(|| Shared::new(PartitionState::new(spec)));
    }

    /// Drops all partitions of a topic and what they hold. The topic must be gone from the metadata
    /// log before: what recovery does not find there it drops too.
    pub fn delete_topic(&self, topic: TopicId) {
        let first = PartitionId { topic, index: i32::MIN };
        let last = PartitionId { topic, index: i32::MAX };
        let gone: Vec<_> = {
            let mut partitions = writing(&self.inner.partitions);
            let ids: Vec<_> = partitions.range(first..=last).map(|(id, _)| *id).collect();
            ids.iter().filter_map(|id| partitions.remove(id)).collect()
        };
        for shared in gone {
            let mut state = locked(&shared.state);
            state.deleted = true;
            self.inner.note_changed(&mut state, &shared);
            state.recent.clear();
            self.inner.pace.note(state.backlog_bytes, 0);
            state.backlog_bytes = 0;
            state.segment_bytes = 0;
            let segments = std::mem::take(&mut state.segments);
            self.inner.blobs.release(segments.into(), Lsn(0));
            state.notify();
            self.inner.counters.deletions.store(true, Ordering::Relaxed);
        }
        self.inner.due.notify_one();
    }

    /// Gives the partitions of a topic another configuration.
    pub fn reconfigure(&self, topic: TopicId, config: Arc<PartitionConfig>) {
        let first = PartitionId { topic, index: i32::MIN };
        let last = PartitionId { topic, index: i32::MAX };
        for shared in reading(&self.inner.partitions).range(first..=last).map(|(_, shared)| shared)
        {
            let mut state = locked(&shared.state);
            state.config = Arc::clone(&config);
            self.inner.note_merge(&state);
            self.inner.note_compactable(&state);
        }
        self.inner.look_by(Monotonic(0));
    }

    /// A handle to a partition, if this node leads it.
    #[must_use]
    pub fn partition(&self, id: PartitionId) -> Option<Partition> {
        let shared = Arc::clone(reading(&self.inner.partitions).get(&id)?);
        Some(Partition { log: Arc::clone(&self.inner), shared })
    }

    /// The partitions that this node leads, by id.
    #[must_use]
    pub fn partitions(&self) -> Vec<PartitionId> {
        reading(&self.inner.partitions).keys().copied().collect()
    }

    /// The session that this log writes in.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.inner.session
    }

    /// Completes when everything below `lsn` is durable and visible to readers.
    ///
    /// # Errors
    ///
    /// [`SessionOver`] when the session ended before: what was appended may or may not be found
    /// by the next one.
    pub fn wait_durable(
        &self,
        lsn: Lsn,
    ) -> impl Future<Output = Result<(), SessionOver>> + Send + 'static + use<> {
        self.inner.durable.wait(lsn)
    }

    /// Completes when the session is over, and says why: closed, or its journal failed. Another one
    /// must then be opened over the same stores; this one still reads what is durable. Keeps nothing
    /// alive.
    pub fn over(&self) -> impl Future<Output = JournalState> + Send + 'static + use<> {
        let mut status = self.inner.journal.status();
        async move {
            match status.wait_for(|status| status.state != JournalState::Open).await {
                Ok(status) => status.state.clone(),
                // The writer is gone without a word, with its runtime.
                Err(_) => JournalState::Closed,
            }
        }
    }

    /// Ends the work behind, after the session is over: when this returns, this log deletes, trims
    /// and publishes nothing any more, and the next session may be opened.
    pub async fn retire(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        self.inner.due.notify_one();
        self.inner.compaction.due.notify_one();
        // Whoever has them does not look again before the end of its round.
        drop(self.inner.maintenance.lock().await);
        self.inner.end_compaction().await;
    }

    /// Takes over from `former`, whose session is over, which batches its producers must send again
    /// before others: without that, a batch that was sent behind a lost one could get in front of it.
    pub fn inherit(&self, former: &Self) {
        let durable = former.inner.durable.done();
        let now = self.inner.env.clock.expiry();
        for old in former.inner.all() {
            let Some(new) = reading(&self.inner.partitions).get(&old.id).cloned() else { continue };
            let unsure = locked(&old.state).producers.unsure(durable, now);
            locked(&new.state).producers.inherit(unsure);
        }
    }

    /// The next session serves from now on: whoever watches a partition of this one is woken, and
    /// finds that [`Partition::is_superseded`].
    pub fn supersede(&self) {
        self.inner.superseded.store(true, Ordering::SeqCst);
        for shared in self.inner.all() {
            locked(&shared.state).notify();
        }
    }

    /// Whether appends are refused because the session is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.inner.durable.is_over()
    }

    /// Deletes what the partitions' retention no longer keeps, and forgets idle producers. To be
    /// called now and then; the space comes back in the background.
    pub fn retain(&self, now: Timestamp) {
        for id in self.partitions() {
            if let Some(partition) = self.partition(id) {
                partition.retain(now);
            }
        }
        self.inner.due.notify_one();
    }

    /// Figures. Costs a look at each partition.
    #[must_use]
    pub fn stats(&self) -> LogStats {
        let log = &self.inner;
        let (journal_used, journal_max) = log.journal.usage();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut stats = LogStats {
            blobs: log.blobs.count() as u64,
            backlog_bytes: log.pace.backlog_bytes(),
            tail_bytes: log.tail.used(),
            index_bytes: log.indexes.used(),
            journal_used,
            journal_max,
            appended_bytes: count(&log.counters.appended_bytes),
            laid_bytes: count(&log.counters.laid_bytes),
            layouts: count(&log.counters.layouts),
            merges: count(&log.counters.merges),
            checkpoints: count(&log.counters.checkpoints),
            deltas: count(&log.counters.deltas),
            segment_written: count(&log.counters.segment_written),
            pack_written: count(&log.counters.pack_written),
            merge_written: count(&log.counters.merge_written),
            checkpoint_written: count(&log.counters.checkpoint_written),
            compact_written: count(&log.counters.compact_written),
            compactions: count(&log.counters.compactions),
            compacted_records: count(&log.counters.compacted_records),
            uncompacted: count(&log.counters.uncompacted),
            compaction_moved: count(&log.counters.compaction_moved),
            cold_reads: count(&log.counters.cold_reads),
            journal_reads: count(&log.counters.journal_reads),
            ..LogStats::default()
        };
        for shared in log.all() {
            let state = locked(&shared.state);
            stats.partitions += 1;
            stats.segment_bytes += state.segment_bytes;
            stats.segments += state.segments.len() as u64;
            let lost = state.lost.iter().map(|range| range.upto.0.abs_diff(range.from.0));
            stats.lost += lost.sum::<u64>();
        }
        stats
    }

    /// Refuses further appends, waits for those there were, takes a checkpoint so that the next
    /// session has nothing to replay, and closes the journal.
    pub async fn close(&self) {
        self.inner.closing.store(true, Ordering::SeqCst);
        self.inner.due.notify_one();
        self.inner.compaction.due.notify_one();
        self.inner.end_compaction().await;
        let mut progress = self.inner.maintenance.lock().await;
        if let Err(error) = self.inner.checkpoint(&mut progress).await {
            tracing::warn!(%error, "no checkpoint at close: the next start has more to replay");
        }
        self.inner.journal.close().await;
    }
}

impl Inner {
    pub(crate) fn new(parts: Parts) -> Self {
        let with_backlog = |(id, shared): (&PartitionId, &Arc<Shared>)| {
            (locked(&shared.state).backlog_bytes > 0).then_some(*id)
        };
        let backlog = parts.partitions.iter().filter_map(with_backlog).collect();
        let bytes = |shared: &Arc<Shared>| locked(&shared.state).backlog_bytes;
        let backlog_bytes = parts.partitions.values().map(bytes).sum();
        let mergeable = parts.partitions.keys().copied().collect();
        let changed = parts.partitions.values().filter(|shared| locked(&shared.state).is_changed);
        let changed = changed.cloned().collect();
        Self {
            tail: Tail::new(parts.settings.tail_bytes),
            pace: Pace::new(backlog_bytes, &parts.settings),
            compaction: Compaction::default(),
            compaction_settings: RwLock::new(parts.settings.compaction.clone()),
            indexes: Indexes::new(parts.settings.index_cache_bytes),
            env: parts.env,
            journals: parts.journals,
            journal: parts.journal,
            blobs: parts.blobs,
            session: parts.session,
            trims: parts.trims,
            settings: parts.settings,
            partitions: RwLock::new(parts.partitions),
            backlog: Mutex::new(backlog),
            look_at: AtomicU64::new(0),
            mergeable: Mutex::new(mergeable),
            changed: Mutex::new(changed),
            durable: Arc::default(),
            pins: Arc::default(),
            maintenance: tokio::sync::Mutex::new(parts.progress),
            due: Arc::default(),
            counters: Counters::default(),
            newest: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            superseded: AtomicBool::new(false),
            watcher_next: AtomicU64::new(0),
        }
    }

    /// The partitions at this moment.
    pub(crate) fn all(&self) -> Vec<Arc<Shared>> {
        reading(&self.partitions).values().cloned().collect()
    }

    /// Whether [`Log::close`] or [`Log::retire`] was called.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Whether [`Log::supersede`] was called.
    pub(crate) fn is_superseded(&self) -> bool {
        self.superseded.load(Ordering::SeqCst)
    }

    pub(crate) fn next_watcher(&self) -> u64 {
        self.watcher_next.fetch_add(1, Ordering::Relaxed)
    }

    /// Notes that the partition is not what the last checkpoint says. Under its lock.
    pub(crate) fn note_changed(&self, state: &mut PartitionState, shared: &Arc<Shared>) {
        if !std::mem::replace(&mut state.is_changed, true) {
            locked(&self.changed).push(Arc::clone(shared));
        }
    }

    /// Counts an append, and wakes maintenance when the tail has enough for it. Under the partition's
    /// lock.
    pub(crate) fn note_appended(&self, state: &PartitionState, size: usize) {
        let size = size as u64;
        self.counters.appended_bytes.fetch_add(size, Ordering::Relaxed);
        let (now, segment) = (state.backlog_bytes, state.layout_bytes(&self.settings));
        if now >= segment && now - size < segment {
            self.look_by(Monotonic(0));
        }
        if now == size {
            locked(&self.backlog).insert(state.id);
            self.look_by(state.due(&self.settings));
        }
        let before = self.counters.fresh_bytes.fetch_add(size, Ordering::Relaxed);
        let enough = self.fresh_bytes_max();
        if before < enough && before + size >= enough {
            self.due.notify_one();
        }
    }

    /// When so many bytes have been appended, it is time to lay out what is still in memory: half of the
    /// tail, so that the other half takes what comes meanwhile.
    pub(crate) const fn fresh_bytes_max(&self) -> u64 {
        self.settings.tail_bytes / 2
    }

    /// Something may be due by then.
    pub(crate) fn look_by(&self, at: Monotonic) {
        self.look_at.fetch_min(at.0, Ordering::SeqCst);
    }

    /// What the journal's refusal means to the caller.
    pub(crate) fn refused(&self, error: JournalError) -> AppendError {
        match error {
            JournalError::Full => {
                if !self.counters.refused.swap(true, Ordering::Relaxed) {
                    self.due.notify_one();
                }
                AppendError::Full
            }
            JournalError::Over(_) => SessionOver.into(),
            JournalError::Corrupt(why) | JournalError::Storage(why) => AppendError::Storage(why),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Those look whether there is still a log.
        self.due.notify_one();
        self.compaction.due.notify_one();
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("session", &self.session).finish_non_exhaustive()
    }
}
