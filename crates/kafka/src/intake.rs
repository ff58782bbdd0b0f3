//! Memory for requests: what all connections together may be reading and handling.
//!
//! A small request is read in any case; a larger one waits, unread, until there is room for all of
//! it, in the order in which they came. So half of a request never waits for the other half, and the
//! memory of requests is bounded however many clients there are. Those that would take more than a
//! quarter go one at a time, and never count for more than half: everybody else moves meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// See the module.
#[derive(Debug)]
pub(crate) struct Intake {
    bytes_max: usize,
    /// One permit for each byte.
    room: Arc<Semaphore>,
    /// Taken by the one large request.
    large: Arc<Semaphore>,
    /// How many wait.
    waiting: watch::Sender<usize>,
    /// How many have waited since the start.
    held_back: AtomicU64,
}

/// The room of one request, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    _bytes: OwnedSemaphorePermit,
    _large: Option<OwnedSemaphorePermit>,
}

/// Counts one that waits.
struct Waiting<'a>(&'a watch::Sender<usize>);

impl Intake {
    /// Room for `bytes_max` bytes; `None` for as much as anybody wants.
    pub(crate) fn new(bytes_max: Option<usize>) -> Arc<Self> {
        // More would be more than a request can ask for.
        let bytes_max = bytes_max.unwrap_or(usize::MAX).clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self {
            bytes_max,
            room: Arc::new(Semaphore::new(bytes_max)),
            large: Arc::new(Semaphore::new(1)),
            waiting: watch::Sender::new(0),
            held_back: AtomicU64::new(0),
        })
    }

    /// The most that a single request may decode to, in bytes.
    pub(crate) const fn share_max(&self) -> usize {
        self.bytes_max / 2
    }

    /// Room for a request that takes `bytes`, if there is some now and nobody waits for it.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let (large, permits) = self.needs(bytes);
        let large = match large {
            true => Some(Arc::clone(&self.large).try_acquire_owned().ok()?),
            false => None,
        };
        let bytes = Arc::clone(&self.room).try_acquire_many_owned(permits).ok()?;
        Some(Held { _bytes: bytes, _large: large })
    }

    /// The same, as soon as there is room and it is this one's turn.
    pub(crate) async fn take(self: Arc<Self>, bytes: usize) -> Held {
        self.held_back.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting::count(&self.waiting);
        let (large, permits) = self.needs(bytes);
        let large = match large {
            true => Some(acquire(&self.large, 1).await),
            false => None,
        };
        Held { _bytes: acquire(&self.room, permits).await, _large: large }
    }

    /// Whether somebody waits for room.
    pub(crate) fn is_short(&self) -> bool {
        *self.waiting.borrow() > 0
    }

    /// Completes when somebody waits for room.
    pub(crate) async fn shortage(&self) {
        // An error means that the sender is gone, which is `self`.
        let _ = self.waiting.subscribe().wait_for(|waiting| *waiting > 0).await;
    }

    /// How many bytes are taken.
    pub(crate) fn used(&self) -> usize {
        self.bytes_max - self.room.available_permits()
    }

    /// How many requests have had to wait since the start.
    pub(crate) fn held_back(&self) -> u64 {
        self.held_back.load(Ordering::Relaxed)
    }

    /// Whether a request of so many bytes is a large one, and for how many it counts.
    fn needs(&self, bytes: usize) -> (bool, u32) {
        let counted = bytes.min(self.share_max()).max(1);
        (bytes > self.bytes_max / 4, u32::try_from(counted).unwrap_or(u32::MAX))
    }
}

async fn acquire(room: &Arc<Semaphore>, permits: u32) -> OwnedSemaphorePermit {
    match Arc::clone(room).acquire_many_owned(permits).await {
        Ok(permit) => permit,
        // Nobody closes it.
        Err(_) => std::future::pending().await,
    }
}

impl<'a> Waiting<'a> {
    fn count(waiting: &'a watch::Sender<usize>) -> Self {
        waiting.send_modify(|waiting| *waiting += 1);
        Self(waiting)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt as _;

    fn waits(intake: &Arc<Intake>, bytes: usize) -> std::pin::Pin<Box<impl Future<Output = Held>>> {
        let mut waits = Box::pin(Arc::clone(intake).take(bytes));
        assert!((&mut waits).now_or_never().is_none(), "there is room for {bytes}");
        waits
    }

    #[test]
    fn room_is_given_in_the_order_in_which_it_was_asked_for() {
        let intake = Intake::new(Some(100));
        let first: Vec<_> = (0..4).map(|_| intake.try_take(25).expect("there is room")).collect();
        assert_eq!((intake.used(), intake.is_short()), (100, false));
        let (mut one, mut two) = (waits(&intake, 20), waits(&intake, 5));
        assert!(intake.is_short());
        assert!(intake.shortage().now_or_never().is_some());
        drop(first);
        let (one, two) = ((&mut one).now_or_never(), (&mut two).now_or_never());
        assert_eq!(intake.used(), 25);
        assert_eq!((intake.is_short(), intake.held_back()), (false, 2));
        assert!(intake.shortage().now_or_never().is_none());
        drop((one, two));
        assert_eq!(intake.used(), 0);
    }

    #[test]
    fn who_waits_for_much_is_not_passed_by_those_who_want_little() {
        let intake = Intake::new(Some(100));
        let first = intake.try_take(25);
        let second: Vec<_> = (0..3).map(|_| intake.try_take(25)).collect();
        let mut much = waits(&intake, 20);
        drop(first);
        assert!(intake.try_take(6).is_none(), "20 of 25 are promised");
        assert!((&mut much).now_or_never().is_some());
        drop(second);
    }

    #[test]
    fn large_requests_go_one_at_a_time_and_leave_half() {
        let intake = Intake::new(Some(100));
        let large = intake.try_take(1_000_000).expect("larger than all there is");
        assert_eq!(intake.used(), 50);
        assert!(intake.try_take(26).is_none(), "there is a large one");
        let mut next = waits(&intake, 26);
        let others: Vec<_> = (0..2).map(|_| intake.try_take(25).expect("not large")).collect();
        drop(large);
        assert!((&mut next).now_or_never().is_some());
        drop(others);
    }

    #[test]
    fn who_stops_waiting_leaves_the_line() {
        let intake = Intake::new(Some(10));
        let held = intake.try_take(2);
        let large = intake.try_take(9).expect("counts for five");
        drop(waits(&intake, 9));
        assert!(!intake.is_short());
        drop((held, large));
        assert!(intake.try_take(9).is_some());
    }

    #[test]
    fn without_a_bound_nobody_waits() {
        let intake = Intake::new(None);
        let held: Vec<_> = (0..50).map(|_| intake.try_take(100 << 20)).collect();
        assert!(held.iter().all(Option::is_some));
    }
}
