//! Small cases, all of them: three consumers of three partitions that join, leave, fail, miss
//! answers and take their time to give up, in every order.
//!
//! After each step: no partition is owned by two members, as the coordinator sees it
//! ([`super::super::host::Host::check`]) and as the consumers see it; epochs only rise. At the end
//! of each history, when all is quiet, every partition is owned by somebody.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;

/// Three consumers of three partitions, who may take their time to give up: one that takes too long is
/// out, and has to notice that by its own clock.
fn stage() -> Stage {
    Stage { rebalance_timeout_ms: 600_000, ..Stage::new(3, 3) }
}

/// What one consumer does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Sends a heartbeat and does at once what it is told.
    Obeys,
    /// Sends a heartbeat and remembers what it is told.
    Hears,
    /// Does what it remembers: gives up and takes.
    Acts,
    /// Sends a heartbeat whose answer is lost.
    Misses,
    /// Leaves.
    Leaves,
    /// Dies: its session ends while the others' go on.
    Dies,
}

const STEPS: [Step; 6] =
    [Step::Obeys, Step::Hears, Step::Acts, Step::Misses, Step::Leaves, Step::Dies];

fn take(stage: &mut Stage, who: usize, step: Step) -> bool {
    let member = stage.clients[who].is_member;
    match step {
        Step::Obeys => {
            let _ = stage.beat(who, false);
            stage.act(who);
        }
        Step::Hears => {
            let _ = stage.beat(who, false);
        }
        Step::Acts if stage.clients[who].told.is_some() => stage.act(who),
        Step::Misses => {
            let _ = stage.beat(who, true);
        }
        Step::Leaves if member => {
            let _ = stage.leave(who, -1);
        }
        Step::Dies if member => {
            // The others are heard of just before its session ends, and act on nothing then.
            let others: Vec<_> = (0..stage.clients.len())
                .filter(|it| *it != who && stage.clients[*it].is_member)
                .collect();
            stage.host.advance(Duration::from_secs(6));
            for other in &others {
                stage.murmur(*other);
            }
            // By its own clock the consumer has stopped reading by now.
            stage.clients[who] = Client {
                epoch: 0,
                owned: Partitions::new(),
                told: None,
                is_member: false,
                ..stage.clients[who].clone()
            };
            stage.host.advance(Duration::from_secs(3));
            for other in others {
                stage.murmur(other);
            }
            stage.host.advance(Duration::from_secs(2));
        }
        Step::Acts | Step::Leaves | Step::Dies => return false,
    }
    true
}

/// All is quiet: everybody does what is to be done, and everything is owned.
fn check_quiet(mut stage: Stage, history: &[(usize, Step)]) {
    for client in 0..stage.clients.len() {
        // Who was refused joins again; who never joined or has left does not matter.
        if stage.clients[client].is_member || client == 0 {
            let _ = stage.beat(client, false);
        }
    }
    stage.settle();
    // Consumers whose joins were answered and not heard are members for a session yet.
    for _ in 0..4 {
        stage.host.advance(Duration::from_secs(4));
        if !stage.clients[0].is_member {
            // It did not say in time that it had given up, and was told so.
            let _ = stage.beat(0, false);
        }
        stage.settle();
    }
    stage.check_owners();
    let members = stage.clients.iter().filter(|client| client.is_member);
    let owned: BTreeSet<_> = members
        .flat_map(|client| &client.owned)
        .flat_map(|(topic, indexes)| indexes.iter().map(|index| (*topic, *index)))
        .collect();
    assert_eq!(owned, stage.cluster.all("t"), "all partitions are owned after {history:?}");
    assert_eq!(stage.describe().state, GroupState::Stable, "after {history:?}");
}

fn explore(stage: &Stage, depth: usize, history: &mut Vec<(usize, Step)>, count: &mut usize) {
    if depth == 0 {
        *count += 1;
        check_quiet(stage.clone(), history);
        return;
    }
    for who in 0..stage.clients.len() {
        // Consumers that have not done anything yet are alike: the first of them stands for all.
        let fresh = |it: usize| history.iter().all(|(known, _)| *known != it);
        if fresh(who) && (0..who).any(fresh) {
            continue;
        }
        for step in STEPS {
            let mut next = stage.clone();
            if !take(&mut next, who, step) {
                continue;
            }
            next.check_owners();
            history.push((who, step));
            explore(&next, depth - 1, history, count);
            history.pop();
        }
    }
}

/// Every history of four steps from nothing.
#[test]
fn three_consumers_from_nothing() {
    let mut count = 0;
    explore(&stage(), 4, &mut Vec::new(), &mut count);
    assert!(count > 2_000, "{count} histories");
}

/// Every history of three steps from the middle of a rebalance: the first consumer has everything, the
/// second waits for its share, the third has just come.
#[test]
fn three_consumers_in_the_middle_of_a_rebalance() {
    let mut stage = stage();
    for (who, step) in [(0, Step::Obeys), (1, Step::Obeys), (0, Step::Hears), (2, Step::Obeys)] {
        assert!(take(&mut stage, who, step));
    }
    let mut count = 0;
    let mut history = vec![(0, Step::Obeys), (1, Step::Obeys), (2, Step::Obeys)];
    explore(&stage, 3, &mut history, &mut count);
    assert!(count > 1_000, "{count} histories");
}
