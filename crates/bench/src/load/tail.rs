//! End-to-end latency: one consumer at the end of the log, as a client reads it, while records are
//! produced at a fixed rate. From the moment at which a record was due to the one at which its batch
//! has been read.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::ensure;
use millstream_record::BatchHeader;
use millstream_record::batch::split;
use millstream_wire::fetch_request::{FetchPartition, FetchTopic};
use millstream_wire::{ErrorCode, FetchRequest, StrBytes};

use super::paced::{Due, Waits};
use crate::peer::Peer;

/// The newest that names topics.
const FETCH_VERSION: i16 = 12;

/// The defaults of `fetch.max.bytes`, `max.partition.fetch.bytes` and `fetch.max.wait.ms`.
const BYTES_MAX: i32 = 50 << 20;
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const WAIT_MAX_MS: i32 = 500;

/// A consumer at the end, in a thread of the runtime.
#[derive(Debug)]
pub(crate) struct Tailing {
    stop: Arc<AtomicBool>,
    reading: tokio::task::JoinHandle<anyhow::Result<Vec<Seen>>>,
}

/// A batch that has come.
#[derive(Debug)]
struct Seen {
    partition: i32,
    base: usize,
    last: usize,
    at: Instant,
}

impl Tailing {
    /// Begins to read all partitions of a topic that is still empty. To be called on the runtime.
    ///
    /// # Errors
    ///
    /// When nothing listens there.
    pub(crate) async fn start(
        address: SocketAddr,
        topic: &str,
        partitions: i32,
    ) -> anyhow::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let peer = Peer::connect(address).await?;
        let session = Session { peer, topic: topic.to_owned(), id: 0, epoch: 0 };
        let reading = tokio::spawn(session.read(partitions, Arc::clone(&stop)));
        Ok(Self { stop, reading })
    }

    /// Ends, and says how long records that were due from `measured` on have taken.
    ///
    /// # Errors
    ///
    /// When reading has failed.
    pub(crate) async fn waits(self, due: &Due, measured: Instant) -> anyhow::Result<Waits> {
        self.stop.store(true, Ordering::Relaxed);
        let seen = self.reading.await??;
        let mut waits = Vec::new();
        for batch in seen {
            for offset in batch.base..=batch.last {
                let due = due.at(batch.partition, offset).filter(|due| *due >= measured);
                waits.extend(due.map(|due| batch.at - due));
            }
        }
        let rate = waits.len() as f64 / measured.elapsed().as_secs_f64();
        Ok(Waits::new(waits, rate))
    }
}

/// An incremental fetch session: after the first request only what has moved is asked for.
struct Session {
    peer: Peer,
    topic: String,
    id: i32,
    epoch: i32,
}

impl Session {
    async fn read(mut self, partitions: i32, stop: Arc<AtomicBool>) -> anyhow::Result<Vec<Seen>> {
        let mut moved: Vec<(i32, i64)> = (0..partitions).map(|index| (index, 0)).collect();
        let mut seen = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let request = self.request(&moved);
            let response = self.peer.call(&request, FETCH_VERSION).await?;
            let at = Instant::now();
            ensure!(response.error_code == 0, "fetch: {}", response.error_code);
            (self.id, self.epoch) = (response.session_id, self.epoch + 1);
            moved.clear();
            for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
                let error = ErrorCode::or_unknown(data.error_code);
                if error.retriable() {
                    // So new that Apache Kafka does not lead it yet; it stays in the session.
                    continue;
                }
                ensure!(error == ErrorCode::None, "fetch: {}", error.name());
                let records = data.records.as_ref().map(millstream_wire::Records::to_bytes);
                let mut next = None;
                for batch in split(&records.unwrap_or_default()).map_while(Result::ok) {
                    let header = BatchHeader::decode(&batch)?;
                    next = Some(header.last_offset().0 + 1);
                    seen.push(Seen {
                        partition: data.partition_index,
                        base: usize::try_from(header.base_offset.0)?,
                        last: usize::try_from(header.last_offset().0)?,
                        at,
                    });
                }
                moved.extend(next.map(|next| (data.partition_index, next)));
            }
        }
        Ok(seen)
    }

    fn request(&self, moved: &[(i32, i64)]) -> FetchRequest {
        let partitions = moved.iter().map(|(partition, offset)| FetchPartition {
            partition: *partition,
            current_leader_epoch: -1,
            fetch_offset: *offset,
            last_fetched_epoch: -1,
            log_start_offset: -1,
            partition_max_bytes: PARTITION_BYTES_MAX,
            ..FetchPartition::default()
        });
        let topic = FetchTopic {
            topic: StrBytes::from(self.topic.clone()),
            partitions: partitions.collect(),
            ..FetchTopic::default()
        };
        FetchRequest {
            max_wait_ms: WAIT_MAX_MS,
            min_bytes: 1,
            max_bytes: BYTES_MAX,
            session_id: self.id,
            session_epoch: self.epoch,
            topics: if moved.is_empty() { Vec::new() } else { vec![topic] },
            ..FetchRequest::default()
        }
    }
}
