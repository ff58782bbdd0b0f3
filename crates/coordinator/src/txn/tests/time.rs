//! Timeouts and expiry.

use std::time::Duration;

use millstream_types::Timestamp;

use super::super::*;
use super::script::{Host, ID, TIMEOUT_MS, answer, command};

const TIMEOUT: Duration = Duration::from_millis(TIMEOUT_MS.unsigned_abs() as u64);
const MS: Duration = Duration::from_millis(1);

/// Pitfall 61.
#[test]
fn an_old_transaction_is_aborted_with_a_new_epoch() {
    for (enlist, aborted) in [
        ("add 7:0 t/0", "PrepareAbort 7:1 prev=7 v2 t/0"),
        ("add 7:0 t/0 v2", "PrepareAbort 7:1 prev=7 v2 t/0"),
    ] {
        let mut host = Host::with("Empty 7:0");
        host.ask(command(enlist));
        let due = host.now.plus(TIMEOUT);
        assert_eq!(host.txns.next_deadline(), Some(due));
        host.pass(TIMEOUT - MS);
        // More partitions don't give it more time.
        host.ask(command("add 7:0 u/0"));
        host.ask(command("add 7:0 t/0"));
        assert_eq!(host.txns.next_deadline(), Some(due));
        assert_eq!(host.tick(), 0, "not yet");
        host.pass(MS);
        assert_eq!(host.tick(), 1);
        assert_eq!(host.shown(), format!("{aborted} u/0"));
        assert_eq!(host.tick(), 0, "once");
        let order = host.txns.order_of(ID).expect("it is to be marked");
        assert_eq!((order.epoch.0, order.commit, order.v2), (1, false, true));
        assert_eq!(host.txns.orders(), [order]);
    }
}

/// Pitfall 68: as often as it is tried.
#[test]
fn an_init_that_is_not_appended_raises_no_epoch() {
    for state in ["Empty 7:3", "CompleteAbort 7:3", "CompleteCommit 7:3 prev=7 v2"] {
        let mut host = Host::with(state);
        let before = host.shown();
        for _ in 0..3 {
            let effects = host.txns.handle(host.now, host.wall, command("init"));
            assert_eq!(effects.records.len(), 1, "{state}");
            let failed = host.txns.append_failed(effects, HostFailure::Unavailable);
            assert_eq!(
                failed.reply,
                Some(Reply::Init(Err(InitError::Host(HostFailure::Unavailable))))
            );
            assert_eq!(host.shown(), before);
        }
        assert_eq!(answer(&host.ask(command("init"))), "ok 7:4", "{state}");
    }
}

/// Pitfall 68, when it is the timeout that raises the epoch.
#[test]
fn an_abort_that_is_not_appended_is_tried_again() {
    let mut host = Host::with("Ongoing 7:0 t/0");
    host.pass(TIMEOUT);
    let before = host.shown();
    for _ in 0..3 {
        let effects = host.txns.tick(host.now, host.wall);
        assert_eq!(effects.records.len(), 1);
        let failed = host.txns.append_failed(effects, HostFailure::Unavailable);
        assert_eq!(failed, Effects::default());
        assert_eq!(host.shown(), before, "the epoch does not creep");
        assert_eq!(host.tick(), 0, "not at once");
        let again = host.now.plus(TxnSettings::default().retry_interval);
        assert_eq!(host.txns.next_deadline(), Some(again));
        host.pass(TxnSettings::default().retry_interval);
    }
    assert_eq!(host.tick(), 1);
}

#[test]
fn markers_that_are_not_written_are_remembered() {
    let mut host = Host::with("Ongoing 7:0 t/0");
    host.ask(command("commit 7:0"));
    for _ in 0..3 {
        let again = host.now.plus(TxnSettings::default().retry_interval);
        assert_eq!(host.txns.next_deadline(), Some(again));
        host.pass(TxnSettings::default().retry_interval);
        assert_eq!(host.tick(), 0);
        assert_eq!(host.txns.orders().len(), 1);
    }
    assert_eq!(answer(&host.ask(command("marked 7:0"))), "ok");
    assert_eq!(host.txns.orders(), []);
}

#[test]
fn a_restart_counts_from_the_stored_start() {
    for (wall_passes, left) in [
        (Duration::ZERO, TIMEOUT),
        (Duration::from_secs(10), TIMEOUT - Duration::from_secs(10)),
        (TIMEOUT, Duration::ZERO),
        (TIMEOUT * 100, Duration::ZERO),
    ] {
        let mut host = Host::with("Empty 7:0");
        host.ask(command("add 7:0 t/0"));
        host.wall = host.wall.plus(wall_passes);
        let loaded = host.reload(&host.log);
        assert_eq!(loaded.next_deadline(), Some(host.now.plus(left)), "{wall_passes:?}");
    }
    // A wall clock that was set back does not let it run for ever.
    let mut host = Host::with("Ongoing 7:0 t/0");
    host.wall = Timestamp(0);
    let loaded = host.reload(&host.log);
    assert_eq!(loaded.next_deadline(), Some(host.now.plus(TIMEOUT)));
}

#[test]
fn a_running_coordinator_counts_on_the_monotonic_clock() {
    let mut host = Host::with("Empty 7:0");
    host.ask(command("add 7:0 t/0"));
    let due = host.now.plus(TIMEOUT);
    host.wall = host.wall.plus(TIMEOUT * 1_000);
    host.ask(command("add 7:0 t/1"));
    assert_eq!(host.tick(), 0);
    assert_eq!(host.txns.next_deadline(), Some(due));
}

/// Pitfall 67.
#[test]
fn an_unused_id_expires() {
    let TxnSettings { expiration, expiry_interval, .. } = TxnSettings::default();
    for (state, expires) in [
        ("Empty 7:0", true),
        ("CompleteCommit 7:0", true),
        ("CompleteAbort 7:0", true),
        ("PrepareCommit 7:0 t/0", false),
        ("PrepareAbort 7:0 t/0", false),
    ] {
        let mut host = Host::with(state);
        host.wall = host.wall.plus(expiration - MS);
        host.now = host.now.plus(expiry_interval);
        assert_eq!(host.tick(), 0, "{state}: not yet");
        host.wall = host.wall.plus(MS);
        host.txns.pause_expiry(true);
        host.now = host.now.plus(expiry_interval);
        assert_eq!(host.tick(), 0, "{state}: paused");
        host.txns.pause_expiry(false);
        assert_eq!(host.tick(), usize::from(expires), "{state}");
        assert_eq!(host.shown(), if expires { "" } else { state });
        if expires {
            // Pitfall 67: who comes back is told so, and an init begins anew.
            assert_eq!(answer(&host.ask(command("add 7:0 t/0"))), "UnknownProducer");
            assert_eq!(answer(&host.ask(command("commit 7:0"))), "UnknownProducer");
            assert_eq!(answer(&host.ask(command("init 7:0 fresh=8"))), "ok 8:0");
        }
    }
}

/// One tick does not make more than a batch holds; the next does the rest.
#[test]
fn a_tick_is_bounded() {
    let name = |at: usize| std::sync::Arc::from(format!("{at:0>30000}"));
    for (add, passes) in [(true, TIMEOUT), (false, TxnSettings::default().expiration)] {
        let mut host = Host::new();
        for at in 0..20 {
            let fresh = Some(millstream_types::ProducerId(1));
            let init = Init { id: name(at), timeout_ms: TIMEOUT_MS, expected: None, fresh };
            host.ask(Command::Init(init));
            if add {
                host.ask(Command::AddPartitions(AddPartitions {
                    id: name(at),
                    producer: millstream_types::ProducerId(1),
                    epoch: millstream_types::ProducerEpoch(0),
                    partitions: vec![(std::sync::Arc::from("t"), 0)],
                    verify_only: false,
                    v2: true,
                }));
            }
        }
        host.pass(passes);
        assert_eq!(host.tick(), 9, "a quarter of a mebibyte, and a record more");
        assert!(host.txns.next_deadline().is_some_and(|at| at <= host.now), "at once");
        assert_eq!((host.tick(), host.tick(), host.tick()), (9, 2, 0));
    }
}
