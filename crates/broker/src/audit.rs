//! The audit at work: events wait in memory, and one task writes them to an internal topic.
//!
//! Nobody waits for it: who notes an event leaves it in a queue of a fixed size and goes on. What is
//! written here is no request, and is noted by nobody.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use millstream_coordinator::audit::{Event, Kind, Level, Line, Queue};
use millstream_env::Env;
use millstream_log::Origin;
use millstream_record::batch::ValidBatch;
use millstream_record::builder::BatchBuilder;
use millstream_types::limits::BATCH_BYTES_CEILING;
use tokio::sync::{Notify, watch};
use tracing::warn;

use crate::host::lock;
use crate::topics::{AUDIT_TOPIC, TopicRef};
use crate::{Broker, Inner};

/// How long events that may come in floods are collected before they are written: the same ones are counted
/// instead of written again, and what is written in a second is bounded by what waits at a time.
const COLLECT: Duration = Duration::from_millis(200);

/// How often it is tried to write what the log does not take, and how long the pauses are: as long as it
/// recovers from a failure.
const ATTEMPTS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// The largest batch, in bytes: far less than a topic must take.
const BATCH_BYTES_MAX: usize = 256 * 1024;
const _: () = assert!(BATCH_BYTES_MAX < BATCH_BYTES_CEILING);

/// How long records are kept, and how many bytes of them: whoever may alter the topic can say otherwise.
const CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "delete"),
    // Thirty days.
    ("retention.ms", "2592000000"),
    ("retention.bytes", "1073741824"),
];

/// All of it.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    queue: Mutex<Queue>,
    /// Something waits to be written.
    something: Notify,
    /// Something waits that should not wait longer.
    soon: Notify,
    records: AtomicU64,
    dropped: AtomicU64,
}

/// What the audit has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditCounts {
    /// Records that were written.
    pub records: u64,
    /// Events that were left out.
    pub dropped: u64,
}

impl Broker {
    /// Whether events of that level are noted.
    #[must_use]
    pub fn audits(&self, level: Level) -> bool {
        level <= self.config().audit
    }

    /// Notes an event, if it is of a level that is noted. Takes no time.
    pub fn audit(&self, event: Event) {
        if !self.audits(event.level()) {
            return;
        }
        let audit = &self.0.audit;
        let is_change = event.kind() == Kind::Change;
        if !lock(&audit.queue).push(event, self.env().clock.wall()) {
            audit.dropped.fetch_add(1, Ordering::Relaxed);
        }
        audit.something.notify_one();
        if is_change {
            audit.soon.notify_one();
        }
    }

    /// What the audit has counted.
    #[must_use]
    pub fn audit_counts(&self) -> AuditCounts {
        AuditCounts {
            records: self.0.audit.records.load(Ordering::Relaxed),
            dropped: self.0.audit.dropped.load(Ordering::Relaxed),
        }
    }

    /// Writes all that waits; what can't be written counts as left out.
    pub(crate) async fn write_audit(&self, attempts: u32) {
        let lines = lock(&self.0.audit.queue).take(self.env().clock.wall());
        let mut rest = &lines[..];
        while let Some((batch, count)) = batch(rest) {
            let written = self.write_lines(batch, attempts).await;
            let audit = &self.0.audit;
            let counter = if written { &audit.records } else { &audit.dropped };
            counter.fetch_add(count as u64, Ordering::Relaxed);
            if !written {
                lock(&audit.queue).lost(count as u64);
            }
            rest = rest.get(count..).unwrap_or_default();
        }
    }

    /// Whether it is written. It is tried again for a while: the log may just be recovering.
    async fn write_lines(&self, batch: BatchBuilder, attempts: u32) -> bool {
        let batch = match batch.build_valid() {
            Ok(batch) => batch,
            Err(error) => {
                warn!(%error, "records of the audit that the log does not take");
                return false;
            }
        };
        for attempt in 1..=attempts {
            match self.write_batch(&batch).await {
                Ok(()) => return true,
                Err(error) if attempt == attempts => {
                    warn!(error, "records of the audit were not written");
                }
                Err(_) => self.env().sleep(PAUSE).await,
            }
        }
        false
    }

    async fn write_batch(&self, batch: &ValidBatch) -> Result<(), String> {
        if self.topic(TopicRef::Name(AUDIT_TOPIC)).is_none() {
            let made = self.create_internal(AUDIT_TOPIC, 1, &CONFIGS).await;
            made.map_err(|error| error.to_string())?;
        }
        let durable = {
            let life = self.0.life();
            let topic = life.topics.find(TopicRef::Name(AUDIT_TOPIC));
            let partition = topic.as_ref().and_then(|topic| topic.partition(0));
            let partition = partition.ok_or("there is no such topic")?;
            let appended = partition.append(std::slice::from_ref(batch), Origin::Internal);
            life.log.wait_durable(appended.map_err(|error| error.to_string())?.end)
        };
        durable.await.map_err(|error| error.to_string())
    }
}

/// As many of the first lines as make a batch, and how many they are; `None` when there is none left.
fn batch(lines: &[Line]) -> Option<(BatchBuilder, usize)> {
    let mut batch = BatchBuilder::new();
    let mut count = 0;
    for line in lines {
        count += 1;
        let size =
            batch.append(line.at, Some(line.key.as_bytes()), Some(line.value.as_bytes()), &[]);
        if size >= BATCH_BYTES_MAX {
            break;
        }
    }
    (count > 0).then_some((batch, count))
}

/// Writes what is noted, until the broker closes, which writes the rest, or is gone.
pub(crate) async fn write(
    audit: Arc<Audit>,
    broker: Weak<Inner>,
    mut closing: watch::Receiver<bool>,
    env: Env,
) {
    loop {
        let wait = async {
            audit.something.notified().await;
            tokio::select! {
                biased;
                () = audit.soon.notified() => {}
                () = env.sleep(COLLECT) => {}
            }
        };
        tokio::select! {
            biased;
            _ = closing.changed() => return,
            () = wait => {}
        }
        let Some(inner) = broker.upgrade() else { return };
        Broker(inner).write_audit(ATTEMPTS).await;
    }
}
