//! What transactions cost: producers that commit every 100 ms beside idempotent ones.

use std::time::Duration;

use super::{KIB, REST_MAX, Repetition, USUAL, flood, now, shape};
use crate::load::{self, Moved};
use crate::samples::Measure;
use crate::server::System;
use crate::shape::Shape;
use crate::watch::{self, Cpu};

/// How many producers each of the rows has.
pub(crate) const PRODUCERS: [usize; 2] = [1, 4];

const PARTITIONS: i32 = 10;
const EVERY: Duration = Duration::from_millis(100);

/// The name of a row.
pub(crate) fn row(producers: usize, is_transactional: bool) -> String {
    let what = if is_transactional { "commits every 100 ms" } else { "idempotent" };
    let s = if producers == 1 { "" } else { "s" };
    format!("transactions: {producers} producer{s}, {what}")
}

impl Repetition<'_> {
    pub(super) fn transactions(&mut self) -> anyhow::Result<()> {
        for (turn, producers) in PRODUCERS.into_iter().enumerate() {
            if self.wants(&row(producers, true)) {
                self.each_system(turn, |this, system| this.both(producers, system))?;
            }
        }
        Ok(())
    }

    /// Without, with, with, without: a machine with other work is not the same all the time.
    fn both(&mut self, producers: usize, system: System) -> anyhow::Result<()> {
        if !system.keeps() {
            return Ok(());
        }
        let shape = shape(KIB, USUAL, PARTITIONS, producers);
        let mut runs = Vec::new();
        for is_transactional in [false, true, true, false] {
            runs.push((is_transactional, self.numbered(shape, is_transactional, system)?));
        }
        let [idempotent, transactional] = [false, true].map(|is_transactional| {
            let mine = runs.iter().filter(|(each, _)| *each == is_transactional);
            mine.map(|(_, run)| run).fold(Run::default(), Run::and)
        });
        for (is_transactional, run) in [(false, idempotent), (true, transactional)] {
            self.samples
                .cell(&row(producers, is_transactional), system, self.number)
                .put(Measure::MegabytesPerSecond, run.moved.megabytes_per_second())
                .put(Measure::RecordsPerSecond, run.moved.records_per_second())
                .put(Measure::CpuSecondsPerGibibyte, run.server / run.moved.gibibytes());
        }
        let rate = |run: &Run| run.moved.megabytes_per_second();
        self.samples
            .cell(&row(producers, true), system, self.number)
            .put(Measure::KeptPercent, rate(&transactional) / rate(&idempotent) * 100.0);
        Ok(())
    }

    fn numbered(
        &self,
        shape: Shape,
        is_transactional: bool,
        system: System,
    ) -> anyhow::Result<Run> {
        let label = row(shape.producers, is_transactional);
        let topic = self.topic(system, &label, shape.partitions)?;
        let server = self.server(system)?;
        let (address, process) = (server.address, server.process());
        let how = flood(shape, self.size.flood_bytes / 2, self.size.flood_limit / 2);
        let before = Cpu::now(process)?;
        let every = is_transactional.then_some(EVERY);
        let producing = load::numbered(address, (&topic, shape, now()), how, every);
        let moved = self.runtime.block_on(producing)?;
        watch::rest(process, REST_MAX)?;
        let server = before.since(process)?.server;
        self.delete(system, &topic)?;
        Ok(Run { moved, server })
    }
}

/// What was moved, and the CPU-seconds of the server for it.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    moved: Moved,
    server: f64,
}

impl Run {
    /// Both, one after the other.
    fn and(self, other: &Self) -> Self {
        let (one, two) = (self.moved, other.moved);
        let moved = Moved {
            bytes: one.bytes + two.bytes,
            records: one.records + two.records,
            refused: one.refused.max(two.refused),
            elapsed: one.elapsed + two.elapsed,
        };
        Self { moved, server: self.server + other.server }
    }
}
