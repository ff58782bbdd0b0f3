//! What decompresses to much is looked at where it holds up nobody.

#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use common::{World, soon, world_in};
use futures_util::future::BoxFuture;
use millstream_broker::log::Isolation;
use millstream_broker::record::Compression;
use millstream_broker::{Newest, OffsetSpec};
use millstream_env::{Env, JournalSettings, Spawn};
use millstream_record::BatchBuilder;
use millstream_types::{LeaderEpoch, Offset, Timestamp};

const MIB: usize = 1 << 20;
const TIME: i64 = 1_767_225_600_000;

/// Counts computations.
#[derive(Debug)]
struct Counting {
    tasks: Arc<dyn Spawn>,
    computations: Arc<AtomicUsize>,
}

impl Spawn for Counting {
    fn spawn(&self, name: &'static str, task: BoxFuture<'static, ()>) {
        self.tasks.spawn(name, task);
    }

    fn compute(&self, work: Box<dyn FnOnce() + Send>) -> BoxFuture<'static, ()> {
        self.computations.fetch_add(1, Ordering::Relaxed);
        self.tasks.compute(work)
    }
}

async fn counting(settings: &[(&str, &str)]) -> (World, Arc<AtomicUsize>) {
    let (mut env, clock) = Env::seeded(1);
    let computations = Arc::new(AtomicUsize::new(0));
    env.tasks = Arc::new(Counting { tasks: env.tasks, computations: Arc::clone(&computations) });
    (world_in((env, clock), 1, settings, JournalSettings::default()).await, computations)
}

/// Two records, one of them with this many bytes.
fn compressed(bytes: usize) -> Bytes {
    let mut builder = BatchBuilder::new().compression(Compression::Zstd, None);
    builder.append(Timestamp(TIME), None, Some(&vec![7; bytes]), &[]);
    builder.append(Timestamp(TIME + 5), None, Some(b"v"), &[]);
    builder.build().unwrap()
}

#[tokio::test]
async fn large_batches_are_checked_and_compressed_beside_the_tasks() {
    // To be compressed anew, a batch must be decompressed first.
    for setting in [("record.validation", "full"), ("compression.type", "gzip")] {
        let (world, computations) = counting(&[setting]).await;
        let small = compressed(MIB / 2);
        assert!(soon(world.append(0, &small)).await.unwrap().is_ok());
        assert_eq!(computations.load(Ordering::Relaxed), 0, "{setting:?}");
        let large = compressed(3 * MIB);
        assert!(soon(world.append(0, &large)).await.unwrap().is_ok());
        assert_eq!(computations.load(Ordering::Relaxed), 1, "{setting:?}");
    }
    let settings = [("record.validation", "full"), ("max.decompressed.message.bytes", "2097152")];
    let (world, _) = counting(&settings).await;
    let error = soon(world.append(0, &compressed(3 * MIB))).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "more than 2097152 bytes when decompressed");
}

#[tokio::test]
async fn large_batches_are_looked_into_beside_the_tasks() {
    let (world, computations) = counting(&[]).await;
    for (bytes, expected) in [(MIB / 2, 0), (3 * MIB, 2)] {
        let appended = world.append(0, &compressed(bytes)).await.unwrap();
        world.broker.wait_durable(Newest::At(appended.session, appended.end)).await.unwrap();
        world.topic.partition(0).unwrap().delete_records(appended.base_offset).unwrap();
        let time = OffsetSpec::At(Timestamp(TIME + 1));
        for spec in [time, OffsetSpec::MaxTimestamp] {
            let isolation = Isolation::Uncommitted;
            let found = world.topic.offset(0, spec, isolation, LeaderEpoch::NONE);
            let found = soon(found).await.unwrap().unwrap().unwrap();
            assert_eq!(found.offset, Offset(appended.base_offset.0 + 1));
        }
        assert_eq!(computations.load(Ordering::Relaxed), expected);
    }
}
