//! What becomes of an append when it is durable: watermarks move, readers wake, replies go out.
//!
//! Appends of all partitions queue here in the order of their positions. Whoever makes the journal
//! durable takes from the queue's front what that is about, so that its work is in proportion to what
//! changed. Watermarks move before waiters complete: who has its reply can read
//! its record. An append that comes here after the news of its own durability moves its watermark
//! itself, before anybody can wait for it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use millstream_env::{JournalState, JournalStatus};
use millstream_types::{Lsn, Offset};
use tokio::sync::{oneshot, watch};

use crate::error::SessionOver;
use crate::partition::Shared;
use crate::util::locked;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Durable {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    /// What was taken from `pending`.
    taken: Lsn,
    /// What is visible and may be answered.
    done: Lsn,
    /// Whether nothing will be durable any more.
    over: bool,
    /// By position.
    pending: VecDeque<Pending>,
    waiters: BTreeMap<(Lsn, u64), oneshot::Sender<Result<(), SessionOver>>>,
    waiter_next: u64,
}

#[derive(Debug)]
struct Pending {
    end: Lsn,
    partition: Arc<Shared>,
    log_end: Offset,
}

impl Durable {
    /// A partition's log ends at `log_end` once `end` is durable. Called under the partition's
    /// lock, so that one partition's appends come in order. Returns whether it is durable already:
    /// then the caller makes it visible, before it lets go of the lock.
    #[must_use]
    pub(crate) fn push(&self, end: Lsn, partition: &Arc<Shared>, log_end: Offset) -> bool {
        let mut queue = locked(&self.queue);
        // What was taken has been taken without it: nobody else would come for it.
        if end <= queue.taken {
            return true;
        }
        let pending = Pending { end, partition: Arc::clone(partition), log_end };
        // Two partitions may come in another order than they got their positions in.
        let mut at = queue.pending.len();
        while at > 0 && queue.pending.get(at - 1).is_some_and(|before| before.end > end) {
            at -= 1;
        }
        queue.pending.insert(at, pending);
        false
    }

    /// Everything below is visible.
    pub(crate) fn done(&self) -> Lsn {
        locked(&self.queue).done
    }

    /// Whether the session is over.
    pub(crate) fn is_over(&self) -> bool {
        locked(&self.queue).over
    }

    /// Completes when everything below `end` is durable and visible.
    ///
    /// # Errors
    ///
    /// [`SessionOver`] when it will never be.
    pub(crate) fn wait(
        &self,
        end: Lsn,
    ) -> impl Future<Output = Result<(), SessionOver>> + Send + 'static + use<> {
        let ready = {
            let mut queue = locked(&self.queue);
            if end <= queue.done {
                Ok(())
            } else if queue.over {
                Err(Err(SessionOver))
            } else {
                let (tell, told) = oneshot::channel();
                let key = (end, queue.waiter_next);
                queue.waiter_next += 1;
                queue.waiters.insert(key, tell);
                Err(Ok(told))
            }
        };
        async move {
            match ready {
                Ok(()) => Ok(()),
                Err(Err(over)) => Err(over),
                // The sender goes only with the log itself.
                Err(Ok(told)) => told.await.unwrap_or(Err(SessionOver)),
            }
        }
    }

    /// Follows the journal until its session is over or its log is gone. `listens`: the journal itself
    /// calls [`Durable::advance`] until then.
    pub(crate) async fn follow(
        self: Arc<Self>,
        mut status: watch::Receiver<JournalStatus>,
        listens: bool,
    ) {
        loop {
            let now = status.borrow_and_update().clone();
            // Two at a time would answer for each other's appends before those are visible.
            if !listens || now.state != JournalState::Open {
                self.advance(now.durable);
            }
            if now.state != JournalState::Open {
                self.end(&now.state);
                return;
            }
            if status.changed().await.is_err() {
                self.end(&JournalState::Closed);
                return;
            }
        }
    }

    /// Makes everything below `durable` visible, then answers for it. Called by one at a time.
    pub(crate) fn advance(&self, durable: Lsn) {
        let ripe = {
            let mut queue = locked(&self.queue);
            queue.taken = queue.taken.max(durable);
            let upto = queue.taken;
            let count = queue.pending.partition_point(|pending| pending.end <= upto);
            queue.pending.drain(..count).collect::<Vec<_>>()
        };
        // Consecutive appends of one partition cost one lock.
        let mut rest = ripe.iter().peekable();
        while let Some(pending) = rest.next() {
            let goes_on =
                rest.peek().is_some_and(|next| Arc::ptr_eq(&next.partition, &pending.partition));
            if !goes_on {
                pending.partition.advance(pending.log_end);
            }
        }
        let answered = {
            let mut queue = locked(&self.queue);
            queue.done = queue.done.max(durable);
            let after = Lsn(queue.done.0.saturating_add(1));
            let later = queue.waiters.split_off(&(after, 0));
            std::mem::replace(&mut queue.waiters, later)
        };
        for tell in answered.into_values() {
            // Whoever has stopped waiting does not mind.
            let _ = tell.send(Ok(()));
        }
    }

    /// Tells everybody who waits that nothing will be durable any more.
    pub(crate) fn end(&self, why: &JournalState) {
        if let JournalState::Failed(why) = why {
            tracing::error!(%why, "the journal failed: the session is over");
        }
        let failed = {
            let mut queue = locked(&self.queue);
            queue.over = true;
            std::mem::take(&mut queue.waiters)
        };
        for tell in failed.into_values() {
            let _ = tell.send(Err(SessionOver));
        }
    }
}
