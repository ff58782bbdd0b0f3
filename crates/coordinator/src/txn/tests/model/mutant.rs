//! Coordinators that break a rule, made by twisting what goes in and what comes out.

use std::sync::Arc;

use super::super::super::record::{Fact, Stored};
use super::super::super::*;
use super::super::script::ID;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutant {
    /// A newcomer aborts the running transaction without a new epoch.
    InitDoesNotFence,
    /// A newcomer's own epoch is not new.
    InitDoesNotBump,
    /// Whoever asks to go on is let in, whoever came between.
    GoesOnAnyway,
    /// An old transaction is aborted without a new epoch.
    TimeoutDoesNotFence,
    /// An end of the second protocol gives no new epoch.
    EndDoesNotBump,
    /// All epochs of a producer id are used, the highest too.
    LastEpochIsGiven,
    /// An end counts for whatever runs, whatever its epoch.
    EndTakesAnyEpoch,
    /// An enlistment counts, whatever its epoch.
    AddTakesAnyEpoch,
    /// An end in the other way succeeds.
    EndTakesAnyResult,
    /// Success is answered though nothing was appended.
    FailureIsSuccess,
    /// What was not appended counts.
    FailureIsReplayed,
    /// A restart turns decisions to commit into aborts.
    RestartAborts,
    /// A restart forgets what was decided.
    RestartForgets,
    /// A transaction is complete before its markers are written.
    CompleteWithoutMarkers,
    /// Only the first of the partitions gets a marker.
    MarkersAreMissing,
}

impl Mutant {
    /// What the coordinator hears.
    pub(super) fn hears(self, command: Command, txns: &Transactions) -> Command {
        let Some(stored) = txns.ids.get(ID).map(|entry| &entry.stored) else { return command };
        match command {
            Command::Init(init) if self == Self::GoesOnAnyway && init.expected.is_some() => {
                Command::Init(Init { expected: None, ..init })
            }
            Command::End(end) if self == Self::EndTakesAnyEpoch => {
                let Producer { id: producer, epoch } = stored.producer;
                Command::End(End { producer, epoch, ..end })
            }
            Command::AddPartitions(add) if self == Self::AddTakesAnyEpoch => {
                let Producer { id: producer, epoch } = stored.producer;
                Command::AddPartitions(AddPartitions { producer, epoch, ..add })
            }
            Command::End(end) if self == Self::EndTakesAnyResult => {
                let commit = match stored.state {
                    TransactionState::PrepareCommit | TransactionState::CompleteCommit => true,
                    TransactionState::PrepareAbort | TransactionState::CompleteAbort => false,
                    TransactionState::Empty | TransactionState::Ongoing => end.commit,
                };
                Command::End(End { commit, ..end })
            }
            command => command,
        }
    }

    /// What the coordinator does.
    pub(super) fn does(self, effects: Effects, txns: &Transactions) -> Effects {
        let Some(before) = txns.ids.get(ID).map(|entry| entry.stored.clone()) else {
            return effects;
        };
        let is_init = matches!(effects.reply, Some(Reply::Init(_)));
        let twisted = match self {
            Self::InitDoesNotFence => is_init && before.state == TransactionState::Ongoing,
            Self::InitDoesNotBump => is_init && before.state != TransactionState::Ongoing,
            Self::TimeoutDoesNotFence => effects.reply.is_none(),
            Self::EndDoesNotBump => matches!(effects.reply, Some(Reply::End(Ok(_)))),
            Self::LastEpochIsGiven => matches!(effects.reply, Some(Reply::Init(Ok(_)))),
            _ => false,
        };
        if !twisted || effects.records.is_empty() {
            return effects;
        }
        let mut out = Effects { records: Vec::new(), reply: effects.reply };
        for record in &effects.records {
            let Ok(Some(Fact { id, value: Some(after) })) = Fact::decode(record) else { continue };
            let producer = match self {
                Self::LastEpochIsGiven if before.producer.epoch.0 == i16::MAX - 1 => {
                    before.bumped()
                }
                Self::LastEpochIsGiven => after.producer,
                _ => before.producer,
            };
            Fact { id, value: Some(Stored { producer, ..after }) }.put(&mut out.records);
            if let Some(Reply::Init(Ok(told)) | Reply::End(Ok(told))) = &mut out.reply {
                *told = producer;
            }
        }
        out
    }

    /// What a restart finds.
    pub(super) fn finds(self, record: &StoredRecord) -> StoredRecord {
        let Ok(Some(Fact { value: Some(stored), .. })) = Fact::decode(record) else {
            return record.clone();
        };
        let state = match (self, stored.state) {
            (Self::RestartAborts, TransactionState::PrepareCommit) => {
                TransactionState::PrepareAbort
            }
            (Self::RestartForgets, TransactionState::PrepareCommit) => {
                TransactionState::CompleteCommit
            }
            (_, state) => state,
        };
        let mut records = Vec::new();
        Fact { id: Arc::from(ID), value: Some(Stored { state, ..stored }) }.put(&mut records);
        records.remove(0)
    }

    /// What the host is told to mark.
    pub(super) fn orders(self, order: &mut MarkerOrder) {
        match self {
            Self::CompleteWithoutMarkers => order.partitions.clear(),
            Self::MarkersAreMissing => order.partitions.truncate(1),
            _ => {}
        }
    }
}
