use std::sync::Arc;

use futures_util::TryStreamExt;
use futures_util::future::{BoxFuture, join_all};
use millstream_env::disk::{Fault, FaultAt, Operation};
use millstream_env::{
    Clock, DataDir, Durability, Env, FileJournalStore, FrameAt, Journal, JournalError,
    JournalSettings, JournalState, JournalStore, Recovered,
};
use millstream_record::frame::Frame;
use millstream_types::{Lsn, Monotonic, SessionId, Timestamp};

use crate::places::{Place, everywhere, frame};

const FILE: u64 = 64 * 1024;

fn settings() -> JournalSettings {
    JournalSettings {
        file_bytes: FILE,
        files_max: 60,
        reserve_bytes: 8 * 1024,
        ..JournalSettings::default()
    }
}

/// Like `assert_eq!`, but says only which frames they are.
#[track_caller]
fn assert_same(found: &[(FrameAt, Frame)], expected: &[(FrameAt, Frame)]) {
    let places = |frames: &[(FrameAt, Frame)]| frames.iter().map(|&(at, _)| at).collect::<Vec<_>>();
    assert_eq!(places(found), places(expected));
    assert!(found == expected, "the frames differ");
}

async fn open(place: &Place) -> Arc<FileJournalStore> {
    place.open().journals(settings()).await.unwrap()
}

/// Waits until everything below `end` is durable, or the session is over.
async fn durable(journal: &dyn Journal, end: Lsn) -> bool {
    let mut status = journal.status();
    let reached = status
        .wait_for(|status| status.durable >= end || status.state != JournalState::Open)
        .await
        .unwrap();
    reached.durable >= end
}

/// Appends; waits where the journal has no room at the moment.
async fn append(journal: &dyn Journal, frame: Frame) -> FrameAt {
    for _ in 0..10_000 {
        match journal.append(frame.clone()) {
            Ok(at) => return at,
            Err(JournalError::Full) => {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the journal stays full");
}

async fn replay(
    store: &FileJournalStore,
    session: u64,
    from: Lsn,
) -> Result<Vec<(FrameAt, Frame)>, JournalError> {
    store.replay(SessionId(session), from).try_collect().await
}

#[test]
fn what_was_appended_is_replayed_after_a_restart() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        assert_eq!((journal.session(), journal.end()), (SessionId(1), Lsn(0)));
        let mut written = Vec::new();
        for number in 0..200 {
            let frame = frame(number, (number as usize * 37) % 3000);
            let at = append(&*journal, frame.clone()).await;
            assert_eq!(at.end(), journal.end());
            assert!(written.last().is_none_or(|(last, _): &(FrameAt, _)| last.end() <= at.lsn));
            written.push((at, frame));
            if number % 7 == 0 {
                assert!(durable(&*journal, at.end()).await);
                assert_eq!(store.read_at(at).await.unwrap(), written.last().unwrap().1);
            }
        }
        journal.close().await;
        assert_eq!(journal.status().borrow().state, JournalState::Closed);
        let over = journal.append(frame(0, 0)).unwrap_err();
        assert_eq!(over, JournalError::Over(JournalState::Closed));
        drop((journal, store));

        let store = open(&place).await;
        assert_eq!(store.sessions().await.unwrap(), [SessionId(1)]);
        let end = store.seal(SessionId(1)).await.unwrap();
        assert!(end >= written.last().unwrap().0.end());
        assert_same(&replay(&store, 1, Lsn(0)).await.unwrap(), &written);
        for (first, (at, frame)) in written.iter().enumerate() {
            assert_eq!(store.read_at(*at).await.unwrap(), *frame);
            let from = replay(&store, 1, at.lsn).await.unwrap();
            assert_same(&from, &written[first..]);
        }
        assert_same(&replay(&store, 1, end).await.unwrap(), &[]);
        assert_eq!(store.seal(SessionId(1)).await.unwrap(), end);
    });
}

#[test]
fn a_session_that_was_never_closed_is_sealed_at_its_last_frame() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(7)).await.unwrap();
        let mut written = Vec::new();
        for number in 0..30 {
            let frame = frame(number, 5000);
            let at = append(&*journal, frame.clone()).await;
            assert!(durable(&*journal, at.end()).await);
            written.push((at, frame));
        }
        match &*place {
            Place::Memory(machine) => machine.kill(),
            // The lock goes with the process; here, another store stands for the next one.
            _ => std::mem::forget(journal),
        }
        let store = match &*place {
            Place::Memory(_) => open(&place).await,
            _ => {
                let env = millstream_env::Env::real(tokio::runtime::Handle::current());
                let cluster = place_cluster(&place);
                FileJournalStore::open(place.disk(), env, cluster, settings()).await.unwrap()
            }
        };
        let end = store.seal(SessionId(7)).await.unwrap();
        assert!(end >= written.last().unwrap().0.end());
        assert_same(&replay(&store, 7, Lsn(0)).await.unwrap(), &written);
        let refused = store.create(SessionId(7)).await.unwrap_err();
        assert_eq!(refused, JournalError::Over(JournalState::Fenced));
    });
}

fn place_cluster(place: &Place) -> millstream_types::ClusterId {
    use millstream_record::file::{FileHeader, FileKind};
    let disk = place.disk();
    let file = disk
        .open("cluster", millstream_env::disk::Access::Read, millstream_env::disk::Caching::Cached)
        .unwrap();
    let mut bytes = [0; 64];
    file.read_at(&mut bytes, 0).unwrap();
    FileHeader::decode(&bytes, FileKind::Cluster).unwrap().cluster
}

/// One pass from a frame that is known to be durable finds the rest and the end, and reads nothing
/// before: damage there is in nobody's way, not even in the same group.
#[test]
fn a_session_is_taken_over_from_a_known_frame_on() {
    for known in [0_usize, 1, 17, 39] {
        everywhere(|place| async move {
            let store = open(&place).await;
            let journal = store.create(SessionId(1)).await.unwrap();
            let mut written = Vec::new();
            for number in 0..40 {
                let frame = frame(number, 1_500);
                written.push((append(&*journal, frame.clone()).await, frame));
                if number % 5 == 4 {
                    assert!(durable(&*journal, journal.end()).await);
                }
            }
            let from = written[known].0.lsn;
            let before = known.checked_sub(1).map(|before| written[before].0.lsn);
            // Killed, or closed and sealed.
            match &*place {
                Place::Memory(machine) => machine.kill(),
                _ => journal.close().await,
            }
            drop((journal, store));
            if let Some(before) = before {
                let area = FILE - 4096;
                let path = format!("journal/{:020}-{:020}.log", 1, before.0 / area);
                place.damage(&path, 4096 + before.0 % area + 100);
            }
            let store = open(&place).await;
            for _ in 0..2 {
                let found: Vec<_> = store.recover(SessionId(1), from).try_collect().await.unwrap();
                let (end, frames) = found.split_last().unwrap();
                let frames = frames.iter().flat_map(|found| match found {
                    Recovered::Frames(frames) => Vec::from(frames.clone()),
                    Recovered::End(_) => panic!("it ends twice"),
                });
                assert_same(&frames.collect::<Vec<_>>(), &written[known..]);
                let sealed = store.seal(SessionId(1)).await.unwrap();
                assert_eq!(*end, Recovered::End(sealed));
            }
            let never: Vec<_> = store.recover(SessionId(9), Lsn(0)).try_collect().await.unwrap();
            assert_eq!(never, [Recovered::End(Lsn(0))]);
        });
    }
}

#[test]
fn a_sealed_session_takes_nothing_more() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        let at = append(&*journal, frame(1, 100)).await;
        assert!(durable(&*journal, at.end()).await);
        let end = store.seal(SessionId(1)).await.unwrap();
        assert_eq!(end, journal.status().borrow().durable);
        let over = JournalError::Over(JournalState::Fenced);
        assert_eq!(journal.append(frame(2, 100)).unwrap_err(), over);
        assert_eq!(journal.status().borrow().state, JournalState::Fenced);
        assert_same(&replay(&store, 1, Lsn(0)).await.unwrap(), &[(at, frame(1, 100))]);
        assert_eq!(store.seal(SessionId(99)).await.unwrap(), Lsn(0));
        assert_eq!(store.create(SessionId(99)).await.unwrap_err(), over);
        assert_same(&replay(&store, 99, Lsn(0)).await.unwrap(), &[]);
    });
}

#[test]
fn frames_larger_than_a_file_span_files() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        let mut written = Vec::new();
        for (number, size) in [(1, 10), (2, 150_000), (3, 10), (4, 60_000), (5, 10)] {
            let at = append(&*journal, frame(number, size)).await;
            assert!(durable(&*journal, at.end()).await);
            assert_eq!(store.read_at(at).await.unwrap(), frame(number, size));
            written.push((at, frame(number, size)));
        }
        let end = store.seal(SessionId(1)).await.unwrap();
        assert_same(&replay(&store, 1, Lsn(0)).await.unwrap(), &written);
        // Trimmed after the giant, whose last file goes as well.
        let (after, _) = written[2];
        store.trim(SessionId(1), after.lsn).await.unwrap();
        assert_same(&replay(&store, 1, after.lsn).await.unwrap(), &written[2..]);
        assert!(matches!(replay(&store, 1, Lsn(0)).await, Err(JournalError::Corrupt(_))));
        store.trim(SessionId(1), end).await.unwrap();
        assert_eq!(store.sessions().await.unwrap(), []);
        assert_eq!(store.seal(SessionId(1)).await.unwrap(), end);
        assert_same(&replay(&store, 1, end).await.unwrap(), &[]);
    });
}

/// The last byte of a file is also the last one of a frame that fills several files.
#[test]
fn a_giant_that_ends_with_its_file_is_followed_by_the_next() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        let area = FILE - 4096;
        // A layout frame: the headers of group and frame take 96 bytes.
        let giant = append(&*journal, frame(3, 2 * area as usize - 96)).await;
        assert_eq!(giant.end(), Lsn(2 * area));
        let next = append(&*journal, frame(4, 100)).await;
        assert!(durable(&*journal, next.end()).await);
        store.trim(SessionId(1), Lsn(area)).await.unwrap();
        let end = store.seal(SessionId(1)).await.unwrap();
        assert!(end >= next.end());
        for from in [giant.end(), next.lsn] {
            assert_same(&replay(&store, 1, from).await.unwrap(), &[(next, frame(4, 100))]);
        }
    });
}

#[test]
fn trimmed_files_are_used_again_and_never_replay() {
    everywhere(|place| async move {
        let mut number = 0;
        for session in 1..6 {
            let store = open(&place).await;
            let journal = store.create(SessionId(session)).await.unwrap();
            let mut written = Vec::new();
            let mut trimmed = Lsn(0);
            for _ in 0..60 {
                number += 1;
                let frame = frame(number, 9000);
                let at = append(&*journal, frame.clone()).await;
                assert!(durable(&*journal, at.end()).await);
                written.push((at, frame));
                if number % 10 == 0 {
                    trimmed = at.lsn;
                    store.trim(SessionId(session), trimmed).await.unwrap();
                }
            }
            let (used, _) = journal.usage();
            assert!(used < 4 * FILE, "{used}");
            journal.close().await;
            drop((journal, store));

            let store = open(&place).await;
            store.seal(SessionId(session)).await.unwrap();
            written.retain(|(at, _)| at.lsn >= trimmed);
            assert_same(&replay(&store, session, trimmed).await.unwrap(), &written);
            let (first, _) = written[0];
            store.trim(SessionId(session), Lsn(u64::MAX)).await.unwrap();
            assert!(matches!(store.read_at(first).await, Err(JournalError::Storage(_))));
        }
    });
}

#[test]
fn a_listener_hears_of_durability_from_who_made_it() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
        let (tell, mut told) = tokio::sync::watch::channel(Lsn(0));
        let listener = {
            let heard = Arc::clone(&heard);
            move |lsn| {
                heard.lock().unwrap().push(lsn);
                tell.send_replace(lsn);
            }
        };
        assert!(journal.listen(Box::new(listener)));
        assert!(!journal.listen(Box::new(|_| panic!("there is one already"))));
        let mut status = journal.status();
        status.borrow_and_update();
        for number in 0..20 {
            let at = append(&*journal, frame(number, 500)).await;
            told.wait_for(|lsn| *lsn >= at.end()).await.unwrap();
        }
        assert!(heard.lock().unwrap().is_sorted());
        let last = heard.lock().unwrap().last().copied().unwrap();
        journal.close().await;
        // The status has what the listener heard, and the end of the session is announced.
        assert!(status.has_changed().unwrap());
        let status = status.borrow_and_update().clone();
        assert_eq!((status.durable, status.state), (last, JournalState::Closed));
    });
}

#[test]
fn a_full_journal_keeps_room_for_what_is_urgent() {
    everywhere(|place| async move {
        let few = JournalSettings { files_max: 6, ..settings() };
        let store = place.open().journals(few).await.unwrap();
        let journal = store.create(SessionId(1)).await.unwrap();
        let mut last = journal.end();
        let mut refused = 0;
        while refused < 200 {
            match journal.append(frame(1, 3000)) {
                Ok(at) => last = at.end(),
                Err(JournalError::Full) => {
                    refused += 1;
                    tokio::time::sleep(std::time::Duration::from_micros(100)).await;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let (used, most) = journal.usage();
        assert!(used > most - 3 * FILE / 2 && used <= most, "{used} of {most}");
        let urgent = Frame { urgent: true, ..frame(2, 3000) };
        let at = journal.append(urgent.clone()).unwrap();
        assert_eq!(journal.append(frame(1, 3000)).unwrap_err(), JournalError::Full);
        // Commits may use half of the reserve; what gives space back finds the other half.
        while let Ok(at) = journal.append(urgent.clone()) {
            assert!(durable(&*journal, at.end()).await);
        }
        let layout = journal.append(Frame { urgent: true, ..frame(3, 100) }).unwrap();
        assert!(durable(&*journal, layout.end()).await);
        assert!(durable(&*journal, at.end()).await);
        store.trim(SessionId(1), last).await.unwrap();
        let next = append(&*journal, frame(3, 3000)).await;
        assert!(durable(&*journal, next.end()).await);
        assert_eq!(store.read_at(at).await.unwrap(), urgent);
    });
}

#[test]
fn frames_that_are_read_together_are_those_that_are_read_alone() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        let mut written = Vec::new();
        // Far apart and close together, over several files.
        for number in 0..150 {
            let size = [900, 10, 7_000, 40][number % 4];
            let frame = frame(number as u64, size);
            written.push((append(&*journal, frame.clone()).await, frame));
        }
        assert!(durable(&*journal, journal.end()).await);
        let check = async |chosen: Vec<usize>| {
            let at = chosen.iter().map(|nth| written[*nth].0).collect();
            let read = store.read_many(at).await;
            let alone = chosen.iter().map(|nth| store.read_at(written[*nth].0));
            assert_eq!(read, join_all(alone).await, "{chosen:?}");
            read.iter().filter(|read| read.is_err()).count()
        };
        for step in [1, 2, 7, 50, 149] {
            assert_eq!(check((0..150).step_by(step).collect()).await, 0);
            assert_eq!(check((0..150).rev().step_by(step).chain([3, 3]).collect()).await, 0);
        }
        // One that is damaged costs none of its neighbours, nor does one that was never written.
        place.damage("journal/00000000000000000001-00000000000000000000.log", 4096 + 500);
        assert_eq!(check((0..150).collect()).await, 1);
        let (last, _) = written[149];
        let later = FrameAt { lsn: Lsn(last.end().0 + FILE), ..last };
        let read = store.read_many(vec![later, last]).await;
        assert!(matches!(read[..], [Err(JournalError::Storage(_)), Ok(_)]), "{read:?}");
    });
}

#[test]
fn damage_below_what_was_durable_is_reported_and_the_rest_is_not_cut_off() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        let mut written = Vec::new();
        for number in 0..4 {
            let at = append(&*journal, frame(number, 6000)).await;
            assert!(durable(&*journal, at.end()).await);
            written.push(at);
        }
        if let Place::Memory(machine) = &*place {
            let name = "journal/00000000000000000001-00000000000000000000.log";
            let in_file = |lsn: Lsn| 4096 + lsn.0;
            let check = |byte: u64, is_damage: bool| {
                let place = Arc::clone(&place);
                async move {
                    machine.flip_bit(name, byte, 0);
                    machine.kill();
                    let store = open(&place).await;
                    let sealed = store.seal(SessionId(1)).await;
                    let refused = matches!(sealed, Err(JournalError::Corrupt(_)));
                    assert_eq!(refused, is_damage, "{byte}: {sealed:?}");
                    machine.flip_bit(name, byte, 0);
                }
            };
            // In a body, in a frame's header, in a group's header, in each group but the last.
            for at in &written[..3] {
                check(in_file(at.lsn) + 4000, true).await;
                check(in_file(at.lsn) + 45, true).await;
                check(in_file(at.lsn) - 20, true).await;
            }
            check(in_file(written[3].lsn) + 4000, false).await;
        } else {
            place.damage("journal/00000000000000000001-00000000000000000000.log", 4096 + 500);
            let damaged = store.read_at(written[0]).await;
            assert!(matches!(damaged, Err(JournalError::Corrupt(_))), "{damaged:?}");
            assert_eq!(store.read_at(written[1]).await.unwrap(), frame(1, 6000));
            store.seal(SessionId(1)).await.unwrap();
            let replayed = replay(&store, 1, Lsn(0)).await;
            assert!(matches!(replayed, Err(JournalError::Corrupt(_))), "{replayed:?}");
        }
    });
}

#[test]
fn a_failed_write_or_flush_ends_the_session_and_keeps_what_was_durable() {
    for (on, fault) in [
        (Operation::Write, Fault::Fail),
        (Operation::Write, Fault::Short),
        (Operation::Write, Fault::Full),
        (Operation::Sync, Fault::Fail),
    ] {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let machine = millstream_env::disk::SimDisk::new(3);
            let place = Place::Memory(Arc::clone(&machine));
            let store = open(&place).await;
            let journal = store.create(SessionId(1)).await.unwrap();
            let first = append(&*journal, frame(1, 5000)).await;
            assert!(durable(&*journal, first.end()).await);
            machine.plan(FaultAt { on, after: 0, fault });
            let second = append(&*journal, frame(2, 5000)).await;
            assert!(!durable(&*journal, second.end()).await);
            let status = journal.status().borrow().clone();
            assert!(matches!(status.state, JournalState::Failed(_)), "{status:?}");
            assert!(matches!(journal.append(frame(3, 9)), Err(JournalError::Over(_))));
            // Recovered in process, and once more after the power was gone.
            let end = store.seal(SessionId(1)).await.unwrap();
            assert_eq!(end, status.durable);
            let kept = [(first, frame(1, 5000))];
            assert_same(&replay(&store, 1, Lsn(0)).await.unwrap(), &kept);
            let next = store.create(SessionId(2)).await.unwrap();
            let at = append(&*next, frame(4, 5000)).await;
            assert!(durable(&*next, at.end()).await);
            machine.power_cut();
            let store = open(&place).await;
            assert_eq!(store.seal(SessionId(1)).await.unwrap(), end);
            assert_same(&replay(&store, 1, Lsn(0)).await.unwrap(), &kept);
            store.seal(SessionId(2)).await.unwrap();
            assert_same(&replay(&store, 2, Lsn(0)).await.unwrap(), &[(at, frame(4, 5000))]);
        });
    }
}

#[test]
fn a_disk_without_room_refuses_until_there_is_some() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let machine = millstream_env::disk::SimDisk::new(3);
        let (env, clock) = Env::seeded(1);
        let dir = DataDir::open_on(machine.mount(), env, "sim").unwrap();
        let store = dir.journals(settings()).await.unwrap();
        let journal = store.create(SessionId(1)).await.unwrap();
        machine.set_capacity(Some(2 * FILE + 10_000));
        let fill = async |number| {
            let mut last = journal.end();
            for _ in 0..100 {
                match journal.append(frame(number, 3000)) {
                    Ok(at) => last = at.end(),
                    Err(error) => assert_eq!(error, JournalError::Full),
                }
                tokio::task::yield_now().await;
            }
            assert!(durable(&*journal, last).await);
            last
        };
        let end = fill(1).await;
        assert!(end.0 < 2 * FILE);
        // Each try takes the last blocks of the disk for a moment, which others may need.
        let before = machine.operations();
        assert_eq!(fill(1).await, end);
        assert_eq!(machine.operations(), before);
        machine.set_capacity(None);
        clock.advance(std::time::Duration::from_secs(1));
        assert!(fill(2).await.0 > 3 * FILE);
    });
}

#[test]
fn another_clusters_files_are_refused() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        journal.close().await;
        drop((journal, store));
        let env = millstream_env::Env::real(tokio::runtime::Handle::current());
        let other = millstream_types::Uuid([1; 16]);
        let refused = FileJournalStore::open(place.disk(), env, other, settings()).await;
        assert!(matches!(refused, Err(JournalError::Storage(_))), "{refused:?}");
    });
}

#[test]
fn without_flushes_a_crash_of_the_process_loses_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let machine = millstream_env::disk::SimDisk::new(3);
        let place = Place::Memory(Arc::clone(&machine));
        let os = JournalSettings { durability: Durability::Os, ..settings() };
        let store = place.open().journals(os).await.unwrap();
        let journal = store.create(SessionId(1)).await.unwrap();
        let at = append(&*journal, frame(1, 5000)).await;
        assert!(durable(&*journal, at.end()).await);
        assert_eq!((store.stats().writes(), store.stats().flushes()), (1, 0));
        machine.kill();
        let store = open(&place).await;
        store.seal(SessionId(1)).await.unwrap();
        assert_same(&replay(&store, 1, Lsn(0)).await.unwrap(), &[(at, frame(1, 5000))]);
    });
}

/// Found in review: one file that the file system had lost made the next start recycle all those
/// before it, intact as they were, before anybody knew whether they were needed.
#[test]
fn files_before_a_gap_are_kept_until_they_are_trimmed() {
    everywhere(|place| async move {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        let mut last = None;
        for number in 0..40 {
            last = Some(append(&*journal, frame(number, 6000)).await);
        }
        assert!(durable(&*journal, last.unwrap().end()).await);
        journal.close().await;
        drop((journal, store));

        let name = |sequence: u64| format!("{:020}-{sequence:020}.log", 1);
        let disk = place.disk();
        disk.remove(&format!("journal/{}", name(2))).unwrap();
        disk.sync_dir("journal").unwrap();
        let names = || {
            let files = disk.list("journal").unwrap();
            files.into_iter().map(|file| file.name).collect::<Vec<_>>()
        };
        let store = open(&place).await;
        assert!(names().contains(&name(0)) && names().contains(&name(1)), "{:?}", names());
        let start = replay(&store, 1, Lsn(0)).await;
        assert!(matches!(start, Err(JournalError::Corrupt(_))), "{start:?}");
        assert!(!replay(&store, 1, Lsn(3 * (FILE - 4096))).await.unwrap().is_empty());
        store.trim(SessionId(1), Lsn(u64::MAX)).await.unwrap();
        assert!(names().iter().all(|name| !name.ends_with(".log")), "{:?}", names());
        assert!(names().iter().any(|name| name.starts_with("free-")), "{:?}", names());
    });
}

#[test]
fn a_trim_that_failed_is_done_by_the_next() {
    let machine = millstream_env::disk::SimDisk::new(1);
    let place = Place::Memory(Arc::clone(&machine));
    let test = async {
        let store = open(&place).await;
        let journal = store.create(SessionId(1)).await.unwrap();
        let mut last = None;
        for number in 0..150 {
            last = Some(append(&*journal, frame(number, 6000)).await);
        }
        assert!(durable(&*journal, last.unwrap().end()).await);
        journal.close().await;
        let free = || {
            let files = machine.files().into_iter();
            files.filter(|(path, _)| path.starts_with("journal/free-")).count()
        };
        let (before, (used, _)) = (free(), journal.usage());
        for after in 0..4 {
            let fault = FaultAt { on: Operation::Name, after, fault: Fault::Fail };
            machine.plan(fault);
            store.trim(SessionId(1), Lsn(u64::MAX)).await.unwrap_err();
            assert!(journal.usage().0 > 0);
        }
        store.trim(SessionId(1), Lsn(u64::MAX)).await.unwrap();
        assert_eq!(journal.usage().0, 0);
        assert_eq!((free() - before) as u64, used.div_ceil(FILE - 4096));
        assert!(store.sessions().await.unwrap().is_empty());
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// A clock that breaks: a mistake in the writer's own thread.
#[derive(Debug, Default)]
struct BrokenClock(std::sync::atomic::AtomicBool);

impl Clock for BrokenClock {
    fn monotonic(&self) -> Monotonic {
        assert!(!self.0.load(std::sync::atomic::Ordering::SeqCst), "the clock is broken");
        Monotonic(0)
    }

    fn wall(&self) -> Timestamp {
        Timestamp(0)
    }

    fn expiry(&self) -> Timestamp {
        Timestamp(0)
    }

    fn sleep_until(&self, _deadline: Monotonic) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

#[test]
fn a_writer_that_dies_ends_the_session() {
    everywhere(|place| async move {
        let clock = Arc::new(BrokenClock::default());
        let real = Env::real(tokio::runtime::Handle::current());
        let env = Env { clock: Arc::<BrokenClock>::clone(&clock), ..real };
        let dir = DataDir::open_on(place.disk(), env, place.name()).unwrap();
        let store = dir.journals(settings()).await.unwrap();
        let journal = store.create(SessionId(1)).await.unwrap();
        let kept = append(&*journal, frame(1, 100)).await;
        assert!(durable(&*journal, kept.end()).await);
        clock.0.store(true, std::sync::atomic::Ordering::SeqCst);
        let lost = append(&*journal, frame(2, 100)).await;
        assert!(!durable(&*journal, lost.end()).await);
        assert!(matches!(journal.status().borrow().state, JournalState::Failed(_)));
        let over = journal.append(frame(3, 100)).unwrap_err();
        assert!(matches!(over, JournalError::Over(JournalState::Failed(_))), "{over:?}");
        clock.0.store(false, std::sync::atomic::Ordering::SeqCst);
        store.seal(SessionId(1)).await.unwrap();
        let kept = replay(&store, 1, Lsn(0)).await.unwrap();
        assert_eq!(kept[0].1, frame(1, 100));
        let next = store.create(SessionId(2)).await.unwrap();
        let at = append(&*next, frame(4, 100)).await;
        assert!(durable(&*next, at.end()).await);
    });
}

#[test]
fn without_flushes_a_power_cut_loses_records_and_not_the_journal() {
    for seed in 0..60 {
        let machine = millstream_env::disk::SimDisk::new(seed);
        let place = Place::Memory(Arc::clone(&machine));
        let test = async {
            let unflushed = JournalSettings { durability: Durability::Os, ..settings() };
            let store = place.open().journals(unflushed).await.unwrap();
            let journal = store.create(SessionId(1)).await.unwrap();
            for number in 0..20 {
                let at = append(&*journal, frame(number, 6000)).await;
                assert!(durable(&*journal, at.end()).await);
            }
            machine.power_cut();
            drop((journal, store));
            let store = open(&place).await;
            store.seal(SessionId(1)).await.unwrap();
            for (nth, (_, found)) in replay(&store, 1, Lsn(0)).await.unwrap().iter().enumerate() {
                assert_eq!(*found, frame(nth as u64, 6000));
            }
        };
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }
}

#[test]
fn files_that_could_not_be_written_are_not_used_again() {
    let machine = millstream_env::disk::SimDisk::new(1);
    let place = Place::Memory(Arc::clone(&machine));
    let test = async {
        let store = open(&place).await;
        for (session, fails) in [(1, false), (2, true)] {
            let journal = store.create(SessionId(session)).await.unwrap();
            let at = append(&*journal, frame(1, 100)).await;
            assert!(durable(&*journal, at.end()).await);
            if fails {
                machine.plan(FaultAt { on: Operation::Sync, after: 0, fault: Fault::Fail });
                let at = append(&*journal, frame(2, 100)).await;
                assert!(!durable(&*journal, at.end()).await);
            } else {
                journal.close().await;
            }
            store.seal(SessionId(session)).await.unwrap();
            store.trim(SessionId(session), Lsn(u64::MAX)).await.unwrap();
            let files = machine.files();
            let free = files.iter().filter(|(path, _)| path.starts_with("journal/free-")).count();
            // The second session began with the file of the first.
            assert_eq!(free, usize::from(!fails), "{files:?}");
        }
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}
