use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use millstream_env::disk::{Fault, FaultAt, Operation, RealDisk, SimDisk};
use millstream_env::{BlobError, BlobName, BlobStore, Created, LocalBlobStore, ObjectBlobStore};
use object_store::ObjectStore;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;

use crate::places::{Place, everywhere};

fn name(text: &str) -> BlobName {
    BlobName::new(text).unwrap()
}

fn content(size: usize) -> Bytes {
    (0..size).map(|at| (at * 7 % 251) as u8).collect()
}

/// Runs `law` on every kind of store.
fn on_every_store<F: Future<Output = ()>>(law: impl Fn(Arc<dyn BlobStore>) -> F) {
    let law = &law;
    everywhere(|place| async move {
        law(place.open().blobs().unwrap()).await;
        // The same over the crate `object_store`, in memory and in a directory.
        let objects: Arc<dyn ObjectStore> = match &*place {
            Place::Memory(_) => Arc::new(InMemory::new()),
            Place::Direct(dir) | Place::Cached(dir) => {
                let path = dir.path().join("objects");
                std::fs::create_dir(&path).unwrap();
                Arc::new(LocalFileSystem::new_with_prefix(path).unwrap().with_fsync(true))
            }
        };
        for root in ["", "some/root"] {
            law(Arc::new(ObjectBlobStore::new(Arc::clone(&objects), root))).await;
            for (name, _) in ObjectBlobStore::new(Arc::clone(&objects), "").list("").await.unwrap()
            {
                ObjectBlobStore::new(Arc::clone(&objects), "").delete(vec![name]).await.unwrap();
            }
        }
        // The place outlives the store.
        drop(place);
    });
}

async fn upload(
    store: &dyn BlobStore,
    name: BlobName,
    pieces: Vec<Result<Bytes, BlobError>>,
) -> Result<u64, BlobError> {
    store.upload(name, stream::iter(pieces).boxed()).await
}

async fn names(store: &dyn BlobStore, prefix: &str) -> Vec<(String, u64)> {
    let listed = store.list(prefix).await.unwrap();
    listed.into_iter().map(|(name, size)| (name.to_string(), size)).collect()
}

#[test]
fn what_is_created_can_be_read_and_is_never_replaced() {
    on_every_store(|store| async move {
        for size in [0, 1, 4095, 4096, 4097, 1 << 20, (1 << 20) + 1, 2_500_000] {
            let name = name(&format!("a/size-{size}"));
            let body = content(size);
            let pieces = body.chunks(700_000).map(Bytes::copy_from_slice).collect();
            assert_eq!(store.create(name.clone(), pieces).await, Ok(Created::New));
            assert_eq!(store.get(name.clone(), None).await, Ok(body.clone()));
            let other = vec![Bytes::from_static(b"other")];
            assert_eq!(store.create(name.clone(), other).await, Ok(Created::Exists));
            assert_eq!(store.get(name, None).await, Ok(body));
        }
    });
}

#[test]
fn ranges_are_cut_at_the_end() {
    on_every_store(|store| async move {
        let body = content(10_000);
        store.create(name("b"), vec![body.clone()]).await.unwrap();
        let check = async |asked: Range<u64>, expected: Range<usize>| {
            let found = store.get(name("b"), Some(asked.clone())).await.unwrap();
            assert_eq!(found, body.slice(expected), "{asked:?}");
        };
        check(0..10, 0..10).await;
        check(4095..4097, 4095..4097).await;
        check(9_990..20_000, 9_990..10_000).await;
        check(0..u64::MAX, 0..10_000).await;
        check(10_000..10_001, 0..0).await;
        check(20_000..30_000, 0..0).await;
        check(5..5, 0..0).await;
    });
}

#[test]
fn uploads_appear_whole_or_not_at_all() {
    on_every_store(|store| async move {
        let body = content(3_000_001);
        let pieces = || body.chunks(999_983).map(|piece| Ok(Bytes::copy_from_slice(piece)));
        let size = upload(&*store, name("up/one"), pieces().collect()).await.unwrap();
        assert_eq!(size, body.len() as u64);
        assert_eq!(store.get(name("up/one"), None).await.unwrap(), body);
        assert_eq!(upload(&*store, name("up/empty"), vec![]).await, Ok(0));
        assert_eq!(store.get(name("up/empty"), None).await.unwrap(), Bytes::new());

        let failure = BlobError::NotFound(name("somewhere-else"));
        let broken = pieces().chain([Err(failure.clone())]).collect();
        assert_eq!(upload(&*store, name("up/two"), broken).await, Err(failure));
        let missing = BlobError::NotFound(name("up/two"));
        assert_eq!(store.get(name("up/two"), None).await, Err(missing));
        let listed = [("up/empty".to_owned(), 0), ("up/one".to_owned(), body.len() as u64)];
        assert_eq!(names(&*store, "").await, listed);
    });
}

#[test]
fn lists_are_in_order_and_by_any_prefix() {
    on_every_store(|store| async move {
        for text in ["x", "x/b", "x/a/c", "x/a/b", "xy/a", "w", "x-1"] {
            store.create(name(text), vec![content(text.len())]).await.unwrap();
        }
        let check = async |prefix: &str, expected: &[&str]| {
            let expected: Vec<_> =
                expected.iter().map(|text| ((*text).to_owned(), text.len() as u64)).collect();
            assert_eq!(names(&*store, prefix).await, expected, "{prefix:?}");
        };
        check("", &["w", "x", "x-1", "x/a/b", "x/a/c", "x/b", "xy/a"]).await;
        check("x", &["x", "x-1", "x/a/b", "x/a/c", "x/b", "xy/a"]).await;
        check("x/", &["x/a/b", "x/a/c", "x/b"]).await;
        check("x/a", &["x/a/b", "x/a/c"]).await;
        check("x/a/c", &["x/a/c"]).await;
        check("nothing/here", &[]).await;
    });
}

#[test]
fn what_is_deleted_is_gone_and_a_missing_one_is_no_error() {
    on_every_store(|store| async move {
        for text in ["d/a", "d/b", "e/f/g"] {
            store.create(name(text), vec![content(9)]).await.unwrap();
        }
        store.delete(vec![name("d/a"), name("d/none"), name("e/f/g")]).await.unwrap();
        store.delete(vec![]).await.unwrap();
        assert_eq!(names(&*store, "").await, [("d/b".to_owned(), 9)]);
        let missing = BlobError::NotFound(name("d/a"));
        assert_eq!(store.get(name("d/a"), None).await, Err(missing));
        store.create(name("e/f/h"), vec![content(9)]).await.unwrap();
        assert_eq!(store.get(name("e/f/h"), None).await.unwrap(), content(9));
    });
}

#[test]
fn of_many_who_create_the_same_name_one_wins() {
    on_every_store(|store| async move {
        for round in 0..10 {
            let name = name(&format!("race/{round}"));
            let create = |who: u8| {
                let body = vec![Bytes::from(vec![who; 5000])];
                let made = store.create(name.clone(), body);
                async move { (who, made.await.unwrap()) }
            };
            let made = futures_util::future::join_all((0..8).map(create)).await;
            let winners: Vec<_> =
                made.into_iter().filter(|&(_, made)| made == Created::New).collect();
            let [(winner, _)] = winners[..] else { panic!("{winners:?}") };
            assert_eq!(store.get(name, None).await.unwrap(), vec![winner; 5000]);
        }
    });
}

/// Whatever operation the power is cut at: what was reported as created is there, whole; what was
/// not is there whole or not at all; and nothing else is.
#[test]
fn a_power_cut_leaves_whole_blobs() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        for seed in 0..300 {
            let machine = SimDisk::new(seed);
            let place = Place::Memory(Arc::clone(&machine));
            let store = place.open().blobs().unwrap();
            machine.plan(FaultAt { on: Operation::Any, after: seed % 60, fault: Fault::PowerCut });
            let mut made = Vec::new();
            let body = content(9_000);
            for number in 0.. {
                let name = name(&format!("t/{}/{number}", number % 3));
                match store.create(name.clone(), vec![body.clone()]).await {
                    Ok(created) => assert_eq!(created, Created::New),
                    Err(_) => break,
                }
                made.push(name);
            }
            machine.power_cut();
            let store = place.open().blobs().unwrap();
            let listed = store.list("").await.unwrap();
            for name in &made {
                assert!(listed.iter().any(|(listed, _)| listed == name), "seed {seed}: {name}");
            }
            assert!(listed.len() <= made.len() + 1, "seed {seed}");
            for (name, size) in listed {
                assert_eq!(size, body.len() as u64, "seed {seed}: {name}");
                assert_eq!(store.get(name, None).await.unwrap(), body, "seed {seed}");
            }
            assert!(machine.files().iter().all(|(path, _)| !path.contains("tmp")), "seed {seed}");
        }
    });
}

/// Larger than one part of a multipart upload, in memory and in a directory.
#[test]
fn large_uploads_go_in_parts() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let dir = tempfile::TempDir::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let local = LocalFileSystem::new_with_prefix(dir.path()).unwrap();
        let objects: [Arc<dyn ObjectStore>; 2] = [Arc::new(InMemory::new()), Arc::new(local)];
        for objects in objects {
            let store = ObjectBlobStore::new(objects, "root");
            for size in [8 << 20, (16 << 20) + 5] {
                let body = content(size);
                let name = name(&format!("large/{size}"));
                let pieces =
                    || body.chunks(3_000_000).map(|piece| Ok(Bytes::copy_from_slice(piece)));
                let failure = BlobError::Full;
                let broken = pieces().chain([Err(failure.clone())]).collect();
                assert_eq!(upload(&store, name.clone(), broken).await, Err(failure));
                assert_eq!(
                    store.list("").await.unwrap().iter().filter(|it| it.0 == name).count(),
                    0
                );
                let done = upload(&store, name.clone(), pieces().collect()).await;
                assert_eq!(done, Ok(size as u64));
                assert!(store.get(name, None).await.unwrap() == body);
            }
        }
    });
}

/// A process that is killed at any operation; the next one creates the same blob or finds it; then
/// it is there after a power cut.
#[test]
fn a_blob_that_exists_is_durable_whoever_made_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let mut found = 0;
        for seed in 0..200 {
            let machine = SimDisk::new(seed);
            let place = Place::Memory(Arc::clone(&machine));
            let store = place.open().blobs().unwrap();
            let body = vec![content(5_000)];
            machine.plan(FaultAt { on: Operation::Any, after: seed % 10, fault: Fault::Kill });
            let _ = store.create(name("a/b"), body.clone()).await;
            machine.kill();
            let store = place.open().blobs().unwrap();
            found += u32::from(store.create(name("a/b"), body).await == Ok(Created::Exists));
            machine.power_cut();
            let store = place.open().blobs().unwrap();
            assert_eq!(store.get(name("a/b"), None).await.unwrap(), content(5_000), "{seed}");
        }
        assert!(found > 0);
    });
}

#[test]
fn a_full_disk_is_told_apart_and_leaves_nothing() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let machine = SimDisk::new(1);
        let store = Place::Memory(Arc::clone(&machine)).open().blobs().unwrap();
        machine.set_capacity(Some(50_000));
        let too_much = store.create(name("a"), vec![content(60_000)]).await;
        assert_eq!(too_much, Err(BlobError::Full));
        assert_eq!(store.create(name("a"), vec![content(40_000)]).await, Ok(Created::New));
    });
}

#[test]
fn a_blob_is_linked_where_both_stores_are_on_one_file_system() {
    everywhere(|place| async move {
        let one = place.open().blobs().unwrap();
        let other = match &*place {
            Place::Memory(_) => Arc::new(LocalBlobStore::open(SimDisk::new(1).mount()).unwrap()),
            Place::Direct(dir) | Place::Cached(dir) => {
                let disk = RealDisk::open(&dir.path().join("other")).unwrap();
                Arc::new(LocalBlobStore::open(Arc::new(disk)).unwrap())
            }
        };
        let (here, gone) = (name("a/here"), name("a/gone"));
        one.create(here.clone(), vec![content(10_000)]).await.unwrap();
        if let Place::Memory(_) = &*place {
            assert_eq!(other.link(&one, &here).await, Ok(false));
            return;
        }
        assert_eq!(other.link(&one, &here).await, Ok(true));
        assert_eq!(other.link(&one, &gone).await, Err(BlobError::NotFound(gone)));
        // The name is taken.
        assert_eq!(other.link(&one, &here).await, Ok(false));
        one.delete(vec![here.clone()]).await.unwrap();
        assert_eq!(other.get(here, None).await, Ok(content(10_000)));
        drop(place);
    });
}
