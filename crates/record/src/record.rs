//! Records inside a batch, borrowed from its bytes.
//!
//! ```text
//! length           varint    bytes after this field
//! attributes       i8        no bit has a meaning yet
//! timestamp delta  varlong   from the batch's base timestamp
//! offset delta     varint    from the batch's base offset
//! key              varint length, bytes; length -1: null
//! value            varint length, bytes; length -1: null
//! headers          varint count, then for each: key (varint length, bytes, never null),
//!                  value (varint length, bytes; length -1: null)
//! ```
//!
//! Varints are zigzag. The checksum is the batch's. Laws: see [`crate::batch`].

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use bytes::Bytes;
use millstream_types::{Cursor, DecodeError, Offset, Timestamp, varint};

use crate::batch::{BatchError, BatchHeader, RecordFault};

/// A record, borrowed; all of it has been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Bits without a meaning so far; kept.
    pub attributes: i8,
    /// Milliseconds from the batch's base timestamp; [`Record::timestamp`] is what it comes to.
    pub timestamp_delta: i64,
    /// From the batch's base offset.
    pub offset_delta: i32,
    /// What compaction and partitioning go by.
    pub key: Option<&'a [u8]>,
    /// The content; `None` is a tombstone in a compacted topic.
    pub value: Option<&'a [u8]>,
    /// Invariant: `count` headers that decode, then nothing.
    headers: RawHeaders<'a>,
}

/// One header of a record. Keys may repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// UTF-8 by convention; not checked, as in Kafka.
    pub key: &'a [u8],
    /// Any bytes, or null.
    pub value: Option<&'a [u8]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RawHeaders<'a> {
    count: usize,
    bytes: &'a [u8],
}

impl<'a> Record<'a> {
    /// Decodes the record at the cursor, headers included. Allocates nothing.
    ///
    /// # Errors
    ///
    /// `Truncated` when the bytes end inside it; `Invalid` when a length is impossible or the
    /// record's fields don't fill exactly the length that it says.
    #[inline]
    pub fn decode(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let length = length_of(cursor.varint("record_length")?, "record_length")?;
        let body = cursor.bytes(length, "record")?;
        // What follows lies inside a body that is there: its end is not the end of the input.
        Self::decode_body(body).map_err(|error| DecodeError::Invalid { field: error.field() })
    }

    #[inline]
    fn decode_body(body: &'a [u8]) -> Result<Self, DecodeError> {
        let mut cursor = Cursor::new(body);
        let attributes = cursor.i8("record_attributes")?;
        let timestamp_delta = cursor.varlong("timestamp_delta")?;
        let offset_delta = cursor.varint("offset_delta")?;
        let key = nullable(&mut cursor, "key")?;
        let value = nullable(&mut cursor, "value")?;
        let count = length_of(cursor.varint("header_count")?, "header_count")?;
        let headers = RawHeaders { count, bytes: cursor.rest() };
        for _ in 0..count {
            Header::decode(&mut cursor)?;
        }
        if !cursor.is_empty() {
            return Err(DecodeError::Invalid { field: "record_length" });
        }
        Ok(Self { attributes, timestamp_delta, offset_delta, key, value, headers })
    }

    /// The headers, in order, repeated keys included.
    #[must_use]
    pub const fn headers(&self) -> Headers<'a> {
        Headers { left: self.headers.count, cursor: Cursor::new(self.headers.bytes) }
    }

    /// The record's offset in a batch with this header.
    #[must_use]
    pub fn offset(&self, batch: &BatchHeader) -> Offset {
        batch.offset_of(self.offset_delta)
    }

    /// The record's timestamp in a batch with this header: the batch's under append time.
    #[must_use]
    pub const fn timestamp(&self, batch: &BatchHeader) -> Timestamp {
        batch.timestamp_of(self.timestamp_delta)
    }
}

impl<'a> Header<'a> {
    fn decode(cursor: &mut Cursor<'a>) -> Result<Self, DecodeError> {
        let length = length_of(cursor.varint("header_key")?, "header_key")?;
        let key = cursor.bytes(length, "header_key")?;
        Ok(Self { key, value: nullable(cursor, "header_value")? })
    }
}

/// The headers of a record, in order.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    left: usize,
    cursor: Cursor<'a>,
}

impl<'a> Iterator for Headers<'a> {
    type Item = Header<'a>;

    fn next(&mut self) -> Option<Header<'a>> {
        self.left = self.left.checked_sub(1)?;
        // `Record::decode` has been here: this can't fail.
        Header::decode(&mut self.cursor).ok()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Headers<'_> {}

/// The records of one batch, decompressed.
#[derive(Clone, Debug)]
pub struct Records {
    header: BatchHeader,
    bytes: Bytes,
}

impl Records {
    pub(crate) const fn new(header: BatchHeader, bytes: Bytes) -> Self {
        Self { header, bytes }
    }

    /// The header of the batch that they are from.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// The records' bytes, decompressed. A record's key or value can be held on to without a copy
    /// by `bytes().slice_ref(key)`.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The records in order; ends after the first error. Allocates nothing.
    #[must_use]
    pub fn iter(&self) -> RecordIter<'_> {
        RecordIter::new(&self.header, &self.bytes)
    }
}

impl<'a> IntoIterator for &'a Records {
    type Item = Result<Record<'a>, BatchError>;
    type IntoIter = RecordIter<'a>;

    fn into_iter(self) -> RecordIter<'a> {
        self.iter()
    }
}

/// Decodes a batch's records one by one. Exactly as many as the header counts, or an error, after
/// which it ends.
#[derive(Clone, Debug)]
pub struct RecordIter<'a> {
    index: i32,
    count: i32,
    last_offset_delta: i32,
    previous_delta: i32,
    cursor: Cursor<'a>,
    done: bool,
}

impl<'a> RecordIter<'a> {
    pub(crate) const fn new(header: &BatchHeader, records: &'a [u8]) -> Self {
        Self {
            index: 0,
            count: header.records_count,
            last_offset_delta: header.last_offset_delta,
            previous_delta: -1,
            cursor: Cursor::new(records),
            done: false,
        }
    }

    /// How many bytes come behind the records that were decoded.
    pub(crate) const fn bytes_left(&self) -> usize {
        self.cursor.remaining()
    }

    #[inline]
    fn step(&mut self) -> Option<Result<Record<'a>, RecordFault>> {
        if self.index >= self.count {
            let left = self.cursor.remaining();
            return (left > 0).then_some(Err(RecordFault::TrailingBytes(left)));
        }
        let record = match Record::decode(&mut self.cursor) {
            Ok(record) => record,
            Err(error) => return Some(Err(RecordFault::Malformed(error))),
        };
        let delta = record.offset_delta;
        if delta <= self.previous_delta || delta > self.last_offset_delta {
            return Some(Err(RecordFault::OffsetDelta(delta)));
        }
        self.previous_delta = delta;
        Some(Ok(record))
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let index = self.index;
        let item = self.step();
        self.done = !matches!(item, Some(Ok(_)));
        self.index = self.index.saturating_add(1);
        item.map(|step| step.map_err(|why| BatchError::InvalidRecord { index, why }))
    }
}

impl std::iter::FusedIterator for RecordIter<'_> {}

/// What a record is made of, for encoding.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Parts<'a> {
    pub(crate) timestamp_delta: i64,
    pub(crate) offset_delta: i32,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a [Header<'a>],
}

impl Parts<'_> {
    /// The bytes that [`Parts::encode`] appends after the length.
    pub(crate) fn body_size(&self) -> usize {
        let headers = self.headers.iter().fold(0_usize, |sum, header| {
            sum.saturating_add(nullable_size(Some(header.key)))
                .saturating_add(nullable_size(header.value))
        });
        1_usize
            .saturating_add(varint::signed_len(self.timestamp_delta))
            .saturating_add(varint::signed_len(i64::from(self.offset_delta)))
            .saturating_add(nullable_size(self.key))
            .saturating_add(nullable_size(self.value))
            .saturating_add(varint::signed_len(signed(self.headers.len())))
            .saturating_add(headers)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        varint::put_signed(out, signed(self.body_size()));
        out.push(0);
        varint::put_signed(out, self.timestamp_delta);
        varint::put_signed(out, i64::from(self.offset_delta));
        put_nullable(out, self.key);
        put_nullable(out, self.value);
        varint::put_signed(out, signed(self.headers.len()));
        for header in self.headers {
            put_nullable(out, Some(header.key));
            put_nullable(out, header.value);
        }
    }
}

fn length_of(value: i32, field: &'static str) -> Result<usize, DecodeError> {
    usize::try_from(value).map_err(|_| DecodeError::Invalid { field })
}

fn nullable<'a>(
    cursor: &mut Cursor<'a>,
    field: &'static str,
) -> Result<Option<&'a [u8]>, DecodeError> {
    match cursor.varint(field)? {
        -1 => Ok(None),
        length => cursor.bytes(length_of(length, field)?, field).map(Some),
    }
}

fn nullable_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint::signed_len(signed(bytes.len())).saturating_add(bytes.len()))
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => varint::put_signed(out, -1),
        Some(bytes) => {
            varint::put_signed(out, signed(bytes.len()));
            out.extend_from_slice(bytes);
        }
    }
}

/// Appends a record whose timestamp delta is `delta` instead of the one that it has; `record` is its
/// bytes, which have been decoded before.
pub(crate) fn put_with_delta(
    out: &mut Vec<u8>,
    record: &[u8],
    delta: i64,
) -> Result<(), DecodeError> {
    let mut cursor = Cursor::new(record);
    cursor.varint("record_length")?;
    let attributes = cursor.i8("record_attributes")?;
    cursor.varlong("timestamp_delta")?;
    let rest = cursor.rest();
    let size = 1_usize.saturating_add(varint::signed_len(delta)).saturating_add(rest.len());
    varint::put_signed(out, signed(size));
    out.extend_from_slice(&attributes.to_be_bytes());
    varint::put_signed(out, delta);
    out.extend_from_slice(rest);
    Ok(())
}

/// A length in memory never exceeds `isize::MAX`.
fn signed(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}
