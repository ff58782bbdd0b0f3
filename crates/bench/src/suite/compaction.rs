//! What compaction costs those who write and read meanwhile: the same loads without it and beside it.
//!
//! A topic is filled with many values of each key, and is not compacted, because it may be all dirty. Then
//! it may not be any more.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{READ, READERS, REST_MAX, Repetition, USUAL, flood, now, shape};
use crate::load;
use crate::peer::Peer;
use crate::samples::Measure;
use crate::server::System;
use crate::shape::Shape;
use crate::watch::{self, Cpu};

pub(crate) const PRODUCE: &str = "compaction: producers beside it";
pub(crate) const CONSUME: &str = "compaction: consumers beside it";

/// What is compacted: records of 100 bytes.
const DIRTY: Shape = shape(100, USUAL, 4, 2);
/// Batches with keys of their own, for each partition: 16 MiB in all, of 600,000 keys.
const DIFFERENT: u64 = 256;
const DIRTY_BYTES: u64 = 384 << 20;
const CONFIGS: [(&str, &str); 3] = [
    ("cleanup.policy", "compact"),
    ("min.cleanable.dirty.ratio", "1"),
    // All but the last of them may be compacted by Apache Kafka.
    ("segment.bytes", "8388608"),
];

/// How long is waited for the end of it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Nobody tells when a log has shrunk: both systems are asked for its size so often.
const LOOK: Duration = Duration::from_millis(50);

/// Megabytes per second that were produced, and consumed.
type Rates = [f64; 2];

impl Repetition<'_> {
    pub(super) fn compaction(&mut self, system: System) -> anyhow::Result<()> {
        if !system.keeps() || system == System::KafkaFlushed {
            // Compaction does not flush.
            return Ok(());
        }
        let dirty = self.topic_with(system, "compaction: dirty", DIRTY.partitions, &CONFIGS)?;
        let encoded = DIRTY.encode_keyed(&dirty, now(), DIFFERENT)?;
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let how = flood(DIRTY, DIRTY_BYTES, PATIENCE);
        self.runtime.block_on(load::flood(address, &encoded, how))?;
        watch::rest(process, REST_MAX)?;
        let before = self.dirty_bytes(system, &dirty)?;
        // Before and after, since a machine with other work is not the same all the time.
        let first = self.loads(system)?;
        let begun = Instant::now();
        self.runtime.block_on(async {
            let mut peer = Peer::connect(address).await?;
            peer.set_config(&dirty, "min.cleanable.dirty.ratio", "0").await
        })?;
        let beside = self.loads(system)?;
        let (used, since) = (Cpu::now(process)?, Instant::now());
        let took = self.until_compacted(system, &dirty, begun, before)?;
        let used = used.since(process)?.server;
        // The part of it that the loads have left.
        let alone = (begun + took).saturating_duration_since(since);
        let last = self.loads(system)?;
        self.delete(system, &dirty)?;
        let without = [f64::midpoint(first[0], last[0]), f64::midpoint(first[1], last[1])];
        for ((row, beside), without) in [PRODUCE, CONSUME].into_iter().zip(beside).zip(without) {
            self.samples
                .cell(row, system, self.number)
                .put(Measure::MegabytesPerSecond, beside)
                .put(Measure::KeptPercent, beside / without * 100.0);
        }
        let mut cell = self.samples.cell(PRODUCE, system, self.number);
        cell.put(Measure::CompactionSeconds, took.as_secs_f64());
        if alone > Duration::from_secs(1) {
            cell.put(Measure::CompactionCores, used / alone.as_secs_f64());
        }
        Ok(())
    }

    /// Writes, and reads what was written.
    fn loads(&self, system: System) -> anyhow::Result<Rates> {
        let topic = self.topic(system, "compaction: beside it", READ.partitions)?;
        let encoded = READ.encode(&topic, now())?;
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let how = flood(READ, u64::MAX, self.size.flood_limit / 2);
        let produced = self.runtime.block_on(load::flood(address, &encoded, how))?;
        watch::rest(process, Duration::from_secs(1))?;
        let limit = self.size.consume / 2;
        let reading = load::consume(address, &topic, READ.partitions, READERS, limit);
        let consumed = self.runtime.block_on(reading)?;
        self.delete(system, &topic)?;
        Ok([produced.megabytes_per_second(), consumed.megabytes_per_second()])
    }

    fn dirty_bytes(&self, system: System, topic: &str) -> anyhow::Result<u64> {
        let address = self.server(system)?.address;
        self.runtime.block_on(async {
            Peer::connect(address).await?.topic_bytes(topic, DIRTY.partitions).await
        })
    }

    /// Waits until a topic has shrunk and shrinks no more; how long that was after `begun`.
    fn until_compacted(
        &self,
        system: System,
        topic: &str,
        begun: Instant,
        before: u64,
    ) -> anyhow::Result<Duration> {
        let (mut size, mut since) = (before, begun);
        loop {
            let now = self.dirty_bytes(system, topic)?;
            if now < size {
                (size, since) = (now, Instant::now());
            }
            if size < before / 2 && since.elapsed() > Duration::from_secs(2) {
                return Ok(since - begun);
            }
            ensure!(begun.elapsed() < PATIENCE, "{topic} is not compacted: {size} of {before}");
            thread::sleep(LOOK);
        }
    }
}
