use std::sync::Arc;

use millstream_env::disk::{Fault, FaultAt, Operation, SimDisk};
use millstream_env::{DataDir, DataDirError, Env, JournalSettings, JournalStore, MetaLog};
use millstream_types::SessionId;

use crate::places::{Place, everywhere};

#[test]
fn a_directory_belongs_to_one_process_at_a_time_and_one_cluster_for_ever() {
    everywhere(|place| async move {
        let env = Env::real(tokio::runtime::Handle::current());
        let first = place.open();
        assert!(first.is_new());
        let second = DataDir::open_on(place.disk(), env.clone(), "here").unwrap_err();
        assert!(matches!(second, DataDirError::InUse { .. }), "{second}");
        let holder = format!("process {}", std::process::id());
        assert!(second.to_string().contains(&holder), "{second}");
        let (cluster, meta) = (first.cluster(), first.meta());
        drop(first);
        DataDir::open_on(place.disk(), env, "here").unwrap_err();
        drop(meta);
        let again = place.open();
        assert_eq!((again.cluster(), again.is_new()), (cluster, false));
    });
}

#[test]
fn a_directory_that_is_not_ours_to_read_is_refused_with_advice() {
    everywhere(|place| async move {
        let env = Env::real(tokio::runtime::Handle::current());
        drop(place.open());
        // Version 1 becomes version 9, with another checksum.
        place.damage("cluster", 9);
        place.damage("cluster", 15);
        let newer = DataDir::open_on(place.disk(), env.clone(), "here").unwrap_err();
        assert!(newer.to_string().contains("version 9"), "{newer}");
        place.damage("cluster", 9);
        place.damage("cluster", 15);
        place.damage("cluster", 40);
        let damaged = DataDir::open_on(place.disk(), env, "here").unwrap_err();
        assert!(damaged.to_string().contains("damaged"), "{damaged}");
    });
}

#[test]
fn data_without_a_cluster_file_is_not_taken_for_an_empty_directory() {
    everywhere(|place| async move {
        let env = Env::real(tokio::runtime::Handle::current());
        let dir = place.open();
        millstream_env::MetaLog::load(&*dir.meta()).await.unwrap();
        drop(dir);
        place.disk().remove("cluster").unwrap();
        let headless = DataDir::open_on(place.disk(), env, "here").unwrap_err();
        assert!(matches!(headless, DataDirError::Headless { .. }), "{headless}");
    });
}

/// Whatever the first start is interrupted at, the next one finds a directory that it can use, and
/// the cluster stays the one that anything was stored for.
#[test]
fn an_interrupted_first_start_is_no_obstacle() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for seed in 0..400 {
            let machine = SimDisk::new(seed);
            let place = Place::Memory(Arc::clone(&machine));
            let mut cluster = None;
            for after in [seed % 20, seed / 20, 1000] {
                let fault = if seed % 3 == 0 { Fault::Kill } else { Fault::PowerCut };
                machine.plan(FaultAt { on: Operation::Any, after, fault });
                let env = Env::seeded(seed + after).0;
                if let Ok(dir) = DataDir::open_on(place.disk(), env, "here") {
                    let before = *cluster.get_or_insert(dir.cluster());
                    let meta = dir.meta();
                    let stored = meta.load().await.is_ok()
                        && dir.journals(JournalSettings::in_memory()).await.is_ok()
                        && dir.blobs().is_ok();
                    assert!(stored || machine.is_off(), "seed {seed}");
                    assert_eq!(dir.cluster(), before, "seed {seed}");
                } else {
                    assert!(machine.is_off(), "seed {seed}");
                }
                match fault {
                    Fault::Kill => machine.kill(),
                    _ => machine.power_cut(),
                }
            }
        }
    });
}

#[test]
fn closing_gives_everything_back_at_once() {
    everywhere(|place| async move {
        for session in 1..20 {
            let dir = place.open();
            let store = dir.journals(JournalSettings::in_memory()).await.unwrap();
            let journal = store.create(SessionId(session)).await.unwrap();
            if session % 2 == 0 {
                journal.append(crate::places::frame(session, 5_000_000)).unwrap();
            }
            journal.close().await;
            drop((dir, store, journal));
        }
    });
}
