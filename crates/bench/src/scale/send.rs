//! So many batches, spread over all partitions: the same requests in turn on several connections.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use millstream_wire::{ErrorCode, ProduceRequest};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::task::JoinSet;

use crate::peer;
use crate::shape::PRODUCE_VERSION;

/// Connections, and requests in flight on each.
const CONNECTIONS: usize = 16;
const IN_FLIGHT: u64 = 5;

/// How long a client waits before it tries again (`retry.backoff.ms`).
const RETRY_BACKOFF: Duration = Duration::from_millis(100);

/// Sends `count` of `frames`, from the first on and over again. What the server refuses for now is
/// sent again.
///
/// # Errors
///
/// When a connection fails or the server answers with an error.
pub(super) async fn send(at: SocketAddr, frames: &[Bytes], count: u64) -> anyhow::Result<()> {
    let mut tasks = JoinSet::new();
    for number in 0..CONNECTIONS {
        let mine: Vec<Bytes> = frames.iter().skip(number).step_by(CONNECTIONS).cloned().collect();
        let mine = if mine.is_empty() { frames.to_vec() } else { mine };
        tasks.spawn(lane(at, mine, count.div_ceil(CONNECTIONS as u64)));
    }
    while let Some(done) = tasks.join_next().await {
        done.context("a generator task")??;
    }
    Ok(())
}

/// One connection: each answer makes room for the next request.
async fn lane(at: SocketAddr, frames: Vec<Bytes>, count: u64) -> anyhow::Result<()> {
    let (reader, mut writer) = peer::connect(&at.into()).await?;
    let mut reader = BufReader::new(reader);
    let mut frames = frames.iter().cycle();
    let (mut sent, mut taken) = (0, 0);
    while taken < count {
        while sent < count && sent - taken < IN_FLIGHT {
            writer.write_all(frames.next().context("nothing to send")?).await?;
            sent += 1;
        }
        let answer = peer::read_frame(&mut reader).await?;
        let response = peer::decode_response::<ProduceRequest>(&answer, PRODUCE_VERSION, 1)?;
        let mut partitions = response.responses.iter().flat_map(|each| &each.partition_responses);
        match partitions.find(|each| each.error_code != 0) {
            None => taken += 1,
            Some(refused) => {
                let error = ErrorCode::or_unknown(refused.error_code);
                ensure!(error.retriable(), "produce: {}", error.name());
                tokio::time::sleep(RETRY_BACKOFF).await;
                sent -= 1;
            }
        }
    }
    Ok(())
}
