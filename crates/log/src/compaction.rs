//! Compaction: of each key, the newest record stays.
//!
//! `plan` says when and what, `keys` remembers the newest offset of each key, `clean` decides what is kept,
//! `run` carries it out. It is a task of its own beside maintenance, because it may take long: layout
//! and checkpoints go on meanwhile. It reads and writes at a bounded rate, and slower where layout is
//! late.
//!
//! How far a partition is compacted is not remembered anywhere: its runs say whether compaction wrote
//! them. What is in the journal only is not looked at; it is laid out when its time comes, and after the
//! longest lag at the latest.

mod clean;
mod keys;
mod plan;
mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use millstream_env::BlobError;
use millstream_record::BatchHeader;
use millstream_record::batch::HEADER_SIZE;
use millstream_types::{Monotonic, Offset, PartitionId, Timestamp};
use tokio::sync::Notify;

use crate::backoff::Backoff;
use crate::blobs::Segment;
use crate::error::{MaintenanceError, ReadError, SessionOver};
use crate::indexes::unreadable;
use crate::layout::{READ_TRIES_MAX, Unreadable};
use crate::log::{Inner, Log};
use crate::partition::Shared;
use crate::settings::CompactionSettings;
#[cfg(doc)]
use crate::settings::LogSettings;
use crate::state::PartitionState;
use crate::util::{locked, reading, writing};
use clean::{Aborted, LastOf, Rules};
use plan::{Piece, Terms, Verdict, plan};
pub(crate) use run::{Cleaning, Stop};
use run::{Indexed, Job};

/// Partitions that hold at most so many bytes share a blob when they are compacted.
const SMALL_BYTES_MAX: u64 = 4 * 1024 * 1024;
/// As long as layout is late, compaction goes so many times slower.
const LATE_DIVISOR: u64 = 8;
/// It is looked again after so long whether there is still a log.
const LOOK_AFTER: Duration = Duration::from_millis(50);

/// What compaction knows between two rounds.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    /// Partitions that may have something to compact, by when to look. Locked under a partition's lock.
    waiting: Mutex<BTreeMap<PartitionId, Timestamp>>,
    /// Partitions that the disk does not read.
    unread: Mutex<Unreadable>,
    /// When what was read and written so far is paid for.
    free_at: Mutex<Monotonic>,
    /// One round at a time.
    round: tokio::sync::Mutex<Backoff>,
    pub(crate) due: Arc<Notify>,
}

/// Keeps others from writing a partition's segments anew at the same time.
pub(crate) struct Rewriting {
    log: Arc<Inner>,
    pub(crate) shared: Arc<Shared>,
}

impl Rewriting {
    /// `None`: somebody else does. Under the partition's lock.
    pub(crate) fn begin(
        log: &Arc<Inner>,
        shared: &Arc<Shared>,
        state: &mut PartitionState,
    ) -> Option<Self> {
        let is_busy = std::mem::replace(&mut state.rewriting, true);
        (!is_busy).then(|| Self { log: Arc::clone(log), shared: Arc::clone(shared) })
    }
}

impl Drop for Rewriting {
    fn drop(&mut self) {
        let mut state = locked(&self.shared.state);
        state.rewriting = false;
        self.log.note_merge(&state);
        self.log.note_compactable(&state);
    }
}

/// Compacts as long as there is a log.
pub(crate) async fn run(log: Weak<Inner>, due: Arc<Notify>) {
    loop {
        let Some(inner) = log.upgrade() else { return };
        if inner.is_closing() || inner.durable.is_over() {
            return;
        }
        let pause = inner.env.sleep(inner.compaction_settings().pause);
        let done = Log { inner }.compact().await;
        match done {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "compaction is put off"),
        }
        tokio::select! {
            biased;
            () = due.notified() => {}
            () = pause => {}
        }
    }
}

impl Log {
    /// Compacts the partitions that it is time for. The engine does this by itself unless
    /// [`LogSettings::background`] is off. Returns whether one of them has more to compact at once.
    ///
    /// # Errors
    ///
    /// [`MaintenanceError`]; what is left is done the next time.
    pub async fn compact(&self) -> Result<bool, MaintenanceError> {
        let log = &self.inner;
        let mut full = log.compaction.round.lock().await;
        let is_off = !log.compaction_settings().is_on;
        if is_off || log.is_closing() || full.holds(log.env.clock.monotonic()) {
            return Ok(false);
        }
        let done = log.compact_due().await;
        match &done {
            Err(_) if log.is_closing() => return Ok(false),
            Err(error) if error.is_full() => {
                full.failed(log.env.clock.monotonic());
            }
            _ => *full = Backoff::default(),
        }
        done
    }

    /// How compaction goes from now on.
    pub fn set_compaction(&self, settings: CompactionSettings) {
        *writing(&self.inner.compaction_settings) = settings;
        self.inner.compaction.due.notify_one();
    }
}

impl Inner {
    /// Waits for the round that may be under way: there will be no other.
    pub(crate) async fn end_compaction(&self) {
        drop(self.compaction.round.lock().await);
    }

    pub(crate) fn compaction_settings(&self) -> CompactionSettings {
        reading(&self.compaction_settings).clone()
    }

    /// Notes that the partition may have something to compact. Under its lock.
    pub(crate) fn note_compactable(&self, state: &PartitionState) {
        if state.config.compacts && !state.deleted {
            locked(&self.compaction.waiting).insert(state.id, Timestamp(i64::MIN));
        }
    }

    /// Waits until so many bytes that compaction has read or wants to write are its share.
    ///
    /// # Errors
    ///
    /// [`SessionOver`] when there is no more use in it.
    pub(crate) async fn give_way(&self, bytes: u64) -> Result<(), MaintenanceError> {
        self.counters.compaction_moved.fetch_add(bytes, Ordering::Relaxed);
        let settings = self.compaction_settings();
        let rates = settings.bytes_per_second.into_iter().chain(self.settings.layout_rate);
        if let Some(rate) = rates.min() {
            let slower = if self.pace.hurries() { LATE_DIVISOR } else { 1 };
            let price =
                Duration::from_secs(1).mul_f64((bytes * slower) as f64 / rate.max(1) as f64);
            let paid = {
                let mut free_at = locked(&self.compaction.free_at);
                *free_at = self.env.clock.monotonic().max(*free_at).plus(price);
                *free_at
            };
            loop {
                let left = paid.since(self.env.clock.monotonic());
                if left.is_zero() || self.is_closing() {
                    break;
                }
                // Who closes the log says so here, too.
                tokio::select! {
                    biased;
                    () = self.env.sleep(left.min(LOOK_AFTER)) => {}
                    () = self.compaction.due.notified() => {}
                }
            }
        }
        if self.is_closing() || self.durable.is_over() {
            return Err(SessionOver.into());
        }
        Ok(())
    }

    /// The disk has failed to read something again. Whether it has been tried often enough.
    pub(crate) fn is_given_up(&self, id: PartitionId, base: Offset) -> bool {
        let now = self.env.clock.monotonic();
        locked(&self.compaction.unread).failed(id, base, now) >= READ_TRIES_MAX
    }

    /// Leaves a segment as it is in which something can't be read. Whoever reads it is told.
    pub(crate) fn leave_uncompacted(&self, shared: &Shared, base: Offset, error: &ReadError) {
        tracing::error!(partition = %shared.id, %error, "a segment can't be compacted: it stays");
        locked(&self.compaction.unread).passed(shared.id);
        self.counters.uncompacted.fetch_add(1, Ordering::Relaxed);
        let mut state = locked(&shared.state);
        if let Some(segment) = state.segments.iter_mut().find(|s| s.run.base == base) {
            segment.is_damaged = true;
        }
    }

    async fn compact_due(self: &Arc<Self>) -> Result<bool, MaintenanceError> {
        let mut due = self.due_for_compaction().await?;
        // The latest first, then those with the most to gain.
        due.sort_by(|a, b| {
            (b.1, b.2).partial_cmp(&(a.1, a.2)).unwrap_or(std::cmp::Ordering::Equal)
        });
        let (mut pack, mut bytes, mut keys) = (Vec::new(), 0, 0);
        let keys_max = self.compaction_settings().keys_bytes / 64;
        let (mut result, mut is_more) = (Ok(()), false);
        for (id, ..) in due {
            if self.durable.is_over() || self.is_closing() {
                return Ok(false);
            }
            let Some(job) = self.take_compaction(id) else { continue };
            let size = job.bytes();
            if !pack.is_empty() && (bytes + size > self.settings.pack_bytes_max || keys > keys_max)
            {
                result = result.and(self.compact_pack(std::mem::take(&mut pack)).await);
                (bytes, keys) = (0, 0);
            }
            let indexed = match job.index(self).await {
                Ok(indexed) => indexed,
                Err(error) => {
                    self.put_off_compaction(id);
                    result = result.and(Err(error));
                    continue;
                }
            };
            if !indexed.gets_on() {
                self.cannot_compact(&indexed);
                drop(indexed);
                self.put_off_compaction(id);
            } else if size <= SMALL_BYTES_MAX {
                (bytes, keys) = (bytes + size, keys + indexed.keys_count());
                pack.push(indexed);
            } else {
                let done = self.compact_alone(indexed).await;
                is_more |= done.is_ok();
                result = result.and(done);
            }
            // Without room the next ones would be read for nothing.
            if matches!(&result, Err(error) if error.is_full()) {
                break;
            }
        }
        if !pack.is_empty() {
            result = result.and(self.compact_pack(pack).await);
        }
        result.map(|()| is_more)
    }

    /// The partitions that it is time for: whether they are late, and how much of them is dirty.
    async fn due_for_compaction(
        self: &Arc<Self>,
    ) -> Result<Vec<(PartitionId, bool, f64)>, MaintenanceError> {
        let now = self.env.clock.expiry();
        let ids: Vec<_> = {
            let waiting = locked(&self.compaction.waiting);
            waiting.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect()
        };
        let mut due = Vec::new();
        for id in ids {
            let shared = reading(&self.partitions).get(&id).map(Arc::clone);
            let Some(shared) = shared else {
                locked(&self.compaction.waiting).remove(&id);
                continue;
            };
            let mut oldest = None;
            loop {
                let verdict = self.judge_compaction(&shared, oldest, now);
                match verdict {
                    Verdict::AskOldest { from } if oldest.is_none() => {
                        oldest = Some(self.oldest_in(&shared, from).await);
                        continue;
                    }
                    Verdict::Compact { ratio, is_late, .. } => due.push((id, is_late, ratio)),
                    _ => {}
                }
                break;
            }
        }
        Ok(due)
    }

    /// What is to be done with a partition; notes when to look again where that is nothing now.
    fn judge_compaction(
        &self,
        shared: &Shared,
        oldest: Option<Timestamp>,
        now: Timestamp,
    ) -> Verdict {
        let state = locked(&shared.state);
        let verdict = match state.config.compacts && !state.deleted {
            true => {
                let last_stable = state.ends().last_stable;
                plan(&state.compaction_pieces(), last_stable, &state.terms(), oldest, now)
            }
            false => Verdict::Rest,
        };
        let mut waiting = locked(&self.compaction.waiting);
        match verdict {
            Verdict::Rest => {
                waiting.remove(&shared.id);
            }
            Verdict::LookAt(at) => {
                waiting.insert(shared.id, at);
            }
            Verdict::Open => {
                waiting.insert(shared.id, now.plus(self.compaction_settings().pause));
            }
            Verdict::AskOldest { .. } | Verdict::Compact { .. } => {}
        }
        verdict
    }

    /// The time of a segment's first batch, or of the segment where that can't be told.
    async fn oldest_in(&self, shared: &Shared, at: usize) -> Timestamp {
        let segment = locked(&shared.state).segments.get(at).cloned();
        let Some(segment) = segment else { return self.env.clock.expiry() };
        let header = self.first_header(&segment).await;
        let time = header.map_or(Timestamp::NONE, |header| header.max_timestamp);
        if time.0 >= 0 { time } else { segment.written }
    }

    async fn first_header(&self, segment: &Segment) -> Result<BatchHeader, ReadError> {
        let range = segment.run.position..segment.run.position + HEADER_SIZE as u64;
        let read = self.blobs.store.get(segment.blob.name.clone(), Some(range)).await;
        let bytes = read.map_err(|error: BlobError| unreadable(segment, &error))?;
        BatchHeader::decode(&bytes).map_err(|error| ReadError::Storage(error.to_string()))
    }

    /// What there is to compact of a partition, if it still is and nobody else writes it anew.
    fn take_compaction(self: &Arc<Self>, id: PartitionId) -> Option<Job> {
        let shared = Arc::clone(reading(&self.partitions).get(&id)?);
        if locked(&self.compaction.unread).holds(id, self.env.clock.monotonic()) {
            return None;
        }
        let now = self.env.clock.expiry();
        let mut state = locked(&shared.state);
        if state.deleted || !state.config.compacts {
            return None;
        }
        let mut pieces = state.compaction_pieces();
        // What was due just now is so whatever the oldest is.
        let oldest = Some(Timestamp(i64::MIN));
        let last_stable = state.ends().last_stable;
        let verdict = plan(&pieces, last_stable, &state.terms(), oldest, now);
        let Verdict::Compact { from, upto, .. } = verdict else { return None };
        pieces.truncate(upto);
        let partition = Rewriting::begin(self, &shared, &mut state)?;
        let first = state.segments.front().map_or(state.log_start, |first| first.run.base);
        Some(Job {
            segments: state.segments.range(..upto).cloned().collect(),
            pieces,
            dirty: from,
            epochs: state.epochs.clone(),
            log_start: state.log_start,
            rules: Arc::new(Rules {
                now,
                delete_retention: state.config.delete_retention,
                aborted: Aborted::new(state.transactions.aborted_in(first, state.laid_end)),
                producers: state.last_of_producers(),
            }),
            partition,
        })
    }

    /// Looks at the partition again after the usual pause.
    fn put_off_compaction(&self, id: PartitionId) {
        let at = self.env.clock.expiry().plus(self.compaction_settings().pause);
        if let Some(look_at) = locked(&self.compaction.waiting).get_mut(&id) {
            *look_at = at;
        }
    }

    fn cannot_compact(&self, indexed: &Indexed) {
        let partition = indexed.job.partition.shared.id;
        let bytes = self.compaction_settings().keys_bytes;
        tracing::warn!(
            %partition, bytes,
            "a batch has more keys than compaction has memory for: raise \
             log.cleaner.dedupe.buffer.size"
        );
    }

    /// Compacts a partition that has blobs to itself.
    async fn compact_alone(self: &Arc<Self>, indexed: Indexed) -> Result<(), MaintenanceError> {
        for group in indexed.groups(self) {
            if !self.compact_groups(&[(&indexed, group)]).await? {
                // Without what can't be read, the groups are others.
                return Ok(());
            }
        }
        self.note_compacted(&indexed);
        Ok(())
    }

    /// Compacts small partitions together.
    async fn compact_pack(self: &Arc<Self>, pack: Vec<Indexed>) -> Result<(), MaintenanceError> {
        let groups = |indexed: &Indexed| indexed.groups(self);
        let parts: Vec<_> = pack
            .iter()
            .flat_map(|indexed| groups(indexed).into_iter().map(move |group| (indexed, group)))
            .collect();
        if self.compact_groups(&parts).await? {
            pack.iter().for_each(|indexed| self.note_compacted(indexed));
        }
        Ok(())
    }

    fn note_compacted(&self, indexed: &Indexed) {
        let counts = indexed.counts();
        let partition = indexed.job.partition.shared.id;
        let removed = counts.records_read.saturating_sub(counts.records_kept);
        self.counters.compactions.fetch_add(1, Ordering::Relaxed);
        self.counters.compacted_records.fetch_add(removed, Ordering::Relaxed);
        let (keys, kept) = (indexed.keys_count(), counts.records_kept);
        tracing::debug!(%partition, keys, removed, kept, "compacted");
        if counts.keyless > 0 {
            let records = counts.keyless;
            tracing::warn!(%partition, records, "records without a key left a compacted topic");
        }
        if counts.unreadable > 0 {
            let batches = counts.unreadable;
            tracing::warn!(%partition, batches, "batches stay that a producer compressed wrongly");
        }
    }
}

impl PartitionState {
    fn terms(&self) -> Terms {
        Terms {
            dirty_ratio: self.config.dirty_ratio,
            lag_min: self.config.compaction_lag_min,
            lag_max: self.config.compaction_lag_max,
        }
    }

    fn compaction_pieces(&self) -> Vec<Piece> {
        let lost: BTreeSet<Offset> = self.lost.iter().map(|range| range.upto).collect();
        let is_lost = |before: Offset, base: Offset| {
            lost.range(..=base).next_back().is_some_and(|upto| *upto > before)
        };
        let mut before = Offset::ZERO;
        let pieces = self.segments.iter().map(|segment| {
            let run = &segment.run;
            let is_behind_lost = is_lost(before, run.base);
            before = run.end;
            Piece {
                end: run.end,
                bytes: run.len,
                newest: Self::age_of(segment),
                is_compacted: run.compacted,
                is_damaged: segment.is_damaged,
                is_behind_lost,
            }
        });
        pieces.collect()
    }

    /// The newest batch of each producer that is remembered.
    fn last_of_producers(&self) -> BTreeMap<millstream_types::ProducerId, LastOf> {
        let last = self.producers.images().into_iter().map(|image| {
            let last = image
                .batches
                .last()
                .map_or(LastOf::Marker(image.epoch), |batch| LastOf::Data(batch.last));
            (image.id, last)
        });
        last.collect()
    }

    /// Whether the segment is still part of the partition: the same bytes, and not only the same offsets.
    pub(crate) fn has_segment(&self, segment: &Segment) -> bool {
        let is_same =
            |other: &Segment| Arc::ptr_eq(&other.blob, &segment.blob) && other.run == segment.run;
        let at = self.segments.partition_point(|other| other.run.end <= segment.run.base);
        self.segments.get(at).is_some_and(is_same)
    }
}
