//! What was measured: one number to a row, measure, system and repetition.

use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::server::System;

/// What a number says, in which unit, and which way is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Measure {
    /// From exec to the first answer.
    ReadyMs,
    /// Resident memory after the start.
    IdleMebibytes,
    /// Resident memory after all loads.
    LoadedMebibytes,
    /// 10^6 bytes per second.
    MegabytesPerSecond,
    /// Records per second.
    RecordsPerSecond,
    /// CPU-seconds of the server for each GiB, with the work that it put off.
    CpuSecondsPerGibibyte,
    /// Cores that the server kept busy.
    ServerCores,
    /// Cores that the generator kept busy.
    GeneratorCores,
    /// Cores that neither server nor generator kept busy, but something else did.
    OthersCores,
    /// The percentage of requests that the server refused for a moment.
    RefusedPercent,
    /// Half of the answers took longer, in microseconds.
    P50Us,
    /// One answer of a hundred took longer, in microseconds.
    P99Us,
    /// One answer of a thousand took longer, in microseconds.
    P999Us,
    /// Answers per second at a fixed rate: what was asked for, or what the server could do.
    AnswersPerSecond,
    /// The throughput in percent of what it is without what the row is about.
    KeptPercent,
    /// CPU-seconds of the server for each GiB, divided by those without what the row is about.
    CpuTimes,
    /// Until compaction had come to its end.
    CompactionSeconds,
    /// Cores that the server kept busy while it had nothing to do but compaction.
    CompactionCores,
}

/// One number.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    row: String,
    measure: Measure,
    system: System,
    repetition: usize,
    value: f64,
}

/// All numbers of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Samples {
    all: Vec<Sample>,
}

/// The middle of some numbers, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

/// A row of one system in one repetition: where samples go.
#[derive(Debug)]
pub(crate) struct Cell<'a> {
    samples: &'a mut Samples,
    row: String,
    system: System,
    repetition: usize,
}

impl Measure {
    /// Whether more is better.
    pub(crate) const fn more_is_better(self) -> bool {
        match self {
            Self::MegabytesPerSecond
            | Self::RecordsPerSecond
            | Self::AnswersPerSecond
            | Self::KeptPercent => true,
            Self::ReadyMs
            | Self::IdleMebibytes
            | Self::LoadedMebibytes
            | Self::CpuSecondsPerGibibyte
            | Self::ServerCores
            | Self::GeneratorCores
            | Self::OthersCores
            | Self::RefusedPercent
            | Self::P50Us
            | Self::P99Us
            | Self::P999Us
            | Self::CpuTimes
            | Self::CompactionSeconds
            | Self::CompactionCores => false,
        }
    }

    /// For people.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::ReadyMs => "time to ready, ms",
            Self::IdleMebibytes => "memory idle, MiB",
            Self::LoadedMebibytes => "memory after the loads, MiB",
            Self::MegabytesPerSecond => "MB/s",
            Self::RecordsPerSecond => "records/s",
            Self::CpuSecondsPerGibibyte => "server CPU s/GiB",
            Self::ServerCores => "server, cores",
            Self::GeneratorCores => "generator, cores",
            Self::OthersCores => "other work, cores",
            Self::RefusedPercent => "requests refused, %",
            Self::P50Us => "p50, µs",
            Self::P99Us => "p99, µs",
            Self::P999Us => "p99.9, µs",
            Self::AnswersPerSecond => "records/s answered",
            Self::KeptPercent => "throughput kept, %",
            Self::CpuTimes => "server CPU s/GiB, times that without",
            Self::CompactionSeconds => "compacted after, s",
            Self::CompactionCores => "the rest of it alone, cores",
        }
    }
}

impl Samples {
    /// Where the numbers of one row of one system go.
    pub(crate) fn cell(&mut self, row: &str, system: System, repetition: usize) -> Cell<'_> {
        Cell { samples: self, row: row.to_owned(), system, repetition }
    }

    /// The spread of a measure over the repetitions.
    pub(crate) fn spread(&self, row: &str, measure: Measure, system: System) -> Option<Spread> {
        Spread::of(self.of(row, measure, system).map(|sample| sample.value))
    }

    /// The spread of `one` divided by `other`, of the same repetition each.
    pub(crate) fn ratio(
        &self,
        row: &str,
        measure: Measure,
        one: System,
        other: System,
    ) -> Option<Spread> {
        Spread::of(self.of(row, measure, one).filter_map(|a| {
            let b = self.of(row, measure, other).find(|b| b.repetition == a.repetition)?;
            Some(a.value / b.value)
        }))
    }

    /// The rows that have this measure, in the order of their first sample.
    pub(crate) fn rows(&self, measure: Measure) -> Vec<String> {
        let mut rows: Vec<String> = Vec::new();
        for sample in self.all.iter().filter(|sample| sample.measure == measure) {
            if !rows.contains(&sample.row) {
                rows.push(sample.row.clone());
            }
        }
        rows
    }

    /// All values of a measure, whatever the row.
    pub(crate) fn overall(&self, measure: Measure) -> Option<Spread> {
        Spread::of(self.all.iter().filter(|each| each.measure == measure).map(|each| each.value))
    }

    /// Writes everything as JSON.
    ///
    /// # Errors
    ///
    /// When the file can't be written.
    pub(crate) fn save(&self, path: &Path) -> anyhow::Result<()> {
        Ok(fs::write(path, serde_json::to_vec_pretty(&self.all)?)?)
    }

    fn of(&self, row: &str, measure: Measure, system: System) -> impl Iterator<Item = &Sample> {
        self.all.iter().filter(move |sample| {
            sample.row == row && sample.measure == measure && sample.system == system
        })
    }
}

impl Cell<'_> {
    /// Adds one number.
    pub(crate) fn put(&mut self, measure: Measure, value: f64) -> &mut Self {
        self.samples.all.push(Sample {
            row: self.row.clone(),
            measure,
            system: self.system,
            repetition: self.repetition,
            value,
        });
        self
    }
}

impl Spread {
    /// None of no numbers; those that are none are left out.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let upper = *sorted.get(middle)?;
        let median = match sorted.len() % 2 {
            0 => f64::midpoint(*sorted.get(middle.saturating_sub(1))?, upper),
            _ => upper,
        };
        Some(Self { median, min, max })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(values: &[f64], median: f64, min: f64, max: f64) {
        let spread = Spread::of(values.iter().copied());
        assert_eq!(spread, Some(Spread { median, min, max }), "{values:?}");
    }

    #[test]
    fn the_median_is_in_the_middle() {
        check(&[7.0], 7.0, 7.0, 7.0);
        check(&[3.0, 1.0, 2.0], 2.0, 1.0, 3.0);
        check(&[4.0, 1.0, 2.0, 9.0], 3.0, 1.0, 9.0);
        check(&[f64::NAN, 5.0], 5.0, 5.0, 5.0);
        assert_eq!(Spread::of(std::iter::empty()), None);
    }

    #[test]
    fn ratios_are_of_the_same_repetition() {
        let mut samples = Samples::default();
        for (repetition, (ours, theirs)) in
            [(10.0, 5.0), (30.0, 10.0), (9.0, 9.0)].into_iter().enumerate()
        {
            let measure = Measure::MegabytesPerSecond;
            samples.cell("row", System::Millstream, repetition).put(measure, ours);
            samples.cell("row", System::Kafka, repetition).put(measure, theirs);
        }
        let ratio =
            samples.ratio("row", Measure::MegabytesPerSecond, System::Millstream, System::Kafka);
        assert_eq!(ratio, Some(Spread { median: 2.0, min: 1.0, max: 3.0 }));
    }
}
