//! Which partition a record goes to: the same one for the same key in every Kafka client.

/// Kafka's default for records with a key: murmur2 of the key, its sign bit dropped, modulo the
/// number of partitions. `None` when there are no partitions.
#[must_use]
pub fn partition_for_key(key: &[u8], partitions: usize) -> Option<i32> {
    let positive = usize::try_from(murmur2(key) & 0x7fff_ffff).ok()?;
    positive.checked_rem(partitions).and_then(|index| i32::try_from(index).ok())
}

const SEED: u32 = 0x9747_b28c;
const M: u32 = 0x5bd1_e995;
const R: u32 = 24;

/// MurmurHash2 (Austin Appleby, public domain) with the seed that Kafka uses, 32 bits.
#[must_use]
pub fn murmur2(bytes: &[u8]) -> u32 {
    // The length is mixed in modulo 2^32, as the original does.
    let mut hash = SEED ^ (bytes.len() as u32);
    let (words, tail) = bytes.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> R;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (at, &byte) in tail.iter().enumerate() {
            hash ^= u32::from(byte) << (8 * at);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// Where records without a key go: to one partition until it has got a batch's worth of bytes,
/// then to another, so that batches fill and partitions even out (KIP-794).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sticky {
    partition: Option<i32>,
    bytes: usize,
}

impl Sticky {
    /// The partition for `bytes` more bytes, if that is still the one before.
    pub(super) fn stay(
        &mut self,
        bytes: usize,
        batch_bytes: usize,
        usable: impl FnOnce(i32) -> bool,
    ) -> Option<i32> {
        let partition = self.partition.filter(|&it| self.bytes < batch_bytes && usable(it))?;
        self.bytes = self.bytes.saturating_add(bytes);
        Some(partition)
    }

    /// Another partition, one of `usable`, for `bytes` bytes; `drawn` is a random number.
    pub(super) fn change(&mut self, usable: &[i32], bytes: usize, drawn: usize) -> Option<i32> {
        let others = || usable.iter().filter(|&&it| Some(it) != self.partition);
        let chosen = match drawn.checked_rem(others().count()) {
            Some(at) => *others().nth(at)?,
            // There is no other, perhaps not even that one.
            None => *usable.first()?,
        };
        *self = Self { partition: Some(chosen), bytes };
        Some(chosen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_is_kafkas() {
        // From Apache Kafka's and other clients' own tests.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), hash, "{key}");
        }
    }

    #[test]
    fn keys_choose_positive_partitions() {
        // -973932308 & 0x7fffffff = 1173551340.
        for (partitions, expected) in
            [(0, None), (1, Some(0)), (3, Some(0)), (7, Some(3)), (1000, Some(340))]
        {
            assert_eq!(partition_for_key(b"21", partitions), expected, "{partitions}");
        }
    }

    #[test]
    fn keyless_records_stay_until_a_batch_is_full() {
        let mut sticky = Sticky::default();
        let mut go = |bytes, drawn| {
            let stays = sticky.stay(bytes, 100, |_| true);
            stays.or_else(|| sticky.change(&[0, 1, 2], bytes, drawn))
        };
        assert_eq!(go(60, 2), Some(2));
        assert_eq!(go(39, 0), Some(2));
        assert_eq!(go(1, 0), Some(2), "99 bytes leave room for one record more");
        assert_eq!(go(1, 0), Some(0), "then it is another's turn");
        assert_eq!(go(100, 7), Some(0));
        assert_eq!(go(1, 2), Some(1), "one of the others");
    }

    #[test]
    fn keyless_records_leave_a_partition_that_is_gone() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.change(&[5], 1, 9), Some(5));
        assert_eq!(sticky.change(&[5], 1, 9), Some(5), "there is no other");
        assert_eq!(sticky.stay(1, 100, |it| it != 5), None);
        assert_eq!(sticky.change(&[6], 1, 9), Some(6));
        assert_eq!(sticky.change(&[], 1, 9), None);
    }
}
