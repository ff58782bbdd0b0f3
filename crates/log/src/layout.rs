//! Writing batches to segments and packs.
//!
//! Only when the store says that a blob is durable do frames make its runs part of their partitions. A
//! crash before leaves a blob that nobody knows, which the next start removes.
//!
//! A batch whose frame turns out to be damaged ends its partition's run, and only that: it is given up
//! by a `Lost` frame of its own, and the next run begins behind it. Otherwise it would pin the journal
//! from there on, and in the end the whole node would have no room to write.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millstream_env::{BlobError, BlobName};
use millstream_record::frame::FrameBody;
use millstream_record::layout::{LayoutEntry, LostRange, SegmentRef};
use millstream_record::run::Run;
use millstream_types::{Monotonic, Offset, PartitionId};

use crate::backoff::Backoff;
use crate::blobs::segment_name;
use crate::error::{AppendError, MaintenanceError, ReadError, SessionOver};
use crate::log::Inner;
use crate::maintenance::Progress;
#[cfg(doc)]
use crate::pace::Pace;
use crate::partition::{Partition, Shared};
use crate::plan::{Backlog, Job, Pressure, plan};
use crate::settings::LogSettings;
use crate::state::PartitionState;
use crate::upload::{Source, Taken, TakenBatch, Unread};
use crate::util::{locked, reading};

/// A topic that asks for smaller segments gets these: a blob for a few records helps nobody. In bytes,
/// Kafka's own least since 4.0.
const SEGMENT_BYTES_FLOOR: u64 = 1024 * 1024;

/// A frame that the disk can't read is given up after so many tries, over half a minute: all other
/// partitions' journal space waits for it. Damage is given up at once, because it does not pass.
pub(crate) const READ_TRIES_MAX: u32 = 6;

/// How often damage is read again before it is believed: it may have come up on the way here.
const DAMAGE_READS: usize = 4;

/// Partitions that have something that can't be read, by how often it was tried.
#[derive(Debug, Default)]
pub(crate) struct Unreadable(BTreeMap<PartitionId, (Offset, Backoff)>);

impl Unreadable {
    /// The batch at `base` can't be read, again. Returns how often now.
    pub(crate) fn failed(&mut self, id: PartitionId, base: Offset, now: Monotonic) -> u32 {
        let (at, backoff) = self.0.entry(id).or_insert((base, Backoff::default()));
        if *at != base {
            (*at, *backoff) = (base, Backoff::default());
        }
        backoff.failed(now)
    }

    /// Whether the partition is to be left alone.
    pub(crate) fn holds(&self, id: PartitionId, now: Monotonic) -> bool {
        self.0.get(&id).is_some_and(|(_, backoff)| backoff.holds(now))
    }

    /// What could not be read is read, or given up.
    pub(crate) fn passed(&mut self, id: PartitionId) {
        self.0.remove(&id);
    }
}

impl Inner {
    /// Lays out what is due under this pressure. `is_asked`: somebody wants it now, so that nothing is
    /// put off because it failed before.
    ///
    /// # Errors
    ///
    /// The first failure; what could be done is done.
    pub(crate) async fn lay_out(
        self: &Arc<Self>,
        pressure: Pressure,
        is_asked: bool,
        progress: &mut Progress,
    ) -> Result<(), MaintenanceError> {
        let now = self.env.clock.monotonic();
        if progress.full.holds(now) && !is_asked {
            return Ok(());
        }
        // In proportion to what is due: most rounds have nothing to look at.
        if pressure == Pressure::None && !is_asked && now.0 < self.look_at.load(Ordering::SeqCst) {
            return Ok(());
        }
        let mut result = Ok(());
        let mut stuck: BTreeSet<PartitionId> = BTreeSet::new();
        let mut backlogs = self.backlogs();
        backlogs.retain(|backlog| is_asked || !progress.unread.holds(backlog.partition, now));
        for job in plan(&backlogs, pressure, &self.settings) {
            if self.durable.is_over() {
                return Err(SessionOver.into());
            }
            if self.is_closing() {
                return result;
            }
            let ids = match job {
                Job::Segment(id) => vec![id],
                Job::Pack(ids) => ids,
            };
            let ids = ids.into_iter().filter(|id| !stuck.contains(id));
            let runs: Vec<_> = ids.filter_map(|id| self.take(id)).collect();
            if runs.is_empty() {
                continue;
            }
            let spares = pressure != Pressure::Journal && !is_asked;
            let written = self.write_blob(runs, spares, progress).await;
            let unread = written.unwrap_or_else(|error| {
                result = Err(error);
                Vec::new()
            });
            for unread in unread {
                let id = unread.shared.id;
                if let Err(error) = self.pass_over(unread, progress).await {
                    stuck.insert(id);
                    result = Err(error);
                }
            }
            if let Err(error) = self.bound_replay(progress).await {
                result = Err(error);
                break;
            }
            // Without room for blobs or frames the next ones would be written for nothing.
            if matches!(&result, Err(error) if error.is_full()) {
                break;
            }
        }
        if matches!(&result, Err(MaintenanceError::Blob(BlobError::Full))) {
            progress.full.failed(self.env.clock.monotonic());
        }
        result
    }

    /// What waits, by partition. Partitions with nothing leave the list of those that may have.
    fn backlogs(&self) -> Vec<Backlog> {
        // What comes from here on says itself when it is due.
        self.look_at.store(u64::MAX, Ordering::SeqCst);
        let ids: Vec<_> = locked(&self.backlog).iter().copied().collect();
        let now = self.env.clock.monotonic();
        let mut backlogs = Vec::new();
        for id in ids {
            let shared = reading(&self.partitions).get(&id).map(Arc::clone);
            let Some(shared) = shared else {
                locked(&self.backlog).remove(&id);
                continue;
            };
            let state = locked(&shared.state);
            if state.backlog_bytes == 0 {
                locked(&self.backlog).remove(&id);
                continue;
            }
            // What is due and stays, for whatever reason, is looked at again.
            self.look_by(state.due(&self.settings));
            backlogs.push(Backlog {
                partition: id,
                bytes: state.backlog_bytes,
                age: state.backlog_since.map_or_else(Default::default, |since| now.since(since)),
                due: state.layout_age(&self.settings),
                run_bytes_max: state.run_bytes_max(&self.settings),
            });
        }
        backlogs
    }

    /// The next run of a partition: batches that are durable and in no segment.
    fn take(&self, id: PartitionId) -> Option<Taken> {
        let shared = Arc::clone(reading(&self.partitions).get(&id)?);
        let (batches, aborted) = {
            let state = locked(&shared.state);
            let bytes_max = state.run_bytes_max(&self.settings);
            let mut bytes = 0;
            let mut batches = VecDeque::new();
            for batch in state.backlog().take_while(|batch| batch.last < state.high_watermark) {
                bytes += u64::from(batch.size);
                if bytes > bytes_max && !batches.is_empty() {
                    break;
                }
                batches.push_back(TakenBatch {
                    place: PartitionState::place(batch),
                    max_timestamp: batch.max_timestamp,
                    size: batch.size,
                });
            }
            let from = batches.front()?.place.base;
            let upto = batches.back()?.place.last.next();
            (batches, state.transactions.markers_in(from, upto))
        };
        Some(Taken { shared, source: Source::Backlog(batches), aborted })
    }

    /// Writes one blob with these runs, then makes them part of their partitions. `spares`: as [`Pace`]
    /// says. Returns what could not be read.
    async fn write_blob(
        self: &Arc<Self>,
        runs: Vec<Taken>,
        spares: bool,
        progress: &mut Progress,
    ) -> Result<Vec<Unread>, MaintenanceError> {
        let name = segment_name(self.session, self.env.uuid()).ok_or(SessionOver)?;
        let blob = self.blobs.hold(name.clone());
        let _writing = self.pace.begin();
        let partitions: BTreeMap<_, _> =
            runs.iter().map(|run| (run.shared.id, Arc::clone(&run.shared))).collect();
        let counters = &self.counters;
        let counter =
            if runs.len() > 1 { &counters.pack_written } else { &counters.segment_written };
        let written = match self.upload(&name, runs, spares, counter).await {
            Ok(uploaded) => {
                progress.full = Backoff::default();
                counters.layouts.fetch_add(1, Ordering::Relaxed);
                for run in &uploaded.runs {
                    progress.unread.passed(run.partition);
                }
                let committed = self.commit_all(&name, partitions, &uploaded.runs).await;
                committed.map(|()| uploaded.unread)
            }
            Err(error) => Err(error),
        };
        self.blobs.unhold(blob);
        written
    }

    /// Makes each run part of its partition.
    async fn commit_all(
        self: &Arc<Self>,
        name: &BlobName,
        mut partitions: BTreeMap<PartitionId, Arc<Shared>>,
        runs: &[Run],
    ) -> Result<(), MaintenanceError> {
        for run in runs {
            let Some(shared) = partitions.remove(&run.partition) else { continue };
            let partition = Partition { log: Arc::clone(self), shared };
            match partition.commit(name, run) {
                // The journal may just be at the end of a file. What is before it gives it time.
                Err(AppendError::Full) => {
                    self.durable.wait(self.journal.end()).await?;
                    partition.commit(name, run)?;
                }
                committed => committed?,
            }
        }
        Ok(())
    }

    /// Gives up batches that are damaged, so that they keep nothing else from being laid out. Those
    /// that the disk fails to read get some more tries.
    ///
    /// # Errors
    ///
    /// Why they were not given up yet.
    async fn pass_over(
        self: &Arc<Self>,
        unread: Unread,
        progress: &mut Progress,
    ) -> Result<(), MaintenanceError> {
        let Unread { shared, range, error } = unread;
        let id = shared.id;
        let places = locked(&shared.state).places_in(&range);
        let mut again = Vec::new();
        for _ in 0..DAMAGE_READS {
            again.extend(self.read_frames(id, &places).await);
            if again.iter().any(Result::is_ok) {
                // It was not damaged on the disk, but on its way here.
                return Err(error.into());
            }
        }
        let is_damage = |read: &ReadError| matches!(read, ReadError::Corrupt { .. });
        let is_damaged =
            is_damage(&error) && again.iter().filter_map(|read| read.as_ref().err()).all(is_damage);
        let now = self.env.clock.monotonic();
        if !is_damaged && progress.unread.failed(id, range.from, now) < READ_TRIES_MAX {
            return Err(error.into());
        }
        let partition = Partition { log: Arc::clone(self), shared };
        if partition.lose(range)? {
            let LostRange { from, upto, .. } = range;
            let why = "batches are lost: whoever reads them is told, all else goes on";
            tracing::error!(partition = %id, %from, %upto, %error, "{why}");
        }
        progress.unread.passed(id);
        Ok(())
    }
}

impl PartitionState {
    /// So long a batch stays in the journal only, at most.
    fn layout_age(&self, settings: &LogSettings) -> Duration {
        let lag_max = self.config.compaction_lag_max.filter(|_| self.config.compacts);
        let age = settings.layout_age.min(self.config.segment_age);
        // Only what is laid out is compacted.
        lag_max.map_or(age, |lag_max| age.min(lag_max))
    }

    /// With so many bytes in the journal only, the partition gets a segment of its own.
    pub(crate) fn layout_bytes(&self, settings: &LogSettings) -> u64 {
        settings.segment_bytes_min.min(self.run_bytes_max(settings)).max(1)
    }

    /// When there will be something to lay out, as things are.
    pub(crate) fn due(&self, settings: &LogSettings) -> Monotonic {
        match self.backlog_since {
            Some(_) if self.backlog_bytes >= self.layout_bytes(settings) => Monotonic(0),
            Some(since) => since.plus(self.layout_age(settings)),
            None => Monotonic(u64::MAX),
        }
    }

    /// No run of the partition is larger, in bytes (but for one batch).
    pub(crate) fn run_bytes_max(&self, settings: &LogSettings) -> u64 {
        settings.run_bytes_max.min(self.config.segment_bytes.max(SEGMENT_BYTES_FLOOR))
    }
}

impl Partition {
    /// Appends a `SegmentCommitted`.
    fn commit(&self, name: &BlobName, run: &Run) -> Result<(), AppendError> {
        let mut state = locked(&self.shared.state);
        // Deleted while it was written, all of it or the topic.
        if state.deleted || run.end <= state.log_start {
            return Ok(());
        }
        let written = self.log.env.clock.wall();
        let segment = SegmentRef { blob: name.as_str().into(), written, run: *run };
        let body = FrameBody::Layout(LayoutEntry::SegmentCommitted(segment).encode());
        self.write(&mut state, body, 0, true)?;
        self.log.note_merge(&state);
        self.log.note_compactable(&state);
        Ok(())
    }

    /// Appends a `Lost`. Returns whether that was still needed.
    fn lose(&self, range: LostRange) -> Result<bool, AppendError> {
        let mut state = locked(&self.shared.state);
        // Deleted while it was tried, all of it or the topic.
        if state.deleted || !state.is_next_to_lay(&range) {
            return Ok(false);
        }
        let body = FrameBody::Layout(LayoutEntry::Lost(range).encode());
        self.write(&mut state, body, 0, true)?;
        self.log.counters.losses.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }
}
