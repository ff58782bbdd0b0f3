//! Why bytes are not a message, and why a message can't be written in a version.

use std::fmt;

/// Why bytes could not be decoded as a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end inside `field`, or `field` claims more elements than the bytes can hold.
    Truncated {
        /// `Struct.field`, as published.
        field: &'static str,
    },
    /// `field` holds a value that the protocol does not allow.
    Invalid {
        /// `Struct.field`, as published.
        field: &'static str,
    },
    /// `field` is null in a version in which it must not be.
    Null {
        /// `Struct.field`, as published.
        field: &'static str,
    },
    /// Holding `field` would take more memory than the reader's budget allows.
    OverBudget {
        /// `Struct.field`, as published.
        field: &'static str,
    },
    /// The message has no such version.
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// Bytes are left after the message's end.
    Trailing {
        /// The message's name.
        message: &'static str,
    },
    /// A request's header names an API that is not one of [`ApiKey`](crate::ApiKey).
    UnknownApi {
        /// The API's key.
        key: i16,
        /// The version asked for.
        version: i16,
    },
}

/// Why a message could not be encoded in a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EncodeError {
    /// `field` has a meaning that would be lost: the version lacks it and it may not be ignored.
    FieldNotInVersion {
        /// `Struct.field`, as published.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// `field` is null and must not be in this version.
    Null {
        /// `Struct.field`, as published.
        field: &'static str,
        /// The version asked for.
        version: i16,
    },
    /// `field` is longer than its length can say.
    TooLong {
        /// `Struct.field`, as published.
        field: &'static str,
    },
    /// The message has no such version.
    UnsupportedVersion {
        /// The message's name.
        message: &'static str,
        /// The version asked for.
        version: i16,
    },
}

/// A number that stands for no API, or for no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownCode(pub i16);

impl From<millstream_types::DecodeError> for DecodeError {
    fn from(error: millstream_types::DecodeError) -> Self {
        match error {
            millstream_types::DecodeError::Truncated { field } => Self::Truncated { field },
            millstream_types::DecodeError::Invalid { field } => Self::Invalid { field },
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { field } => write!(f, "the bytes end inside {field}"),
            Self::Invalid { field } => write!(f, "{field} holds a value that is not allowed"),
            Self::Null { field } => write!(f, "{field} is null"),
            Self::OverBudget { field } => write!(f, "{field} would take too much memory"),
            Self::UnsupportedVersion { message, version } => {
                write!(f, "{message} has no version {version}")
            }
            Self::Trailing { message } => write!(f, "bytes are left after {message}"),
            Self::UnknownApi { key, version } => {
                write!(f, "no API has the key {key} (version {version} asked for)")
            }
        }
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FieldNotInVersion { field, version } => {
                write!(f, "{field} is set, but version {version} lacks it")
            }
            Self::Null { field, version } => {
                write!(f, "{field} is null, which version {version} does not allow")
            }
            Self::TooLong { field } => write!(f, "{field} is too long"),
            Self::UnsupportedVersion { message, version } => {
                write!(f, "{message} has no version {version}")
            }
        }
    }
}

impl fmt::Display for UnknownCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not a known code", self.0)
    }
}

impl std::error::Error for UnknownCode {}

impl std::error::Error for DecodeError {}

impl std::error::Error for EncodeError {}
