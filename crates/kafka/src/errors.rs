//! From the domain's errors to the protocol's numbers: one match each, without a wildcard, so that
//! a new error does not compile until somebody has chosen its number.

use millstream_broker::groups::{
    CommitError, CommitPartitionError, DeleteGroupError, DeleteOffsetsError, DeletePartitionError,
    FetchError as GroupFetchError, HeartbeatError, HostFailure, JoinError, LeaveError,
    LeaveMemberError, SyncError,
};
use millstream_broker::log::{AppendError, DeleteError as LogDeleteError, ReadError};
use millstream_broker::record::BatchError;
use millstream_broker::{
    ConfigsError, DeleteError, EpochError, FetchError, GroupsError, OffsetError, ProduceError,
    TopicError,
};
use millstream_wire::ErrorCode;

use crate::api::fetch::session::SessionError;

/// What a client is told of an error.
pub(crate) trait Code {
    fn code(&self) -> ErrorCode;
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
            Self::Truncated { .. }
            | Self::Length { .. }
            | Self::Crc { .. }
            | Self::Compression(_) => ErrorCode::CorruptMessage,
            Self::UnsupportedMagic(_) => ErrorCode::UnsupportedForMessageFormat,
            Self::TooLarge { .. } => ErrorCode::MessageTooLarge,
            Self::UnknownCompression(_) => ErrorCode::UnsupportedCompressionType,
            Self::Timestamp { .. } => ErrorCode::InvalidTimestamp,
            Self::TrailingBytes { .. }
            | Self::Count { .. }
            | Self::Control
            | Self::Producer { .. }
            | Self::TimestampType
            | Self::InvalidRecord { .. } => ErrorCode::InvalidRecord,
        }
    }
}

impl Code for AppendError {
    fn code(&self) -> ErrorCode {
        match self {
            Self::OutOfOrderSequence { .. } => ErrorCode::OutOfOrderSequenceNumber,
            Self::InvalidProducerEpoch { .. } => ErrorCode::InvalidProducerEpoch,
            Self::InvalidTxnState { .. } => ErrorCode::InvalidTxnState,
            Self::CoordinatorFenced { .. } => ErrorCode::TransactionCoordinatorFenced,
            // Retriable, all three: room comes back when data has been laid out, and a new session
            // is opened after one that failed.
            Self::Full | Self::SessionOver(_) | Self::Storage(_) => ErrorCode::KafkaStorageError,
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
            Self::Transactional => ErrorCode::InvalidTxnState,
            Self::Batch(error) => error.code(),
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
            Self::Config(_) => ErrorCode::InvalidConfig,
            Self::Metadata(_) => ErrorCode::KafkaStorageError,
        }
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
