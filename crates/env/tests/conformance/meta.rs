use std::sync::Arc;

use bytes::Bytes;
use millstream_env::disk::{Fault, FaultAt, Operation, SimDisk};
use millstream_env::{MetaError, MetaLog, MetaSnapshot};

use crate::places::{Place, everywhere};

fn entry(number: u64) -> Bytes {
    Bytes::from(vec![number as u8; (number as usize * 1371) % 9000])
}

fn entries(numbers: std::ops::Range<u64>) -> Vec<(u64, Bytes)> {
    numbers.map(|number| (number, entry(number))).collect()
}

fn snapshot(upto: u64) -> MetaSnapshot {
    MetaSnapshot { upto, state: Bytes::from(format!("everything up to {upto}")) }
}

#[test]
fn entries_are_numbered_without_gaps_and_survive() {
    everywhere(|place| async move {
        let meta = place.open().meta();
        assert_eq!(meta.load().await.unwrap(), (None, vec![]));
        for number in 1..10 {
            meta.append(number, entry(number)).await.unwrap();
            assert_eq!(meta.append(number, entry(7)).await, Err(MetaError::Taken(number)));
            let gap = meta.append(number + 2, entry(7)).await;
            assert!(matches!(gap, Err(MetaError::Storage(_))), "{gap:?}");
        }
        assert_eq!(meta.load().await.unwrap(), (None, entries(1..10)));
        drop(meta);
        let meta = place.open().meta();
        // Without a load before.
        assert_eq!(meta.append(9, entry(9)).await, Err(MetaError::Taken(9)));
        meta.append(10, entry(10)).await.unwrap();
        assert_eq!(meta.load().await.unwrap(), (None, entries(1..11)));
    });
}

#[test]
fn of_many_who_append_the_same_number_one_wins() {
    everywhere(|place| async move {
        let meta = place.open().meta();
        for number in 1..10 {
            let append = |who: u8| meta.append(number, Bytes::from(vec![who; 100]));
            let done = futures_util::future::join_all((0..8).map(append)).await;
            let winners: Vec<_> = (0..8_u8).zip(done).filter(|(_, done)| done.is_ok()).collect();
            let [(winner, _)] = winners[..] else { panic!("{winners:?}") };
            let (_, entries) = meta.load().await.unwrap();
            assert_eq!(entries.last().unwrap().1, vec![winner; 100]);
        }
    });
}

#[test]
fn a_snapshot_replaces_what_it_covers() {
    everywhere(|place| async move {
        let meta = place.open().meta();
        for number in 1..8 {
            meta.append(number, entry(number)).await.unwrap();
        }
        meta.snapshot(snapshot(5)).await.unwrap();
        assert_eq!(meta.load().await.unwrap(), (Some(snapshot(5)), entries(6..8)));
        meta.append(8, entry(8)).await.unwrap();
        let early = meta.snapshot(snapshot(9)).await;
        assert!(matches!(early, Err(MetaError::Storage(_))), "{early:?}");
        drop(meta);
        let meta = place.open().meta();
        assert_eq!(meta.load().await.unwrap(), (Some(snapshot(5)), entries(6..9)));
        meta.snapshot(snapshot(8)).await.unwrap();
        // An older one changes nothing.
        meta.snapshot(snapshot(6)).await.unwrap();
        assert_eq!(meta.load().await.unwrap(), (Some(snapshot(8)), vec![]));
        assert_eq!(meta.append(8, entry(8)).await, Err(MetaError::Taken(8)));
        meta.append(9, entry(9)).await.unwrap();
        drop(meta);
        let meta = place.open().meta();
        assert_eq!(meta.load().await.unwrap(), (Some(snapshot(8)), entries(9..10)));
    });
}

#[test]
fn damage_is_reported_unless_it_is_the_end() {
    everywhere(|place| async move {
        let log = "meta/00000000000000000001.log";
        let meta = place.open().meta();
        for number in 1..4 {
            meta.append(number, Bytes::from(vec![number as u8; 5000])).await.unwrap();
        }
        drop(meta);
        // Entries start at blocks 1, 3 and 5.
        let load = async || place.open().meta().load().await;
        for damaged in [4096, 4096 + 3000, 3 * 4096 + 31, 4 * 4096 + 5] {
            place.damage(log, damaged);
            let found = load().await;
            assert!(matches!(found, Err(MetaError::Corrupt(_))), "{damaged}: {found:?}");
            place.damage(log, damaged);
        }
        place.damage(log, 5 * 4096 + 200);
        let (_, found) = load().await.unwrap();
        assert_eq!(found.len(), 2);
        let meta = place.open().meta();
        meta.append(3, entry(3)).await.unwrap();
        drop(meta);
        place.damage(log, 20);
        let found = load().await;
        assert!(matches!(found, Err(MetaError::Corrupt(_))), "{found:?}");
    });
}

/// Whatever operation fails, and however: what was reported as appended is there afterwards, in
/// order, and at most the one entry or snapshot that was under way besides.
#[test]
fn faults_lose_nothing_that_was_reported() {
    let faults = [Fault::Fail, Fault::Short, Fault::Full, Fault::PowerCut];
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for seed in 0..600 {
            let machine = SimDisk::new(seed);
            let place = Place::Memory(Arc::clone(&machine));
            let meta = place.open().meta();
            let fault = faults[seed as usize % 4];
            machine.plan(FaultAt { on: Operation::Any, after: seed / 4 % 70, fault });
            let mut reported = 0;
            let mut tried = 0;
            for number in 1..25 {
                tried = number;
                match meta.append(number, entry(number)).await {
                    Ok(()) => reported = number,
                    // It was there after all.
                    Err(MetaError::Taken(_)) => reported = number,
                    Err(_) => match meta.append(number, entry(number)).await {
                        Ok(()) | Err(MetaError::Taken(_)) => reported = number,
                        Err(_) => break,
                    },
                }
                if number % 6 == 0 {
                    // A failed one leaves the older one or itself.
                    let _ = meta.snapshot(snapshot(number - 2)).await;
                }
            }
            machine.power_cut();
            let meta = place.open().meta();
            let (covered, rest) = meta.load().await.unwrap();
            let upto = covered.as_ref().map_or(0, |snapshot| snapshot.upto);
            assert_eq!(covered, (upto > 0).then(|| snapshot(upto)), "seed {seed}");
            let end = upto + rest.len() as u64;
            assert_eq!(rest, entries(upto + 1..end + 1), "seed {seed}");
            assert!((reported..=tried).contains(&end), "seed {seed}: {reported} {end} {tried}");
            meta.append(end + 1, entry(end + 1)).await.unwrap();
        }
    });
}

#[test]
fn a_snapshot_without_its_log_is_refused() {
    everywhere(|place| async move {
        let meta = place.open().meta();
        for number in 1..4 {
            meta.append(number, entry(number)).await.unwrap();
        }
        meta.snapshot(snapshot(2)).await.unwrap();
        drop(meta);
        let disk = place.disk();
        for file in disk.list("meta").unwrap() {
            if file.name.ends_with(".log") {
                disk.remove(&format!("meta/{}", file.name)).unwrap();
            }
        }
        let refused = place.open().meta().load().await;
        assert!(matches!(refused, Err(MetaError::Corrupt(_))), "{refused:?}");
    });
}
