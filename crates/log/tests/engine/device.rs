//! What is written to the disk for what is produced, counted by the disk: the journal with its padding,
//! segments, packs, merging, checkpoints, and a block of the metadata log for each of those. Bounds as
//! the design sets them. Sizes are those of the program, divided; their ratios are its own.

use millstream_log::{Log, LogSettings, LogStats, Origin};
use millstream_types::Offset;

use crate::world::{World, batch, partition, read_all, run, settle, tiny};

const KIB: u64 = 1024;
/// What publishing a checkpoint takes of the metadata log.
const TRIM_BYTES: u64 = 4 * KIB;

/// A load, and the part of the program's sizes that it has.
struct Load {
    partitions: i32,
    batch_bytes: usize,
    /// Batches in each partition.
    rounds: usize,
    journal_bytes: u64,
    settings: LogSettings,
}

impl Load {
    /// Sizes in proportion to a journal of so many bytes; the program's has 1 GiB.
    fn of_journal(journal_bytes: u64) -> LogSettings {
        LogSettings {
            tail_bytes: journal_bytes / 16,
            pack_bytes_max: journal_bytes / 32,
            run_bytes_max: journal_bytes / 16,
            segment_bytes_min: journal_bytes / 128,
            small_runs_max: LogSettings::default().small_runs_max,
            checkpoint_bytes: journal_bytes / 8,
            ..tiny()
        }
    }

    /// Runs it; returns what was written per byte produced, and the log's figures.
    async fn written(&self) -> (f64, LogStats) {
        let mut world = World::new(1, self.partitions);
        world.journal.file_bytes = self.journal_bytes / 8;
        world.journal.files_max = 8;
        world.settings = self.settings.clone();
        let log = world.open().await.unwrap();
        for _ in 0..self.rounds {
            self.round(&log).await;
        }
        log.lay_out().await.unwrap();
        log.checkpoint().await.unwrap();
        self.check_content(&log).await;
        let stats = log.stats();
        assert_eq!(stats.backlog_bytes, 0);
        let journal = world.journal_stats.clone().unwrap();
        let blobs = stats.segment_written
            + stats.pack_written
            + stats.merge_written
            + stats.checkpoint_written;
        assert_eq!(world.machine.written("blobs"), blobs, "each byte has its kind");
        assert_eq!(world.machine.written("journal"), journal.bytes(), "so has the journal");
        let all = blobs + journal.bytes() + stats.checkpoints * TRIM_BYTES;
        println!("journal {}: {stats:?}", journal.bytes());
        (all as f64 / stats.appended_bytes as f64, stats)
    }

    /// A batch to each partition, from clients that wait together.
    async fn round(&self, log: &Log) {
        let one = batch(&[1], self.batch_bytes);
        let mut last = None;
        for index in 0..self.partitions {
            let to = log.partition(partition(index)).unwrap();
            last = Some(to.append(std::slice::from_ref(&one), Origin::Client).unwrap());
        }
        log.wait_durable(last.unwrap().end).await.unwrap();
        log.maintain().await.unwrap();
        settle().await;
    }

    async fn check_content(&self, log: &Log) {
        for index in [0, self.partitions - 1] {
            let one = log.partition(partition(index)).unwrap();
            let batches = read_all(&one, Offset(0), 1 << 20).await.unwrap();
            assert_eq!(batches.len(), self.rounds);
        }
    }
}

#[test]
fn large_partitions_are_written_hardly_more_than_twice() {
    let journal_bytes = 16 * KIB * KIB;
    let load = Load {
        partitions: 2,
        batch_bytes: 60_000,
        rounds: 400,
        journal_bytes,
        settings: Load::of_journal(journal_bytes),
    };
    let (written, stats) = run(load.written());
    assert!(stats.segment_written > stats.appended_bytes / 2, "{stats:?}");
    assert!(written <= 2.2, "{written}");
}

/// The journal holds about fifty batches of each, as the program's does of 10,000 partitions.
#[test]
fn tiny_partitions_are_written_three_and_a_half_times() {
    let (partitions, batch_bytes) = (20, KIB as usize);
    let journal_bytes = 2 * 50 * KIB * 20;
    let load = Load {
        partitions,
        batch_bytes,
        rounds: 2_400,
        journal_bytes,
        // Of 10,000 partitions, none fills a segment by itself before the journal is half full.
        settings: LogSettings {
            segment_bytes_min: 1 << 20,
            merge_bytes_min: 1 << 20,
            run_bytes_max: 8 << 20,
            pack_bytes_max: 1 << 20,
            ..Load::of_journal(journal_bytes)
        },
    };
    let (written, stats) = run(load.written());
    assert!(stats.merges >= 40, "each partition comes to two merged runs: {stats:?}");
    assert!(written <= 3.5, "{written}");
}
