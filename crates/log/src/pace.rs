//! How fast batches are laid out, beside producers who wait for the same disk.
//!
//! A disk that takes megabytes at a time lets the journal's small writes wait behind them: on the machine
//! where this was measured, runs written as fast as possible raised the 99th percentile of a flush from
//! 0.3 to 14 ms, and at twice the rate of the producers to 0.5 ms. So layout takes small steps while it
//! is in time. It hurries when the journal needs its space back, or when batches would fall out of
//! memory before it has come to them: it would have to read them back, and fall behind further. Then
//! those who write much wait for it, too.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use millstream_types::{Lsn, Monotonic};
use tokio::sync::watch;

use crate::settings::LogSettings;

/// For each byte that is appended meanwhile so many may be laid out: it never falls behind by going slowly.
const PER_APPENDED: u64 = 2;

/// How much is written in one step, in bytes.
pub(crate) const STEP_BYTES: u64 = 256 * 1024;

/// After so long it is looked again how fast things come.
const LOOK_AFTER: Duration = Duration::from_millis(5);

/// What waits for layout, and how that goes on.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Bytes of batches that are in the journal only.
    backlog: AtomicU64,
    /// The size of the memory that they are in at first, in bytes.
    tail_bytes: u64,
    /// So much is laid out when nothing is appended, in bytes per second; `None`: as much as the disk takes.
    rate: Option<u64>,
    /// Whether a blob of them is being written.
    writing: AtomicBool,
    /// Changes each time that one was.
    news: watch::Sender<()>,
}

/// Notes that a blob is being written, until it is dropped.
pub(crate) struct Writing<'a>(&'a Pace);

/// One blob on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Steps {
    begun: Monotonic,
    /// The journal's end then.
    from: Lsn,
    /// Bytes written since.
    written: u64,
    /// Those of them that belong to the step that is being made.
    step: u64,
}

impl Pace {
    pub(crate) fn new(backlog: u64, settings: &LogSettings) -> Self {
        Self {
            backlog: AtomicU64::new(backlog),
            tail_bytes: settings.tail_bytes,
            rate: settings.layout_rate,
            writing: AtomicBool::new(false),
            news: watch::channel(()).0,
        }
    }

    /// Bytes of batches that are in the journal only.
    pub(crate) fn backlog_bytes(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// A partition's part of the backlog has changed, under its lock.
    pub(crate) fn note(&self, before: u64, after: u64) {
        // Wraps around where it is less: the sum of all parts is right in the end, and in between.
        self.backlog.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// Begins to write a blob.
    pub(crate) fn begin(&self) -> Writing<'_> {
        self.writing.store(true, Ordering::Relaxed);
        Writing(self)
    }

    /// Whether layout should not spare the disk any more.
    pub(crate) fn hurries(&self) -> bool {
        self.backlog_bytes() > self.tail_bytes / 4 * 3
    }

    /// Whether what comes now will fall out of memory before it is laid out, and layout is about to make
    /// that better.
    pub(crate) fn is_behind(&self) -> bool {
        self.writing.load(Ordering::Relaxed) && self.backlog_bytes() > self.tail_bytes / 8 * 7
    }

    /// Changes when [`Pace::is_behind`] may not be so any more.
    pub(crate) fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.0.writing.store(false, Ordering::Relaxed);
        self.0.news.send_replace(());
    }
}

impl Steps {
    /// Begins when the journal ends at `from`.
    pub(crate) const fn new(begun: Monotonic, from: Lsn) -> Self {
        Self { begun, from, written: 0, step: 0 }
    }

    /// So many bytes were handed to the store. Whether a step is made with them: then it is time to see
    /// whether the next is due.
    pub(crate) const fn add(&mut self, bytes: u64) -> bool {
        self.written += bytes;
        self.step += bytes;
        let is_made = self.step >= STEP_BYTES;
        if is_made {
            self.step = 0;
        }
        is_made
    }

    /// How long to wait before it is looked again whether the next step is due; `None` when it is.
    pub(crate) fn pause(&self, pace: &Pace, now: Monotonic, end: Lsn) -> Option<Duration> {
        let rate = pace.rate.filter(|_| !pace.hurries())?.max(1);
        let ahead = self.written.saturating_sub(self.allowed(rate, now, end));
        let pause = Duration::from_secs(1).mul_f64(ahead as f64 / rate as f64);
        (ahead > 0).then_some(pause.min(LOOK_AFTER))
    }

    /// How much should have been written by now.
    fn allowed(&self, rate: u64, now: Monotonic, end: Lsn) -> u64 {
        let appended = end.0.saturating_sub(self.from.0);
        let rested = (now.since(self.begun).as_secs_f64() * rate as f64) as u64;
        rested.saturating_add(appended.saturating_mul(PER_APPENDED))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1024 * 1024;

    #[track_caller]
    fn check((backlog, seconds, appended, written): (u64, u64, u64, u64), ahead: bool) {
        let pace = Pace::new(backlog * MIB, &LogSettings::default());
        let mut steps = Steps::new(Monotonic(7), Lsn(5));
        steps.add(written * MIB);
        let now = Monotonic(7).plus(Duration::from_secs(seconds));
        let end = Lsn(5 + appended * MIB);
        assert_eq!(steps.pause(&pace, now, end), ahead.then_some(LOOK_AFTER));
    }

    #[test]
    fn layout_goes_twice_as_fast_as_what_comes_unless_it_is_late() {
        check((40, 0, 0, 0), false);
        check((40, 0, 0, 1), true);
        check((40, 1, 0, 32), false);
        check((40, 1, 0, 33), true);
        check((40, 1, 20, 72), false);
        check((40, 1, 20, 73), true);
        check((49, 1, 20, 73), false);
    }

    #[test]
    fn the_wait_is_as_long_as_what_is_ahead_takes() {
        let pace = Pace::new(0, &LogSettings::default());
        let mut steps = Steps::new(Monotonic(0), Lsn(0));
        assert!(!steps.add(STEP_BYTES - 1));
        assert!(steps.add(1));
        assert!(!steps.add(1), "the next one has begun");
        let later = Monotonic(0).plus(Duration::from_millis(7));
        let pause = steps.pause(&pace, later, Lsn(0)).unwrap();
        assert_eq!(pause.as_micros(), 812, "a quarter of a MiB takes 7,812 us");
        assert_eq!(steps.pause(&pace, later.plus(pause).plus(LOOK_AFTER), Lsn(0)), None);
    }

    #[test]
    fn who_writes_much_waits_only_while_a_blob_is_on_its_way() {
        let pace = Pace::new(56 * MIB + 1, &LogSettings::default());
        let news = pace.news();
        assert!(!pace.is_behind(), "nothing would make it better");
        let writing = pace.begin();
        assert!(pace.is_behind());
        pace.note(9 * MIB, 8 * MIB);
        assert!(!pace.is_behind());
        pace.note(8 * MIB, 9 * MIB);
        assert!(pace.is_behind());
        assert!(!news.has_changed().unwrap());
        drop(writing);
        assert!(!pace.is_behind());
        assert!(news.has_changed().unwrap());
    }
}
