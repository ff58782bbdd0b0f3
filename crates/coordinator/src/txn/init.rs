//! Becoming the producer of a transactional id.

use millstream_types::{ProducerEpoch, Timestamp};

use super::command::Init;
use super::record::{Partitions, Stored, is_given};
use super::reply::{InitError, Producer, Reply, TransactionState};

/// Who the caller says that it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    /// Nobody: a newcomer, which takes over from whoever was there.
    Nobody,
    /// The present producer.
    Current,
    /// The producer before, which may learn of the present identity: this is a retry.
    Last,
}

/// What an init changes, and its answer.
pub(super) fn init(
    stored: Option<&Stored>,
    init: &Init,
    wall: Timestamp,
) -> (Option<Stored>, Reply) {
    let Some(stored) = stored else { return begin(init, wall) };
    let before = match init.expected {
        None => Before::Nobody,
        Some((id, epoch)) => {
            let caller = Producer { id, epoch };
            if !is_given(caller) {
                return refused(InitError::Fenced);
            } else if caller == stored.producer || caller == stored.successor() {
                Before::Current
            } else if stored.last() == Some(caller) {
                Before::Last
            } else {
                return refused(InitError::Fenced);
            }
        }
    };
    match stored.state {
        // Whoever runs it has been told its identity: this is an old request that was delayed.
        TransactionState::Ongoing if before == Before::Last => refused(InitError::Fenced),
        TransactionState::Ongoing => {
            let learns = before == Before::Current;
            (Some(fenced(stored, learns, wall)), Reply::Init(Err(InitError::Concurrent)))
        }
        TransactionState::PrepareCommit | TransactionState::PrepareAbort => {
            refused(InitError::Concurrent)
        }
        TransactionState::Empty
        | TransactionState::CompleteCommit
        | TransactionState::CompleteAbort => renew(stored, before, init, wall),
    }
}

/// The running transaction, aborted because of a newcomer or of its age. One bump fences the
/// writer; the next init bumps once more. `learns`: the holder of the epoch may learn of the new
/// one, because nobody has taken over from it.
pub(super) fn fenced(stored: &Stored, learns: bool, wall: Timestamp) -> Stored {
    Stored {
        producer: stored.bumped(),
        previous: learns.then_some(stored.producer.id),
        next: None,
        state: TransactionState::PrepareAbort,
        updated: wall,
        v2: true,
        ..stored.clone()
    }
}

/// The first producer of a transactional id.
fn begin(init: &Init, wall: Timestamp) -> (Option<Stored>, Reply) {
    let Some(id) = init.fresh else { return (None, Reply::NeedsProducerId) };
    let stored = Stored {
        producer: Producer { id, epoch: ProducerEpoch(0) },
        previous: None,
        next: None,
        timeout_ms: init.timeout_ms,
        state: TransactionState::Empty,
        partitions: Partitions::new(),
        started: None,
        updated: wall,
        v2: false,
    };
    succeeded(stored)
}

/// The next identity of a producer that has no transaction.
fn renew(stored: &Stored, before: Before, init: &Init, wall: Timestamp) -> (Option<Stored>, Reply) {
    let learns = before != Before::Nobody;
    let (producer, previous) = if before == Before::Last && !stored.is_beyond() {
        (stored.producer, stored.previous)
    } else if stored.is_exhausted() {
        let Some(id) = init.fresh else { return (None, Reply::NeedsProducerId) };
        let producer = Producer { id, epoch: ProducerEpoch(0) };
        (producer, learns.then_some(stored.producer.id))
    } else {
        (stored.bumped(), learns.then_some(stored.producer.id))
    };
    succeeded(Stored {
        producer,
        previous,
        next: None,
        timeout_ms: init.timeout_ms,
        state: TransactionState::Empty,
        partitions: Partitions::new(),
        started: None,
        updated: wall,
        v2: false,
    })
}

fn succeeded(stored: Stored) -> (Option<Stored>, Reply) {
    let reply = Reply::Init(Ok(stored.producer));
    (Some(stored), reply)
}

fn refused(error: InitError) -> (Option<Stored>, Reply) {
    (None, Reply::Init(Err(error)))
}
