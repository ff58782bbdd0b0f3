//! Reading: whole batches from many partitions, waiting for enough of them.

use std::sync::Arc;
use std::time::Duration;

use millstream_env::Env;
use millstream_log::{Added, Isolation, News, ReadError, Slice, WatchGuard};
use millstream_types::{LeaderEpoch, Offset};

use crate::budget::{Budget, Share};
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

/// What a fetch brings.
#[derive(Debug)]
pub struct Answer {
    /// One entry per want, in the same order.
    pub results: Vec<Result<Fetched, FetchError>>,
    /// The memory that they take. Keep it until they have been sent.
    pub share: Share,
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
/// is up.
///
/// While there is not enough, nothing is read and nothing is held: what comes is counted. So a
/// wake-up costs as much as what woke it, and each batch is read once more at the end.
pub(crate) async fn fetch(
    env: &Env,
    budget: &Arc<Budget>,
    wants: &[Want],
    bounds: Bounds,
) -> Answer {
    let deadline = env.clock.monotonic().plus(bounds.wait_max);
    let mut reading = Reading::new(budget, wants, bounds);
    reading.read().await;
    if !reading.complete && !bounds.wait_max.is_zero() {
        let mut waiting = reading.wait();
        tokio::select! {
            () = waiting.until_enough() => {}
            () = env.clock.sleep_until(deadline) => {}
        }
        reading = waiting.go_on();
        reading.read().await;
    }
    Answer { results: reading.results.into_iter().flatten().collect(), share: reading.share }
}

/// A fetch that reads.
struct Reading<'a> {
    wants: &'a [Want],
    bounds: Bounds,
    /// For each want; `None` is still to be read.
    results: Vec<Option<Result<Fetched, FetchError>>>,
    bytes: usize,
    share: Share,
    /// Whether the answer should go out now.
    complete: bool,
}

/// A fetch that waits for more.
struct Waiting<'a> {
    reading: Reading<'a>,
    /// For each want; `None` has nothing to wait for.
    counts: Vec<Option<Added>>,
    news: Arc<News>,
    _guards: Vec<WatchGuard>,
}

impl<'a> Reading<'a> {
    fn new(budget: &Arc<Budget>, wants: &'a [Want], bounds: Bounds) -> Self {
        let results = wants.iter().map(|_| None).collect();
        let (share, complete) = (budget.share(), bounds.bytes_min == 0);
        Self { wants, bounds, results, bytes: 0, share, complete }
    }

    /// Reads what has not been read.
    async fn read(&mut self) {
        for (want, result) in self.wants.iter().zip(&mut self.results) {
            if result.is_some() {
                continue;
            }
            let read = read_one(want, self.bounds, self.bytes, &mut self.share).await;
            if let Ok(Fetched::Records(slice)) = &read {
                self.bytes += slice.bytes;
            }
            self.complete |= completes(want, &read, self.bounds.isolation);
            *result = Some(read);
        }
        let nothing_to_wait_for =
            self.results.iter().all(|result| matches!(result, Some(Err(FetchError::NoPartition))));
        self.complete |= nothing_to_wait_for || self.bytes >= self.bounds.enough();
    }

    /// Lets go of what was read and remembers how much it was.
    fn wait(mut self) -> Waiting<'a> {
        let (mut counts, mut guards) = (Vec::new(), Vec::new());
        let news = Arc::new(News::default());
        for (which, (want, result)) in self.wants.iter().zip(&mut self.results).enumerate() {
            let count = match result {
                Some(Ok(Fetched::Records(slice))) => {
                    Some(Added { bytes: slice.bytes, next: slice.next })
                }
                _ => None,
            };
            if count.is_some_and(|count| count.bytes > 0) {
                *result = None;
            }
            let watched = want.topic.partition(want.partition).filter(|_| count.is_some());
            guards.extend(watched.map(|partition| partition.watch(&news, which)));
            counts.push(count);
        }
        self.share.clear();
        Waiting { reading: self, counts, news, _guards: guards }
    }
}

impl<'a> Waiting<'a> {
    /// Completes when reading on is worth it.
    async fn until_enough(&mut self) {
        // What came between the read and the watch woke nobody.
        let mut enough = false;
        for which in 0..self.counts.len() {
            enough |= self.count(which);
        }
        while !enough {
            for which in self.news.comes().await {
                self.renew(which);
                enough |= self.count(which);
            }
        }
    }

    /// Has a partition read again before the answer.
    fn renew(&mut self, which: usize) {
        if let Some(result) = self.reading.results.get_mut(which) {
            *result = None;
        }
    }

    /// Counts what came to one partition. Returns whether the answer should go out now.
    fn count(&mut self, which: usize) -> bool {
        let at = self.reading.wants.get(which).zip(self.counts.get_mut(which));
        let Some((want, Some(count))) = at else { return false };
        let isolation = self.reading.bounds.isolation;
        let partition = want.topic.partition(want.partition);
        let served = partition.filter(|partition| !partition.is_superseded());
        let added = served.and_then(|partition| partition.added(count.next, isolation));
        // A new read will say what has become of it.
        let Some(added) = added else {
            self.renew(which);
            return true;
        };
        let before = count.bytes.min(want.bytes_max);
        *count = Added { bytes: count.bytes + added.bytes, next: added.next };
        self.reading.bytes += count.bytes.min(want.bytes_max) - before;
        let fills = fills(want, count.bytes);
        if added.bytes > 0 {
            self.renew(which);
        }
        fills || self.reading.bytes >= self.reading.bounds.enough()
    }

    fn go_on(self) -> Reading<'a> {
        Reading { bytes: 0, ..self.reading }
    }
}

impl Bounds {
    /// From so many bytes on there is no use in waiting.
    fn enough(&self) -> usize {
        self.bytes_min.min(self.bytes_max)
    }
}

/// Whether a partition has as much as it may send, so that waiting can't add to it.
const fn fills(want: &Want, bytes: usize) -> bool {
    bytes > 0 && bytes >= want.bytes_max
}

/// Whether this is a reason to answer now, whatever the others have.
fn completes(want: &Want, read: &Result<Fetched, FetchError>, isolation: Isolation) -> bool {
    match read {
        // More is there than fits: batches are whole, so that the limits need never be reached.
        Ok(Fetched::Records(slice)) => {
            let visible = match isolation {
                Isolation::Uncommitted => slice.high_watermark,
                Isolation::Committed => slice.last_stable,
            };
            slice.next < visible || fills(want, slice.bytes)
        }
        // It may be there for hours; the others are waited for, as if it had not been asked for.
        Err(FetchError::NoPartition) => false,
        Ok(Fetched::Diverging { .. }) | Err(_) => true,
    }
}

/// Reads what is wanted of one partition, after `bytes` of others.
async fn read_one(
    want: &Want,
    bounds: Bounds,
    bytes: usize,
    share: &mut Share,
) -> Result<Fetched, FetchError> {
    let partition = want.topic.partition(want.partition).ok_or(FetchError::NoPartition)?;
    if partition.is_superseded() {
        // The reader looks again, and finds the session that serves now.
        return Err(ReadError::NotLeader.into());
    }
    let ends = partition.ends();
    epoch::check(want.leader_epoch, ends.epoch)?;
    if want.last_fetched_epoch != LeaderEpoch::NONE {
        let (epoch, end) = partition.epoch_end(want.last_fetched_epoch);
        if epoch < want.last_fetched_epoch || end < want.from {
            return Ok(Fetched::Diverging { epoch, end });
        }
    }
    let most = want.bytes_max.min(bounds.bytes_max.saturating_sub(bytes));
    // Where nothing is to be read, nothing is taken.
    let taken = if want.from < ends.high_watermark { share.take(most) } else { 0 };
    let read = partition.read(want.from, taken, bytes == 0, bounds.isolation).await;
    share.settle(taken, read.as_ref().map_or(0, |slice| slice.bytes));
    match read {
        // What this handle knew of may have been given back meanwhile.
        Err(_) if partition.is_superseded() => Err(ReadError::NotLeader.into()),
        read => Ok(Fetched::Records(read?)),
    }
}
