//! Reading: whole batches from memory, the journal, or a segment, wherever they are.
//!
//! A batch is in memory until it is evicted, in the journal until it is laid out and a checkpoint
//! covers that, in a segment from then on. Each step of a read looks, under the partition's lock, where
//! the next offset is, takes hold of that place, and reads without the lock.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use futures_util::future::join_all;
use millstream_env::{BlobError, FrameAt, JournalError};
use millstream_record::frame::{Frame, FrameBody};
use millstream_record::index::{AbortedTxn, INDEX_INTERVAL_BYTES, RunIndex};
use millstream_record::{BatchHeader, StoredBatch};
use millstream_types::{Offset, PartitionId, ProducerId};

use crate::blobs::Segment;
use crate::epochs::Epochs;
use crate::error::ReadError;
use crate::indexes::unreadable;
use crate::log::Inner;
use crate::partition::{Ends, Partition};
use crate::pins::Pin;
use crate::resync::{self, Known, SEARCHED_BYTES_MAX};
use crate::state::{PartitionState, Recent};
use crate::util::locked;

/// Frames of the journal that one read has under way at once: a disk is faster with several, and
/// one more thread for each would cost more than it reads.
const JOURNAL_READS: usize = 4;
/// The least that is read of a segment at once, in bytes.
const READ_BYTES_MIN: u64 = 64 * 1024;

/// What a reader may see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Everything below the high watermark, aborted transactions included.
    Uncommitted,
    /// Everything below the last stable offset; [`Slice::aborted`] says what to skip.
    Committed,
}

/// What a read returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Whole batches in order. The first holds the offset that was asked for, or the next one that
    /// there is; it may begin before.
    pub batches: Vec<StoredBatch>,
    /// Their size in bytes.
    pub bytes: usize,
    /// The first offset after them: where the next read begins.
    pub next: Offset,
    /// One past the last visible offset.
    pub high_watermark: Offset,
    /// One past the last offset that readers of committed data may see.
    pub last_stable: Offset,
    /// The first offset that is not deleted.
    pub log_start: Offset,
    /// For [`Isolation::Committed`]: who wrote aborted records that may be among the batches, and
    /// the first offset of each aborted transaction.
    pub aborted: Vec<(ProducerId, Offset)>,
}

/// What a read has come to without waiting for anything.
#[derive(Debug)]
pub enum ReadNow {
    /// All that it returns was in memory.
    Done(Slice),
    /// More is on the disk: [`Partition::read_on`] gets it.
    Begun(Reading),
}

/// A read under way.
#[derive(Debug)]
pub struct Reading {
    next: Offset,
    bound: Offset,
    ends: Ends,
    aborted: Vec<AbortedTxn>,
    batches: Vec<StoredBatch>,
    bytes: usize,
    room: Room,
    isolation: Isolation,
    /// [`PartitionState::compactions`] when `aborted` was right.
    compactions: u64,
}

/// How much a read may still return.
#[derive(Clone, Copy, Debug)]
struct Room {
    bytes: usize,
    /// Whether the next batch is taken however large it is.
    must: bool,
}

/// Where the next batches are.
enum Source {
    Memory(Vec<StoredBatch>),
    Disk(Cold),
    /// It was deleted after the read began.
    Deleted(Ends),
    /// It can't be had.
    Nowhere(ReadError),
}

/// The same, when they are not in memory.
enum Cold {
    Journal(Vec<JournalPlace>, Pin),
    /// A segment, and where it must not be read any more: behind are lost batches, or nothing that
    /// is visible.
    Segment(Segment, Epochs, Offset),
}

/// A frame to read, and what it must hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct JournalPlace {
    pub(crate) at: FrameAt,
    pub(crate) base: Offset,
    pub(crate) last: Offset,
}

impl Room {
    const fn fits(self, size: usize) -> bool {
        self.must || size <= self.bytes
    }

    const fn take(&mut self, size: usize) {
        self.bytes = self.bytes.saturating_sub(size);
        self.must = false;
    }
}

impl Reading {
    fn add(&mut self, batches: Vec<StoredBatch>) -> Result<bool, ReadError> {
        let any = !batches.is_empty();
        for batch in batches {
            let header = batch.header().map_err(|error| ReadError::Storage(error.to_string()))?;
            self.next = header.last_offset().next();
            self.bytes += batch.size();
            self.room.take(batch.size());
            self.batches.push(batch);
        }
        Ok(any)
    }

    /// What was read is good, and the next read meets the error; where there is nothing, it is this one's.
    fn or_error(self, error: ReadError) -> Result<Slice, ReadError> {
        if self.batches.is_empty() { Err(error) } else { Ok(self.finish()) }
    }

    fn finish(self) -> Slice {
        let end = self.next;
        let overlaps = |txn: &&AbortedTxn| !self.batches.is_empty() && txn.first < end;
        Slice {
            aborted: self.aborted.iter().filter(overlaps).map(|t| (t.producer, t.first)).collect(),
            bytes: self.bytes,
            next: end,
            high_watermark: self.ends.high_watermark,
            last_stable: self.ends.last_stable,
            log_start: self.ends.log_start,
            batches: self.batches,
        }
    }
}

impl Partition {
    /// Reads whole batches from the one that holds `from` on, up to `bytes_max` bytes in all; the
    /// first one even if it is larger, when `at_least_one`. Ends at the high watermark or the last
    /// stable offset, as `isolation` says. Batches in memory are returned without a copy.
    ///
    /// # Errors
    ///
    /// [`ReadError::OutOfRange`] when `from` is below the log start or above the log end;
    /// [`ReadError::Corrupt`] when the batch at `from` is not what was written, or was given up
    /// because of that.
    pub async fn read(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<Slice, ReadError> {
        match self.read_now(from, bytes_max, at_least_one, isolation)? {
            ReadNow::Done(slice) => Ok(slice),
            ReadNow::Begun(reading) => self.read_on(reading).await,
        }
    }

    /// The part of [`Partition::read`] that waits for nothing: most reads are over then.
    ///
    /// # Errors
    ///
    /// Those of [`Partition::read`].
    pub fn read_now(
        &self,
        from: Offset,
        bytes_max: usize,
        at_least_one: bool,
        isolation: Isolation,
    ) -> Result<ReadNow, ReadError> {
        let room = Room { bytes: bytes_max, must: at_least_one };
        let mut reading = self.begin(from, room, isolation)?;
        match self.read_memory(&mut reading) {
            Ok(None) => Ok(ReadNow::Done(reading.finish())),
            Ok(Some(_)) => Ok(ReadNow::Begun(reading)),
            Err(error) => reading.or_error(error).map(ReadNow::Done),
        }
    }

    /// Ends a read, with all that is on the disk.
    ///
    /// # Errors
    ///
    /// Those of [`Partition::read`].
    pub async fn read_on(&self, mut reading: Reading) -> Result<Slice, ReadError> {
        loop {
            let step = match self.read_memory(&mut reading) {
                Ok(Some(cold)) => self.read_disk(&reading, cold).await,
                Ok(None) => return Ok(reading.finish()),
                Err(error) => Err(error),
            };
            match step.and_then(|batches| reading.add(batches)) {
                Ok(true) => {}
                Ok(false) => return Ok(reading.finish()),
                // The next session may have moved what this one knows.
                Err(ReadError::Corrupt { why, .. }) if self.log.durable.is_over() => {
                    return reading.or_error(ReadError::Storage(why));
                }
                Err(error) => return reading.or_error(error),
            }
        }
    }

    /// Reads on as long as the next batches are in memory. Returns where they are then, if there are
    /// any more and there is room.
    fn read_memory(&self, reading: &mut Reading) -> Result<Option<Cold>, ReadError> {
        while reading.next < reading.bound && reading.room.fits(1) {
            match self.source(reading) {
                Source::Memory(batches) => {
                    if !reading.add(batches)? {
                        break;
                    }
                }
                Source::Disk(cold) => return Ok(Some(cold)),
                Source::Deleted(ends) => {
                    return Err(ReadError::OutOfRange { offset: reading.next, ends });
                }
                Source::Nowhere(error) => return Err(error),
            }
        }
        Ok(None)
    }

    fn begin(&self, from: Offset, room: Room, isolation: Isolation) -> Result<Reading, ReadError> {
        let state = locked(&self.shared.state);
        if state.deleted {
            return Err(ReadError::NotLeader);
        }
        let ends = state.ends();
        if from < ends.log_start || from > ends.log_end {
            return Err(ReadError::OutOfRange { offset: from, ends });
        }
        let (bound, aborted) = match isolation {
            Isolation::Uncommitted => (ends.high_watermark, Vec::new()),
            Isolation::Committed => {
                (ends.last_stable, state.transactions.aborted_in(from, ends.last_stable))
            }
        };
        let (batches, bytes) = (Vec::new(), 0);
        let compactions = state.compactions;
        Ok(Reading {
            next: from,
            bound,
            ends,
            aborted,
            batches,
            bytes,
            room,
            isolation,
            compactions,
        })
    }

    /// The next batches, from one place on the disk.
    async fn read_disk(
        &self,
        reading: &Reading,
        cold: Cold,
    ) -> Result<Vec<StoredBatch>, ReadError> {
        let log = &self.log;
        match cold {
            Cold::Journal(places, pin) => {
                log.counters.journal_reads.fetch_add(1, Ordering::Relaxed);
                let mut frames = log.read_frames(self.shared.id, &places).await.into_iter();
                drop(pin);
                let Some(first) = frames.next() else { return Ok(Vec::new()) };
                // What was read is good; the next read meets the error.
                Ok(std::iter::once(first?).chain(frames.map_while(Result::ok)).collect())
            }
            Cold::Segment(segment, epochs, bound) => {
                log.counters.cold_reads.fetch_add(1, Ordering::Relaxed);
                let walk = Walk::new(log, &segment, &epochs, reading.next).await?;
                walk.collect(bound, reading.room).await
            }
        }
    }

    fn source(&self, reading: &mut Reading) -> Source {
        let state = locked(&self.shared.state);
        if state.deleted {
            return Source::Memory(Vec::new());
        }
        // What is asked for was in range when the read began, under the same lock.
        if reading.next < state.log_start {
            return Source::Deleted(state.ends());
        }
        // What is stored now may have lost the end of an aborted transaction that was there when the
        // read began: the two are not for one answer, whose reader would wait for that end.
        if reading.compactions != state.compactions {
            if !reading.batches.is_empty() {
                return Source::Memory(Vec::new());
            }
            reading.compactions = state.compactions;
            if reading.isolation == Isolation::Committed {
                reading.aborted = state.transactions.aborted_in(reading.next, reading.bound);
            }
        }
        if let Some(range) = state.lost_at(reading.next) {
            return Source::Nowhere(state.lost_error(range));
        }
        if let Some(at) = state.recent_at(reading.next) {
            let visible = |batch: &&Recent| batch.last < reading.bound;
            let rest = || state.recent.range(at..).take_while(visible);
            if rest().next().is_none_or(|first| first.batch.is_some()) {
                return Source::Memory(in_memory(rest(), reading.room));
            }
            let journaled = |batch: &&Recent| batch.batch.is_none() && batch.base >= state.laid_end;
            let places = in_journal(rest().take_while(journaled), reading.room);
            if !places.is_empty() {
                let pin =
                    self.log.pins.pin(places.iter().map(|p| (p.at.session, p.at.lsn)).collect());
                return Source::Disk(Cold::Journal(places, pin));
            }
            if rest().next().is_some_and(|first| first.base >= state.laid_end) {
                // It is in the journal and does not fit.
                return Source::Memory(Vec::new());
            }
        }
        match state.segment_at(reading.next) {
            Some(segment) => {
                // Compaction leaves holes, also before what is lost.
                let lost = state.lost_from(reading.next);
                if let Some(range) = lost.filter(|range| range.from <= segment.run.base) {
                    return Source::Nowhere(state.lost_error(range));
                }
                let lost = state.lost_from(reading.next).map_or(reading.bound, |range| range.from);
                let bound = reading.bound.min(lost);
                Source::Disk(Cold::Segment(segment.clone(), state.epochs.clone(), bound))
            }
            None => Source::Nowhere(ReadError::Corrupt {
                partition: self.shared.id,
                from: reading.next,
                upto: reading.bound,
                why: "no segment holds them".to_owned(),
            }),
        }
    }
}

impl Inner {
    /// Reads batches back from journals.
    pub(crate) async fn read_frames(
        &self,
        partition: PartitionId,
        places: &[JournalPlace],
    ) -> Vec<Result<StoredBatch, ReadError>> {
        let places: Vec<_> = places.iter().map(|place| (partition, *place)).collect();
        self.read_places(&places).await
    }

    /// The same of several partitions.
    pub(crate) async fn read_places(
        &self,
        places: &[(PartitionId, JournalPlace)],
    ) -> Vec<Result<StoredBatch, ReadError>> {
        let each = places.len().div_ceil(JOURNAL_READS).max(1);
        let parts = places.chunks(each);
        let reads = parts.map(|part| part.iter().map(|(_, place)| place.at).collect());
        let reads: Vec<_> = reads.map(|at| self.journals.read_many(at)).collect();
        let frames = join_all(reads).await.into_iter().flatten();
        let found = places.iter().zip(frames);
        found.map(|((partition, place), read)| place.batch(*partition, read)).collect()
    }
}

impl JournalPlace {
    /// The batch that was read from here, if it is the right one.
    fn batch(
        &self,
        partition: PartitionId,
        read: Result<Frame, JournalError>,
    ) -> Result<StoredBatch, ReadError> {
        let corrupt = |why: String| ReadError::Corrupt {
            partition,
            from: self.base,
            upto: self.last.next(),
            why,
        };
        let frame = read.map_err(|error| match error {
            JournalError::Corrupt(why) => corrupt(why),
            other => ReadError::Storage(other.to_string()),
        })?;
        let FrameBody::Batch(batch) = frame.body else {
            return Err(corrupt("its frame holds something else".to_owned()));
        };
        let header = batch.header().map_err(|error| corrupt(error.to_string()))?;
        let same = header.base_offset == self.base && header.last_offset() == self.last;
        if frame.partition != partition || !same {
            return Err(corrupt("its frame holds another batch".to_owned()));
        }
        Ok(batch)
    }
}

fn in_memory<'a>(rest: impl Iterator<Item = &'a Recent>, mut room: Room) -> Vec<StoredBatch> {
    let mut batches = Vec::new();
    for batch in rest.map_while(|recent| recent.batch.as_deref()) {
        if !room.fits(batch.size()) {
            break;
        }
        room.take(batch.size());
        batches.push(batch.clone());
    }
    batches
}

fn in_journal<'a>(rest: impl Iterator<Item = &'a Recent>, mut room: Room) -> Vec<JournalPlace> {
    let mut places = Vec::new();
    for batch in rest {
        if !room.fits(batch.size as usize) {
            break;
        }
        room.take(batch.size as usize);
        places.push(JournalPlace { at: batch.at, base: batch.base, last: batch.last });
    }
    places
}

/// A walk over the batches of a segment, front to back. Checksums lie inside the batches; what they
/// do not cover, offset and epoch, must fit to the batches before and to what the partition knows.
pub(crate) struct Walk<'a> {
    log: &'a Inner,
    segment: &'a Segment,
    epochs: &'a Epochs,
    /// Read only where it is needed: to begin in the middle, or to say how far a damage reaches.
    index: Option<Arc<RunIndex>>,
    /// Where the next batch starts in the run, and the offset it must have.
    position: u64,
    expected: Offset,
    /// Bytes of the run from `window_at` on.
    window: Bytes,
    window_at: u64,
    /// Batches that end before are skipped, unread.
    from: Offset,
    /// The last one that was: where the next begins is known by its header only.
    skipped: Option<Known>,
    /// Whether damage may have come up on the way here, as long as it was not read twice.
    is_doubted: bool,
}

/// What is wrong with the next batch.
struct Flaw {
    why: String,
    /// Where the next sound batch may be; `None` when only the index knows.
    upto: Option<Offset>,
}

/// What the walk finds next.
enum Step {
    Batch(BatchHeader),
    End,
}

impl<'a> Walk<'a> {
    /// A walk that begins at the batch that holds `from`, or the next one.
    pub(crate) async fn new(
        log: &'a Inner,
        segment: &'a Segment,
        epochs: &'a Epochs,
        from: Offset,
    ) -> Result<Self, ReadError> {
        let (window, window_at) = (Bytes::new(), 0);
        let (index, position, expected) = (None, 0, segment.run.base);
        let (skipped, is_doubted) = (None, true);
        let mut walk = Self {
            log,
            segment,
            epochs,
            index,
            position,
            expected,
            window,
            window_at,
            from,
            skipped,
            is_doubted,
        };
        if from > segment.run.base
            && let Some(entry) = walk.index().await?.floor(from)
        {
            (walk.position, walk.expected) = (entry.position, entry.offset);
        }
        Ok(walk)
    }

    async fn index(&mut self) -> Result<Arc<RunIndex>, ReadError> {
        if let Some(index) = &self.index {
            return Ok(Arc::clone(index));
        }
        let index = self.log.indexes.get(self.segment, &self.log.blobs).await?;
        Ok(Arc::clone(self.index.insert(index)))
    }

    /// The batches below `bound` that there is room for.
    async fn collect(
        mut self,
        bound: Offset,
        mut room: Room,
    ) -> Result<Vec<StoredBatch>, ReadError> {
        let mut batches = Vec::new();
        let ahead = room.bytes as u64;
        loop {
            let first = batches.is_empty();
            match self.next(bound, ahead, room, first).await {
                Ok(Some(batch)) => {
                    room.take(batch.size());
                    batches.push(batch);
                }
                Ok(None) => return Ok(batches),
                Err(error) if first => return Err(error),
                Err(_) => return Ok(batches),
            }
        }
    }

    /// The next batch, checked; `None` at the end, or when it does not fit, or when `refill` is false
    /// and the window is used up.
    async fn next(
        &mut self,
        bound: Offset,
        ahead: u64,
        room: Room,
        refill: bool,
    ) -> Result<Option<StoredBatch>, ReadError> {
        loop {
            if !self.has(millstream_record::batch::HEADER_SIZE) {
                if !refill && self.position < self.segment.run.len {
                    return Ok(None);
                }
                self.fill(millstream_record::batch::HEADER_SIZE as u64, ahead).await?;
            }
            let header = match self.peek(bound) {
                Ok(Step::Batch(header)) => header,
                Ok(Step::End) => return Ok(None),
                Err(flaw) => {
                    self.pass(flaw).await?;
                    continue;
                }
            };
            let size = header.size();
            if header.last_offset() < self.from {
                self.skipped = Some(Known { position: self.position, offset: self.expected });
                self.skip(&header);
                continue;
            }
            if !room.fits(size) {
                return Ok(None);
            }
            if !self.has(size) {
                if !refill {
                    return Ok(None);
                }
                self.fill(size as u64, ahead).await?;
            }
            match self.take(&header) {
                Ok(batch) => return Ok(Some(batch)),
                Err(flaw) => self.pass(flaw).await?,
            }
        }
    }

    /// Passes over a batch that is damaged in front of those that are wanted. The first damage that a walk
    /// meets is not believed: what is cached is read anew.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`] with the offset at which it goes on, when that is one of those.
    async fn pass(&mut self, flaw: Flaw) -> Result<(), ReadError> {
        if std::mem::take(&mut self.is_doubted) {
            self.log.blobs.store.forget(&self.segment.blob.name).await;
            self.window = Bytes::new();
            return Ok(());
        }
        let error = self.corrupt(flaw).await;
        let ReadError::Corrupt { partition, from, upto, why } = error else { return Err(error) };
        let next = self.resync(upto).await;
        let upto = next.map_or(upto, |next| next.offset);
        match next.filter(|next| next.offset <= self.from) {
            Some(next) => (self.position, self.expected) = (next.position, next.offset),
            None => return Err(ReadError::Corrupt { partition, from, upto, why }),
        }
        Ok(())
    }

    /// Where the batches go on behind the next one, whose header can't be believed, if that is before
    /// `upto`, which is the next place that the index knows.
    async fn resync(&mut self, upto: Offset) -> Option<Known> {
        let run = self.segment.run;
        let index = self.index().await.ok()?;
        let known = index.entries().iter().find(|entry| entry.offset == upto);
        let known = known.map_or(Known { position: run.len, offset: run.end }, |entry| Known {
            position: entry.position,
            offset: entry.offset,
        });
        // A batch that was skipped may be the one that is damaged.
        let damaged = self.skipped.take();
        let damaged = damaged.unwrap_or(Known { position: self.position, offset: self.expected });
        self.position = damaged.position;
        let len = known.position.saturating_sub(self.position).min(SEARCHED_BYTES_MAX);
        if known.offset != upto
            || len > self.rest().len() as u64 && self.fill(len, 0).await.is_err()
        {
            return None;
        }
        resync::find(self.rest(), damaged, known, run.dense)
    }

    /// The next batch however large, for whoever wants all of them.
    pub(crate) async fn next_whole(
        &mut self,
        ahead: u64,
    ) -> Result<Option<(BatchHeader, StoredBatch)>, ReadError> {
        let room = Room { bytes: usize::MAX, must: true };
        let Some(batch) = self.next(self.segment.run.end, ahead, room, true).await? else {
            return Ok(None);
        };
        match batch.header() {
            Ok(header) => Ok(Some((header, batch))),
            Err(error) => Err(self.corrupt(Flaw::here(error)).await),
        }
    }

    fn rest(&self) -> &[u8] {
        let skipped = self.position.checked_sub(self.window_at);
        let skipped = skipped.and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.window.get(skipped..)).unwrap_or_default()
    }

    fn has(&self, bytes: usize) -> bool {
        self.rest().len() >= bytes
    }

    async fn fill(&mut self, bytes: u64, ahead: u64) -> Result<(), ReadError> {
        let run = &self.segment.run;
        let left = run.len.saturating_sub(self.position);
        let ahead = ahead.clamp(READ_BYTES_MIN, 4 * 1024 * 1024) + INDEX_INTERVAL_BYTES;
        let want = left.min(bytes.max(ahead));
        if want == 0 {
            return Ok(());
        }
        let start = run.position + self.position;
        let get = |want| {
            let name = self.segment.blob.name.clone();
            self.log.blobs.store.get(name, Some(start..start + want))
        };
        let (got, want) = match get(want).await {
            // What can't be read may lie in what was to be read ahead.
            Err(BlobError::Storage { .. }) if want > bytes => (get(bytes).await, bytes),
            got => (got, want),
        };
        self.window = got.map_err(|error| unreadable(self.segment, &error))?;
        self.window_at = self.position;
        if (self.window.len() as u64) < want {
            return Err(self.corrupt(Flaw::here("the blob is too short")).await);
        }
        Ok(())
    }

    fn peek(&self, bound: Offset) -> Result<Step, Flaw> {
        let run = &self.segment.run;
        if self.position >= run.len || self.expected >= bound {
            return Ok(Step::End);
        }
        let header = BatchHeader::decode(self.rest()).map_err(Flaw::here)?;
        let base = header.base_offset;
        let in_place = if run.dense { base == self.expected } else { base >= self.expected };
        if !in_place || header.last_offset_delta < 0 || header.last_offset() >= run.end {
            return Err(Flaw::here("a batch has other offsets than it should"));
        }
        if header.size() as u64 > run.len - self.position {
            return Err(Flaw::here("a batch is longer than its run"));
        }
        // A log start inside the oldest epoch moves that epoch's begin.
        let epoch = self.epochs.at(base);
        if epoch.is_some_and(|epoch| epoch != header.leader_epoch) {
            return Err(Flaw::here("a batch has another leader epoch than it should"));
        }
        // Above the bound nothing is visible, not even a part of a batch.
        Ok(if header.last_offset() >= bound { Step::End } else { Step::Batch(header) })
    }

    fn skip(&mut self, header: &BatchHeader) {
        self.position += header.size() as u64;
        self.expected = header.last_offset().next();
    }

    fn take(&mut self, header: &BatchHeader) -> Result<StoredBatch, Flaw> {
        let skipped = self.window.len() - self.rest().len();
        let bytes = self.window.slice(skipped..skipped + header.size());
        let batch = StoredBatch::from_bytes(bytes).map_err(|error| Flaw {
            upto: self.next_fits(header).then(|| header.last_offset().next()),
            ..Flaw::here(error)
        })?;
        self.skip(header);
        self.skipped = None;
        Ok(batch)
    }

    /// Whether what comes after the next batch, if that has this header, is where it should be: then
    /// the header is right, whatever else is wrong with the batch.
    fn next_fits(&self, header: &BatchHeader) -> bool {
        let (run, next) = (&self.segment.run, header.last_offset().next());
        if self.position + header.size() as u64 == run.len {
            return next == run.end;
        }
        let after = self.rest().get(header.size()..).map(BatchHeader::decode);
        matches!(after, Some(Ok(after)) if after.base_offset == next)
    }

    /// An error for the batches from the next one up to where a sound one may be.
    async fn corrupt(&mut self, flaw: Flaw) -> ReadError {
        let upto = match flaw.upto {
            Some(upto) => upto,
            // Without the index nobody knows a place behind.
            None => self
                .index()
                .await
                .ok()
                .and_then(|index| {
                    let after = index.entries().iter().find(|entry| entry.offset > self.expected);
                    after.map(|entry| entry.offset)
                })
                .unwrap_or(self.segment.run.end),
        };
        ReadError::Corrupt {
            partition: self.segment.run.partition,
            from: self.expected,
            upto,
            why: format!("{}: {}", self.segment.blob.name, flaw.why),
        }
    }
}

impl Flaw {
    fn here(why: impl ToString) -> Self {
        Self { why: why.to_string(), upto: None }
    }
}

impl PartitionState {
    /// What a layout needs to read the backlog back.
    pub(crate) fn place(recent: &Recent) -> JournalPlace {
        JournalPlace { at: recent.at, base: recent.base, last: recent.last }
    }
}
