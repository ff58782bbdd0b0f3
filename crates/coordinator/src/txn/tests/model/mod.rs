//! Two producers with the same transactional id, in every order: all that they and the world can do,
//! up to some depth, with crashes, failing appends, timeouts and requests that arrive late.
//!
//! One journal holds records, markers and writes, in order. What is appended counts at once, and is
//! answered when it is durable; a crash takes away any end of what is not. After each step the
//! [`Rule`]s are checked, and that all of it would settle if everybody fell silent.

mod client;
mod mutant;
mod partition;
mod rules;
mod world;

use std::collections::BTreeSet;

use mutant::Mutant;
use rules::Rule;
use world::{Chances, World};

/// All violations that `depth` steps lead to; and how many worlds were looked at. Stops after the
/// first one if there is a mutant: one is enough to refute it.
fn explore(
    v2: [bool; 2],
    chances: Chances,
    depth: usize,
    mutant: Option<Mutant>,
) -> (BTreeSet<Rule>, usize) {
    let mut broken = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut worlds = vec![World::new(v2, chances, mutant)];
    for _ in 0..depth {
        let mut next = Vec::new();
        for world in worlds {
            for step in world.steps() {
                let mut then = world.clone();
                let result = match then.take(step) {
                    Ok(()) if !seen.insert(then.key()) => continue,
                    Ok(()) => then.check(),
                    failed => failed,
                };
                match result {
                    Ok(()) => next.push(then),
                    Err(rule) => {
                        broken.insert(rule);
                        if mutant.is_some() {
                            return (broken, seen.len());
                        }
                    }
                }
            }
        }
        worlds = next;
    }
    (broken, seen.len())
}

/// How much deeper to look than there is time for in each run of the tests: `MILLSTREAM_DEPTH=1`
/// takes five times as long, 2 five times that.
fn deeper() -> usize {
    let depth = std::env::var("MILLSTREAM_DEPTH").ok().and_then(|text| text.parse().ok());
    depth.unwrap_or_default()
}

/// All chances at once to a smaller depth, and each alone to a larger one.
fn check(v2: [bool; 2]) {
    let none = Chances::NONE;
    let cases = [
        (Chances::ALL, 5),
        (Chances { crashes: 1, ..none }, 6),
        (Chances { failures: 1, ..none }, 6),
        (Chances { timeouts: 1, restarts: 1, ..none }, 6),
        (Chances { recoveries: 1, ..none }, 6),
    ];
    for (chances, depth) in cases {
        let (broken, looked_at) = explore(v2, chances, depth + deeper(), None);
        assert_eq!(broken, BTreeSet::new(), "{v2:?} {chances:?}");
        assert!(looked_at > 1_000, "{v2:?} {chances:?}: {looked_at}");
    }
}

#[test]
fn two_producers_of_the_first_protocol() {
    check([false, false]);
}

#[test]
fn two_producers_of_the_second_protocol() {
    check([true, true]);
}

#[test]
fn a_producer_of_the_first_protocol_and_one_of_the_second() {
    check([false, true]);
}

/// Requests that arrive late do no harm with the second protocol. With the first they do what the
/// module's documentation says, and nothing beyond that.
#[test]
fn requests_that_arrive_late() {
    let strays = Chances { strays: 1, alone: true, ..Chances::NONE };
    let (broken, _) = explore([true, true], strays, 8 + deeper(), None);
    assert_eq!(broken, BTreeSet::new());
    let (broken, _) = explore([false, false], strays, 8 + deeper(), None);
    let inherent = [Rule::OneDecision, Rule::CommittedIsCommitted, Rule::AbortedIsAborted];
    assert_eq!(broken, BTreeSet::from(inherent));
    let both = Chances { alone: false, ..strays };
    let (broken, _) = explore([true, true], both, 6 + deeper(), None);
    assert_eq!(broken, BTreeSet::new());
}

/// The checker objects to each coordinator that breaks a rule.
#[test]
fn mutants_are_refuted() {
    let cases = [
        (Mutant::InitDoesNotFence, Rule::MarkersFence),
        (Mutant::InitDoesNotBump, Rule::IdentitiesAreUnique),
        (Mutant::GoesOnAnyway, Rule::FencedStaysFenced),
        (Mutant::TimeoutDoesNotFence, Rule::MarkersFence),
        (Mutant::EndDoesNotBump, Rule::MarkersFence),
        (Mutant::EndTakesAnyEpoch, Rule::FencedStaysFenced),
        (Mutant::AddTakesAnyEpoch, Rule::FencedStaysFenced),
        (Mutant::EndTakesAnyResult, Rule::CommittedIsCommitted),
        (Mutant::FailureIsSuccess, Rule::IdentitiesAreUnique),
        (Mutant::FailureIsReplayed, Rule::FailureChangesNothing),
        (Mutant::RestartAborts, Rule::OneDecision),
        (Mutant::RestartForgets, Rule::Settles),
        (Mutant::CompleteWithoutMarkers, Rule::Settles),
        (Mutant::MarkersAreMissing, Rule::Settles),
    ];
    for (mutant, rule) in cases {
        let (broken, _) = explore([true, true], Chances::ALL, 5, Some(mutant));
        assert_eq!(broken, BTreeSet::from([rule]), "{mutant:?}");
    }
}
