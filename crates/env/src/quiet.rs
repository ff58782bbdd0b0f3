//! Log lines that anybody can provoke: a few in a second from each address, and how many were left out.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millstream_types::Monotonic;

/// How many lines are written in a [`WINDOW`] for one address.
const LINES_MAX: u32 = 5;
/// The same for all together: who has many addresses fills no disk, either.
const LINES_OF_ALL_MAX: u32 = 50;

const WINDOW: Duration = Duration::from_secs(1);

/// Of how many addresses lines are counted apart. If there are more, the others have one count together.
const ADDRESSES_MAX: usize = 1_000;

/// Counts the lines of one kind.
#[derive(Debug, Default)]
pub struct Quiet(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    all: Counted,
    /// `None`: clients within the process, and those for whom there is no place.
    by_address: BTreeMap<Option<IpAddr>, Counted>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    since: Option<Monotonic>,
    lines: u32,
    left_out: u64,
}

impl Quiet {
    /// Whether a line may be written now of somebody at `address`, and how many of him were left out since the
    /// last one.
    pub fn may_say(&self, address: Option<IpAddr>, now: Monotonic) -> Option<u64> {
        // Nothing under this lock can leave a change half done.
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Counts { all, by_address } = &mut *counts;
        if by_address.len() >= ADDRESSES_MAX && !by_address.contains_key(&address) {
            let mut forgotten = 0;
            by_address.retain(|_, counted| {
                let stays = !counted.is_over(now);
                forgotten += if stays { 0 } else { counted.left_out };
                stays
            });
            by_address.entry(None).or_default().left_out += forgotten;
        }
        let has_place = by_address.len() < ADDRESSES_MAX || by_address.contains_key(&address);
        let counted = by_address.entry(address.filter(|_| has_place)).or_default();
        counted.roll(now);
        all.roll(now);
        if counted.lines >= LINES_MAX || all.lines >= LINES_OF_ALL_MAX {
            counted.left_out += 1;
            return None;
        }
        counted.lines += 1;
        all.lines += 1;
        Some(std::mem::take(&mut counted.left_out))
    }
}

impl Counted {
    fn is_over(&self, now: Monotonic) -> bool {
        self.since.is_none_or(|since| now.since(since) >= WINDOW)
    }

    fn roll(&mut self, now: Monotonic) {
        if self.is_over(now) {
            self.since = Some(now);
            self.lines = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn address(number: u32) -> Option<IpAddr> {
        Some(IpAddr::V4((0x0a00_0000 + number).into()))
    }

    #[test]
    fn lines_are_few_in_a_second_and_the_others_are_counted() {
        let quiet = Quiet::default();
        let said = |who, seconds| quiet.may_say(who, Monotonic(seconds * SECOND));
        let lines = |who, seconds| (0..20).filter_map(|_| said(who, seconds)).collect::<Vec<_>>();
        assert_eq!(lines(address(1), 0), [0; 5]);
        assert_eq!(lines(address(2), 0), [0; 5], "one does not silence another");
        assert_eq!(lines(None, 0), [0; 5]);
        assert_eq!(lines(address(1), 1), [15, 0, 0, 0, 0]);
        assert_eq!(said(address(1), 9), Some(15));
    }

    #[test]
    fn many_addresses_write_few_lines_and_take_little_memory() {
        let quiet = Quiet::default();
        let said = (0..5_000).filter(|one| quiet.may_say(address(*one), Monotonic(0)).is_some());
        assert_eq!(said.count(), 50);
        assert!(quiet.0.lock().expect("sound").by_address.len() <= ADDRESSES_MAX + 1);
    }
}
