//! Small cases, all of them: three instances of an application that join, leave, fail, miss answers and
//! take their time to give up, in every order. Two of them are threads of one process.
//!
//! After each step: no task is active at two members, and none is in one process twice, as the
//! coordinator sees it ([`super::super::host::Host::check`]) and as the instances see it; epochs only
//! rise. At the end of each history, when all is quiet, every task is active, and those with state have
//! a standby where there are two processes.

use super::*;

/// Three instances of three tasks with state and three without, who may take their time to give up.
fn stage() -> Stage {
    let mut stage = Stage { rebalance_timeout_ms: 600_000, ..Stage::new(3, 3) };
    stage.clients[2].process = Arc::clone(&stage.clients[1].process);
    for topic in ["r", "c"] {
        stage.cluster.set(topic, 3);
    }
    stage
}

/// What one instance does next.
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
            stage.pass(6);
            for other in &others {
                stage.murmur(*other);
            }
            // By its own clock the instance has stopped working by now.
            stage.forget(who);
            stage.pass(3);
            for other in others {
                stage.murmur(other);
            }
            stage.pass(2);
        }
        Step::Acts | Step::Leaves | Step::Dies => return false,
    }
    true
}

/// All is quiet: everybody does what is to be done, and everything is taken.
fn check_quiet(mut stage: Stage, history: &[(usize, Step)]) {
    for client in 0..stage.clients.len() {
        // Who was refused joins again; who never joined or has left does not matter.
        if stage.clients[client].is_member || client == 0 {
            let _ = stage.beat(client, false);
        }
    }
    stage.settle();
    // Instances whose joins were answered and not heard are members for a session yet.
    for _ in 0..3 {
        stage.pass(4);
        if !stage.clients[0].is_member {
            let _ = stage.beat(0, false);
        }
        stage.settle();
    }
    stage.check_owners();
    check_all_taken(&stage, &format!("{history:?}"));
}

/// Every task is active, and as many standbys are there as can be.
pub(super) fn check_all_taken(stage: &Stage, history: &str) {
    let (all, stateful) = stage.tasks();
    let (mut active, mut standby) = (BTreeSet::new(), Vec::new());
    let members: Vec<_> = stage.clients.iter().filter(|client| client.is_member).collect();
    for client in &members {
        let flat = |tasks: &Tasks| -> Vec<(Arc<str>, i32)> {
            let each = tasks.iter();
            each.flat_map(|(id, all)| all.iter().map(|it| (Arc::clone(id), *it))).collect()
        };
        active.extend(flat(&client.owned.active));
        standby.extend(flat(&client.owned.standby));
    }
    let described = stage.describe();
    assert_eq!(active, all, "after {history}: {} {described:#?}", stage.owned());
    let processes: BTreeSet<_> = members.iter().map(|client| &client.process).collect();
    let standbys = if processes.len() > 1 { stateful.len() } else { 0 };
    assert_eq!(standby.len(), standbys, "standbys after {history}: {}", stage.owned());
    assert_eq!(described.state, GroupState::Stable, "after {history}: {described:#?}");
}

fn explore(stage: &Stage, depth: usize, history: &mut Vec<(usize, Step)>, count: &mut usize) {
    if depth == 0 {
        *count += 1;
        check_quiet(stage.clone(), history);
        return;
    }
    for who in 0..stage.clients.len() {
        // The two threads of a process are alike until one has done something.
        let fresh = |it: usize| history.iter().all(|(known, _)| *known != it);
        if who == 2 && fresh(1) && fresh(2) {
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

/// Every history of three steps from nothing.
#[test]
fn three_instances_from_nothing() {
    let mut count = 0;
    explore(&stage(), 3, &mut Vec::new(), &mut count);
    assert!(count > 500, "{count} histories");
}

/// Every history of three steps when all three have their share.
#[test]
fn three_instances_at_rest() {
    let mut stage = stage();
    for who in [0, 1, 2] {
        assert!(take(&mut stage, who, Step::Obeys));
    }
    stage.settle();
    let mut count = 0;
    let mut history = vec![(0, Step::Obeys), (1, Step::Obeys), (2, Step::Obeys)];
    explore(&stage, 3, &mut history, &mut count);
    assert!(count > 1_000, "{count} histories");
}

/// Every history of two steps from the middle of a rebalance: the first instance has everything, the
/// second waits for its share, the third has just come.
#[test]
fn three_instances_in_the_middle_of_a_rebalance() {
    let mut stage = stage();
    for (who, step) in [(0, Step::Obeys), (1, Step::Obeys), (0, Step::Hears), (2, Step::Obeys)] {
        assert!(take(&mut stage, who, step));
    }
    let mut count = 0;
    let mut history = vec![(0, Step::Obeys), (1, Step::Obeys), (2, Step::Obeys)];
    explore(&stage, 2, &mut history, &mut count);
    assert!(count > 100, "{count} histories");
}
