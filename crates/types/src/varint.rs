//! Variable-length integers, as Kafka writes them: base 128, least significant group first, and
//! zigzag for the signed ones (Protocol Buffers encoding).

/// The most bytes that a 32-bit value takes.
pub const LEN_MAX_32: usize = 5;
/// The most bytes that a 64-bit value takes.
pub const LEN_MAX_64: usize = 10;

/// Appends `value` to `out`.
pub fn put_unsigned(out: &mut impl Extend<u8>, mut value: u64) {
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        if value == 0 {
            out.extend([low]);
            return;
        }
        out.extend([low | 0x80]);
    }
}

/// Appends a signed 32- or 64-bit `value` (`varint` and `varlong` of the Kafka protocol) to `out`.
pub fn put_signed(out: &mut impl Extend<u8>, value: i64) {
    put_unsigned(out, zigzag(value));
}

/// How many bytes [`put_unsigned`] writes.
#[must_use]
pub const fn unsigned_len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// How many bytes [`put_signed`] writes.
#[must_use]
pub const fn signed_len(value: i64) -> usize {
    unsigned_len(zigzag(value))
}

/// Maps small magnitudes of either sign to small numbers: 0, -1, 1, -2 become 0, 1, 2, 3.
#[must_use]
pub const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// Reverses [`zigzag`].
#[must_use]
pub const fn unzigzag(value: u64) -> i64 {
    ((value >> 1) as i64) ^ -((value & 1) as i64)
}
