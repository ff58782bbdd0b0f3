//! Finding offsets by time.

use millstream_record::compression::CompressionError;
use millstream_record::layout::LostRange;
use millstream_record::{BatchError, BatchHeader, StoredBatch};
use millstream_types::limits::{BATCH_BYTES_CEILING, DECOMPRESSED_AT_ONCE_MAX};
use millstream_types::{LeaderEpoch, Offset, Timestamp};

use crate::blobs::Segment;
use crate::error::ReadError;
use crate::partition::Partition;
use crate::read::Isolation;
use crate::state::PartitionState;
use crate::util::locked;

/// A record's offset and timestamp, and the leader epoch it was written in.
pub type Found = (Offset, Timestamp, LeaderEpoch);

/// How much is read at once while looking, in bytes.
const LOOK_BYTES: usize = 64 * 1024;

/// Where a record with a time may be.
enum Candidate {
    Segment(Segment),
    /// It was, and is lost.
    Lost(ReadError),
    Recent(Offset),
}

impl Partition {
    /// The first record whose timestamp is `time` or later, among those that are visible.
    ///
    /// # Errors
    ///
    /// As [`Partition::read`].
    pub async fn offset_at(&self, time: Timestamp) -> Result<Option<Found>, ReadError> {
        let mut from = Offset::ZERO;
        while let Some(start) = self.candidate(from, time).await? {
            match self.search(start, time).await? {
                Searched::Found(found) => return Ok(Some(found)),
                Searched::GoOn(next) => from = next,
                Searched::Nothing => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Where the first batch at or after `from` that reaches `time` can be, at the earliest.
    async fn candidate(&self, from: Offset, time: Timestamp) -> Result<Option<Offset>, ReadError> {
        let (from, candidate) = {
            let state = locked(&self.shared.state);
            let from = from.max(state.log_start);
            (from, state.reaching(from, time))
        };
        let segment = match candidate {
            None => return Ok(None),
            Some(Candidate::Lost(error)) => return Err(error),
            Some(Candidate::Recent(base)) => return Ok(Some(base.max(from))),
            Some(Candidate::Segment(segment)) => segment,
        };
        let index = self.log.indexes.get(&segment, &self.log.blobs).await?;
        let entry = index.reaching(time).map_or(segment.run.base, |entry| entry.offset);
        Ok(Some(entry.max(from)))
    }

    /// Looks from `start` on for a batch that reaches `time`, and in it for the record.
    async fn search(&self, start: Offset, time: Timestamp) -> Result<Searched, ReadError> {
        let mut next = start;
        loop {
            let slice = match self.read(next, LOOK_BYTES, true, Isolation::Uncommitted).await {
                // Deleted meanwhile: go on where the log starts now.
                Err(ReadError::OutOfRange { ends, .. }) if ends.log_start > next => {
                    return Ok(Searched::GoOn(ends.log_start));
                }
                Err(error) => return self.behind_lost(next, time).ok_or(error),
                slice => slice?,
            };
            if slice.batches.is_empty() {
                return Ok(Searched::Nothing);
            }
            for batch in &slice.batches {
                let at = next;
                let bad = |why: String| self.corrupt(at, why);
                let header = batch.header().map_err(|error| bad(error.to_string()))?;
                next = header.last_offset().next();
                if header.max_timestamp < time {
                    continue;
                }
                let from = slice.log_start.max(start);
                return Ok(match self.first_at_or_after(batch, &header, time, from).await {
                    Some((offset, at)) => Searched::Found((offset, at, header.leader_epoch)),
                    None => Searched::GoOn(next),
                });
            }
        }
    }

    /// Where to go on when `at` is lost, if no record there can have reached `time`.
    fn behind_lost(&self, at: Offset, time: Timestamp) -> Option<Searched> {
        let state = locked(&self.shared.state);
        let range = state.lost_at(at).filter(|range| range.max_timestamp < time)?;
        Some(Searched::GoOn(range.upto))
    }

    /// The first of the visible records with the largest timestamp; `None` when there is no record or
    /// none has a timestamp.
    ///
    /// # Errors
    ///
    /// As [`Partition::read`].
    pub async fn offset_of_max_timestamp(&self) -> Result<Option<Found>, ReadError> {
        let Some((time, base)) = self.latest().await? else { return Ok(None) };
        let slice = self.read(base, 1, true, Isolation::Uncommitted).await?;
        let Some(batch) = slice.batches.first() else { return Ok(None) };
        let bad = |why: String| self.corrupt(base, why);
        let header = batch.header().map_err(|error| bad(error.to_string()))?;
        let found = self.first_at_or_after(batch, &header, time, slice.log_start).await;
        Ok(found.map(|(offset, at)| (offset, at, header.leader_epoch)))
    }

    /// The largest timestamp of any visible record, and the first offset of a batch that has it.
    async fn latest(&self) -> Result<Option<(Timestamp, Offset)>, ReadError> {
        let (mut best, cut) = {
            let state = locked(&self.shared.state);
            let latest = state.latest();
            // What is lost has records that are later than any other: nobody knows which.
            let later = |range: &&LostRange| {
                let lost = (range.max_timestamp, range.from);
                lost.0.0 >= 0 && better(latest, lost) == Some(lost)
            };
            if let Some(range) = state.lost.iter().find(later) {
                return Err(state.lost_error(range));
            }
            (latest, state.cut())
        };
        let Some((log_start, end)) = cut else { return Ok(best.filter(|(time, _)| time.0 >= 0)) };
        // What the segment or batch says of itself may be of records that are deleted: ask those
        // that are left.
        let mut next = log_start;
        while next < end {
            let slice = self.read(next, LOOK_BYTES, true, Isolation::Uncommitted).await?;
            if slice.batches.is_empty() {
                break;
            }
            for batch in &slice.batches {
                let at = next;
                let bad = |why: String| self.corrupt(at, why);
                let header = batch.header().map_err(|error| bad(error.to_string()))?;
                let found = self.latest_from(batch, &header, log_start).await;
                best = found.map_or(best, |found| better(best, found));
                next = header.last_offset().next();
            }
        }
        Ok(best.filter(|(time, _)| time.0 >= 0))
    }

    /// The first record of the batch from `from` on whose timestamp is `time` or later.
    ///
    /// A batch whose records can't be read stands for what its header says. Its checksum is right: a
    /// faulty producer has compressed it, and unless `record.validation=full` nobody looked inside. A
    /// look-up that failed there would fail for ever.
    async fn first_at_or_after(
        &self,
        batch: &StoredBatch,
        header: &BatchHeader,
        time: Timestamp,
        from: Offset,
    ) -> Option<(Offset, Timestamp)> {
        let look = move |batch: &StoredBatch, limit| batch.first_at_or_after(time, from, limit);
        self.look(batch, look).await.unwrap_or_else(|error| {
            unreadable(header, &error);
            Some((header.base_offset.max(from), header.max_timestamp))
        })
    }

    /// The largest timestamp of the batch's records from `log_start` on, and the first offset there;
    /// what the header says where the records can't be read.
    async fn latest_from(
        &self,
        batch: &StoredBatch,
        header: &BatchHeader,
        log_start: Offset,
    ) -> Option<(Timestamp, Offset)> {
        // Compaction has emptied it; what its header says is of records that are gone.
        if header.records_count == 0 {
            return None;
        }
        if header.base_offset >= log_start {
            return Some((header.max_timestamp, header.base_offset));
        }
        let look = move |batch: &StoredBatch, limit| latest_record(batch, log_start, limit);
        self.look(batch, look).await.unwrap_or_else(|error| {
            unreadable(header, &error);
            Some((header.max_timestamp, log_start))
        })
    }

    /// Looks into a batch with a limit on what it decompresses to: here if that is little, else where
    /// no task is held up.
    async fn look<T: Send + 'static>(
        &self,
        batch: &StoredBatch,
        look: impl Fn(&StoredBatch, usize) -> Result<T, BatchError> + Send + 'static,
    ) -> Result<T, BatchError> {
        match look(batch, DECOMPRESSED_AT_ONCE_MAX) {
            Err(BatchError::Compression(CompressionError::TooLarge { .. })) => {}
            done => return done,
        }
        let batch = batch.clone();
        self.log.env.compute(move || look(&batch, BATCH_BYTES_CEILING)).await
    }

    fn corrupt(&self, from: Offset, why: String) -> ReadError {
        ReadError::Corrupt { partition: self.shared.id, from, upto: from.next(), why }
    }
}

/// What [`Partition::search`] finds.
enum Searched {
    Found(Found),
    /// Not in the batch that reached the time: look again from here.
    GoOn(Offset),
    Nothing,
}

/// The later time; of equal ones the lower offset.
fn better(
    best: Option<(Timestamp, Offset)>,
    other: (Timestamp, Offset),
) -> Option<(Timestamp, Offset)> {
    match best {
        Some(best)
            if (best.0, std::cmp::Reverse(best.1)) >= (other.0, std::cmp::Reverse(other.1)) =>
        {
            Some(best)
        }
        _ => Some(other),
    }
}

impl PartitionState {
    fn reaching(&self, from: Offset, time: Timestamp) -> Option<Candidate> {
        let mut segments =
            self.segments.iter().filter(|s| s.run.end > from && s.run.max_timestamp >= time);
        let segment = segments.next();
        let lost = self.lost.iter().find(|range| range.upto > from && range.max_timestamp >= time);
        if let Some(range) = lost
            && segment.is_none_or(|segment| range.from < segment.run.base)
        {
            return Some(Candidate::Lost(self.lost_error(range)));
        }
        if let Some(segment) = segment {
            return Some(Candidate::Segment(segment.clone()));
        }
        let mut recent = self.backlog().filter(|b| b.last >= from && b.max_timestamp >= time);
        recent.next().map(|batch| Candidate::Recent(batch.base))
    }

    /// The largest timestamp of the visible batches but for what the log start cuts.
    fn latest(&self) -> Option<(Timestamp, Offset)> {
        let whole = |base: Offset| base >= self.log_start;
        let segments = self
            .segments
            .iter()
            .filter(|segment| whole(segment.run.base))
            .map(|segment| (segment.run.max_timestamp, segment.run.max_timestamp_at));
        let backlog = self
            .backlog()
            .take_while(|batch| batch.last < self.high_watermark)
            .filter(|batch| whole(batch.base))
            .map(|batch| (batch.max_timestamp, batch.base));
        segments.chain(backlog).fold(None, better)
    }

    /// The offsets that are left of the segment, or batch in the journal, that the log start cuts.
    fn cut(&self) -> Option<(Offset, Offset)> {
        let segment = self.segments.front().map(|first| (first.run.base, first.run.end));
        let batch = || self.backlog().next().map(|first| (first.base, first.last.next()));
        let (base, end) = segment.or_else(batch)?;
        (base < self.log_start).then_some((self.log_start, end))
    }
}

fn latest_record(
    batch: &StoredBatch,
    log_start: Offset,
    limit: usize,
) -> Result<Option<(Timestamp, Offset)>, BatchError> {
    let records = batch.records(limit)?;
    let header = records.header();
    let mut latest = None;
    for record in &records {
        let record = record?;
        let offset = record.offset(header);
        if offset >= log_start {
            latest = better(latest, (record.timestamp(header), offset));
        }
    }
    Ok(latest)
}

fn unreadable(header: &BatchHeader, error: &BatchError) {
    let base = header.base_offset;
    tracing::debug!(%base, %error, "a look-up by time met a batch whose records can't be read");
}
