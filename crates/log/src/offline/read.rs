//! A partition front to back: its segments, then what lies in the journals.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;

use futures_util::{StreamExt, stream};
use millstream_env::{BlobName, JournalError};
use millstream_record::frame::{Frame, FrameBody};
use millstream_record::layout::LostRange;
use millstream_types::{Offset, PartitionId};

use super::run::RunWalk;
use super::{Finding, FindingKind, Journaled, OfflineStores, Place, Stored, StoredAt};

/// Frames of the journal that are read at once: at most so many, and so many bytes.
const JOURNAL_READS: usize = 16;
const JOURNAL_BYTES: u64 = 4 * 1024 * 1024;

/// Yields a partition's batches in order, and what is wrong in between. Offsets that are in no
/// batch are told of, so that batches and findings together cover all that the log should hold.
pub struct Reader<'a> {
    stores: &'a OfflineStores,
    id: PartitionId,
    stored: &'a Stored,
    from: Offset,
    /// One past the last offset that was yielded or told of.
    expected: Offset,
    segments: std::slice::Iter<'a, super::SegmentRef>,
    walk: Option<RunWalk<'a>>,
    /// The next batch in the journals.
    journaled: usize,
    ready: VecDeque<Result<StoredAt, Finding>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        stores: &'a OfflineStores,
        id: PartitionId,
        stored: &'a Stored,
        from: Offset,
    ) -> Self {
        let from = from.max(stored.log_start);
        Self {
            stores,
            id,
            stored,
            from,
            expected: from,
            segments: stored.segments.iter(),
            walk: None,
            journaled: stored.backlog.partition_point(|batch| batch.last < from),
            ready: VecDeque::new(),
        }
    }

    /// The next batch, or what is wrong next; `None` at the end. Findings do not end it.
    pub async fn next(&mut self) -> Option<Result<StoredAt, Finding>> {
        loop {
            if let Some(ready) = self.ready.pop_front() {
                return Some(ready);
            }
            if let Some(walk) = &mut self.walk {
                match walk.next().await {
                    Some(next) => self.accept(next),
                    None => self.walk = None,
                }
            } else if let Some(segment) = self.segments.next() {
                self.begin(segment).await;
            } else if self.journaled < self.stored.backlog.len() {
                self.read_journal().await;
            } else {
                let end = self.stored.log_end;
                if self.expected >= end {
                    return None;
                }
                self.gap(end, true);
            }
        }
    }

    async fn begin(&mut self, segment: &'a super::SegmentRef) {
        let run = segment.run;
        if run.end <= self.from {
            return;
        }
        // What compaction leaves out may lie before a run, too.
        self.gap(run.base, run.dense && !run.compacted);
        let Some(name) = BlobName::new(&segment.blob) else {
            let why = format!("no blob can be named {:?}", segment.blob);
            let finding = Finding::new(FindingKind::Missing, why);
            return self.accept(Err(finding.of(self.id).offsets(run.base..run.end)));
        };
        let blobs = self.stores.blobs.as_ref();
        let epochs = &self.stored.epochs;
        let (walk, finding) = RunWalk::new(blobs, name, run, epochs, self.from).await;
        self.walk = Some(walk);
        self.ready.extend(finding.map(Err));
    }

    /// Tells of what is missing before `upto`.
    fn gap(&mut self, upto: Offset, is_loss: bool) {
        if upto <= self.expected {
            return;
        }
        let offsets = self.expected..upto;
        let is_known = |lost: &LostRange| lost.from < offsets.end && lost.upto > offsets.start;
        let is_known = self.stored.lost.iter().any(is_known);
        if is_loss || is_known {
            let why = match is_known {
                true => "they were damaged, and given up",
                false => "no segment and no journal holds a batch with them",
            };
            let kind = if is_known { FindingKind::Lost } else { FindingKind::Gap };
            let finding = Finding::new(kind, why);
            self.ready.push_back(Err(finding.of(self.id).offsets(offsets)));
        }
        self.expected = upto;
    }

    /// Takes what a source yields, in its place.
    fn accept(&mut self, next: Result<StoredAt, Finding>) {
        match next {
            Ok(found) => {
                let (base, end) = (found.header.base_offset, found.header.last_offset().next());
                // A batch may begin before the log start, or before what was asked for.
                if end <= self.from {
                    return;
                }
                if base < self.expected && self.expected > self.from {
                    let why = format!("a second batch holds {base} to {}", end.0 - 1);
                    let finding = Finding::new(FindingKind::Overlap, why).of(self.id);
                    let overlap = finding.offsets(base..self.expected.min(end)).at(found.place);
                    self.ready.push_back(Err(overlap));
                    return;
                }
                self.expected = end;
                self.ready.push_back(Ok(found));
            }
            Err(finding) => {
                let is_content = !matches!(finding.kind, FindingKind::Index);
                let behind = |offsets: &Range<Offset>| offsets.end > self.from;
                if finding.offsets.as_ref().is_none_or(behind) {
                    if let Some(offsets) = finding.offsets.as_ref().filter(|_| is_content) {
                        self.expected = self.expected.max(offsets.end);
                    }
                    self.ready.push_back(Err(finding));
                }
            }
        }
    }

    /// Reads the next batches from the journals.
    async fn read_journal(&mut self) {
        let mut bytes = 0;
        let mut places = Vec::new();
        for batch in self.stored.backlog.range(self.journaled..).take(JOURNAL_READS) {
            bytes += u64::from(batch.size);
            if bytes > JOURNAL_BYTES && !places.is_empty() {
                break;
            }
            places.push(*batch);
        }
        self.journaled += places.len();
        let reads: Vec<_> =
            places.iter().map(|batch| self.stores.journals.read_at(batch.at)).collect();
        let frames: Vec<_> = stream::iter(reads).buffered(JOURNAL_READS).collect().await;
        for (batch, frame) in places.iter().zip(frames) {
            // Nothing but damage leaves out offsets here.
            self.gap(batch.base, true);
            self.accept(batch.check(self.id, frame));
        }
    }
}

impl Journaled {
    /// The batch that was read from here, if it is the right one.
    fn check(
        &self,
        partition: PartitionId,
        read: Result<Frame, JournalError>,
    ) -> Result<StoredAt, Finding> {
        let place = Place::Journal { session: self.at.session, position: self.at.lsn };
        let wrong = |kind, why: String| {
            let offsets = self.base..self.last.next();
            Finding::new(kind, why).of(partition).offsets(offsets).at(place.clone())
        };
        let batch = |why: &str| wrong(FindingKind::Batch, why.to_owned());
        let frame = read.map_err(|error| match error {
            JournalError::Corrupt(why) => wrong(FindingKind::Batch, why),
            other => wrong(FindingKind::Storage, other.to_string()),
        })?;
        let FrameBody::Batch(stored) = frame.body else {
            return Err(batch("its frame holds something else"));
        };
        let header = stored.header().map_err(|error| batch(&error.to_string()))?;
        let is_same = header.base_offset == self.base && header.last_offset() == self.last;
        if frame.partition != partition || !is_same {
            return Err(batch("its frame holds another batch"));
        }
        Ok(StoredAt { batch: stored, header, place })
    }
}

impl fmt::Debug for Reader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("id", &self.id).field("expected", &self.expected).finish()
    }
}
