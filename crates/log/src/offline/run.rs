//! The batches of one run in a segment or pack, and what is wrong with them.

use std::ops::Range;

use bytes::Bytes;
use millstream_env::{BlobError, BlobName, BlobStore};
use millstream_record::batch::HEADER_SIZE;
use millstream_record::index::RunIndex;
use millstream_record::run::Run;
use millstream_record::segment::decode_index;
use millstream_record::{BatchHeader, StoredBatch};
use millstream_types::limits::BATCH_BYTES_CEILING;
use millstream_types::{Offset, Timestamp};

use super::{Finding, FindingKind, Place, StoredAt};
use crate::epochs::Epochs;
use crate::resync::{self, Known, SEARCHED_BYTES_MAX};
use crate::upload::placed;

/// How much is read at once, in bytes, unless a batch is larger.
const READ_BYTES: u64 = 1024 * 1024;

/// A walk over a run that goes on behind damage.
pub(super) struct RunWalk<'a> {
    blobs: &'a dyn BlobStore,
    blob: BlobName,
    run: Run,
    epochs: &'a Epochs,
    index: Option<IndexCheck>,
    /// Where the next batch starts in the run, and the offset it must have.
    position: u64,
    expected: Offset,
    /// Bytes of the run from `window_at` on.
    window: Bytes,
    window_at: u64,
    is_over: bool,
}

/// Compares an index with the batches that it is of.
struct IndexCheck {
    index: RunIndex,
    /// The first entry that no batch has been found for.
    next: usize,
    newest: Timestamp,
    is_told: bool,
}

impl<'a> RunWalk<'a> {
    /// A walk that begins at the batch that holds `from`, or a little before, or at the run's
    /// first. With a finding when the index can't be used.
    pub(super) async fn new(
        blobs: &'a dyn BlobStore,
        blob: BlobName,
        run: Run,
        epochs: &'a Epochs,
        from: Offset,
    ) -> (Self, Option<Finding>) {
        let range = run.index_position..run.index_position.saturating_add(run.index_len.into());
        let place = || Place::Blob { name: blob.clone(), position: run.index_position };
        let index = match blobs.get(blob.clone(), Some(range)).await {
            Ok(bytes) => decode_index(&run, &bytes).map_err(|error| {
                let finding = Finding::new(FindingKind::Index, error.to_string());
                Some(finding.of(run.partition).offsets(run.base..run.end).at(place()))
            }),
            // Reading the batches will say it.
            Err(_) => Err(None),
        };
        let (index, finding) = match index {
            Ok(index) => (Some(index), None),
            Err(finding) => (None, finding),
        };
        let start = index.as_ref().and_then(|index| index.floor(from));
        let (position, expected) =
            start.map_or((0, run.base), |entry| (entry.position, entry.offset));
        let index = index.map(|index| IndexCheck::new(index, position));
        let walk = Self {
            blobs,
            blob,
            run,
            epochs,
            index,
            position,
            expected,
            window: Bytes::new(),
            window_at: 0,
            is_over: false,
        };
        (walk, finding)
    }

    /// The next batch, or what is wrong next; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<Result<StoredAt, Finding>> {
        if self.is_over {
            return None;
        }
        if self.position >= self.run.len {
            return self.finish().map(Err);
        }
        if let Err(finding) = self.fill(HEADER_SIZE).await {
            return Some(Err(finding));
        }
        let header = match self.header() {
            Ok(header) => header,
            Err(why) => return Some(Err(self.lost_track(&why).await)),
        };
        if header.size() as u64 > self.run.len - self.position {
            return Some(Err(self.lost_track("a batch is longer than its run").await));
        }
        if let Err(finding) = self.fill(header.size()).await {
            return Some(Err(finding));
        }
        match self.check(&header) {
            Err(why) if !self.next_fits(&header) => Some(Err(self.lost_track(&why).await)),
            checked => Some(self.take(&header, checked)),
        }
    }

    /// Reads until the next `bytes` bytes are in the window.
    async fn fill(&mut self, bytes: usize) -> Result<(), Finding> {
        if self.rest().len() >= bytes {
            return Ok(());
        }
        let left = self.run.len - self.position;
        let want = left.min(READ_BYTES.max(bytes as u64));
        let start = self.run.position.saturating_add(self.position);
        let range = start..start.saturating_add(want);
        match self.blobs.get(self.blob.clone(), Some(range)).await {
            Ok(window) => (self.window, self.window_at) = (window, self.position),
            Err(error) => {
                let kind = match error {
                    BlobError::NotFound(_) => FindingKind::Missing,
                    _ => FindingKind::Storage,
                };
                return Err(self.end_here(kind, error.to_string()));
            }
        }
        if (self.rest().len() as u64) < want {
            let why = "the file ends before its batches do".to_owned();
            return Err(self.end_here(FindingKind::Batch, why));
        }
        Ok(())
    }

    fn rest(&self) -> &[u8] {
        let skipped = self.position.checked_sub(self.window_at);
        let skipped = skipped.and_then(|skipped| usize::try_from(skipped).ok());
        skipped.and_then(|skipped| self.window.get(skipped..)).unwrap_or_default()
    }

    /// The next header, if it can be the next batch's.
    fn header(&self) -> Result<BatchHeader, String> {
        let header = BatchHeader::decode(self.rest()).map_err(|error| error.to_string())?;
        let base = header.base_offset;
        let in_place = match self.run.dense {
            true => base == self.expected,
            false => base >= self.expected,
        };
        if !in_place {
            return Err(format!("the batch says that it begins at {base}"));
        }
        if header.last_offset_delta < 0 || header.last_offset() >= self.run.end {
            return Err(format!("the batch says that it ends at {}", header.last_offset()));
        }
        let room = self.run.len - self.position;
        if header.size() as u64 > room || header.size() > BATCH_BYTES_CEILING {
            return Err(format!("the batch says that it has {} bytes", header.size()));
        }
        Ok(header)
    }

    /// The batch with this header, which is whole in the window, or why it is not what was written.
    fn check(&self, header: &BatchHeader) -> Result<StoredBatch, String> {
        let skipped = self.window.len() - self.rest().len();
        let bytes = self.window.slice(skipped..skipped + header.size());
        let batch = StoredBatch::from_bytes(bytes).map_err(|error| error.to_string())?;
        match self.epochs.at(header.base_offset).filter(|epoch| *epoch != header.leader_epoch) {
            Some(epoch) => Err(format!(
                "the batch has leader epoch {}, and was written in {epoch}",
                header.leader_epoch
            )),
            None => Ok(batch),
        }
    }

    /// Whether what comes after the next batch, if that has this header, is where it should be: then
    /// the header is right, whatever else is wrong with the batch.
    fn next_fits(&self, header: &BatchHeader) -> bool {
        let next = header.last_offset().next();
        if self.position + header.size() as u64 == self.run.len {
            return next == self.run.end;
        }
        let after = self.rest().get(header.size()..).map(BatchHeader::decode);
        matches!(after, Some(Ok(after)) if after.base_offset == next)
    }

    /// The batch with this header, or what is wrong with it; the walk moves behind it.
    fn take(
        &mut self,
        header: &BatchHeader,
        checked: Result<StoredBatch, String>,
    ) -> Result<StoredAt, Finding> {
        let size = header.size();
        let (base, last) = (header.base_offset, header.last_offset());
        let place = self.place();
        let at = self.position;
        self.position += size as u64;
        self.expected = last.next();
        let batch = match checked {
            Ok(batch) => batch,
            Err(why) => {
                if let Some(index) = &mut self.index {
                    index.is_told = true;
                }
                return Err(self.finding(FindingKind::Batch, why, base..last.next(), place));
            }
        };
        let unfit = self.index.as_mut().and_then(|index| index.compare(at, header));
        match unfit {
            Some(why) => {
                // The batch is good: it comes next time, without the check.
                self.position = at;
                self.expected = base;
                let place =
                    Place::Blob { name: self.blob.clone(), position: self.run.index_position };
                Err(self.finding(FindingKind::Index, why, base..last.next(), place))
            }
            None => Ok(StoredAt { batch, header: *header, place }),
        }
    }

    /// Where the next batch is can't be told: go on where one is found, or the index knows the next place.
    async fn lost_track(&mut self, why: &str) -> Finding {
        let (from, place) = (self.expected, self.place());
        let position = self.position;
        if let Some(index) = &mut self.index {
            index.is_told = true;
        }
        let entries = self.index.iter().flat_map(|index| index.index.entries());
        let next = entries.copied().find(|entry| {
            entry.position > position && entry.position < self.run.len && entry.offset > from
        });
        let end = Known { position: self.run.len, offset: self.run.end };
        let known =
            next.map_or(end, |entry| Known { position: entry.position, offset: entry.offset });
        let len = (known.position - position).min(SEARCHED_BYTES_MAX);
        let damaged = Known { position, offset: from };
        let found = match self.fill(len as usize).await {
            Ok(()) => resync::find(self.rest(), damaged, known, self.run.dense),
            // Reading the next batches will say it.
            Err(_) => None,
        };
        let next = found.unwrap_or(known);
        (self.position, self.expected) = (next.position, next.offset);
        self.is_over = next == end;
        self.finding(FindingKind::Batch, why.to_owned(), from..next.offset, place)
    }

    /// Nothing more can be read.
    fn end_here(&mut self, kind: FindingKind, why: String) -> Finding {
        let (from, place) = (self.expected, self.place());
        self.is_over = true;
        self.expected = self.run.end;
        self.finding(kind, why, from..self.run.end, place)
    }

    fn finish(&mut self) -> Option<Finding> {
        self.is_over = true;
        let end = self.run.end;
        if self.expected >= end || !self.run.dense {
            return None;
        }
        let why = "the segment's batches end before it does".to_owned();
        let finding = self.finding(FindingKind::Batch, why, self.expected..end, self.place());
        self.expected = end;
        Some(finding)
    }

    fn place(&self) -> Place {
        let position = self.run.position.saturating_add(self.position);
        Place::Blob { name: self.blob.clone(), position }
    }

    fn finding(
        &self,
        kind: FindingKind,
        why: String,
        offsets: Range<Offset>,
        place: Place,
    ) -> Finding {
        Finding::new(kind, why).of(self.run.partition).offsets(offsets).at(place)
    }
}

impl IndexCheck {
    fn new(index: RunIndex, position: u64) -> Self {
        let next = index.entries().partition_point(|entry| entry.position < position);
        // Only a walk from the front knows the newest timestamp so far.
        let newest = match next.checked_sub(1).and_then(|before| index.entries().get(before)) {
            Some(before) => before.max_timestamp,
            None => Timestamp::NONE,
        };
        Self { index, next, newest, is_told: false }
    }

    /// Says how the index contradicts the batch at `position`, once.
    fn compare(&mut self, position: u64, header: &BatchHeader) -> Option<String> {
        if self.is_told {
            return None;
        }
        let end = position.saturating_add(header.size() as u64);
        // One that compaction has emptied has none, whatever its header says.
        self.newest = self.newest.max(placed(header).max_timestamp);
        let why = match self.index.entries().get(self.next) {
            Some(entry) if entry.position < end => {
                self.next += 1;
                let is_right = entry.position == position && entry.offset == header.base_offset;
                (!is_right).then(|| {
                    format!(
                        "the index has offset {} at byte {}, where the batch at {} lies",
                        entry.offset, entry.position, header.base_offset
                    )
                })
            }
            _ => None,
        };
        let current = self.next.checked_sub(1).and_then(|at| self.index.entries().get(at));
        let is_late = current.is_some_and(|entry| entry.max_timestamp < self.newest);
        let why = why.or_else(|| {
            is_late.then(|| {
                format!("the index has no timestamp as late as that of {}", header.base_offset)
            })
        });
        self.is_told = why.is_some();
        why
    }
}
