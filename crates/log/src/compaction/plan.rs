//! When a partition is compacted, and which of its segments: pure functions of what it has.
//!
//! The rules are Kafka's (`LogCleanerManager`). The segments that compaction wrote come first; what comes
//! behind them is dirty. Of that, it may take what is older than the least lag and ends below the last
//! stable offset, segment by segment. It is time when the dirty part is more than a share of all that
//! would be read, or when the oldest dirty record has waited for the longest lag.

use std::ops::Range;
use std::time::Duration;

use millstream_types::{Offset, Timestamp};

/// A segment, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Piece {
    /// One past its last offset.
    pub(crate) end: Offset,
    pub(crate) bytes: u64,
    /// The time of its newest record, or when it was written.
    pub(crate) newest: Timestamp,
    pub(crate) is_compacted: bool,
    /// Whether something in it can't be read: it stays as it is.
    pub(crate) is_damaged: bool,
    /// Whether records between it and the one before are lost.
    pub(crate) is_behind_lost: bool,
}

/// What the topic asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Terms {
    /// The share of dirty bytes above which a partition is compacted.
    pub(crate) dirty_ratio: f64,
    pub(crate) lag_min: Duration,
    pub(crate) lag_max: Option<Duration>,
}

/// What is to be done with a partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Verdict {
    /// Nothing before it has more segments.
    Rest,
    /// Look again then.
    LookAt(Timestamp),
    /// Look again when a transaction has ended.
    Open,
    /// Say how old the first dirty segment's oldest record is: that decides.
    AskOldest { from: usize },
    /// Compact the first so many segments, of which those from `from` on are dirty. `ratio` is the
    /// share of the latter.
    Compact { from: usize, upto: usize, ratio: f64, is_late: bool },
}

/// Decides at `now` on segments in order. `oldest` is the time of the first dirty batch, where that was
/// asked for before.
pub(crate) fn plan(
    pieces: &[Piece],
    last_stable: Offset,
    terms: &Terms,
    oldest: Option<Timestamp>,
    now: Timestamp,
) -> Verdict {
    let is_dirty = |piece: &Piece| !piece.is_compacted && !piece.is_damaged;
    let Some(from) = pieces.iter().position(is_dirty) else { return Verdict::Rest };
    let rest = pieces.get(from..).unwrap_or_default();
    let is_old = |piece: &Piece| terms.lag_min.is_zero() || piece.newest.plus(terms.lag_min) <= now;
    let count = rest.iter().take_while(|p| p.end <= last_stable && is_old(p)).count();
    let upto = from + count;
    let bytes = |range: Range<usize>, all: bool| -> u64 {
        let pieces = pieces.get(range).unwrap_or_default().iter();
        pieces.filter(|piece| all || is_dirty(piece)).map(|piece| piece.bytes).sum()
    };
    let (dirty, all) = (bytes(from..upto, false), bytes(0..upto, true));
    let blocked = match rest.get(count) {
        None => Verdict::Rest,
        Some(piece) if piece.end > last_stable => Verdict::Open,
        Some(piece) => Verdict::LookAt(piece.newest.plus(terms.lag_min)),
    };
    if dirty == 0 {
        return blocked;
    }
    let ratio = dirty as f64 / all as f64;
    if ratio > terms.dirty_ratio {
        return Verdict::Compact { from, upto, ratio, is_late: false };
    }
    let Some(lag_max) = terms.lag_max else { return blocked };
    // As in Kafka, the longest lag is never below the least.
    let late_at = match oldest {
        None => return Verdict::AskOldest { from },
        Some(oldest) => oldest.plus(lag_max.max(terms.lag_min)),
    };
    if late_at <= now {
        return Verdict::Compact { from, upto, ratio, is_late: true };
    }
    match blocked {
        Verdict::LookAt(at) => Verdict::LookAt(at.min(late_at)),
        Verdict::Open => Verdict::Open,
        _ => Verdict::LookAt(late_at),
    }
}

/// Groups of neighbours that are written as one: of at most so many bytes, without damage, and with
/// nothing lost in between.
pub(crate) fn groups(pieces: &[Piece], bytes_max: u64) -> Vec<Range<usize>> {
    let mut groups: Vec<Range<usize>> = Vec::new();
    let mut bytes = 0;
    for (at, piece) in pieces.iter().enumerate() {
        if piece.is_damaged {
            continue;
        }
        bytes += piece.bytes;
        let goes_on = !piece.is_behind_lost && bytes <= bytes_max;
        match groups.last_mut().filter(|last| last.end == at && goes_on) {
            Some(last) => last.end = at + 1,
            None => {
                groups.push(at..at + 1);
                bytes = piece.bytes;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pieces of ten offsets: `c` compacted, `x` damaged, `l` behind a loss, else dirty; with bytes.
    fn pieces(of: &[(char, u64)]) -> Vec<Piece> {
        let piece = |(at, (kind, bytes)): (i64, &(char, u64))| Piece {
            end: Offset(at * 10),
            bytes: *bytes,
            newest: Timestamp(at * 1_000),
            is_compacted: *kind == 'c',
            is_damaged: *kind == 'x',
            is_behind_lost: *kind == 'l',
        };
        (1..).zip(of).map(piece).collect()
    }

    const NOW: Timestamp = Timestamp(10_000);

    fn terms(lag_min: u64, lag_max: Option<u64>) -> Terms {
        Terms {
            dirty_ratio: 0.5,
            lag_min: Duration::from_millis(lag_min),
            lag_max: lag_max.map(Duration::from_millis),
        }
    }

    fn due(from: usize, upto: usize, ratio: f64) -> Verdict {
        Verdict::Compact { from, upto, ratio, is_late: false }
    }

    #[track_caller]
    fn check(of: &[(char, u64)], last_stable: i64, lag_min: u64, verdict: Verdict) {
        let found = plan(&pieces(of), Offset(last_stable), &terms(lag_min, None), None, NOW);
        assert_eq!(found, verdict, "{of:?}");
    }

    #[test]
    fn what_is_dirty_decides() {
        check(&[], 0, 0, Verdict::Rest);
        check(&[('c', 5)], 10, 0, Verdict::Rest);
        check(&[('d', 5)], 10, 0, due(0, 1, 1.0));
        check(&[('c', 5), ('d', 5)], 20, 0, Verdict::Rest);
        check(&[('c', 5), ('d', 4), ('d', 4)], 30, 0, due(1, 3, 8.0 / 13.0));
        // Damage stays, and does not count.
        check(&[('x', 50)], 10, 0, Verdict::Rest);
        check(&[('x', 1), ('d', 5)], 20, 0, due(1, 2, 5.0 / 6.0));
        check(&[('d', 2), ('x', 5)], 20, 0, Verdict::Rest);
    }

    #[test]
    fn what_is_young_or_not_decided_waits() {
        check(&[('d', 5)], 9, 0, Verdict::Open);
        check(&[('d', 5), ('d', 5)], 19, 0, due(0, 1, 1.0));
        check(&[('c', 9), ('d', 5), ('d', 5)], 29, 0, Verdict::Open);
        check(&[('d', 5), ('d', 5)], 20, 9_000, due(0, 1, 1.0));
        check(&[('d', 5)], 10, 9_001, Verdict::LookAt(Timestamp(10_001)));
        check(&[('c', 9), ('d', 5), ('d', 5)], 30, 7_500, Verdict::LookAt(Timestamp(10_500)));
    }

    #[test]
    fn what_has_waited_for_long_is_due_however_little() {
        let pieces = pieces(&[('c', 99), ('d', 1)]);
        let plan = |oldest, lag_min, lag_max| {
            let terms = terms(lag_min, Some(lag_max));
            plan(&pieces, Offset(20), &terms, oldest, NOW)
        };
        let late = Verdict::Compact { from: 1, upto: 2, ratio: 0.01, is_late: true };
        assert_eq!(plan(None, 0, 5), Verdict::AskOldest { from: 1 });
        assert_eq!(plan(Some(Timestamp(2_000)), 0, 8_000), late);
        let waits = Verdict::LookAt(Timestamp(10_001));
        assert_eq!(plan(Some(Timestamp(2_000)), 0, 8_001), waits);
        assert_eq!(plan(Some(Timestamp(2_000)), 9_000, 5), Verdict::LookAt(Timestamp(11_000)));
    }

    #[test]
    fn groups_are_neighbours_up_to_a_size() {
        for (of, expected) in [
            (&[('c', 5), ('d', 5), ('d', 1)][..], vec![0..2, 2..3]),
            (&[('c', 11), ('d', 5), ('d', 5)], vec![0..1, 1..3]),
            (&[('c', 1), ('x', 1), ('d', 1), ('d', 1)], vec![0..1, 2..4]),
            (&[('c', 1), ('l', 1), ('d', 1)], vec![0..1, 1..3]),
            (&[('x', 1)], vec![]),
        ] {
            assert_eq!(groups(&pieces(of), 10), expected, "{of:?}");
        }
    }
}
