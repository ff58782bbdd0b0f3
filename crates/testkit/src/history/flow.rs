//! Who has read from whom: transactions that have read each other's values, in a circle, can't all
//! have been committed before they were read.

use std::collections::BTreeMap;

use super::index::Index;
use super::{Kind, Operation, Outcome, Step, Value, Violation};

/// Per transaction, by index: from which others it has read as committed, and a value of each.
type Reads = BTreeMap<usize, BTreeMap<usize, Value>>;

pub(super) fn check(operations: &[Operation], index: &Index) -> Vec<Violation> {
    let mut reads = reads(operations, index);
    // Who has read from nobody that is left is in no circle; without those, who is left is.
    loop {
        let done: Vec<_> =
            reads.iter().filter(|(_, from)| from.is_empty()).map(|(at, _)| *at).collect();
        if done.is_empty() {
            break;
        }
        for at in done {
            reads.remove(&at);
            reads.values_mut().for_each(|from| {
                from.remove(&at);
            });
        }
    }
    circle(&reads).into_iter().collect()
}

fn reads(operations: &[Operation], index: &Index) -> Reads {
    let is_transaction = |operation: &Operation| {
        matches!(operation.kind, Kind::Transaction { .. }) && operation.outcome != Outcome::Failed
    };
    let mut reads = Reads::new();
    for (at, operation) in operations.iter().enumerate().filter(|(_, it)| is_transaction(it)) {
        let from = reads.entry(at).or_default();
        for step in &operation.steps {
            let Step::Poll { committed: true, records } = step else { continue };
            for (_, value) in records {
                let Some(sent) = index.sent.get(value) else { continue };
                if operations.get(sent.by).is_some_and(is_transaction) {
                    from.insert(sent.by, *value);
                }
            }
        }
    }
    reads
}

/// Follows readers to whom they have read from, until one comes again.
fn circle(reads: &Reads) -> Option<Violation> {
    let mut path: Vec<(usize, Value)> = Vec::new();
    let mut at = *reads.first_key_value()?.0;
    loop {
        if let Some(start) = path.iter().position(|(seen, _)| *seen == at) {
            let values = path.split_off(start).into_iter().map(|(_, value)| value).collect();
            return Some(Violation::CircularFlow(values));
        }
        let (next, value) = reads.get(&at)?.first_key_value()?;
        path.push((at, *value));
        at = *next;
    }
}
