//! The memory of answers that are being read and sent, under one budget for all readers.
//!
//! Batches in memory may be evicted while an answer holds them, and what comes from the disk is held
//! by nothing else: a hundred readers that ask for much and take it slowly would fill any memory.
//! No answer takes more than a part of what is left, so that several readers that are far behind get
//! much each. When the budget is used up nobody waits for the slow ones at first: each answer to a fetch then has
//! one batch, so that everybody moves, and readers that have stopped are left by their connections.
//! Where that is not enough, at half as much again, new answers wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// An answer takes this part of what is left at most. Without it the first five of eight clients that
/// read with the usual limits took all, and the others were answered batch by batch.
const PART_DIVISOR: usize = 4;

/// How many bytes there may be, and how many there are.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: usize,
    used: AtomicUsize,
    /// Told when less is used than before, as long as somebody might wait for that.
    freed: Notify,
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
        Arc::new(Self { bytes_max, used: AtomicUsize::new(0), freed: Notify::new() })
    }

    /// A share that holds nothing yet.
    pub(crate) fn share(self: &Arc<Self>) -> Share {
        Share { budget: Arc::clone(self), bytes: 0 }
    }

    /// Whether all of it is used.
    pub(crate) fn is_short(&self) -> bool {
        self.used.load(Ordering::Relaxed) >= self.bytes_max
    }

    /// Completes when another answer may be begun.
    pub(crate) async fn room(&self) {
        loop {
            let freed = self.freed.notified();
            if self.used.load(Ordering::Relaxed) < self.most() {
                return;
            }
            freed.await;
        }
    }

    /// From here on new answers wait, in bytes.
    const fn most(&self) -> usize {
        self.bytes_max.saturating_add(self.bytes_max / 2)
    }

    fn give_back(&self, bytes: usize) {
        if self.used.fetch_sub(bytes, Ordering::Relaxed) >= self.most() {
            self.freed.notify_waiters();
        }
    }
}

impl Share {
    /// Takes up to `wanted` bytes more, as far as its part of what is left allows. Returns how many.
    pub(crate) fn take(&mut self, wanted: usize) -> usize {
        let Budget { bytes_max, used, .. } = &*self.budget;
        let taken = |used: usize| {
            let left = bytes_max.saturating_sub(used);
            let part = left.saturating_add(self.bytes) / PART_DIVISOR;
            wanted.min(part.saturating_sub(self.bytes))
        };
        let before = used
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| Some(used + taken(used)));
        // The update never declines, so that both hold what was used before.
        let (Ok(before) | Err(before)) = before;
        let taken = taken(before);
        self.bytes += taken;
        taken
    }

    /// Puts what was needed in the place of what was taken before. It may be more: a first batch is
    /// sent whatever is left.
    pub(crate) fn settle(&mut self, taken: usize, needed: usize) {
        if needed >= taken {
            self.budget.used.fetch_add(needed - taken, Ordering::Relaxed);
        } else {
            self.budget.give_back(taken - needed);
        }
        self.bytes = self.bytes + needed - taken;
    }

    /// Makes it `bytes` at least, whatever is left: the answer is there already.
    pub fn cover(&mut self, bytes: usize) {
        self.settle(self.bytes, bytes.max(self.bytes));
    }

    /// Gives everything back.
    pub(crate) fn clear(&mut self) {
        self.budget.give_back(std::mem::take(&mut self.bytes));
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn shares_take_a_part_of_what_is_left_and_give_it_back() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (budget.share(), budget.share());
        assert_eq!(one.take(20), 20);
        assert_eq!(one.take(70), 5, "a quarter of all in the end");
        assert_eq!(two.take(70), 18);
        assert_eq!(two.take(1), 0);
        one.settle(25, 13);
        assert_eq!(two.take(70), 3);
        // A first batch that is larger than what was left.
        two.settle(21, 90);
        assert_eq!(one.take(1), 0);
        drop(two);
        assert_eq!(one.take(70), 12);
        one.clear();
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn new_answers_wait_when_half_as_much_again_is_used() {
        let budget = Budget::new(100);
        let (mut one, mut two) = (budget.share(), budget.share());
        one.cover(99);
        assert!(!budget.is_short());
        two.cover(50);
        two.cover(10);
        assert!(budget.is_short() && budget.room().now_or_never().is_some(), "149 are used");
        two.cover(51);
        let mut room = std::pin::pin!(budget.room());
        assert!(room.as_mut().now_or_never().is_none(), "150 are used");
        drop(two);
        assert!(room.now_or_never().is_some());
        assert!(!budget.is_short());
    }
}
