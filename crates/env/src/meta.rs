//! The compare-and-append log of cluster metadata, with snapshots.

mod local;

use std::fmt::Debug;

use bytes::Bytes;
use futures_util::future::BoxFuture;

pub use local::LocalMetaLog;

/// Why the metadata log refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Somebody else has written that entry; read it, then try again at the next number.
    #[error("entry {0} of the metadata log is taken")]
    Taken(u64),
    /// What is stored is not what was written.
    #[error("the metadata log is corrupt: {0}")]
    Corrupt(String),
    /// The storage below failed.
    #[error("the metadata log's storage failed: {0}")]
    Storage(String),
}

/// A snapshot: everything up to and including entry `upto`, folded by the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetaSnapshot {
    /// The last entry that the state contains.
    pub upto: u64,
    /// The state, as its owner encoded it.
    pub state: Bytes,
}

/// What [`MetaLog::load`] returns: the newest snapshot, if any, and all entries after it with their
/// numbers, oldest first.
pub type MetaContents = (Option<MetaSnapshot>, Vec<(u64, Bytes)>);

/// Entries are numbered from 1, without gaps. What is returned as appended is durable.
pub trait MetaLog: Debug + Send + Sync {
    /// Writes entry `at`, if it is the next one.
    ///
    /// # Errors
    ///
    /// [`MetaError::Taken`] when there is such an entry.
    fn append(&self, at: u64, entry: Bytes) -> BoxFuture<'_, Result<(), MetaError>>;

    /// The newest snapshot, if any, and all entries after it, oldest first.
    fn load(&self) -> BoxFuture<'_, Result<MetaContents, MetaError>>;

    /// Bytes that were written to the storage since this was opened, in whole blocks where the storage
    /// has such.
    fn written(&self) -> u64;

    /// Stores a snapshot; entries that it covers may be dropped afterwards.
    fn snapshot(&self, snapshot: MetaSnapshot) -> BoxFuture<'_, Result<(), MetaError>>;
}
