//! Places in journals that readers are at: the journal is not trimmed under them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use millstream_types::{Lsn, SessionId};

use crate::util::locked;

/// How many readers are at or after each position.
#[derive(Debug, Default)]
pub(crate) struct Pins {
    places: Mutex<BTreeMap<(SessionId, Lsn), usize>>,
}

/// A reader's hold on everything at and after a position.
#[derive(Debug)]
pub(crate) struct Pin {
    pins: Arc<Pins>,
    places: Vec<(SessionId, Lsn)>,
}

impl Pins {
    /// Holds what lies at `places`. To be called under the lock of the partition that still needs
    /// them: then a trim that began before counts the partition, and one that begins after counts
    /// the pin.
    pub(crate) fn pin(self: &Arc<Self>, places: Vec<(SessionId, Lsn)>) -> Pin {
        let mut held = locked(&self.places);
        for place in &places {
            *held.entry(*place).or_default() += 1;
        }
        Pin { pins: Arc::clone(self), places }
    }

    /// The first position of `session` that a reader holds.
    pub(crate) fn first(&self, session: SessionId) -> Option<Lsn> {
        let held = locked(&self.places);
        let (place, _) = held.range((session, Lsn(0))..=(session, Lsn(u64::MAX))).next()?;
        Some(place.1)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut held = locked(&self.pins.places);
        for place in &self.places {
            if let Some(count) = held.get_mut(place) {
                *count -= 1;
                if *count == 0 {
                    held.remove(place);
                }
            }
        }
    }
}
