//! The index of a run: by offset, by time, and of aborted transactions.
//!
//! ```text
//! 0  entries   u32
//! 4  aborted   u32
//! 8  entries:  offset i64 | position u64 | max timestamp i64
//!    aborted:  producer i64 | first offset i64 | last offset i64
//! ```
//!
//! An entry stands for the batches from its position up to the next entry's. `offset` is the base
//! offset of the first of them, `position` counts bytes from the run's first batch, `max timestamp`
//! is the largest of the run up to and including this entry's batches, so that it never falls: the
//! first batch that reaches a time lies in the first entry that does. The checksum (CRC-32C over all
//! of it) lies in the [`Run`](crate::run::Run), because whoever reads an index has that first.

use millstream_types::{Cursor, DecodeError, Offset, ProducerId, Timestamp};

/// An index has an entry for every so many bytes of batches.
pub const INDEX_INTERVAL_BYTES: u64 = 16 * 1024;

const HEAD_SIZE: usize = 8;
const ENTRY_SIZE: usize = 24;
const ABORTED_SIZE: usize = 24;

/// Where some batches of a run start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The base offset of the first of them.
    pub offset: Offset,
    /// Its first byte, counted from the run's first byte.
    pub position: u64,
    /// The largest timestamp in the run from its start to the end of these batches.
    pub max_timestamp: Timestamp,
}

/// A transaction that was aborted: readers of committed data skip its records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AbortedTxn {
    /// Who wrote it.
    pub producer: ProducerId,
    /// The offset of its first record in the partition.
    pub first: Offset,
    /// The offset of its abort marker.
    pub last: Offset,
}

/// A run's index, decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunIndex {
    entries: Vec<IndexEntry>,
    aborted: Vec<AbortedTxn>,
}

/// What a batch's place in a run says to the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The batch's first offset.
    pub base: Offset,
    /// The batch's last offset.
    pub last: Offset,
    /// Its largest timestamp.
    pub max_timestamp: Timestamp,
    /// Its size as stored, in bytes.
    pub size: u64,
}

impl RunIndex {
    /// Notes a batch that starts `position` bytes into the run; batches come in order.
    pub fn push(&mut self, position: u64, place: &Place) {
        let max = self
            .entries
            .last()
            .map_or(place.max_timestamp, |last| last.max_timestamp.max(place.max_timestamp));
        match self.entries.last_mut() {
            Some(last) if position.saturating_sub(last.position) < INDEX_INTERVAL_BYTES => {
                last.max_timestamp = max;
            }
            _ => self.entries.push(IndexEntry { offset: place.base, position, max_timestamp: max }),
        }
    }

    /// Adds the transactions whose abort markers lie in the run.
    pub fn set_aborted(&mut self, aborted: Vec<AbortedTxn>) {
        self.aborted = aborted;
    }

    /// The entries, by offset.
    #[must_use]
    pub fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The transactions whose abort markers lie in the run, by marker.
    #[must_use]
    pub fn aborted(&self) -> &[AbortedTxn] {
        &self.aborted
    }

    /// The last entry at or before `offset`: a batch that holds it starts there or later.
    #[must_use]
    pub fn floor(&self, offset: Offset) -> Option<&IndexEntry> {
        let after = self.entries.partition_point(|entry| entry.offset <= offset);
        self.entries.get(after.checked_sub(1)?)
    }

    /// The first entry whose batches reach `time`: no earlier batch of the run does.
    #[must_use]
    pub fn reaching(&self, time: Timestamp) -> Option<&IndexEntry> {
        self.entries.get(self.entries.partition_point(|entry| entry.max_timestamp < time))
    }

    /// How many bytes [`RunIndex::encode`] appends.
    #[must_use]
    pub fn encoded_size(&self) -> usize {
        HEAD_SIZE + self.entries.len() * ENTRY_SIZE + self.aborted.len() * ABORTED_SIZE
    }

    /// Appends the encoded index to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_be_bytes();
        out.extend_from_slice(&count(self.entries.len()));
        out.extend_from_slice(&count(self.aborted.len()));
        for entry in &self.entries {
            out.extend_from_slice(&entry.offset.0.to_be_bytes());
            out.extend_from_slice(&entry.position.to_be_bytes());
            out.extend_from_slice(&entry.max_timestamp.0.to_be_bytes());
        }
        for txn in &self.aborted {
            out.extend_from_slice(&txn.producer.0.to_be_bytes());
            out.extend_from_slice(&txn.first.0.to_be_bytes());
            out.extend_from_slice(&txn.last.0.to_be_bytes());
        }
    }

    /// Reads a whole index; what follows it is refused.
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when the bytes end early or go on, or when offsets or positions do not rise.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(bytes);
        let entries_len = cursor.u32("index.entries")? as usize;
        let aborted_len = cursor.u32("index.aborted")? as usize;
        let size = entries_len
            .checked_mul(ENTRY_SIZE)
            .zip(aborted_len.checked_mul(ABORTED_SIZE))
            .and_then(|(entries, aborted)| entries.checked_add(aborted));
        // Nothing is allocated for a count that the bytes can't hold.
        if size.is_none_or(|size| size > cursor.remaining()) {
            return Err(DecodeError::Truncated { field: "index.entries" });
        }
        let mut index = Self {
            entries: Vec::with_capacity(entries_len),
            aborted: Vec::with_capacity(aborted_len),
        };
        for _ in 0..entries_len {
            let entry = IndexEntry {
                offset: Offset(cursor.i64("index.offset")?),
                position: cursor.u64("index.position")?,
                max_timestamp: Timestamp(cursor.i64("index.max_timestamp")?),
            };
            let rises = index.entries.last().is_none_or(|last| {
                last.offset < entry.offset
                    && last.position < entry.position
                    && last.max_timestamp <= entry.max_timestamp
            });
            if !rises {
                return Err(DecodeError::Invalid { field: "index.offset" });
            }
            index.entries.push(entry);
        }
        for _ in 0..aborted_len {
            index.aborted.push(AbortedTxn::decode(&mut cursor)?);
        }
        if !cursor.is_empty() {
            return Err(DecodeError::Invalid { field: "index" });
        }
        Ok(index)
    }
}

impl AbortedTxn {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when the bytes end early, [`DecodeError::Invalid`] when its first
    /// offset lies after its last.
    pub fn decode(cursor: &mut Cursor<'_>) -> Result<Self, DecodeError> {
        let txn = Self {
            producer: ProducerId(cursor.i64("aborted.producer")?),
            first: Offset(cursor.i64("aborted.first")?),
            last: Offset(cursor.i64("aborted.last")?),
        };
        if txn.first > txn.last {
            return Err(DecodeError::Invalid { field: "aborted.first" });
        }
        Ok(txn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(batches: &[(i64, u64, i64)]) -> RunIndex {
        let mut index = RunIndex::default();
        let mut position = 0;
        for &(base, size, time) in batches {
            let place = Place {
                base: Offset(base),
                last: Offset(base),
                max_timestamp: Timestamp(time),
                size,
            };
            index.push(position, &place);
            position += size;
        }
        index
    }

    #[test]
    fn entries_are_an_interval_apart_and_times_never_fall() {
        let wide = INDEX_INTERVAL_BYTES;
        let index = index(&[(0, 10, 5), (1, wide, 9), (2, wide, 3), (3, 10, 4), (4, 10, 12)]);
        let seen: Vec<_> =
            index.entries().iter().map(|e| (e.offset.0, e.position, e.max_timestamp.0)).collect();
        assert_eq!(seen, [(0, 0, 9), (2, 10 + wide, 9), (3, 10 + 2 * wide, 12)]);
        for (offset, entry) in [(0, 0), (1, 0), (2, 2), (3, 3), (9, 3)] {
            assert_eq!(index.floor(Offset(offset)).map(|e| e.offset.0), Some(entry));
        }
        assert_eq!(index.floor(Offset(-1)), None);
        for (time, entry) in [(0, Some(0)), (9, Some(0)), (10, Some(3)), (12, Some(3)), (13, None)]
        {
            assert_eq!(index.reaching(Timestamp(time)).map(|e| e.offset.0), entry, "{time}");
        }
    }

    #[test]
    fn decode_reverses_encode_and_refuses_every_cut_and_any_more() {
        let mut index = index(&[(0, INDEX_INTERVAL_BYTES, 5), (1, 9, 6)]);
        index.set_aborted(vec![AbortedTxn {
            producer: ProducerId(7),
            first: Offset(0),
            last: Offset(1),
        }]);
        let mut bytes = Vec::new();
        index.encode(&mut bytes);
        assert_eq!(bytes.len(), index.encoded_size());
        assert_eq!(RunIndex::decode(&bytes), Ok(index));
        for cut in 0..bytes.len() {
            assert!(matches!(RunIndex::decode(&bytes[..cut]), Err(DecodeError::Truncated { .. })));
        }
        bytes.push(0);
        assert_eq!(RunIndex::decode(&bytes), Err(DecodeError::Invalid { field: "index" }));
    }
}
