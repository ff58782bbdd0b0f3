//! What the engine is told: settings of the node, configuration of partitions, the session before.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use millstream_env::{BlobName, MetaError, Reserve};
use millstream_record::batch::TimestampType;
use millstream_types::{ClusterId, LeaderEpoch, Lsn, PartitionId, SessionId};

const MIB: u64 = 1024 * 1024;

/// Settings of one node's log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// The cluster that every blob names in its header. Default: nil.
    pub cluster: ClusterId,
    /// How much memory recent batches may take, in bytes of whole allocations. More lets
    /// consumers lag further before they cost reads. Default: 64 MiB.
    pub tail_bytes: u64,
    /// How much memory indexes of segments may take, in bytes. Default: 8 MiB.
    pub index_cache_bytes: u64,
    /// How fast things are laid out while nothing is appended and nothing presses, in bytes per second;
    /// for each byte that is appended two more. `None`: as fast as the disk takes them. Default: 32 MiB.
    pub layout_rate: Option<u64>,
    /// A partition with so many bytes in the journal gets a segment of its own. Default: 8 MiB.
    pub segment_bytes_min: u64,
    /// When a partition's small runs in packs hold so many bytes, they are merged into one, which is
    /// not merged again. More means fewer runs, but that bytes are written more often until then:
    /// from runs of 50 KiB, which is what half a journal holds of each of 10,000 partitions, a byte
    /// comes here in one step. Default: 1 MiB.
    pub merge_bytes_min: u64,
    /// No run is larger, in bytes (but for one batch). Default: 64 MiB.
    pub run_bytes_max: u64,
    /// No pack is larger, in bytes (but for one run). Default: 32 MiB.
    pub pack_bytes_max: u64,
    /// A partition with more small runs than this has them merged, however little they hold: each
    /// costs memory. Default: 32.
    pub small_runs_max: usize,
    /// Runs of so many bytes on average are worth a look-up each: they are not merged before there are
    /// [`LogSettings::fair_runs_max`] of them, because that would write every byte once more. Default:
    /// 256 KiB.
    pub fair_run_bytes: u64,
    /// How many such runs a partition may have. Default: 256.
    pub fair_runs_max: usize,
    /// Batches are laid out when the oldest of their partition has waited so long, even where
    /// there is little; each run costs memory, and to be merged. Default: 1 hour.
    pub layout_age: Duration,
    /// Everything is laid out and a checkpoint is taken when more of the journal is used, in
    /// percent. Default: 50.
    pub journal_used_percent: u64,
    /// A checkpoint is taken when so many bytes were appended since the last: what a restart has
    /// to replay at most, and some more that comes while the next is taken. Default: 128 MiB.
    pub checkpoint_bytes: u64,
    /// A checkpoint of at most so many bytes is not added to: the next is whole, too. Default: 64 KiB.
    pub checkpoint_whole_bytes: u64,
    /// At most so many checkpoints add to each other: what a start opens. Default: 16.
    pub checkpoint_chain_max: usize,
    /// How often the engine looks whether anything is due; it also looks when enough bytes have
    /// come. Default: 1 s.
    pub maintenance_interval: Duration,
    /// Whether the engine looks by itself. Tests switch it off and call
    /// [`Log::maintain`](crate::Log::maintain). Default: it does.
    pub background: bool,
    /// Whether a power cut may take what the journal said was durable: its end may then be missing,
    /// and recovery goes on with what there is. Default: it may not.
    pub journal_may_lose: bool,
    /// The space below. When it is low, clients' records are refused. Default: without end.
    pub reserve: Arc<Reserve>,
    /// How compaction goes; [`Log::set_compaction`](crate::Log::set_compaction) changes it.
    pub compaction: CompactionSettings,
    /// The most producers that a partition remembers; the longest idle go first, and may then
    /// have a retry stored twice. Default: 10,000.
    pub producer_ids_max: usize,
}

/// How compaction goes. Kafka's names in parentheses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompactionSettings {
    /// Whether there is any (`log.cleaner.enable`). Default: there is.
    pub is_on: bool,
    /// How much memory the keys of a partition may take while it is compacted, in bytes: 24 for each
    /// (`log.cleaner.dedupe.buffer.size`). What does not fit is compacted after it. No more is taken
    /// than the partition's new records need. Default: 128 MiB.
    pub keys_bytes: u64,
    /// How much may be read and written, in bytes per second (`log.cleaner.io.max.bytes.per.second`);
    /// [`LogSettings::layout_rate`] is a bound, too. Default: none.
    pub bytes_per_second: Option<u64>,
    /// How long to wait after a round in which there was nothing more to do
    /// (`log.cleaner.backoff.ms`). Default: 15 s.
    pub pause: Duration,
}

impl Default for CompactionSettings {
    fn default() -> Self {
        Self {
            is_on: true,
            keys_bytes: 128 * MIB,
            bytes_per_second: None,
            pause: Duration::from_secs(15),
        }
    }
}

/// What a partition's topic asks of the log.
#[derive(Clone, Debug)]
pub struct PartitionConfig {
    /// Records older than this are deleted (`retention.ms`); `None`: never.
    pub retention: Option<Duration>,
    /// The oldest segments are deleted as long as the others hold so many bytes
    /// (`retention.bytes`); `None`: never.
    pub retention_bytes: Option<u64>,
    /// No segment is larger, in bytes (`segment.bytes`); at least 1 MiB.
    pub segment_bytes: u64,
    /// Batches are laid out after this long at the latest (`segment.ms`).
    pub segment_age: Duration,
    /// Whether retention applies (`cleanup.policy` has `delete`).
    pub deletes: bool,
    /// Whether old values of a key are removed (`cleanup.policy` has `compact`).
    pub compacts: bool,
    /// How long tombstones, and ends of transactions, outlive the first compaction that finds nothing
    /// else for them to do (`delete.retention.ms`).
    pub delete_retention: Duration,
    /// The share of bytes that were not compacted yet above which a partition is compacted
    /// (`min.cleanable.dirty.ratio`).
    pub dirty_ratio: f64,
    /// Records are safe from compaction for so long (`min.compaction.lag.ms`).
    pub compaction_lag_min: Duration,
    /// Records are compacted after so long, however few they are (`max.compaction.lag.ms`).
    pub compaction_lag_max: Option<Duration>,
    /// Whose clock records carry (`message.timestamp.type`).
    pub timestamp_type: TimestampType,
    /// A producer that was idle so long is forgotten (`producer.id.expiration.ms`).
    pub producer_expiry: Duration,
}

/// A partition that this node leads.
#[derive(Clone, Debug)]
pub struct PartitionSpec {
    /// Which.
    pub id: PartitionId,
    /// The epoch in which this node leads it.
    pub epoch: LeaderEpoch,
    /// Its configuration.
    pub config: Arc<PartitionConfig>,
}

/// The session before the one that is being opened.
#[derive(Clone, Debug)]
pub struct Former {
    /// Its number. All sessions with frames in the same journal store up to this one are taken
    /// over.
    pub session: SessionId,
    /// The newest trim entry of the metadata log, if there ever was one.
    pub trim: Option<Trim>,
}

/// From where recovery starts: the newest checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trim {
    /// The session that took the checkpoint.
    pub session: SessionId,
    /// The position in its journal from which frames must be replayed.
    pub lsn: Lsn,
    /// The checkpoint; it names those that it adds to.
    pub checkpoint: BlobName,
}

/// Where trims are made known: the metadata log. What is published is durable.
pub trait TrimSink: Send + Sync {
    /// Records that recovery starts from `trim` from now on.
    ///
    /// # Errors
    ///
    /// [`MetaError`] when it could not be recorded; then nothing is trimmed.
    fn publish(&self, trim: Trim) -> BoxFuture<'_, Result<(), MetaError>>;
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            cluster: ClusterId::NIL,
            tail_bytes: 64 * MIB,
            index_cache_bytes: 8 * MIB,
            layout_rate: Some(32 * MIB),
            segment_bytes_min: 8 * MIB,
            merge_bytes_min: MIB,
            run_bytes_max: 64 * MIB,
            pack_bytes_max: 32 * MIB,
            small_runs_max: 32,
            fair_run_bytes: MIB / 4,
            fair_runs_max: 256,
            layout_age: Duration::from_hours(1),
            journal_used_percent: 50,
            checkpoint_bytes: 128 * MIB,
            checkpoint_whole_bytes: 64 * 1024,
            checkpoint_chain_max: 16,
            maintenance_interval: Duration::from_secs(1),
            background: true,
            journal_may_lose: false,
            reserve: Reserve::unlimited(),
            compaction: CompactionSettings::default(),
            producer_ids_max: 10_000,
        }
    }
}

impl Default for PartitionConfig {
    /// What Kafka does when nothing is configured: a week, without a bound on size.
    fn default() -> Self {
        Self {
            retention: Some(Duration::from_hours(168)),
            retention_bytes: None,
            segment_bytes: 1024 * MIB,
            segment_age: Duration::from_hours(168),
            deletes: true,
            compacts: false,
            delete_retention: Duration::from_hours(24),
            dirty_ratio: 0.5,
            compaction_lag_min: Duration::ZERO,
            compaction_lag_max: None,
            timestamp_type: TimestampType::CreateTime,
            producer_expiry: Duration::from_hours(24),
        }
    }
}
