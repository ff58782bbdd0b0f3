//! Reading: whole batches from many partitions, waiting for enough of them.

use std::sync::Arc;
use std::time::Duration;

use millstream_env::Env;
use millstream_log::{Isolation, Partition, ReadError, Slice, WatchGuard};
use millstream_types::{LeaderEpoch, Offset};
use tokio::sync::Notify;

use crate::epoch::{self, EpochError};
use crate::topics::Topic;

/// What is wanted of one partition.
#[derive(Clone, Debug)]
pub struct Want {
    /// The topic, already looked up.
    pub topic: Arc<Topic>,
    /// The partition's number.
    pub partition: i32,
    /// The first offset wanted.
    pub from: Offset,
    /// The most bytes from this partition, except that a first batch is always whole (KIP-74).
    pub bytes_max: usize,
    /// The leader epoch that the reader knows, or [`LeaderEpoch::NONE`].
    pub leader_epoch: LeaderEpoch,
    /// The epoch of the last record that the reader has, or [`LeaderEpoch::NONE`] (KIP-595).
    pub last_fetched_epoch: LeaderEpoch,
}

/// Bounds of one fetch, over all its partitions.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Answer as soon as this many bytes are there.
    pub bytes_min: usize,
    /// Never more than this, except that the first batch is always whole.
    pub bytes_max: usize,
    /// Answer after this time with what there is.
    pub wait_max: Duration,
    /// Whether records of open and aborted transactions are left out.
    pub isolation: Isolation,
}

/// What was read of one partition.
#[derive(Debug)]
pub enum Fetched {
    /// Batches, perhaps none, and the ends of the log.
    Records(Slice),
    /// The reader's log and this one part ways: the largest epoch that both know and its end.
    Diverging {
        /// The epoch.
        epoch: LeaderEpoch,
        /// The first offset after it.
        end: Offset,
    },
}

/// Why a partition could not be read.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The topic has no such partition.
    #[error("there is no such partition")]
    NoPartition,
    /// The reader's view of the leadership is not ours.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The log refused.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Reads until enough is there, an error shows, a partition has all that it may send, or the time
/// is up. The result has one entry per want, in the same order.
pub(crate) async fn fetch(
    env: &Env,
    wants: &[Want],
    bounds: Bounds,
) -> Vec<Result<Fetched, FetchError>> {
    let deadline = env.clock.monotonic().plus(bounds.wait_max);
    let news = Arc::new(Notify::new());
    let mut guards: Option<Vec<WatchGuard>> = None;
    loop {
        let (results, complete) = read_all(wants, bounds).await;
        if complete || env.clock.monotonic() >= deadline {
            return results;
        }
        // Watch first, read again, and only then sleep: what arrives in between is not missed.
        if guards.is_none() {
            guards = Some(handles(wants).map(|partition| partition.watch(&news)).collect());
            continue;
        }
        tokio::select! {
            () = news.notified() => {}
            () = env.clock.sleep_until(deadline) => {}
        }
    }
}

fn handles(wants: &[Want]) -> impl Iterator<Item = &Partition> {
    wants.iter().filter_map(|want| want.topic.partition(want.partition))
}

/// One pass; says too whether the answer should go out now.
async fn read_all(wants: &[Want], bounds: Bounds) -> (Vec<Result<Fetched, FetchError>>, bool) {
    let mut results = Vec::with_capacity(wants.len());
    let mut bytes = 0;
    let mut complete = wants.is_empty() || bounds.bytes_min == 0;
    for want in wants {
        let left = bounds.bytes_max.saturating_sub(bytes);
        let result = read_one(want, left, bytes == 0, bounds.isolation).await;
        match &result {
            Ok(Fetched::Records(slice)) => {
                bytes += slice.bytes;
                // A partition that has filled its share can't add to it by waiting.
                complete |= slice.bytes > 0 && slice.bytes >= want.bytes_max;
            }
            Ok(Fetched::Diverging { .. }) | Err(_) => complete = true,
        }
        results.push(result);
    }
    (results, complete || bytes >= bounds.bytes_min)
}

async fn read_one(
    want: &Want,
    bytes_left: usize,
    first: bool,
    isolation: Isolation,
) -> Result<Fetched, FetchError> {
    let partition = want.topic.partition(want.partition).ok_or(FetchError::NoPartition)?;
    epoch::check(want.leader_epoch, partition.ends().epoch)?;
    if want.last_fetched_epoch != LeaderEpoch::NONE {
        let (epoch, end) = partition.epoch_end(want.last_fetched_epoch);
        if epoch < want.last_fetched_epoch || end < want.from {
            return Ok(Fetched::Diverging { epoch, end });
        }
    }
    let bytes_max = want.bytes_max.min(bytes_left);
    Ok(Fetched::Records(partition.read(want.from, bytes_max, first, isolation).await?))
}
