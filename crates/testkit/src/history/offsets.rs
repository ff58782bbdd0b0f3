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
}

/// All commits of one group in one partition.
#[derive(Debug, Default)]
struct Commits {
    by_offset: BTreeMap<Offset, Vec<Commit>>,
    /// Of those that succeeded: by when they ended, when the last of those that had ended by then
    /// began.
    newest: BTreeMap<Moment, Moment>,
}

pub(super) fn check(operations: &[Operation]) -> Vec<Violation> {
    let commits = commits(operations);
    let none = Commits::default();
    let mut found = Vec::new();
    for operation in operations {
        for step in &operation.steps {
            if let Step::Fetch { group, partition, offset } = step {
                let known = commits.get(&(*group, *partition)).unwrap_or(&none);
                found.extend(fetched(operation, (*group, *partition), *offset, known));
            }
        }
    }
    found
}

fn commits(operations: &[Operation]) -> BTreeMap<(Group, Partition), Commits> {
    let mut commits: BTreeMap<_, Commits> = BTreeMap::new();
    for operation in operations {
        let Operation { begun, ended, outcome, .. } = *operation;
        for step in &operation.steps {
            let Step::Commit { group, place } = step else { continue };
            let known = commits.entry((*group, place.partition)).or_default();
            let commit = Commit { begun, ended, outcome };
            known.by_offset.entry(place.offset).or_default().push(commit);
            if outcome == Outcome::Succeeded {
                known.newest.insert(ended, begun);
            }
        }
    }
    for known in commits.values_mut() {
        let mut newest = Moment(0);
        for begun in known.newest.values_mut() {
            newest = newest.max(*begun);
            *begun = newest;
        }
    }
    commits
}

fn fetched(
    by: &Operation,
    (group, partition): (Group, Partition),
    offset: Option<Offset>,
    commits: &Commits,
) -> Option<Violation> {
    // Of the commits that were over before the fetch, the last to begin: whatever was over before
    // that one began is not the newest any more.
    let newest = commits.newest.range(..by.begun).next_back().map(|(_, begun)| *begun);
    let went_back = Some(Violation::OffsetWentBack(group, partition, offset));
    let Some(told) = offset else { return newest.and(went_back) };
    let place = Place { partition, offset: told };
    let same = commits.by_offset.get(&told).into_iter().flatten();
    let mut same = same.filter(|it| it.begun < by.ended).peekable();
    if same.peek().is_none() {
        return Some(Violation::NeverCommitted(group, place));
    }
    let mut took_effect = same.filter(|it| it.outcome != Outcome::Failed).peekable();
    if took_effect.peek().is_none() {
        return Some(Violation::AbortedOffset(group, place));
    }
    // An unknown one may take effect at any time.
    let is_new = |it: &Commit| {
        it.outcome == Outcome::Unknown || newest.is_none_or(|newest| it.ended >= newest)
    };
    if took_effect.any(is_new) { None } else { went_back }
}
