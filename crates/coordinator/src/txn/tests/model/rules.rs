//! What must hold, whatever happens.

use super::super::super::record::Stored;
use super::super::super::reply::TransactionState;

/// The invariants, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rule {
    /// At most one of the identities that were given out may write.
    OneWriter,
    /// No identity is given to two producers.
    IdentitiesAreUnique,
    /// The highest epoch is given to nobody: it is there to fence with.
    LastEpochIsKept,
    /// A producer that another one has taken over from never succeeds again.
    FencedStaysFenced,
    /// What is decided stays decided, and is then complete.
    DecisionsStand,
    /// The identity of a transactional id never goes back, and no step takes two epochs.
    EpochsDoNotCreep,
    /// All that a transaction wrote ends in the same way.
    OneDecision,
    /// What a producer was told to be committed is committed, all of it.
    CommittedIsCommitted,
    /// What a producer was told to be aborted is not committed.
    AbortedIsAborted,
    /// A marker of the second protocol, or of a fence, is above the epoch of what it ends.
    MarkersFence,
    /// No partition has to refuse a marker for being old.
    MarkersAreTaken,
    /// A restart finds what the running coordinator had.
    ReplayIsLive,
    /// A failed append changes nothing.
    FailureChangesNothing,
    /// When everybody has fallen silent, every transaction ends, and a newcomer is let in.
    Settles,
}

/// Whether a record may follow on another.
pub(super) fn may_follow(before: Option<&Stored>, after: &Stored) -> Result<(), Rule> {
    use TransactionState as S;
    let Some(before) = before else { return Ok(()) };
    let stands = match (before.state, after.state) {
        (S::Ongoing, S::Ongoing | S::PrepareCommit | S::PrepareAbort)
        | (S::PrepareCommit, S::CompleteCommit)
        | (S::PrepareAbort, S::CompleteAbort) => true,
        (S::Ongoing | S::PrepareCommit | S::PrepareAbort, _) => false,
        (_, S::Empty | S::Ongoing | S::CompleteAbort) => true,
        (_, S::PrepareCommit | S::PrepareAbort | S::CompleteCommit) => false,
    };
    if !stands {
        return Err(Rule::DecisionsStand);
    }
    let (old, new) = (before.producer, after.producer);
    let grows = if old.id == new.id {
        (0..=1).contains(&(i32::from(new.epoch.0) - i32::from(old.epoch.0)))
    } else {
        new.id > old.id && new.epoch.0 == 0
    };
    if grows { Ok(()) } else { Err(Rule::EpochsDoNotCreep) }
}
