//! Record batches, format version 2: what clients produce, what is stored, what is fetched.
//!
//! ```text
//! offset  size  field
//!      0     8  base offset              assigned by the log
//!      8     4  batch length             bytes after this field: whole batch less 12
//!     12     4  partition leader epoch   assigned by the log
//!     16     1  magic                    2
//!     17     4  checksum                 CRC32C of everything from the attributes on
//!     21     2  attributes               see [`Attributes`]
//!     23     4  last offset delta        last offset less base offset, also after compaction
//!     27     8  base timestamp           ms; records hold differences from it
//!     35     8  max timestamp            ms; the append time under log-append time
//!     43     8  producer id              -1: none
//!     51     2  producer epoch           -1: none
//!     53     4  base sequence            -1: none
//!     57     4  record count
//!     61        records, back to back; as one compressed stream if the attributes say so
//! ```
//!
//! All integers are big-endian. The checksum leaves out base offset, length, leader epoch and
//! magic, so that the log can assign the first sixteen bytes without touching the rest.
//!
//! Laws, each a test in `tests/batch_laws.rs` unless another place is named:
//!
//! * *Total*: every byte string decodes to a value or to an error; memory and work are bounded by
//!   the bytes that are there and, for compressed batches, by the caller's limit.
//! * *Round trip*: decoding what was encoded gives it back, header and records alike.
//! * *Canonical header*: encoding a decoded header gives the same bytes. Records may use longer
//!   varints than needed; they are read, and kept as they are.
//! * *Truncation*: every proper prefix of a batch is [`BatchError::Truncated`].
//! * *Checksum*: each flipped bit from the checksum on is [`BatchError::Crc`]; assigning offset and
//!   epoch leaves the checksum valid.
//! * *Maximum timestamp*: after a walk, the header's is the true one.
//! * *Scan*: [`scan()`] finds the longest prefix of whole, valid batches whose offsets rise
//!   strictly; scanning that prefix again finds all of it.
//! * *Repeated header keys* are kept, in order.
//! * *Agreement*: a slow second decoder in `testkit` agrees; so do real clients (`tests/golden`).

mod check;
mod error;
mod header;
mod lookup;
mod retain;
mod scan;
mod stored;
mod valid;

pub use check::{Check, Origin, TimestampBounds};
pub use error::{BatchError, RecordFault};
pub use header::{ASSIGNED_SIZE, Attributes, BatchHeader, HEADER_SIZE, MAGIC, TimestampType};
pub use retain::{Horizon, Retained};
pub use scan::{Scan, ScanStop, scan};
pub use stored::{Split, StoredBatch, split};
pub use valid::ValidBatch;
pub(crate) use valid::seal;
