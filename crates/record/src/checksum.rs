//! CRC32C over bytes that do not lie side by side.

use crc_fast::{CrcAlgorithm, Digest};

/// A CRC32C in the making.
#[derive(Debug)]
pub struct Crc(Digest);

impl Crc {
    /// That of nothing.
    #[must_use]
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// That of what there was, and then `bytes`.
    #[must_use]
    pub fn and(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// The checksum.
    #[must_use]
    pub fn value(self) -> u32 {
        // The algorithm is 32 bits wide, in the low half.
        (self.0.finalize() & u64::from(u32::MAX)) as u32
    }
}

impl Default for Crc {
    fn default() -> Self {
        Self::new()
    }
}

/// The CRC32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    Crc::new().and(bytes).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_rfc_3720() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(Crc::new().and(b"1234").and(b"").and(b"56789").value(), 0xe306_9283);
    }
}
