//! The cluster's metadata as it runs: one writer over the metadata log, many readers.

use std::sync::{Arc, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use millstream_coordinator::cluster::{self, ClusterState, Entry, EntryError, Trimmed};
use millstream_env::meta::MetaSnapshot;
use millstream_env::{Env, MetaError, MetaLog};
use millstream_log::{Trim, TrimSink};
use tokio::sync::{Mutex, oneshot};
use tracing::warn;

/// Entries between two snapshots: what a start reads at most, apart from the snapshot.
const SNAPSHOT_ENTRIES: u64 = 1_000;

/// Why metadata could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The log below failed.
    #[error(transparent)]
    Log(#[from] MetaError),
    /// What it holds can't be understood.
    #[error("entry {at} of the metadata log: {error}")]
    Entry {
        /// The entry's number.
        at: u64,
        /// What is wrong with it.
        error: EntryError,
    },
}

/// Why a change was not made: the command refused, or it could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError<E> {
    /// The command refused.
    #[error("{0}")]
    Refused(E),
    /// It could not be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
}

/// The state and its log.
#[derive(Debug)]
pub(crate) struct Metadata {
    env: Env,
    log: Arc<dyn MetaLog>,
    state: RwLock<ClusterState>,
    /// Held while a change is on its way; knows what to write next.
    writer: Mutex<Writer>,
}

#[derive(Debug)]
struct Writer {
    next: u64,
    since_snapshot: u64,
}

impl Metadata {
    /// Reads what `log` holds.
    pub(crate) async fn open(env: Env, log: Arc<dyn MetaLog>) -> Result<Arc<Self>, MetadataError> {
        let (snapshot, entries) = log.load().await?;
        let mut state = ClusterState::default();
        let mut next = 1;
        if let Some(MetaSnapshot { upto, state: bytes }) = snapshot {
            replay(&mut state, upto, &bytes)?;
            next = upto + 1;
        }
        let since_snapshot = entries.len() as u64;
        for (at, bytes) in entries {
            replay(&mut state, at, &bytes)?;
            next = at + 1;
        }
        let writer = Mutex::new(Writer { next, since_snapshot });
        Ok(Arc::new(Self { env, log, state: RwLock::new(state), writer }))
    }

    /// Looks at the state. `look` must not wait for anything.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Runs `command` on the state, makes its entries durable, replays them, and runs `then` on
    /// them before anybody else can change anything.
    ///
    /// All of it is a task of its own: a caller that goes away (a client that disconnects) must not
    /// leave an entry in the log that the state has not seen.
    pub(crate) async fn change<T, E>(
        self: &Arc<Self>,
        command: impl FnOnce(&ClusterState) -> Result<(Vec<Entry>, T), E> + Send + 'static,
        then: impl FnOnce(&ClusterState, &[Entry]) + Send + 'static,
    ) -> Result<T, ChangeError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (sender, changed) = oneshot::channel();
        let metadata = Arc::clone(self);
        self.env.spawn("metadata change", async move {
            // Whoever asked may have gone; the change stands all the same.
            let _ = sender.send(metadata.write(command, then).await);
        });
        let stopped = || MetaError::Storage("the broker stops".to_owned());
        changed.await.unwrap_or_else(|_| Err(MetadataError::Log(stopped()).into()))
    }

    async fn write<T, E>(
        &self,
        command: impl FnOnce(&ClusterState) -> Result<(Vec<Entry>, T), E>,
        then: impl FnOnce(&ClusterState, &[Entry]),
    ) -> Result<T, ChangeError<E>> {
        let mut writer = self.writer.lock().await;
        let (entries, result) = self.read(command).map_err(ChangeError::Refused)?;
        if entries.is_empty() {
            return Ok(result);
        }
        let bytes = Bytes::from(cluster::encode(&entries));
        self.log.append(writer.next, bytes).await.map_err(MetadataError::from)?;
        writer.next += 1;
        writer.since_snapshot += 1;
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            entries.iter().cloned().for_each(|entry| state.replay(entry));
            then(&state, &entries);
        }
        self.snapshot_if_due(&mut writer).await;
        Ok(result)
    }

    async fn snapshot_if_due(&self, writer: &mut Writer) {
        if writer.since_snapshot < SNAPSHOT_ENTRIES {
            return;
        }
        let state = Bytes::from(cluster::encode(&self.read(ClusterState::snapshot)));
        let snapshot = MetaSnapshot { upto: writer.next - 1, state };
        match self.log.snapshot(snapshot).await {
            Ok(()) => writer.since_snapshot = 0,
            // The change itself is durable; the next one tries again.
            Err(error) => warn!(%error, "no snapshot of the metadata"),
        }
    }
}

pub(crate) fn replay(state: &mut ClusterState, at: u64, bytes: &[u8]) -> Result<(), MetadataError> {
    let entries = cluster::decode(bytes).map_err(|error| MetadataError::Entry { at, error })?;
    entries.into_iter().for_each(|entry| state.replay(entry));
    Ok(())
}

impl TrimSink for Metadata {
    fn publish(&self, trim: Trim) -> BoxFuture<'_, Result<(), MetaError>> {
        let entry = Entry::Trimmed(Trimmed {
            session: trim.session,
            lsn: trim.lsn.0,
            checkpoint: trim.checkpoint.as_str().to_owned(),
        });
        Box::pin(async move {
            let done: Result<(), ChangeError<std::convert::Infallible>> =
                self.write(|_| Ok((vec![entry], ())), |_, _| ()).await;
            match done {
                Ok(()) => Ok(()),
                Err(ChangeError::Refused(never)) => match never {},
                Err(ChangeError::Metadata(MetadataError::Log(error))) => Err(error),
                Err(ChangeError::Metadata(error)) => Err(MetaError::Corrupt(error.to_string())),
            }
        })
    }
}
