//! What becomes of a record that was handed to a producer.

use std::sync::{Arc, OnceLock};

use millstream_types::{Offset, Timestamp};
use tokio::sync::Notify;

use crate::cluster::TopicPartition;
use crate::error::Error;

/// A record, or a batch, on its way. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Delivery {
    outcome: Arc<Outcome>,
    /// The record's place in its batch.
    index: i32,
}

/// A record that the broker has acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivered {
    /// Where it is.
    pub partition: TopicPartition,
    /// Its offset; `None` when the broker does not say (`acks=0`, or a repetition that was
    /// recognised so late that its place is no longer known).
    pub offset: Option<Offset>,
    /// The time that the broker has given it, under log-append time.
    pub log_append_time: Option<Timestamp>,
}

/// What becomes of a batch; shared by its records.
#[derive(Debug)]
pub(super) struct Outcome {
    partition: TopicPartition,
    result: OnceLock<Result<Stored, Error>>,
    done: Notify,
}

/// Where a batch was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) base_offset: Option<Offset>,
    pub(super) log_append_time: Option<Timestamp>,
}

impl Outcome {
    pub(super) fn new(partition: TopicPartition) -> Arc<Self> {
        Arc::new(Self { partition, result: OnceLock::new(), done: Notify::new() })
    }

    /// Only the first call has an effect.
    pub(super) fn complete(&self, result: Result<Stored, Error>) {
        let _ = self.result.set(result);
        self.done.notify_waiters();
    }

    pub(super) async fn wait(&self) -> &Result<Stored, Error> {
        loop {
            let mut done = std::pin::pin!(self.done.notified());
            // From here on no completion is missed.
            done.as_mut().enable();
            if let Some(result) = self.result.get() {
                return result;
            }
            done.await;
        }
    }
}

impl Delivery {
    pub(super) const fn new(outcome: Arc<Outcome>, index: i32) -> Self {
        Self { outcome, index }
    }

    /// Whether both are of the same batch, and so share their fate.
    #[must_use]
    pub fn is_with(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.outcome, &other.outcome)
    }

    /// Whether it is decided.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.outcome.result.get().is_some()
    }

    /// Waits until the record is acknowledged, or certainly will not be.
    ///
    /// # Errors
    ///
    /// Why it was not acknowledged. Only for [`Error::Refused`] it is certain that it was not
    /// stored.
    pub async fn delivered(&self) -> Result<Delivered, Error> {
        let Stored { base_offset, log_append_time } = self.outcome.wait().await.clone()?;
        Ok(Delivered {
            partition: self.outcome.partition.clone(),
            offset: base_offset.map(|base| base.plus(i64::from(self.index))),
            log_append_time,
        })
    }
}
