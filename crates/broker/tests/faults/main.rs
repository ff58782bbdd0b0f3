//! A broker on a disk that fails: what was answered stays true, and it goes on by itself.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod metadata;
mod session;
mod world;
