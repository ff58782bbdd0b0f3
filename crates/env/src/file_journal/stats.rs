//! What the journal counts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

const BUCKETS: usize = 24;

/// Counts since the store was opened.
#[derive(Debug, Default)]
pub struct JournalStats {
    /// Writes, each one group or more.
    writes: AtomicU64,
    /// Bytes written, headers and padding included.
    bytes: AtomicU64,
    /// Bytes of zeros that new files were filled with.
    zeroed: AtomicU64,
    /// Flushes that succeeded.
    flushes: AtomicU64,
    /// The sum of all flushes' times in microseconds; the write before it is counted in.
    flush_micros: AtomicU64,
    /// Flushes by time: number `n` counts those below 2^n microseconds and not below 2^(n-1).
    buckets: [AtomicU64; BUCKETS],
}

impl JournalStats {
    /// Writes, each of one group or more.
    #[must_use]
    pub fn writes(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// Bytes written, headers and padding included.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of zeros that new files were filled with, once in the life of each: not among
    /// [`JournalStats::bytes`].
    #[must_use]
    pub fn zeroed(&self) -> u64 {
        self.zeroed.load(Ordering::Relaxed)
    }

    /// Flushes that succeeded.
    #[must_use]
    pub fn flushes(&self) -> u64 {
        self.flushes.load(Ordering::Relaxed)
    }

    /// The sum of all flushes' times, their writes included.
    #[must_use]
    pub fn flush_time(&self) -> Duration {
        Duration::from_micros(self.flush_micros.load(Ordering::Relaxed))
    }

    /// Flushes by time: pairs of an upper bound and how many took less, but no less than the bound
    /// before. The last bound stands for everything longer.
    pub fn flush_times(&self) -> impl Iterator<Item = (Duration, u64)> + '_ {
        let bound = |exponent| Duration::from_micros(1_u64 << exponent);
        self.buckets
            .iter()
            .enumerate()
            .map(move |(exponent, count)| (bound(exponent), count.load(Ordering::Relaxed)))
    }

    pub(super) fn wrote(&self, bytes: u64) {
        self.writes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes beside the groups: headers of files, seals.
    pub(super) fn wrote_aside(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn wrote_zeros(&self, bytes: u64) {
        self.zeroed.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn flushed(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.flush_micros.fetch_add(micros, Ordering::Relaxed);
        let exponent = (u64::BITS - micros.leading_zeros()) as usize;
        if let Some(bucket) = self.buckets.get(exponent.min(BUCKETS - 1)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
    }
}
