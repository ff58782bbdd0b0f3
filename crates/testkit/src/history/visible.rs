//! What must be seen, and what must not.

use super::index::Index;
use super::{Expected, Kind, Operation, Outcome, Step, Value, Violation};

pub(super) fn check(operations: &[Operation], index: &Index, expected: Expected) -> Vec<Violation> {
    let mut found = Vec::new();
    for operation in operations {
        let values: Vec<_> = operation.steps.iter().filter_map(sent).collect();
        match operation.outcome {
            Outcome::Succeeded => {
                found.extend(values.iter().filter_map(|it| missing(*it, index, expected)));
            }
            Outcome::Failed => found.extend(values.iter().filter_map(|it| aborted(*it, index))),
            Outcome::Unknown => {}
        }
        if let Kind::Transaction { committing, .. } = operation.kind
            && operation.outcome != Outcome::Failed
        {
            for value in &values {
                let seen = index.seen.get(value).into_iter().flatten().filter(|it| it.committed);
                let early = seen.filter(|it| committing.is_none_or(|asked| it.when < asked));
                found.extend(early.map(|it| Violation::EarlyRead(*value, it.at)).next());
            }
            found.extend(torn(&values, index, expected));
        }
    }
    found
}

fn sent(step: &Step) -> Option<Value> {
    match step {
        Step::Send { value, .. } => Some(*value),
        _ => None,
    }
}

/// An acknowledged value that nobody has polled.
fn missing(value: Value, index: &Index, expected: Expected) -> Option<Violation> {
    if index.is_seen(value, false) {
        return None;
    }
    let partition = index.sent.get(&value)?.partition;
    let last = index.last_polled.get(&partition);
    match index.place_of(value) {
        Some(at) if last.is_some_and(|last| at.offset < *last) => Some(Violation::Lost(value, at)),
        _ if expected.drained => Some(Violation::Unseen(value, partition)),
        _ => None,
    }
}

/// A value without effect that was polled as committed.
fn aborted(value: Value, index: &Index) -> Option<Violation> {
    let seen = index.seen.get(&value)?.iter().find(|seen| seen.committed)?;
    Some(Violation::AbortedRead(value, seen.at))
}

/// A transaction of which something was polled as committed, and something else passed over.
fn torn(values: &[Value], index: &Index, expected: Expected) -> Option<Violation> {
    let seen = values.iter().find(|value| index.is_seen(**value, true))?;
    let is_passed = |value: Value| {
        let place = index.place_of(value);
        let last = |at: super::Place| index.last_committed.get(&at.partition).copied();
        expected.drained || place.is_some_and(|at| last(at).is_some_and(|last| at.offset < last))
    };
    let missing = values.iter().find(|it| !index.is_seen(**it, true) && is_passed(**it))?;
    Some(Violation::TornTransaction(*seen, *missing))
}
