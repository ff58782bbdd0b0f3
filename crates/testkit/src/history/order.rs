//! The order in which one client polls and sends.

use std::collections::BTreeMap;

use super::index::Index;
use super::{Client, Operation, Partition, Place, Step, Violation};

/// Where a client is in each partition: what it polled last, and where its last send went.
#[derive(Debug, Default)]
struct Positions {
    polled: BTreeMap<Partition, Place>,
    sent: BTreeMap<Partition, Place>,
}

pub(super) fn check(operations: &[Operation], index: &Index) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut in_order: Vec<_> = operations.iter().collect();
    in_order.sort_by_key(|operation| operation.begun);
    let mut clients: BTreeMap<Client, Positions> = BTreeMap::new();
    for operation in in_order {
        let client = operation.client;
        let positions = clients.entry(client).or_default();
        for step in &operation.steps {
            match step {
                Step::Assign => positions.polled.clear(),
                Step::Poll { committed, records } => {
                    for (at, _) in records {
                        let Some(before) = positions.polled.insert(at.partition, *at) else {
                            continue;
                        };
                        if *at <= before {
                            found.push(Violation::PollWentBack(client, before, *at));
                        }
                        let skipped = index.between(before, *at, *committed);
                        found
                            .extend(skipped.map(|(at, it)| Violation::PollSkipped(client, at, it)));
                    }
                }
                Step::Send { partition, offset: Some(offset), .. } => {
                    let at = Place { partition: *partition, offset: *offset };
                    let before = positions.sent.insert(*partition, at);
                    if let Some(before) = before.filter(|before| at <= *before) {
                        found.push(Violation::SendWentBack(client, before, at));
                    }
                }
                _ => {}
            }
        }
    }
    found
}
