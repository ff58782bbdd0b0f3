//! The seam to the world: clock, randomness, tasks, journal, blobs, metadata log.
//!
//! Above this crate nothing knows a file, a path or a clock. The traits are in [`journal`], [`blob`],
//! [`meta`] and [`world`]. What implements them:
//!
//! * on a local disk: [`FileJournalStore`], [`LocalBlobStore`], [`LocalMetaLog`], put together by
//!   [`DataDir`]. They know the disk as [`disk::Disk`], which is the file system, or memory, or
//!   memory whose power can be cut; so there is one implementation to be tested, not three;
//! * on an object store: [`ObjectBlobStore`];
//! * the machine's clocks and randomness ([`Env::real`]), or those of a test ([`Env::seeded`]).
//!
//! `tests/conformance` is what each of them must do; `tests/power_cut.rs` is what none may lose.
//!
//! Rules that bind every implementation and every caller (DESIGN: "The seam"):
//!
//! * an appended frame is not durable; only [`JournalStatus::durable`] says what is;
//! * positions are given in the order of the calls, at once, without waiting;
//! * nothing is rolled back but by the end of a session; there is no truncate;
//! * names of blobs and numbers of sessions are never used again.

pub mod blob;
pub mod core_dumps;
pub mod data_dir;
pub mod disk;
pub mod file_journal;
pub mod journal;
pub mod meta;
pub mod open_files;
pub mod quiet;
pub mod reserve;
pub mod world;

mod util;

pub use blob::{BlobError, BlobName, BlobStore, Created, LocalBlobStore, ObjectBlobStore, Space};
pub use data_dir::{DataDir, DataDirError, Flaw, Manifest, RestoreError};
pub use file_journal::{
    Damage, Durability, FileJournalStore, JournalCopy, JournalSettings, JournalStats, Surveyed,
};
pub use journal::{
    FrameAt, Journal, JournalError, JournalState, JournalStatus, JournalStore, Listener, Recovered,
};
pub use meta::{LocalMetaLog, MetaContents, MetaError, MetaLog, MetaSnapshot};
pub use quiet::Quiet;
pub use reserve::Reserve;
pub use util::Dice;
pub use world::{Clock, Env, HandClock, Random, Spawn};
