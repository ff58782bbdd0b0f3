//! Reading back: each connection fetches its partitions from the start, one request at a time, in
//! the sizes that clients ask for by default.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use millstream_record::BatchHeader;
use millstream_record::batch::split;
use millstream_wire::fetch_request::{FetchPartition, FetchTopic};
use millstream_wire::fetch_response::PartitionData;
use millstream_wire::{ErrorCode, FetchRequest, StrBytes};
use tokio::task::JoinSet;

use super::Moved;
use crate::peer::{Door, Peer};

/// The newest that names topics.
const FETCH_VERSION: i16 = 12;

/// The defaults of `fetch.max.bytes`, `max.partition.fetch.bytes` and `fetch.max.wait.ms`.
const BYTES_MAX: i32 = 50 << 20;
const PARTITION_BYTES_MAX: i32 = 1 << 20;
const WAIT_MAX_MS: i32 = 500;

/// Neither a session nor one to be made.
const SESSION_NONE: i32 = -1;

/// A partition and how far it has been read.
#[derive(Clone, Copy, Debug)]
struct Place {
    partition: i32,
    next: i64,
    end: Option<i64>,
}

/// Reads a topic to its end, or for `limit`.
///
/// # Errors
///
/// When a connection fails or the server answers with an error.
pub(crate) async fn consume(
    at: impl Into<Door>,
    topic: &str,
    partitions: i32,
    connections: usize,
    limit: Duration,
) -> anyhow::Result<Moved> {
    let door = at.into();
    let mut tasks = JoinSet::new();
    let begun = Instant::now();
    for number in 0..connections {
        let mine = (0..partitions).skip(number).step_by(connections);
        let places: Vec<Place> =
            mine.map(|partition| Place { partition, next: 0, end: None }).collect();
        if !places.is_empty() {
            tasks.spawn(read(door.clone(), topic.to_owned(), places, begun + limit));
        }
    }
    let mut total = Moved::default();
    while let Some(done) = tasks.join_next().await {
        let moved = done.context("a generator task")??;
        total.bytes += moved.bytes;
        total.records += moved.records;
    }
    total.elapsed = begun.elapsed();
    Ok(total)
}

async fn read(
    door: Door,
    topic: String,
    mut places: Vec<Place>,
    deadline: Instant,
) -> anyhow::Result<Moved> {
    let mut peer = Peer::connect(door).await?;
    let mut moved = Moved::default();
    while Instant::now() < deadline {
        places.retain(|place| place.end.is_none_or(|end| place.next < end));
        if places.is_empty() {
            break;
        }
        let response = peer.call(&request(&topic, &places), FETCH_VERSION).await?;
        for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
            let place = places.iter_mut().find(|place| place.partition == data.partition_index);
            take(place.context("an answer for another partition")?, data, &mut moved)?;
        }
        // As clients do: the next request begins where this answer ended.
        places.rotate_left(1);
    }
    Ok(moved)
}

fn request(topic: &str, places: &[Place]) -> FetchRequest {
    let partitions = places.iter().map(|place| FetchPartition {
        partition: place.partition,
        current_leader_epoch: -1,
        fetch_offset: place.next,
        last_fetched_epoch: -1,
        log_start_offset: -1,
        partition_max_bytes: PARTITION_BYTES_MAX,
        ..FetchPartition::default()
    });
    let topic = FetchTopic {
        topic: StrBytes::from(topic.to_owned()),
        partitions: partitions.collect(),
        ..FetchTopic::default()
    };
    FetchRequest {
        max_wait_ms: WAIT_MAX_MS,
        min_bytes: 1,
        max_bytes: BYTES_MAX,
        session_epoch: SESSION_NONE,
        topics: vec![topic],
        ..FetchRequest::default()
    }
}

/// Counts whole batches and moves on behind the last.
fn take(place: &mut Place, data: &PartitionData, moved: &mut Moved) -> anyhow::Result<()> {
    let error = ErrorCode::or_unknown(data.error_code);
    if error.retriable() {
        // The partition is so new that Apache Kafka does not lead it yet.
        return Ok(());
    }
    ensure!(error == ErrorCode::None, "fetch: {}", error.name());
    // What was there when reading began, not what may be added meanwhile.
    place.end.get_or_insert(data.high_watermark);
    let records = data.records.as_ref().map(millstream_wire::Records::to_bytes).unwrap_or_default();
    // Apache Kafka may cut the last batch short: it comes whole with the next request.
    for batch in split(&records).map_while(Result::ok) {
        let header = BatchHeader::decode(&batch)?;
        ensure!(header.last_offset().0 >= place.next, "offsets go backwards");
        place.next = header.last_offset().0 + 1;
        moved.bytes += batch.len() as u64;
        moved.records += u64::try_from(header.records_count)?;
    }
    Ok(())
}
