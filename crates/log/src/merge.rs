//! Merging: small runs of a partition, scattered over packs, become one segment.
//!
//! Packs save flushes when they are written; read back, every run costs a look-up, and in memory and
//! in every checkpoint an entry. So when a partition's newest small runs hold enough, or are too many,
//! they are written again as one, and a `SegmentsReplaced` frame swaps them. Each merge writes its bytes
//! once more: enough is what a byte comes to in one step where partitions are many.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_env::BlobError;
use millstream_record::frame::FrameBody;
use millstream_record::layout::{LayoutEntry, SegmentRef};
use millstream_types::{Offset, PartitionId};

use crate::blobs::{Segment, segment_name};
use crate::compaction::Rewriting;
use crate::error::{MaintenanceError, ReadError, SessionOver};
use crate::layout::{READ_TRIES_MAX, Unreadable};
use crate::log::Inner;
use crate::maintenance::Progress;
use crate::partition::Partition;
use crate::settings::LogSettings;
use crate::state::PartitionState;
use crate::upload::{Source, Taken, Unread};
use crate::util::{locked, reading};

/// Runs that are merely too many are merged with an older one when that grows at least so many times
/// by it: its bytes are written again, and the next time it is larger.
const GROWTH: u64 = 4;

/// Which of a partition's runs, given by size, oldest first, to merge.
///
/// Only the newest can be small; those from the first small one after the last large one on are
/// candidates. They are left alone while they are of a fair size on average. When they are merely too
/// many, old ones that would grow little by it are left alone, so
/// that a byte is written again only a logarithmic number of times. None becomes larger than a
/// run may be.
pub(crate) fn plan(
    sizes: &[u64],
    run_bytes_max: u64,
    settings: &LogSettings,
) -> Option<Range<usize>> {
    let enough = enough(run_bytes_max, settings);
    let small = |size: &u64| *size < enough;
    let count = sizes.iter().rev().take_while(|size| small(size)).count();
    let first = sizes.len() - count;
    let candidates = sizes.get(first..).unwrap_or_default();
    let all: u64 = candidates.iter().sum();
    let is_fair = all / (count as u64).max(1) >= settings.fair_run_bytes;
    if count < 2 || is_fair && count <= settings.fair_runs_max {
        return None;
    }
    if all >= enough {
        // Two small ones always fit, and what does not fit leaves enough.
        let mut merged = 0;
        let fits = |size: &&u64| {
            merged += **size;
            merged <= run_bytes_max
        };
        return Some(first..first + candidates.iter().take_while(fits).count());
    }
    if count <= settings.small_runs_max {
        return None;
    }
    let grows = |factor| grows_by(candidates, factor).map(|at| first + at..sizes.len());
    grows(GROWTH).or_else(|| grows(1))
}

/// The oldest that those younger than it outweigh so many times.
fn grows_by(sizes: &[u64], factor: u64) -> Option<usize> {
    let mut younger: u64 = sizes.iter().sum();
    sizes.iter().position(|size| {
        younger -= size;
        younger >= size.saturating_mul(factor)
    })
}

/// A run of so many bytes is not merged any more. At most half of the largest: then two that are smaller
/// always fit into one.
const fn enough(run_bytes_max: u64, settings: &LogSettings) -> u64 {
    let half = run_bytes_max / 2;
    if half < settings.merge_bytes_min { half } else { settings.merge_bytes_min }
}

impl PartitionState {
    fn merge_plan(&self, settings: &LogSettings) -> Option<Range<usize>> {
        let run_bytes_max = self.run_bytes_max(settings);
        let enough = enough(run_bytes_max, settings);
        // Behind the newest large run nothing matters. One that can't be read stays as it is, and a
        // run must not span what is lost: a reader would pass over it without a word.
        let lost_end = self.lost.last().map_or(Offset::ZERO, |range| range.upto);
        let is_bound = |segment: &&Segment| {
            segment.run.len >= enough
                || segment.is_damaged
                || segment.run.base < lost_end
                // Merged with others, nobody would know any more that it is.
                || self.config.compacts && segment.run.compacted
        };
        let skipped =
            self.segments.len() - self.segments.iter().rev().take_while(|s| !is_bound(s)).count();
        let sizes: Vec<_> = self.segments.range(skipped..).map(|segment| segment.run.len).collect();
        let range = plan(&sizes, run_bytes_max, settings)?;
        Some(range.start + skipped..range.end + skipped)
    }
}

impl Inner {
    /// Notes whether the partition has runs to merge. Under its lock.
    pub(crate) fn note_merge(&self, state: &PartitionState) {
        if state.merge_plan(&self.settings).is_some() {
            locked(&self.mergeable).insert(state.id);
        }
    }

    /// Merges what there is to merge.
    ///
    /// # Errors
    ///
    /// The first failure; what could be done is done.
    pub(crate) async fn merge(
        self: &Arc<Self>,
        progress: &mut Progress,
    ) -> Result<(), MaintenanceError> {
        let now = self.env.clock.monotonic();
        if progress.full.holds(now) {
            return Ok(());
        }
        let ids: Vec<_> = locked(&self.mergeable).iter().copied().collect();
        let mut result = Ok(());
        for id in ids {
            if progress.unmerged.holds(id, now) {
                continue;
            }
            if self.durable.is_over() {
                return Err(SessionOver.into());
            }
            if self.is_closing() {
                break;
            }
            if let Err(error) = self.bound_replay(progress).await {
                result = Err(error);
                break;
            }
            locked(&self.mergeable).remove(&id);
            if let Err(error) = self.merge_partition(id, &mut progress.unmerged).await {
                locked(&self.mergeable).insert(id);
                let is_full = matches!(error, MaintenanceError::Blob(BlobError::Full));
                result = Err(error);
                if is_full {
                    progress.full.failed(self.env.clock.monotonic());
                    break;
                }
            }
        }
        result
    }

    async fn merge_partition(
        self: &Arc<Self>,
        id: PartitionId,
        unmerged: &mut Unreadable,
    ) -> Result<(), MaintenanceError> {
        let shared = reading(&self.partitions).get(&id).map(Arc::clone);
        let Some(shared) = shared else { return Ok(()) };
        let (segments, taken, _rewriting) = {
            let mut state = locked(&shared.state);
            let Some(range) = state.merge_plan(&self.settings) else { return Ok(()) };
            let segments: Vec<_> = state.segments.range(range).cloned().collect();
            let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
                return Ok(());
            };
            let aborted = state.transactions.markers_in(first.run.base, last.run.end);
            let source =
                Source::Segments(segments.clone().into(), state.epochs.clone(), first.run.base);
            // Compaction notes it again when it is done.
            let Some(rewriting) = Rewriting::begin(self, &shared, &mut state) else {
                return Ok(());
            };
            (segments, Taken { shared: Arc::clone(&shared), source, aborted }, rewriting)
        };
        let name = segment_name(self.session, self.env.uuid()).ok_or(SessionOver)?;
        let blob = self.blobs.hold(name.clone());
        let partition = Partition { log: Arc::clone(self), shared };
        let counter = &self.counters.merge_written;
        let merged = self.upload(&name, vec![taken], true, counter).await.and_then(|uploaded| {
            if let Some(unread) = uploaded.unread.into_iter().next() {
                return self.leave_unmerged(unread, unmerged);
            }
            let written = segments.iter().map(|segment| segment.written).max().unwrap_or_default();
            let refs = uploaded.runs.iter().map(|run| SegmentRef {
                blob: name.as_str().into(),
                written,
                run: *run,
            });
            unmerged.passed(id);
            self.counters.layouts.fetch_add(1, Ordering::Relaxed);
            partition.replace(&segments, refs.collect())
        });
        self.blobs.unhold(blob);
        merged
    }

    /// Leaves a segment as it is in which something can't be read, so that the others are merged
    /// without it. Nothing is lost by that: who reads it is told, and what else is in it is there.
    ///
    /// # Errors
    ///
    /// Why it could not be read, as long as it is worth another try.
    fn leave_unmerged(
        &self,
        unread: Unread,
        unmerged: &mut Unreadable,
    ) -> Result<(), MaintenanceError> {
        let Unread { shared, range, error } = unread;
        let (id, now) = (shared.id, self.env.clock.monotonic());
        let is_damage = matches!(error, ReadError::Corrupt { .. });
        if !is_damage && unmerged.failed(id, range.from, now) < READ_TRIES_MAX {
            return Err(error.into());
        }
        tracing::error!(partition = %id, %error, "a segment can't be merged with others");
        unmerged.passed(id);
        let mut state = locked(&shared.state);
        if let Some(segment) = state.segments.iter_mut().find(|s| s.run.base == range.from) {
            segment.is_damaged = true;
        }
        self.note_merge(&state);
        Ok(())
    }
}

impl Partition {
    /// Puts segments with the same batches in the place of others, unless those have been deleted.
    fn replace(&self, removed: &[Segment], added: Vec<SegmentRef>) -> Result<(), MaintenanceError> {
        let mut state = locked(&self.shared.state);
        if state.deleted || !removed.iter().all(|segment| state.has_segment(segment)) {
            return Ok(());
        }
        let removed: Vec<_> = removed.iter().map(|segment| segment.run.base).collect();
        let entry = LayoutEntry::SegmentsReplaced { removed, added };
        self.write(&mut state, FrameBody::Layout(entry.encode()), 0, true)?;
        self.log.counters.merges.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(sizes: &[u64], merged: Option<Range<usize>>) {
        let settings =
            LogSettings { merge_bytes_min: 100, small_runs_max: 4, ..LogSettings::default() };
        assert_eq!(plan(sizes, 1_000, &settings), merged, "{sizes:?}");
    }

    #[test]
    fn fair_runs_are_left_alone_until_there_are_very_many() {
        let settings = LogSettings {
            merge_bytes_min: 100,
            small_runs_max: 4,
            fair_run_bytes: 20,
            fair_runs_max: 6,
            ..LogSettings::default()
        };
        for (sizes, merged) in [
            (vec![30; 6], None),
            (vec![30; 7], Some(0..7)),
            (vec![99, 99], None),
            (vec![30, 30, 30, 10, 10, 10], None),
            (vec![30, 30, 30, 2, 2, 2], Some(0..6)),
        ] {
            assert_eq!(plan(&sizes, 1_000, &settings), merged, "{sizes:?}");
        }
    }

    #[test]
    fn no_run_grows_beyond_what_its_topic_asks_for() {
        let settings =
            LogSettings { merge_bytes_min: 100, small_runs_max: 4, ..LogSettings::default() };
        for (sizes, merged) in [
            // Half of 60 is enough.
            (vec![30, 30], None),
            (vec![29, 29], Some(0..2)),
            (vec![29, 29, 29], Some(0..2)),
            (vec![58, 29, 10], Some(1..3)),
            (vec![29, 1, 1, 29, 1], Some(0..4)),
            (vec![1, 1, 1, 1], None),
            (vec![1, 1, 1, 1, 1], Some(0..5)),
        ] {
            assert_eq!(plan(&sizes, 60, &settings), merged, "{sizes:?}");
        }
    }

    #[test]
    fn small_runs_are_merged_when_they_are_enough_or_too_many() {
        check(&[], None);
        check(&[99], None);
        check(&[60, 39], None);
        check(&[60, 40], Some(0..2));
        // Large ones stay as they are, and what lies before them.
        check(&[10, 10, 100, 60, 40], Some(3..5));
        check(&[60, 40, 100], None);
        // Too many, but little in them: an old one that outweighs the rest stays.
        check(&[1, 1, 1, 1], None);
        check(&[1, 1, 1, 1, 1], Some(0..5));
        check(&[9, 1, 1, 1, 1], Some(1..5));
        check(&[9, 5, 1, 1, 1, 1, 1], Some(2..7));
        check(&[9, 20, 8, 6, 2], Some(0..5));
        check(&[30, 20, 8, 4, 2], Some(0..5));
        check(&[60, 20, 8, 4, 2], None);
    }

    #[test]
    fn a_byte_is_written_again_few_times() {
        for (small_runs_max, times) in [(8, 7), (32, 3)] {
            let settings =
                LogSettings { merge_bytes_min: u64::MAX, small_runs_max, ..LogSettings::default() };
            let (mut sizes, mut written) = (Vec::new(), 0);
            for _ in 0..4096 {
                sizes.push(1);
                if let Some(range) = plan(&sizes, u64::MAX, &settings) {
                    let merged: u64 = sizes.drain(range).sum();
                    written += merged;
                    sizes.push(merged);
                }
                assert!(sizes.len() <= small_runs_max + 1, "{sizes:?}");
            }
            assert!(written <= 4096 * times, "{small_runs_max}: {written}");
        }
    }
}
