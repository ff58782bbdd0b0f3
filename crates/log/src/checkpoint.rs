//! Checkpoints: letting the journal go.
//!
//! The states are taken one by one while appends go on: of all partitions, or of those that have
//! changed since the last time ([`Chain`] says which). Recovery replays from the frame that was the
//! newest before the first was taken (a frame that is there, so that damage can't look like the end),
//! and skips for each partition what its state has seen. A partition is noted as changed before its
//! frame gets its position: whoever is not among those that changed has no frame below that from
//! which recovery replays. The checkpoint may name
//! nothing that a crash undoes: it is published when the newest frame in it is durable, and the one
//! that recovery begins with. What it
//! refers to in journals (batches that are in no segment) is kept, the rest is trimmed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use millstream_env::{BlobError, BlobName};
use millstream_record::checkpoint::{CheckpointHeader, CheckpointWriter, PartitionImage};
use millstream_types::{Lsn, PartitionId, SessionId};

use crate::blobs::checkpoint_name;
use crate::error::{MaintenanceError, SessionOver};
use crate::log::Inner;
use crate::maintenance::Progress;
use crate::partition::Shared;
use crate::settings::Trim;
use crate::util::{locked, reading};

/// The first frame of each session's journal that the states in the checkpoints refer to, by
/// partition.
#[derive(Clone, Debug, Default)]
pub(crate) struct Held(BTreeMap<(PartitionId, SessionId), Lsn>);

/// What was taken for a checkpoint.
#[derive(Debug, Default)]
struct Taken {
    /// Must be durable before it counts.
    durable: Lsn,
    held: Held,
}

/// What a checkpoint is made of.
struct Wanted {
    is_delta: bool,
    partitions: Vec<Arc<Shared>>,
    /// Those that have changed: noted again when there is no checkpoint in the end.
    changed: Vec<Arc<Shared>>,
}

impl Held {
    /// Notes what a state refers to, instead of what it did before.
    pub(crate) fn note(&mut self, image: &PartitionImage) {
        self.forget(image.id);
        for batch in &image.backlog {
            let first = self.0.entry((image.id, batch.session)).or_insert(batch.lsn);
            *first = batch.lsn.min(*first);
        }
    }

    fn forget(&mut self, id: PartitionId) {
        let all = (id, SessionId(0))..=(id, SessionId(u64::MAX));
        let known: Vec<_> = self.0.range(all).map(|(key, _)| *key).collect();
        for key in known {
            self.0.remove(&key);
        }
    }

    /// The first frame of each session's journal that is needed.
    fn frames(&self) -> BTreeMap<SessionId, Lsn> {
        let mut frames = BTreeMap::new();
        for ((_, session), lsn) in &self.0 {
            let first = frames.entry(*session).or_insert(*lsn);
            *first = (*lsn).min(*first);
        }
        frames
    }
}

impl Inner {
    /// Takes a checkpoint, makes it known, and trims the journals.
    ///
    /// # Errors
    ///
    /// [`MaintenanceError`]; then recovery starts from the one before.
    pub(crate) async fn checkpoint(
        self: &Arc<Self>,
        progress: &mut Progress,
    ) -> Result<(), MaintenanceError> {
        // Frames before the newest are applied when their partition's lock is to be had.
        let (end, laid) = (self.journal.end(), self.laid());
        let lsn = Lsn(self.newest.load(Ordering::SeqCst));
        let wanted = self.wanted(progress);
        let published = self.publish(lsn, &wanted, progress).await;
        if published.is_err() {
            for shared in &wanted.changed {
                self.note_changed(&mut locked(&shared.state), shared);
            }
        }
        let former = published?;
        progress.checkpoint_end = Some(end);
        progress.replayed_bytes = 0;
        progress.checkpoint_laid = laid;
        // Neither may keep the other from giving back space.
        let deleted = self.blobs.store.delete(former).await;
        self.trim(lsn, &progress.held.frames()).await?;
        Ok(deleted?)
    }

    /// What the next checkpoint is made of. Nobody has changed any more.
    fn wanted(&self, progress: &Progress) -> Wanted {
        let changed = std::mem::take(&mut *locked(&self.changed));
        for shared in &changed {
            locked(&shared.state).is_changed = false;
        }
        let all = reading(&self.partitions).len();
        if progress.chain.wants_whole(changed.len(), all, &self.settings) {
            Wanted { is_delta: false, partitions: self.all(), changed }
        } else {
            Wanted { is_delta: true, partitions: changed.clone(), changed }
        }
    }

    /// Stores a checkpoint and makes it known. Returns the blobs that are not needed any more.
    async fn publish(
        self: &Arc<Self>,
        lsn: Lsn,
        wanted: &Wanted,
        progress: &mut Progress,
    ) -> Result<Vec<BlobName>, MaintenanceError> {
        let name = checkpoint_name(self.session, lsn, self.env.uuid()).ok_or(SessionOver)?;
        let held = if wanted.is_delta { progress.held.clone() } else { Held::default() };
        let taken = Arc::new(Mutex::new(Taken { durable: Lsn(0), held }));
        let body = self.images(lsn, wanted, progress, Arc::clone(&taken));
        let bytes = self.blobs.store.upload(name.clone(), body).await?;
        let taken = std::mem::take(&mut *locked(&taken));
        self.counters.wrote_checkpoint(bytes);
        // The frame at `lsn` may be of a partition that is deleted, which no state tells of.
        let first = Lsn(if lsn.0 > 0 { lsn.0 + 1 } else { 0 });
        self.durable.wait(taken.durable.max(first)).await?;
        if self.durable.is_over() {
            return Err(SessionOver.into());
        }
        let trim = Trim { session: self.session, lsn, checkpoint: name.clone() };
        self.trims.publish(trim).await?;
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        progress.held = taken.held;
        if wanted.is_delta {
            self.counters.deltas.fetch_add(1, Ordering::Relaxed);
            progress.chain.push(name, bytes);
            return Ok(Vec::new());
        }
        Ok(progress.chain.replace(name, bytes))
    }

    /// The checkpoint's bytes. Takes the states as it goes.
    fn images(
        self: &Arc<Self>,
        lsn: Lsn,
        wanted: &Wanted,
        progress: &Progress,
        taken: Arc<Mutex<Taken>>,
    ) -> stream::BoxStream<'static, Result<Bytes, BlobError>> {
        let partitions = wanted.partitions.clone();
        // Only layout finds losses, and it does not run now: there will be no more of them.
        let has_lost = partitions.iter().any(|shared| !locked(&shared.state).lost.is_empty());
        let (cluster, session, is_delta) = (self.settings.cluster, self.session, wanted.is_delta);
        let header = CheckpointHeader { cluster, session, lsn, has_lost, is_delta };
        let former: Vec<_> = progress.chain.names().map(BlobName::as_str).collect();
        let (writer, head) = CheckpointWriter::new(header, &former);
        let rest = partitions.into_iter();
        let chunks = stream::unfold(Some((writer, rest)), move |state| {
            let taken = Arc::clone(&taken);
            async move {
                let (mut writer, mut rest) = state?;
                for shared in rest.by_ref() {
                    let image = {
                        let state = locked(&shared.state);
                        if state.deleted {
                            locked(&taken).held.forget(shared.id);
                            continue;
                        }
                        state.image()
                    };
                    {
                        let mut taken = locked(&taken);
                        taken.durable = taken.durable.max(image.applied);
                        taken.held.note(&image);
                    }
                    if let Some(chunk) = writer.push(&image) {
                        return Some((Ok(chunk), Some((writer, rest))));
                    }
                }
                Some((Ok(writer.finish()), None))
            }
        });
        stream::once(async { Ok(head) }).chain(chunks).boxed()
    }

    /// Gives back what neither the checkpoint at `lsn`, nor a state in it, nor a reader needs.
    async fn trim(
        &self,
        lsn: Lsn,
        frames: &BTreeMap<SessionId, Lsn>,
    ) -> Result<(), MaintenanceError> {
        for session in self.journals.sessions().await? {
            let replayed = match session.cmp(&self.session) {
                std::cmp::Ordering::Less => Lsn(u64::MAX),
                std::cmp::Ordering::Equal => lsn,
                // A later session's journal is not ours.
                std::cmp::Ordering::Greater => continue,
            };
            let needed = frames.get(&session).copied();
            let read = self.pins.first(session);
            let below = needed.into_iter().chain(read).fold(replayed, Lsn::min);
            self.journals.trim(session, below).await?;
        }
        Ok(())
    }
}
