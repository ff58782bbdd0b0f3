//! Builders, strategies and golden files for tests; a dev-dependency only.
//!
//! * [`batches`]: what a batch is to hold, drawn at random, and the batch made of it.
//! * [`edits`]: damage to bytes that were valid, for fuzzing.
//! * [`history`]: whether what clients saw was possible.
//! * [`golden`]: reading the text tables that say what golden files hold.
//! * [`otlp`]: metrics as clients push them.
//! * [`oracle`]: a slow, obvious second decoder of batches, to compare the real one with.
//!
//! Nothing here is fast, and much of it panics: it is for tests.

#![allow(clippy::panic, clippy::unwrap_used)]

pub mod batches;
pub mod edits;
pub mod golden;
pub mod history;
pub mod oracle;
pub mod otlp;
