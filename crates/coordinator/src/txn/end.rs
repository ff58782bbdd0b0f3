//! Ending a transaction: the decision, its retries, and its completion.
//!
//! What is answered where no transaction runs (KIP-890): `old` is the identity before the end,
//! `new` the one that the end gave; with the first protocol both are the same. `bump` ends an empty
//! transaction: a producer of the second protocol can't know whether a write that failed has
//! enlisted its partition, and so aborts.
//!
//! | state | abort, old | abort, new | commit, old | commit, new |
//! |---|---|---|---|---|
//! | Empty | fenced | bump (V1: invalid) | fenced | invalid |
//! | CompleteAbort | done | bump (V1: done) | invalid | invalid |
//! | CompleteCommit | invalid | bump (V1: invalid) | done | invalid (V1: done) |
//! | Prepare, same | concurrent | concurrent | concurrent | concurrent |
//! | Prepare, other | invalid | concurrent (V1: invalid) | invalid | concurrent (V1: invalid) |

use millstream_types::{ProducerEpoch, Timestamp};

use super::command::End;
use super::record::{Partitions, Stored, is_given};
use super::reply::{EndError, MarkedError, Producer, Reply, TransactionState};

/// What an end changes, and its answer.
pub(super) fn end(stored: Option<&Stored>, end: &End, wall: Timestamp) -> (Option<Stored>, Reply) {
    let Some(stored) = stored else { return refused(EndError::UnknownProducer) };
    let caller = Producer { id: end.producer, epoch: end.epoch };
    // The first protocol gives nobody a new epoch, so that nobody retries with an old one.
    let is_retry = end.v2 && stored.v2 && stored.last() == Some(caller);
    let is_successor = stored.state.is_prepare() && caller == stored.successor();
    if !is_retry && !is_successor {
        if caller.id != stored.producer.id {
            return refused(EndError::UnknownProducer);
        }
        if caller.epoch != stored.producer.epoch || !is_given(caller) {
            return refused(EndError::Fenced);
        }
    }
    match stored.state {
        TransactionState::Ongoing if is_retry => refused(EndError::Fenced),
        TransactionState::Ongoing => decide(stored, end, wall),
        TransactionState::Empty if is_retry => refused(EndError::Fenced),
        TransactionState::Empty => end_nothing(stored, end, wall),
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
            // With the second protocol the caller has been told of its success, and this is about
            // what comes after it.
            let is_next = stored.v2 && !is_retry;
            let same = (stored.state == TransactionState::PrepareCommit) == end.commit;
            refused(if same || is_next { EndError::Concurrent } else { EndError::InvalidState })
        }
        TransactionState::CompleteCommit | TransactionState::CompleteAbort if is_retry => {
            let same = (stored.state == TransactionState::CompleteCommit) == end.commit;
            if same { answer_again(stored, end, wall) } else { refused(EndError::InvalidState) }
        }
        TransactionState::CompleteCommit | TransactionState::CompleteAbort => {
            let same = (stored.state == TransactionState::CompleteCommit) == end.commit;
            if same && !end.v2 && !stored.v2 {
                (None, Reply::End(Ok(stored.producer)))
            } else {
                end_nothing(stored, end, wall)
            }
        }
    }
}

/// The completion of a transaction whose markers are all written.
pub(super) fn marked(
    stored: Option<&Stored>,
    ordered: Producer,
    wall: Timestamp,
) -> (Option<Stored>, Reply) {
    let Some(stored) = stored.filter(|it| it.state.is_prepare() && it.producer == ordered) else {
        return (None, Reply::Marked(Err(MarkedError::NotOrdered)));
    };
    let state = match stored.state {
        TransactionState::PrepareCommit => TransactionState::CompleteCommit,
        _ => TransactionState::CompleteAbort,
    };
    let complete = Stored {
        producer: stored.successor(),
        next: None,
        state,
        partitions: Partitions::new(),
        updated: wall,
        ..stored.clone()
    };
    (Some(complete), Reply::Marked(Ok(())))
}

/// The running transaction is decided.
fn decide(stored: &Stored, end: &End, wall: Timestamp) -> (Option<Stored>, Reply) {
    let state = match end.commit {
        true => TransactionState::PrepareCommit,
        false => TransactionState::PrepareAbort,
    };
    let decided = Stored { state, updated: wall, v2: end.v2, ..stored.clone() };
    let decided = if !end.v2 {
        Stored { previous: None, next: None, ..decided }
    } else {
        let next = if !stored.is_exhausted() {
            None
        } else if end.fresh.is_some() {
            end.fresh
        } else {
            return (None, Reply::NeedsProducerId);
        };
        let previous = Some(stored.producer.id);
        Stored { producer: stored.bumped(), previous, next, ..decided }
    };
    let reply = Reply::End(Ok(decided.successor()));
    (Some(decided), reply)
}

/// The end of a transaction in which the coordinator has seen nothing.
fn end_nothing(stored: &Stored, end: &End, wall: Timestamp) -> (Option<Stored>, Reply) {
    if !end.v2 || end.commit {
        return refused(EndError::InvalidState);
    }
    let producer = if !stored.is_exhausted() {
        stored.bumped()
    } else if let Some(id) = end.fresh {
        Producer { id, epoch: ProducerEpoch(0) }
    } else {
        return (None, Reply::NeedsProducerId);
    };
    let aborted = Stored {
        producer,
        previous: Some(stored.producer.id),
        next: None,
        state: TransactionState::CompleteAbort,
        started: Some(wall),
        updated: wall,
        v2: true,
        ..stored.clone()
    };
    (Some(aborted), Reply::End(Ok(producer)))
}

/// The result of an end, for whoever has not received it. Where a transaction in a producer's last
/// epoch was aborted because of its age, there is no epoch to answer with: the producer gets a new
/// id (KAFKA-20090).
fn answer_again(stored: &Stored, end: &End, wall: Timestamp) -> (Option<Stored>, Reply) {
    if !stored.is_beyond() {
        return (None, Reply::End(Ok(stored.producer)));
    }
    let Some(id) = end.fresh else { return (None, Reply::NeedsProducerId) };
    let producer = Producer { id, epoch: ProducerEpoch(0) };
    let previous = Some(stored.producer.id);
    let renewed = Stored { producer, previous, updated: wall, ..stored.clone() };
    (Some(renewed), Reply::End(Ok(producer)))
}

fn refused(error: EndError) -> (Option<Stored>, Reply) {
    (None, Reply::End(Err(error)))
}
