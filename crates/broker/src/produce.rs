//! Writing: a client's batch becomes a valid one, then part of the log.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use millstream_coordinator::config::TopicConfig;
use millstream_env::Env;
use millstream_log::{AppendError, Appended};
use millstream_record::batch::{
    BatchError, Check, Origin as Sender, TimestampBounds, TimestampType, ValidBatch, split,
};
use millstream_record::compression::CompressionError;
use millstream_types::limits::DECOMPRESSED_AT_ONCE_MAX;
use millstream_types::{Monotonic, Timestamp};

use crate::Broker;
use crate::line::Append;
use crate::topics::{Topic, TopicRef};

/// How many records of a batch are said to be refused: a compressed batch may hold millions.
const REFUSED_MAX: usize = 1_000;

/// How a client's records came in.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// The time of day.
    pub now: Timestamp,
    /// Whether the records of compressed batches are looked at, too.
    pub full_validation: bool,
    /// The size of the buffer that they are part of, in bytes: what keeping them would pin.
    pub buffer_bytes: usize,
    /// Whether their sender has written so much of late that others come first when room is scarce.
    pub heavy: bool,
    /// Until when they may wait for room in the journal.
    pub patience: Monotonic,
}

/// Why a client's records were not appended.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The topic has no such partition.
    #[error("there is no such partition")]
    NoPartition,
    /// A produce request carries exactly one batch for a partition.
    #[error("expected one record batch, found {0}")]
    BatchCount(usize),
    /// The topic is one that only the broker writes.
    #[error("the topic is internal")]
    Internal,
    /// The batch is not one that this topic takes.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batch is whole, but the topic does not take these records: all of them, up to a thousand,
    /// and at least one. The others were not appended either.
    #[error("{}", refused_text(.0))]
    Records(Vec<BatchError>),
    /// The log refused.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl ProduceError {
    /// What is wrong with single records of the batch, in their order; nothing when it is refused as
    /// a whole.
    #[must_use]
    pub fn records(&self) -> &[BatchError] {
        match self {
            Self::Batch(error) if error.record_index().is_some() => std::slice::from_ref(error),
            Self::Records(refused) => refused,
            _ => &[],
        }
    }
}

fn refused_text(refused: &[BatchError]) -> String {
    match refused {
        [] => String::new(),
        [only] => only.to_string(),
        [first, ..] => format!("{first}, and so on: {} records in all", refused.len()),
    }
}

impl Broker {
    /// Appends `records`, the bytes of one batch as a client sent them, to partition `index` of
    /// `topic`. Waits only for room in the journal, and for much that must be decompressed:
    /// otherwise it is done when first polled. The answer may go out when [`Appended::end`] is
    /// durable.
    ///
    /// # Errors
    ///
    /// Nothing was appended then.
    pub async fn append(
        &self,
        topic: &Topic,
        index: i32,
        records: &Bytes,
        how: Sent,
    ) -> Result<Appended, ProduceError> {
        if topic.internal {
            return Err(ProduceError::Internal);
        }
        let partition = topic.partition(index).ok_or(ProduceError::NoPartition)?;
        let batch = only(records)?;
        let batch = checked(self.env(), batch, &topic.config, how).await?;
        let (pinned, heavy, patience) = (how.buffer_bytes, how.heavy, how.patience);
        let append = Append { partition: partition.clone(), batch, pinned, heavy, patience };
        match append.clone().run(&self.0.lines, self.env()).await {
            // Found just before the next session took over, perhaps while it waited for room.
            Err(AppendError::SessionOver(_)) if partition.is_superseded() => {
                let topic = self.topic(TopicRef::Id(topic.id)).ok_or(ProduceError::NoPartition)?;
                let partition = topic.partition(index).ok_or(ProduceError::NoPartition)?.clone();
                Ok(Append { partition, ..append }.run(&self.0.lines, self.env()).await?)
            }
            appended => Ok(appended?),
        }
    }
}

/// The batch as the topic takes it. What decompresses to much would hold up the requests and timers
/// of others: it is looked at beside the tasks.
async fn checked(
    env: &Env,
    batch: Bytes,
    config: &Arc<TopicConfig>,
    how: Sent,
) -> Result<ValidBatch, ProduceError> {
    let compresses = config.compression.is_some() && batch.len() > DECOMPRESSED_AT_ONCE_MAX;
    if !compresses {
        match check(batch.clone(), config, how, DECOMPRESSED_AT_ONCE_MAX) {
            Err(ProduceError::Batch(BatchError::Compression(CompressionError::TooLarge {
                ..
            }))) => {}
            done => return done,
        }
    }
    let config = Arc::clone(config);
    env.compute(move || check(batch, &config, how, usize::MAX)).await
}

/// Checks a batch that decompresses to at most `limit` bytes, and compresses it anew if need be.
fn check(
    batch: Bytes,
    config: &TopicConfig,
    how: Sent,
    limit: usize,
) -> Result<ValidBatch, ProduceError> {
    let limit = limit.min(config.decompressed_bytes_max);
    let rules = Check { decompressed_bytes_max: limit, ..rules(config, how) };
    let batch = ValidBatch::check(batch.clone(), &rules).map_err(|first| {
        let refused = match first.record_index() {
            Some(_) => ValidBatch::refused(&batch, &rules, REFUSED_MAX),
            None => Vec::new(),
        };
        if refused.is_empty() { first.into() } else { ProduceError::Records(refused) }
    })?;
    Ok(compressed(batch, config, limit)?)
}

/// The batch in the compression that the topic asks for; most ask for the producer's. One that
/// grows must still be one that the topic takes, since consumers size their buffers by that.
fn compressed(
    batch: ValidBatch,
    config: &TopicConfig,
    limit: usize,
) -> Result<ValidBatch, BatchError> {
    let Some(wanted) = config.compression else { return Ok(batch) };
    let batch = batch.recompress(wanted, config.compression_level, limit)?;
    let (bytes, bytes_max) = (batch.bytes().len(), config.message_bytes_max);
    if bytes > bytes_max {
        return Err(BatchError::TooLarge { bytes, bytes_max });
    }
    Ok(batch)
}

fn only(records: &Bytes) -> Result<Bytes, ProduceError> {
    let mut batches = split(records);
    match (batches.next(), batches.next()) {
        (Some(batch), None) => Ok(batch?),
        (None, _) => Err(ProduceError::BatchCount(0)),
        (Some(_), Some(_)) => Err(ProduceError::BatchCount(2 + batches.count())),
    }
}

/// What this topic asks of a client's batch.
fn rules(config: &TopicConfig, how: Sent) -> Check {
    let bounds = TimestampBounds {
        now: how.now,
        before_max: config.timestamp_before_max.unwrap_or(Duration::MAX),
        after_max: config.timestamp_after_max.unwrap_or(Duration::MAX),
    };
    Check {
        batch_bytes_max: config.message_bytes_max,
        decompressed_bytes_max: config.decompressed_bytes_max,
        full: how.full_validation,
        keys_required: config.compacts,
        origin: Sender::Client,
        timestamps: (config.timestamp_type == TimestampType::CreateTime).then_some(bounds),
    }
}
