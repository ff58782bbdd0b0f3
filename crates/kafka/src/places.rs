//! How many connections there may be at a time, in all and from one address.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// The places of a listener's connections.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: Mutex<Taken>,
    freed: Notify,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: BTreeMap<IpAddr, usize>,
}

/// One connection's place, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    /// Takes a place, if fewer than `most_of_address` are taken by connections from `address`.
    pub(crate) fn take(self: &Arc<Self>, address: IpAddr, most_of_address: usize) -> Option<Place> {
        // IPv4 may come mapped into IPv6.
        let address = address.to_canonical();
        let mut taken = self.taken();
        let of_address = taken.by_address.get(&address).copied().unwrap_or_default();
        if of_address >= most_of_address {
            return None;
        }
        taken.by_address.insert(address, of_address + 1);
        taken.all += 1;
        Some(Place { places: Arc::clone(self), address })
    }

    /// How many are taken.
    pub(crate) fn count(&self) -> usize {
        self.taken().all
    }

    /// Completes when a place has become free since the last time.
    pub(crate) async fn freed(&self) {
        self.freed.notified().await;
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // Nothing under this lock can leave a change half done.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        taken.all -= 1;
        if let Some(count) = taken.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&self.address);
            }
        }
        drop(taken);
        self.places.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_address_and_given_back() {
        let places = Arc::new(Places::default());
        let of = |last: u8| IpAddr::from([192, 0, 2, last]);
        let mapped = IpAddr::from([0, 0, 0, 0, 0, 0xffff, 0xc000, 0x0201]);
        let first = places.take(of(1), 2).expect("there is room");
        let second = places.take(mapped, 2).expect("there is room");
        assert!(places.take(of(1), 2).is_none(), "both are of the same address");
        let third = places.take(of(2), 2).expect("another address");
        assert_eq!(places.count(), 3);
        drop(first);
        drop(third);
        assert_eq!(places.count(), 1);
        let again = places.take(of(1), 2).expect("one was given back");
        drop((second, again));
        assert_eq!(places.taken().by_address, BTreeMap::new());
        assert_eq!(places.count(), 0);
    }
}
