//! What waits to be written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::Timestamp;

use super::Level;
use super::event::{Event, Kind, Outcome};

/// How many events wait at most. Each has a few hundred bytes, or some thousand if somebody wants it to.
pub const EVENTS_MAX: usize = 1_000;
/// How many places only changes may take: whoever may change nothing can't drive them out.
const FOR_CHANGES: usize = 250;

/// A record of the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// What it is about: the record's key.
    pub key: &'static str,
    /// When it happened, for the first time.
    pub at: Timestamp,
    /// JSON: the record's value.
    pub value: String,
}

/// Events, in the order in which they came.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Vec<Waiting>,
    /// Where each refusal waits: the same again is counted there.
    refusals: BTreeMap<Arc<Event>, usize>,
    dropped: u64,
}

#[derive(Debug)]
struct Waiting {
    event: Arc<Event>,
    at: Timestamp,
    count: u64,
}

impl Queue {
    /// Takes an event, if there is room. Whether it was taken.
    pub fn push(&mut self, event: Event, at: Timestamp) -> bool {
        let known = self.refusals.get(&event).and_then(|place| self.waiting.get_mut(*place));
        if let Some(known) = known {
            known.count += 1;
            return true;
        }
        let is_change = event.kind() == Kind::Change;
        let room = if is_change { EVENTS_MAX } else { EVENTS_MAX - FOR_CHANGES };
        if self.waiting.len() >= room {
            self.dropped += 1;
            return false;
        }
        let event = Arc::new(event);
        if event.level() == Level::Denied {
            self.refusals.insert(Arc::clone(&event), self.waiting.len());
        }
        self.waiting.push(Waiting { event, at, count: 1 });
        true
    }

    /// Whether nothing waits.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.dropped == 0
    }

    /// Notes that lines were not written.
    pub const fn lost(&mut self, lines: u64) {
        self.dropped += lines;
    }

    /// Takes all that waits, as it is to be written `now`; behind it how many events were left out.
    pub fn take(&mut self, now: Timestamp) -> Vec<Line> {
        self.refusals.clear();
        let waiting = std::mem::take(&mut self.waiting);
        let mut lines: Vec<_> =
            waiting.iter().map(|one| line(&one.event, one.at, one.count)).collect();
        match std::mem::take(&mut self.dropped) {
            0 => {}
            dropped => lines.push(line(&Event::new(Kind::Dropped, Outcome::Refused), now, dropped)),
        }
        lines
    }
}

fn line(event: &Event, at: Timestamp, count: u64) -> Line {
    Line { key: event.kind().name(), at, value: event.json(at, count) }
}
