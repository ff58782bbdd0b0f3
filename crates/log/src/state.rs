//! The state of one partition, and the one function that changes it.
//!
//! [`PartitionState::apply`] takes a frame that has its place in the journal. Append calls it for
//! the frame it has just written, recovery for each frame it finds: what a crash leaves behind is
//! therefore what the code that ran before it would have had. Nothing else moves offsets, producers,
//! transactions or segments. Only the high watermark is not in the frames: it is how far the
//! journal is durable, and after recovery all of it is.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use millstream_env::FrameAt;
use millstream_record::checkpoint::{BacklogImage, PartitionImage, SentBatch};
use millstream_record::control::{ControlRecord, EndTransaction, Outcome};
use millstream_record::frame::FrameBody;
use millstream_record::layout::{LayoutEntry, LostRange};
use millstream_record::{BatchHeader, StoredBatch, TimestampType, ValidBatch};
use millstream_types::{
    DecodeError, LeaderEpoch, Lsn, Monotonic, Offset, PartitionId, ProducerId, Timestamp,
};

use crate::blobs::{Blobs, Segment};
use crate::epochs::Epochs;
use crate::error::{AppendError, ReadError};
use crate::partition::Ends;
use crate::producers::{Memory, Producers, Sent};
use crate::read::JournalPlace;
use crate::settings::{PartitionConfig, PartitionSpec};
use crate::transactions::Transactions;
use crate::watch::News;

/// Room for so many recent batches is kept by a partition that has fewer.
const RECENT_KEPT: usize = 8;

/// What a frame does, decoded before the frame is written: applying it can't fail.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Records.
    Batch(BatchHeader),
    /// The end of a transaction.
    Marker(BatchHeader, EndTransaction),
    /// An entry about where batches lie.
    Layout(LayoutEntry),
}

/// When and where a frame is applied.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    /// Where the frame lies.
    pub(crate) at: FrameAt,
    /// The position that must be durable for the change to be; 0 in recovery.
    pub(crate) end: Lsn,
    /// The time of day. In recovery that of recovery: producers live a little longer for it.
    pub(crate) wall: Timestamp,
    /// The same on the monotonic clock.
    pub(crate) monotonic: Monotonic,
    /// The most producers to remember.
    pub(crate) producer_ids_max: usize,
}

/// A batch that memory or a journal has.
#[derive(Clone, Debug)]
pub(crate) struct Recent {
    pub(crate) base: Offset,
    pub(crate) last: Offset,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) size: u32,
    /// Where its frame lies. Below the laid-out end the frame may be gone.
    pub(crate) at: FrameAt,
    /// The batch itself, until it is evicted. Boxed, because most are: a journal may hold a million.
    pub(crate) batch: Option<Box<StoredBatch>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct PartitionState {
    pub(crate) id: PartitionId,
    pub(crate) config: Arc<PartitionConfig>,
    pub(crate) epoch: LeaderEpoch,
    /// No longer in the map: handles that are still around refuse.
    pub(crate) deleted: bool,
    /// Whether it is noted as changed since the last checkpoint.
    pub(crate) is_changed: bool,
    /// The end of the last frame of this session that changed it; 0 before the first.
    pub(crate) applied: Lsn,
    pub(crate) log_start: Offset,
    /// What must be durable for `log_start` to be.
    pub(crate) log_start_end: Lsn,
    pub(crate) log_end: Offset,
    pub(crate) high_watermark: Offset,
    pub(crate) last_append_time: Timestamp,
    pub(crate) epochs: Epochs,
    pub(crate) producers: Producers,
    pub(crate) transactions: Transactions,
    /// By offset.
    pub(crate) segments: VecDeque<Segment>,
    pub(crate) segment_bytes: u64,
    /// Whether somebody writes segments anew, merged or compacted: one at a time.
    pub(crate) rewriting: bool,
    /// How often some were compacted since the log was opened.
    pub(crate) compactions: u64,
    /// What was damaged before it could be laid out, by offset: below the laid-out end, and between
    /// segments.
    pub(crate) lost: Vec<LostRange>,
    /// By offset, without gaps, up to the log end. Those without a batch come first.
    pub(crate) recent: VecDeque<Recent>,
    /// Recent batches from here on are in no segment, and not lost.
    pub(crate) laid_end: Offset,
    /// The size of those.
    pub(crate) backlog_bytes: u64,
    /// Since when there have been any.
    pub(crate) backlog_since: Option<Monotonic>,
    /// Whom to notify when the high watermark or the log start moves, or on deletion.
    pub(crate) watchers: BTreeMap<u64, (Arc<News>, usize)>,
}

impl Change {
    /// What the frame would do.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the frame makes no sense.
    pub(crate) fn decode(body: &FrameBody) -> Result<Self, DecodeError> {
        match body {
            FrameBody::Layout(bytes) => LayoutEntry::decode(bytes).map(Self::Layout),
            FrameBody::Batch(batch) => {
                let header = batch.header()?;
                if header.base_offset.0 < 0 || header.last_offset_delta < 0 {
                    return Err(DecodeError::Invalid { field: "batch.base_offset" });
                }
                Ok(match marker(&header, batch)? {
                    Some(marker) => Self::Marker(header, marker),
                    None => Self::Batch(header),
                })
            }
        }
    }
}

impl PartitionState {
    /// A partition without records.
    pub(crate) fn new(spec: PartitionSpec) -> Self {
        Self {
            id: spec.id,
            config: spec.config,
            epoch: spec.epoch,
            deleted: false,
            is_changed: false,
            applied: Lsn(0),
            log_start: Offset::ZERO,
            log_start_end: Lsn(0),
            log_end: Offset::ZERO,
            high_watermark: Offset::ZERO,
            last_append_time: Timestamp::NONE,
            epochs: Epochs::default(),
            producers: Producers::default(),
            transactions: Transactions::default(),
            segments: VecDeque::new(),
            segment_bytes: 0,
            rewriting: false,
            compactions: 0,
            lost: Vec::new(),
            recent: VecDeque::new(),
            laid_end: Offset::ZERO,
            backlog_bytes: 0,
            backlog_since: None,
            watchers: BTreeMap::new(),
        }
    }

    /// A partition as a checkpoint has it.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when a segment's name is none.
    pub(crate) fn restore(
        spec: PartitionSpec,
        image: PartitionImage,
        blobs: &Blobs,
        now: Monotonic,
    ) -> Result<Self, DecodeError> {
        let mut state = Self::new(spec);
        state.applied = image.applied;
        state.log_start = image.log_start;
        state.log_end = image.log_end;
        state.high_watermark = image.log_end;
        state.last_append_time = image.last_append_time;
        state.epochs = Epochs::new(image.epochs);
        let open: Vec<(Offset, ProducerId)> = image
            .producers
            .iter()
            .filter_map(|producer| Some((producer.transaction?, producer.id)))
            .collect();
        state.transactions = Transactions::from_parts(open.into_iter(), image.aborted);
        state.producers = Producers::from_images(image.producers);
        for segment in &image.segments {
            state.segment_bytes += segment.run.len;
            state.segments.push_back(blobs.adopt(segment)?);
        }
        state.lost = image.lost;
        state.laid_end = image.backlog.first().map_or(image.log_end, |first| first.base);
        for batch in image.backlog {
            state.backlog_bytes += u64::from(batch.size);
            state.backlog_since = Some(now);
            state.recent.push_back(Recent {
                base: batch.base,
                last: batch.last,
                max_timestamp: batch.max_timestamp,
                size: batch.size,
                at: FrameAt { session: batch.session, lsn: batch.lsn, len: batch.len },
                batch: None,
            });
        }
        Ok(state)
    }

    /// The state as a checkpoint keeps it.
    pub(crate) fn image(&self) -> PartitionImage {
        PartitionImage {
            id: self.id,
            applied: self.applied,
            log_start: self.log_start,
            log_end: self.log_end,
            last_append_time: self.last_append_time,
            epochs: self.epochs.entries().to_vec(),
            producers: self.producers.images(),
            aborted: self.transactions.aborted().to_vec(),
            segments: self.segments.iter().map(Segment::to_ref).collect(),
            backlog: self
                .backlog()
                .map(|batch| BacklogImage {
                    session: batch.at.session,
                    lsn: batch.at.lsn,
                    len: batch.at.len,
                    base: batch.base,
                    last: batch.last,
                    size: batch.size,
                    max_timestamp: batch.max_timestamp,
                })
                .collect(),
            lost: self.lost.clone(),
        }
    }

    /// The batches that are in no segment, by offset.
    pub(crate) fn backlog(&self) -> impl Iterator<Item = &Recent> {
        let from = self.recent.partition_point(|batch| batch.base < self.laid_end);
        self.recent.range(from..)
    }

    /// The ends that clients may know.
    pub(crate) fn ends(&self) -> Ends {
        Ends {
            log_start: self.log_start,
            high_watermark: self.high_watermark,
            last_stable: self.transactions.last_stable(self.high_watermark),
            log_end: self.log_end,
            epoch: self.epoch,
        }
    }

    /// The size of what is stored, in bytes.
    pub(crate) const fn size(&self) -> u64 {
        self.segment_bytes + self.backlog_bytes
    }

    /// Whether `change` can come next; anything else in a journal is corruption.
    pub(crate) fn follows(&self, change: &Change) -> bool {
        match change {
            Change::Batch(header) | Change::Marker(header, _) => header.base_offset == self.log_end,
            Change::Layout(LayoutEntry::LogStart(offset)) => *offset <= self.log_end,
            Change::Layout(LayoutEntry::SegmentCommitted(segment)) => {
                segment.run.partition == self.id
                    && segment.run.end > self.laid_end
                    && segment.run.end <= self.log_end
            }
            Change::Layout(
                LayoutEntry::SegmentsReplaced { removed, added }
                | LayoutEntry::Compacted { removed, added, .. },
            ) => {
                let known = |base: &Offset| self.segments.iter().any(|s| s.run.base == *base);
                removed.iter().all(known) && added.iter().all(|s| s.run.partition == self.id)
            }
            Change::Layout(LayoutEntry::Lost(range)) => self.is_next_to_lay(range),
        }
    }

    /// Changes the state as the frame says. Returns the segments that are no longer part of it,
    /// whose blobs may go once the change is durable.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when a segment's name is none; then nothing was changed.
    pub(crate) fn apply(
        &mut self,
        change: Change,
        size: usize,
        moment: &Moment,
        blobs: &Blobs,
    ) -> Result<Vec<Segment>, DecodeError> {
        let dropped = match change {
            Change::Batch(header) => {
                self.apply_batch(&header, size, moment);
                self.apply_producer(&header, moment);
                Vec::new()
            }
            Change::Marker(header, marker) => {
                self.apply_batch(&header, size, moment);
                self.apply_marker(&header, marker, moment);
                Vec::new()
            }
            Change::Layout(LayoutEntry::LogStart(offset)) => self.apply_log_start(offset, moment),
            Change::Layout(LayoutEntry::SegmentCommitted(segment)) => {
                let segment = blobs.adopt(&segment)?;
                self.apply_committed(segment, moment);
                Vec::new()
            }
            Change::Layout(LayoutEntry::SegmentsReplaced { removed, added }) => {
                let added: Result<Vec<_>, _> = added.iter().map(|s| blobs.adopt(s)).collect();
                self.apply_replaced(&removed, added?)
            }
            Change::Layout(LayoutEntry::Compacted { removed, added, forgotten }) => {
                let added: Result<Vec<_>, _> = added.iter().map(|s| blobs.adopt(s)).collect();
                let added = added?;
                self.apply_compacted(&removed, &forgotten);
                self.apply_replaced(&removed, added)
            }
            Change::Layout(LayoutEntry::Lost(range)) => {
                self.apply_lost(range, moment);
                Vec::new()
            }
        };
        self.applied = moment.end.max(self.applied);
        Ok(dropped)
    }

    /// Refuses what a coordinator writes for a producer that has moved on, or when it was replaced
    /// itself.
    pub(crate) fn check_internal(&self, batch: &ValidBatch) -> Result<(), AppendError> {
        let header = batch.header();
        let stored = batch.assign(self.log_end, self.epoch);
        let marker = marker(header, &stored)?;
        let epoch = marker.map_or(i32::MAX, |marker| marker.coordinator_epoch);
        self.producers.check_marker(header, epoch)?;
        if marker.is_none() && header.attributes.is_transactional() {
            self.producers.check_enlisted(header)?;
        }
        Ok(())
    }

    fn apply_batch(&mut self, header: &BatchHeader, size: usize, moment: &Moment) {
        debug_assert_eq!(header.base_offset, self.log_end);
        self.log_end = header.last_offset().next();
        self.epochs.apply(header.leader_epoch, header.base_offset);
        if header.attributes.timestamp_type() == TimestampType::LogAppendTime {
            self.last_append_time = self.last_append_time.max(header.max_timestamp);
        }
        self.backlog_bytes += size as u64;
        self.backlog_since.get_or_insert(moment.monotonic);
        self.recent.push_back(Recent {
            base: header.base_offset,
            last: header.last_offset(),
            max_timestamp: header.max_timestamp,
            size: u32::try_from(size).unwrap_or(u32::MAX),
            at: moment.at,
            batch: None,
        });
    }

    fn memory(&self, moment: &Moment) -> Memory {
        Memory { expiry: self.config.producer_expiry, ids_max: moment.producer_ids_max }
    }

    fn apply_producer(&mut self, header: &BatchHeader, moment: &Moment) {
        if header.producer_id.0 < 0 || header.attributes.is_control() {
            return;
        }
        let stamped = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
        let batch = SentBatch {
            base_sequence: header.base_sequence,
            last_sequence: header.last_sequence(),
            base: header.base_offset,
            last: header.last_offset(),
            log_append_time: if stamped { header.max_timestamp } else { Timestamp::NONE },
        };
        let memory = self.memory(moment);
        let sent = Sent { batch, end: moment.end };
        let open = self.producers.apply(header, sent, moment.wall, memory);
        if let Some(first) = open {
            self.transactions.begin(first, header.producer_id);
        }
    }

    fn apply_marker(&mut self, header: &BatchHeader, marker: EndTransaction, moment: &Moment) {
        let memory = self.memory(moment);
        let epoch = marker.coordinator_epoch;
        let ended = self.producers.apply_marker(header, epoch, moment.wall, memory);
        if let Some(ended) = ended {
            let (at, producer) = (header.base_offset, header.producer_id);
            self.transactions.end(ended.first, at, producer, marker.outcome == Outcome::Commit);
        }
    }

    fn apply_log_start(&mut self, offset: Offset, moment: &Moment) -> Vec<Segment> {
        if offset <= self.log_start {
            return Vec::new();
        }
        self.log_start = offset;
        self.log_start_end = moment.end;
        let gone = self.segments.partition_point(|segment| segment.run.end <= offset);
        let dropped: Vec<_> = self.segments.drain(..gone).collect();
        self.segment_bytes -= dropped.iter().map(|segment| segment.run.len).sum::<u64>();
        while let Some(batch) = self.recent.pop_front_if(|batch| batch.last < offset) {
            if batch.base >= self.laid_end {
                self.backlog_bytes -= u64::from(batch.size);
            }
        }
        self.lost.retain(|range| range.upto > offset);
        self.note_backlog(moment.monotonic);
        self.epochs.trim(offset);
        self.transactions.trim(offset);
        dropped
    }

    fn apply_committed(&mut self, segment: Segment, moment: &Moment) {
        let end = segment.run.end;
        self.segment_bytes += segment.run.len;
        self.segments.push_back(segment);
        self.apply_laid(end, moment);
    }

    fn apply_lost(&mut self, range: LostRange, moment: &Moment) {
        match self.lost.last_mut().filter(|last| last.upto == range.from) {
            Some(last) => {
                last.upto = range.upto;
                last.max_timestamp = last.max_timestamp.max(range.max_timestamp);
            }
            None => self.lost.push(range),
        }
        self.apply_laid(range.upto, moment);
    }

    /// Batches below `end` need no journal any more.
    fn apply_laid(&mut self, end: Offset, moment: &Moment) {
        let laid = self.backlog().take_while(|batch| batch.base < end);
        self.backlog_bytes -= laid.map(|batch| u64::from(batch.size)).sum::<u64>();
        self.laid_end = end;
        self.backlog_since = None;
        self.note_backlog(moment.monotonic);
        self.forget();
    }

    fn apply_replaced(&mut self, removed: &[Offset], added: Vec<Segment>) -> Vec<Segment> {
        let all = std::mem::take(&mut self.segments);
        let (gone, mut kept): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|segment| removed.contains(&segment.run.base));
        kept.extend(added);
        kept.sort_by_key(|segment| segment.run.base);
        self.segment_bytes = kept.iter().map(|segment| segment.run.len).sum();
        self.segments = kept.into();
        gone
    }

    /// What memory still has of the segments that go holds records that nobody should see any more:
    /// of aborted transactions that readers no longer hear of, for one.
    fn apply_compacted(&mut self, removed: &[Offset], forgotten: &[Offset]) {
        self.compactions += 1;
        self.transactions.forget(forgotten);
        let gone = self.segments.iter().filter(|segment| removed.contains(&segment.run.base));
        let upto = gone.map(|segment| segment.run.end).max().unwrap_or_default();
        let laid = self.recent.iter_mut().take_while(|batch| batch.base < upto.min(self.laid_end));
        laid.for_each(|batch| batch.batch = None);
        self.forget();
    }

    /// Forgets what neither memory nor a journal has to keep.
    pub(crate) fn forget(&mut self) {
        let laid_end = self.laid_end;
        while self
            .recent
            .pop_front_if(|batch| batch.batch.is_none() && batch.base < laid_end)
            .is_some()
        {}
        // Queues that were long once would add up.
        let (room, len) = (self.recent.capacity(), self.recent.len());
        if room > RECENT_KEPT && room / 4 > len {
            self.recent.shrink_to(len * 2);
        }
    }

    fn note_backlog(&mut self, now: Monotonic) {
        if self.backlog_bytes == 0 {
            self.backlog_since = None;
        } else {
            self.backlog_since.get_or_insert(now);
        }
    }

    /// Everything below `offset` is durable. Returns whether anything became visible.
    pub(crate) fn advance(&mut self, offset: Offset) -> bool {
        if offset <= self.high_watermark {
            return false;
        }
        self.high_watermark = offset;
        self.transactions.advance(offset);
        true
    }

    /// Recovery is over: all there is, is durable, and a new session begins.
    pub(crate) fn recovered(&mut self) {
        self.applied = Lsn(0);
        self.log_start_end = Lsn(0);
        self.high_watermark = self.log_end;
        self.transactions.advance(self.log_end);
    }

    /// Whether the range is that of whole batches which are the next to be laid out.
    pub(crate) fn is_next_to_lay(&self, range: &LostRange) -> bool {
        let mut backlog = self.backlog();
        let is_first = backlog.next().is_some_and(|first| first.base == range.from);
        is_first && self.backlog().any(|batch| batch.last.next() == range.upto)
    }

    /// Where the frames of these batches are, as far as they are needed.
    pub(crate) fn places_in(&self, range: &LostRange) -> Vec<JournalPlace> {
        let after = self.backlog().skip_while(|batch| batch.base < range.from);
        after.take_while(|batch| batch.last < range.upto).map(Self::place).collect()
    }

    /// The lost batches that `offset` is one of.
    pub(crate) fn lost_at(&self, offset: Offset) -> Option<&LostRange> {
        self.lost_from(offset).filter(|range| range.from <= offset)
    }

    /// The first lost batches that end behind `offset`.
    pub(crate) fn lost_from(&self, offset: Offset) -> Option<&LostRange> {
        self.lost.get(self.lost.partition_point(|range| range.upto <= offset))
    }

    /// The error for who reads lost batches.
    pub(crate) fn lost_error(&self, range: &LostRange) -> ReadError {
        ReadError::Corrupt {
            partition: self.id,
            from: range.from,
            upto: range.upto,
            why: "they were damaged before they could be laid out".to_owned(),
        }
    }

    /// The segment that `offset` lies in, or the next one.
    pub(crate) fn segment_at(&self, offset: Offset) -> Option<&Segment> {
        self.segments.get(self.segments.partition_point(|segment| segment.run.end <= offset))
    }

    /// The place among the recent batches of the one that `offset` lies in.
    pub(crate) fn recent_at(&self, offset: Offset) -> Option<usize> {
        let first = self.recent.front()?.base;
        (first <= offset).then(|| self.recent.partition_point(|batch| batch.last < offset))
    }

    /// The batch that begins at `base`, if memory has it.
    pub(crate) fn in_memory(&self, base: Offset) -> Option<StoredBatch> {
        let at = self.recent.partition_point(|batch| batch.base < base);
        self.recent.get(at).filter(|batch| batch.base == base)?.batch.as_deref().cloned()
    }

    /// A segment reference's age counts from its newest record.
    pub(crate) fn age_of(segment: &Segment) -> Timestamp {
        if segment.run.max_timestamp.0 >= 0 { segment.run.max_timestamp } else { segment.written }
    }
}

/// The end of a transaction, if the batch is one.
fn marker(
    header: &BatchHeader,
    batch: &StoredBatch,
) -> Result<Option<EndTransaction>, DecodeError> {
    const CONTROL_BYTES_MAX: usize = 64 * 1024;
    const BAD: DecodeError = DecodeError::Invalid { field: "control batch" };
    if !header.attributes.is_control() {
        return Ok(None);
    }
    let records = batch.records(CONTROL_BYTES_MAX).map_err(|_| BAD)?;
    let first = records.iter().next().ok_or(BAD)?.map_err(|_| BAD)?;
    Ok(match ControlRecord::decode(&first)? {
        ControlRecord::EndTransaction(marker) => Some(marker),
        ControlRecord::LeaderChange { .. } | ControlRecord::Other { .. } => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::partition::Shared;

    /// Queues make thousands of small partitions: what each costs at rest is its state and two
    /// places in maps.
    #[test]
    fn an_idle_partition_takes_less_than_a_kilobyte() {
        let map_entry = size_of::<PartitionId>() + size_of::<Arc<Shared>>();
        let recent = size_of::<Recent>() * 4;
        let all = size_of::<Shared>() + map_entry + recent;
        assert!(all < 1024, "{all} bytes");
    }
}
