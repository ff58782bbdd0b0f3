//! Indexes of segments in memory, the longest unused evicted first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_env::{BlobError, BlobName};
use millstream_record::BatchHeader;
use millstream_record::index::{Place, RunIndex};
use millstream_record::segment::decode_index;

use crate::blobs::{Blobs, Segment};
use crate::error::ReadError;
use crate::util::locked;

/// So much of a run is read at a time to make its index anew, in bytes.
const REBUILD_BYTES: u64 = 1024 * 1024;

/// A run's index is unique by its blob and its place there.
type Key = (BlobName, u64);

/// See the module.
#[derive(Debug)]
pub(crate) struct Indexes {
    budget: u64,
    cached: Mutex<Cached>,
}

#[derive(Debug, Default)]
struct Cached {
    used: u64,
    clock: u64,
    by_key: BTreeMap<Key, (u64, Arc<RunIndex>)>,
    by_use: BTreeMap<u64, Key>,
}

impl Indexes {
    pub(crate) fn new(budget: u64) -> Self {
        Self { budget, cached: Mutex::default() }
    }

    /// The segment's index, read if it has to be, and made anew from the batches when it is damaged: it
    /// says nothing that they don't say.
    ///
    /// # Errors
    ///
    /// [`ReadError`] when neither can be read.
    pub(crate) async fn get(
        &self,
        segment: &Segment,
        blobs: &Blobs,
    ) -> Result<Arc<RunIndex>, ReadError> {
        let run = &segment.run;
        let key = (segment.blob.name.clone(), run.index_position);
        if let Some(index) = locked(&self.cached).find(&key) {
            return Ok(index);
        }
        let range = run.index_position..run.index_position + u64::from(run.index_len);
        let read = blobs.store.get(key.0.clone(), Some(range)).await;
        let why = match read.map(|bytes| decode_index(run, &bytes)) {
            Ok(Ok(index)) => return Ok(self.keep(key, index)),
            Ok(Err(error)) => error.to_string(),
            Err(error @ BlobError::Storage { .. }) => error.to_string(),
            Err(error) => return Err(unreadable(segment, &error)),
        };
        let index = rebuild(segment, blobs).await.map_err(|error| unreadable(segment, &error))?;
        tracing::warn!(
            segment = %segment.blob.name, partition = %run.partition, why,
            "the index of a segment is damaged and was made anew from its records, which takes time \
             whenever it is not in memory; `millstream log repair` writes it anew"
        );
        Ok(self.keep(key, index))
    }

    fn keep(&self, key: Key, index: RunIndex) -> Arc<RunIndex> {
        let index = Arc::new(index);
        locked(&self.cached).insert(key, Arc::clone(&index), self.budget);
        index
    }

    /// What is used, in bytes.
    pub(crate) fn used(&self) -> u64 {
        locked(&self.cached).used
    }
}

/// The index of a segment's batches by their headers, up to the first that is damaged, too. Transactions
/// that were aborted are left out: nobody looks for them here.
async fn rebuild(segment: &Segment, blobs: &Blobs) -> Result<RunIndex, BlobError> {
    let run = &segment.run;
    let mut index = RunIndex::default();
    let (mut position, mut expected) = (0, run.base);
    while position < run.len {
        let start = run.position + position;
        let range = start..start + (run.len - position).min(REBUILD_BYTES);
        let piece = blobs.store.get(segment.blob.name.clone(), Some(range)).await?;
        let began = position;
        while let Some(Ok(header)) = usize::try_from(position - began)
            .ok()
            .and_then(|at| piece.get(at..))
            .map(BatchHeader::decode)
        {
            let (base, last, size) =
                (header.base_offset, header.last_offset(), header.size() as u64);
            let is_next = if run.dense { base == expected } else { base >= expected };
            if !is_next || last < base || last >= run.end || size > run.len - position {
                return Ok(index);
            }
            let max_timestamp = header.max_timestamp;
            index.push(position, &Place { base, last, max_timestamp, size });
            (position, expected) = (position + size, last.next());
        }
        if position == began {
            break;
        }
    }
    Ok(index)
}

/// A missing blob is lost data; anything else may pass.
pub(crate) fn unreadable(segment: &Segment, error: &BlobError) -> ReadError {
    match error {
        BlobError::NotFound(_) => ReadError::Corrupt {
            partition: segment.run.partition,
            from: segment.run.base,
            upto: segment.run.end,
            why: error.to_string(),
        },
        _ => ReadError::Storage(error.to_string()),
    }
}

impl Cached {
    fn find(&mut self, key: &Key) -> Option<Arc<RunIndex>> {
        self.clock += 1;
        let (used, index) = self.by_key.get_mut(key)?;
        self.by_use.remove(used);
        *used = self.clock;
        self.by_use.insert(self.clock, key.clone());
        Some(Arc::clone(index))
    }

    fn insert(&mut self, key: Key, index: Arc<RunIndex>, budget: u64) {
        self.clock += 1;
        self.used += index.encoded_size() as u64;
        if let Some((used, old)) = self.by_key.insert(key.clone(), (self.clock, index)) {
            self.by_use.remove(&used);
            self.used -= old.encoded_size() as u64;
        }
        self.by_use.insert(self.clock, key);
        while self.used > budget {
            let Some((_, oldest)) = self.by_use.pop_first() else { break };
            if let Some((_, index)) = self.by_key.remove(&oldest) {
                self.used -= index.encoded_size() as u64;
            }
        }
    }
}
