//! Every fault at every operation of a recorded workload.
//!
//! `MILLSTREAM_SEEDS` says how many cases of each test are tried (`cargo xtask test --long` tries 10,000;
//! without it a sample), `MILLSTREAM_SEED_FIRST` the first of them: a case is its number.

pub(crate) mod client;
mod damage;
mod interrupted;
mod model;
mod transactions;

use std::fmt::Write as _;
use std::future::Future;

use millstream_env::disk::{Fault, FaultAt, Operation, SimDisk};

use client::Client;
use model::Checked;

/// How many cases are tried when nothing else is asked for.
const SAMPLE: u64 = 40;

/// The numbers of the cases to try.
fn cases() -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let first = number("MILLSTREAM_SEED_FIRST").unwrap_or(0);
    first..first + number("MILLSTREAM_SEEDS").unwrap_or(SAMPLE)
}

/// Which of `count` places a case is about, and its seed. So many cases in a row are spread over all of
/// them, and `count` of them in a row are all.
fn place(case: u64, count: u64) -> (u64, u64) {
    let gcd = |mut a: u64, mut b: u64| {
        while b > 0 {
            (a, b) = (b, a % b);
        }
        a
    };
    // About the golden ratio, and without a common divisor.
    let mut stride = (count * 618 / 1_000).max(1);
    while gcd(stride, count) != 1 {
        stride += 1;
    }
    (case % count * stride % count, case / count)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test)
}

/// Tries the cases, each place at most `seeds_max` times, and says which of them fail.
fn sweep(
    count: u64,
    seeds_max: u64,
    mut check: impl FnMut(u64, u64) -> (String, Checked),
) -> Vec<String> {
    let mut failed = Vec::new();
    for case in cases().filter(|case| case / count < seeds_max) {
        let (at, seed) = place(case, count);
        let (what, checked) = check(at, seed);
        if let Err(why) = checked {
            failed.push(format!("MILLSTREAM_SEEDS=1 MILLSTREAM_SEED_FIRST={case} ({what}): {why}"));
        }
    }
    failed
}

#[track_caller]
fn assert_none(failed: &[String]) {
    let mut said = String::new();
    failed.iter().take(10).for_each(|why| writeln!(said, "{why}").unwrap());
    assert!(failed.is_empty(), "{} cases fail:\n{said}", failed.len());
}

/// Without a fault: the operations that the workload does. It comes everywhere.
async fn operations() -> u64 {
    let mut client = Client::new(1, SimDisk::new(0)).await.unwrap();
    client.run().await.unwrap();
    client.check().await.unwrap();
    let stats = client.broker.log_stats();
    assert!(stats.layouts > 2 && stats.merges > 0 && stats.checkpoints > 2, "{stats:?}");
    let short = client.broker.topic(millstream_broker::TopicRef::Name("short")).unwrap();
    assert!(short.partition(0).unwrap().ends().log_start.0 > 0, "retention has deleted something");
    assert_eq!((client.restarts, client.broker.recoveries()), (0, 0));
    client.world.machine.operations()
}

/// The power goes at an operation; in some cases it goes again while the next start recovers.
async fn cut(at: u64, seed: u64, syncs: bool) -> Checked {
    let machine = SimDisk::new(seed * 7 + at);
    machine.ignore_sync(!syncs);
    machine.plan(FaultAt { on: Operation::Any, after: at, fault: Fault::PowerCut });
    let mut client = Client::new(1, machine).await?;
    if (at + seed).is_multiple_of(3) {
        let after = (at + seed) / 3 % 60;
        client.at_start.push(FaultAt { on: Operation::Any, after, fault: Fault::PowerCut });
    }
    client.run().await?;
    client.check().await?;
    client.power_cut().await
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing() {
    let count = run(operations());
    println!("{count} operations");
    assert_none(&sweep(count, u64::MAX, |at, seed| {
        (format!("a power cut after {at}, seed {seed}"), run(cut(at, seed, true)))
    }));
}

#[test]
fn without_flushes_the_same_sweep_fails() {
    let count = run(operations());
    let failed = (0..12).filter(|case| {
        let (at, seed) = place(*case, count);
        run(cut(at, seed, false)).is_err()
    });
    let failed = failed.count();
    assert!(failed > 6, "only {failed} of 12 cases noticed that nothing was flushed");
}

/// What may happen to an operation of which its user is told.
const FAILURES: [(Operation, Fault); 5] = [
    (Operation::Any, Fault::Fail),
    (Operation::Any, Fault::Short),
    (Operation::Any, Fault::Torn),
    (Operation::Read, Fault::Fail),
    (Operation::Read, Fault::Flip),
];

/// An operation fails. Clients get on without a restart, and what a crash finds is the same.
async fn fail(at: u64, seed: u64, (on, fault): (Operation, Fault)) -> Checked {
    let machine = SimDisk::new(seed * 7 + at);
    let mut client = Client::new(1, machine).await?;
    client.world.machine.plan(FaultAt { on, after: at, fault });
    client.run().await?;
    client.check().await?;
    if client.restarts > 0 || client.broker.recoveries() > 1 {
        return Err(format!("{} recoveries", client.broker.recoveries()));
    }
    client.power_cut().await
}

#[test]
fn an_operation_that_fails_loses_nothing_and_needs_no_restart() {
    let count = run(operations()) * FAILURES.len() as u64;
    assert_none(&sweep(count, u64::MAX, |at, seed| {
        let (kind, at) = (FAILURES[(at % 5) as usize], at / 5);
        (format!("{kind:?} after {at}, seed {seed}"), run(fail(at, seed, kind)))
    }));
}
