//! Fuzz target: a journal on a disk that gives back what it should not.
//!
//! `cargo test` runs it briefly; `cargo xtask test --long` for minutes (CONTRIBUTING.md).

use std::io::IoSlice;
use std::sync::Arc;

use bolero::check;
use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use millstream_env::disk::{Access, Caching, Disk, SimDisk};
use millstream_env::{
    Durability, Env, FileJournalStore, FrameAt, JournalSettings, JournalStore, Surveyed,
};
use millstream_record::frame::{Frame, FrameBody};
use millstream_testkit::edits::{Edit, edited};
use millstream_types::{ClusterId, Lsn, PartitionId, SessionId, Uuid};

const SESSION: SessionId = SessionId(1);
const BLOCK: usize = 4096;

/// The sizes of frames; which file is damaged, from which block on, and how.
type Input = (Vec<u16>, u8, Vec<(u8, Vec<Edit>)>);

fn settings() -> JournalSettings {
    JournalSettings {
        file_bytes: 6 * BLOCK as u64,
        files_max: 8,
        reserve_bytes: BLOCK as u64,
        pending_bytes_max: 1 << 20,
        durability: Durability::Flushed,
    }
}

async fn open(disk: &Arc<dyn Disk>) -> Option<Arc<FileJournalStore>> {
    let env = Env::seeded(1).0;
    FileJournalStore::open(Arc::clone(disk), env, ClusterId::default(), settings()).await.ok()
}

/// A journal that was closed in order, and what was appended to it.
async fn written(disk: &Arc<dyn Disk>, sizes: &[u16]) -> Vec<(FrameAt, Frame)> {
    let store = open(disk).await.expect("an empty disk");
    let journal = store.create(SESSION).await.expect("a new session");
    let mut appended = Vec::new();
    for (number, size) in sizes.iter().take(24).enumerate() {
        let body = vec![number as u8; usize::from(*size) % 9_000];
        let frame = Frame {
            partition: PartitionId { topic: Uuid([1; 16]), index: number as i32 },
            body: FrameBody::Layout(Bytes::from(body)),
            urgent: true,
        };
        // Some do not fit any more.
        if let Ok(at) = journal.append(frame.clone()) {
            appended.push((at, frame));
        }
        tokio::task::yield_now().await;
    }
    journal.close().await;
    appended
}

fn damage(disk: &dyn Disk, which: u8, edits: &[(u8, Vec<Edit>)]) {
    let files = disk.list("journal").expect("there is a journal");
    let files: Vec<_> = files.into_iter().filter(|file| !file.is_dir).collect();
    let Some(file) = files.get(usize::from(which) % files.len().max(1)) else { return };
    let path = format!("journal/{}", file.name);
    let file = disk.open(&path, Access::Write, Caching::Cached).expect("it is there");
    let mut bytes = vec![0; usize::try_from(file.size().expect("a size")).expect("small")];
    file.read_at(&mut bytes, 0).expect("it can be read");
    for (block, edits) in edits {
        let from = usize::from(*block) * BLOCK % bytes.len().max(1);
        let upto = (from + BLOCK).min(bytes.len());
        let changed = edited(&bytes[from..upto], edits);
        bytes.splice(from..upto, changed);
    }
    file.resize(0).expect("it can be cut");
    file.write_at(&[IoSlice::new(&bytes)], 0).expect("it can be written");
    file.sync().expect("it can be flushed");
}

/// What comes back is what was appended, in order from the start, or an error.
async fn read_back(disk: &Arc<dyn Disk>, appended: &[(FrameAt, Frame)]) {
    let Some(store) = open(disk).await else { return };
    let mut survey = store.survey();
    while let Some(met) = survey.next().await {
        if let Ok(Surveyed::Frame(at, frame)) = met {
            assert!(appended.contains(&(at, frame)), "a frame that nobody has appended");
        }
    }
    for (at, frame) in appended {
        if let Ok(read) = store.read_at(*at).await {
            assert_eq!(&read, frame);
        }
    }
    let Ok(end) = store.seal(SESSION).await else { return };
    let replayed: Result<Vec<_>, _> = store.replay(SESSION, Lsn(0)).try_collect().await;
    let Ok(replayed) = replayed else { return };
    let kept: Vec<_> = appended.iter().filter(|(at, _)| at.end() <= end).cloned().collect();
    assert_eq!(replayed, kept, "up to where it was sealed, all of it");
}

#[test]
fn journals() {
    check!().with_type::<Input>().with_iterations(60).for_each(|(sizes, which, edits)| {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let disk = SimDisk::new(1).mount();
            let appended = written(&disk, sizes).await;
            damage(disk.as_ref(), *which, edits);
            read_back(&disk, &appended).await;
        });
    });
}
