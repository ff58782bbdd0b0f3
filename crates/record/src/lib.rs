//! What is stored: record batches, compressions, journal frames, segments. Bytes in, values out.
//!
//! Pure: no IO, no clock, no logging. Decoding is total: no input makes it panic, allocate without
//! bound or loop. The bytes that a client sent are the bytes on disk and the bytes fetched; only
//! base offset, leader epoch, and what log-append time or a topic's compression require, change.

pub mod batch;
pub mod builder;
pub mod checkpoint;
pub mod compression;
pub mod control;
pub mod file;
pub mod frame;
pub mod index;
pub mod journal;
pub mod layout;
pub mod meta;
pub mod record;
pub mod run;
pub mod segment;

mod checksum;
mod fixed;

pub use batch::{
    Attributes, BatchError, BatchHeader, Check, StoredBatch, TimestampType, ValidBatch,
};
pub use builder::BatchBuilder;
pub use checksum::{Crc, crc32c};
pub use compression::Compression;
pub use record::{Header, Record, Records};
