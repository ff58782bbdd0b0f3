//! What the hosts of coordinators share: records in the partition of a shard, and timers.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use millstream_coordinator::group::{HostFailure, ReplayError, StoredRecord};
use millstream_env::Env;
use millstream_log::{AppendError, Isolation, Origin, Partition, ReadError};
use millstream_record::batch::{BatchError, StoredBatch, ValidBatch};
use millstream_record::builder::BatchBuilder;
use millstream_record::control::{ControlRecord, EndTransaction, Outcome};
use millstream_types::limits::{BATCH_BYTES_CEILING, BATCH_BYTES_MAX};
use millstream_types::{DecodeError, Lsn, Monotonic, Offset, ProducerEpoch, ProducerId, Timestamp};
use tokio::sync::Notify;
use tracing::{error, warn};

/// How much of a shard's partition is read at once while loading, in bytes.
const LOAD_BYTES: usize = 1024 * 1024;

/// Why the shards of a coordinator could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A batch is not one.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A batch's header, or a control record, is not one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
}

/// The state of a shard, or one that is being loaded: it is what its records say.
pub(crate) trait Replays {
    /// Takes in the next record, `within` the transaction of a producer if it is part of one.
    fn record(
        &mut self,
        record: &StoredRecord,
        within: Option<ProducerId>,
    ) -> Result<(), ReplayError>;

    /// Takes in the end of a producer's transaction.
    fn end(&mut self, producer: ProducerId, commit: bool);
}

/// Completes when a timer may be due.
pub(crate) type Sleep = Pin<Box<dyn Future<Output = ()> + Send>>;

/// When the timers of a host ring, and the task that waits for it.
#[derive(Debug)]
pub(crate) struct Timers {
    /// A deadline has come nearer than that for which the task sleeps.
    sooner: Arc<Notify>,
    /// That deadline, in nanoseconds; the largest number for none.
    sleeps_until: AtomicU64,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { sooner: Arc::default(), sleeps_until: AtomicU64::new(u64::MAX) }
    }

    /// Has the task look again.
    pub(crate) fn wake(&self) {
        self.sooner.notify_one();
    }

    /// There is this deadline now.
    pub(crate) fn deadline(&self, deadline: Option<Monotonic>) {
        let sleeps_until = self.sleeps_until.load(Ordering::Acquire);
        if deadline.is_some_and(|deadline| deadline.0 < sleeps_until) {
            self.sooner.notify_one();
        }
    }

    /// Completes when a timer may be due; borrows nothing, so that its task need not keep the
    /// broker alive.
    pub(crate) fn next(&self, env: &Env, deadline: impl FnOnce() -> Option<Monotonic>) -> Sleep {
        // Announced before it is looked for: what comes in between wakes the task in vain at worst.
        self.sleeps_until.store(u64::MAX, Ordering::Release);
        let deadline = deadline();
        self.sleeps_until.store(deadline.map_or(u64::MAX, |at| at.0), Ordering::Release);
        let (env, sooner) = (env.clone(), Arc::clone(&self.sooner));
        Box::pin(async move {
            match deadline {
                Some(deadline) => tokio::select! {
                    biased;
                    () = env.clock.sleep_until(deadline) => {}
                    () = sooner.notified() => {}
                },
                None => sooner.notified().await,
            }
        })
    }
}

/// Appends `records` and replays them. They are one batch, but for those that delete much: of
/// these, what is stored when the journal refuses the next batch is replayed all the same, so
/// that the state is what the log says. `newest` becomes the end of what was appended.
pub(crate) fn append(
    wall: Timestamp,
    partition: &Partition,
    records: &[StoredRecord],
    within: Option<(ProducerId, ProducerEpoch)>,
    (state, newest): (&mut impl Replays, &mut Lsn),
) -> Result<(), HostFailure> {
    let mut rest = records;
    for (batch, count) in batches(records, within, wall)? {
        let appended = partition.append(&[batch], Origin::Internal).map_err(failure)?;
        *newest = appended.end;
        let (stored, later) = rest.split_at(count);
        rest = later;
        for record in stored {
            if let Err(error) = state.record(record, within.map(|(producer, _)| producer)) {
                error!(%error, "a coordinator does not understand its own record");
            }
        }
    }
    Ok(())
}

/// Appends the marker that ends a producer's transaction. Returns what must be durable for it to be.
///
/// # Errors
///
/// Nothing was appended then.
pub(crate) fn append_marker(
    wall: Timestamp,
    partition: &Partition,
    (producer, epoch): (ProducerId, ProducerEpoch),
    end: EndTransaction,
) -> Result<Lsn, AppendError> {
    let marker = end.batch(producer, epoch, wall);
    let marker = marker.map_err(|error| AppendError::Storage(error.to_string()))?;
    Ok(partition.append(&[marker], Origin::Internal)?.end)
}

/// The records in as few batches as they need, each with its count of them; deleting a large group
/// makes more than one.
fn batches(
    records: &[StoredRecord],
    within: Option<(ProducerId, ProducerEpoch)>,
    wall: Timestamp,
) -> Result<Vec<(ValidBatch, usize)>, HostFailure> {
    let refused = |error| {
        warn!(%error, "records of a coordinator that the log does not take");
        HostFailure::TooLarge
    };
    let begin = || match within {
        None => BatchBuilder::new(),
        Some((producer, epoch)) => {
            BatchBuilder::new().producer(producer, epoch, -1).transactional()
        }
    };
    let mut batches = Vec::new();
    let (mut batch, mut count) = (begin(), 0);
    for record in records {
        count += 1;
        let size = batch.append(wall, Some(&record.key), record.value.as_deref(), &[]);
        if size >= BATCH_BYTES_MAX {
            let whole = std::mem::replace(&mut batch, begin()).build_valid().map_err(refused)?;
            batches.push((whole, std::mem::take(&mut count)));
        }
    }
    if !batch.is_empty() {
        batches.push((batch.build_valid().map_err(refused)?, count));
    }
    Ok(batches)
}

fn failure(error: AppendError) -> HostFailure {
    warn!(%error, "records of a coordinator were not appended");
    match error {
        AppendError::Full | AppendError::DiskFull => HostFailure::Unavailable,
        _ => HostFailure::NotCoordinator,
    }
}

/// Reads the partition of a shard from its beginning to its end.
pub(crate) async fn load(
    partition: &Partition,
    loading: &mut impl Replays,
) -> Result<(), LoadError> {
    let mut next = partition.ends().log_start;
    while next < partition.ends().high_watermark {
        let slice = match partition.read(next, LOAD_BYTES, true, Isolation::Uncommitted).await {
            Err(ReadError::Corrupt { partition, from, upto, why }) if upto > next => {
                // What only was there is older now. That is better than no coordinator at all.
                error!(%partition, %from, %upto, why, "records of a coordinator are lost");
                next = upto;
                continue;
            }
            read => read?,
        };
        let before = next;
        for stored in slice.batches {
            next = replay_batch(loading, &stored, before)?;
        }
        if next == before {
            break;
        }
    }
    Ok(())
}

fn replay_batch(
    loading: &mut impl Replays,
    batch: &StoredBatch,
    at: Offset,
) -> Result<Offset, LoadError> {
    let header = batch.header()?;
    let within = header.attributes.is_transactional().then_some(header.producer_id);
    let records = batch.records(BATCH_BYTES_CEILING)?;
    for record in &records {
        let record = record?;
        if header.attributes.is_control() {
            if let ControlRecord::EndTransaction(end) = ControlRecord::decode(&record)? {
                loading.end(header.producer_id, end.outcome == Outcome::Commit);
            }
            continue;
        }
        let Some(key) = record.key else { continue };
        let stored = StoredRecord {
            key: bytes::Bytes::copy_from_slice(key),
            value: record.value.map(bytes::Bytes::copy_from_slice),
        };
        if let Err(error) = loading.record(&stored, within) {
            // What is not understood is kept in the log and left alone, as Kafka does.
            warn!(%at, %error, "skipped a record of a coordinator's topic");
        }
    }
    Ok(header.last_offset().next())
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
