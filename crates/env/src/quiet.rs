//! Log lines that anybody can provoke: a few in a second, and how many were left out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millstream_types::Monotonic;

/// How many lines are written in a [`WINDOW`].
const LINES_MAX: u32 = 5;

const WINDOW: Duration = Duration::from_secs(1);

/// Counts the lines of one kind.
#[derive(Debug, Default)]
pub struct Quiet(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    since: Option<Monotonic>,
    lines: u32,
    left_out: u64,
}

impl Quiet {
    /// Whether a line may be written now, and how many were left out since the last one.
    pub fn may_say(&self, now: Monotonic) -> Option<u64> {
        // Nothing under this lock can leave a change half done.
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if counted.since.is_none_or(|since| now.since(since) >= WINDOW) {
            counted.since = Some(now);
            counted.lines = 0;
        }
        if counted.lines >= LINES_MAX {
            counted.left_out += 1;
            return None;
        }
        counted.lines += 1;
        Some(std::mem::take(&mut counted.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_few_in_a_second_and_the_others_are_counted() {
        let quiet = Quiet::default();
        let said = |seconds: u64| quiet.may_say(Monotonic(seconds * 1_000_000_000));
        let lines = |seconds| (0..20).filter_map(|_| said(seconds)).collect::<Vec<_>>();
        assert_eq!(lines(0), [0; 5]);
        assert_eq!(lines(1), [15, 0, 0, 0, 0]);
        assert_eq!(said(9), Some(15));
    }
}
