//! The places of connections: few, and nobody keeps others out by taking all of them.
//!
//! Whoever connects gets a place at once. Where there is none left, the address that has the most loses its
//! oldest: a probe gets in whatever others do, and is gone before it is its turn.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Connections at a time. Those who look at a broker are few.
const PLACES_MAX: usize = 64;

/// Connections that have not ended yet though they have lost their place are so many at most: then nobody is
/// let in before one has.
const LEAVING_MAX: usize = 3 * PLACES_MAX;

/// All places. Cheap to clone.
#[derive(Clone)]
pub(super) struct Places {
    taken: Arc<Mutex<Taken>>,
    open: Arc<Semaphore>,
}

#[derive(Default)]
struct Taken {
    /// The oldest first.
    places: Vec<Entry>,
    next: u64,
}

struct Entry {
    number: u64,
    address: IpAddr,
    leave: oneshot::Sender<()>,
}

/// The right to open one more connection.
pub(super) struct Ticket {
    _permit: Option<OwnedSemaphorePermit>,
}

/// One place; free when it is dropped.
pub(super) struct Place {
    number: u64,
    taken: Arc<Mutex<Taken>>,
    lost: oneshot::Receiver<()>,
    _ticket: Ticket,
}

impl Places {
    pub(super) fn new() -> Self {
        let open = Arc::new(Semaphore::new(PLACES_MAX + LEAVING_MAX));
        Self { taken: Arc::default(), open }
    }

    /// Waits until one more connection may be open.
    pub(super) async fn ticket(&self) -> Ticket {
        // Nobody closes it.
        Ticket { _permit: Arc::clone(&self.open).acquire_owned().await.ok() }
    }

    /// A place for somebody from there, of somebody else's if need be.
    pub(super) fn take(&self, address: IpAddr, ticket: Ticket) -> Place {
        let (leave, lost) = oneshot::channel();
        let mut taken = lock(&self.taken);
        if taken.places.len() >= PLACES_MAX
            && let Some(entry) = taken.give_up()
        {
            // Whoever has gone by himself need not be told.
            let _ = entry.leave.send(());
        }
        let number = taken.next;
        taken.next += 1;
        taken.places.push(Entry { number, address, leave });
        Place { number, taken: Arc::clone(&self.taken), lost, _ticket: ticket }
    }
}

impl Taken {
    /// The oldest place of the address that has the most.
    fn give_up(&mut self) -> Option<Entry> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for entry in &self.places {
            *counts.entry(entry.address).or_default() += 1;
        }
        let most = counts.values().copied().max()?;
        let at = self.places.iter().position(|entry| counts.get(&entry.address) == Some(&most))?;
        Some(self.places.remove(at))
    }
}

impl Place {
    /// Completes when somebody else has it.
    pub(super) fn poll_lost(&mut self, context: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.lost).poll(context).map(|_| ())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.taken).places.retain(|entry| entry.number != self.number);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(number: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, number])
    }

    fn is_lost(place: &mut Place) -> bool {
        place.poll_lost(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn whoever_has_the_most_places_loses_his_oldest() {
        let places = Places::new();
        let take = |number| places.take(address(number), Ticket { _permit: None });
        let mut probe = take(1);
        let mut greedy: Vec<_> = (1..PLACES_MAX).map(|_| take(2)).collect();
        let mut others: Vec<_> = (3..13).map(take).collect();
        let lost: Vec<_> = greedy.iter_mut().map(is_lost).collect();
        assert!(lost.iter().take(10).all(|lost| *lost) && !lost.iter().skip(10).any(|lost| *lost));
        assert!(!is_lost(&mut probe) && !others.iter_mut().any(is_lost));
        // What is given back is free.
        drop(others);
        let mut one = take(4);
        assert!(!greedy.iter_mut().skip(10).any(is_lost) && !is_lost(&mut one));
        drop((greedy, probe, one));
        assert_eq!(lock(&places.taken).places.len(), 0);
    }
}
