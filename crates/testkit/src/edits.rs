//! Damage to bytes that were valid: what a fuzzer turns into hostile input that gets far.

/// One change: where, how, and what with.
pub type Edit = (u16, u8, u8);

/// Numbers that lengths and counts should not be.
const CLAIMS: [&[u8]; 6] = [
    &[0x7f, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
    &[0x80, 0, 0, 0],
    &[0xff, 0xff, 0xff, 0xff, 0x0f],
    &[0, 0, 0, 0, 0, 0, 0, 0],
    &[0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
];

/// More would leave nothing of what was valid.
const EDITS_MAX: usize = 8;

/// `bytes` after the first eight of `edits`. None of them makes it much longer.
#[must_use]
pub fn edited(bytes: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(at, how, what) in edits.iter().take(EDITS_MAX) {
        let at = usize::from(at) % (bytes.len() + 1);
        match how % 7 {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, what),
            2 => {
                let claim = CLAIMS[usize::from(what) % CLAIMS.len()];
                let end = (at + claim.len()).min(bytes.len());
                bytes.splice(at..end, claim.iter().copied());
            }
            3 => {
                let end = (at + usize::from(what)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + usize::from(what)).min(bytes.len());
                bytes.extend_from_within(at..end);
            }
            5 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (what % 8);
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = what;
                }
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_edit_does_its_damage() {
        let check = |edit: Edit, expected: &[u8]| assert_eq!(edited(b"abcd", &[edit]), expected);
        check((2, 0, 9), b"ab");
        check((1, 1, b'x'), b"axbcd");
        check((3, 2, 0), b"abc\x7f\xff\xff\xff");
        check((1, 3, 2), b"ad");
        check((1, 4, 2), b"abcdbc");
        check((0, 5, 1), b"cbcd");
        check((7, 6, b'x'), b"abxd");
        check((4, 6, b'x'), b"abcd");
        assert_eq!(edited(b"", &[(9, 6, 1), (9, 1, 1)]), [1]);
    }
}
