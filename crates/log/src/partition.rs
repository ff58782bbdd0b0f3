//! One partition as the outside sees it: append, ends, watching, deleting.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use millstream_record::batch::Origin;
use millstream_record::frame::{Frame, FrameBody};
use millstream_record::layout::LayoutEntry;
use millstream_record::{BatchHeader, StoredBatch, TimestampType, ValidBatch};
use millstream_types::{
    DecodeError, LeaderEpoch, Lsn, Offset, PartitionId, ProducerEpoch, ProducerId, SessionId,
    Timestamp,
};

use crate::error::{AppendError, DeleteError, EpochEnd, SessionOver};
use crate::log::Inner;
use crate::producers::{FirstSequence, Sent, Verdict, next_sequence};
use crate::read::Isolation;
use crate::state::{Change, Moment, PartitionState};
use crate::tail::{self, Held};
use crate::util::locked;

/// What a partition's handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) id: PartitionId,
    pub(crate) state: Mutex<PartitionState>,
}

/// A handle to a partition. Cheap to clone; keeps working, refusing, after the partition is deleted.
#[derive(Clone, Debug)]
pub struct Partition {
    pub(crate) log: Arc<Inner>,
    pub(crate) shared: Arc<Shared>,
}

/// What an append did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The offset of the first record.
    pub base_offset: Offset,
    /// The offset of the last record.
    pub last_offset: Offset,
    /// The append is durable when this is: wait for it ([`crate::Log::wait_durable`]) before you
    /// tell anybody.
    pub end: Lsn,
    /// The session whose journal that is a position of.
    pub session: SessionId,
    /// The time that the records were given, where the topic wants that.
    pub log_append_time: Option<Timestamp>,
    /// The first offset of the partition that is not deleted.
    pub log_start: Offset,
    /// Whether this is a retry of what was appended before; the rest is as it was then.
    pub duplicate: bool,
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// The first offset that is not deleted.
    pub log_start: Offset,
    /// One past the last offset that is durable and thus visible.
    pub high_watermark: Offset,
    /// One past the last offset that readers of committed data may see; at most the high watermark.
    pub last_stable: Offset,
    /// The offset of the next record. What lies between the high watermark and this may be lost in
    /// a crash: nobody outside may learn of it.
    pub log_end: Offset,
    /// The leader epoch in which the partition is led.
    pub epoch: LeaderEpoch,
}

/// A producer that a partition remembers.
pub use millstream_record::checkpoint::ProducerImage as ProducerInfo;

impl Shared {
    pub(crate) fn new(state: PartitionState) -> Arc<Self> {
        Arc::new(Self { id: state.id, state: Mutex::new(state) })
    }

    /// Everything below `log_end` is durable: makes it visible and says so.
    pub(crate) fn advance(&self, log_end: Offset) {
        let mut state = locked(&self.state);
        if state.advance(log_end) {
            state.notify();
        }
    }
}

impl Ends {
    /// One past the last offset that a reader of this isolation may see.
    #[must_use]
    pub const fn visible(&self, isolation: Isolation) -> Offset {
        match isolation {
            Isolation::Uncommitted => self.high_watermark,
            Isolation::Committed => self.last_stable,
        }
    }
}

impl Partition {
    /// Which partition this is.
    #[must_use]
    pub fn id(&self) -> PartitionId {
        self.shared.id
    }

    /// Appends batches, all or none, and gives them their offsets. They are not durable yet, and
    /// nobody can read them: wait for [`Appended::end`]. An exact retry of one of an idempotent
    /// producer's last five batches appends nothing and returns what the original returned.
    ///
    /// Batches of [`Origin::Internal`] may use a part of the space that is reserved for what must go
    /// on when the journal is full; the rest is for what gives space back.
    ///
    /// # Errors
    ///
    /// [`AppendError`]; then nothing was appended. The one exception: when the session ends, or the
    /// reserve is used up, between two batches of one call, those before stay.
    pub fn append(&self, batches: &[ValidBatch], from: Origin) -> Result<Appended, AppendError> {
        self.append_pinned(batches, from, None)
    }

    /// [`Partition::append`] for batches that are slices of an allocation of `pinned` bytes: a batch
    /// that is most of it is kept in memory as it is, without a copy.
    ///
    /// # Errors
    ///
    /// As [`Partition::append`].
    pub fn append_pinned(
        &self,
        batches: &[ValidBatch],
        from: Origin,
        pinned: Option<usize>,
    ) -> Result<Appended, AppendError> {
        let mut evicted = Vec::new();
        let appended = {
            let mut state = locked(&self.shared.state);
            let appended = self.append_locked(&mut state, batches, (from, pinned), &mut evicted);
            if let (Err(error), Origin::Client, Some(first)) = (&appended, from, batches.first())
                && error.passes()
            {
                state.producers.note_refused(first.header(), self.log.env.clock.expiry());
            }
            appended
        };
        tail::evict(&evicted);
        appended
    }

    fn append_locked(
        &self,
        state: &mut PartitionState,
        batches: &[ValidBatch],
        (from, pinned): (Origin, Option<usize>),
        evicted: &mut Vec<Held>,
    ) -> Result<Appended, AppendError> {
        if self.log.is_closing() {
            return Err(SessionOver.into());
        }
        if state.deleted {
            return Err(AppendError::NotLeader);
        }
        let now = self.log.env.clock.wall();
        if let Some(sent) = judge(state, batches, from, self.log.env.clock.expiry())? {
            return Ok(duplicate(sent, self.log.session, state.log_start));
        }
        if from == Origin::Client && self.log.settings.reserve.is_low() {
            return Err(AppendError::DiskFull);
        }
        let mut appended: Option<Appended> = None;
        for batch in batches {
            // The first one found room: the others belong to it.
            let urgent = from == Origin::Internal || appended.is_some();
            let stored = stamp(state, batch, now);
            let header = stored.header()?;
            let end = self.append_one(state, stored, (urgent, pinned), evicted)?;
            let stamped = header.attributes.timestamp_type() == TimestampType::LogAppendTime;
            let base_offset = appended.map_or(header.base_offset, |first| first.base_offset);
            appended = Some(Appended {
                base_offset,
                last_offset: header.last_offset(),
                end,
                session: self.log.session,
                log_append_time: stamped.then_some(header.max_timestamp),
                log_start: state.log_start,
                duplicate: false,
            });
        }
        let empty = DecodeError::Invalid { field: "batches" };
        appended.ok_or(AppendError::Corrupt(empty))
    }

    fn append_one(
        &self,
        state: &mut PartitionState,
        stored: StoredBatch,
        (urgent, pinned): (bool, Option<usize>),
        evicted: &mut Vec<Held>,
    ) -> Result<Lsn, AppendError> {
        let size = stored.size();
        let end = self.write(state, FrameBody::Batch(stored.clone()), size, urgent)?;
        if let Some(recent) = state.recent.back_mut() {
            let (kept, cost) = tail::kept(&stored, pinned);
            evicted.extend(self.log.tail.push(&self.shared, recent.base, cost));
            recent.batch = Some(Box::new(kept));
        }
        self.log.note_appended(state, size);
        Ok(end)
    }

    /// Writes a frame and applies it, under the partition's lock. Returns its end.
    pub(crate) fn write(
        &self,
        state: &mut PartitionState,
        body: FrameBody,
        size: usize,
        urgent: bool,
    ) -> Result<Lsn, AppendError> {
        let log = &self.log;
        let change = Change::decode(&body)?;
        // Before the frame has its place: a checkpoint that begins behind it must not miss it.
        log.note_changed(state, &self.shared);
        let frame = Frame { partition: self.shared.id, body, urgent };
        let at = log.journal.append(frame).map_err(|error| log.refused(error))?;
        log.newest.fetch_max(at.lsn.0, Ordering::SeqCst);
        let moment = Moment {
            at,
            end: at.end(),
            wall: log.env.clock.wall(),
            monotonic: log.env.clock.monotonic(),
            producer_ids_max: log.settings.producer_ids_max,
        };
        let backlog = state.backlog_bytes;
        let dropped = state.apply(change, size, &moment, &log.blobs)?;
        log.pace.note(backlog, state.backlog_bytes);
        log.blobs.release(dropped, at.end());
        // All of the partition's frames before this one are durable when this one is.
        if log.durable.push(at.end(), &self.shared, state.log_end) && state.advance(state.log_end) {
            state.notify();
        }
        Ok(at.end())
    }

    /// Where the partition begins and ends.
    #[must_use]
    pub fn ends(&self) -> Ends {
        locked(&self.shared.state).ends()
    }

    /// The log start, and the leader epoch of the record there; none while there is no record.
    #[must_use]
    pub fn earliest(&self) -> (Offset, LeaderEpoch) {
        let state = locked(&self.shared.state);
        let durable = state.log_start < state.high_watermark;
        let epoch = state.epochs.at(state.log_start).filter(|_| durable);
        (state.log_start, epoch.unwrap_or(LeaderEpoch::NONE))
    }

    /// Whether the partition was deleted.
    #[must_use]
    pub fn is_deleted(&self) -> bool {
        locked(&self.shared.state).deleted
    }

    /// Whether the next session serves the partition: this handle only keeps what it has.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.log.is_superseded()
    }

    /// The session in which the partition is led.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.log.session
    }

    /// The largest leader epoch at or below `epoch` and where it ends, as far as that is durable;
    /// (-1, -1) when `epoch` is not known yet.
    #[must_use]
    pub fn epoch_end(&self, epoch: LeaderEpoch) -> EpochEnd {
        let state = locked(&self.shared.state);
        state.epochs.end_of(epoch, state.epoch, state.high_watermark)
    }

    /// Deletes everything below `before`; -1 means the high watermark. Below the log start it does
    /// nothing. Returns the log start and the position that must be durable for it to stay.
    ///
    /// # Errors
    ///
    /// [`DeleteError::OutOfRange`] when `before` is above the high watermark.
    pub fn delete_records(&self, before: Offset) -> Result<(Offset, Lsn), DeleteError> {
        let mut state = locked(&self.shared.state);
        let high_watermark = state.high_watermark;
        let before = if before.0 == -1 { high_watermark } else { before };
        if before.0 < 0 || before > high_watermark {
            return Err(DeleteError::OutOfRange { offset: before, high_watermark });
        }
        if state.deleted {
            return Err(AppendError::NotLeader.into());
        }
        self.move_log_start(&mut state, before)?;
        Ok((state.log_start, state.log_start_end))
    }

    /// Moves the log start up to `offset`, if it is below.
    pub(crate) fn move_log_start(
        &self,
        state: &mut PartitionState,
        offset: Offset,
    ) -> Result<(), AppendError> {
        if offset > state.log_start {
            let body = FrameBody::Layout(LayoutEntry::LogStart(offset).encode());
            self.write(state, body, 0, true)?;
            self.log.counters.deletions.store(true, Ordering::Relaxed);
            state.notify();
        }
        Ok(())
    }

    /// The size of what is stored, in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        locked(&self.shared.state).size()
    }

    /// Lets the batches of a producer's epoch be part of a transaction, which a marker ends: a control
    /// batch that its coordinator appends, of [`Origin::Internal`]. Not durable: coordinators enlist
    /// again what is open when they begin to serve.
    pub fn enlist(&self, producer: ProducerId, epoch: ProducerEpoch, first: FirstSequence) {
        locked(&self.shared.state).producers.enlist(producer, epoch, first);
    }

    /// Whether batches of this epoch of a producer are part of a transaction that is open here.
    #[must_use]
    pub fn is_enlisted(&self, producer: ProducerId, epoch: ProducerEpoch) -> bool {
        locked(&self.shared.state).producers.is_enlisted(producer, epoch)
    }

    /// Whether a transaction of the producer waits for its marker here.
    #[must_use]
    pub fn awaits_marker(&self, producer: ProducerId) -> bool {
        locked(&self.shared.state).producers.awaits_marker(producer)
    }

    /// The producers that the partition remembers, by id, and what must be durable for that to be
    /// so.
    #[must_use]
    pub fn producers(&self) -> (Vec<ProducerInfo>, Lsn) {
        let state = locked(&self.shared.state);
        (state.producers.images(), state.applied)
    }

    /// How many producers the partition remembers.
    #[must_use]
    pub fn producer_count(&self) -> usize {
        locked(&self.shared.state).producers.len()
    }
}

/// The batch with its offset, and its time where that is ours to give.
fn stamp(state: &PartitionState, batch: &ValidBatch, now: Timestamp) -> StoredBatch {
    match state.config.timestamp_type {
        TimestampType::CreateTime => batch.assign(state.log_end, state.epoch),
        TimestampType::LogAppendTime => {
            let time = now.max(state.last_append_time);
            batch.with_log_append_time(time).assign(state.log_end, state.epoch)
        }
    }
}

/// Checks the batches' producers. Returns the originals of the first and the last when all are
/// retries.
fn judge(
    state: &PartitionState,
    batches: &[ValidBatch],
    from: Origin,
    now: Timestamp,
) -> Result<Option<(Sent, Sent)>, AppendError> {
    let mut originals: Option<(Sent, Sent)> = None;
    let mut before: Option<&BatchHeader> = None;
    for batch in batches {
        let header = batch.header();
        if header.producer_id.0 < 0 {
            continue;
        }
        if from == Origin::Internal {
            state.check_internal(batch)?;
            continue;
        }
        match before.replace(header) {
            // It must follow the one before it in this call, which is not stored yet.
            Some(before) if originals.is_none() => follows(before, header)?,
            previous => match state.producers.verdict(header, now, state.config.producer_expiry)? {
                Verdict::Duplicate(sent) => {
                    originals = Some((originals.map_or(sent, |(first, _)| first), sent));
                }
                Verdict::Next if previous.is_none() => {}
                // A retry of one batch together with a new one: no producer sends that.
                Verdict::Next => return Err(out_of_order(header, header.base_sequence)),
            },
        }
    }
    Ok(originals)
}

/// Whether a batch comes after another of the same call.
fn follows(before: &BatchHeader, header: &BatchHeader) -> Result<(), AppendError> {
    let same =
        before.producer_id == header.producer_id && before.producer_epoch == header.producer_epoch;
    let expected = next_sequence(before.last_sequence());
    if same && header.base_sequence == expected {
        Ok(())
    } else {
        Err(out_of_order(header, expected))
    }
}

const fn out_of_order(header: &BatchHeader, expected: i32) -> AppendError {
    AppendError::OutOfOrderSequence {
        producer: header.producer_id,
        expected,
        found: header.base_sequence,
    }
}

fn duplicate((first, last): (Sent, Sent), session: SessionId, log_start: Offset) -> Appended {
    let time = first.batch.log_append_time;
    Appended {
        base_offset: first.batch.base,
        last_offset: last.batch.last,
        end: last.end,
        session,
        log_append_time: (time.0 >= 0).then_some(time),
        log_start,
        duplicate: true,
    }
}
