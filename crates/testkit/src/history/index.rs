//! What a history says of each value and each offset, wherever it says it.

use std::collections::{BTreeMap, BTreeSet};

use millstream_types::Offset;

use super::{Expected, Kind, Moment, Operation, Outcome, Partition, Place, Step, Value, Violation};

/// Who sent a value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sent {
    /// The operation's index.
    pub(super) by: usize,
    pub(super) partition: Partition,
}

/// A value was polled.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) at: Place,
    pub(super) when: Moment,
    pub(super) committed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Index {
    pub(super) sent: BTreeMap<Value, Sent>,
    pub(super) seen: BTreeMap<Value, Vec<Seen>>,
    /// By acknowledgements and polls.
    places: BTreeMap<Value, BTreeSet<Place>>,
    values: BTreeMap<Place, BTreeSet<Value>>,
    /// The last offset that anybody has polled; and that anybody has polled as committed.
    pub(super) last_polled: BTreeMap<Partition, Offset>,
    pub(super) last_committed: BTreeMap<Partition, Offset>,
    /// Values that certainly are there for whoever polls what is committed.
    visible: BTreeSet<Value>,
}

impl Index {
    pub(super) fn new(operations: &[Operation]) -> Self {
        let mut index = Self::default();
        for (by, operation) in operations.iter().enumerate() {
            for step in &operation.steps {
                match step {
                    Step::Send { partition, value, offset } => {
                        let partition = *partition;
                        index.sent.entry(*value).or_insert(Sent { by, partition });
                        if operation.outcome == Outcome::Succeeded {
                            index.visible.insert(*value);
                        }
                        if let Some(offset) = *offset {
                            index.place(*value, Place { partition, offset });
                        }
                    }
                    Step::Poll { committed, records } => {
                        for (at, value) in records {
                            index.see(*at, *value, operation.ended, *committed);
                        }
                    }
                    _ => {}
                }
            }
        }
        index
    }

    fn place(&mut self, value: Value, at: Place) {
        self.places.entry(value).or_default().insert(at);
        self.values.entry(at).or_default().insert(value);
    }

    fn see(&mut self, at: Place, value: Value, when: Moment, committed: bool) {
        self.place(value, at);
        self.seen.entry(value).or_default().push(Seen { at, when, committed });
        raise(&mut self.last_polled, at);
        if committed {
            raise(&mut self.last_committed, at);
            self.visible.insert(value);
        }
    }

    /// The first place of a value, if it is known.
    pub(super) fn place_of(&self, value: Value) -> Option<Place> {
        self.places.get(&value)?.first().copied()
    }

    pub(super) fn is_seen(&self, value: Value, committed: bool) -> bool {
        self.seen.get(&value).is_some_and(|seen| seen.iter().any(|it| it.committed || !committed))
    }

    /// The values between two offsets, neither included, that a poll must not pass over.
    pub(super) fn between(
        &self,
        from: Place,
        to: Place,
        committed: bool,
    ) -> impl Iterator<Item = (Place, Value)> {
        let from = Place { offset: from.offset.next(), ..from };
        let range = (from < to).then(|| self.values.range(from..to)).into_iter().flatten();
        range
            .flat_map(|(at, values)| values.iter().map(|value| (*at, *value)))
            .filter(move |(_, value)| !committed || self.visible.contains(value))
    }

    /// What contradicts itself, in whatever order it happened.
    pub(super) fn contradictions(&self, expected: Expected) -> Vec<Violation> {
        let mut found = Vec::new();
        for (at, values) in &self.values {
            let mut values = values.iter();
            if let (Some(one), Some(other)) = (values.next(), values.next()) {
                found.push(Violation::InconsistentOffset(*at, *one, *other));
            }
        }
        for (value, places) in &self.places {
            let mut places = places.iter();
            if expected.idempotent
                && let (Some(one), Some(other)) = (places.next(), places.next())
            {
                found.push(Violation::Duplicate(*value, *one, *other));
            }
        }
        for (value, seen) in &self.seen {
            if !self.sent.contains_key(value)
                && let Some(first) = seen.first()
            {
                found.push(Violation::NeverSent(*value, first.at));
            }
        }
        found
    }

    /// Whether a delayed request of the first protocol may be the cause.
    pub(super) fn is_inherent(&self, operations: &[Operation], violation: &Violation) -> bool {
        let (Violation::Lost(value, _)
        | Violation::Unseen(value, _)
        | Violation::AbortedRead(value, _)
        | Violation::EarlyRead(value, _)
        | Violation::TornTransaction(value, _)) = violation
        else {
            return false;
        };
        let by = self.sent.get(value).and_then(|sent| operations.get(sent.by));
        by.is_some_and(|it| matches!(it.kind, Kind::Transaction { first_protocol: true, .. }))
    }
}

fn raise(last: &mut BTreeMap<Partition, Offset>, at: Place) {
    let known = last.entry(at.partition).or_insert(at.offset);
    *known = (*known).max(at.offset);
}
