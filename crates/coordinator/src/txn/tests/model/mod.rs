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
use proptest::prelude::*;
use rules::Rule;
use world::{Chances, World};

/// All violations that `depth` steps lead to, or one if it `stops` there; and how many worlds were
/// looked at.
fn explore(from: World, depth: usize, stops: bool) -> (BTreeSet<Rule>, usize) {
    let mut broken = BTreeSet::new();
    let mut seen = BTreeSet::new();
    let mut worlds = vec![from];
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
                        if stops {
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
        let world = World::new(v2, chances, None);
        let (broken, looked_at) = explore(world.clone(), depth + deeper(), false);
        assert_eq!(broken, BTreeSet::new(), "{v2:?} {chances:?}");
        assert!(looked_at > 1_000, "{v2:?} {chances:?}: {looked_at}");
        let (broken, _) = explore(world.worn(), depth - 1 + deeper(), false);
        assert_eq!(broken, BTreeSet::new(), "{v2:?} {chances:?}, in the last epochs");
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
    let first = World::new([false, false], strays, None);
    let second = World::new([true, true], strays, None);
    let both = World::new([true, true], Chances { alone: false, ..strays }, None);
    for (world, depth) in [(second.clone(), 8), (second.worn(), 8), (both, 6)] {
        let (broken, _) = explore(world, depth + deeper(), false);
        assert_eq!(broken, BTreeSet::new());
    }
    let (broken, _) = explore(first, 8 + deeper(), false);
    let inherent = [Rule::OneDecision, Rule::CommittedIsCommitted, Rule::AbortedIsAborted];
    assert_eq!(broken, BTreeSet::from(inherent));
}

proptest! {
    /// Deeper than every order can be looked at: long ways, with much that goes wrong.
    #[test]
    fn long_ways(
        v2 in any::<[bool; 2]>(),
        worn in any::<bool>(),
        picks in prop::collection::vec(any::<prop::sample::Index>(), 1..80),
    ) {
        let strays = if v2 == [true, true] { 5 } else { 0 };
        let many = Chances {
            crashes: 5,
            failures: 5,
            timeouts: 3,
            restarts: 5,
            recoveries: 5,
            strays,
            alone: false,
        };
        let world = World::new(v2, many, None);
        let mut world = if worn { world.worn() } else { world };
        let mut way = Vec::new();
        for pick in picks {
            let steps = world.steps();
            if steps.is_empty() {
                break;
            }
            let step = *pick.get(&steps);
            way.push(step);
            let result = world.take(step).and_then(|()| world.check());
            prop_assert_eq!(result, Ok(()), "{:#?}", way);
        }
    }
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
        (Mutant::LastEpochIsGiven, Rule::LastEpochIsKept),
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
        let world = World::new([true, true], Chances::ALL, Some(mutant));
        let world = if mutant == Mutant::LastEpochIsGiven { world.worn() } else { world };
        let (broken, _) = explore(world, 5, true);
        assert_eq!(broken, BTreeSet::from([rule]), "{mutant:?}");
    }
}
