//! Merging: small runs of a partition, scattered over packs, become one segment.
//!
//! Packs save flushes when they are written; read back, every run costs a look-up, and in memory and
//! in every checkpoint an entry. So when a partition's newest small runs hold enough for a segment, or
//! are too many, they are written again as one, and a `SegmentsReplaced` frame swaps them.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use millstream_record::frame::FrameBody;
use millstream_record::layout::{LayoutEntry, SegmentRef};
use millstream_types::PartitionId;

use crate::blobs::{Segment, segment_name};
use crate::error::{MaintenanceError, ReadError, SessionOver};
use crate::log::Inner;
use crate::partition::Partition;
use crate::settings::LogSettings;
use crate::state::PartitionState;
use crate::upload::{Source, Taken};
use crate::util::{locked, reading};

/// Which of a partition's runs, given by size, oldest first, to merge.
///
/// Only the newest can be small; those from the first small one after the last large one on are
/// candidates. When they are merely too many, old ones that outweigh all younger are left alone, so
/// that a byte is written again only a logarithmic number of times.
pub(crate) fn plan(sizes: &[u64], settings: &LogSettings) -> Option<Range<usize>> {
    let small = |size: &u64| *size < settings.segment_bytes_min;
    let count = sizes.iter().rev().take_while(|size| small(size)).count();
    let first = sizes.len() - count;
    let candidates = sizes.get(first..).unwrap_or_default();
    let mut younger: u64 = candidates.iter().sum();
    if count < 2 {
        return None;
    }
    if younger >= settings.segment_bytes_min {
        return Some(first..sizes.len());
    }
    if count <= settings.small_runs_max {
        return None;
    }
    for (at, size) in (first..).zip(candidates) {
        younger -= size;
        if younger >= *size {
            return Some(at..sizes.len());
        }
    }
    None
}

impl PartitionState {
    fn merge_plan(&self, settings: &LogSettings) -> Option<Range<usize>> {
        // Behind the newest large run nothing matters.
        let large = |segment: &&Segment| segment.run.len >= settings.segment_bytes_min;
        let skipped =
            self.segments.len() - self.segments.iter().rev().take_while(|s| !large(s)).count();
        let sizes: Vec<_> = self.segments.range(skipped..).map(|segment| segment.run.len).collect();
        let range = plan(&sizes, settings)?;
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
        corrupt: &mut Vec<PartitionId>,
    ) -> Result<(), MaintenanceError> {
        let ids = std::mem::take(&mut *locked(&self.mergeable));
        let mut result = Ok(());
        for id in ids {
            if self.durable.is_over() {
                return Err(SessionOver.into());
            }
            if corrupt.contains(&id) {
                continue;
            }
            if let Err(error) = self.merge_partition(id).await {
                if matches!(error, MaintenanceError::Read(ReadError::Corrupt { .. })) {
                    tracing::error!(partition = %id, %error, "can't be merged");
                    corrupt.push(id);
                } else {
                    locked(&self.mergeable).insert(id);
                }
                result = Err(error);
            }
        }
        result
    }

    async fn merge_partition(self: &Arc<Self>, id: PartitionId) -> Result<(), MaintenanceError> {
        let shared = reading(&self.partitions).get(&id).map(Arc::clone);
        let Some(shared) = shared else { return Ok(()) };
        let (segments, taken) = {
            let state = locked(&shared.state);
            let Some(range) = state.merge_plan(&self.settings) else { return Ok(()) };
            let segments: Vec<_> = state.segments.range(range).cloned().collect();
            let (Some(first), Some(last)) = (segments.first(), segments.last()) else {
                return Ok(());
            };
            let aborted = state.transactions.markers_in(first.run.base, last.run.end);
            let source =
                Source::Segments(segments.clone().into(), state.epochs.clone(), first.run.base);
            (segments, Taken { shared: Arc::clone(&shared), source, aborted })
        };
        let name = segment_name(self.session, self.env.uuid()).ok_or(SessionOver)?;
        let blob = self.blobs.hold(name.clone());
        let partition = Partition { log: Arc::clone(self), shared };
        let merged = self.upload(&name, vec![taken]).await.and_then(|runs| {
            let written = segments.iter().map(|segment| segment.written).max().unwrap_or_default();
            let refs = runs.iter().map(|run| SegmentRef {
                blob: name.as_str().into(),
                written,
                run: *run,
            });
            partition.replace(&segments, refs.collect())
        });
        self.blobs.unhold(blob);
        merged
    }
}

impl Partition {
    /// Puts segments with the same batches in the place of others, unless those have been deleted.
    fn replace(&self, removed: &[Segment], added: Vec<SegmentRef>) -> Result<(), MaintenanceError> {
        let mut state = locked(&self.shared.state);
        let removed: Vec<_> = removed.iter().map(|segment| segment.run.base).collect();
        let all_there =
            removed.iter().all(|base| state.segments.iter().any(|s| s.run.base == *base));
        if state.deleted || !all_there {
            return Ok(());
        }
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
            LogSettings { segment_bytes_min: 100, small_runs_max: 4, ..LogSettings::default() };
        assert_eq!(plan(sizes, &settings), merged, "{sizes:?}");
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
        check(&[9, 5, 1, 1, 1, 1, 1], Some(0..7));
    }

    #[test]
    fn a_byte_is_written_again_few_times() {
        let settings = LogSettings {
            segment_bytes_min: u64::MAX,
            small_runs_max: 8,
            ..LogSettings::default()
        };
        let (mut sizes, mut written) = (Vec::new(), 0);
        for _ in 0..4096 {
            sizes.push(1);
            if let Some(range) = plan(&sizes, &settings) {
                let merged: u64 = sizes.drain(range).sum();
                written += merged;
                sizes.push(merged);
            }
            assert!(sizes.len() <= 9, "{sizes:?}");
        }
        assert!(written <= 4096 * 12, "{written}");
    }
}
