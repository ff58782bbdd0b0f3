//! Reading: whole batches from many partitions, waiting for enough of them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use millstream_env::Env;
use millstream_log::{
    Added, Ends, Isolation, News, Partition, ReadError, ReadNow, Reading as LogReading, Slice,
    WatchGuard,
};
use millstream_types::{LeaderEpoch, Offset};

use crate::budget::{Budget, Share};
use crate::epoch::{self, EpochError};
use crate::topics::Topic;

/// So many partitions of one fetch are read from the disk at once: a disk is faster with several, and each
/// waits for a thread. More than four gave nothing on two cores.
const READS_MAX: usize = 4;

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
            biased;
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

/// What a want leads to.
enum Found<'a> {
    Serves(&'a Partition, Ends),
    Diverges { epoch: LeaderEpoch, end: Offset },
}

/// A partition of which more is to be read from the disk.
struct Begun {
    which: usize,
    partition: Partition,
    reading: LogReading,
    /// What the answer has taken for it, in bytes.
    taken: usize,
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

    /// Reads what has not been read: what is in memory at once, and the rest together.
    async fn read(&mut self) {
        let mut cold = Vec::new();
        for which in 0..self.wants.len() {
            let is_first = self.bytes == 0 && cold.is_empty();
            cold.extend(self.read_now(which, is_first));
        }
        self.read_on(cold).await;
        // The first has nothing after all, and those behind it had no room for one batch.
        let mut others = 0..self.wants.len();
        while self.bytes == 0
            && let Some(which) = others.find(|which| self.has_left_all(*which))
        {
            self.renew(which);
            let begun = self.read_now(which, true);
            self.read_on(begun.into_iter().collect()).await;
        }
        let nothing_to_wait_for =
            self.results.iter().all(|result| matches!(result, Some(Err(FetchError::NoPartition))));
        self.complete |= nothing_to_wait_for || self.bytes >= self.bounds.enough();
    }

    /// Reads one partition, if that has not been done, as far as it is in memory. Returns what is to be read
    /// from the disk. A batch that is larger than what is left is taken when `must`.
    fn read_now(&mut self, which: usize, must: bool) -> Option<Begun> {
        let want = self.wants.get(which)?;
        if self.results.get(which)?.is_some() {
            return None;
        }
        let (partition, ends) = match look_up(want) {
            Ok(Found::Serves(partition, ends)) => (partition, ends),
            Ok(Found::Diverges { epoch, end }) => {
                self.put(which, Ok(Fetched::Diverging { epoch, end }));
                return None;
            }
            Err(error) => {
                self.put(which, Err(error));
                return None;
            }
        };
        let most = want.bytes_max.min(self.bounds.bytes_max.saturating_sub(self.bytes));
        // Where nothing is to be read, nothing is taken.
        let taken = if want.from < ends.high_watermark { self.share.take(most) } else { 0 };
        self.bytes += taken;
        let read = match partition.read_now(want.from, taken, must, self.bounds.isolation) {
            Ok(ReadNow::Begun(reading)) => {
                return Some(Begun { which, partition: partition.clone(), reading, taken });
            }
            Ok(ReadNow::Done(slice)) => Ok(slice),
            Err(error) => Err(error),
        };
        self.settle(which, partition, taken, read);
        None
    }

    /// Reads from the disk.
    async fn read_on(&mut self, cold: Vec<Begun>) {
        if cold.is_empty() {
            return;
        }
        let reads =
            stream::iter(cold).map(|Begun { which, partition, reading, taken }| async move {
                let read = partition.read_on(reading).await;
                (which, partition, taken, read)
            });
        let mut reads = std::pin::pin!(reads.buffer_unordered(READS_MAX));
        while let Some((which, partition, taken, read)) = reads.next().await {
            self.settle(which, &partition, taken, read);
        }
    }

    /// A read is over, for which so many bytes were taken.
    fn settle(
        &mut self,
        which: usize,
        partition: &Partition,
        taken: usize,
        read: Result<Slice, ReadError>,
    ) {
        let bytes = read.as_ref().map_or(0, |slice| slice.bytes);
        self.share.settle(taken, bytes);
        self.bytes = self.bytes - taken + bytes;
        let read = match read {
            // What this handle knew of may have been given back meanwhile.
            Err(_) if partition.is_superseded() => Err(ReadError::NotLeader.into()),
            Err(error) => Err(error.into()),
            Ok(slice) => Ok(Fetched::Records(slice)),
        };
        self.put(which, read);
    }

    fn put(&mut self, which: usize, read: Result<Fetched, FetchError>) {
        let at = self.wants.get(which).zip(self.results.get_mut(which));
        let Some((want, result)) = at else { return };
        self.complete |= completes(want, &read, self.bounds.isolation);
        *result = Some(read);
    }

    /// Has a partition read again before the answer.
    fn renew(&mut self, which: usize) {
        if let Some(result) = self.results.get_mut(which) {
            *result = None;
        }
    }

    /// Whether there is something to read of which nothing was read.
    fn has_left_all(&self, which: usize) -> bool {
        match self.results.get(which) {
            Some(Some(Ok(Fetched::Records(slice)))) => {
                slice.bytes == 0 && slice.next < visible(slice, self.bounds.isolation)
            }
            _ => false,
        }
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
                self.reading.renew(which);
                enough |= self.count(which);
            }
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
            self.reading.renew(which);
            return true;
        };
        let before = count.bytes.min(want.bytes_max);
        *count = Added { bytes: count.bytes + added.bytes, next: added.next };
        self.reading.bytes += count.bytes.min(want.bytes_max) - before;
        let fills = fills(want, count.bytes);
        if added.bytes > 0 {
            self.reading.renew(which);
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
            slice.next < visible(slice, isolation) || fills(want, slice.bytes)
        }
        // It may be there for hours; the others are waited for, as if it had not been asked for.
        Err(FetchError::NoPartition) => false,
        Ok(Fetched::Diverging { .. }) | Err(_) => true,
    }
}

/// One past the last offset that the reader may see.
const fn visible(slice: &Slice, isolation: Isolation) -> Offset {
    match isolation {
        Isolation::Uncommitted => slice.high_watermark,
        Isolation::Committed => slice.last_stable,
    }
}

/// The partition that is wanted, if the reader's view of it is ours.
fn look_up(want: &Want) -> Result<Found<'_>, FetchError> {
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
            return Ok(Found::Diverges { epoch, end });
        }
    }
    Ok(Found::Serves(partition, ends))
}
