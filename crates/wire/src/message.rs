//! What every generated message can do.

use std::fmt::Debug;
use std::ops::RangeInclusive;

use bytes::Bytes;

use crate::error::{DecodeError, EncodeError};
use crate::reader::Reader;
use crate::writer::Writer;

/// A message of the protocol in any of its versions.
///
/// The fields are those of all versions together: decoding gives those that a version lacks their
/// defaults, and encoding drops them, or fails when one that may not be ignored is set.
pub trait Message: Clone + Debug + Default + PartialEq + Sized {
    /// The published name.
    const NAME: &'static str;
    /// All versions that can be decoded and encoded.
    const VERSIONS: RangeInclusive<i16>;
    /// The first version with compact lengths and tagged fields; `None` when none has them.
    const FLEXIBLE_FROM: Option<i16>;

    /// Reads a message in `version`; what follows it is left in `reader`.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`]; nothing can be said then about where `reader` stands.
    fn decode(reader: &mut Reader<'_>, version: i16) -> Result<Self, DecodeError>;

    /// Writes the message in `version`.
    ///
    /// # Errors
    ///
    /// Any [`EncodeError`]; what has been written to `writer` then is of no use.
    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// Says how long the client is to wait before it asks again, in milliseconds (KIP-219), where the
    /// message has a field for that. Versions without the field leave it out.
    fn set_throttle_time_ms(&mut self, _ms: i32) {}

    /// Reads bytes that are one message in `version` and nothing else.
    ///
    /// # Errors
    ///
    /// Any [`DecodeError`].
    fn from_bytes(bytes: &Bytes, version: i16) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let message = Self::decode(&mut reader, version)?;
        if reader.remaining() == 0 {
            Ok(message)
        } else {
            Err(DecodeError::Trailing { message: Self::NAME })
        }
    }

    /// The message in `version`, in one piece.
    ///
    /// # Errors
    ///
    /// Any [`EncodeError`].
    fn to_bytes(&self, version: i16) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::new();
        self.encode(&mut writer, version)?;
        writer.into_bytes()
    }
}

/// A message that a client sends and that one kind of message answers.
pub trait Request: Message {
    /// The API's key.
    const KEY: i16;
    /// What answers it, in the same version.
    type Response: Message;

    /// The version of the header that comes before this request in `version`. Any version will do,
    /// so that the header of a request that is too new can be read.
    #[must_use]
    fn request_header_version(version: i16) -> i16 {
        if is_flexible::<Self>(version) { 2 } else { 1 }
    }

    /// The version of the header that comes before the response in `version`.
    #[must_use]
    fn response_header_version(version: i16) -> i16 {
        // A client that asks for the versions can't know yet whether its own is understood: the
        // answer's header never changes.
        let always_oldest = Self::KEY == API_VERSIONS;
        i16::from(is_flexible::<Self::Response>(version) && !always_oldest)
    }
}

const API_VERSIONS: i16 = 18;

fn is_flexible<M: Message>(version: i16) -> bool {
    M::FLEXIBLE_FROM.is_some_and(|first| version >= first)
}

pub(crate) fn check_decode<M: Message>(version: i16) -> Result<(), DecodeError> {
    if M::VERSIONS.contains(&version) {
        Ok(())
    } else {
        Err(DecodeError::UnsupportedVersion { message: M::NAME, version })
    }
}

pub(crate) fn check_encode<M: Message>(version: i16) -> Result<(), EncodeError> {
    if M::VERSIONS.contains(&version) {
        Ok(())
    } else {
        Err(EncodeError::UnsupportedVersion { message: M::NAME, version })
    }
}
