//! The memory of answers that are being read and sent, under one budget for all readers.
//!
//! Batches in memory may be evicted while an answer holds them, and what comes from the disk is held
//! by nothing else: a hundred readers that ask for much and take it slowly would fill any memory.
//! When the budget is used up nobody waits for the slow ones: each answer then has one batch, so that
//! everybody moves.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes there may be, and how many there are.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
}

/// What one answer takes of the budget. Given back when it is dropped: keep it until the answer has
/// been sent.
#[derive(Debug)]
pub struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Self { bytes_max, used: AtomicUsize::new(0) })
    }

    /// A share that holds nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
    }
}

impl Share {
    /// Takes up to `wanted` bytes more, as far as there are any. Returns how many.
    pub(crate) fn take(&mut self, wanted: usize) -> usize {
        let Budget { bytes_max, used } = &*self.budget;
        let taken = |used: usize| wanted.min(bytes_max.saturating_sub(used));
        let before = used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used + taken(used)));
        // The update never declines, so that both hold what was used before.
        let (Ok(before) | Err(before)) = before;
        self.bytes += taken(before);
        taken(before)
    }

    /// Puts what was needed in the place of what was taken before. It may be more: a first batch is
    /// sent whatever is left.
    pub(crate) fn settle(&mut self, taken: usize, needed: usize) {
        if needed >= taken {
            self.budget.used.fetch_add(needed - taken, Ordering::Relaxed);
        } else {
            self.budget.used.fetch_sub(taken - needed, Ordering::Relaxed);
        }
        self.bytes = self.bytes + needed - taken;
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self) {
        self.budget.used.fetch_sub(std::mem::take(&mut self.bytes), Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_take_what_is_left_and_give_it_back() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert_eq!(one.take(70), 70);
        assert_eq!(two.take(70), 30);
        assert_eq!(two.take(1), 0);
        one.settle(70, 60);
        assert_eq!(two.take(70), 10);
        // A first batch that is larger than what was left.
        two.settle(40, 90);
        assert_eq!(one.take(1), 0);
        drop(two);
        assert_eq!(one.take(70), 40);
        one.clear();
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }
}
