//! Entries of the metadata log's file.
//!
//! After the file's header block, each entry starts at a multiple of 4,096 bytes, so that a block
//! which holds a durable entry is never written again:
//!
//! ```text
//!  0  magic     u32  0x4d536d65
//!  4  length    u32  bytes of the entry
//!  8  number    u64  of the entry, from 1 without gaps
//! 16  salt      u64  drawn once per file: what an entry holds can't be taken for an entry
//! 24  zero      u32
//! 28  checksum  u32  CRC32C of bytes 0..28 and the entry
//! 32  entry
//!     padding   to the next multiple of 4,096
//! ```
//!
//! Laws as for a journal frame: total, round trip, cuts are `Truncated`, damage is refused.

use millstream_types::{Cursor, DecodeError};

use crate::checksum::Crc;
use crate::fixed::Fixed;

/// The size of an entry's header in bytes.
pub const META_HEADER_SIZE: usize = 32;

/// The most bytes that an entry may have.
pub const META_ENTRY_MAX: usize = 64 * 1024 * 1024;

const MAGIC: u32 = 0x4d53_6d65;

/// What stands before an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetaHeader {
    /// The entry's number.
    pub number: u64,
    /// Its size in bytes, at most [`META_ENTRY_MAX`].
    pub length: usize,
    checksum: u32,
    salt: u64,
}

impl MetaHeader {
    /// The header of `entry`.
    #[must_use]
    pub fn new(number: u64, salt: u64, entry: &[u8]) -> Self {
        let mut header = Self { number, length: entry.len(), checksum: 0, salt };
        header.checksum = Crc::new().and(&header.covered()).and(entry).value();
        header
    }

    /// The header's bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; META_HEADER_SIZE] {
        Fixed::new().put(&self.covered()).put(&self.checksum.to_be_bytes()).whole()
    }

    /// Reads the header at the start of `bytes`. It is to be trusted after [`MetaHeader::covers`].
    ///
    /// # Errors
    ///
    /// [`DecodeError`] when it is none, or of a file with another `salt`.
    pub fn decode(bytes: &[u8], salt: u64) -> Result<Self, DecodeError> {
        let invalid = |field| Err(DecodeError::Invalid { field });
        let mut cursor = Cursor::new(bytes);
        if cursor.u32("entry magic")? != MAGIC {
            return invalid("entry magic");
        }
        let length = usize::try_from(cursor.u32("entry length")?).unwrap_or(usize::MAX);
        if length > META_ENTRY_MAX {
            return invalid("entry length");
        }
        let number = cursor.u64("entry number")?;
        if cursor.u64("entry salt")? != salt {
            return invalid("entry salt");
        }
        if cursor.u32("entry zero")? != 0 {
            return invalid("entry zero");
        }
        Ok(Self { number, length, checksum: cursor.u32("entry checksum")?, salt })
    }

    /// Whether `entry` is what the header was made for.
    #[must_use]
    pub fn covers(&self, entry: &[u8]) -> bool {
        entry.len() == self.length
            && Crc::new().and(&self.covered()).and(entry).value() == self.checksum
    }

    fn covered(&self) -> [u8; META_HEADER_SIZE - 4] {
        // Longer ones are refused before they are written, and after they are read.
        let length = u32::try_from(self.length).unwrap_or(u32::MAX);
        Fixed::new()
            .put(&MAGIC.to_be_bytes())
            .put(&length.to_be_bytes())
            .put(&self.number.to_be_bytes())
            .put(&self.salt.to_be_bytes())
            .put(&[0; 4])
            .whole()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn whole(bytes: &[u8], salt: u64) -> Option<(u64, &[u8])> {
        let header = MetaHeader::decode(bytes, salt).ok()?;
        let entry = bytes.get(META_HEADER_SIZE..META_HEADER_SIZE + header.length)?;
        header.covers(entry).then_some((header.number, entry))
    }

    #[test]
    fn todays_bytes_stay_todays_bytes() {
        let bytes = MetaHeader::new(7, 8, b"entry").encode();
        let golden = [
            [0x4d, 0x53, 0x6d, 0x65, 0, 0, 0, 5].as_slice(),
            &[0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0],
        ];
        assert_eq!(bytes[..28], golden.concat());
        assert_eq!(bytes[28..], [0xd4, 0x42, 0x61, 0x3a], "CRC32C by another program");
    }

    proptest! {
        #[test]
        fn entries_come_back_and_damage_does_not(
            number: u64, salt: u64, other: u64,
            entry in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            let head = MetaHeader::new(number, salt, &entry).encode();
            let bytes = [head.as_slice(), &entry].concat();
            prop_assert_eq!(whole(&bytes, salt), Some((number, entry.as_slice())));
            prop_assert_eq!(whole(&bytes, other).is_some(), other == salt);
            for cut in 0..bytes.len() {
                prop_assert_eq!(whole(&bytes[..cut], salt), None);
            }
            for bit in 0..bytes.len() * 8 {
                let mut damaged = bytes.clone();
                damaged[bit / 8] ^= 1 << (bit % 8);
                prop_assert_eq!(whole(&damaged, salt), None);
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, salt: u64) {
            let _ = whole(&bytes, salt);
        }
    }
}
