//! Total, bounded reads of the protocol's primitives.

use bytes::Bytes;
use millstream_types::{Cursor, Uuid};

use crate::error::DecodeError;
use crate::records::Records;
use crate::text::StrBytes;

/// The longest string that the protocol allows, in bytes, in either form of its length.
pub(crate) const STRING_LEN_MAX: usize = i16::MAX as usize;

/// What any message may take in memory beside its bytes, in bytes: none that small does harm.
const BUDGET_FLOOR: usize = 4 << 20;

/// What a message may take in memory for each of its bytes. Real messages take two to four (a
/// string of ten bytes is 32 in memory beside them); an array of empty strings would take 32.
const BUDGET_PER_BYTE: usize = 8;

/// Reads a message's fields from the front of shared bytes.
///
/// Laws: no input makes a read panic or loop; the memory that arrays take is at most the reader's
/// budget, and an array's length is checked against the bytes that are left before anything is
/// allocated. Strings, bytes and records share the input's buffer; nothing is copied.
#[derive(Debug)]
pub struct Reader<'a> {
    whole: &'a Bytes,
    cursor: Cursor<'a>,
    budget: usize,
}

/// Where a tagged field has to end: how many bytes are left there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TagEnd(usize);

macro_rules! fixed {
    ($($name:ident: $type:ty),+ $(,)?) => {
        $(
            pub(crate) fn $name(&mut self, field: &'static str) -> Result<$type, DecodeError> {
                Ok(self.cursor.$name(field)?)
            }
        )+
    };
}

impl<'a> Reader<'a> {
    /// A reader at the first byte of `whole`, with a memory budget that no real message exceeds.
    #[must_use]
    pub fn new(whole: &'a Bytes) -> Self {
        let budget = whole.len().saturating_mul(BUDGET_PER_BYTE).saturating_add(BUDGET_FLOOR);
        Self::with_budget(whole, budget)
    }

    /// A reader whose arrays may take at most `budget` bytes of memory together.
    #[must_use]
    pub fn with_budget(whole: &'a Bytes, budget: usize) -> Self {
        Self { whole, cursor: Cursor::new(whole), budget }
    }

    /// How many bytes have not been read.
    #[must_use]
    pub const fn remaining(&self) -> usize {
        self.cursor.remaining()
    }

    /// What has not been read, shared.
    #[must_use]
    pub fn rest(&self) -> Bytes {
        self.whole.slice_ref(self.cursor.rest())
    }

    /// The key, version and correlation id at the start of a request, without reading them.
    pub(crate) fn peek_api(&self) -> Result<(i16, i16), DecodeError> {
        let mut ahead = self.cursor;
        let key = ahead.i16("RequestHeader.RequestApiKey")?;
        Ok((key, ahead.i16("RequestHeader.RequestApiVersion")?))
    }

    fixed! { i8: i8, u16: u16, i16: i16, i32: i32, i64: i64, f64: f64 }

    pub(crate) fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        // Any byte but zero is true, as Kafka has it.
        Ok(self.cursor.u8(field)? != 0)
    }

    pub(crate) fn uuid(&mut self, field: &'static str) -> Result<Uuid, DecodeError> {
        Ok(Uuid(self.cursor.array(field)?))
    }

    pub(crate) fn string(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<StrBytes, DecodeError> {
        self.nullable_string(flexible, field)?.ok_or(DecodeError::Null { field })
    }

    pub(crate) fn nullable_string(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<StrBytes>, DecodeError> {
        let len = if flexible {
            self.compact_length(field)?
        } else {
            signed_length(self.cursor.i16(field)?.into(), field)?
        };
        let Some(len) = len else { return Ok(None) };
        if len > STRING_LEN_MAX {
            return Err(DecodeError::Invalid { field });
        }
        let bytes = self.share(len, field)?;
        StrBytes::from_utf8(bytes).map(Some).ok_or(DecodeError::Invalid { field })
    }

    pub(crate) fn bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Bytes, DecodeError> {
        self.nullable_bytes(flexible, field)?.ok_or(DecodeError::Null { field })
    }

    pub(crate) fn nullable_bytes(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<Bytes>, DecodeError> {
        match self.long_length(flexible, field)? {
            Some(len) => self.share(len, field).map(Some),
            None => Ok(None),
        }
    }

    pub(crate) fn records(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Records, DecodeError> {
        self.bytes(flexible, field).map(Records::from)
    }

    pub(crate) fn nullable_records(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<Records>, DecodeError> {
        Ok(self.nullable_bytes(flexible, field)?.map(Records::from))
    }

    /// Reads an array whose elements take at least `size_min` bytes each.
    pub(crate) fn array<T>(
        &mut self,
        flexible: bool,
        size_min: usize,
        field: &'static str,
        read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        self.nullable_array(flexible, size_min, field, read)?.ok_or(DecodeError::Null { field })
    }

    pub(crate) fn nullable_array<T>(
        &mut self,
        flexible: bool,
        size_min: usize,
        field: &'static str,
        mut read: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let Some(count) = self.array_count(flexible, size_min, size_of::<T>(), field)? else {
            return Ok(None);
        };
        let mut elements = Vec::with_capacity(count);
        for _ in 0..count {
            elements.push(read(self)?);
        }
        Ok(Some(elements))
    }

    /// Reads the byte that says whether a nullable struct follows: -1 or 1.
    pub(crate) fn present(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        // Any byte that is not negative means that it does, as Kafka has it.
        Ok(self.cursor.i8(field)? >= 0)
    }

    /// Reads whether a nullable struct follows in a tagged field, where it is a varint: 0 or 1.
    pub(crate) fn tag_present(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        Ok(self.cursor.unsigned_varint(field)? != 0)
    }

    /// Reads how many tagged fields follow.
    pub(crate) fn tag_count(&mut self) -> Result<u32, DecodeError> {
        Ok(self.cursor.unsigned_varint(TAGS)?)
    }

    /// Reads a tagged field's tag, and where the field ends.
    pub(crate) fn tag(&mut self) -> Result<(u32, TagEnd), DecodeError> {
        let tag = self.cursor.unsigned_varint(TAGS)?;
        let size = self.cursor.unsigned_varint(TAGS)?;
        let left = usize::try_from(size).ok().and_then(|size| self.remaining().checked_sub(size));
        left.map(|left| (tag, TagEnd(left))).ok_or(DecodeError::Truncated { field: TAGS })
    }

    /// Checks that the tagged field `field` was as long as it said.
    pub(crate) fn end_tag(&self, end: TagEnd, field: &'static str) -> Result<(), DecodeError> {
        if self.remaining() == end.0 { Ok(()) } else { Err(DecodeError::Invalid { field }) }
    }

    /// Passes over a tagged field that this version does not know.
    pub(crate) fn skip_tag(&mut self, end: TagEnd) -> Result<(), DecodeError> {
        let len = self.remaining().saturating_sub(end.0);
        self.cursor.bytes(len, TAGS)?;
        Ok(())
    }

    /// Passes over all tagged fields of a struct that knows none.
    pub(crate) fn skip_tags(&mut self) -> Result<(), DecodeError> {
        for _ in 0..self.tag_count()? {
            let (_, end) = self.tag()?;
            self.skip_tag(end)?;
        }
        Ok(())
    }

    fn array_count(
        &mut self,
        flexible: bool,
        size_min: usize,
        element_size: usize,
        field: &'static str,
    ) -> Result<Option<usize>, DecodeError> {
        let Some(count) = self.long_length(flexible, field)? else { return Ok(None) };
        if count > self.remaining() / size_min.max(1) {
            return Err(DecodeError::Truncated { field });
        }
        let memory = count.saturating_mul(element_size);
        self.budget = self.budget.checked_sub(memory).ok_or(DecodeError::OverBudget { field })?;
        Ok(Some(count))
    }

    fn long_length(
        &mut self,
        flexible: bool,
        field: &'static str,
    ) -> Result<Option<usize>, DecodeError> {
        if flexible {
            self.compact_length(field)
        } else {
            signed_length(self.cursor.i32(field)?, field)
        }
    }

    fn compact_length(&mut self, field: &'static str) -> Result<Option<usize>, DecodeError> {
        // One more than the length, so that zero can be null.
        let Some(len) = self.cursor.unsigned_varint(field)?.checked_sub(1) else {
            return Ok(None);
        };
        usize::try_from(len).map(Some).map_err(|_| DecodeError::Invalid { field })
    }

    fn share(&mut self, len: usize, field: &'static str) -> Result<Bytes, DecodeError> {
        Ok(self.whole.slice_ref(self.cursor.bytes(len, field)?))
    }
}

const TAGS: &str = "tagged fields";

fn signed_length(len: i32, field: &'static str) -> Result<Option<usize>, DecodeError> {
    if len == -1 {
        return Ok(None);
    }
    usize::try_from(len).map(Some).map_err(|_| DecodeError::Invalid { field })
}
