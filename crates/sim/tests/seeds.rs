//! Seeds, and that a seed says everything.
//!
//! `MILLSTREAM_SEEDS=n` runs as many (`cargo xtask test --long`: 100,000; without it a sample),
//! `MILLSTREAM_SEED_FIRST=s` begins with another one than 0, and `MILLSTREAM_SEED=s` runs one, and prints all
//! that happens.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use millstream_sim::{Outcome, Plan, run};

/// How many seeds are run when nothing else is asked for.
const SAMPLE: u64 = 1_000;

/// After so many failures the rest is of no interest.
const FAILURES_MAX: usize = 3;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

/// A seed's outcome; a panic is one of its violations.
fn outcome(seed: u64, aloud: bool) -> Outcome {
    let ran = catch_unwind(AssertUnwindSafe(|| run(seed, Plan::new(seed), aloud)));
    ran.unwrap_or_else(|panic| {
        let why = panic.downcast_ref::<String>().cloned();
        let why = why.or_else(|| panic.downcast_ref::<&str>().map(|why| (*why).to_owned()));
        let violations = vec![format!("panic: {}", why.unwrap_or_default())];
        Outcome { hash: 0, violations, tail: Vec::new(), counts: BTreeMap::new() }
    })
}

fn commit() -> String {
    let asked = Command::new("git").args(["rev-parse", "--short", "HEAD"]).output();
    asked
        .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
        .unwrap_or_default()
}

/// What a failure says: enough to have it again.
fn say(seed: u64, outcome: &Outcome) -> String {
    let commit = commit();
    let (violations, tail) = (outcome.violations.join("\n  "), outcome.tail.join("\n"));
    format!(
        "{tail}\n\nseed {seed} fails at commit {commit}:\n  {violations}\n\
         again: MILLSTREAM_SEED={seed} cargo test -p millstream-sim --test seeds -- --nocapture\n"
    )
}

#[test]
fn whatever_happens_clients_see_what_they_may() {
    if let Some(seed) = number("MILLSTREAM_SEED") {
        let outcome = outcome(seed, true);
        println!("{:#?}", outcome.counts);
        assert!(outcome.violations.is_empty(), "{}", say(seed, &outcome));
        return;
    }
    let first = number("MILLSTREAM_SEED_FIRST").unwrap_or(0);
    let count = number("MILLSTREAM_SEEDS").unwrap_or(SAMPLE);
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let totals = Mutex::new(BTreeMap::<&str, u64>::new());
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            let mut failed = failures.lock().unwrap_or_else(PoisonError::into_inner);
            if seed >= first + count || failed.len() >= FAILURES_MAX {
                return;
            }
            drop(failed);
            let outcome = outcome(seed, false);
            if !outcome.violations.is_empty() {
                println!("seed {seed} fails");
                failed = failures.lock().unwrap_or_else(PoisonError::into_inner);
                failed.push(say(seed, &outcome));
            }
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            for (what, count) in outcome.counts {
                *totals.entry(what).or_default() += count;
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    println!("{count} seeds from {first}: {:#?}", totals.into_inner().unwrap());
    let failures = failures.into_inner().unwrap();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let mut hashes = BTreeSet::new();
    let mut audited = 0;
    for seed in 0..10 {
        let (one, other) = (outcome(seed, false), outcome(seed, false));
        assert_eq!(one.tail, other.tail, "seed {seed}");
        assert_eq!(one.hash, other.hash, "seed {seed}");
        assert!(hashes.insert(one.hash), "seed {seed} is like one before it");
        audited += u32::from(one.counts.get("audit records").is_some_and(|records| *records > 0));
    }
    assert!((1..10).contains(&audited), "some note what happens, and others do not: {audited}");
}
