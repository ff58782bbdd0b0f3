//! The checkpoints that recovery would start from: a whole one, and what has changed since, each time
//! it was written down.
//!
//! The newest names all before it, so that the metadata log names only that one. A partition's state
//! is what the newest of them says that has it. When the deltas have grown as large as the whole one,
//! or are many, the next checkpoint is whole again: what is written for checkpoints stays in
//! proportion to what changes, and what a start reads to what there is.

use std::collections::BTreeSet;

use bytes::Bytes;
use millstream_env::{BlobName, BlobStore};
use millstream_record::checkpoint::{CHUNK_HEAD_SIZE, CheckpointHeader, ChunkHead, PartitionImage};
use millstream_record::file::FILE_HEADER_SIZE;
use millstream_types::{ClusterId, DecodeError, Lsn, PartitionId};

use crate::error::OpenError;
use crate::settings::{LogSettings, Trim};

/// How much of a checkpoint is read at once, at least, in bytes.
const READ_BYTES: u64 = 4 * 1024 * 1024;

/// See the module. Empty when there is no checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    /// Oldest first.
    links: Vec<Link>,
}

/// One checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Link {
    name: BlobName,
    bytes: u64,
}

impl Chain {
    /// The blobs' names, oldest first.
    pub(crate) fn names(&self) -> impl Iterator<Item = &BlobName> {
        self.links.iter().map(|link| &link.name)
    }

    /// Whether the next checkpoint should be whole rather than of the `changed` partitions out of
    /// `all`.
    pub(crate) fn wants_whole(&self, changed: usize, all: usize, settings: &LogSettings) -> bool {
        let Some((whole, deltas)) = self.links.split_first() else { return true };
        let grown: u64 = deltas.iter().map(|link| link.bytes).sum();
        whole.bytes <= settings.checkpoint_whole_bytes
            || self.links.len() >= settings.checkpoint_chain_max
            || grown >= whole.bytes
            || changed.saturating_mul(2) >= all
    }

    /// Adds a delta.
    pub(crate) fn push(&mut self, name: BlobName, bytes: u64) {
        self.links.push(Link { name, bytes });
    }

    /// Starts again from a whole one. Returns the blobs that are no longer needed.
    pub(crate) fn replace(&mut self, name: BlobName, bytes: u64) -> Vec<BlobName> {
        let former = std::mem::replace(&mut self.links, vec![Link { name, bytes }]);
        former.into_iter().map(|link| link.name).collect()
    }

    /// The names of the checkpoints that this one adds to, oldest first. Only this one is read.
    ///
    /// # Errors
    ///
    /// [`OpenError`] when it can't be read.
    pub(crate) async fn former(
        store: &dyn BlobStore,
        cluster: ClusterId,
        newest: BlobName,
    ) -> Result<Vec<BlobName>, OpenError> {
        Ok(Opened::open(store, cluster, newest).await?.former)
    }

    /// Reads the checkpoint that `trim` names, and those that it adds to: hands each partition's newest
    /// state to `take`, in no particular order. `applied` is 0 in what another session has written.
    ///
    /// # Errors
    ///
    /// [`OpenError`] of one that can't be read or is not what it should be, or of `take`.
    pub(crate) async fn load(
        store: &dyn BlobStore,
        cluster: ClusterId,
        trim: &Trim,
        mut take: impl FnMut(PartitionImage) -> Result<(), OpenError>,
    ) -> Result<Self, OpenError> {
        let newest = Opened::open(store, cluster, trim.checkpoint.clone()).await?;
        if (newest.header.session, newest.header.lsn) != (trim.session, trim.lsn) {
            return Err(newest.reader.wrong("it is not what the metadata log says"));
        }
        let mut links = Vec::new();
        let mut seen = BTreeSet::new();
        let mut former = newest.former.clone();
        let mut next = Some(newest);
        while let Some(mut opened) = next {
            let name = opened.reader.name.clone();
            let is_own = opened.header.session == trim.session;
            opened.states(&mut seen, is_own, &mut take).await?;
            links.push(Link { name, bytes: opened.reader.position });
            next = None;
            if let Some(before) = former.pop() {
                let found = Opened::open(store, cluster, before).await?;
                // Each names all that were before it: anything else is of another chain.
                if found.former != former {
                    return Err(found.reader.wrong("it is not what a later checkpoint adds to"));
                }
                next = Some(found);
            }
        }
        links.reverse();
        Ok(Self { links })
    }
}

/// A checkpoint that is being read.
struct Opened<'a> {
    reader: Reader<'a>,
    header: CheckpointHeader,
    former: Vec<BlobName>,
}

impl<'a> Opened<'a> {
    async fn open(
        store: &'a dyn BlobStore,
        cluster: ClusterId,
        name: BlobName,
    ) -> Result<Self, OpenError> {
        let mut reader = Reader { store, name, position: 0, window: Bytes::new() };
        let head = reader.take(FILE_HEADER_SIZE).await?;
        let header = CheckpointHeader::decode(&head);
        let header = header.map_err(|error| reader.wrong(&error.to_string()))?;
        if header.cluster != cluster {
            return Err(reader.wrong("it belongs to another cluster"));
        }
        let mut former = Vec::new();
        if header.is_delta {
            let head = reader.chunk_head().await?;
            let body = reader.take(head.len as usize).await?;
            for name in head.former(&body).map_err(|error| reader.invalid(error))? {
                let name = BlobName::new(&name);
                former.push(name.ok_or_else(|| reader.wrong("it adds to an impossible name"))?);
            }
        }
        Ok(Self { reader, header, former })
    }

    /// Hands over the states of partitions that are not in `seen`, and adds those.
    async fn states(
        &mut self,
        seen: &mut BTreeSet<PartitionId>,
        is_own: bool,
        take: &mut impl FnMut(PartitionImage) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let mut count: u64 = 0;
        loop {
            let head = self.reader.chunk_head().await?;
            let body = self.reader.take(head.len as usize).await?;
            let images = head.images(&self.header, &body);
            for mut image in images.map_err(|error| self.reader.invalid(error))? {
                count += 1;
                if !is_own {
                    // Positions of different sessions are not comparable.
                    image.applied = Lsn(0);
                }
                if seen.insert(image.id) {
                    take(image)?;
                }
            }
            if head.len == 0 {
                let whole = count == u64::from(head.partitions);
                return if whole { Ok(()) } else { Err(self.reader.wrong("states are missing")) };
            }
        }
    }
}

/// Reads a blob front to back, in large pieces.
struct Reader<'a> {
    store: &'a dyn BlobStore,
    name: BlobName,
    position: u64,
    window: Bytes,
}

impl Reader<'_> {
    /// The next `bytes` bytes.
    async fn take(&mut self, bytes: usize) -> Result<Bytes, OpenError> {
        if self.window.len() < bytes {
            let want = READ_BYTES.max(bytes as u64);
            let range = self.position..self.position.saturating_add(want);
            self.window = self.store.get(self.name.clone(), Some(range)).await?;
        }
        if self.window.len() < bytes {
            return Err(self.wrong("it is too short"));
        }
        self.position += bytes as u64;
        Ok(self.window.split_to(bytes))
    }

    async fn chunk_head(&mut self) -> Result<ChunkHead, OpenError> {
        let head = self.take(CHUNK_HEAD_SIZE).await?;
        ChunkHead::decode(&head).map_err(|error| self.invalid(error))
    }

    fn wrong(&self, why: &str) -> OpenError {
        OpenError::Checkpoint(format!("{}: {why}", self.name))
    }

    fn invalid(&self, error: DecodeError) -> OpenError {
        self.wrong(&error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(bytes: &[u64], (changed, all): (usize, usize), is_whole: bool) {
        let settings = LogSettings {
            checkpoint_whole_bytes: 100,
            checkpoint_chain_max: 4,
            ..LogSettings::default()
        };
        let name = BlobName::new("checkpoint/one").expect("a name");
        let mut chain = Chain::default();
        for bytes in bytes {
            chain.push(name.clone(), *bytes);
        }
        assert_eq!(chain.wants_whole(changed, all, &settings), is_whole, "{bytes:?} {changed}");
    }

    #[test]
    fn deltas_are_written_while_they_are_small_and_few() {
        check(&[], (0, 10), true);
        // What is small is written whole.
        check(&[100], (1, 10), true);
        check(&[101], (1, 10), false);
        check(&[101], (4, 10), false);
        check(&[101], (5, 10), true);
        check(&[101, 50, 50], (1, 10), false);
        check(&[101, 50, 51], (1, 10), true);
        check(&[500, 1, 1, 1], (1, 10), true);
    }
}
