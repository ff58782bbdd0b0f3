//! Finding how much of a run of stored batches is whole.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use std::fmt;

use millstream_types::Offset;

use super::check;
use super::error::BatchError;

/// What [`scan()`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The bytes of the prefix that holds whole, valid batches.
    pub valid_bytes: usize,
    /// How many batches it holds.
    pub batches: usize,
    /// The last offset of the last of them.
    pub last_offset: Option<Offset>,
    /// Why it is not longer; `None` when it is all there is.
    pub stopped: Option<ScanStop>,
}

/// Why a scan stopped before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanStop {
    /// The next batch is not whole or not valid.
    Batch(BatchError),
    /// The next batch doesn't start after the last one's end.
    Offset {
        /// Where it starts.
        base_offset: Offset,
    },
}

/// Finds the longest prefix of `run` that is whole batches, with right checksums and with offsets
/// that rise strictly. Records are not looked at.
///
/// Pure: reading a file and cutting it are the caller's, so that a torn write is a test on a slice.
/// A scan of the prefix that a scan has found finds all of it.
#[must_use]
pub fn scan(run: &[u8]) -> Scan {
    let mut found = Scan { valid_bytes: 0, batches: 0, last_offset: None, stopped: None };
    let mut rest = run;
    while !rest.is_empty() {
        match next(rest, found.last_offset) {
            Ok((size, last_offset)) => {
                rest = rest.get(size..).unwrap_or_default();
                found.valid_bytes = found.valid_bytes.saturating_add(size);
                found.batches = found.batches.saturating_add(1);
                found.last_offset = Some(last_offset);
            }
            Err(stop) => {
                found.stopped = Some(stop);
                break;
            }
        }
    }
    found
}

fn next(rest: &[u8], previous: Option<Offset>) -> Result<(usize, Offset), ScanStop> {
    let size = check::size_at(rest).map_err(ScanStop::Batch)?;
    let batch = rest.get(..size).unwrap_or(rest);
    let header = check::open(batch, usize::MAX).map_err(ScanStop::Batch)?;
    let after = previous.map_or(Offset::ZERO, Offset::next);
    // An offset that saturates has run out of numbers: nothing can follow it.
    if header.base_offset < after || previous == Some(Offset(i64::MAX)) {
        return Err(ScanStop::Offset { base_offset: header.base_offset });
    }
    Ok((size, header.last_offset()))
}

impl fmt::Display for ScanStop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch(error) => error.fmt(f),
            Self::Offset { base_offset } => {
                write!(f, "base offset {base_offset} is not after the batch before")
            }
        }
    }
}
