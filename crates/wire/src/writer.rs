//! Writes of the protocol's primitives into segments for a vectored write.

use bytes::{BufMut, Bytes, BytesMut};
use millstream_types::{Uuid, varint};

use crate::error::EncodeError;
use crate::reader::STRING_LEN_MAX;
use crate::records::{PieceRef, Records};
use crate::text::StrBytes;

/// Shared bytes shorter than this are copied among the gathered ones, in bytes: below it the copy
/// costs less than one more segment of a vectored write.
const SEGMENT_LEN_MIN: usize = 512;

/// Gathers a message's small parts in one buffer and keeps large byte fields and records as shared
/// segments of their own.
///
/// Law: the segments' lengths add up to [`Writer::len`].
#[derive(Debug, Default)]
pub struct Writer {
    gathered: BytesMut,
    /// Shared segments, each with the place in `gathered` that it comes before.
    shared: Vec<(usize, Bytes)>,
    shared_len: usize,
    framed: bool,
}

/// The tagged fields at the end of a flexible struct, in the order of their tags.
#[derive(Debug, Default)]
pub(crate) struct Tags {
    count: u32,
    fields: Writer,
}

macro_rules! fixed {
    ($($name:ident: $type:ty, $put:ident),+ $(,)?) => {
        $(
            pub(crate) fn $name(&mut self, value: $type) {
                self.gathered.$put(value);
            }
        )+
    };
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer whose first four bytes will be the length of what follows them, as the protocol
    /// frames requests and responses.
    #[must_use]
    pub fn framed() -> Self {
        let mut writer = Self { framed: true, ..Self::default() };
        writer.i32(0);
        writer
    }

    /// How many bytes have been written, a frame's length included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.gathered.len() + self.shared_len
    }

    /// Whether nothing has been written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What was written, in order, none of the segments empty.
    ///
    /// # Errors
    ///
    /// [`EncodeError::TooLong`] when a frame's length does not fit its four bytes.
    pub fn finish(mut self) -> Result<Vec<Bytes>, EncodeError> {
        if self.framed {
            let len = i32::try_from(self.len().saturating_sub(FRAME_LENGTH_SIZE));
            let len = len.map_err(|_| EncodeError::TooLong { field: "frame" })?;
            if let Some(place) = self.gathered.first_chunk_mut::<FRAME_LENGTH_SIZE>() {
                *place = len.to_be_bytes();
            }
        }
        let mut gathered = self.gathered.freeze();
        let mut segments = Vec::with_capacity(2 * self.shared.len() + 1);
        let mut at = 0;
        for (place, segment) in self.shared {
            let before = gathered.split_to(place - at);
            at = place;
            segments.extend((!before.is_empty()).then_some(before));
            segments.push(segment);
        }
        segments.extend((!gathered.is_empty()).then_some(gathered));
        Ok(segments)
    }

    /// What was written in one piece: free when nothing was shared, a copy otherwise.
    ///
    /// # Errors
    ///
    /// As [`Writer::finish`].
    pub fn into_bytes(self) -> Result<Bytes, EncodeError> {
        let len = self.len();
        let mut segments = self.finish()?;
        if segments.len() <= 1 {
            return Ok(segments.pop().unwrap_or_default());
        }
        let mut whole = BytesMut::with_capacity(len);
        for segment in &segments {
            whole.extend_from_slice(segment);
        }
        Ok(whole.freeze())
    }

    fixed! {
        i8: i8, put_i8, u16: u16, put_u16, i16: i16, put_i16, i32: i32, put_i32,
        i64: i64, put_i64, f64: f64, put_f64,
    }

    pub(crate) fn bool(&mut self, value: bool) {
        self.gathered.put_u8(value.into());
    }

    pub(crate) fn uuid(&mut self, value: Uuid) {
        self.gathered.extend_from_slice(&value.0);
    }

    pub(crate) fn string(
        &mut self,
        value: &StrBytes,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.nullable_string(Some(value), flexible, field)
    }

    pub(crate) fn nullable_string(
        &mut self,
        value: Option<&StrBytes>,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        let len = value.map_or(0, StrBytes::len);
        if len > STRING_LEN_MAX {
            return Err(EncodeError::TooLong { field });
        }
        if flexible {
            self.compact_length(value.map(|_| len), field)?;
        } else {
            let len = i16::try_from(len).map_err(|_| EncodeError::TooLong { field })?;
            self.i16(value.map_or(-1, |_| len));
        }
        self.gathered.extend_from_slice(value.map_or(&[], StrBytes::as_bytes));
        Ok(())
    }

    pub(crate) fn bytes(
        &mut self,
        value: &Bytes,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.length(Some(value.len()), flexible, field)?;
        self.put_shared(value);
        Ok(())
    }

    pub(crate) fn nullable_bytes(
        &mut self,
        value: Option<&Bytes>,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(value, flexible, field),
            None => self.length(None, flexible, field),
        }
    }

    pub(crate) fn records(
        &mut self,
        value: &Records,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        self.length(Some(value.len()), flexible, field)?;
        for piece in value.piece_refs() {
            match piece {
                PieceRef::Shared(bytes) => self.put_shared(bytes),
                PieceRef::Short(bytes) => self.gathered.extend_from_slice(bytes),
            }
        }
        Ok(())
    }

    pub(crate) fn nullable_records(
        &mut self,
        value: Option<&Records>,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.records(value, flexible, field),
            None => self.length(None, flexible, field),
        }
    }

    /// Writes the length of an array, bytes or records; `None` is null.
    pub(crate) fn length(
        &mut self,
        len: Option<usize>,
        flexible: bool,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        if flexible {
            return self.compact_length(len, field);
        }
        let len = len.map_or(Ok(-1), i32::try_from);
        self.i32(len.map_err(|_| EncodeError::TooLong { field })?);
        Ok(())
    }

    /// Writes that no tagged fields follow.
    pub(crate) fn no_tags(&mut self) {
        self.gathered.put_u8(0);
    }

    /// Writes a struct's tagged fields.
    pub(crate) fn tags(&mut self, tags: Tags) {
        self.unsigned_varint(tags.count.into());
        self.append(tags.fields);
    }

    fn compact_length(
        &mut self,
        len: Option<usize>,
        field: &'static str,
    ) -> Result<(), EncodeError> {
        // The largest length has to stay a positive `i32` with one added, for Kafka reads it so.
        let len = len.map_or(Ok(-1), i32::try_from).map_err(|_| EncodeError::TooLong { field })?;
        let len = len.checked_add(1).and_then(|len| u64::try_from(len).ok());
        self.unsigned_varint(len.ok_or(EncodeError::TooLong { field })?);
        Ok(())
    }

    fn unsigned_varint(&mut self, value: u64) {
        varint::put_unsigned(&mut self.gathered, value);
    }

    fn put_shared(&mut self, bytes: &Bytes) {
        if bytes.len() < SEGMENT_LEN_MIN {
            self.gathered.extend_from_slice(bytes);
        } else {
            self.shared_len += bytes.len();
            self.shared.push((self.gathered.len(), bytes.clone()));
        }
    }

    fn append(&mut self, other: Self) {
        let base = self.gathered.len();
        self.gathered.extend_from_slice(&other.gathered);
        self.shared.extend(other.shared.into_iter().map(|(place, bytes)| (base + place, bytes)));
        self.shared_len += other.shared_len;
    }
}

impl Tags {
    /// Writes one field; the caller keeps the order of the tags.
    pub(crate) fn field(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        let mut field = Writer::new();
        write(&mut field)?;
        let size = u32::try_from(field.len());
        let size = size.map_err(|_| EncodeError::TooLong { field: "tagged fields" })?;
        self.count += 1;
        self.fields.unsigned_varint(tag.into());
        self.fields.unsigned_varint(size.into());
        self.fields.append(field);
        Ok(())
    }
}

const FRAME_LENGTH_SIZE: usize = size_of::<i32>();
