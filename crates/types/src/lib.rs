//! Identifiers, numbers with types, limits, and the byte cursor that every decoder is built on.
//!
//! Pure: no clock, no randomness, no IO, no dependencies. Everything else in the project stands on
//! this crate, so that what is an offset, an epoch or a time is said once.

pub mod cursor;
pub mod limits;
pub mod varint;

mod id;
mod number;
mod principal;

pub use cursor::{Cursor, DecodeError};
pub use id::{BrokerId, ClusterId, PartitionId, SessionId, TopicId, Uuid};
pub use number::{LeaderEpoch, Lsn, Monotonic, Offset, ProducerEpoch, ProducerId, Timestamp};
pub use principal::{Principal, is_reserved};
