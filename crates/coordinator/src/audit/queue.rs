//! What waits to be written down.

use std::collections::BTreeMap;
use std::sync::Arc;

use millstream_types::Timestamp;

use super::Level;
use super::event::{Event, Kind, Outcome};

/// How many events wait at most. Each has a few hundred bytes, or some thousand if somebody wants it to.
pub const EVENTS_MAX: usize = 1_000;
/// How many places only changes may take that were made: whoever may change nothing can't drive them out.
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
    /// Whether it is a change that was made: all else may be refused where there is little room.
    pub is_made: bool,
    /// How many events it stands for; for one that says how many were left out, those.
    pub events: u64,
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
        let room = if event.is_made() { EVENTS_MAX } else { EVENTS_MAX - FOR_CHANGES };
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

    /// Notes that lines were not written. How many events were left out with them that were not before.
    pub fn lost(&mut self, lines: &[Line]) -> u64 {
        let all: u64 = lines.iter().map(|line| line.events).sum();
        self.dropped += all;
        // What such a line counts was counted when it was left out.
        let again = lines.iter().filter(|line| line.key == Kind::Dropped.name());
        all - again.map(|line| line.events).sum::<u64>()
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
    let (key, value) = (event.kind().name(), event.json(at, count));
    Line { key, at, value, is_made: event.is_made(), events: count }
}
