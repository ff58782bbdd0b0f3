//! What every implementation of the seam must do, run over all of them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod blobs;
mod directory;
mod journal;
mod meta;
mod places;
mod survey;
