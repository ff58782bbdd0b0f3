//! Streaming a blob of batches to the store, about one chunk at a time.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use millstream_env::{BlobError, BlobName};
use millstream_record::StoredBatch;
use millstream_record::index::{AbortedTxn, Place};
use millstream_record::run::Run;
use millstream_record::segment::{Finished, SegmentWriter, place};
use millstream_types::{Offset, Timestamp};

use crate::blobs::Segment;
use crate::epochs::Epochs;
use crate::error::{MaintenanceError, ReadError};
use crate::log::Inner;
use crate::partition::Shared;
use crate::read::{JournalPlace, Walk};
use crate::util::locked;

/// Blobs are handed to the store in chunks of about so many bytes.
const CHUNK_BYTES: usize = 1024 * 1024;

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
    /// What is copied together, to come after `pieces`.
    gathered: Vec<u8>,
    /// What is ready for the store.
    pieces: VecDeque<Bytes>,
    told: Arc<Mutex<Told>>,
}

/// What the stream has to say when the store has taken it.
#[derive(Default)]
struct Told {
    finished: Option<Finished>,
    error: Option<ReadError>,
}

impl Inner {
    /// Stores a blob with these runs. Returns where they are in it.
    pub(crate) async fn upload(
        self: &Arc<Self>,
        name: &BlobName,
        runs: Vec<Taken>,
    ) -> Result<Vec<Run>, MaintenanceError> {
        let told = Arc::new(Mutex::new(Told::default()));
        let (writer, head) = SegmentWriter::new(self.settings.cluster, self.session);
        let upload = Upload {
            log: Arc::clone(self),
            runs: runs.into(),
            writer: Some(writer),
            gathered: head.to_vec(),
            pieces: VecDeque::new(),
            told: Arc::clone(&told),
        };
        let failed = name.clone();
        let body = stream::try_unfold(upload, move |mut upload| {
            let name = failed.clone();
            async move {
                match upload.next().await {
                    Ok(chunk) => Ok(chunk.map(|chunk| (chunk, upload))),
                    Err(error) => {
                        let why = error.to_string();
                        locked(&upload.told).error = Some(error);
                        Err(BlobError::Storage { name, why })
                    }
                }
            }
        });
        let stored = self.blobs.store.upload(name.clone(), body.boxed()).await;
        let told = std::mem::take(&mut *locked(&told));
        if let Some(error) = told.error {
            return Err(error.into());
        }
        let bytes = stored?;
        let runs = told.finished.map(|finished| finished.runs).unwrap_or_default();
        self.counters.laid_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.counters.layouts.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(%name, bytes, runs = runs.len(), "laid out");
        Ok(runs)
    }
}

impl Upload {
    /// The next bytes of the blob; `None` after the last.
    async fn next(&mut self) -> Result<Option<Bytes>, ReadError> {
        while self.pieces.is_empty() && self.gathered.len() < CHUNK_BYTES {
            let Some(run) = self.runs.front_mut() else { break };
            let batches = match &mut run.source {
                Source::Backlog(batches) => from_backlog(&self.log, &run.shared, batches).await?,
                Source::Segments(segments, epochs, from) => {
                    from_segments(&self.log, segments, epochs, from).await?
                }
            };
            if batches.is_empty() {
                self.end_run();
                continue;
            }
            let partition = run.shared.id;
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
        if let Some((run, writer)) = self.runs.pop_front().zip(self.writer.as_mut()) {
            writer.set_aborted(run.aborted);
        }
    }
}

/// The next batches of a backlog, about a chunk of them: from memory, or the journal.
async fn from_backlog(
    log: &Inner,
    shared: &Shared,
    batches: &mut VecDeque<TakenBatch>,
) -> Result<Vec<(Place, StoredBatch)>, ReadError> {
    let mut bytes = 0;
    let mut group = Vec::new();
    while bytes < CHUNK_BYTES {
        let Some(taken) = batches.pop_front() else { break };
        bytes += taken.size as usize;
        group.push(taken);
    }
    let held: Vec<_> = {
        let state = locked(&shared.state);
        group.iter().map(|taken| state.in_memory(taken.place.base)).collect()
    };
    let missing = group.iter().zip(&held).filter(|(_, held)| held.is_none());
    let places: Vec<_> = missing.map(|(taken, _)| taken.place).collect();
    let (read, error) = log.read_frames(shared.id, &places).await;
    if let Some(error) = error {
        return Err(error);
    }
    let mut read = read.into_iter();
    let all = held.into_iter().filter_map(|held| held.or_else(|| read.next()));
    let placed = group.iter().zip(all).map(|(taken, batch)| {
        let (base, last) = (taken.place.base, taken.place.last);
        (place(base, last, taken.max_timestamp, batch.size() as u64), batch)
    });
    Ok(placed.collect())
}

/// The next batches of segments, about a chunk of them.
async fn from_segments(
    log: &Inner,
    segments: &mut VecDeque<Segment>,
    epochs: &Epochs,
    from: &mut Offset,
) -> Result<Vec<(Place, StoredBatch)>, ReadError> {
    let mut batches = Vec::new();
    let mut bytes = 0;
    while let Some(segment) = segments.front() {
        let mut walk = Walk::new(log, segment, epochs, *from).await?;
        while bytes < CHUNK_BYTES
            && let Some((header, batch)) = walk.next_whole(CHUNK_BYTES as u64).await?
        {
            let size = batch.size();
            bytes += size;
            *from = header.last_offset().next();
            let (base, last) = (header.base_offset, header.last_offset());
            batches.push((place(base, last, header.max_timestamp, size as u64), batch));
        }
        if bytes >= CHUNK_BYTES {
            break;
        }
        segments.pop_front();
    }
    Ok(batches)
}
