//! Opening: taking over what former sessions left.
//!
//! The checkpoints that the metadata log names, then the frames after them, by the code that append uses.
//! Batches that are in no segment stay where they are, in the former sessions' journals; they are
//! read in place and laid out later. The time this takes is bounded by the journal, not by the log.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use futures_util::StreamExt;
use millstream_env::{
    BlobStore, Env, FrameAt, JournalError, JournalState, JournalStore, Recovered,
};
use millstream_record::checkpoint::PartitionImage;
use millstream_record::frame::{Frame, FrameBody};
use millstream_types::{Lsn, PartitionId, SessionId};

use crate::blobs::Blobs;
use crate::chain::Chain;
use crate::checkpoint::Held;
use crate::compaction;
use crate::error::OpenError;
use crate::log::{Inner, Log, Parts};
use crate::maintenance::{self, Progress};
use crate::partition::Shared;
use crate::settings::{Former, LogSettings, PartitionSpec, Trim, TrimSink};
use crate::state::{Change, Moment, PartitionState};
use crate::util::locked;

/// Partition states on their way from a checkpoint to now.
struct Recovery<'a> {
    env: &'a Env,
    blobs: &'a Blobs,
    settings: &'a LogSettings,
    specs: BTreeMap<PartitionId, PartitionSpec>,
    states: BTreeMap<PartitionId, PartitionState>,
    trim: Option<Trim>,
    chain: Chain,
    /// What its states refer to in journals.
    held: Held,
    /// How far the journal of each session must reach for the checkpoint to hold.
    reach: BTreeMap<SessionId, Lsn>,
    replayed_bytes: u64,
}

impl Log {
    /// Opens the log for `session`: recovers what the sessions up to `former` left of `partitions`,
    /// seals them, and starts the journal of the new session. What is in the journal of other
    /// partitions is dropped: their topics are deleted.
    ///
    /// # Errors
    ///
    /// [`OpenError`]: nothing was lost, and nothing may be served.
    #[expect(clippy::too_many_arguments, reason = "each is a different thing, given once")]
    pub async fn open(
        env: Env,
        journals: Arc<dyn JournalStore>,
        blobs: Arc<dyn BlobStore>,
        session: SessionId,
        former: Option<Former>,
        partitions: Vec<PartitionSpec>,
        trims: Arc<dyn TrimSink>,
        settings: LogSettings,
    ) -> Result<Self, OpenError> {
        let blobs = Blobs::new(blobs);
        let trim = former.as_ref().and_then(|former| former.trim.clone());
        let mut recovery = Recovery {
            env: &env,
            blobs: &blobs,
            settings: &settings,
            specs: partitions.into_iter().map(|spec| (spec.id, spec)).collect(),
            states: BTreeMap::new(),
            trim,
            chain: Chain::default(),
            held: Held::default(),
            reach: BTreeMap::new(),
            replayed_bytes: 0,
        };
        if let Some(former) = former {
            recovery.run(journals.as_ref(), former.session).await?;
        }
        let (partitions, progress) = recovery.finish();
        let failed = |why| OpenError::Journal { session, why };
        let journal = journals.create(session).await.map_err(failed)?;
        let status = journal.status();
        let background = settings.background;
        let inner = Arc::new(Inner::new(Parts {
            env,
            journals,
            journal,
            blobs,
            session,
            trims,
            settings,
            partitions,
            progress,
        }));
        for shared in inner.all() {
            inner.note_compactable(&locked(&shared.state));
        }
        let durable = Arc::clone(&inner.durable);
        let listens = inner.journal.listen(Box::new(move |lsn| durable.advance(lsn)));
        let follow = Arc::clone(&inner.durable).follow(status, listens);
        let guard = Follower(Arc::downgrade(&inner));
        inner.env.spawn("log-durable", async move {
            let _guard = guard;
            follow.await;
        });
        if background {
            let work = maintenance::run(Arc::downgrade(&inner), Arc::clone(&inner.due));
            inner.env.spawn("log-maintenance", work);
            let due = Arc::clone(&inner.compaction.due);
            inner.env.spawn("log-compaction", compaction::run(Arc::downgrade(&inner), due));
        }
        Ok(Self { inner })
    }
}

/// Ends the session when who follows the journal stops, by a mistake of ours too: nobody would hear of
/// durability any more, and wait for ever.
struct Follower(Weak<Inner>);

impl Drop for Follower {
    fn drop(&mut self) {
        if let Some(inner) = self.0.upgrade() {
            inner.durable.end(&JournalState::Closed);
            // Takes no more frames from here on; that it is closed in the end need not be waited for.
            drop(inner.journal.close());
        }
    }
}

impl Recovery<'_> {
    async fn run(
        &mut self,
        journals: &dyn JournalStore,
        former: SessionId,
    ) -> Result<(), OpenError> {
        let at = |session| move |why| OpenError::Journal { session, why };
        if let Some(trim) = self.trim.clone() {
            self.load(&trim).await?;
            if trim.lsn > Lsn(0) {
                self.reaches(trim.session, Lsn(trim.lsn.0 + 1));
            }
        }
        for (id, spec) in &self.specs {
            self.states.entry(*id).or_insert_with(|| PartitionState::new(spec.clone()));
        }
        let first = self.trim.as_ref().map_or(SessionId(0), |trim| trim.session);
        let sessions = journals.sessions().await.map_err(at(former))?;
        let mut ends = BTreeMap::new();
        for session in sessions.into_iter().filter(|session| *session <= former) {
            if session < first {
                let end = journals.seal(session).await.map_err(at(session))?;
                ends.insert(session, end);
                continue;
            }
            let from = match &self.trim {
                Some(trim) if trim.session == session => trim.lsn,
                _ => Lsn(0),
            };
            let end = self.take_over(journals, session, from).await?;
            ends.insert(session, end);
            // Positions of different sessions are not comparable.
            for state in self.states.values_mut() {
                state.applied = Lsn(0);
            }
        }
        self.check_reach(&ends)
    }

    /// Replays what a session left from `from` on; returns where it ended.
    async fn take_over(
        &mut self,
        journals: &dyn JournalStore,
        session: SessionId,
        from: Lsn,
    ) -> Result<Lsn, OpenError> {
        let failed = |why| OpenError::Journal { session, why };
        let mut found = journals.recover(session, from);
        while let Some(next) = found.next().await {
            match next.map_err(failed)? {
                Recovered::Frames(frames) => {
                    for (at, frame) in frames {
                        self.replay(at, &frame)?;
                    }
                }
                Recovered::End(end) => return Ok(end),
            }
        }
        let interrupted = "reading it was interrupted: try again".to_owned();
        Err(failed(JournalError::Storage(interrupted)))
    }

    /// Refuses journals that end before what the checkpoint relies on: the end of a journal that
    /// lost its last group, or all of its files, looks like that of one that was never written.
    fn check_reach(&self, ends: &BTreeMap<SessionId, Lsn>) -> Result<(), OpenError> {
        for (&session, &lsn) in &self.reach {
            if ends.get(&session).is_some_and(|end| *end >= lsn) {
                continue;
            }
            let lost = OpenError::JournalLost { session, lsn };
            if !self.settings.journal_may_lose {
                return Err(lost);
            }
            tracing::warn!(error = %lost, "the journal was not flushed: going on with what there is");
        }
        Ok(())
    }

    fn reaches(&mut self, session: SessionId, lsn: Lsn) {
        let reach = self.reach.entry(session).or_default();
        *reach = lsn.max(*reach);
    }

    /// Takes the states of the checkpoints.
    async fn load(&mut self, trim: &Trim) -> Result<(), OpenError> {
        let (store, cluster) = (Arc::clone(&self.blobs.store), self.settings.cluster);
        let take = |image| self.restore(image);
        self.chain = Chain::load(store.as_ref(), cluster, trim, take).await?;
        Ok(())
    }

    fn restore(&mut self, image: PartitionImage) -> Result<(), OpenError> {
        let partition = image.id;
        let Some(spec) = self.specs.get(&partition).cloned() else { return Ok(()) };
        self.held.note(&image);
        for batch in &image.backlog {
            self.reaches(batch.session, Lsn(batch.lsn.0.saturating_add(u64::from(batch.len))));
        }
        let now = self.env.clock.monotonic();
        let state = PartitionState::restore(spec, image, self.blobs, now)
            .map_err(|error| OpenError::Frame { partition, why: error.to_string() })?;
        self.states.insert(partition, state);
        Ok(())
    }

    /// Applies a frame, as append did.
    fn replay(&mut self, at: FrameAt, frame: &Frame) -> Result<(), OpenError> {
        self.replayed_bytes += u64::from(at.len);
        let partition = frame.partition;
        let Some(state) = self.states.get_mut(&partition) else { return Ok(()) };
        if at.end() <= state.applied {
            return Ok(());
        }
        let bad = |why: String| OpenError::Frame {
            partition,
            why: format!("frame at {} of session {}: {why}", at.lsn, at.session),
        };
        let change = Change::decode(&frame.body).map_err(|error| bad(error.to_string()))?;
        if !state.follows(&change) {
            let (end, laid) = (state.log_end, state.laid_end);
            return Err(bad(format!("{change:?} does not follow log end {end}, laid out {laid}")));
        }
        let size = match &frame.body {
            FrameBody::Batch(batch) => batch.size(),
            FrameBody::Layout(_) => 0,
        };
        let moment = Moment {
            at,
            end: Lsn(0),
            wall: self.env.clock.wall(),
            monotonic: self.env.clock.monotonic(),
            producer_ids_max: self.settings.producer_ids_max,
        };
        state.is_changed = true;
        let dropped = state
            .apply(change, size, &moment, self.blobs)
            .map_err(|error| bad(error.to_string()))?;
        self.blobs.release(dropped, Lsn(0));
        Ok(())
    }

    fn finish(mut self) -> (BTreeMap<PartitionId, Arc<Shared>>, Progress) {
        for (id, spec) in &self.specs {
            self.states.entry(*id).or_insert_with(|| PartitionState::new(spec.clone()));
        }
        let shared = self.states.into_iter().map(|(id, mut state)| {
            state.recovered();
            (id, Shared::new(state))
        });
        let progress = Progress {
            chain: self.chain,
            held: self.held,
            replayed_bytes: self.replayed_bytes,
            ..Progress::default()
        };
        (shared.collect(), progress)
    }
}
