//! Transactions: who may write under a transactional id, and how what was written ends.

pub(crate) mod add_offsets;
pub(crate) mod add_partitions;
pub(crate) mod describe;
pub(crate) mod end;
pub(crate) mod list;
pub(crate) mod offset_commit;
pub(crate) mod write_markers;

use millstream_broker::EnlistError;
use millstream_broker::txn::AddPartitionsError;
use millstream_wire::ErrorCode;

use crate::errors::Code as _;

/// Since which version of AddPartitionsToTxn, AddOffsetsToTxn and EndTxn a producer that was fenced is
/// told so in a word of its own.
const FENCED_SINCE: i16 = 2;

fn add_code(version: i16, error: AddPartitionsError) -> ErrorCode {
    match error {
        AddPartitionsError::Fenced if version < FENCED_SINCE => ErrorCode::InvalidProducerEpoch,
        other => other.code(),
    }
}

/// What the writer of records or offsets is told. `abortable`: whether it knows of errors after which
/// its transaction can only be aborted (KIP-1050).
pub(crate) fn enlist_code(error: EnlistError, abortable: bool) -> ErrorCode {
    match error {
        EnlistError::NotAdded if abortable => ErrorCode::TransactionAbortable,
        EnlistError::NotAdded => ErrorCode::InvalidTxnState,
        EnlistError::Refused(AddPartitionsError::Fenced) => ErrorCode::InvalidProducerEpoch,
        EnlistError::Refused(error) => error.code(),
        EnlistError::Coordinator(error) => error.code(),
    }
}
