//! Offsets of groups: a fetch tells the newest commit, or one that is under way.

use std::collections::BTreeMap;

use millstream_types::Offset;

use super::{Group, Moment, Operation, Outcome, Partition, Place, Step, Violation};

/// A commit of one group in one partition.
#[derive(Clone, Copy, Debug)]
struct Commit {
    begun: Moment,
    ended: Moment,
    outcome: Outcome,
    offset: Offset,
}

pub(super) fn check(operations: &[Operation]) -> Vec<Violation> {
    let mut commits: BTreeMap<(Group, Partition), Vec<Commit>> = BTreeMap::new();
    for operation in operations {
        let Operation { begun, ended, outcome, .. } = *operation;
        for step in &operation.steps {
            if let Step::Commit { group, place } = step {
                let commit = Commit { begun, ended, outcome, offset: place.offset };
                commits.entry((*group, place.partition)).or_default().push(commit);
            }
        }
    }
    let mut found = Vec::new();
    for operation in operations {
        for step in &operation.steps {
            if let Step::Fetch { group, partition, offset } = step {
                let known = commits.get(&(*group, *partition)).map_or(&[][..], Vec::as_slice);
                found.extend(fetched(operation, (*group, *partition), *offset, known));
            }
        }
    }
    found
}

fn fetched(
    by: &Operation,
    (group, partition): (Group, Partition),
    offset: Option<Offset>,
    commits: &[Commit],
) -> Option<Violation> {
    // Of the commits that were over before the fetch, the last to begin: whatever was over before
    // that one began is not the newest any more.
    let over = commits.iter().filter(|it| it.outcome == Outcome::Succeeded && it.ended < by.begun);
    let newest = over.max_by_key(|it| it.begun);
    let went_back = Some(Violation::OffsetWentBack(group, partition, offset));
    let Some(told) = offset else { return newest.and(went_back) };
    let place = Place { partition, offset: told };
    let mut same = commits.iter().filter(|it| it.offset == told && it.begun < by.ended).peekable();
    if same.peek().is_none() {
        return Some(Violation::NeverCommitted(group, place));
    }
    let mut took_effect = same.filter(|it| it.outcome != Outcome::Failed).peekable();
    if took_effect.peek().is_none() {
        return Some(Violation::AbortedOffset(group, place));
    }
    // An unknown one may take effect at any time.
    let is_new = |it: &Commit| {
        it.outcome == Outcome::Unknown || newest.is_none_or(|newest| it.ended >= newest.begun)
    };
    if took_effect.any(is_new) { None } else { went_back }
}
