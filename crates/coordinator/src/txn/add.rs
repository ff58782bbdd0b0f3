//! Enlisting partitions in a transaction.

use std::sync::Arc;

use millstream_types::Timestamp;

use super::command::AddPartitions;
use super::record::{Stored, is_given};
use super::reply::{AddPartitionsError, Producer, Reply, TransactionState};

/// What an enlistment changes, and its answer.
pub(super) fn add(
    stored: Option<&Stored>,
    add: &AddPartitions,
    wall: Timestamp,
) -> (Option<Stored>, Reply) {
    let stored = match check(stored, add) {
        Ok(stored) => stored,
        Err(error) => return (None, Reply::AddPartitions(Err(error))),
    };
    let missing: Vec<_> =
        add.partitions.iter().filter(|(topic, at)| !stored.contains(topic, *at)).cloned().collect();
    if add.verify_only {
        return (None, Reply::AddPartitions(Ok(missing)));
    }
    let ongoing = stored.state == TransactionState::Ongoing;
    let done = Reply::AddPartitions(Ok(Vec::new()));
    if ongoing && missing.is_empty() {
        return (None, done);
    }
    let mut partitions = if ongoing { stored.partitions.clone() } else { Default::default() };
    for (topic, partition) in &missing {
        partitions.entry(Arc::clone(topic)).or_default().insert(*partition);
    }
    let changed = Stored {
        producer: stored.producer,
        // Whoever enlists knows who it is; nobody has to learn it any more.
        previous: None,
        next: None,
        timeout_ms: stored.timeout_ms,
        state: TransactionState::Ongoing,
        partitions,
        started: stored.started.filter(|_| ongoing).or(Some(wall)),
        updated: wall,
        v2: add.v2 || (ongoing && stored.v2),
    };
    (Some(changed), done)
}

fn check<'a>(
    stored: Option<&'a Stored>,
    add: &AddPartitions,
) -> Result<&'a Stored, AddPartitionsError> {
    let stored = stored.ok_or(AddPartitionsError::UnknownProducer)?;
    let caller = Producer { id: add.producer, epoch: add.epoch };
    if stored.state.is_prepare() && caller == stored.successor() {
        return Err(AddPartitionsError::Concurrent);
    }
    if caller.id != stored.producer.id {
        return Err(AddPartitionsError::UnknownProducer);
    }
    if caller.epoch != stored.producer.epoch || !is_given(caller) {
        return Err(AddPartitionsError::Fenced);
    }
    if stored.state.is_prepare() {
        return Err(AddPartitionsError::Concurrent);
    }
    Ok(stored)
}
