//! What can go wrong between a client and a cluster.

use std::io;
use std::time::Duration;

use millstream_wire::{DecodeError, EncodeError, ErrorCode};

use crate::connector::Address;

/// Why a client could not do what it was asked.
///
/// [`Error::is_retriable`] says whether the same call may succeed later. The calls of this crate
/// have retried already, for as long as their settings say, before they return such an error.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No connection could be opened.
    #[error("can't connect to {address}: {why}")]
    Unreachable {
        /// Where to.
        address: Address,
        /// What kind of failure the system reported.
        kind: io::ErrorKind,
        /// The failure in words.
        why: String,
        /// Whether the address was given by the user, rather than advertised by the cluster.
        bootstrap: bool,
    },
    /// The connection ended before the answer came. Whether the request was carried out is not
    /// known.
    #[error("the connection to {address} ended: {why}")]
    Disconnected {
        /// The peer.
        address: Address,
        /// What ended it.
        why: String,
    },
    /// No answer came in time. Whether the request was carried out is not known.
    #[error("{address} did not answer {request} within {limit:?}")]
    Timeout {
        /// The peer.
        address: Address,
        /// The request's name.
        request: &'static str,
        /// How long was waited.
        limit: Duration,
    },
    /// What the peer sent is not the Kafka protocol.
    #[error("{address} does not speak the Kafka protocol as expected: {why}")]
    Protocol {
        /// The peer.
        address: Address,
        /// What was wrong.
        why: String,
    },
    /// The broker has no version of the request that this client can use.
    #[error("{address} does not offer {request} in a version between {oldest} and {newest}")]
    Unsupported {
        /// The peer.
        address: Address,
        /// The request's name.
        request: &'static str,
        /// The oldest version that the client can use.
        oldest: i16,
        /// The newest version that the client can use.
        newest: i16,
    },
    /// The broker answered with an error.
    #[error("{}", refused(what, *code, message.as_deref()))]
    Refused {
        /// What the error is about, such as `topic orders`.
        what: String,
        /// The error.
        code: ErrorCode,
        /// What the broker said beside the code.
        message: Option<String>,
    },
    /// A partition has no leader at the moment, or the cluster no controller.
    #[error("{what} has no leader at the moment")]
    NoLeader {
        /// What lacks it.
        what: String,
    },
    /// A request could not be written.
    #[error("the request can't be written: {0}")]
    Encode(EncodeError),
    /// Fetched or built records are not valid.
    #[error("{what}: {why}")]
    Records {
        /// The partition.
        what: String,
        /// What is wrong with them.
        why: String,
    },
    /// A record was not acknowledged in time. It may have been stored, and may not.
    #[error("{what}: not acknowledged within {limit:?} (last error: {last})")]
    Undelivered {
        /// The partition.
        what: String,
        /// How long was tried.
        limit: Duration,
        /// Why the last attempt failed.
        last: Box<Self>,
    },
    /// The call makes no sense as it is; says why.
    #[error("{0}")]
    Invalid(String),
    /// The producer or consumer has been closed.
    #[error("closed")]
    Closed,
}

fn refused(what: &str, code: ErrorCode, message: Option<&str>) -> String {
    match message.filter(|message| !message.is_empty()) {
        Some(message) => format!("{what}: {message} ({})", code.name()),
        None => match words(code) {
            Some(words) => format!("{what}: {words} ({})", code.name()),
            None => format!("{what}: {}", code.name()),
        },
    }
}

/// What a code means, where brokers leave it at the code and people meet it often.
const fn words(code: ErrorCode) -> Option<&'static str> {
    match code {
        ErrorCode::UnknownTopicOrPartition => Some("there is no such topic or partition"),
        ErrorCode::GroupIdNotFound => Some("there is no such group"),
        ErrorCode::NonEmptyGroup => Some("the group has members"),
        ErrorCode::OffsetOutOfRange => Some("there is no such offset"),
        ErrorCode::MessageTooLarge => Some("the batch is larger than the topic takes"),
        ErrorCode::InvalidTopicException => Some("no name that a topic can have"),
        ErrorCode::InvalidGroupId => Some("no name that a group can have"),
        _ => None,
    }
}

impl Error {
    /// An error code of a broker as a result.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`] unless the code is "none".
    pub fn check(
        code: i16,
        message: Option<&str>,
        what: impl FnOnce() -> String,
    ) -> Result<(), Self> {
        match ErrorCode::or_unknown(code) {
            ErrorCode::None => Ok(()),
            code => Err(Self::Refused { what: what(), code, message: message.map(str::to_owned) }),
        }
    }

    /// The broker's error code, if it is one.
    #[must_use]
    pub const fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the same call may succeed later.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Disconnected { .. }
            | Self::Timeout { .. }
            | Self::NoLeader { .. } => true,
            Self::Refused { code, .. } => code.retriable(),
            Self::Protocol { .. }
            | Self::Unsupported { .. }
            | Self::Encode(_)
            | Self::Records { .. }
            | Self::Undelivered { .. }
            | Self::Invalid(_)
            | Self::Closed => false,
        }
    }

    /// Whether it says that a member of a group has to join again.
    #[must_use]
    pub const fn is_about_membership(&self) -> bool {
        matches!(
            self.code(),
            Some(
                ErrorCode::IllegalGeneration
                    | ErrorCode::RebalanceInProgress
                    | ErrorCode::UnknownMemberId
            )
        )
    }

    pub(crate) fn protocol(address: &Address, error: DecodeError) -> Self {
        Self::Protocol { address: address.clone(), why: error.to_string() }
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_broker_said_comes_first_and_its_code_last() {
        let what = || "topic orders".to_owned();
        let code = ErrorCode::TopicAlreadyExists.code();
        for (message, expected) in [
            (None, "topic orders: TOPIC_ALREADY_EXISTS"),
            (Some(""), "topic orders: TOPIC_ALREADY_EXISTS"),
            (Some("it is there"), "topic orders: it is there (TOPIC_ALREADY_EXISTS)"),
        ] {
            let error = Error::check(code, message, what).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        assert_eq!(Error::check(0, None, what), Ok(()));
    }

    #[test]
    fn an_unknown_code_is_an_error() {
        let error = Error::check(9_999, None, || "it".to_owned()).unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::UnknownServerError));
    }
}
