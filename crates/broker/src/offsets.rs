//! Looking offsets up: by time, by end, by epoch.

use millstream_log::{Found as Record, Isolation, ReadError};
use millstream_types::{LeaderEpoch, Offset, Timestamp};

use crate::epoch::{self, EpochError};
use crate::topics::Topic;

/// Which offset of a partition is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetSpec {
    /// The end that readers of this isolation may see.
    Latest,
    /// The first offset that has not been deleted.
    Earliest,
    /// The record with the largest timestamp (KIP-734).
    MaxTimestamp,
    /// The first offset on local storage: all of it is (KIP-405).
    EarliestLocal,
    /// The last offset on remote storage: there is none (KIP-1005).
    LatestTiered,
    /// The first offset that waits to be copied to remote storage: none does (KIP-1023).
    EarliestPendingUpload,
    /// The first record with this timestamp or a later one.
    At(Timestamp),
}

/// An offset that was looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The offset.
    pub offset: Offset,
    /// The record's timestamp, where a record was looked for.
    pub timestamp: Timestamp,
    /// The epoch of the leader that wrote there.
    pub epoch: LeaderEpoch,
}

/// Why an offset could not be looked up.
#[derive(Debug, thiserror::Error)]
pub enum OffsetError {
    /// The topic has no such partition.
    #[error("there is no such partition")]
    NoPartition,
    /// The client's view of the leadership is not ours.
    #[error(transparent)]
    Epoch(#[from] EpochError),
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl Topic {
    /// Looks an offset of partition `index` up; `None` when no record or offset answers to `spec`.
    ///
    /// # Errors
    ///
    /// When the partition does not exist, is led in another epoch, or can't be read.
    pub async fn offset(
        &self,
        index: i32,
        spec: OffsetSpec,
        isolation: Isolation,
        leader_epoch: LeaderEpoch,
    ) -> Result<Option<Found>, OffsetError> {
        let partition = self.partition(index).ok_or(OffsetError::NoPartition)?;
        let ends = partition.ends();
        epoch::check(leader_epoch, ends.epoch)?;
        let end = |offset, epoch| Some(Found { offset, timestamp: Timestamp::NONE, epoch });
        let record = |found: Option<Record>| {
            found.map(|(offset, timestamp, epoch)| Found { offset, timestamp, epoch })
        };
        let visible = match isolation {
            Isolation::Uncommitted => ends.high_watermark,
            Isolation::Committed => ends.last_stable,
        };
        Ok(match spec {
            OffsetSpec::Latest => end(visible, ends.epoch),
            OffsetSpec::Earliest | OffsetSpec::EarliestLocal => {
                let (log_start, epoch) = partition.earliest();
                end(log_start, epoch)
            }
            OffsetSpec::LatestTiered | OffsetSpec::EarliestPendingUpload => None,
            OffsetSpec::MaxTimestamp => record(partition.offset_of_max_timestamp().await?),
            // What readers may not see yet is not there for them.
            OffsetSpec::At(time) => {
                record(partition.offset_at(time).await?).filter(|found| found.offset < visible)
            }
        })
    }

    /// The largest epoch at or below `asked` in which partition `index` was written, and the first
    /// offset after it (KIP-320).
    ///
    /// # Errors
    ///
    /// When the partition does not exist, or is led in another epoch than `current`.
    pub fn epoch_end(
        &self,
        index: i32,
        asked: LeaderEpoch,
        current: LeaderEpoch,
    ) -> Result<(LeaderEpoch, Offset), OffsetError> {
        let partition = self.partition(index).ok_or(OffsetError::NoPartition)?;
        epoch::check(current, partition.ends().epoch)?;
        Ok(partition.epoch_end(asked))
    }
}
