//! Small things that several implementations need.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::stream::{self, BoxStream};
use tokio::sync::mpsc;

use crate::disk::Disk;

/// So many items may wait for who takes them.
const PUMPED_AHEAD: usize = 4;

/// Locks. Who panicked while holding the lock has left nothing half done: every holder changes
/// the state in one step, after everything that can fail.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `work`, which calls `disk`, without holding up an async thread.
pub(crate) async fn blocking<T: Send + 'static>(
    disk: &Arc<dyn Disk>,
    work: impl FnOnce() -> T + Send + 'static,
) -> T {
    if disk.in_memory() {
        // So that others get their turn here, as they do on a real disk.
        tokio::task::yield_now().await;
        if let Some(pause) = disk.pause() {
            pause.await;
        }
        return work();
    }
    #[expect(clippy::disallowed_methods, reason = "this is where blocking work is moved off")]
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going down, and whoever waits goes with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Runs `next` as long as it returns something, ahead of who takes it where the disk is a real one.
pub(crate) fn pumped<T: Send + 'static, E: Send + 'static>(
    disk: &Arc<dyn Disk>,
    mut next: impl FnMut() -> Result<Option<T>, E> + Send + 'static,
) -> BoxStream<'static, Result<T, E>> {
    if disk.in_memory() {
        return Box::pin(stream::try_unfold((next, Arc::clone(disk)), |(mut next, disk)| async {
            tokio::task::yield_now().await;
            if let Some(pause) = disk.pause() {
                pause.await;
            }
            Ok(next()?.map(|item| (item, (next, disk))))
        }));
    }
    let (sender, receiver) = mpsc::channel(PUMPED_AHEAD);
    let work = move || {
        while let Some(item) = next().transpose() {
            let goes_on = item.is_ok();
            // Nobody may listen any more.
            if sender.blocking_send(item).is_err() || !goes_on {
                break;
            }
        }
    };
    #[expect(clippy::disallowed_methods, reason = "this is where blocking work is moved off")]
    let task = tokio::task::spawn_blocking(work);
    Box::pin(stream::unfold((receiver, task), |(mut receiver, task)| async move {
        let item = receiver.recv().await?;
        Some((item, (receiver, task)))
    }))
}

/// Deterministic randomness for simulations: the same seed, the same numbers (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that depend on `seed` only.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number: any.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`; 0 when that is 0.
    pub const fn below(&mut self, end: u64) -> u64 {
        // The bias is of no interest here.
        if end == 0 { 0 } else { self.next() % end }
    }

    /// A share of 255 for [`Dice::chance`]: often all or nothing, which are the cases that matter.
    pub const fn share(&mut self) -> u8 {
        match self.below(5) {
            0 => 0,
            1 => 255,
            2 => 26,
            3 => 230,
            _ => 128,
        }
    }

    /// Yes in `share` of 255 cases.
    pub const fn chance(&mut self, share: u8) -> bool {
        self.below(255) < share as u64
    }
}
