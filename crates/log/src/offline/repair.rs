//! Making a log whole again that a server refuses: what can be read is kept, what can't is given up.
//!
//! Segments without damage stay as they are. All else that can be read (the rest of damaged segments,
//! what lies in journals) is written to new segments, in order; what can't becomes lost ranges between
//! them, which whoever reads is told of. A checkpoint of the session after the last one then names all of
//! it, so that nothing in the journals is needed any more. Until that checkpoint is published, nothing
//! that was there is touched: a repair that ends before has done nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use millstream_env::{
    BlobError, BlobName, DataDir, DataDirError, Env, JournalError, JournalSettings,
};
use millstream_record::BatchHeader;
use millstream_record::checkpoint::{PartitionImage, ProducerImage, SentBatch};
use millstream_record::file::FILE_HEADER_SIZE;
use millstream_record::index::AbortedTxn;
use millstream_record::layout::{LostRange, SegmentRef};
use millstream_record::run::Run;
use millstream_record::segment::{FOOTER_SIZE, Footer, SegmentWriter};
use millstream_types::{Lsn, Offset, PartitionId, SessionId, Timestamp};

use super::{Finding, FindingKind, Offline, Place, Stored, StoredAt};
use crate::blobs::segment_name;
use crate::epochs::Epochs;
use crate::error::{MaintenanceError, OpenError};
use crate::log::Log;
use crate::partition::Shared;
use crate::producers::{Memory, Producers, Sent};
use crate::settings::{LogSettings, PartitionSpec, TrimSink};
use crate::state::PartitionState;
use crate::upload::placed;
use crate::util::writing;

/// New segments hold at most so many bytes, but for one batch: that much is in memory.
const SEGMENT_BYTES: usize = 32 * 1024 * 1024;

/// What a repair would do.
#[derive(Debug, Default)]
pub struct Plan {
    /// What is wrong, harmless things left out.
    pub findings: Vec<Finding>,
    /// Records that would be given up, and can be named.
    pub losses: Vec<PlannedLoss>,
    /// Blobs that would be set aside: damaged, or replaced.
    pub blobs: Vec<BlobName>,
    /// Blobs that nothing refers to, as far as is known: they would be set aside, not removed.
    pub orphans: Vec<BlobName>,
    /// Bytes of batches that would be written to new segments.
    pub rewritten_bytes: u64,
    /// Segments that stay as they are.
    pub kept: u64,
    partitions: BTreeMap<PartitionId, PartitionPlan>,
}

/// Records of a partition that would be given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedLoss {
    /// The partition.
    pub partition: PartitionId,
    /// The offsets.
    pub offsets: Range<Offset>,
    /// Why they can't be kept.
    pub why: String,
}

/// Why a repair did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// A new segment could not be written.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The repaired log could not be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The checkpoint could not be written or published.
    #[error(transparent)]
    Checkpoint(#[from] MaintenanceError),
    /// There is no place for the repaired log's own journal, in memory.
    #[error(transparent)]
    Memory(#[from] DataDirError),
    /// The same.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

#[derive(Debug, Default)]
struct PartitionPlan {
    /// The base offsets of segments that stay.
    kept: BTreeSet<Offset>,
    epochs: Epochs,
    log_end: Offset,
}

/// A partition on its way to new segments.
struct Rewrite<'a> {
    offline: &'a Offline,
    session: SessionId,
    env: &'a Env,
    id: PartitionId,
    writer: Option<SegmentWriter>,
    /// The offsets of what the writer has.
    span: Range<Offset>,
    body: Vec<Bytes>,
    bytes: usize,
    segments: Vec<SegmentRef>,
    lost: Vec<LostRange>,
}

impl Offline {
    /// Says what a repair would do. Reads everything; changes nothing.
    pub async fn plan_repair(&self) -> Plan {
        let mut plan = Plan::default();
        let of_blobs = self.check_blobs().await;
        let wrong = self.findings.iter().chain(&of_blobs);
        plan.findings.extend(wrong.filter(|finding| !finding.kind.is_harmless()).cloned());
        let mut bad: BTreeSet<(PartitionId, Offset)> = BTreeSet::new();
        for finding in &of_blobs {
            if let (FindingKind::Orphan, Some(Place::Blob { name, .. })) =
                (finding.kind, &finding.place)
            {
                plan.orphans.push(name.clone());
            }
            if let (Some(id), Some(offsets), false) =
                (finding.partition, &finding.offsets, finding.kind.is_harmless())
            {
                bad.insert((id, offsets.start));
            }
        }
        for (id, stored) in &self.partitions {
            self.plan_partition(*id, stored, &mut bad, &mut plan).await;
        }
        let kept: BTreeSet<&str> = self
            .partitions
            .iter()
            .flat_map(|(id, stored)| stored.segments.iter().map(move |segment| (id, segment)))
            .filter(|(id, segment)| !bad.contains(&(**id, segment.run.base)))
            .map(|(_, segment)| &*segment.blob)
            .collect();
        let all = self.partitions.values().flat_map(|stored| &stored.segments);
        let gone: BTreeSet<&str> = all.map(|segment| &*segment.blob).collect();
        plan.blobs = gone.difference(&kept).filter_map(|name| BlobName::new(name)).collect();
        // A new one replaces them all, those that can't be read too.
        let listed = self.stores.blobs.list("checkpoint/").await.unwrap_or_default();
        plan.blobs.extend(listed.into_iter().map(|(name, _)| name));
        plan.orphans.retain(|name| !plan.blobs.contains(name));
        plan
    }

    async fn plan_partition(
        &self,
        id: PartitionId,
        stored: &Stored,
        bad: &mut BTreeSet<(PartitionId, Offset)>,
        plan: &mut Plan,
    ) {
        let mut partition = PartitionPlan { log_end: stored.log_end, ..PartitionPlan::default() };
        let mut journaled = 0;
        let Some(mut reader) = self.read(id, Offset::ZERO) else { return };
        while let Some(next) = reader.next().await {
            match next {
                Ok(found) => {
                    partition.epochs.apply(found.header.leader_epoch, found.header.base_offset);
                    if matches!(found.place, Place::Journal { .. }) {
                        journaled += found.batch.size() as u64;
                    }
                }
                Err(finding) => {
                    for segment in &stored.segments {
                        let run = segment.run;
                        let is_hit = |at: &Range<Offset>| at.start < run.end && at.end > run.base;
                        if finding.offsets.as_ref().is_some_and(is_hit) {
                            bad.insert((id, run.base));
                        }
                    }
                    plan.note(id, finding);
                }
            }
        }
        plan.rewritten_bytes += journaled;
        for segment in &stored.segments {
            if bad.contains(&(id, segment.run.base)) {
                plan.rewritten_bytes += segment.run.len;
            } else {
                plan.kept += 1;
                partition.kept.insert(segment.run.base);
            }
        }
        plan.partitions.insert(id, partition);
    }

    /// Does what `plan` says: writes new segments, and a checkpoint of session `session`, which begins
    /// with this. `specs` are all partitions that there are. Returns the session's log, closed.
    ///
    /// # Errors
    ///
    /// [`RepairError`]; nothing that was there has been touched.
    pub async fn repair(
        &self,
        plan: &Plan,
        env: &Env,
        session: SessionId,
        specs: Vec<PartitionSpec>,
        trims: Arc<dyn TrimSink>,
    ) -> Result<(), RepairError> {
        // It has nothing to write down but the checkpoint, which needs a journal that is empty.
        let memory = DataDir::in_memory(env.clone())?;
        let journals = memory.journals(JournalSettings::in_memory()).await?;
        let mut images = Vec::new();
        for spec in specs {
            let image = self.image(plan, env, session, &spec).await?;
            images.push((spec, image));
        }
        // Those that were found by their names may be from right before a crash.
        let segments = images.iter().flat_map(|(_, image)| &image.segments);
        let names: BTreeSet<&str> = segments.map(|segment| &*segment.blob).collect();
        let names = names.into_iter().filter_map(BlobName::new).collect();
        self.stores.blobs.sync(names).await?;
        let settings = LogSettings {
            cluster: self.stores.cluster,
            background: false,
            ..LogSettings::default()
        };
        let blobs = Arc::clone(&self.stores.blobs);
        let log =
            Log::open(env.clone(), journals, blobs, session, None, Vec::new(), trims, settings)
                .await?;
        for (spec, image) in images {
            let partition = spec.id;
            let now = env.clock.monotonic();
            let state = PartitionState::restore(spec, image, &log.inner.blobs, now)
                .map_err(|error| OpenError::Frame { partition, why: error.to_string() })?;
            writing(&log.inner.partitions).insert(partition, Shared::new(state));
        }
        log.checkpoint().await?;
        log.inner.journal.close().await;
        Ok(())
    }

    /// The state of a partition without what is damaged, in segments only.
    async fn image(
        &self,
        plan: &Plan,
        env: &Env,
        session: SessionId,
        spec: &PartitionSpec,
    ) -> Result<PartitionImage, RepairError> {
        let (id, nothing) = (spec.id, Stored::default());
        let stored = self.partitions.get(&id).unwrap_or(&nothing);
        let planned = plan.partitions.get(&id);
        let mut rewrite = Rewrite {
            offline: self,
            session,
            env,
            id,
            writer: None,
            span: Offset::ZERO..Offset::ZERO,
            body: Vec::new(),
            bytes: 0,
            segments: Vec::new(),
            lost: Vec::new(),
        };
        let mut from = stored.log_start;
        for segment in &stored.segments {
            if planned.is_some_and(|planned| planned.kept.contains(&segment.run.base)) {
                rewrite.range(from..segment.run.base).await?;
                rewrite.segments.push(segment.clone());
                from = segment.run.end;
            }
        }
        rewrite.range(from..stored.log_end).await?;
        let log_end = planned.map_or(stored.log_end, |planned| planned.log_end);
        let epochs = match (self.is_blind, planned) {
            (true, Some(planned)) => planned.epochs.entries().to_vec(),
            _ => stored.epochs.entries().to_vec(),
        };
        Ok(PartitionImage {
            id,
            applied: Lsn(0),
            log_start: stored.log_start,
            log_end,
            last_append_time: stored.last_append_time,
            epochs,
            producers: stored.producers_at(env.clock.wall(), spec),
            aborted: stored.aborted.clone(),
            segments: rewrite.segments,
            backlog: Vec::new(),
            lost: rewrite.lost,
        })
    }

    /// Takes what segments say of themselves for those that no checkpoint and no frame tells of.
    pub(super) async fn adopt_segments(&mut self) {
        let Ok(listed) = self.stores.blobs.list("segment/").await else { return };
        let mut found: Vec<SegmentRef> = Vec::new();
        for (name, size) in listed {
            match self.runs_of(&name, size).await {
                Ok(runs) => found.extend(runs.into_iter().map(|run| {
                    let blob = name.as_str().into();
                    SegmentRef { blob, written: Timestamp::NONE, run }
                })),
                Err(why) => {
                    let place = Place::Blob { name, position: 0 };
                    self.findings.push(Finding::new(FindingKind::Segment, why).at(place));
                }
            }
        }
        // The largest first where several begin at one offset: small ones were merged into it.
        found.sort_by_key(|segment| (segment.run.base, std::cmp::Reverse(segment.run.end)));
        for segment in found {
            if let Some(stored) = self.partitions.get_mut(&segment.run.partition) {
                stored.adopt(segment);
            }
        }
        for stored in self.partitions.values_mut() {
            stored.settle();
        }
    }

    async fn runs_of(&self, name: &BlobName, size: u64) -> Result<Vec<Run>, String> {
        let get = |from: u64, upto: u64| self.stores.blobs.get(name.clone(), Some(from..upto));
        let footer = get(size.saturating_sub(FOOTER_SIZE as u64), size).await;
        let footer = footer.map_err(|error| error.to_string())?;
        let footer = Footer::decode(&footer)
            .map_err(|error| format!("nobody knows what is in it: the footer: {error}"))?;
        let start = footer.directory_position.max(FILE_HEADER_SIZE as u64);
        let directory = get(start, start.saturating_add(footer.directory_len.into())).await;
        let directory = directory.map_err(|error| error.to_string())?;
        footer
            .runs(&directory)
            .map_err(|error| format!("nobody knows what is in it: the directory: {error}"))
    }
}

impl Plan {
    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.findings.is_empty() && self.losses.is_empty()
    }

    /// Notes what reading has found.
    fn note(&mut self, partition: PartitionId, finding: Finding) {
        let is_loss = matches!(
            finding.kind,
            FindingKind::Batch | FindingKind::Gap | FindingKind::Missing | FindingKind::Storage
        );
        if let (true, Some(offsets)) = (is_loss, finding.offsets.clone()) {
            self.losses.push(PlannedLoss { partition, offsets, why: finding.why.clone() });
        }
        if !finding.kind.is_harmless() {
            self.findings.push(finding);
        }
    }
}

impl Stored {
    /// Adds a segment, unless all of it is there already or deleted.
    fn adopt(&mut self, segment: SegmentRef) {
        let run = segment.run;
        let covered = self.segments.iter().any(|s| s.run.base <= run.base && s.run.end >= run.end);
        if covered || run.end <= self.floor {
            return;
        }
        self.segments.retain(|s| !(run.base <= s.run.base && run.end >= s.run.end));
        self.segments.push(segment);
        self.segments.sort_by_key(|segment| segment.run.base);
    }

    /// Brings the bounds in line with what there is.
    fn settle(&mut self) {
        let laid = self.segments.last().map_or(Offset::ZERO, |last| last.run.end);
        let is_laid = |base: Offset, last: Offset| {
            self.segments.iter().any(|s| s.run.base <= base && last < s.run.end)
        };
        self.backlog.retain(|batch| !is_laid(batch.base, batch.last));
        let first = self.segments.first().map(|first| first.run.base);
        let first = first.into_iter().chain(self.backlog.front().map(|batch| batch.base)).min();
        // Where no frame names a log start, it begins with what is left.
        self.log_start = first.unwrap_or(self.log_end).max(self.floor);
        self.log_end = self.log_end.max(laid);
    }

    /// The producers that it knows.
    fn producers_at(&self, now: Timestamp, spec: &PartitionSpec) -> Vec<ProducerImage> {
        let mut producers = Producers::from_images(self.producers.clone());
        let ids_max = LogSettings::default().producer_ids_max;
        let memory = Memory { expiry: spec.config.producer_expiry, ids_max };
        for header in &self.sent {
            let _ = producers.apply(header, sent(header), now, memory);
        }
        producers.images()
    }
}

fn sent(header: &BatchHeader) -> Sent {
    let stamped =
        header.attributes.timestamp_type() == millstream_record::TimestampType::LogAppendTime;
    let batch = SentBatch {
        base_sequence: header.base_sequence,
        last_sequence: header.last_sequence(),
        base: header.base_offset,
        last: header.last_offset(),
        log_append_time: if stamped { header.max_timestamp } else { Timestamp::NONE },
    };
    Sent { batch, end: Lsn(0) }
}

impl Rewrite<'_> {
    /// Writes what can be read in a range of offsets to new segments, and notes what can't.
    async fn range(&mut self, range: Range<Offset>) -> Result<(), RepairError> {
        if range.start >= range.end {
            return Ok(());
        }
        let Some(mut reader) = self.offline.read(self.id, range.start) else { return Ok(()) };
        while let Some(next) = reader.next().await {
            match next {
                Ok(found) if found.header.base_offset >= range.end => break,
                Ok(found) => self.take(&found).await?,
                Err(finding) => {
                    let is_content = matches!(
                        finding.kind,
                        FindingKind::Batch
                            | FindingKind::Gap
                            | FindingKind::Missing
                            | FindingKind::Storage
                            | FindingKind::Lost
                    );
                    let Some(offsets) = finding.offsets.filter(|_| is_content) else { continue };
                    if offsets.start >= range.end {
                        break;
                    }
                    self.lose(offsets.start.max(range.start)..offsets.end.min(range.end)).await?;
                }
            }
        }
        self.finish().await
    }

    async fn take(&mut self, found: &StoredAt) -> Result<(), RepairError> {
        let bytes = found.batch.to_bytes();
        if self.bytes + bytes.len() > SEGMENT_BYTES {
            self.finish().await?;
        }
        let cluster = self.offline.stores.cluster;
        if self.writer.is_none() {
            let (writer, head) = SegmentWriter::new(cluster, self.session);
            self.writer = Some(writer);
            self.span.start = found.header.base_offset;
            self.body.push(head);
        }
        self.span.end = found.header.last_offset().next();
        if let Some(writer) = &mut self.writer {
            writer.push(self.id, &placed(&found.header));
        }
        self.bytes += bytes.len();
        self.body.push(bytes);
        Ok(())
    }

    async fn lose(&mut self, offsets: Range<Offset>) -> Result<(), RepairError> {
        // No run spans what is lost.
        self.finish().await?;
        match self.lost.last_mut().filter(|last| last.upto == offsets.start) {
            Some(last) => last.upto = offsets.end,
            None => self.lost.push(LostRange {
                from: offsets.start,
                upto: offsets.end,
                max_timestamp: Timestamp::NONE,
            }),
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), RepairError> {
        let Some(mut writer) = self.writer.take() else { return Ok(()) };
        writer.set_aborted(self.aborted());
        // It is compacted again in time; until then, what it leaves out is no loss.
        let stored = self.offline.partitions.get(&self.id);
        if stored.is_some_and(|stored| stored.segments.iter().any(|s| s.run.compacted)) {
            writer.set_sparse();
        }
        let finished = writer.finish();
        let mut body = std::mem::take(&mut self.body);
        body.push(finished.tail);
        self.bytes = 0;
        let why = || OpenError::Checkpoint("a segment has no name".to_owned());
        let name = segment_name(self.session, self.env.uuid()).ok_or_else(why)?;
        self.offline.stores.blobs.create(name.clone(), body).await?;
        let written = self.env.clock.wall();
        let blob: Box<str> = name.as_str().into();
        let refs =
            finished.runs.iter().map(|run| SegmentRef { blob: blob.clone(), written, run: *run });
        self.segments.extend(refs);
        Ok(())
    }

    /// The aborted transactions whose markers are among what the writer has.
    fn aborted(&self) -> Vec<AbortedTxn> {
        let stored = self.offline.partitions.get(&self.id);
        let all = stored.iter().flat_map(|stored| &stored.aborted);
        all.filter(|one| self.span.contains(&one.last)).copied().collect()
    }
}
