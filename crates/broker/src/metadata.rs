//! The cluster's metadata as it runs: one writer over the metadata log, many readers.

use std::fmt;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use millstream_coordinator::cluster::{self, ClusterState, Entry, EntryError, Trimmed};
use millstream_env::meta::MetaSnapshot;
use millstream_env::{Env, MetaError, MetaLog, Reserve};
use millstream_log::{Trim, TrimSink};
use millstream_types::SessionId;
use tokio::sync::{Mutex, oneshot};
use tracing::{info, warn};

/// Entries between two snapshots: what a start reads at most, apart from the snapshot.
const SNAPSHOT_ENTRIES: u64 = 1_000;
/// The same while the disk is full: each entry takes a block of what is set aside for that time, until
/// a snapshot gives it back.
const SNAPSHOT_ENTRIES_LOW: u64 = 50;

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
pub(crate) struct Metadata {
    env: Env,
    log: Arc<dyn MetaLog>,
    reserve: Arc<Reserve>,
    state: RwLock<ClusterState>,
    /// Held while a change is on its way; knows what to write next.
    writer: Mutex<Writer>,
    follower: OnceLock<Follower>,
}

/// Who does what entries say, once the state has them. Runs under the state's lock.
type Follower = Box<dyn Fn(&ClusterState, &[Entry]) + Send + Sync>;

#[derive(Debug)]
struct Writer {
    next: u64,
    since_snapshot: u64,
    /// Whether an append failed since the log was read: nobody knows then what it holds.
    in_doubt: bool,
}

impl Metadata {
    /// Reads what `log` holds, which lies in `space`.
    pub(crate) async fn open(
        env: Env,
        log: Arc<dyn MetaLog>,
        reserve: Arc<Reserve>,
    ) -> Result<Arc<Self>, MetadataError> {
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
        let writer = Mutex::new(Writer { next, since_snapshot, in_doubt: false });
        let (state, follower) = (RwLock::new(state), OnceLock::new());
        Ok(Arc::new(Self { env, log, reserve, state, writer, follower }))
    }

    /// Has `follower` do what entries say from now on, before anybody else can change anything. Only
    /// the first call counts.
    pub(crate) fn follow_by(
        &self,
        follower: impl Fn(&ClusterState, &[Entry]) + Send + Sync + 'static,
    ) {
        // There is one broker to each metadata log.
        let _ = self.follower.set(Box::new(follower));
    }

    /// Looks at the state. `look` must not wait for anything.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The newest session, and the number of the entry that comes next.
    pub(crate) async fn end(&self) -> (SessionId, u64) {
        let writer = self.writer.lock().await;
        (self.read(ClusterState::session), writer.next)
    }

    /// Runs `command` on the state, makes its entries durable, replays them, and lets the follower
    /// see them before anybody else can change anything.
    ///
    /// All of it is a task of its own: a caller that goes away (a client that disconnects) must not
    /// leave an entry in the log that the state has not seen.
    pub(crate) async fn change<T, E>(
        self: &Arc<Self>,
        command: impl FnOnce(&ClusterState) -> Result<(Vec<Entry>, T), E> + Send + 'static,
    ) -> Result<T, ChangeError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (sender, changed) = oneshot::channel();
        let metadata = Arc::clone(self);
        self.env.spawn("metadata change", async move {
            // Whoever asked may have gone; the change stands all the same.
            let _ = sender.send(metadata.write(command).await);
        });
        let stopped = || MetaError::Storage("the broker stops".to_owned());
        changed.await.unwrap_or_else(|_| Err(MetadataError::Log(stopped()).into()))
    }

    async fn write<T, E>(
        &self,
        command: impl FnOnce(&ClusterState) -> Result<(Vec<Entry>, T), E>,
    ) -> Result<T, ChangeError<E>> {
        let mut writer = self.writer.lock().await;
        if writer.in_doubt {
            self.catch_up(&mut writer).await?;
        }
        let (entries, result) = self.read(command).map_err(ChangeError::Refused)?;
        if entries.is_empty() {
            return Ok(result);
        }
        let (at, bytes) = (writer.next, Bytes::from(cluster::encode(&entries)));
        match self.log.append(at, bytes.clone()).await {
            Ok(()) => {
                writer.next += 1;
                writer.since_snapshot += 1;
                self.replay(entries);
            }
            Err(error) => {
                // A write that failed may be there all the same: only reading it again tells.
                writer.in_doubt = true;
                warn!(entry = at, %error, "a change of the metadata failed; reading them again");
                if !self.catch_up(&mut writer).await?.contains(&(at, bytes)) {
                    return Err(MetadataError::from(error).into());
                }
                info!(entry = at, "the change of the metadata is there after all");
            }
        }
        self.snapshot_if_due(&mut writer).await;
        Ok(result)
    }

    /// Reads the log again, and does what entries say that the state has not seen. Returns those.
    async fn catch_up(&self, writer: &mut Writer) -> Result<Vec<(u64, Bytes)>, MetadataError> {
        let (snapshot, entries) = self.log.load().await?;
        let covered = snapshot.map_or(0, |snapshot| snapshot.upto);
        let end = entries.last().map_or(covered, |(at, _)| *at) + 1;
        if end < writer.next || covered >= writer.next {
            let next = writer.next;
            let why = format!("it ends before entry {end}, and this node has come to {next}");
            return Err(MetaError::Corrupt(why).into());
        }
        let unseen: Vec<_> = entries.into_iter().filter(|(at, _)| *at >= writer.next).collect();
        for (at, bytes) in &unseen {
            self.replay(decode(*at, bytes)?);
            writer.next = at + 1;
            writer.since_snapshot += 1;
        }
        writer.in_doubt = false;
        Ok(unseen)
    }

    /// Changes the state by entries that are durable.
    fn replay(&self, entries: Vec<Entry>) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        entries.iter().cloned().for_each(|entry| state.replay(entry));
        if let Some(follow) = self.follower.get() {
            follow(&state, &entries);
        }
    }

    async fn snapshot_if_due(&self, writer: &mut Writer) {
        let is_low = self.reserve.is_low();
        if writer.since_snapshot < if is_low { SNAPSHOT_ENTRIES_LOW } else { SNAPSHOT_ENTRIES } {
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
    decode(at, bytes)?.into_iter().for_each(|entry| state.replay(entry));
    Ok(())
}

fn decode(at: u64, bytes: &[u8]) -> Result<Vec<Entry>, MetadataError> {
    cluster::decode(bytes).map_err(|error| MetadataError::Entry { at, error })
}

impl TrimSink for Metadata {
    fn publish(&self, trim: Trim) -> BoxFuture<'_, Result<(), MetaError>> {
        let entry = Entry::Trimmed(Trimmed {
            session: trim.session,
            lsn: trim.lsn.0,
            checkpoint: trim.checkpoint.as_str().to_owned(),
        });
        Box::pin(async move {
            // A log that went on after its session would name a journal that may be gone.
            let command = |state: &ClusterState| match state.session() {
                session if session == trim.session => Ok((vec![entry], ())),
                session => Err(session),
            };
            match self.write(command).await {
                Ok(()) => Ok(()),
                Err(ChangeError::Refused(now)) => {
                    let why = format!("session {} is over, it is {now} now", trim.session);
                    Err(MetaError::Storage(why))
                }
                Err(ChangeError::Metadata(MetadataError::Log(error))) => Err(error),
                Err(ChangeError::Metadata(error)) => Err(MetaError::Corrupt(error.to_string())),
            }
        })
    }
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").field("log", &self.log).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use millstream_env::{BlobName, DataDir};
    use millstream_types::{Lsn, SessionId};

    use super::*;

    /// A log that went on after its session would name a journal that the next one may have trimmed.
    #[tokio::test]
    async fn a_checkpoint_of_a_session_that_is_over_does_not_count() {
        let (env, _) = Env::seeded(1);
        let dir = DataDir::in_memory(env.clone()).expect("a directory");
        let metadata = Metadata::open(env, dir.meta(), dir.reserve()).await.expect("opens");
        let checkpoint = BlobName::new("checkpoint/one").expect("a name");
        let trim = |session| Trim { session, lsn: Lsn(7), checkpoint: checkpoint.clone() };
        for session in [1, 2].map(SessionId) {
            let opened: Result<(), ChangeError<Infallible>> =
                metadata.change(|state| Ok((vec![state.open_session()], ()))).await;
            opened.expect("a session");
            metadata.publish(trim(session)).await.expect("it is the session of now");
        }
        metadata.publish(trim(SessionId(1))).await.expect_err("it is over");
        let trimmed = metadata.read(|state| state.trimmed().map(|trimmed| trimmed.session));
        assert_eq!(trimmed, Some(SessionId(2)));
    }
}
