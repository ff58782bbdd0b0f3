//! From the domain's errors to the protocol's numbers: one match each, without a wildcard, so that
//! a new error does not compile until somebody has chosen its number.

use std::fmt::Display;

use millstream_broker::acl::AclError;
use millstream_broker::client_metrics::Refused as TelemetryRefused;
use millstream_broker::config::{ConfigError, Kind};
use millstream_broker::delegation::DelegationError;
use millstream_broker::groups::{
    CommitError, CommitPartitionError, ConsumerHeartbeatError, DeleteGroupError,
    DeleteOffsetsError, DeletePartitionError, FetchError as GroupFetchError, FetchRefused,
    HeartbeatError, HostFailure, JoinError, LeaveError, LeaveMemberError, StreamsHeartbeatError,
    SyncError,
};
use millstream_broker::log::{AppendError, DeleteError as LogDeleteError, ReadError};
use millstream_broker::quota::QuotaError;
use millstream_broker::record::{BatchError, CompressionError};
use millstream_broker::txn::{AddPartitionsError, EndError, InitError};
use millstream_broker::{
    ChangeError, ConfigsError, CredentialError, DeleteError, EpochError, FetchError, GroupsError,
    OffsetError, ProduceError, PushError, RemoveError, TokenError, TopicError, TxnError,
};
use millstream_wire::{ErrorCode, StrBytes};

use crate::api::fetch::session::SessionError;

/// What a client is told of an error.
pub(crate) trait Code {
    fn code(&self) -> ErrorCode;
}

/// What a client is told, and why, for people.
pub(crate) type Refusal = (ErrorCode, StrBytes);

/// A text for people has at most so many characters. Some quote the request, whose texts may be
/// longer than what an answer can hold (32,767 bytes before the flexible versions).
const TEXT_LEN_MAX: usize = 1_000;

/// The words of an error.
pub(crate) fn text(error: &impl Display) -> StrBytes {
    let mut text = error.to_string();
    if let Some((at, _)) = text.char_indices().nth(TEXT_LEN_MAX) {
        text.truncate(at);
        text.push_str("...");
    }
    StrBytes::from(text)
}

/// Code and words of an error of the domain.
pub(crate) fn refusal<E: Code + Display>(error: &E) -> Refusal {
    (error.code(), text(error))
}

impl Code for SessionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotFound => ErrorCode::FetchSessionIdNotFound,
            Self::WrongEpoch => ErrorCode::InvalidFetchSessionEpoch,
            Self::TopicIdsDiffer => ErrorCode::FetchSessionTopicIdError,
        }
    }
}

impl Code for ChangeError<QuotaError> {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(_) => ErrorCode::InvalidRequest,
            Self::Metadata(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl Code for ChangeError<AclError> {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(_) => ErrorCode::InvalidRequest,
            Self::Metadata(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl Code for ChangeError<RemoveError> {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(RemoveError::TooMany) => ErrorCode::InvalidRequest,
            Self::Metadata(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl Code for CredentialError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoName
            | Self::BadName
            | Self::Reserved(_)
            | Self::Iterations(_)
            | Self::Salt(_)
            | Self::SaltedPassword { .. } => ErrorCode::UnacceptableCredential,
            Self::NoMechanism => ErrorCode::UnsupportedSaslMechanism,
            Self::Twice => ErrorCode::DuplicateResource,
            Self::NotThere => ErrorCode::ResourceNotFound,
        }
    }
}

impl Code for TokenError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Disabled => ErrorCode::DelegationTokenAuthDisabled,
            Self::Refused(DelegationError::NotFound) => ErrorCode::DelegationTokenNotFound,
            Self::Refused(DelegationError::Expired) => ErrorCode::DelegationTokenExpired,
            Self::Refused(DelegationError::NotYours) => ErrorCode::DelegationTokenOwnerMismatch,
            Self::Refused(DelegationError::TooMany) => ErrorCode::PolicyViolation,
            Self::Metadata(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl Code for TelemetryRefused {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Invalid => ErrorCode::InvalidRequest,
            Self::Early => ErrorCode::ThrottlingQuotaExceeded,
            Self::UnknownSubscription => ErrorCode::UnknownSubscriptionId,
            Self::Compression => ErrorCode::UnsupportedCompressionType,
            Self::TooLarge => ErrorCode::TelemetryTooLarge,
        }
    }
}

impl Code for PushError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Refused(refused) => refused.code(),
            // The client pushes again at the next interval; after INVALID_RECORD it never does.
            Self::Compression(CompressionError::TooLarge { .. } | CompressionError::Failed(_)) => {
                ErrorCode::TelemetryTooLarge
            }
            Self::Compression(CompressionError::Corrupt(_)) | Self::Decode(_) => {
                ErrorCode::InvalidRecord
            }
        }
    }
}

impl Code for EpochError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Fenced { .. } => ErrorCode::FencedLeaderEpoch,
            Self::Unknown { .. } => ErrorCode::UnknownLeaderEpoch,
        }
    }
}

impl Code for ReadError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Corrupt { .. } | Self::Storage(_) => ErrorCode::KafkaStorageError,
            Self::NotLeader => ErrorCode::NotLeaderOrFollower,
        }
    }
}

impl Code for FetchError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoPartition => ErrorCode::UnknownTopicOrPartition,
            Self::Epoch(error) => error.code(),
            Self::Read(error) => error.code(),
        }
    }
}

impl Code for OffsetError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoPartition => ErrorCode::UnknownTopicOrPartition,
            Self::Epoch(error) => error.code(),
            Self::Read(error) => error.code(),
        }
    }
}

impl Code for BatchError {
    fn code(&self) -> ErrorCode {
        match self {
            // Retriable: another copy of the same bytes may be whole.
            Self::Length { .. }
            | Self::Crc { .. }
            | Self::Compression(CompressionError::Corrupt(_)) => ErrorCode::CorruptMessage,
            // The limit is one of the whole batch: producers split it and try again.
            Self::TooLarge { .. } | Self::Compression(CompressionError::TooLarge { .. }) => {
                ErrorCode::MessageTooLarge
            }
            Self::Compression(CompressionError::Failed(_)) => ErrorCode::UnknownServerError,
            Self::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::Timestamp { .. } | Self::TimestampType => ErrorCode::InvalidTimestamp,
            Self::Truncated { .. }
            | Self::UnsupportedMagic(_)
            | Self::TrailingBytes { .. }
            | Self::Count { .. }
            | Self::Control
            | Self::Producer { .. }
            | Self::InvalidRecord { .. } => ErrorCode::InvalidRecord,
        }
    }
}

impl Code for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::InvalidTxnState { .. } | Self::NotEnlisted { .. } => ErrorCode::InvalidTxnState,
            Self::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            // Retriable, all of them: room comes back when data has been laid out or somebody has
            // freed some of the disk, a new session is opened after one that failed, and what was
            // refused comes again. Kafka says the same when a log directory fails, as on a full disk.
            Self::Full
            | Self::DiskFull
            | Self::SessionOver(_)
            | Self::Storage(_)
            | Self::OutOfTurn { .. } => ErrorCode::KafkaStorageError,
            Self::NotLeader => ErrorCode::NotLeaderOrFollower,
            Self::Corrupt(_) => ErrorCode::CorruptMessage,
        }
    }
}

impl Code for ProduceError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoPartition => ErrorCode::UnknownTopicOrPartition,
            Self::BatchCount(_) => ErrorCode::InvalidRecord,
            Self::Internal => ErrorCode::InvalidTopicException,
            Self::Batch(error) => error.code(),
            // One timestamp among them decides, as in Apache Kafka.
            Self::Records(refused) => {
                let mut codes = refused.iter().map(Code::code);
                match codes.find(|code| *code == ErrorCode::InvalidTimestamp) {
                    Some(timestamp) => timestamp,
                    None => ErrorCode::InvalidRecord,
                }
            }
            Self::Append(error) => error.code(),
        }
    }
}

impl Code for TopicError {
    fn code(&self) -> ErrorCode {
        use millstream_broker::{CreateError, PartitionsError};
        match self {
            Self::NoTopic | Self::Partitions(PartitionsError::NoTopic) => {
                ErrorCode::UnknownTopicOrPartition
            }
            Self::Create(CreateError::Name(_) | CreateError::Collides(_)) | Self::Internal => {
                ErrorCode::InvalidTopicException
            }
            Self::Create(CreateError::Exists) => ErrorCode::TopicAlreadyExists,
            Self::Create(CreateError::Partitions(_))
            | Self::Partitions(PartitionsError::NotMore { .. } | PartitionsError::TooMany) => {
                ErrorCode::InvalidPartitions
            }
            Self::Create(CreateError::Replicas(_)) => ErrorCode::InvalidReplicationFactor,
            Self::Create(CreateError::Assignment(_))
            | Self::Partitions(PartitionsError::Assignment) => ErrorCode::InvalidReplicaAssignment,
            Self::CountsAndAssignment => ErrorCode::InvalidRequest,
            Self::Config(_) => ErrorCode::InvalidConfig,
            Self::TooManyPartitions { .. } => ErrorCode::PolicyViolation,
            Self::DeletionDisabled => ErrorCode::TopicDeletionDisabled,
            Self::Metadata(_) | Self::Groups(_) => ErrorCode::KafkaStorageError,
        }
    }
}

impl Code for DeleteError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoPartition => ErrorCode::UnknownTopicOrPartition,
            Self::Internal => ErrorCode::InvalidTopicException,
            Self::Policy => ErrorCode::PolicyViolation,
            Self::Log(error) => error.code(),
        }
    }
}

impl Code for LogDeleteError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            Self::Append(error) => error.code(),
        }
    }
}

impl Code for ConfigsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NoTopic => ErrorCode::UnknownTopicOrPartition,
            Self::NoBroker(_) | Self::NoLoggers => ErrorCode::InvalidRequest,
            Self::Config { kind, error } => config(*kind, error),
            Self::Metadata(_) => ErrorCode::KafkaStorageError,
        }
    }
}

/// A change of configuration that Kafka finds ill-formed is an invalid request, one that it finds
/// wrong an invalid configuration; but of brokers' configuration both are (KAFKA-13609), and of
/// subscriptions to client metrics what is found before anything is read.
fn config(kind: Kind, error: &ConfigError) -> ErrorCode {
    match (kind, error) {
        (
            _,
            ConfigError::Duplicate { .. } | ConfigError::Null { .. } | ConfigError::NoSuperUsers,
        ) => ErrorCode::InvalidRequest,
        (_, ConfigError::NotAList { .. }) => ErrorCode::InvalidConfig,
        (
            Kind::Broker,
            ConfigError::Unknown { .. }
            | ConfigError::Invalid { .. }
            | ConfigError::TooLong { .. }
            | ConfigError::ReadOnly { .. }
            | ConfigError::Reported { .. }
            | ConfigError::Conflict { .. },
        ) => ErrorCode::InvalidRequest,
        (
            Kind::ClientMetrics,
            ConfigError::Unknown { .. } | ConfigError::Invalid { name: "interval.ms", .. },
        ) => ErrorCode::InvalidRequest,
        (
            Kind::Topic | Kind::Group | Kind::ClientMetrics,
            ConfigError::Unknown { .. }
            | ConfigError::Invalid { .. }
            | ConfigError::TooLong { .. }
            | ConfigError::ReadOnly { .. }
            | ConfigError::Reported { .. }
            | ConfigError::Conflict { .. },
        ) => ErrorCode::InvalidConfig,
    }
}

impl Code for GroupsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotReady => ErrorCode::NotCoordinator,
            Self::SessionOver => ErrorCode::CoordinatorNotAvailable,
        }
    }
}

impl Code for HostFailure {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotCoordinator => ErrorCode::NotCoordinator,
            Self::Unavailable => ErrorCode::CoordinatorNotAvailable,
            Self::TooLarge => ErrorCode::UnknownServerError,
        }
    }
}

impl Code for TxnError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotReady => ErrorCode::NotCoordinator,
            Self::SessionOver | Self::NoProducerId => ErrorCode::CoordinatorNotAvailable,
        }
    }
}

impl Code for InitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidId => ErrorCode::InvalidRequest,
            Self::InvalidTimeout => ErrorCode::InvalidTransactionTimeout,
            Self::Fenced => ErrorCode::ProducerFenced,
            Self::Concurrent => ErrorCode::ConcurrentTransactions,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for AddPartitionsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidId => ErrorCode::InvalidRequest,
            Self::UnknownProducer => ErrorCode::InvalidProducerIdMapping,
            Self::Fenced => ErrorCode::ProducerFenced,
            Self::Concurrent => ErrorCode::ConcurrentTransactions,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for EndError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidId => ErrorCode::InvalidRequest,
            Self::UnknownProducer => ErrorCode::InvalidProducerIdMapping,
            Self::Fenced => ErrorCode::ProducerFenced,
            Self::Concurrent => ErrorCode::ConcurrentTransactions,
            Self::InvalidState => ErrorCode::InvalidTxnState,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for JoinError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::MemberIdRequired => ErrorCode::MemberIdRequired,
            Self::GroupFull => ErrorCode::GroupMaxSizeReached,
            Self::Superseded => ErrorCode::RebalanceInProgress,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for SyncError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::InconsistentProtocol => ErrorCode::InconsistentGroupProtocol,
            Self::RebalanceInProgress | Self::Superseded => ErrorCode::RebalanceInProgress,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for HeartbeatError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        }
    }
}

impl Code for ConsumerHeartbeatError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotServed => ErrorCode::UnsupportedVersion,
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::GroupNotFound => ErrorCode::GroupIdNotFound,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedEpoch { .. } => ErrorCode::FencedMemberEpoch,
            Self::UnreleasedInstance => ErrorCode::UnreleasedInstanceId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::GroupFull => ErrorCode::GroupMaxSizeReached,
            Self::UnsupportedAssignor { .. } => ErrorCode::UnsupportedAssignor,
            Self::InvalidRegex(_) => ErrorCode::InvalidRegularExpression,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for StreamsHeartbeatError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::NotServed => ErrorCode::UnsupportedVersion,
            Self::Invalid(_) => ErrorCode::InvalidRequest,
            Self::InvalidTopology(_) => ErrorCode::StreamsInvalidTopology,
            Self::InvalidTopologyEpoch(_) => ErrorCode::StreamsInvalidTopologyEpoch,
            Self::GroupNotFound => ErrorCode::GroupIdNotFound,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedEpoch { .. } => ErrorCode::FencedMemberEpoch,
            Self::UnreleasedInstance => ErrorCode::UnreleasedInstanceId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::GroupFull => ErrorCode::GroupMaxSizeReached,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for FetchRefused {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::StaleEpoch => ErrorCode::StaleMemberEpoch,
        }
    }
}

impl Code for LeaveError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::InvalidGroupId => ErrorCode::InvalidGroupId,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for LeaveMemberError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
        }
    }
}

impl Code for CommitError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::GroupNotFound => ErrorCode::GroupIdNotFound,
            Self::UnknownMember => ErrorCode::UnknownMemberId,
            Self::FencedInstance => ErrorCode::FencedInstanceId,
            Self::IllegalGeneration => ErrorCode::IllegalGeneration,
            Self::RebalanceInProgress => ErrorCode::RebalanceInProgress,
            Self::StaleEpoch => ErrorCode::StaleMemberEpoch,
            Self::NotServed => ErrorCode::UnsupportedVersion,
            Self::Host(HostFailure::TooLarge) => ErrorCode::InvalidCommitOffsetSize,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for CommitPartitionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::MetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        }
    }
}

impl Code for DeleteOffsetsError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::GroupNotFound => ErrorCode::GroupIdNotFound,
            Self::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for DeletePartitionError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::SubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        }
    }
}

impl Code for DeleteGroupError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::GroupNotFound => ErrorCode::GroupIdNotFound,
            Self::NonEmptyGroup => ErrorCode::NonEmptyGroup,
            Self::Host(failure) => failure.code(),
        }
    }
}

impl Code for GroupFetchError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::Unstable => ErrorCode::UnstableOffsetCommit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut() {
        for (length, told) in [(0, 0), (1_000, 1_000), (1_001, 1_003), (40_000, 1_003)] {
            assert_eq!(text(&"x".repeat(length)).len(), told);
            assert!(text(&"\u{1f980}".repeat(length)).len() <= 4 * told);
        }
    }
}
