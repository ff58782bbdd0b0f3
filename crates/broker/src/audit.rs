//! The audit at work: events wait in memory, and one task writes them to an internal topic.
//!
//! Nobody waits for it: who notes an event leaves it in a queue of a fixed size and goes on. What is
//! written here is no request, and is noted by nobody.
//!
//! Where the disk or the journal is full, changes that were made are written all the same, as they were made;
//! all else is refused as clients' records are, because anybody can be refused something as often as he likes,
//! and would use up what is set aside for what must go on.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use millstream_coordinator::audit::{Event, Level, Line, Queue};
use millstream_env::Env;
use millstream_log::Origin;
use millstream_record::batch::ValidBatch;
use millstream_record::builder::BatchBuilder;
use millstream_types::limits::BATCH_BYTES_CEILING;
use tokio::sync::{Notify, watch};
use tracing::{info, warn};

use crate::host::lock;
use crate::topics::{AUDIT_TOPIC, TopicRef};
use crate::{Broker, Inner};

/// How long events that may come in floods are collected before they are written: the same ones are counted
/// instead of written again, and what is written in a second is bounded by what waits at a time.
const COLLECT: Duration = Duration::from_millis(200);

/// How often all that has been collected waits for a log that does not take it, and how long: as long as that
/// recovers from a failure.
const PAUSES: u32 = 9;
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
    /// Whether the last that was to be written was refused.
    is_refused: AtomicBool,
    /// Held while something is written: what comes later is written behind it, and nobody closes the log before.
    writing: tokio::sync::Mutex<()>,
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
        let is_made = event.is_made();
        if !lock(&audit.queue).push(event, self.env().clock.wall()) {
            audit.dropped.fetch_add(1, Ordering::Relaxed);
        }
        audit.something.notify_one();
        if is_made {
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

    /// Writes all that waits, which may wait so often for the log; what can't be written counts as left out.
    pub(crate) async fn write_audit(&self, mut pauses: u32) {
        let audit = &self.0.audit;
        let _turn = audit.writing.lock().await;
        let lines = lock(&audit.queue).take(self.env().clock.wall());
        if lines.is_empty() {
            return;
        }
        let mut rest = &lines[..];
        let mut refused = None;
        while let Some((batch, lines)) = batch(rest) {
            match self.write_lines(batch, origin(lines), &mut pauses).await {
                Ok(()) => {
                    audit.records.fetch_add(lines.len() as u64, Ordering::Relaxed);
                }
                Err(why) => {
                    let lost = lock(&audit.queue).lost(lines);
                    audit.dropped.fetch_add(lost, Ordering::Relaxed);
                    refused = Some(why);
                }
            }
            rest = rest.get(lines.len()..).unwrap_or_default();
        }
        self.tell(refused);
    }

    /// Says when it begins that records are not written, and when that is over.
    fn tell(&self, refused: Option<String>) {
        let was_refused = self.0.audit.is_refused.swap(refused.is_some(), Ordering::Relaxed);
        match refused {
            Some(why) if !was_refused => warn!(why, "records of the audit are not written"),
            None if was_refused => info!("records of the audit are written again"),
            Some(_) | None => {}
        }
    }

    /// Writes them. It is tried again as long as it may be, because the log may just be recovering; not while the
    /// broker closes.
    async fn write_lines(
        &self,
        batch: BatchBuilder,
        origin: Origin,
        pauses: &mut u32,
    ) -> Result<(), String> {
        let batch = batch.build_valid().map_err(|error| error.to_string())?;
        let mut closing = self.0.closing.subscribe();
        loop {
            match self.write_batch(&batch, origin).await {
                Err(_) if *pauses > 0 => {
                    *pauses -= 1;
                    tokio::select! {
                        biased;
                        _ = closing.wait_for(|closing| *closing) => *pauses = 0,
                        () = self.env().sleep(PAUSE) => {}
                    }
                }
                done => return done,
            }
        }
    }

    async fn write_batch(&self, batch: &ValidBatch, origin: Origin) -> Result<(), String> {
        if self.topic(TopicRef::Name(AUDIT_TOPIC)).is_none() {
            let made = self.create_internal(AUDIT_TOPIC, 1, &CONFIGS).await;
            made.map_err(|error| error.to_string())?;
        }
        let durable = {
            let life = self.0.life();
            let topic = life.topics.find(TopicRef::Name(AUDIT_TOPIC));
            let partition = topic.as_ref().and_then(|topic| topic.partition(0));
            let partition = partition.ok_or("there is no such topic")?;
            let appended = partition.append(std::slice::from_ref(batch), origin);
            life.log.wait_durable(appended.map_err(|error| error.to_string())?.end)
        };
        durable.await.map_err(|error| error.to_string())
    }
}

/// How far they may use what is set aside.
fn origin(lines: &[Line]) -> Origin {
    match lines.first() {
        Some(first) if first.is_made => Origin::Internal,
        Some(_) | None => Origin::Client,
    }
}

/// As many of the first lines as make a batch, all of which were made or none; `None` when there is none left.
fn batch(lines: &[Line]) -> Option<(BatchBuilder, &[Line])> {
    let is_made = lines.first()?.is_made;
    let mut batch = BatchBuilder::new();
    let mut count = 0;
    for line in lines.iter().take_while(|line| line.is_made == is_made) {
        count += 1;
        let size =
            batch.append(line.at, Some(line.key.as_bytes()), Some(line.value.as_bytes()), &[]);
        if size >= BATCH_BYTES_MAX {
            break;
        }
    }
    Some((batch, lines.get(..count)?))
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
        Broker(inner).write_audit(PAUSES).await;
    }
}
