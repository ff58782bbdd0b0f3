//! Many threads at once: producers, readers that follow, layout, checkpoints, deletion.

use std::sync::Arc;
use std::time::Duration;

use millstream_env::{DataDir, Env, JournalSettings};
use millstream_log::{
    AppendError, DeleteError, Former, Isolation, Log, LogSettings, News, Origin, Partition,
    PartitionConfig, PartitionSpec, ReadError, TrimSink,
};
use millstream_types::{LeaderEpoch, Offset, SessionId};
use tokio::task::JoinSet;

use crate::world::{Trims, partition, sent, tiny};

const PARTITIONS: i32 = 3;
const PRODUCERS: i64 = 4;
const BATCHES: i32 = 150;

/// Appends `BATCHES` batches to each partition, waiting for some.
async fn produce(log: Log, producer: i64) {
    for sequence in 0..BATCHES {
        for index in 0..PARTITIONS {
            let one = log.partition(partition(index)).unwrap();
            let batch = sent(producer, 0, sequence, &[i64::from(sequence)], 700);
            let mut result = one.append(std::slice::from_ref(&batch), Origin::Client);
            while result == Err(AppendError::Full) {
                tokio::task::yield_now().await;
                result = one.append(std::slice::from_ref(&batch), Origin::Client);
            }
            let appended = result.unwrap();
            if sequence % 10 == 9 {
                log.wait_durable(appended.end).await.unwrap();
                assert!(one.ends().high_watermark > appended.last_offset);
            }
        }
    }
}

/// Reads a partition from its start until it has all there will be. Offsets have no gap, and each
/// producer's batches come in order.
async fn follow(one: Partition, bytes_max: usize) {
    let who = Arc::new(News::default());
    let _guard = one.watch(&who, 0);
    let mut next = Offset(0);
    let mut sequences = vec![0; usize::try_from(PRODUCERS).unwrap()];
    while next.0 < PRODUCERS * i64::from(BATCHES) {
        let slice = one.read(next, bytes_max, true, Isolation::Uncommitted).await.unwrap();
        if slice.batches.is_empty() {
            who.comes().await;
        }
        for batch in slice.batches {
            let header = batch.header().unwrap();
            assert_eq!(header.base_offset, next);
            let sequence = &mut sequences[usize::try_from(header.producer_id.0).unwrap()];
            assert_eq!(header.base_sequence, *sequence);
            *sequence += 1;
            next = header.last_offset().next();
        }
    }
}

async fn open(dir: &DataDir, former: Option<Former>, trims: &Arc<Trims>, session: u64) -> Log {
    let journal = JournalSettings {
        file_bytes: 256 * 1024,
        files_max: 8,
        reserve_bytes: 64 * 1024,
        ..JournalSettings::default()
    };
    let config = Arc::new(PartitionConfig { retention: None, ..PartitionConfig::default() });
    let specs = (0..PARTITIONS).map(|index| PartitionSpec {
        id: partition(index),
        epoch: LeaderEpoch(1),
        config: Arc::clone(&config),
    });
    Log::open(
        Env::real(tokio::runtime::Handle::current()),
        dir.journals(journal).await.unwrap(),
        dir.blobs().unwrap(),
        SessionId(session),
        former,
        specs.collect(),
        Arc::clone(trims) as Arc<dyn TrimSink>,
        LogSettings {
            cluster: dir.cluster(),
            background: true,
            maintenance_interval: Duration::from_millis(1),
            layout_age: Duration::ZERO,
            ..tiny()
        },
    )
    .await
    .unwrap()
}

/// Reads at the log start, which is moved on all the time: what was deleted is out of range, never
/// corrupt and never passed over.
async fn read_at_the_start(one: Partition) -> u64 {
    let mut out_of_range = 0;
    let end = Offset(PRODUCERS * i64::from(BATCHES));
    loop {
        let from = one.ends().log_start;
        if from >= end {
            return out_of_range;
        }
        match one.read(from, 2_000, true, Isolation::Uncommitted).await {
            Err(ReadError::OutOfRange { .. }) => out_of_range += 1,
            slice => {
                if let Some(first) = slice.unwrap().batches.first() {
                    assert_eq!(first.header().unwrap().base_offset, from);
                }
            }
        }
        tokio::task::yield_now().await;
    }
}

/// Deletes what can be read, batch by batch.
async fn delete_all(one: Partition) {
    let end = Offset(PRODUCERS * i64::from(BATCHES));
    while one.ends().log_start < end {
        let ends = one.ends();
        if ends.log_start < ends.high_watermark {
            match one.delete_records(ends.log_start.next()) {
                Err(DeleteError::Append(AppendError::Full)) => {}
                deleted => assert!(deleted.unwrap().0 > ends.log_start),
            }
        }
        tokio::task::yield_now().await;
    }
}

#[test]
fn a_read_that_races_with_a_deletion_is_out_of_range() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_time().build();
    runtime.unwrap().block_on(async {
        let env = Env::real(tokio::runtime::Handle::current());
        let dir = DataDir::in_memory(env).unwrap();
        let log = open(&dir, None, &Arc::default(), 1).await;
        let mut tasks = JoinSet::new();
        for producer in 0..PRODUCERS {
            tasks.spawn(produce(log.clone(), producer));
        }
        for index in 0..PARTITIONS {
            let one = log.partition(partition(index)).unwrap();
            tasks.spawn(delete_all(one.clone()));
            for _ in 0..3 {
                let reader = read_at_the_start(one.clone());
                tasks.spawn(async move {
                    reader.await;
                });
            }
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        log.close().await;
    });
}

#[test]
fn producers_readers_and_the_work_behind_do_not_disturb_each_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        let env = Env::real(tokio::runtime::Handle::current());
        let dir = DataDir::in_memory(env).unwrap();
        let trims = Arc::new(Trims::default());
        let log = open(&dir, None, &trims, 1).await;
        let mut tasks = JoinSet::new();
        for producer in 0..PRODUCERS {
            tasks.spawn(produce(log.clone(), producer));
        }
        for index in 0..PARTITIONS {
            for bytes_max in [1, 3_000, 100_000] {
                tasks.spawn(follow(log.partition(partition(index)).unwrap(), bytes_max));
            }
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        let stats = log.stats();
        assert!(stats.layouts > 0 && stats.checkpoints > 0, "{stats:?}");
        log.close().await;
        drop(log);
        let trim = trims.newest.lock().unwrap().clone();
        let log = open(&dir, Some(Former { session: SessionId(1), trim }), &trims, 2).await;
        for index in 0..PARTITIONS {
            follow(log.partition(partition(index)).unwrap(), 100_000).await;
        }
        log.close().await;
    });
}
