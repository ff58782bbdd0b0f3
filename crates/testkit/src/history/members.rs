//! Members of groups: in one epoch, a partition is one member's.

use std::collections::BTreeMap;

use super::{Client, Epoch, Group, Operation, Partition, Step, Violation};

pub(super) fn check(operations: &[Operation]) -> Vec<Violation> {
    let mut in_order: Vec<_> = operations.iter().collect();
    in_order.sort_by_key(|operation| operation.begun);
    let mut found = Vec::new();
    let mut holders: BTreeMap<(Group, Partition, Epoch), Client> = BTreeMap::new();
    let mut epochs: BTreeMap<(Group, Client), Epoch> = BTreeMap::new();
    for operation in in_order {
        let client = operation.client;
        for step in &operation.steps {
            let Step::Hold { group, epoch, partition } = *step else { continue };
            let holder = *holders.entry((group, partition, epoch)).or_insert(client);
            if holder != client {
                found.push(Violation::HeldTwice(group, partition, epoch, holder, client));
            }
            let before = epochs.insert((group, client), epoch);
            if let Some(before) = before.filter(|before| epoch < *before) {
                found.push(Violation::EpochWentBack(group, client, before, epoch));
            }
        }
    }
    found
}
