//! Messages that are stored rather than sent: each has its version, or its type, before it.
//!
//! ```text
//! key    type i16     the record's type, one list per internal topic
//!        body         the key in version 0
//! value  version i16
//!        body         the value in that version
//! ```
//!
//! What members of classic consumer groups tell each other (subscriptions and assignments) is
//! written like a value.

use bytes::Bytes;

use crate::error::{DecodeError, EncodeError};
use crate::message::Message;
use crate::reader::Reader;
use crate::writer::Writer;

/// The key of a record in an internal topic.
pub trait StoredKey: Message {
    /// The record's type, unique in its topic.
    const TYPE: i16;
    /// What is stored under the key.
    type Value: Message;
}

/// The version of every stored key: a key that changed would no longer be the same key.
const KEY_VERSION: i16 = 0;

/// Reads the number that comes before a stored message, a key's type or a value's version, without
/// reading on.
///
/// # Errors
///
/// [`DecodeError::Truncated`] when there are fewer than two bytes.
pub fn prefix(bytes: &Bytes) -> Result<i16, DecodeError> {
    Reader::new(bytes).i16("prefix")
}

/// A key with its type.
///
/// # Errors
///
/// Any [`EncodeError`].
pub fn encode_key<K: StoredKey>(key: &K) -> Result<Bytes, EncodeError> {
    encode_prefixed(K::TYPE, key, KEY_VERSION)
}

/// Reads a key of type `K`.
///
/// # Errors
///
/// [`DecodeError::Invalid`] when the bytes are of another type; any other when they are no key.
pub fn decode_key<K: StoredKey>(bytes: &Bytes) -> Result<K, DecodeError> {
    if prefix(bytes)? != K::TYPE {
        return Err(DecodeError::Invalid { field: "type" });
    }
    K::from_bytes(&bytes.slice(size_of::<i16>()..), KEY_VERSION)
}

/// A value (or a member's subscription or assignment) in `version`, with the version.
///
/// # Errors
///
/// Any [`EncodeError`].
pub fn encode_value<M: Message>(value: &M, version: i16) -> Result<Bytes, EncodeError> {
    encode_prefixed(version, value, version)
}

/// Reads a value in the version that it says.
///
/// # Errors
///
/// [`DecodeError::UnsupportedVersion`] when a newer program wrote it; any other when the bytes are
/// no value.
pub fn decode_value<M: Message>(bytes: &Bytes) -> Result<M, DecodeError> {
    let version = prefix(bytes)?;
    M::from_bytes(&bytes.slice(size_of::<i16>()..), version)
}

fn encode_prefixed<M: Message>(
    prefix: i16,
    message: &M,
    version: i16,
) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(prefix);
    message.encode(&mut writer, version)?;
    writer.into_bytes()
}
