//! What each command does in each state, as tables.

use millstream_types::{ProducerEpoch, ProducerId};

use super::super::*;
use super::script::{Host, ID, TIMEOUT_MS, WALL, answer, command};

/// A state, a command, its answer, and the state then (empty: the same).
type Row = (&'static str, &'static str, &'static str, &'static str);

fn check(rows: &[Row]) {
    for (before, asked, expected, after) in rows {
        let mut host = Host::with(before);
        // A failed append changes nothing, however often, and is told where success would be.
        for _ in 0..2 {
            let effects = host.txns.handle(host.now, host.wall, command(asked));
            let succeeds = effects.reply.as_ref().is_some_and(|it| answer(it).starts_with("ok"));
            let appends = !effects.records.is_empty();
            let failed = host.txns.append_failed(effects, HostFailure::Unavailable);
            assert_eq!(host.shown(), *before, "{asked}, failed");
            if appends && succeeds {
                let told = failed.reply.as_ref().map(answer);
                assert_eq!(told.as_deref(), Some("Host(Unavailable)"), "{before}: {asked}");
            }
        }
        let appended = host.log.len();
        let reply = host.ask(command(asked));
        assert_eq!(answer(&reply), *expected, "{before}: {asked}");
        let then = if after.is_empty() { before } else { after };
        assert_eq!(host.shown(), *then, "{before}: {asked}");
        assert_eq!(host.log.len() > appended, !after.is_empty(), "{before}: {asked}: records");
    }
}

#[test]
fn init_of_a_newcomer() {
    check(&[
        ("", "init", "NeedsProducerId", ""),
        ("", "init fresh=7", "ok 7:0", "Empty 7:0"),
        // The id has expired: whoever it was begins anew.
        ("", "init 5:2 fresh=7", "ok 7:0", "Empty 7:0"),
        ("Empty 7:0", "init", "ok 7:1", "Empty 7:1"),
        // A newcomer does not let the one before learn of it.
        ("Empty 7:1 prev=7", "init", "ok 7:2", "Empty 7:2"),
        ("CompleteCommit 7:3", "init", "ok 7:4", "Empty 7:4"),
        ("CompleteCommit 7:3 prev=7 v2", "init", "ok 7:4", "Empty 7:4"),
        ("CompleteAbort 7:3", "init", "ok 7:4", "Empty 7:4"),
        ("Ongoing 7:3 t/0", "init", "Concurrent", "PrepareAbort 7:4 v2 t/0"),
        ("Ongoing 7:3 v2 t/0", "init", "Concurrent", "PrepareAbort 7:4 v2 t/0"),
        ("PrepareCommit 7:3 t/0", "init", "Concurrent", ""),
        ("PrepareAbort 7:4 v2 t/0", "init", "Concurrent", ""),
    ]);
}

#[test]
fn init_in_the_last_epoch() {
    check(&[
        ("Empty 7:32765", "init", "ok 7:32766", "Empty 7:32766"),
        ("Empty 7:32766", "init", "NeedsProducerId", ""),
        ("Empty 7:32766", "init fresh=8", "ok 8:0", "Empty 8:0"),
        ("Empty 7:32766", "init 7:32766 fresh=8", "ok 8:0", "Empty 8:0 prev=7"),
        ("Empty 8:0 prev=7", "init 7:32766", "ok 8:0", "Empty 8:0 prev=7"),
        ("Empty 8:0", "init 7:32766", "Fenced", ""),
        // The epoch above is there to fence with, and for nothing else.
        ("Ongoing 7:32766 t/0", "init", "Concurrent", "PrepareAbort 7:32767 v2 t/0"),
        ("CompleteAbort 7:32767 v2", "init", "NeedsProducerId", ""),
        ("CompleteAbort 7:32767 v2", "init fresh=8", "ok 8:0", "Empty 8:0"),
        ("CompleteAbort 7:32767 prev=7 v2", "init 7:32766", "NeedsProducerId", ""),
        ("CompleteAbort 7:32767 prev=7 v2", "init 7:32766 fresh=8", "ok 8:0", "Empty 8:0 prev=7"),
    ]);
}

#[test]
fn init_of_one_who_goes_on() {
    check(&[
        ("Empty 7:1", "init 7:1", "ok 7:2", "Empty 7:2 prev=7"),
        // The reply was lost.
        ("Empty 7:2 prev=7", "init 7:1", "ok 7:2", "Empty 7:2 prev=7"),
        // Another one came in between.
        ("Empty 7:2", "init 7:1", "Fenced", ""),
        ("Empty 7:3", "init 7:1", "Fenced", ""),
        ("Empty 7:1", "init 7:2", "Fenced", ""),
        ("Empty 7:1", "init 6:1", "Fenced", ""),
        ("CompleteCommit 7:1", "init 7:1", "ok 7:2", "Empty 7:2 prev=7"),
        ("CompleteCommit 7:2 prev=7 v2", "init 7:1", "ok 7:2", "Empty 7:2 prev=7"),
        ("CompleteCommit 7:2 prev=7 v2", "init 7:2", "ok 7:3", "Empty 7:3 prev=7"),
        // Its own transaction is aborted, and it may learn of the epoch that did it.
        ("Ongoing 7:1 t/0", "init 7:1", "Concurrent", "PrepareAbort 7:2 prev=7 v2 t/0"),
        ("PrepareAbort 7:2 prev=7 v2 t/0", "init 7:1", "Concurrent", ""),
        ("CompleteAbort 7:2 prev=7 v2", "init 7:1", "ok 7:2", "Empty 7:2 prev=7"),
        // One who is fenced does not abort its successor's transaction.
        ("Ongoing 7:2 t/0", "init 7:1", "Fenced", ""),
        ("Ongoing 7:2 prev=7 t/0", "init 7:1", "Fenced", ""),
        ("PrepareCommit 7:2 t/0", "init 7:1", "Fenced", ""),
        ("PrepareCommit 7:32767 prev=7 next=8 v2 t/0", "init 8:0", "Concurrent", ""),
        ("PrepareCommit 7:32767 prev=7 next=8 v2 t/0", "init 7:32766", "Concurrent", ""),
    ]);
}

/// Among them pitfall 62: while markers are being written, an enlistment is to be tried again.
#[test]
fn partitions_are_enlisted() {
    check(&[
        ("", "add 7:0 t/0", "UnknownProducer", ""),
        ("Empty 7:0", "add 6:0 t/0", "UnknownProducer", ""),
        ("Empty 7:1", "add 7:0 t/0", "Fenced", ""),
        ("Empty 7:1", "add 7:2 t/0", "Fenced", ""),
        ("Empty 7:0", "add 7:0 t/0", "ok", "Ongoing 7:0 t/0"),
        ("Empty 7:1 prev=7", "add 7:1 t/0 v2", "ok", "Ongoing 7:1 v2 t/0"),
        ("Ongoing 7:0 t/0", "add 7:0 t/0", "ok", ""),
        ("Ongoing 7:0 t/0", "add 7:0 u/1 t/0 t/2", "ok", "Ongoing 7:0 t/0 t/2 u/1"),
        ("Ongoing 7:0 t/0", "add 7:0 u/1 v2", "ok", "Ongoing 7:0 v2 t/0 u/1"),
        ("Ongoing 7:0 v2 t/0", "add 7:0 u/1", "ok", "Ongoing 7:0 v2 t/0 u/1"),
        ("CompleteCommit 7:0", "add 7:0 t/0", "ok", "Ongoing 7:0 t/0"),
        ("CompleteAbort 7:1 prev=7 v2", "add 7:1 t/0 v2", "ok", "Ongoing 7:1 v2 t/0"),
        ("CompleteAbort 7:1 prev=7 v2", "add 7:1 t/0", "ok", "Ongoing 7:1 t/0"),
        ("CompleteAbort 7:1 prev=7 v2", "add 7:0 t/0 v2", "Fenced", ""),
        ("PrepareCommit 7:0 t/0", "add 7:0 t/0", "Concurrent", ""),
        ("PrepareCommit 7:1 prev=7 v2 t/0", "add 7:1 t/0 v2", "Concurrent", ""),
        ("PrepareCommit 7:1 prev=7 v2 t/0", "add 7:0 t/0 v2", "Fenced", ""),
        ("PrepareCommit 7:32767 prev=7 next=8 v2 t/0", "add 8:0 t/0 v2", "Concurrent", ""),
        ("PrepareCommit 7:32767 prev=7 next=8 v2 t/0", "add 7:32766 t/0 v2", "Fenced", ""),
        ("PrepareAbort 7:1 v2 t/0", "add 7:0 t/0", "Fenced", ""),
    ]);
}

#[test]
fn partitions_are_verified() {
    check(&[
        ("", "verify 7:0 t/0", "UnknownProducer", ""),
        ("Ongoing 7:0 t/0", "verify 6:0 t/0", "UnknownProducer", ""),
        ("Ongoing 7:1 t/0", "verify 7:0 t/0", "Fenced", ""),
        ("Ongoing 7:0 t/0", "verify 7:0 t/0", "ok", ""),
        ("Ongoing 7:0 t/0 u/1", "verify 7:0 t/0 t/1 u/0 u/1", "ok t/1 u/0", ""),
        ("Empty 7:0", "verify 7:0 t/0", "ok t/0", ""),
        ("CompleteCommit 7:0", "verify 7:0 t/0", "ok t/0", ""),
        ("PrepareCommit 7:0 t/0", "verify 7:0 t/0", "Concurrent", ""),
    ]);
}

/// Among them pitfall 63: the retry of an end is answered with its result; and an end by a new
/// client that only knows identity and epoch counts, as Flink's recovery needs it (nothing here
/// depends on who sends).
#[test]
fn ends_of_the_first_protocol() {
    check(&[
        ("", "commit 7:0", "UnknownProducer", ""),
        ("Ongoing 7:3 t/0", "commit 6:3", "UnknownProducer", ""),
        ("Ongoing 7:3 t/0", "commit 7:2", "Fenced", ""),
        ("Ongoing 7:3 t/0", "commit 7:4", "Fenced", ""),
        ("Ongoing 7:3 t/0", "commit 7:3", "ok 7:3", "PrepareCommit 7:3 t/0"),
        ("Ongoing 7:3 t/0", "abort 7:3", "ok 7:3", "PrepareAbort 7:3 t/0"),
        ("Ongoing 7:3 v2 t/0", "commit 7:3", "ok 7:3", "PrepareCommit 7:3 t/0"),
        ("Ongoing 7:32766 t/0", "commit 7:32766", "ok 7:32766", "PrepareCommit 7:32766 t/0"),
        ("PrepareCommit 7:3 t/0", "commit 7:3", "Concurrent", ""),
        ("PrepareCommit 7:3 t/0", "abort 7:3", "InvalidState", ""),
        ("PrepareAbort 7:3 t/0", "abort 7:3", "Concurrent", ""),
        ("PrepareAbort 7:3 t/0", "commit 7:3", "InvalidState", ""),
        ("CompleteCommit 7:3", "commit 7:3", "ok 7:3", ""),
        ("CompleteCommit 7:3", "abort 7:3", "InvalidState", ""),
        ("CompleteAbort 7:3", "abort 7:3", "ok 7:3", ""),
        ("CompleteAbort 7:3", "commit 7:3", "InvalidState", ""),
        ("Empty 7:3", "commit 7:3", "InvalidState", ""),
        ("Empty 7:3", "abort 7:3", "InvalidState", ""),
        ("Empty 7:4 prev=7", "abort 7:3", "Fenced", ""),
        // Too old, or another producer came: no epoch of the first protocol is forgiven.
        ("CompleteAbort 7:4 prev=7 v2", "abort 7:3", "Fenced", ""),
        ("CompleteAbort 7:4 prev=7 v2", "commit 7:3", "Fenced", ""),
        ("CompleteAbort 7:4 v2", "commit 7:3", "Fenced", ""),
        // After an end by the second protocol there is nothing to end.
        ("CompleteCommit 7:4 prev=7 v2", "commit 7:4", "InvalidState", ""),
    ]);
}

/// Among them pitfall 65: an end gives a new epoch, and its retry with the old one the same.
#[test]
fn ends_of_the_second_protocol() {
    check(&[
        ("", "commit 7:0 v2", "UnknownProducer", ""),
        ("Ongoing 7:3 t/0", "commit 6:3 v2", "UnknownProducer", ""),
        ("Ongoing 7:3 t/0", "commit 7:2 v2", "Fenced", ""),
        ("Ongoing 7:3 t/0", "commit 7:3 v2", "ok 7:4", "PrepareCommit 7:4 prev=7 v2 t/0"),
        ("Ongoing 7:3 v2 t/0", "abort 7:3 v2", "ok 7:4", "PrepareAbort 7:4 prev=7 v2 t/0"),
        ("PrepareCommit 7:4 prev=7 v2 t/0", "commit 7:3 v2", "Concurrent", ""),
        ("PrepareCommit 7:4 prev=7 v2 t/0", "abort 7:3 v2", "InvalidState", ""),
        // KAFKA-18464: the next, empty transaction is aborted before this one is complete.
        ("PrepareCommit 7:4 prev=7 v2 t/0", "abort 7:4 v2", "Concurrent", ""),
        ("PrepareAbort 7:4 prev=7 v2 t/0", "commit 7:3 v2", "InvalidState", ""),
        ("PrepareAbort 7:4 prev=7 v2 t/0", "abort 7:2 v2", "Fenced", ""),
        ("CompleteCommit 7:4 prev=7 v2", "commit 7:3 v2", "ok 7:4", ""),
        ("CompleteCommit 7:4 prev=7 v2", "abort 7:3 v2", "InvalidState", ""),
        ("CompleteAbort 7:4 prev=7 v2", "abort 7:3 v2", "ok 7:4", ""),
        ("CompleteAbort 7:4 prev=7 v2", "commit 7:3 v2", "InvalidState", ""),
        // A transaction in which the coordinator has seen nothing.
        ("Empty 7:3", "abort 7:3 v2", "ok 7:4", "CompleteAbort 7:4 prev=7 v2"),
        ("Empty 7:3", "commit 7:3 v2", "InvalidState", ""),
        ("Empty 7:3", "abort 7:2 v2", "Fenced", ""),
        ("Empty 7:3 prev=7", "abort 7:2 v2", "Fenced", ""),
        ("CompleteCommit 7:4 prev=7 v2", "abort 7:4 v2", "ok 7:5", "CompleteAbort 7:5 prev=7 v2"),
        ("CompleteAbort 7:4 prev=7 v2", "abort 7:4 v2", "ok 7:5", "CompleteAbort 7:5 prev=7 v2"),
        ("CompleteCommit 7:4 prev=7 v2", "commit 7:4 v2", "InvalidState", ""),
        ("CompleteCommit 7:4", "abort 7:4 v2", "ok 7:5", "CompleteAbort 7:5 prev=7 v2"),
        ("CompleteCommit 7:4", "commit 7:4 v2", "InvalidState", ""),
        // A newcomer has taken over: the one before does not learn of its epoch.
        ("CompleteAbort 7:4 v2", "abort 7:3 v2", "Fenced", ""),
        ("Ongoing 7:4 t/0", "commit 7:3 v2", "Fenced", ""),
    ]);
}

/// Pitfall 65.
#[test]
fn ends_in_the_last_epoch() {
    check(&[
        ("Ongoing 7:32766 t/0", "commit 7:32766 v2", "NeedsProducerId", ""),
        (
            "Ongoing 7:32766 t/0",
            "commit 7:32766 v2 fresh=8",
            "ok 8:0",
            "PrepareCommit 7:32767 prev=7 next=8 v2 t/0",
        ),
        ("PrepareCommit 7:32767 prev=7 next=8 v2 t/0", "commit 7:32766 v2", "Concurrent", ""),
        ("PrepareCommit 7:32767 prev=7 next=8 v2 t/0", "abort 7:32766 v2", "InvalidState", ""),
        ("PrepareCommit 7:32767 prev=7 next=8 v2 t/0", "abort 8:0 v2", "Concurrent", ""),
        (
            "PrepareCommit 7:32767 prev=7 next=8 v2 t/0",
            "marked 7:32767",
            "ok",
            "CompleteCommit 8:0 prev=7 v2",
        ),
        ("CompleteCommit 8:0 prev=7 v2", "commit 7:32766 v2", "ok 8:0", ""),
        ("CompleteCommit 8:0 prev=7 v2", "abort 7:32766 v2", "InvalidState", ""),
        ("CompleteCommit 8:0 prev=7 v2", "commit 7:32765 v2", "UnknownProducer", ""),
        ("Empty 7:32766", "abort 7:32766 v2", "NeedsProducerId", ""),
        ("Empty 7:32766", "abort 7:32766 v2 fresh=8", "ok 8:0", "CompleteAbort 8:0 prev=7 v2"),
        // KAFKA-20090: it was too old, and there is no epoch to answer with.
        ("CompleteAbort 7:32767 prev=7 v2", "abort 7:32766 v2", "NeedsProducerId", ""),
        (
            "CompleteAbort 7:32767 prev=7 v2",
            "abort 7:32766 v2 fresh=8",
            "ok 8:0",
            "CompleteAbort 8:0 prev=7 v2",
        ),
        ("CompleteAbort 8:0 prev=7 v2", "abort 7:32766 v2", "ok 8:0", ""),
        // Nobody has the epoch above, whatever a client says.
        ("CompleteAbort 7:32767 v2", "abort 7:32767", "Fenced", ""),
        ("CompleteAbort 7:32767 v2", "abort 7:32767 v2 fresh=8", "Fenced", ""),
        ("CompleteAbort 7:32767 v2", "add 7:32767 t/0", "Fenced", ""),
        ("CompleteAbort 7:32767 v2", "init 7:32767 fresh=8", "Fenced", ""),
    ]);
}

#[test]
fn markers_complete_a_transaction() {
    check(&[
        ("", "marked 7:3", "NotOrdered", ""),
        ("PrepareCommit 7:3 t/0", "marked 7:3", "ok", "CompleteCommit 7:3"),
        ("PrepareAbort 7:3 t/0", "marked 7:3", "ok", "CompleteAbort 7:3"),
        ("PrepareCommit 7:4 prev=7 v2 t/0", "marked 7:4", "ok", "CompleteCommit 7:4 prev=7 v2"),
        ("PrepareAbort 7:4 v2 t/0", "marked 7:4", "ok", "CompleteAbort 7:4 v2"),
        ("PrepareCommit 7:3 t/0", "marked 7:2", "NotOrdered", ""),
        ("PrepareCommit 7:3 t/0", "marked 6:3", "NotOrdered", ""),
        ("CompleteCommit 7:3", "marked 7:3", "NotOrdered", ""),
        ("Ongoing 7:3 t/0", "marked 7:3", "NotOrdered", ""),
        ("Empty 7:3", "marked 7:3", "NotOrdered", ""),
    ]);
}

/// Pitfall 61, and what else an init may not ask.
#[test]
fn an_init_is_checked() {
    let settings = TxnSettings { ids_max: 1, ..TxnSettings::default() };
    let max = i32::try_from(settings.timeout_max.as_millis()).expect("15 minutes");
    let long = "x".repeat(usize::try_from(i16::MAX).expect("positive") + 1);
    let cases = [
        ("a", 1, Err(InitError::Host(HostFailure::Unavailable))),
        (ID, 1, Ok(1)),
        (ID, max, Ok(1)),
        (ID, max + 1, Err(InitError::InvalidTimeout)),
        (ID, 0, Err(InitError::InvalidTimeout)),
        (ID, -1, Err(InitError::InvalidTimeout)),
        ("", 1, Err(InitError::InvalidId)),
        (&long, 1, Err(InitError::Host(HostFailure::TooLarge))),
    ];
    for (id, timeout_ms, expected) in cases {
        let mut host = Host::with("Empty 7:0");
        host.txns.configure(settings);
        let fresh = Some(ProducerId(8));
        let init = Init { id: id.into(), timeout_ms, expected: None, fresh };
        let reply = host.ask(Command::Init(init));
        let expected =
            expected.map(|epoch| Producer { id: ProducerId(7), epoch: ProducerEpoch(epoch) });
        assert_eq!(reply, Reply::Init(expected), "{} {timeout_ms}", id.len());
    }
}

/// What tools see.
/// Pitfall 67.
#[test]
fn ids_are_described_and_listed() {
    let host = Host::with("Ongoing 7:3 t/0 t/2 u/1");
    let topics = vec![("t".into(), vec![0, 2]), ("u".into(), vec![1])];
    let description = Description {
        state: TransactionState::Ongoing,
        timeout_ms: TIMEOUT_MS,
        started: Some(WALL),
        producer: ProducerId(7),
        epoch: ProducerEpoch(3),
        topics,
    };
    assert_eq!(host.txns.describe(ID), Some(description));
    assert_eq!(host.txns.describe("other"), None);
    let any = ListFilter::default();
    let states = |name: &str| ListFilter { states: vec![name.into()], ..ListFilter::default() };
    let producer = |id| ListFilter { producer_ids: vec![ProducerId(id)], ..any.clone() };
    let longer = |ms| ListFilter { duration_ms: Some(ms), ..any.clone() };
    let listed = |filter: &ListFilter, wanted: bool| {
        let now = WALL.plus(std::time::Duration::from_millis(10));
        !host.txns.list(filter, |id| id == ID && wanted, now).is_empty()
    };
    for (filter, expected) in [
        (any.clone(), true),
        (states("Ongoing"), true),
        (states("Empty"), false),
        (states("ongoing"), false),
        (states("nonsense"), false),
        (producer(7), true),
        (producer(8), false),
        (longer(9), true),
        (longer(10), false),
    ] {
        assert_eq!(listed(&filter, true), expected, "{filter:?}");
        assert!(!listed(&filter, false), "{filter:?}: not wanted");
    }
    assert!(TransactionState::is_known("Ongoing") && TransactionState::is_known("Dead"));
    assert!(!TransactionState::is_known("ongoing"));
}
