//! How much a connection has written of late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millstream_types::Monotonic;

/// After this time what was written counts for half.
const HALF_LIFE: Duration = Duration::from_secs(2);

/// Who has written so many bytes of late writes much: at a steady rate, some ten megabytes in a second.
const HEAVY_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes written, of which older ones count for less. One task adds at a time.
#[derive(Debug, Default)]
pub(crate) struct Volume {
    bytes: AtomicU64,
    /// When they were last halved, in half-lives.
    halved: AtomicU64,
}

impl Volume {
    /// Adds what is written now. Whether that is much.
    pub(crate) fn add(&self, bytes: usize, now: Monotonic) -> bool {
        let half_life = u64::try_from(HALF_LIFE.as_nanos()).unwrap_or(u64::MAX);
        let turn = now.0 / half_life;
        let passed = turn - self.halved.swap(turn, Ordering::Relaxed).min(turn);
        let before = self.bytes.load(Ordering::Relaxed);
        let left = before.checked_shr(u32::try_from(passed).unwrap_or(u32::MAX)).unwrap_or(0);
        let after = left.saturating_add(bytes as u64);
        self.bytes.store(after, Ordering::Relaxed);
        after > HEAVY_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    #[test]
    fn much_is_what_was_written_of_late() {
        let volume = Volume::default();
        let at = |seconds: u64| Monotonic(seconds * 1_000_000_000);
        assert!(!volume.add(32 * MIB, at(100)));
        assert!(volume.add(1, at(100)));
        assert!(!volume.add(16 * MIB - 1, at(102)));
        assert!(!volume.add(1, at(103)));
        assert!(volume.add(1, at(103)));
        assert!(!volume.add(32 * MIB, at(1_000)), "all that is forgotten");
    }

    #[test]
    fn a_few_megabytes_in_a_second_are_not_much() {
        let volume = Volume::default();
        for second in 0..100 {
            let now = Monotonic(second * 1_000_000_000);
            assert!(!volume.add(7 * MIB, now), "after {second} s");
        }
    }
}
