//! Checkpoints: letting the journal go.
//!
//! The states are taken one by one while appends go on. Recovery replays from the frame that was the
//! newest before the first was taken (a frame that is there, so that damage can't look like the end),
//! and skips for each partition what its state has seen. The checkpoint may name
//! nothing that a crash undoes: it is published when the newest frame in it is durable, and the one
//! that recovery begins with. What it
//! refers to in journals (batches that are in no segment) is kept, the rest is trimmed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use millstream_env::BlobError;
use millstream_record::checkpoint::{CheckpointHeader, CheckpointWriter, PartitionImage};
use millstream_types::{Lsn, SessionId};

use crate::blobs::checkpoint_name;
use crate::error::{MaintenanceError, SessionOver};
use crate::log::Inner;
use crate::maintenance::Progress;
use crate::partition::Shared;
use crate::settings::Trim;
use crate::util::locked;

/// What the states in a checkpoint need beside it.
#[derive(Debug, Default)]
struct Needs {
    /// Must be durable before it counts.
    durable: Lsn,
    /// The first frame of each session's journal that a state refers to.
    frames: BTreeMap<SessionId, Lsn>,
}

impl Needs {
    fn add(&mut self, image: &PartitionImage) {
        self.durable = self.durable.max(image.applied);
        for batch in &image.backlog {
            let first = self.frames.entry(batch.session).or_insert(batch.lsn);
            *first = batch.lsn.min(*first);
        }
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
        let end = self.journal.end();
        let lsn = Lsn(self.newest.load(Ordering::SeqCst));
        let name = checkpoint_name(self.session, lsn, self.env.uuid()).ok_or(SessionOver)?;
        let needs = Arc::new(Mutex::new(Needs::default()));
        let body = self.images(lsn, Arc::clone(&needs));
        self.blobs.store.upload(name.clone(), body).await?;
        let needs = std::mem::take(&mut *locked(&needs));
        // The frame at `lsn` may be of a partition that is deleted, which no state tells of.
        let first = Lsn(if lsn.0 > 0 { lsn.0 + 1 } else { 0 });
        self.durable.wait(needs.durable.max(first)).await?;
        if self.durable.is_over() {
            return Err(SessionOver.into());
        }
        let trim = Trim { session: self.session, lsn, checkpoint: name.clone() };
        self.trims.publish(trim).await?;
        self.counters.checkpoints.fetch_add(1, Ordering::Relaxed);
        let former = progress.checkpoint.replace(name);
        progress.checkpoint_end = Some(end);
        progress.replayed_bytes = 0;
        // Neither may keep the other from giving back space.
        let deleted = self.blobs.store.delete(former.into_iter().collect()).await;
        self.trim(lsn, &needs.frames).await?;
        Ok(deleted?)
    }

    /// The checkpoint's bytes. Takes the states as it goes.
    fn images(
        self: &Arc<Self>,
        lsn: Lsn,
        needs: Arc<Mutex<Needs>>,
    ) -> stream::BoxStream<'static, Result<Bytes, BlobError>> {
        let all = self.all();
        // Only layout finds losses, and it does not run now: there will be no more of them.
        let has_lost = all.iter().any(|shared| !locked(&shared.state).lost.is_empty());
        let (cluster, session) = (self.settings.cluster, self.session);
        let header = CheckpointHeader { cluster, session, lsn, has_lost };
        let (writer, head) = CheckpointWriter::new(header);
        let rest: std::vec::IntoIter<Arc<Shared>> = all.into_iter();
        let chunks = stream::unfold(Some((writer, rest)), move |state| {
            let needs = Arc::clone(&needs);
            async move {
                let (mut writer, mut rest) = state?;
                for shared in rest.by_ref() {
                    let image = {
                        let state = locked(&shared.state);
                        if state.deleted {
                            continue;
                        }
                        state.image()
                    };
                    locked(&needs).add(&image);
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
