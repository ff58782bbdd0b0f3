//! The newest offset of each key, in memory of a fixed size.
//!
//! Keys are known by 128 bits of a keyed hash (SipHash-2-4): whoever chooses keys can't make two of them
//! count as one, because nobody knows the hash's own key, and by accident it does not happen.

use millstream_types::Offset;

/// What one key takes, in bytes: its hash and its offset.
const SLOT_BYTES: u64 = 24;
const SLOT_WORDS: usize = 3;

/// The table gets so full, in percent: beyond that, look-ups become long.
const FULL_PERCENT: u64 = 90;

/// See the module.
pub(crate) struct Keys {
    hash_key: [u64; 2],
    /// Two words of hash, then the offset plus one; 0 in a slot that is free.
    slots: Vec<u64>,
    count: u64,
    count_max: u64,
}

impl Keys {
    /// A table for at most `keys` keys that takes at most `bytes_max` bytes.
    pub(crate) fn new(bytes_max: u64, keys: u64, hash_key: [u8; 16]) -> Self {
        let affordable = (bytes_max / SLOT_BYTES).max(2);
        let wanted = keys.saturating_mul(100) / FULL_PERCENT + 2;
        let count = affordable.min(wanted);
        let words = usize::try_from(count).unwrap_or(usize::MAX / SLOT_WORDS);
        let (a, b) = hash_key.split_at(8);
        Self {
            hash_key: [word(a), word(b)],
            slots: vec![0; words.saturating_mul(SLOT_WORDS)],
            count: 0,
            count_max: (count.saturating_mul(FULL_PERCENT) / 100).max(1),
        }
    }

    /// Notes that a record with `key` is at `offset`; offsets rise. Returns whether there was room.
    pub(crate) fn put(&mut self, key: &[u8], offset: Offset) -> bool {
        let hash = siphash(self.hash_key, key);
        let at = self.find(hash);
        let is_full = self.count >= self.count_max;
        let Some([a, b, next]) = self.slot_mut(at) else { return false };
        if *next == 0 {
            if is_full {
                return false;
            }
            [*a, *b] = hash;
            self.count += 1;
        }
        if let Some([_, _, next]) = self.slot_mut(at) {
            *next = offset.0.unsigned_abs() + 1;
        }
        true
    }

    /// The newest offset of the key, if it is in the table.
    pub(crate) fn newest(&self, key: &[u8]) -> Option<Offset> {
        let slot = self.slot(self.find(siphash(self.hash_key, key)))?;
        let offset = slot[2].checked_sub(1)?;
        i64::try_from(offset).ok().map(Offset)
    }

    /// How many keys there are.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Where the key with this hash is, or would be.
    fn find(&self, hash: [u64; 2]) -> usize {
        let slots = self.slots.len() / SLOT_WORDS;
        // The high half of the product: as even as a remainder, and faster.
        let start = (u128::from(hash[0]) * slots as u128) >> 64;
        let mut at = usize::try_from(start).unwrap_or(0);
        while let Some([a, b, next]) = self.slot(at) {
            if *next == 0 || [*a, *b] == hash {
                return at;
            }
            at = if at + 1 == slots { 0 } else { at + 1 };
        }
        at
    }

    fn slot(&self, at: usize) -> Option<&[u64; SLOT_WORDS]> {
        self.slots.get(at * SLOT_WORDS..)?.first_chunk()
    }

    fn slot_mut(&mut self, at: usize) -> Option<&mut [u64; SLOT_WORDS]> {
        self.slots.get_mut(at * SLOT_WORDS..)?.first_chunk_mut()
    }
}

/// Up to eight bytes as a little-endian number.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

/// SipHash-2-4 with 128 bits, by its authors' paper and its reference's test vectors.
fn siphash(key: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let mut state = [
        key[0] ^ 0x736f_6d65_7073_6575,
        key[1] ^ 0x646f_7261_6e64_6f6d ^ 0xee,
        key[0] ^ 0x6c79_6765_6e65_7261,
        key[1] ^ 0x7465_6462_7974_6573,
    ];
    let mut words = bytes.chunks_exact(8);
    for chunk in words.by_ref() {
        absorb(&mut state, word(chunk));
    }
    absorb(&mut state, word(words.remainder()) | (bytes.len() as u64) << 56);
    state[2] ^= 0xee;
    rounds(&mut state, 4);
    let first = state[0] ^ state[1] ^ state[2] ^ state[3];
    state[1] ^= 0xdd;
    rounds(&mut state, 4);
    [first, state[0] ^ state[1] ^ state[2] ^ state[3]]
}

fn absorb(state: &mut [u64; 4], word: u64) {
    state[3] ^= word;
    rounds(state, 2);
    state[0] ^= word;
}

fn rounds([a, b, c, d]: &mut [u64; 4], count: usize) {
    for _ in 0..count {
        *a = a.wrapping_add(*b);
        *b = b.rotate_left(13) ^ *a;
        *a = a.rotate_left(32);
        *c = c.wrapping_add(*d);
        *d = d.rotate_left(16) ^ *c;
        *a = a.wrapping_add(*d);
        *d = d.rotate_left(21) ^ *a;
        *c = c.wrapping_add(*b);
        *b = b.rotate_left(17) ^ *c;
        *c = c.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_hash_is_that_of_the_reference() {
        let key: Vec<u8> = (0..16).collect();
        let key = [word(&key[..8]), word(&key[8..])];
        for (len, expected) in [
            (0, 0xa381_7f04_ba25_a8e6_6df6_7214_c755_0293_u128),
            (1, 0xda87_c1d8_6b99_af44_3476_5911_9b22_fc45),
        ] {
            let bytes: Vec<u8> = (0..len).collect();
            let [a, b] = siphash(key, &bytes);
            let found = [a.to_le_bytes(), b.to_le_bytes()].concat();
            assert_eq!(found, expected.to_be_bytes(), "{len} bytes");
        }
    }

    #[test]
    fn a_table_takes_what_it_was_made_for_and_no_more() {
        for (bytes_max, keys, room) in [(1 << 20, 100, 100), (2_400, 1_000, 90), (0, 5, 1)] {
            let mut table = Keys::new(bytes_max, keys, [7; 16]);
            assert!(table.slots.len() * 8 <= 48.max(usize::try_from(bytes_max).unwrap()));
            let taken = (0..keys).take_while(|key| {
                table.put(&key.to_be_bytes(), Offset(i64::try_from(*key).unwrap()))
            });
            assert!(taken.count() as u64 >= room, "{bytes_max} bytes for {keys}");
            assert!(table.count() >= room);
            // A key that is there has room.
            assert!(table.put(&0_u64.to_be_bytes(), Offset(5_000)));
            assert_eq!(table.newest(&0_u64.to_be_bytes()), Some(Offset(5_000)));
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map(puts in proptest::collection::vec(0..60_u8, 0..200), hash_key: [u8; 16]) {
            let mut table = Keys::new(1 << 16, 60, hash_key);
            let mut model = BTreeMap::new();
            for (offset, key) in (0..).map(Offset).zip(&puts) {
                prop_assert!(table.put(&[*key], offset));
                model.insert(*key, offset);
            }
            prop_assert_eq!(table.count(), model.len() as u64);
            for key in 0..70 {
                prop_assert_eq!(table.newest(&[key]), model.get(&key).copied());
            }
        }
    }
}
