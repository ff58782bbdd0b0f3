//! The blobs that hold the partitions' runs: who uses them, and when they may go.
//!
//! A blob is live while a partition has a run in it, by frames that are durable: a change that lets
//! go of a run counts only once its frame is durable, because until then a crash brings the run
//! back. A dead blob is deleted when no reader holds it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use millstream_env::{BlobError, BlobName, BlobStore};
use millstream_record::layout::SegmentRef;
use millstream_record::run::Run;
use millstream_types::{DecodeError, Lsn, SessionId, Timestamp, Uuid};

use crate::chain::Chain;
use crate::util::locked;

/// Where segments and packs are.
const SEGMENTS: &str = "segment";
/// Where checkpoints are.
const CHECKPOINTS: &str = "checkpoint";

/// One blob.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) name: BlobName,
    /// How many runs in it are part of a partition.
    live: AtomicUsize,
}

/// A run of a partition in a blob. Whoever holds a clone may read it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) blob: Arc<Blob>,
    pub(crate) written: Timestamp,
    pub(crate) run: Run,
    /// Whether merging has met something in it that can't be read, since the log was opened: then
    /// it stays as it is, and so do the others around it.
    pub(crate) is_damaged: bool,
}

/// All blobs that a partition of this node knows.
#[derive(Debug)]
pub(crate) struct Blobs {
    pub(crate) store: Arc<dyn BlobStore>,
    known: Mutex<BTreeMap<BlobName, Arc<Blob>>>,
    /// Blobs that a partition let go of a run of, by the position that must be durable.
    released: Mutex<Vec<(Lsn, Arc<Blob>)>>,
    /// Blobs that are not live; readers may still hold them.
    dead: Mutex<Vec<Arc<Blob>>>,
}

impl Segment {
    pub(crate) fn to_ref(&self) -> SegmentRef {
        let blob = self.blob.name.as_str().into();
        SegmentRef { blob, written: self.written, run: self.run }
    }
}

impl Blobs {
    pub(crate) fn new(store: Arc<dyn BlobStore>) -> Self {
        Self { store, known: Mutex::default(), released: Mutex::default(), dead: Mutex::default() }
    }

    /// A segment as part of a partition.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Invalid`] when its blob's name is none.
    pub(crate) fn adopt(&self, segment: &SegmentRef) -> Result<Segment, DecodeError> {
        let name =
            BlobName::new(&segment.blob).ok_or(DecodeError::Invalid { field: "segment.name" })?;
        let mut known = locked(&self.known);
        let blob = known
            .entry(name.clone())
            .or_insert_with(|| Arc::new(Blob { name, live: AtomicUsize::new(0) }));
        blob.live.fetch_add(1, Ordering::Relaxed);
        Ok(Segment {
            blob: Arc::clone(blob),
            written: segment.written,
            run: segment.run,
            is_damaged: false,
        })
    }

    /// Keeps a new blob alive while its runs become part of their partitions, one after the other:
    /// the first may be let go of before the last has come. To be given back by
    /// [`Blobs::unhold`].
    pub(crate) fn hold(&self, name: BlobName) -> Arc<Blob> {
        let blob = Arc::new(Blob { name: name.clone(), live: AtomicUsize::new(1) });
        locked(&self.known).insert(name, Arc::clone(&blob));
        blob
    }

    /// Ends what [`Blobs::hold`] began. A blob of which no run was taken dies.
    pub(crate) fn unhold(&self, blob: Arc<Blob>) {
        locked(&self.released).push((Lsn(0), blob));
    }

    /// Segments are no longer part of their partition, once `end` is durable.
    pub(crate) fn release(&self, segments: Vec<Segment>, end: Lsn) {
        if !segments.is_empty() {
            locked(&self.released).extend(segments.into_iter().map(|s| (end, s.blob)));
        }
    }

    /// Deletes the blobs that died by frames below `durable` and that nobody reads. Returns how
    /// many.
    pub(crate) async fn reap(&self, durable: Lsn) -> Result<usize, BlobError> {
        let gone = self.take_dead(durable);
        let names: Vec<_> = gone.iter().map(|blob| blob.name.clone()).collect();
        if names.is_empty() {
            return Ok(0);
        }
        let count = names.len();
        let deleted = self.store.delete(names).await;
        if deleted.is_err() {
            locked(&self.dead).extend(gone);
        }
        deleted.map(|()| count)
    }

    fn take_dead(&self, durable: Lsn) -> Vec<Arc<Blob>> {
        let ripe: Vec<_> = {
            let mut released = locked(&self.released);
            released.extract_if(.., |(end, _)| *end <= durable).collect()
        };
        let mut dead = locked(&self.dead);
        for (_, blob) in ripe {
            if blob.live.fetch_sub(1, Ordering::Relaxed) == 1 {
                locked(&self.known).remove(&blob.name);
                dead.push(blob);
            }
        }
        // Segments hold the others: only readers are left when a blob is dead.
        dead.extract_if(.., |blob| Arc::strong_count(blob) == 1).collect()
    }

    /// Whether a partition has, or had until just now, a run in the blob.
    pub(crate) fn knows(&self, name: &BlobName) -> bool {
        let known = locked(&self.known).contains_key(name);
        known || locked(&self.dead).iter().any(|blob| blob.name == *name)
    }

    /// How many blobs are known.
    pub(crate) fn count(&self) -> usize {
        locked(&self.known).len()
    }

    /// The blobs of sessions before `session` that nobody knows: uploads whose frame was not
    /// written before a crash, and checkpoints that are not in `chain`.
    pub(crate) async fn orphans(
        &self,
        session: SessionId,
        chain: &Chain,
    ) -> Result<Vec<BlobName>, BlobError> {
        let mut orphans = Vec::new();
        for (name, _) in self.store.list(&format!("{SEGMENTS}/")).await? {
            if writer(&name).is_some_and(|by| by < session) && !self.knows(&name) {
                orphans.push(name);
            }
        }
        for (name, _) in self.store.list(&format!("{CHECKPOINTS}/")).await? {
            let is_needed = chain.names().any(|needed| *needed == name);
            if writer(&name).is_some_and(|by| by < session) && !is_needed {
                orphans.push(name);
            }
        }
        Ok(orphans)
    }
}

/// Whether it is the name of a checkpoint.
pub(crate) fn is_checkpoint(name: &BlobName) -> bool {
    name.as_str().split('/').next() == Some(CHECKPOINTS)
}

/// The session that wrote a blob, by its name.
fn writer(name: &BlobName) -> Option<SessionId> {
    name.as_str().split('/').nth(1)?.parse().ok().map(SessionId)
}

/// The name of a new segment or pack.
pub(crate) fn segment_name(session: SessionId, unique: Uuid) -> Option<BlobName> {
    BlobName::new(&format!("{SEGMENTS}/{:020}/{}", session.0, hex(unique)))
}

/// The name of a new checkpoint.
pub(crate) fn checkpoint_name(session: SessionId, lsn: Lsn, unique: Uuid) -> Option<BlobName> {
    BlobName::new(&format!("{CHECKPOINTS}/{:020}/{:020}-{}", session.0, lsn.0, hex(unique)))
}

/// Lower-case hexadecimal: names that differ must differ on file systems that ignore case too.
fn hex(id: Uuid) -> String {
    format!("{:032x}", u128::from_be_bytes(id.0))
}
