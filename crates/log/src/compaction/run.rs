//! Carrying a compaction out: reading twice, writing once.
//!
//! First the keys of the dirty segments are noted, as many as there is room for; where that ends, so does
//! what is compacted this time. Then the segments are written anew group by group, each with a frame of
//! its own that swaps it: a crash in between leaves groups that are compacted and others that are not,
//! and the next time goes on from there. Partitions that hold little share a blob.
//!
//! A segment in which something can't be read is left as it is, and the others go on without it. Behind
//! it no tombstone and no end of a transaction goes, since nobody knows what they are for there.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use millstream_env::BlobName;
use millstream_record::frame::FrameBody;
use millstream_record::index::Place;
use millstream_record::layout::{LayoutEntry, SegmentRef};
use millstream_record::run::Run;
use millstream_record::{BatchError, BatchHeader, StoredBatch};
use millstream_types::Offset;

use super::Rewriting;
use super::clean::{Counts, Met, Rules, note_keys};
use super::keys::Keys;
use super::plan::{Piece, groups};
use crate::blobs::{Segment, segment_name};
use crate::epochs::Epochs;
use crate::error::{AppendError, MaintenanceError, ReadError, SessionOver};
use crate::log::Inner;
use crate::partition::Partition;
use crate::upload::{Source, Taken, Unread, placed, read_segments};
use crate::util::locked;

/// The compaction of one partition.
pub(crate) struct Job {
    pub(crate) partition: Rewriting,
    pub(crate) segments: Vec<Segment>,
    pub(crate) pieces: Vec<Piece>,
    /// The first of the segments that is dirty.
    pub(crate) dirty: usize,
    pub(crate) epochs: Epochs,
    pub(crate) log_start: Offset,
    pub(crate) rules: Arc<Rules>,
}

/// A job whose keys are noted.
pub(crate) struct Indexed {
    pub(crate) job: Job,
    keys: Arc<Keys>,
    /// Up to where it is compacted: one past the last offset of a batch.
    upto: Offset,
    met: Arc<Mutex<Met>>,
}

/// Batches of one group on their way.
pub(crate) struct Cleaning {
    segments: VecDeque<Segment>,
    epochs: Epochs,
    from: Offset,
    upto: Offset,
    rules: Arc<Rules>,
    keys: Arc<Keys>,
    met: Arc<Mutex<Met>>,
    /// The markers that readers need not hear of any more, when all of the group has been read.
    forgotten: Arc<Mutex<Vec<Offset>>>,
}

/// Why there are no more batches of a group.
pub(crate) enum Stop {
    /// The first of the segments that are left can't be read.
    Unread(ReadError),
    /// It has nothing to do with them: nothing is to be written.
    Over(MaintenanceError),
}

/// A group in a blob.
struct Group {
    removed: Vec<Segment>,
    forgotten: Arc<Mutex<Vec<Offset>>>,
}

impl Job {
    pub(crate) fn bytes(&self) -> u64 {
        self.pieces.iter().map(|piece| piece.bytes).sum()
    }

    /// Something in the segment can't be read.
    fn leave(&mut self, log: &Inner, base: Offset, error: &ReadError) {
        let found = self.segments.iter().position(|segment| segment.run.base == base);
        if let Some(piece) = found.and_then(|at| self.pieces.get_mut(at)) {
            piece.is_damaged = true;
        }
        log.leave_uncompacted(&self.partition.shared, base, error);
    }

    /// Notes the keys of what is dirty.
    ///
    /// # Errors
    ///
    /// What may pass: that the disk does not read.
    pub(crate) async fn index(mut self, log: &Inner) -> Result<Indexed, MaintenanceError> {
        let settings = log.compaction_settings();
        let dirty = self.segments.get(self.dirty..).unwrap_or_default();
        let offsets: u64 = dirty.iter().map(|s| s.run.end.0.abs_diff(s.run.base.0)).sum();
        let mut keys = Keys::new(settings.keys_bytes, offsets, log.env.uuid().0);
        let is_sound = |at: &usize| self.pieces.get(*at).is_some_and(|piece| !piece.is_damaged);
        let sound = (self.dirty..self.segments.len()).filter(is_sound);
        let mut segments: VecDeque<_> =
            sound.filter_map(|at| self.segments.get(at).cloned()).collect();
        let mut from = self.log_start;
        let mut upto = dirty.first().map_or(self.log_start, |first| first.run.base);
        while !segments.is_empty() {
            let read = read_segments(log, &mut segments, &self.epochs, &mut from, Offset(i64::MAX));
            let read = read.await;
            let front = segments.front().map(|segment| segment.run.base).unwrap_or_default();
            let batches = match read {
                Ok(batches) => batches,
                Err(error @ ReadError::Corrupt { .. }) => {
                    self.leave(log, front, &error);
                    segments.pop_front();
                    continue;
                }
                Err(error) => return Err(self.unread(log, front, error)),
            };
            log.give_way(batches.iter().map(|(_, batch)| batch.size() as u64).sum()).await?;
            let rules = Arc::clone(&self.rules);
            let noted = log.env.compute(move || note_all(keys, batches, &rules)).await;
            let (all, end) = (noted.1, noted.2);
            keys = noted.0;
            upto = end.unwrap_or(upto);
            if !all {
                break;
            }
        }
        Ok(Indexed { job: self, keys: Arc::new(keys), upto, met: Arc::default() })
    }

    /// The disk does not read: it may pass, and if it does not, the segment is left as it is.
    fn unread(&mut self, log: &Inner, base: Offset, error: ReadError) -> MaintenanceError {
        if log.is_given_up(self.partition.shared.id, base) {
            self.leave(log, base, &error);
        }
        error.into()
    }
}

/// Notes the keys of batches; whether there was room for all, and one past the last that there was room
/// for.
fn note_all(
    mut keys: Keys,
    batches: Vec<(BatchHeader, StoredBatch)>,
    rules: &Rules,
) -> (Keys, bool, Option<Offset>) {
    let mut upto = None;
    for (header, batch) in batches {
        if !note_keys(&batch, &header, &rules.aborted, &mut keys) {
            return (keys, false, upto);
        }
        upto = Some(header.last_offset().next());
    }
    (keys, true, upto)
}

impl Indexed {
    /// Whether anything that is dirty will be compacted.
    pub(crate) fn gets_on(&self) -> bool {
        let dirty = self.job.segments.get(self.job.dirty);
        dirty.is_some_and(|segment| segment.run.base < self.upto)
    }

    /// How many keys there are.
    pub(crate) fn keys_count(&self) -> u64 {
        self.keys.count()
    }

    pub(crate) fn counts(&self) -> Counts {
        locked(&self.met).counts
    }

    /// The segments that are written together, by index.
    pub(crate) fn groups(&self, log: &Inner) -> Vec<Range<usize>> {
        let bytes_max = locked(&self.job.partition.shared.state).run_bytes_max(&log.settings);
        let upto = self.job.segments.partition_point(|segment| segment.run.base < self.upto);
        groups(self.job.pieces.get(..upto).unwrap_or_default(), bytes_max)
    }

    /// The batches of a group: those that are compacted, and those behind them in the last segment.
    fn take(&self, range: &Range<usize>) -> (Group, Vec<Taken>) {
        let job = &self.job;
        let pieces = job.pieces.get(..range.start).unwrap_or_default();
        if pieces.iter().any(|piece| piece.is_damaged) {
            locked(&self.met).is_damaged = true;
        }
        let removed = job.segments.get(range.clone()).unwrap_or_default().to_vec();
        let group = Group { removed: removed.clone(), forgotten: Arc::default() };
        let ends = removed.first().zip(removed.last()).map(|(f, l)| (f.run.base, l.run.end));
        let (base, end) = ends.unwrap_or_default();
        let upto = end.min(self.upto);
        let markers = |from, upto| {
            let state = locked(&job.partition.shared.state);
            state.transactions.markers_in(from, upto)
        };
        let cleaning = Cleaning {
            segments: removed.clone().into(),
            epochs: job.epochs.clone(),
            from: job.log_start,
            upto,
            rules: Arc::clone(&job.rules),
            keys: Arc::clone(&self.keys),
            met: Arc::clone(&self.met),
            forgotten: Arc::clone(&group.forgotten),
        };
        let shared = || Arc::clone(&job.partition.shared);
        let source = Source::Compacted(Box::new(cleaning));
        let mut taken = vec![Taken { shared: shared(), source, aborted: markers(base, upto) }];
        if upto < end {
            let last: VecDeque<_> = removed.last().cloned().into_iter().collect();
            let source = Source::Segments(last, job.epochs.clone(), upto);
            taken.push(Taken { shared: shared(), source, aborted: markers(upto, end) });
        }
        (group, taken)
    }
}

impl Cleaning {
    /// What is left of the next batches; nothing at the end.
    ///
    /// # Errors
    ///
    /// [`Stop`].
    pub(crate) async fn next(&mut self, log: &Inner) -> Result<Vec<(Place, StoredBatch)>, Stop> {
        loop {
            let (segments, from) = (&mut self.segments, &mut self.from);
            let read = read_segments(log, segments, &self.epochs, from, self.upto).await;
            let batches = read.map_err(Stop::Unread)?;
            if batches.is_empty() {
                *locked(&self.forgotten) = std::mem::take(&mut locked(&self.met).forgotten);
                return Ok(Vec::new());
            }
            let read = batches.iter().map(|(_, batch)| batch.size() as u64).sum();
            log.give_way(read).await.map_err(Stop::Over)?;
            let (rules, keys) = (Arc::clone(&self.rules), Arc::clone(&self.keys));
            let (met, upto) = (Arc::clone(&self.met), self.upto);
            let clean = move || clean_all(batches, &rules, &keys, &mut locked(&met), upto);
            let left = log.env.compute(clean).await;
            let why = |error: BatchError| ReadError::Storage(error.to_string());
            let left = left.map_err(|error| Stop::Over(why(error).into()))?;
            let written = left.iter().map(|(place, _)| place.size).sum();
            log.give_way(written).await.map_err(Stop::Over)?;
            if !left.is_empty() {
                return Ok(left);
            }
        }
    }

    /// The first of the segments that are not read yet.
    pub(crate) fn front(&self) -> Option<&Segment> {
        self.segments.front()
    }

    /// Whether readers need not hear of a transaction any more.
    pub(crate) fn forgets(&self, marker: Offset) -> bool {
        locked(&self.forgotten).contains(&marker)
    }
}

fn clean_all(
    batches: Vec<(BatchHeader, StoredBatch)>,
    rules: &Rules,
    keys: &Keys,
    met: &mut Met,
    upto: Offset,
) -> Result<Vec<(Place, StoredBatch)>, BatchError> {
    let mut all = Vec::with_capacity(batches.len());
    for (header, batch) in batches {
        let is_last = header.last_offset().next() == upto;
        let Some(left) = rules.clean(batch, &header, is_last, keys, met)? else { continue };
        let decoded = left.header();
        let header = decoded.map_err(|error| BatchError::Truncated { field: error.field() })?;
        all.push((placed(&header), left));
    }
    Ok(all)
}

/// The last batch of each group stays: what does not go as far is not what was to be written, and taking
/// it for that would lose records.
fn check_whole(
    parts: &[(&Indexed, Range<usize>)],
    groups: &[Group],
    runs: &[Run],
) -> Result<(), MaintenanceError> {
    for ((indexed, _), group) in parts.iter().zip(groups) {
        let id = indexed.job.partition.shared.id;
        let end = group.removed.last().map(|last| last.run.end);
        let is_last = |run: &Run| run.partition == id && Some(run.end) == end;
        if end.is_some() && !runs.iter().any(is_last) {
            let why = format!("{id} was not compacted to its end; it stays as it is");
            return Err(ReadError::Storage(why).into());
        }
    }
    Ok(())
}

impl Inner {
    /// Writes groups of jobs to one blob, and swaps them. Returns whether that was possible; where it was
    /// not, what is in the way is left alone from now on.
    ///
    /// # Errors
    ///
    /// [`MaintenanceError`]; then what was not swapped is as it was.
    pub(crate) async fn compact_groups(
        self: &Arc<Self>,
        parts: &[(&Indexed, Range<usize>)],
    ) -> Result<bool, MaintenanceError> {
        let name = segment_name(self.session, self.env.uuid()).ok_or(SessionOver)?;
        let blob = self.blobs.hold(name.clone());
        let before: Vec<_> = parts.iter().map(|(job, _)| locked(&job.met).clone()).collect();
        let (groups, taken): (Vec<_>, Vec<_>) =
            parts.iter().map(|(indexed, range)| indexed.take(range)).unzip();
        let taken = taken.into_iter().flatten().collect();
        let uploaded = self.upload(&name, taken, false, &self.counters.compact_written).await;
        let done = match uploaded {
            Ok(uploaded) if uploaded.unread.is_empty() => {
                match check_whole(parts, &groups, &uploaded.runs) {
                    Ok(()) => self.swap_all(&name, parts, &groups, &uploaded.runs).await,
                    incomplete => incomplete,
                }
                .map(|()| true)
            }
            Ok(uploaded) => {
                for ((indexed, _), met) in parts.iter().zip(before) {
                    *locked(&indexed.met) = met;
                }
                self.leave_all(uploaded.unread).map(|()| false)
            }
            Err(error) => Err(error),
        };
        self.blobs.unhold(blob);
        done
    }

    /// Leaves segments alone that can't be read.
    fn leave_all(&self, unread: Vec<Unread>) -> Result<(), MaintenanceError> {
        for Unread { shared, range, error } in unread {
            let is_damage = matches!(error, ReadError::Corrupt { .. });
            if !is_damage && (self.is_closing() || !self.is_given_up(shared.id, range.from)) {
                return Err(error.into());
            }
            self.leave_uncompacted(&shared, range.from, &error);
        }
        Ok(())
    }

    async fn swap_all(
        self: &Arc<Self>,
        name: &BlobName,
        parts: &[(&Indexed, Range<usize>)],
        groups: &[Group],
        runs: &[Run],
    ) -> Result<(), MaintenanceError> {
        for ((indexed, _), group) in parts.iter().zip(groups) {
            let shared = &indexed.job.partition.shared;
            let partition = Partition { log: Arc::clone(self), shared: Arc::clone(shared) };
            match partition.swap(name, group, runs) {
                // The journal may just be at the end of a file. What is before it gives it time.
                Err(AppendError::Full) => {
                    self.durable.wait(self.journal.end()).await?;
                    partition.swap(name, group, runs)?;
                }
                swapped => swapped?,
            }
        }
        Ok(())
    }
}

impl Partition {
    /// Puts what was compacted in its place, unless what it was made of has been deleted meanwhile.
    fn swap(&self, name: &BlobName, group: &Group, runs: &[Run]) -> Result<(), AppendError> {
        let mut state = locked(&self.shared.state);
        let ends = group.removed.first().zip(group.removed.last());
        let Some((first, last)) = ends else { return Ok(()) };
        if state.deleted || !group.removed.iter().all(|segment| state.has_segment(segment)) {
            return Ok(());
        }
        let written = group.removed.iter().map(|segment| segment.written).max();
        let is_of = |run: &&Run| {
            run.partition == self.shared.id && run.base >= first.run.base && run.end <= last.run.end
        };
        let added = runs.iter().filter(is_of).map(|run| SegmentRef {
            blob: name.as_str().into(),
            written: written.unwrap_or_default(),
            run: *run,
        });
        let entry = LayoutEntry::Compacted {
            removed: group.removed.iter().map(|segment| segment.run.base).collect(),
            added: added.collect(),
            forgotten: locked(&group.forgotten).clone(),
        };
        self.write(&mut state, FrameBody::Layout(entry.encode()), 0, true)?;
        Ok(())
    }
}
