//! Retention: which segments are no longer wanted.
//!
//! The unit is a segment: it goes when all of it is too old, or when the others hold enough. What is
//! in the journal only goes by age, batch by batch, and never by size (like Kafka's active segment),
//! so that a small partition is not emptied because it has not been laid out yet.

use millstream_types::{Offset, Timestamp};

use crate::partition::Partition;
use crate::settings::PartitionConfig;
use crate::state::PartitionState;
use crate::util::locked;

/// Something that goes as a whole or stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// One past its last offset.
    pub(crate) end: Offset,
    /// Its size in bytes.
    pub(crate) bytes: u64,
    /// Its newest record's time; [`Timestamp::NONE`] when that is not known.
    pub(crate) newest: Timestamp,
    /// Whether it may go because of the partition's size.
    pub(crate) by_size: bool,
}

/// Where the log should start: behind the pieces, oldest first, that `config` no longer keeps.
/// `None` when all stay.
pub(crate) fn plan(
    pieces: impl Iterator<Item = Piece>,
    total_bytes: u64,
    config: &PartitionConfig,
    now: Timestamp,
) -> Option<Offset> {
    if !config.deletes {
        return None;
    }
    let mut left = total_bytes;
    let mut start = None;
    for piece in pieces {
        let after = left.saturating_sub(piece.bytes);
        let old = config
            .retention
            .is_some_and(|keep| piece.newest.0 >= 0 && piece.newest.plus(keep) < now);
        let much = piece.by_size && config.retention_bytes.is_some_and(|keep| after >= keep);
        if !old && !much {
            break;
        }
        left = after;
        start = Some(piece.end);
    }
    start
}

impl PartitionState {
    /// What retention decides on: segments and what was lost between them, then batches in the
    /// journal that are durable. Lost batches whose age is not known go with what comes after them.
    fn pieces(&self) -> impl Iterator<Item = Piece> {
        let lost = self.lost.iter().filter(|range| range.max_timestamp.0 >= 0);
        let lost = lost.map(|range| Piece {
            end: range.upto,
            bytes: 0,
            newest: range.max_timestamp,
            by_size: true,
        });
        let segments = self.segments.iter().map(|segment| Piece {
            end: segment.run.end,
            bytes: segment.run.len,
            newest: Self::age_of(segment),
            by_size: true,
        });
        let mut laid: Vec<_> = segments.chain(lost).collect();
        laid.sort_by_key(|piece| piece.end);
        let backlog = self.backlog().take_while(|batch| batch.last < self.high_watermark);
        laid.into_iter().chain(backlog.map(|batch| Piece {
            end: batch.last.next(),
            bytes: u64::from(batch.size),
            newest: batch.max_timestamp,
            by_size: false,
        }))
    }
}

impl Partition {
    /// Deletes what is no longer wanted and forgets idle producers.
    pub(crate) fn retain(&self, now: Timestamp) {
        let mut state = locked(&self.shared.state);
        if state.deleted {
            return;
        }
        let expiry = state.config.producer_expiry;
        state.producers.expire(now, expiry);
        let config = std::sync::Arc::clone(&state.config);
        let Some(start) = plan(state.pieces(), state.size(), &config, now) else { return };
        match self.move_log_start(&mut state, start) {
            Ok(()) => {
                tracing::info!(partition = %self.shared.id, %start, "retention deleted records");
            }
            Err(error) => {
                tracing::warn!(partition = %self.shared.id, %error, "retention is put off");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn piece(end: i64, bytes: u64, newest: i64, by_size: bool) -> Piece {
        Piece { end: Offset(end), bytes, newest: Timestamp(newest), by_size }
    }

    #[track_caller]
    fn check(keep_ms: Option<u64>, keep_bytes: Option<u64>, start: Option<i64>) {
        let pieces = [
            piece(10, 100, 1_000, true),
            piece(20, 100, 5_000, true),
            piece(30, 100, 3_000, true),
            piece(31, 10, 4_000, false),
            piece(32, 10, -1, false),
            piece(33, 10, 1_000, false),
        ];
        let config = PartitionConfig {
            retention: keep_ms.map(Duration::from_millis),
            retention_bytes: keep_bytes,
            ..PartitionConfig::default()
        };
        let planned = plan(pieces.into_iter(), 330, &config, Timestamp(10_000));
        assert_eq!(planned, start.map(Offset), "{keep_ms:?} {keep_bytes:?}");
        let kept = PartitionConfig { deletes: false, ..config };
        assert_eq!(plan(pieces.into_iter(), 330, &kept, Timestamp(10_000)), None);
    }

    #[test]
    fn what_goes_is_a_prefix_that_is_too_old_or_too_much() {
        check(None, None, None);
        // By time. A piece goes only with all before it; one without a time stays.
        check(Some(9_000), None, None);
        check(Some(8_999), None, Some(10));
        check(Some(5_000), None, Some(10));
        check(Some(4_999), None, Some(31));
        check(Some(0), None, Some(31));
        // By size. What is left is at least what is kept; the journal's batches stay.
        check(None, Some(231), None);
        check(None, Some(230), Some(10));
        check(None, Some(130), Some(20));
        check(None, Some(0), Some(30));
        // Both.
        check(Some(8_999), Some(130), Some(20));
    }
}
