use millstream_record::{BatchBuilder, ValidBatch};
use millstream_types::{LeaderEpoch, Timestamp};

use super::*;

const HOUR: Duration = Duration::from_hours(1);
const MEMORY: Memory = Memory { expiry: HOUR, ids_max: 8 };

fn batch(
    producer: i64,
    epoch: i16,
    sequence: i32,
    records: i32,
    transactional: bool,
) -> ValidBatch {
    let builder = BatchBuilder::new();
    let builder = builder.producer(ProducerId(producer), ProducerEpoch(epoch), sequence);
    let mut builder = if transactional { builder.transactional() } else { builder };
    for _ in 0..records {
        builder.append(Timestamp(0), None, Some(b"v"), &[]);
    }
    builder.build_valid().unwrap()
}

/// The producers of a partition, driven as the partition does.
#[derive(Default)]
struct Driven {
    producers: Producers,
    end: i64,
    now: i64,
}

#[derive(Debug, PartialEq)]
enum Outcome {
    At(i64),
    Duplicate(i64),
    Expected(i32),
    Stale,
    Outside,
    NotEnlisted,
}

use Outcome::{At, Duplicate, Expected, NotEnlisted, Outside, Stale};

impl Driven {
    fn send(&mut self, batch: &ValidBatch) -> Outcome {
        let header = batch.header();
        match self.producers.verdict(header, Timestamp(self.now), HOUR) {
            Err(AppendError::OutOfOrderSequence { expected, .. }) => Expected(expected),
            Err(AppendError::InvalidProducerEpoch { .. }) => Stale,
            Err(AppendError::InvalidTxnState { .. }) => Outside,
            Err(AppendError::NotEnlisted { .. }) => NotEnlisted,
            Err(error) => panic!("{error}"),
            Ok(Verdict::Duplicate(sent)) => Duplicate(sent.batch.base.0),
            Ok(Verdict::Next) => {
                let base = self.end;
                let header = batch.assign(Offset(base), LeaderEpoch(0)).header().unwrap();
                self.end = header.last_offset().0 + 1;
                let sent = Sent {
                    batch: SentBatch {
                        base_sequence: header.base_sequence,
                        last_sequence: header.last_sequence(),
                        base: header.base_offset,
                        last: header.last_offset(),
                        log_append_time: Timestamp::NONE,
                    },
                    end: Lsn(7),
                };
                self.producers.apply(&header, sent, Timestamp(self.now), MEMORY);
                At(base)
            }
        }
    }
}

#[track_caller]
fn check(sends: &[((i16, i32, i32), Outcome)]) {
    let mut driven = Driven::default();
    for (at, ((epoch, sequence, records), outcome)) in sends.iter().enumerate() {
        let found = driven.send(&batch(1, *epoch, *sequence, *records, false));
        assert_eq!(found, *outcome, "send {at}");
    }
}

#[test]
fn batches_of_one_epoch_follow_each_other() {
    check(&[
        ((0, 0, 3), At(0)),
        ((0, 3, 2), At(3)),
        ((0, 6, 1), Expected(5)),
        ((0, 4, 1), Expected(5)),
        ((0, 5, 1), At(5)),
    ]);
}

/// Pitfall 29.
#[test]
fn of_an_unknown_producer_any_sequence_is_taken() {
    check(&[((4, 17, 3), At(0)), ((4, 20, 1), At(3)), ((4, 17, 2), Expected(21))]);
}

/// Pitfall 29: with the second protocol of transactions each has a new epoch, which begins at 0 whether
/// its producer is remembered or not; with the first, one whom retention made forgotten goes on.
#[test]
fn a_transaction_of_the_second_protocol_begins_at_zero() {
    let one = ProducerId(1);
    for (first, outcome) in [(FirstSequence::Any, At(0)), (FirstSequence::Zero, Expected(0))] {
        let mut driven = Driven::default();
        driven.producers.enlist(one, ProducerEpoch(4), first);
        assert_eq!(driven.send(&batch(1, 4, 17, 1, true)), outcome, "{first:?}");
    }
    let mut driven = Driven::default();
    driven.producers.enlist(one, ProducerEpoch(4), FirstSequence::Zero);
    // What is no part of the transaction, and what another epoch says, is judged as ever.
    assert_eq!(driven.send(&batch(1, 5, 17, 1, true)), NotEnlisted);
    assert_eq!(driven.send(&batch(1, 4, 0, 2, true)), At(0));
    assert_eq!(driven.send(&batch(1, 4, 2, 1, true)), At(2));
}

/// Pitfall 27.
#[test]
fn an_exact_retry_of_one_of_the_last_five_is_a_duplicate() {
    check(&[
        ((0, 0, 2), At(0)),
        ((0, 2, 1), At(2)),
        ((0, 3, 1), At(3)),
        ((0, 4, 1), At(4)),
        ((0, 5, 1), At(5)),
        ((0, 0, 2), Duplicate(0)),
        ((0, 5, 1), Duplicate(5)),
        // Not exactly what was sent.
        ((0, 0, 1), Expected(6)),
        ((0, 6, 1), At(6)),
        // The sixth from the end is forgotten.
        ((0, 0, 2), Expected(7)),
        ((0, 2, 1), Duplicate(2)),
    ]);
}

/// Pitfall 28.
#[test]
fn sequences_wrap_to_zero() {
    const MAX: i32 = i32::MAX;
    check(&[((0, MAX - 1, 2), At(0)), ((0, MAX - 1, 2), Duplicate(0)), ((0, 0, 1), At(2))]);
    check(&[((0, MAX, 3), At(0)), ((0, 2, 1), At(3)), ((0, MAX, 3), Duplicate(0))]);
}

/// Pitfall 30.
#[test]
fn a_new_epoch_begins_at_zero_and_an_old_one_is_stale() {
    check(&[
        ((1, 0, 1), At(0)),
        ((2, 1, 1), Expected(0)),
        ((0, 1, 1), Stale),
        ((2, 0, 1), At(1)),
        ((1, 1, 1), Stale),
        // What the old epoch sent is forgotten with it.
        ((1, 0, 1), Stale),
        ((2, 0, 1), Duplicate(1)),
    ]);
}

/// Pitfall 29.
#[test]
fn idle_producers_are_forgotten() {
    let mut driven = Driven::default();
    assert_eq!(driven.send(&batch(1, 0, 0, 1, false)), At(0));
    driven.now = 3_599_999;
    assert_eq!(driven.send(&batch(1, 0, 9, 1, false)), Expected(1));
    driven.now = 3_600_000;
    assert_eq!(driven.send(&batch(1, 0, 9, 1, false)), At(1));
    // What it sent before is not remembered again.
    assert_eq!(driven.send(&batch(1, 0, 0, 1, false)), Expected(10));
    driven.now = 7_200_000;
    driven.producers.expire(Timestamp(driven.now), HOUR);
    assert_eq!(driven.producers.images(), []);
}

#[test]
fn of_too_many_the_longest_idle_go() {
    let mut driven = Driven::default();
    driven.producers.enlist(ProducerId(2), ProducerEpoch(0), FirstSequence::Any);
    for producer in 0..8 {
        driven.now += 1;
        driven.send(&batch(producer, 0, 0, 1, producer == 2));
    }
    driven.now += 1;
    // Producer 0 speaks again, 1 is the longest idle then.
    driven.send(&batch(0, 0, 1, 1, false));
    driven.send(&batch(8, 0, 0, 1, false));
    let left: Vec<_> = driven.producers.images().iter().map(|image| image.id.0).collect();
    assert_eq!(left, [0, 2, 3, 4, 5, 6, 7, 8]);
    driven.now += 1;
    driven.send(&batch(9, 0, 0, 1, false));
    let left: Vec<_> = driven.producers.images().iter().map(|image| image.id.0).collect();
    assert_eq!(left, [0, 2, 4, 5, 6, 7, 8, 9], "an open transaction stays");
}

#[test]
fn inside_a_transaction_all_is_transactional() {
    let mut driven = Driven::default();
    driven.producers.enlist(ProducerId(1), ProducerEpoch(0), FirstSequence::Any);
    assert_eq!(driven.send(&batch(1, 0, 0, 1, true)), At(0));
    assert_eq!(driven.send(&batch(1, 0, 1, 1, false)), Outside);
    assert_eq!(driven.send(&batch(1, 0, 1, 1, true)), At(1));
    let header = *batch(1, 0, 2, 1, true).header();
    let ended = driven.producers.apply_marker(&header, 3, Timestamp(0), MEMORY);
    assert_eq!(ended, Some(Ended { first: Offset(0) }));
    assert_eq!(driven.send(&batch(1, 0, 2, 1, false)), At(2));
    // Markers of an older coordinator, or for an older producer, are refused.
    let fenced = driven.producers.check_marker(&header, 2);
    assert!(matches!(fenced, Err(AppendError::CoordinatorFenced { current: 3, found: 2, .. })));
    assert_eq!(driven.producers.check_marker(&header, 3), Ok(()));
    let newer = *batch(1, 5, 0, 1, true).header();
    driven.producers.apply_marker(&newer, 3, Timestamp(0), MEMORY);
    let stale = driven.producers.check_marker(&header, 3);
    assert!(matches!(stale, Err(AppendError::InvalidProducerEpoch { .. })));
    // A marker with a new epoch begins it: sequence 0 comes next.
    assert_eq!(driven.send(&batch(1, 5, 1, 1, false)), Expected(0));
}

/// KIP-890: a batch that was on its way when its transaction ended would begin one that hangs.
/// Pitfall 66.
#[test]
fn only_an_enlisted_producer_begins_a_transaction() {
    let end = |driven: &mut Driven, epoch: i16| {
        let header = *batch(1, epoch, 0, 1, true).header();
        driven.producers.apply_marker(&header, 0, Timestamp(0), MEMORY);
    };
    let mut driven = Driven::default();
    let one = ProducerId(1);
    assert_eq!(driven.send(&batch(1, 0, 0, 1, true)), NotEnlisted);
    driven.producers.enlist(one, ProducerEpoch(0), FirstSequence::Any);
    assert!(driven.producers.awaits_marker(one));
    assert_eq!(driven.send(&batch(1, 1, 0, 1, true)), NotEnlisted, "another epoch");
    assert_eq!(driven.send(&batch(1, 0, 0, 1, true)), At(0));
    end(&mut driven, 0);
    assert!(!driven.producers.awaits_marker(one));
    // A retry of what is there is answered; what is late is not taken, with or without a new epoch.
    assert_eq!(driven.send(&batch(1, 0, 0, 1, true)), Duplicate(0));
    assert_eq!(driven.send(&batch(1, 0, 1, 1, true)), NotEnlisted);
    driven.producers.enlist(one, ProducerEpoch(0), FirstSequence::Any);
    end(&mut driven, 1);
    assert_eq!(driven.send(&batch(1, 0, 1, 1, true)), Stale);
    // Enlisted, but ended before anything was written: as if it had been.
    driven.producers.enlist(one, ProducerEpoch(1), FirstSequence::Any);
    end(&mut driven, 2);
    assert_eq!(driven.send(&batch(1, 2, 0, 1, true)), NotEnlisted);
    // A marker that comes late does not end what was begun with a newer epoch.
    driven.producers.enlist(one, ProducerEpoch(3), FirstSequence::Any);
    end(&mut driven, 2);
    assert_eq!(driven.send(&batch(1, 3, 0, 1, true)), At(1));
    // What is open in the log, after a restart, needs nobody to enlist it.
    let images = driven.producers.images();
    let mut again = Driven { producers: Producers::from_images(images), end: 2, now: 0 };
    assert_eq!(again.send(&batch(1, 3, 1, 1, true)), At(2));
}

/// Pitfall 31.
#[test]
fn what_is_remembered_survives_a_checkpoint() {
    let mut driven = Driven::default();
    driven.producers.enlist(ProducerId(1), ProducerEpoch(3), FirstSequence::Any);
    driven.send(&batch(1, 3, 0, 2, true));
    driven.send(&batch(2, 0, 5, 1, false));
    let images = driven.producers.images();
    let mut again = Driven { producers: Producers::from_images(images.clone()), end: 3, now: 0 };
    assert_eq!(again.producers.images(), images);
    assert_eq!(again.send(&batch(1, 3, 0, 2, true)), Duplicate(0));
    assert_eq!(again.send(&batch(2, 0, 6, 1, false)), At(3));
}

/// Found in review: the first batches of a new producer, sent without waiting for answers, of which
/// the first found no room for a moment and the second did: stored in front of it.
#[test]
fn what_is_behind_a_refused_batch_of_an_unknown_producer_waits_for_it() {
    let mut driven = Driven::default();
    let [a, b, c] = [0, 2, 4].map(|sequence| batch(1, 0, sequence, 2, false));
    driven.producers.note_refused(b.header(), Timestamp(0));
    driven.producers.note_refused(a.header(), Timestamp(0));
    let verdict = |driven: &Driven, batch: &ValidBatch| {
        driven.producers.verdict(batch.header(), Timestamp(driven.now), HOUR)
    };
    for behind in [&b, &c] {
        let refused = verdict(&driven, behind);
        assert!(matches!(refused, Err(AppendError::OutOfTurn { refused: 0, .. })), "{refused:?}");
    }
    // Others, and the producer's next incarnation, have nothing to do with it.
    assert_eq!(driven.send(&batch(2, 0, 7, 1, false)), At(0));
    assert_eq!(verdict(&driven, &batch(1, 1, 5, 1, false)), Ok(Verdict::Next));
    assert_eq!(driven.send(&a), At(1));
    assert_eq!(driven.send(&c), Expected(2));
    assert_eq!(driven.send(&b), At(3));
    assert_eq!(driven.send(&c), At(5));
    // A producer that has given up is not waited for.
    driven.producers.note_refused(batch(3, 0, 0, 1, false).header(), Timestamp(0));
    driven.now = 2 * 60 * 1_000;
    assert_eq!(driven.send(&batch(3, 0, 1, 1, false)), At(7));
}
