//! Writing batches to segments and packs.
//!
//! Only when the store says that a blob is durable do frames make its runs part of their partitions. A
//! crash before leaves a blob that nobody knows, which the next start removes.

use std::collections::VecDeque;
use std::sync::Arc;

use millstream_env::BlobName;
use millstream_record::frame::FrameBody;
use millstream_record::layout::{LayoutEntry, SegmentRef};
use millstream_record::run::Run;
use millstream_types::PartitionId;

use crate::blobs::segment_name;
use crate::error::{AppendError, MaintenanceError, ReadError, SessionOver};
use crate::log::Inner;
use crate::partition::{Partition, Shared};
use crate::plan::{Backlog, Job, plan};
use crate::state::PartitionState;
use crate::upload::{Source, Taken, TakenBatch};
use crate::util::{locked, reading};

/// A topic that asks for smaller segments gets these: a blob for a few records helps nobody. In bytes,
/// Kafka's own least since 4.0.
const SEGMENT_BYTES_FLOOR: u64 = 1024 * 1024;

impl Inner {
    /// Lays out what is due, or all there is. Partitions whose journal frames turn out corrupt are
    /// added to `corrupt`, and left alone if they are in it.
    ///
    /// # Errors
    ///
    /// The first failure; what could be done is done.
    pub(crate) async fn lay_out(
        self: &Arc<Self>,
        all: bool,
        corrupt: &mut Vec<PartitionId>,
    ) -> Result<(), MaintenanceError> {
        let mut result = Ok(());
        for job in plan(&self.backlogs(corrupt), all, &self.settings) {
            if self.durable.is_over() {
                return Err(SessionOver.into());
            }
            let ids = match job {
                Job::Segment(id) => vec![id],
                Job::Pack(ids) => ids,
            };
            let runs: Vec<_> = ids.into_iter().filter_map(|id| self.take(id)).collect();
            if runs.is_empty() {
                continue;
            }
            if let Err(error) = self.write_blob(runs).await {
                if let MaintenanceError::Read(ReadError::Corrupt { partition, .. }) = &error {
                    tracing::error!(%partition, %error, "can't be laid out");
                    corrupt.push(*partition);
                }
                // Without room for frames the next ones would be written for nothing.
                let full = matches!(error, MaintenanceError::Append(AppendError::Full));
                result = Err(error);
                if full {
                    break;
                }
            }
        }
        result
    }

    /// What waits, by partition. Partitions with nothing leave the list of those that may have.
    fn backlogs(&self, corrupt: &[PartitionId]) -> Vec<Backlog> {
        let ids: Vec<_> = locked(&self.backlog).iter().copied().collect();
        let now = self.env.clock.monotonic();
        let mut backlogs = Vec::new();
        for id in ids.into_iter().filter(|id| !corrupt.contains(id)) {
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
            backlogs.push(Backlog {
                partition: id,
                bytes: state.backlog_bytes,
                age: state.backlog_since.map_or_else(Default::default, |since| now.since(since)),
                due: self.settings.layout_age.min(state.config.segment_age),
                run_bytes_max: self.run_bytes_max(&state),
            });
        }
        backlogs
    }

    fn run_bytes_max(&self, state: &PartitionState) -> u64 {
        self.settings.run_bytes_max.min(state.config.segment_bytes.max(SEGMENT_BYTES_FLOOR))
    }

    /// The next run of a partition: batches that are durable and in no segment.
    fn take(&self, id: PartitionId) -> Option<Taken> {
        let shared = Arc::clone(reading(&self.partitions).get(&id)?);
        let (batches, aborted) = {
            let state = locked(&shared.state);
            let bytes_max = self.run_bytes_max(&state);
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

    /// Writes one blob with these runs, then makes them part of their partitions.
    async fn write_blob(self: &Arc<Self>, runs: Vec<Taken>) -> Result<(), MaintenanceError> {
        let name = segment_name(self.session, self.env.uuid()).ok_or(SessionOver)?;
        let blob = self.blobs.hold(name.clone());
        let partitions: Vec<_> = runs.iter().map(|run| Arc::clone(&run.shared)).collect();
        let written = match self.upload(&name, runs).await {
            Ok(runs) => self.commit_all(&name, partitions, &runs).await,
            Err(error) => Err(error),
        };
        self.blobs.unhold(blob);
        written
    }

    /// Makes each run part of its partition.
    async fn commit_all(
        self: &Arc<Self>,
        name: &BlobName,
        partitions: Vec<Arc<Shared>>,
        runs: &[Run],
    ) -> Result<(), MaintenanceError> {
        for (shared, run) in partitions.into_iter().zip(runs) {
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
        Ok(())
    }
}
