use std::sync::Arc;

use futures_util::{StreamExt as _, TryStreamExt as _};
use millstream_env::{
    DataDir, Env, FileJournalStore, FrameAt, Journal, JournalSettings, JournalStore, Surveyed,
};
use millstream_record::frame::{Frame, FrameBody};
use millstream_types::{Lsn, SessionId};

use crate::places::{Place, everywhere, frame};

const BLOCK: u64 = 4096;

fn settings() -> JournalSettings {
    JournalSettings {
        file_bytes: 512 * 1024,
        files_max: 8,
        reserve_bytes: 8 * 1024,
        ..JournalSettings::default()
    }
}

/// Opens the journals to look at them only.
async fn look(place: &Place) -> (Arc<FileJournalStore>, Vec<Surveyed>) {
    let env = Env::real(tokio::runtime::Handle::current());
    let dir = DataDir::open_read_only_on(place.disk(), env, "here").unwrap();
    let store = dir.journals(settings()).await.unwrap();
    let surveyed = store.survey().map(Result::unwrap).collect().await;
    (store, surveyed)
}

fn frames(surveyed: &[Surveyed]) -> Vec<(FrameAt, Frame)> {
    let frames = surveyed.iter().filter_map(|next| match next {
        Surveyed::Frame(at, frame) => Some((*at, frame.clone())),
        _ => None,
    });
    frames.collect()
}

/// Writes frames of many sizes, in groups of their own.
async fn write(place: &Place, session: u64) -> Vec<(FrameAt, Frame)> {
    let store = place.open().journals(settings()).await.unwrap();
    let journal = store.create(SessionId(session)).await.unwrap();
    let mut written = Vec::new();
    for number in 1..60 {
        let frame = frame(number, (number as usize * 37) % 3000);
        let at = journal.append(frame.clone()).unwrap();
        written.push((at, frame));
        if number % 3 == 0 {
            durable(&*journal, at.end()).await;
        }
    }
    journal.close().await;
    written
}

async fn durable(journal: &dyn Journal, end: Lsn) {
    journal.status().wait_for(|status| status.durable >= end).await.unwrap();
}

#[test]
fn a_survey_finds_what_replay_finds_and_leaves_no_trace() {
    everywhere(|place| async move {
        let (first, second) = (write(&place, 1).await, write(&place, 2).await);
        let before = place.disk().list("journal").unwrap();
        let (store, surveyed) = look(&place).await;
        assert!(frames(&surveyed) == [first.as_slice(), &second].concat());
        let (begin, end) = (surveyed.first().unwrap(), surveyed.last().unwrap());
        let is_whole = |sealed: &Lsn| first.iter().all(|(at, _)| at.end() <= *sealed);
        assert!(
            matches!(begin, Surveyed::Begin { session: SessionId(1), start: Lsn(0), sealed }
                if sealed.as_ref().is_some_and(is_whole)),
            "{begin:?}"
        );
        assert!(matches!(end, Surveyed::End { session: SessionId(2), .. }), "{end:?}");
        // Sealing, replaying and trimming work, and are forgotten.
        store.seal(SessionId(1)).await.unwrap();
        let replayed: Vec<_> = store.replay(SessionId(1), Lsn(0)).try_collect().await.unwrap();
        assert!(replayed == first);
        store.trim(SessionId(1), Lsn(u64::MAX)).await.unwrap();
        assert_eq!(store.file_of(SessionId(1), Lsn(0)), None);
        drop(store);
        assert_eq!(place.disk().list("journal").unwrap(), before);
    });
}

#[test]
fn a_survey_goes_on_behind_damage() {
    everywhere(|place| async move {
        let written = write(&place, 1).await;
        // Within its file, of which the first block is the header.
        let (at, frame) = written.iter().find(|(at, _)| at.lsn.0 > 2 * BLOCK).unwrap();
        let (store, _) = look(&place).await;
        let (file, byte) = store.file_of(SessionId(1), at.lsn).unwrap();
        drop(store);
        // In the body only that frame is lost; in its position all that is left of its group.
        for (inside, loses) in [(u64::from(at.len) - 1, 1..2), (20, 1..4)] {
            place.damage(&file, byte + inside);
            let (store, surveyed) = look(&place).await;
            drop(store);
            place.damage(&file, byte + inside);
            let left = frames(&surveyed);
            assert!(loses.contains(&(written.len() - left.len())), "{inside}");
            assert!(left.iter().all(|frame| written.contains(frame)));
            let damages: Vec<_> = surveyed
                .iter()
                .filter_map(|next| match next {
                    Surveyed::Damage(damage) => Some(damage),
                    _ => None,
                })
                .collect();
            let [damage] = damages.as_slice() else { panic!("{damages:?}") };
            assert_eq!(damage.from, at.lsn);
            if inside != 20 {
                assert_eq!(damage.upto, at.end());
                let offsets = match &frame.body {
                    FrameBody::Batch(batch) => {
                        let header = batch.header().unwrap();
                        Some((header.base_offset, header.last_offset()))
                    }
                    FrameBody::Layout(_) => None,
                };
                assert_eq!(damage.about, Some((frame.partition, offsets)));
            }
        }
    });
}

#[test]
fn nothing_is_lost_to_a_survey_but_what_a_damaged_group_holds() {
    everywhere(|place| async move {
        let written = write(&place, 1).await;
        // The header of the group that holds the 20th frame: the group starts at a block.
        let (at, _) = &written[18];
        let group = at.lsn.0 / BLOCK * BLOCK;
        let (store, _) = look(&place).await;
        let (file, byte) = store.file_of(SessionId(1), Lsn(group)).unwrap();
        drop(store);
        place.damage(&file, byte + 20);
        let (_store, surveyed) = look(&place).await;
        let left = frames(&surveyed);
        assert!(left.len() < written.len() && left.len() + 6 > written.len(), "{}", left.len());
        assert!(surveyed.iter().any(|next| matches!(next, Surveyed::Damage(_))));
        let last = written.last().unwrap();
        assert!(left.last() == Some(last), "what comes after the damage is found");
    });
}
