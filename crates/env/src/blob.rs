//! Immutable bytes under names that are never used again.

mod local;
mod object;

use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

pub use crate::disk::Space;
pub use local::LocalBlobStore;
pub use object::ObjectBlobStore;

/// The name of a blob: segments of `[a-z0-9A-Z_-]` joined by slashes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlobName(Arc<str>);

/// What [`BlobStore::create`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The blob is there now and was not before.
    New,
    /// There was a blob of that name; it is unchanged.
    Exists,
}

/// Why a blob could not be had.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// There is no blob of that name.
    #[error("no blob is named {0}")]
    NotFound(BlobName),
    /// The store has no room. Nothing was created.
    #[error("the store is full")]
    Full,
    /// The storage below failed.
    #[error("the store failed on {name}: {why}")]
    Storage {
        /// What was being read or written.
        name: BlobName,
        /// What the storage said.
        why: String,
    },
}

/// A store of blobs. What it returns as created is durable.
pub trait BlobStore: Debug + Send + Sync {
    /// Stores `body` under `name` unless there is such a blob. Readers see all of it or nothing.
    fn create(&self, name: BlobName, body: Vec<Bytes>)
    -> BoxFuture<'_, Result<Created, BlobError>>;

    /// Stores what `body` yields, piece by piece, under a name that is certainly new.
    fn upload(
        &self,
        name: BlobName,
        body: BoxStream<'static, Result<Bytes, BlobError>>,
    ) -> BoxFuture<'_, Result<u64, BlobError>>;

    /// Reads a range of bytes, or all. A range past the end is cut there.
    fn get(
        &self,
        name: BlobName,
        range: Option<Range<u64>>,
    ) -> BoxFuture<'_, Result<Bytes, BlobError>>;

    /// Has later reads of a blob come from the medium, as far as anything in between keeps a copy: what was
    /// read of it does not look like what was written. Best effort.
    fn forget(&self, name: &BlobName) -> BoxFuture<'_, ()> {
        let _ = name;
        Box::pin(std::future::ready(()))
    }

    /// Makes blobs durable that a store lists, and whose creation may have been interrupted: for whoever refers to
    /// what [`list`](Self::list) has found, and not to what [`create`](Self::create) or
    /// [`upload`](Self::upload) has returned.
    fn sync(&self, names: Vec<BlobName>) -> BoxFuture<'_, Result<(), BlobError>> {
        let _ = names;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Gives back memory that is kept for the next reads and writes, as far as the last ones did without it. To be
    /// called now and then.
    fn trim(&self) {}

    /// The names that start with `prefix`, in order, with their sizes in bytes.
    fn list(&self, prefix: &str) -> BoxFuture<'_, Result<Vec<(BlobName, u64)>, BlobError>>;

    /// How much room there is for blobs and whatever else lies beside them; `None` where nobody can
    /// say, or there is no bound.
    fn space(&self) -> BoxFuture<'_, Result<Option<Space>, BlobError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Removes blobs; a missing one is no error.
    fn delete(&self, names: Vec<BlobName>) -> BoxFuture<'_, Result<(), BlobError>>;
}

impl BlobName {
    /// A name, or `None` when it is empty or holds other than `[a-z0-9A-Z_-]` and single slashes
    /// between them.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
        name.split('/')
            .all(|part| !part.is_empty() && part.bytes().all(legal))
            .then(|| Self(name.into()))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Debug for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
