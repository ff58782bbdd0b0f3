//! Members of groups: in one epoch, a partition is one member's; and who has lost a partition does not
//! commit for it any more.

use std::collections::BTreeMap;

use super::{Client, Epoch, Group, Moment, Operation, Outcome, Partition, Step, Violation};

/// A member was seen to have a partition.
#[derive(Clone, Copy, Debug)]
struct Held {
    by: Client,
    epoch: Epoch,
    begun: Moment,
    ended: Moment,
}

#[derive(Debug, Default)]
struct Members {
    first: BTreeMap<(Group, Partition, Epoch), Client>,
    epochs: BTreeMap<(Group, Client), Epoch>,
    /// By whom, in the order of the beginnings.
    held: BTreeMap<(Group, Partition), Vec<Held>>,
    /// When a client was last seen to have it, since its partitions were changed.
    last: BTreeMap<Client, BTreeMap<(Group, Partition), Held>>,
}

pub(super) fn check(operations: &[Operation]) -> Vec<Violation> {
    let mut in_order: Vec<_> = operations.iter().collect();
    in_order.sort_by_key(|operation| operation.begun);
    let mut found = Vec::new();
    let mut members = Members::default();
    for operation in in_order {
        for step in &operation.steps {
            match *step {
                Step::Assign => {
                    members.last.remove(&operation.client);
                }
                Step::Hold { group, epoch, partition } => {
                    members.hold(operation, (group, partition), epoch, &mut found);
                }
                Step::Commit { group, place } if operation.outcome == Outcome::Succeeded => {
                    found.extend(members.commit(operation, (group, place.partition)));
                }
                _ => {}
            }
        }
    }
    found
}

impl Members {
    fn hold(
        &mut self,
        operation: &Operation,
        (group, partition): (Group, Partition),
        epoch: Epoch,
        found: &mut Vec<Violation>,
    ) {
        let Operation { client, begun, ended, .. } = *operation;
        let first = *self.first.entry((group, partition, epoch)).or_insert(client);
        if first != client {
            found.push(Violation::HeldTwice(group, partition, epoch, first, client));
        }
        let before = self.epochs.insert((group, client), epoch);
        if let Some(before) = before.filter(|before| epoch < *before) {
            found.push(Violation::EpochWentBack(group, client, before, epoch));
        }
        let held = Held { by: client, epoch, begun, ended };
        self.held.entry((group, partition)).or_default().push(held);
        self.last.entry(client).or_default().insert((group, partition), held);
    }

    /// A member that has lost a partition without knowing it is refused when it commits: it is of an
    /// epoch that has passed, or no member any more.
    fn commit(&self, operation: &Operation, at: (Group, Partition)) -> Option<Violation> {
        let last = *self.last.get(&operation.client)?.get(&at)?;
        let held = self.held.get(&at)?.iter().rev().take_while(|it| it.begun > last.ended);
        // One of an earlier epoch is itself somebody who does not know yet that he has lost it.
        let mut others = held.filter(|it| it.epoch > last.epoch && it.ended < operation.begun);
        let (group, partition) = at;
        let other = others.next()?.by;
        Some(Violation::CommittedByFormer(group, partition, operation.client, other))
    }
}
