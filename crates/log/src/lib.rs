//! The storage engine: one journal for all partitions, a tail in memory, segments behind.
//!
//! The life of a batch, by file name: `partition` checks its producer, gives it offsets, puts it into
//! the journal and the `tail`; `state` is what that changes, by the same code in recovery;
//! `durable` makes it visible once the journal says so; `read` serves it; `layout` writes it to a
//! segment or a pack (`plan` says when); `checkpoint` lets the journal forget it (`chain`: by what has
//! changed since the last); `retention` deletes
//! it, and `compaction` what a newer record of its key has replaced; `open` finds it again after a crash.
//!
//! Rules that hold everywhere:
//!
//! * An append is not durable. State moves at append; nobody outside learns of it before
//!   [`Log::wait_durable`] says so, and readers see nothing above the high watermark.
//! * State changes only by applying a frame that is in the journal. There is no truncate.
//! * Lock order: partition, then queues (tail, durable, backlog, changed, blobs, pins). No lock is held over an
//!   await but those of maintenance and of a round of compaction. No two partitions are locked at once.
//! * A blob is deleted only when frames that let go of it are durable and no reader holds it; a part of
//!   a journal only when a published checkpoint covers it and no reader is in it.
//! * When the session is over (its journal failed), appends and waiters get [`SessionOver`], reads of
//!   what is durable go on, and maintenance stops. After [`Log::retire`] another [`Log`] is opened over
//!   the same stores, under the next session, while this one still reads; then it is superseded.

mod backoff;
mod blobs;
mod chain;
mod checkpoint;
mod compaction;
mod durable;
mod epochs;
mod error;
mod indexes;
mod layout;
mod log;
mod lookup;
mod maintenance;
mod merge;
pub mod offline;
mod open;
mod pace;
mod partition;
mod pins;
mod plan;
mod producers;
mod read;
mod resync;
mod retention;
mod room;
mod settings;
mod state;
mod tail;
mod transactions;
mod upload;
mod util;
mod watch;

pub use error::{
    AppendError, DeleteError, EpochEnd, MaintenanceError, OpenError, ReadError, SessionOver,
};
pub use log::{Log, LogStats};
pub use lookup::Found;
pub use millstream_record::batch::Origin;
pub use partition::{Appended, Ends, Partition, ProducerInfo};
pub use producers::FirstSequence;
pub use read::{Isolation, ReadNow, Reading, Slice};
pub use room::Room;
pub use settings::{
    CompactionSettings, Former, LogSettings, PartitionConfig, PartitionSpec, Trim, TrimSink,
};
pub use watch::{Added, News, WatchGuard};
