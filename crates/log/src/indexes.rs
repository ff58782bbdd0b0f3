//! Indexes of segments in memory, the longest unused evicted first.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_env::{BlobError, BlobName};
use millstream_record::index::RunIndex;
use millstream_record::segment::decode_index;

use crate::blobs::{Blobs, Segment};
use crate::error::ReadError;
use crate::util::locked;

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

    /// The segment's index, read if it has to be.
    ///
    /// # Errors
    ///
    /// [`ReadError::Corrupt`] when it is not what was written, [`ReadError::Storage`] when it can't
    /// be read.
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
        let bytes = blobs
            .store
            .get(key.0.clone(), Some(range))
            .await
            .map_err(|error| unreadable(segment, &error))?;
        let index = decode_index(run, &bytes).map_err(|error| ReadError::Corrupt {
            partition: run.partition,
            from: run.base,
            upto: run.end,
            why: format!("{}: {error}", segment.blob.name),
        })?;
        let index = Arc::new(index);
        locked(&self.cached).insert(key, Arc::clone(&index), self.budget);
        Ok(index)
    }

    /// What is used, in bytes.
    pub(crate) fn used(&self) -> u64 {
        locked(&self.cached).used
    }
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
