//! A broker on a disk that fails: what was answered stays true, and it goes on by itself.

#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod audit;
mod clocks;
mod compaction;
mod full;
mod metadata;
mod repair;
mod session;
mod slow;
mod sweep;
mod world;

/// Every how many of `count` places one is tried: all with `MILLSTREAM_SEEDS` of at least so many, else
/// about 60.
fn step(count: u64) -> usize {
    let seeds = std::env::var("MILLSTREAM_SEEDS").ok().and_then(|text| text.parse().ok());
    usize::try_from((count / seeds.unwrap_or(60_u64).max(1)).max(1)).unwrap()
}
