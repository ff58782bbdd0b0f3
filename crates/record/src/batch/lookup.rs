//! Finding one record of a batch by its time.

#![cfg_attr(
    not(test),
    deny(clippy::indexing_slicing, clippy::arithmetic_side_effects, clippy::as_conversions)
)]

use millstream_types::{Offset, Timestamp};

use super::error::BatchError;
use super::stored::StoredBatch;

impl StoredBatch {
    /// The first record at or after offset `from` whose timestamp is `timestamp` or later, as its
    /// offset and timestamp. A batch whose max timestamp is earlier is not decompressed.
    ///
    /// # Errors
    ///
    /// As [`StoredBatch::records`], and when a record doesn't decode.
    pub fn first_at_or_after(
        &self,
        timestamp: Timestamp,
        from: Offset,
        limit: usize,
    ) -> Result<Option<(Offset, Timestamp)>, BatchError> {
        let header =
            self.header().map_err(|error| BatchError::Truncated { field: error.field() })?;
        if header.max_timestamp < timestamp || header.last_offset() < from {
            return Ok(None);
        }
        for record in &self.records(limit)? {
            let record = record?;
            let found = (record.offset(&header), record.timestamp(&header));
            if found.0 >= from && found.1 >= timestamp {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first of the records with the latest timestamp, as its offset and timestamp; `None` when
    /// the batch has no records.
    ///
    /// # Errors
    ///
    /// As [`StoredBatch::records`], and when a record doesn't decode.
    pub fn max_timestamp_record(
        &self,
        limit: usize,
    ) -> Result<Option<(Offset, Timestamp)>, BatchError> {
        let records = self.records(limit)?;
        let header = records.header();
        let mut latest: Option<(Offset, Timestamp)> = None;
        for record in &records {
            let record = record?;
            let timestamp = record.timestamp(header);
            if latest.is_none_or(|(_, max)| timestamp > max) {
                latest = Some((record.offset(header), timestamp));
            }
            if timestamp == header.max_timestamp {
                break;
            }
        }
        Ok(latest)
    }
}
