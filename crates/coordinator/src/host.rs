//! What coordinators of every kind share with their host: records of an internal topic, the
//! partition that keeps them, and what the host could not do.

use std::fmt;

use bytes::Bytes;
use millstream_wire::DecodeError;

/// The longest text that a record can hold, in bytes. Coordinators take in no longer ones.
pub(crate) const TEXT_LEN_MAX: usize = i16::MAX as usize;

/// A record to append to the shard's partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecord {
    /// Compaction keeps the newest record of a key.
    pub key: Bytes,
    /// `None` forgets the key.
    pub value: Option<Bytes>,
}

/// A record that no coordinator of this or an earlier version writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplayError(pub DecodeError);

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a coordinator's record cannot be read: {}", self.0)
    }
}

impl std::error::Error for ReplayError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

/// The coordinator's host could not store what the reply depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostFailure {
    /// This node is not, or no longer, the coordinator: look it up again.
    NotCoordinator,
    /// Not now: try again.
    Unavailable,
    /// The record is larger than the log takes.
    TooLarge,
}

/// The partition of an internal topic that keeps what is known of `id`, a group or a transactional
/// id, when there are `partitions`: the hash that Java gives to a string, which clients and tools
/// may compute, too.
#[must_use]
pub fn partition_of(id: &str, partitions: i32) -> i32 {
    let hash = id
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    (hash & i32::MAX).checked_rem(partitions).unwrap_or(0)
}
