//! Many partitions that are compacted: what that takes, and what it costs to have them afterwards.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::ensure;

use super::{Run, rest, value};
use crate::shape::Batches;

/// What is written is laid out after half a minute, and compacted then.
const CONFIGS: [(&str, &str); 2] =
    [("cleanup.policy", "compact"), ("max.compaction.lag.ms", "30000")];

const PATIENCE: Duration = Duration::from_secs(300);

/// The server is another program: all that it tells is its metrics, which are read so often.
const LOOK: Duration = Duration::from_millis(100);

impl Run<'_> {
    /// Fills as many partitions again, with the same keys over and over, and waits until they are compacted.
    pub(super) fn compacted(&mut self) -> anyhow::Result<()> {
        let node = self.start_anew()?;
        let topics = 0..self.plan.topics;
        let names: Vec<_> = topics.map(|number| format!("compacted-{number}")).collect();
        for name in &names {
            self.topic(node.kafka, name, self.plan.partitions, &CONFIGS)?;
        }
        let count = self.plan.topics * self.plan.partitions;
        let load = self.tiny(&names, Batches::keyed)?;
        self.load(node.kafka, &load, 4 * load.bytes * load.frames.len() as u64)?;
        let written = Instant::now();
        let resident = node.resident()?;
        let before = node.used()?;
        let mut done = 0.0;
        while done < f64::from(count) {
            ensure!(written.elapsed() < PATIENCE, "{done} of {count} partitions are compacted");
            thread::sleep(LOOK);
            done = value(&node.metrics()?.0, "millstream_compactions_total")?;
        }
        let took = written.elapsed().as_secs_f64();
        let cpu = node.used()?.seconds_since(&before);
        let (metrics, _) = node.metrics()?;
        let moved = value(&metrics, "millstream_compaction_moved_bytes_total")? / super::MIB;
        let text = format!(
            "{took:.0} s after the last record, {cpu:.1} s of CPU, {moved:.0} MiB read and written"
        );
        self.row(&format!("laying out and compacting {count} partitions of 4 KiB"), &text, "");
        let text = format!("{:.1} MiB more than before", node.resident_peak()? - resident);
        self.row("memory meanwhile, at most", &text, "under 100 MiB");
        rest(&node)?;
        self.idle(&node, "at rest with them, compacted")?;
        node.stop()?;
        Ok(())
    }
}
