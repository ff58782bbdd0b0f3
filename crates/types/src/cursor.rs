//! Total reads over a byte slice.
//!
//! Laws: no input makes a read panic or allocate; a read that fails consumes nothing that matters,
//! because decoding stops there; every read names the field it was for.

use std::fmt;

use crate::varint;

/// Why bytes could not be decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside `field`.
    Truncated {
        /// What was being read.
        field: &'static str,
    },
    /// `field` holds a value that its format does not allow.
    Invalid {
        /// What was being read.
        field: &'static str,
    },
}

/// Reads big-endian values from the front of a byte slice.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

macro_rules! fixed {
    ($($name:ident: $type:ty),+ $(,)?) => {
        $(
            #[doc = concat!("Reads a big-endian `", stringify!($type), "`.\n\n# Errors\n\n")]
            #[doc = "[`DecodeError::Truncated`] when too few bytes are left."]
            pub fn $name(&mut self, field: &'static str) -> Result<$type, DecodeError> {
                self.array(field).map(<$type>::from_be_bytes)
            }
        )+
    };
}

impl<'a> Cursor<'a> {
    /// A cursor at the first byte of `bytes`.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    #[must_use]
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// How many bytes have not been read.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.rest.len()
    }

    /// Whether everything has been read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Reads exactly `N` bytes.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when fewer than `N` bytes are left.
    #[inline]
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let (head, rest) =
            self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(*head)
    }

    /// Reads `len` bytes without copying them.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when fewer than `len` bytes are left.
    #[inline]
    pub fn bytes(&mut self, len: usize, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let (head, rest) =
            self.rest.split_at_checked(len).ok_or(DecodeError::Truncated { field })?;
        self.rest = rest;
        Ok(head)
    }

    fixed! {
        u8: u8, i8: i8, u16: u16, i16: i16, u32: u32, i32: i32, u64: u64, i64: i64, f64: f64,
    }

    /// Reads an unsigned varint of at most 32 bits.
    ///
    /// # Errors
    ///
    /// [`DecodeError::Truncated`] when the bytes end inside it, [`DecodeError::Invalid`] when it
    /// does not fit.
    #[inline]
    pub fn unsigned_varint(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        let value = self.base_128(varint::LEN_MAX_32, field)?;
        u32::try_from(value).map_err(|_| DecodeError::Invalid { field })
    }

    /// Reads a signed (zigzag) varint of at most 32 bits.
    ///
    /// # Errors
    ///
    /// As [`Cursor::unsigned_varint`].
    #[inline]
    pub fn varint(&mut self, field: &'static str) -> Result<i32, DecodeError> {
        let value = varint::unzigzag(u64::from(self.unsigned_varint(field)?));
        i32::try_from(value).map_err(|_| DecodeError::Invalid { field })
    }

    /// Reads a signed (zigzag) varint of at most 64 bits.
    ///
    /// # Errors
    ///
    /// As [`Cursor::unsigned_varint`].
    #[inline]
    pub fn varlong(&mut self, field: &'static str) -> Result<i64, DecodeError> {
        self.base_128(varint::LEN_MAX_64, field).map(varint::unzigzag)
    }

    /// Reads an unsigned varint of at most 64 bits.
    ///
    /// # Errors
    ///
    /// As [`Cursor::unsigned_varint`].
    #[inline]
    pub fn unsigned_varlong(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.base_128(varint::LEN_MAX_64, field)
    }

    #[inline]
    fn base_128(&mut self, len_max: usize, field: &'static str) -> Result<u64, DecodeError> {
        // Most lengths, deltas and counts of a record take one byte.
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.base_128_of_any_length(len_max, field)
    }

    fn base_128_of_any_length(
        &mut self,
        len_max: usize,
        field: &'static str,
    ) -> Result<u64, DecodeError> {
        let mut value: u64 = 0;
        for at in 0..len_max {
            let byte = self.u8(field)?;
            let group = u64::from(byte & 0x7f);
            // The tenth group of a 64-bit value has room for one bit only.
            if at == varint::LEN_MAX_64 - 1 && group > 1 {
                return Err(DecodeError::Invalid { field });
            }
            value |= group << (7 * at);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::Invalid { field })
    }
}

impl DecodeError {
    /// The field that could not be read.
    #[must_use]
    pub const fn field(self) -> &'static str {
        match self {
            Self::Truncated { field } | Self::Invalid { field } => field,
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { field } => write!(f, "the bytes end inside `{field}`"),
            Self::Invalid { field } => write!(f, "`{field}` holds a value that is not allowed"),
        }
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn varints_that_do_not_fit_are_invalid() {
        let five_groups_of_ones = [0xff, 0xff, 0xff, 0xff, 0x7f];
        assert_eq!(
            Cursor::new(&five_groups_of_ones).unsigned_varint("n"),
            Err(DecodeError::Invalid { field: "n" })
        );
        assert_eq!(Cursor::new(&[0x80; 11]).varlong("n"), Err(DecodeError::Invalid { field: "n" }));
    }

    proptest! {
        #[test]
        fn varlong_round_trips(value: i64) {
            let mut out = Vec::new();
            varint::put_signed(&mut out, value);
            prop_assert_eq!(out.len(), varint::signed_len(value));
            prop_assert_eq!(Cursor::new(&out).varlong("n"), Ok(value));
            for cut in 0..out.len() {
                let cut = Cursor::new(&out[..cut]).varlong("n");
                prop_assert_eq!(cut, Err(DecodeError::Truncated { field: "n" }));
            }
        }

        #[test]
        fn unsigned_varint_round_trips(value: u32) {
            let mut out = Vec::new();
            varint::put_unsigned(&mut out, u64::from(value));
            prop_assert_eq!(out.len(), varint::unsigned_len(u64::from(value)));
            prop_assert_eq!(Cursor::new(&out).unsigned_varint("n"), Ok(value));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut cursor = Cursor::new(&bytes);
            while cursor.varint("n").is_ok() || cursor.varlong("n").is_ok() {}
        }
    }
}
