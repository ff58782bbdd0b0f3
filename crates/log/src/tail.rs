//! Recent batches in memory, under one budget for all partitions.
//!
//! Consumers that keep up read what producers have just sent, without a copy and without a disk.
//! What is counted is what memory is held by: a batch that would pin the much larger request it
//! came in is copied out of it. The oldest go first, whosever they are.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use millstream_record::StoredBatch;
use millstream_types::Offset;

use crate::partition::Shared;
use crate::util::locked;

/// What a batch costs beside its bytes, in bytes: its places in the queues.
const OVERHEAD: u64 = 192;
/// Eviction makes room for a 32nd of the budget more than is needed, so that it is not done for
/// each append.
const SLACK_DIVISOR: u64 = 32;

/// See the module.
#[derive(Debug)]
pub(crate) struct Tail {
    budget: u64,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    used: u64,
    held: VecDeque<Held>,
}

/// One batch that a partition keeps in memory.
#[derive(Debug)]
pub(crate) struct Held {
    partition: Weak<Shared>,
    base: Offset,
    cost: u64,
}

impl Tail {
    pub(crate) fn new(budget: u64) -> Self {
        Self { budget, queue: Mutex::default() }
    }

    /// Counts a batch that costs `cost`; returns those that must be evicted for it, which the caller
    /// does when it holds no lock.
    pub(crate) fn push(&self, partition: &Arc<Shared>, base: Offset, cost: u64) -> Vec<Held> {
        let mut queue = locked(&self.queue);
        queue.used += cost;
        queue.held.push_back(Held { partition: Arc::downgrade(partition), base, cost });
        let mut evicted = Vec::new();
        if queue.used > self.budget {
            let goal = self.budget - self.budget / SLACK_DIVISOR;
            while queue.used > goal {
                let Some(held) = queue.held.pop_front() else { break };
                queue.used -= held.cost;
                evicted.push(held);
            }
        }
        evicted
    }

    /// What is used, in bytes.
    pub(crate) fn used(&self) -> u64 {
        locked(&self.queue).used
    }
}

/// Lets go of batches. Takes the partitions' locks.
pub(crate) fn evict(held: &[Held]) {
    let mut rest = held;
    while let Some(first) = rest.first() {
        let same = rest.iter().take_while(|held| held.partition.ptr_eq(&first.partition)).count();
        let (now, later) = rest.split_at(same);
        rest = later;
        let Some(partition) = first.partition.upgrade() else { continue };
        let mut state = locked(&partition.state);
        for held in now {
            let at = state.recent.partition_point(|batch| batch.base < held.base);
            if let Some(batch) = state.recent.get_mut(at).filter(|batch| batch.base == held.base) {
                batch.batch = None;
            }
        }
        state.forget();
    }
}

/// The batch as memory should keep it, and what it costs. `pinned` is the size of the allocation
/// that it is a slice of, if that is known.
pub(crate) fn kept(batch: &StoredBatch, pinned: Option<usize>) -> (StoredBatch, u64) {
    let size = batch.rest.len();
    let share = pinned.filter(|pinned| size >= pinned / 2);
    let rest = match share {
        Some(_) => batch.rest.clone(),
        None => Bytes::copy_from_slice(&batch.rest),
    };
    let cost = share.unwrap_or(size) as u64 + OVERHEAD;
    (StoredBatch { assigned: batch.assigned, rest }, cost)
}
