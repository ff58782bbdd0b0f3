//! Streaming a blob of batches to the store, about one chunk at a time.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use millstream_env::{BlobError, BlobName, FrameAt};
use millstream_record::index::{AbortedTxn, Place};
use millstream_record::journal::BLOCK;
use millstream_record::layout::LostRange;
use millstream_record::run::Run;
use millstream_record::segment::{Finished, SegmentWriter, place};
use millstream_record::{BatchHeader, StoredBatch};
use millstream_types::{Offset, Timestamp};

use crate::blobs::Segment;
use crate::compaction::{Cleaning, Stop};
use crate::epochs::Epochs;
use crate::error::{MaintenanceError, ReadError};
use crate::log::Inner;
use crate::pace::{STEP_BYTES, Steps};
use crate::partition::Shared;
use crate::plan::Pressure;
use crate::read::{JournalPlace, Walk};
use crate::util::locked;

/// What is merged is read in chunks of about so many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

/// Blobs are handed to the store in steps of about so many bytes.
const STEP: usize = STEP_BYTES as usize;

/// Batches from this size on are handed to the store as they are, in bytes: the store copies them
/// where it wants them, and copying them together before costs as much again. Smaller ones are
/// copied together, because each piece has its price too.
const SHARED_BYTES_MIN: usize = 4096;

/// Batches of one partition that go into one run.
pub(crate) struct Taken {
    pub(crate) shared: Arc<Shared>,
    pub(crate) source: Source,
    /// Aborted transactions whose markers are among the batches.
    pub(crate) aborted: Vec<AbortedTxn>,
}

/// Where batches come from, by offset.
pub(crate) enum Source {
    /// Memory, or the journal where they were evicted.
    Backlog(VecDeque<TakenBatch>),
    /// Segments that are merged, from the offset on.
    Segments(VecDeque<Segment>, Epochs, Offset),
    /// Segments that are compacted.
    Compacted(Box<Cleaning>),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct TakenBatch {
    pub(crate) place: JournalPlace,
    pub(crate) max_timestamp: Timestamp,
    pub(crate) size: u32,
}

/// A blob on its way to the store.
struct Upload {
    log: Arc<Inner>,
    runs: VecDeque<Taken>,
    writer: Option<SegmentWriter>,
    /// Whether there is a batch of the first of the runs in the blob.
    is_begun: bool,
    /// What is copied together, to come after `pieces`.
    gathered: Vec<u8>,
    /// What is ready for the store.
    pieces: VecDeque<Bytes>,
    told: Arc<Mutex<Told>>,
    /// `None` before the first step.
    fallen: Option<Fallen>,
    steps: Steps,
    /// Whether it makes way for others who write.
    spares: bool,
    /// Whether it is time to see to that.
    step_made: bool,
}

/// Batches of a pack that have fallen out of memory, by where they lie in the journal. There the partitions
/// of a pack lie close together, and each of them is scattered: all of them are read at once.
#[derive(Default)]
struct Fallen(BTreeMap<FrameAt, Result<StoredBatch, ReadError>>);

impl Fallen {
    /// A pack is bounded ([`crate::LogSettings::pack_bytes_max`]), and so is this; one run alone may
    /// be larger, and is read as it goes.
    async fn read(log: &Inner, runs: &VecDeque<Taken>) -> Self {
        let mut places = Vec::new();
        for run in runs.iter().filter(|_| runs.len() > 1) {
            if let Source::Backlog(batches) = &run.source {
                let state = locked(&run.shared.state);
                let fallen = batches.iter().filter(|b| state.in_memory(b.place.base).is_none());
                places.extend(fallen.map(|batch| (run.shared.id, batch.place)));
            }
        }
        places.sort_unstable_by_key(|(_, place)| place.at);
        let read = log.read_places(&places).await;
        Self(places.iter().map(|(_, place)| place.at).zip(read).collect())
    }
}

/// What was stored.
#[derive(Default)]
pub(crate) struct Uploaded {
    /// Where the runs are in the blob; those of which nothing could be read are missing. When there
    /// is none, no blob was stored.
    pub(crate) runs: Vec<Run>,
    /// What could not be read. Each ended its run; what comes after it is left for another time.
    pub(crate) unread: Vec<Unread>,
}

/// Batches that are to be laid out or merged, and can't be read.
pub(crate) struct Unread {
    pub(crate) shared: Arc<Shared>,
    /// Batches in the journal, or all that the segment holds in which something can't be read.
    pub(crate) range: LostRange,
    pub(crate) error: ReadError,
}

/// What the stream has to say when the store has taken it.
#[derive(Default)]
struct Told {
    finished: Option<Finished>,
    unread: Vec<Unread>,
    /// Why it was given up, where that is not because of something that can't be read.
    stopped: Option<MaintenanceError>,
    /// There is nothing to store, or not what was wanted.
    is_void: bool,
}

impl Inner {
    /// Stores a blob with these runs: all of a merged one or nothing, of one from the journal what
    /// can be read before the first damage. What the disk takes for it counts as `written`. `spares`: it
    /// makes way for others who write, as [`crate::pace`] says.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        name: &BlobName,
        runs: Vec<Taken>,
        spares: bool,
        written: &AtomicU64,
    ) -> Result<Uploaded, MaintenanceError> {
        let told = Arc::new(Mutex::new(Told::default()));
        let (writer, head) = SegmentWriter::new(self.settings.cluster, self.session);
        let upload = Upload {
            log: Arc::clone(self),
            runs: runs.into(),
            writer: Some(writer),
            gathered: head.to_vec(),
            is_begun: false,
            pieces: VecDeque::new(),
            told: Arc::clone(&told),
            fallen: None,
            steps: Steps::new(self.env.clock.monotonic(), self.journal.end()),
            spares,
            step_made: false,
        };
        let failed = name.clone();
        let body = stream::try_unfold(upload, move |mut upload| {
            let name = failed.clone();
            async move {
                match upload.paced().await {
                    Ok(chunk) => Ok(chunk.map(|chunk| (chunk, upload))),
                    Err(Void) => {
                        locked(&upload.told).is_void = true;
                        let why = "nothing to store could be read".to_owned();
                        Err(BlobError::Storage { name, why })
                    }
                }
            }
        });
        let stored = self.blobs.store.upload(name.clone(), body.boxed()).await;
        let told = std::mem::take(&mut *locked(&told));
        if let Some(stopped) = told.stopped {
            return Err(stopped);
        }
        if told.is_void {
            return Ok(Uploaded { runs: Vec::new(), unread: told.unread });
        }
        let bytes = stored?;
        let runs = told.finished.map(|finished| finished.runs).unwrap_or_default();
        written.fetch_add(bytes.next_multiple_of(BLOCK), Ordering::Relaxed);
        self.counters.laid_bytes.fetch_add(bytes, Ordering::Relaxed);
        tracing::debug!(%name, bytes, runs = runs.len(), "laid out");
        Ok(Uploaded { runs, unread: told.unread })
    }
}

/// The blob is not wanted.
struct Void;

impl Upload {
    /// The next bytes, when it is time for them.
    async fn paced(&mut self) -> Result<Option<Bytes>, Void> {
        if std::mem::take(&mut self.step_made) && self.spares {
            self.wait().await;
        }
        let next = self.next().await?;
        self.step_made = self.steps.add(next.as_ref().map_or(0, |bytes| bytes.len() as u64));
        Ok(next)
    }

    /// Waits until the next step is due.
    async fn wait(&self) {
        let log = &self.log;
        while !log.is_closing() && log.pressure() != Pressure::Journal {
            let (now, end) = (log.env.clock.monotonic(), log.journal.end());
            let Some(pause) = self.steps.pause(&log.pace, now, end) else { return };
            log.env.sleep(pause).await;
        }
    }

    /// The next bytes of the blob; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, Void> {
        if self.fallen.is_none() {
            self.fallen = Some(Fallen::read(&self.log, &self.runs).await);
        }
        while self.pieces.is_empty() && self.gathered.len() < STEP {
            let Some(run) = self.runs.front_mut() else { break };
            let fallen = self.fallen.get_or_insert_default();
            let batches = run.next(&self.log, fallen, &self.told).await?;
            if batches.is_empty() {
                self.end_run();
                continue;
            }
            let partition = run.shared.id;
            self.is_begun = true;
            for (place, batch) in batches {
                if let Some(writer) = &mut self.writer {
                    writer.push(partition, &place);
                }
                self.put(batch);
            }
        }
        if let Some(piece) = self.pieces.pop_front() {
            return Ok(Some(piece));
        }
        if self.runs.is_empty()
            && let Some(writer) = self.writer.take()
        {
            let finished = writer.finish();
            if finished.runs.is_empty() {
                return Err(Void);
            }
            self.gathered.extend_from_slice(&finished.tail);
            locked(&self.told).finished = Some(finished);
        }
        let gathered = std::mem::take(&mut self.gathered);
        Ok((!gathered.is_empty()).then(|| gathered.into()))
    }

    fn put(&mut self, batch: StoredBatch) {
        self.gathered.extend_from_slice(&batch.assigned);
        if batch.rest.len() < SHARED_BYTES_MIN {
            self.gathered.extend_from_slice(&batch.rest);
        } else {
            self.pieces.push_back(std::mem::take(&mut self.gathered).into());
            self.pieces.push_back(batch.rest);
        }
    }

    fn end_run(&mut self) {
        let is_begun = std::mem::take(&mut self.is_begun);
        let run = self.runs.pop_front().filter(|_| is_begun);
        if let Some((mut run, writer)) = run.zip(self.writer.as_mut()) {
            if let Source::Compacted(cleaning) = &run.source {
                run.aborted.retain(|txn| !cleaning.forgets(txn.last));
                writer.set_compacted();
            }
            writer.set_aborted(run.aborted);
            writer.end_run();
        }
    }
}

impl Taken {
    /// The next batches, about a chunk of them; none at the end.
    async fn next(
        &mut self,
        log: &Inner,
        fallen: &mut Fallen,
        told: &Mutex<Told>,
    ) -> Result<Vec<(Place, StoredBatch)>, Void> {
        let shared = &self.shared;
        match &mut self.source {
            Source::Backlog(rest) => {
                let (batches, unread) = from_backlog(log, shared, fallen, rest).await;
                if let Some((range, error)) = unread {
                    rest.clear();
                    self.aborted.retain(|txn| txn.last < range.from);
                    let shared = Arc::clone(shared);
                    locked(told).unread.push(Unread { shared, range, error });
                }
                Ok(batches)
            }
            Source::Segments(segments, epochs, from) => {
                let upto = Offset(i64::MAX);
                match read_segments(log, segments, epochs, from, upto).await {
                    Ok(batches) => Ok(batches.into_iter().map(|(h, b)| (placed(&h), b)).collect()),
                    Err(error) => Err(fail(shared, segments.front(), error, told)),
                }
            }
            Source::Compacted(cleaning) => match cleaning.next(log).await {
                Ok(batches) => Ok(batches),
                Err(Stop::Unread(error)) => Err(fail(shared, cleaning.front(), error, told)),
                Err(Stop::Over(error)) => {
                    locked(told).stopped = Some(error);
                    Err(Void)
                }
            },
        }
    }
}

/// The next batches of a backlog, about a step of them: from memory, or the journal. Ends before the
/// first batch that can't be read; then also says why, and how far it is the same with those behind.
async fn from_backlog(
    log: &Inner,
    shared: &Shared,
    fallen: &mut Fallen,
    batches: &mut VecDeque<TakenBatch>,
) -> (Vec<(Place, StoredBatch)>, Option<(LostRange, ReadError)>) {
    let mut bytes = 0;
    let mut group = Vec::new();
    while bytes < STEP {
        let Some(taken) = batches.pop_front() else { break };
        bytes += taken.size as usize;
        group.push(taken);
    }
    let held: Vec<_> = {
        let state = locked(&shared.state);
        group.iter().map(|taken| state.in_memory(taken.place.base)).collect()
    };
    let pairs = group.iter().zip(held);
    let held: Vec<_> = pairs
        .map(|(taken, held)| held.map(Ok).or_else(|| fallen.0.remove(&taken.place.at)))
        .collect();
    let missing = group.iter().zip(&held).filter(|(_, held)| held.is_none());
    let places: Vec<_> = missing.map(|(taken, _)| taken.place).collect();
    let mut read = log.read_frames(shared.id, &places).await.into_iter();
    let all = held.into_iter().filter_map(|held| held.or_else(|| read.next()));
    let mut placed = Vec::with_capacity(group.len());
    let mut unread: Option<(LostRange, ReadError)> = None;
    for (taken, batch) in group.iter().zip(all) {
        let (base, last) = (taken.place.base, taken.place.last);
        match (batch, &mut unread) {
            (Ok(batch), None) => {
                let size = batch.size() as u64;
                placed.push((place(base, last, taken.max_timestamp, size), batch));
            }
            (Err(error), None) => {
                let max_timestamp = taken.max_timestamp;
                unread = Some((LostRange { from: base, upto: last.next(), max_timestamp }, error));
            }
            (Err(ReadError::Corrupt { .. }), Some((range, ReadError::Corrupt { .. }))) => {
                range.upto = last.next();
                range.max_timestamp = range.max_timestamp.max(taken.max_timestamp);
            }
            // A good one, or another trouble: it has its own turn.
            (_, Some(_)) => break,
        }
    }
    (placed, unread)
}

/// Tells that nothing is stored, because a segment can't be read.
fn fail(
    shared: &Arc<Shared>,
    segment: Option<&Segment>,
    error: ReadError,
    told: &Mutex<Told>,
) -> Void {
    let mut told = locked(told);
    match segment {
        Some(Segment { run, .. }) => {
            let (from, upto, max_timestamp) = (run.base, run.end, run.max_timestamp);
            let range = LostRange { from, upto, max_timestamp };
            told.unread.push(Unread { shared: Arc::clone(shared), range, error });
        }
        // Nobody knows what it was about; nothing was written of it.
        None => told.stopped = Some(error.into()),
    }
    Void
}

/// The next batches of segments that begin below `upto`, about a chunk of them. Of an error it is the first
/// of the segments that are left.
pub(crate) async fn read_segments(
    log: &Inner,
    segments: &mut VecDeque<Segment>,
    epochs: &Epochs,
    from: &mut Offset,
    upto: Offset,
) -> Result<Vec<(BatchHeader, StoredBatch)>, ReadError> {
    let mut batches = Vec::new();
    let mut bytes = 0;
    while let Some(segment) = segments.front() {
        let mut walk = match Walk::new(log, segment, epochs, *from).await {
            Ok(walk) => walk,
            Err(_) if !batches.is_empty() => return Ok(batches),
            Err(error) => return Err(error),
        };
        while bytes < CHUNK_BYTES {
            let next = match walk.next_whole(CHUNK_BYTES as u64).await {
                // What was read is good; the next call meets the error.
                Err(_) if !batches.is_empty() => return Ok(batches),
                next => next?,
            };
            let Some((header, batch)) = next else { break };
            if header.base_offset >= upto {
                segments.clear();
                return Ok(batches);
            }
            bytes += batch.size();
            *from = header.last_offset().next();
            batches.push((header, batch));
        }
        if bytes >= CHUNK_BYTES {
            break;
        }
        segments.pop_front();
    }
    Ok(batches)
}

/// A batch's place. One that compaction has emptied has no timestamp, whatever its header says: there is
/// no record that a look-up could find.
pub(crate) fn placed(header: &BatchHeader) -> Place {
    let is_empty = header.records_count == 0;
    let max_timestamp = if is_empty { Timestamp::NONE } else { header.max_timestamp };
    place(header.base_offset, header.last_offset(), max_timestamp, header.size() as u64)
}
