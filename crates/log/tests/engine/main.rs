//! The engine as a whole: rules as tables, and a model through crashes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod append;
mod checkpoints;
mod compaction;
mod compaction_times;
mod damage;
mod delete;
mod device;
mod layout;
mod model;
mod offline;
mod read;
mod recovery;
mod threads;
mod time;
mod transactions;
mod world;
