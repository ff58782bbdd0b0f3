//! Memory on huge pages, for what a disk reads and writes directly.
//!
//! A disk gets a list of the pages that it is to read or write, and the shorter that is, the faster it
//! goes. Measured with direct IO of 1 MiB at a time: 2,700 MB/s of flushed writes instead of 1,800,
//! 2,200 MB/s of reads instead of 900, and half the processor's time for both. Where the system has no huge
//! pages to give, the same memory comes in small ones.

mod arena;
mod pages;

pub use arena::{Arena, CHUNK, Piece};
pub use pages::{HUGE, Pages};
