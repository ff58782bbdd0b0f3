//! Batches as they are stored and served, and the cutting of runs of batches.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use bytes::Bytes;
use millstream_types::DecodeError;

use super::check;
use super::error::BatchError;
use super::header::{ASSIGNED_SIZE, BatchHeader, HEADER_SIZE};
use super::valid;
use crate::record::Records;

/// A batch with its offsets and epoch assigned, as it is stored and served: sixteen bytes of our
/// own, then what the client sent, untouched and uncopied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// Base offset, batch length and leader epoch, encoded.
    pub assigned: [u8; ASSIGNED_SIZE],
    /// Everything from the magic byte on.
    pub rest: Bytes,
}

impl StoredBatch {
    /// Takes the one batch in `bytes` apart, without a copy. Format version, length, checksum and
    /// the range of the counts are checked; the records are not.
    ///
    /// # Errors
    ///
    /// The first of those that is wrong.
    pub fn from_bytes(bytes: Bytes) -> Result<Self, BatchError> {
        check::open(&bytes, usize::MAX)?;
        let assigned =
            *bytes.first_chunk().ok_or(BatchError::Truncated { field: "leader_epoch" })?;
        Ok(Self { assigned, rest: bytes.slice(ASSIGNED_SIZE..) })
    }

    /// The whole batch's bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.rest.len().saturating_add(ASSIGNED_SIZE)
    }

    /// Decodes the header. Allocates nothing.
    ///
    /// # Errors
    ///
    /// As [`BatchHeader::decode`]; never for a batch that came from [`StoredBatch::from_bytes`] or
    /// [`super::ValidBatch::assign`].
    pub fn header(&self) -> Result<BatchHeader, DecodeError> {
        let mut head = [0; HEADER_SIZE];
        let there = self.assigned.iter().chain(self.rest.iter());
        let copied = head.iter_mut().zip(there).fold(0_usize, |count, (to, from)| {
            *to = *from;
            count.saturating_add(1)
        });
        BatchHeader::decode(head.get(..copied).unwrap_or_default())
    }

    /// The bytes of the batch in order, for a vectored write.
    #[must_use]
    pub fn segments(&self) -> [&[u8]; 2] {
        [&self.assigned, &self.rest]
    }

    /// The bytes of the batch in one piece: a copy.
    #[must_use]
    pub fn to_bytes(&self) -> Bytes {
        self.segments().concat().into()
    }

    /// The records, decompressed to at most `limit` bytes if they are compressed, else without a
    /// copy.
    ///
    /// # Errors
    ///
    /// [`BatchError::Compression`] when they don't decompress within the limit, and what a wrong
    /// header gives.
    pub fn records(&self, limit: usize) -> Result<Records, BatchError> {
        let header =
            self.header().map_err(|error| BatchError::Truncated { field: error.field() })?;
        let body = HEADER_SIZE.saturating_sub(ASSIGNED_SIZE).min(self.rest.len());
        valid::records(&header, self.rest.slice(body..), limit)
    }
}

/// Cuts a run of batches (the records field of a Produce request or of a Fetch response) into its
/// batches, without copying and without looking at more than lengths and format versions. Ends
/// after the first error.
///
/// A Fetch response may end inside a batch: its reader takes a last [`BatchError::Truncated`] for
/// the end.
#[must_use]
pub fn split(records: &Bytes) -> Split {
    Split { rest: records.clone() }
}

/// The batches of a run; see [`split`].
#[derive(Clone, Debug)]
pub struct Split {
    rest: Bytes,
}

impl Iterator for Split {
    type Item = Result<Bytes, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let item = match check::size_at(&self.rest) {
            Ok(size) if size <= self.rest.len() => Ok(self.rest.split_to(size)),
            Ok(_) => Err(BatchError::Truncated { field: "records" }),
            Err(error) => Err(error),
        };
        if item.is_err() {
            self.rest.clear();
        }
        Some(item)
    }
}

impl std::iter::FusedIterator for Split {}
