//! `docs/benchmarks.md`: what was measured, in tables, and where we lose.

use std::fmt::Write as _;

use crate::samples::{Measure, Samples, Spread};
use crate::server::System;
use crate::suite::{CONNECTIONS, CONSUME, IN_FLIGHT, LATENCY, RATE, RATE_CONNECTIONS, START, TOOL};
use crate::watch::Disk;

/// What the figures depend on.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) machine: String,
    /// Measured in each repetition.
    pub(crate) disks: Vec<Disk>,
    pub(crate) quick: bool,
}

/// The columns of the tables.
const SYSTEMS: [System; 3] = [System::Millstream, System::Kafka, System::KafkaFlushed];

/// What is compared with what: ours first.
const PAIRS: [(System, System); 2] =
    [(System::Millstream, System::Kafka), (System::Millstream, System::KafkaFlushed)];

/// A goal: a ratio to Kafka, or a figure of our own.
struct Goal {
    row: Option<&'static str>,
    measure: Measure,
    against: Option<System>,
    bound: f64,
}

const GOALS: &[Goal] = &[
    Goal { row: Some(START), measure: Measure::ReadyMs, against: None, bound: 100.0 },
    Goal { row: Some(START), measure: Measure::IdleMebibytes, against: None, bound: 32.0 },
    Goal {
        row: None,
        measure: Measure::MegabytesPerSecond,
        against: Some(System::Kafka),
        bound: 1.5,
    },
    Goal {
        row: None,
        measure: Measure::MegabytesPerSecond,
        against: Some(System::KafkaFlushed),
        bound: 10.0,
    },
    Goal {
        row: None,
        measure: Measure::CpuSecondsPerGibibyte,
        against: Some(System::Kafka),
        bound: 0.33,
    },
    Goal { row: None, measure: Measure::CpuSecondsPerGibibyte, against: None, bound: 0.5 },
    Goal { row: Some(LATENCY), measure: Measure::P99Us, against: Some(System::Kafka), bound: 0.5 },
];

/// The whole report.
pub(crate) fn write(samples: &Samples, facts: &Facts, repetitions: usize) -> String {
    let mut text = head(samples, facts, repetitions);
    section(
        &mut text,
        samples,
        "Start",
        START,
        &[Measure::ReadyMs, Measure::IdleMebibytes, Measure::LoadedMebibytes],
    );
    note(
        &mut text,
        "From exec to the first answered Metadata request, on an empty directory; Apache \
        Kafka's directory is formatted before, which is not counted.",
    );
    throughput(&mut text, samples);
    let title = format!("Produce latency at {RATE} records/s of 1 KiB");
    section(
        &mut text,
        samples,
        &title,
        LATENCY,
        &[Measure::P50Us, Measure::P99Us, Measure::AnswersPerSecond],
    );
    note(
        &mut text,
        &format!(
            "One record to a request, {RATE_CONNECTIONS} connections, each to a \
        partition of its own; requests go out by the clock, whether answers have come or not. \
        Where answers/s is below {RATE}, the server can't do the rate, and its times only say so."
        ),
    );
    section(
        &mut text,
        samples,
        "Reading back what was just produced",
        CONSUME,
        &[Measure::MegabytesPerSecond, Measure::RecordsPerSecond, Measure::CpuSecondsPerGibibyte],
    );
    note(
        &mut text,
        "16 partitions of 16 KiB batches with 1 KiB records, with the default sizes of \
        clients. Apache Kafka reads its page cache; Millstream keeps the end of the log in memory \
        and reads what is older from the disk.",
    );
    section(
        &mut text,
        samples,
        "Cross-check: `kafka-producer-perf-test`",
        TOOL,
        &[
            Measure::MegabytesPerSecond,
            Measure::RecordsPerSecond,
            Measure::P50Us,
            Measure::P99Us,
            Measure::CpuSecondsPerGibibyte,
        ],
    );
    note(
        &mut text,
        "Apache Kafka's own generator with the Java client's defaults and `acks=all`, 1 KiB \
        records, 4 partitions. It runs as fast as it can, so its times are those of a full queue; \
        with two cores it is the bottleneck itself.",
    );
    goals(&mut text, samples);
    losses(&mut text, samples);
    text
}

fn head(samples: &Samples, facts: &Facts, repetitions: usize) -> String {
    let option = if facts.quick { " --quick" } else { "" };
    let others = samples.overall(Measure::OthersCores).map_or(0.0, |spread| spread.median);
    let others_max = samples.overall(Measure::OthersCores).map_or(0.0, |spread| spread.max);
    let flush = Spread::of(facts.disks.iter().map(|disk| disk.flush_us));
    let flushed = Spread::of(facts.disks.iter().map(|disk| disk.flushed_megabytes));
    let (flush, flushed) = (cell(flush), cell(flushed));
    format!(
        "# Benchmarks\n\n\
        Written by `cargo xtask bench{option}`; don't edit. All samples: `target/bench/samples.json`.\n\n\
        **Machine**: {}. Its disk takes {flush} µs for a write of 4 KiB and a flush, and {flushed} MB/s of \
        1 MiB writes flushed one by one (one writer, after each repetition). \
        During the throughput and latency rows other work kept {others:.1} cores busy (median; at most \
        {others_max:.1}): read the ratios, not the absolute figures.\n\n\
        **Durability**: *Millstream (flushed)* as it ships: answers when the batch is on stable \
        storage. *Kafka (not flushed)* as it ships (one KRaft node, 1 GiB heap): answers when the page \
        cache has it; a power cut loses it. *Kafka (flushed)*: the same with `flush.messages=1` on \
        the topic.\n\n\
        **Method**: {repetitions} repetitions; in each, both servers start on empty directories and \
        stay up; each row goes to one after the other, in an order that changes, with the disk \
        synced in between. A cell is the median (least–most). A ratio is Millstream divided by the \
        other in the same repetition. The generator sends the same pre-encoded batches to all: \
        {CONNECTIONS} connections, {IN_FLIGHT} requests in flight on each, `acks=all`. CPU is read from \
        `/proc` until the server rests again (3 s at most), so that work put off is counted. MB are \
        10^6 bytes, GiB 2^30.\n",
        facts.machine
    )
}

/// A table with a line for each measure of one row.
fn section(text: &mut String, samples: &Samples, title: &str, row: &str, measures: &[Measure]) {
    if !measures.iter().any(|measure| samples.spread(row, *measure, System::Millstream).is_some()) {
        return;
    }
    let _ = write!(text, "\n## {title}\n\n");
    table_head(text, "");
    for measure in measures {
        line(text, samples, measure.title(), row, *measure);
    }
}

fn note(text: &mut String, words: &str) {
    let _ = write!(text, "\n{words}\n");
}

fn table_head(text: &mut String, first: &str) {
    let titles = SYSTEMS.map(System::title).join(" | ");
    let _ = writeln!(text, "| {first} | {titles} | ratio | ratio to flushed |");
    text.push_str("|---|---|---|---|---|---|\n");
}

fn line(text: &mut String, samples: &Samples, name: &str, row: &str, measure: Measure) {
    let _ = write!(text, "| {name} |");
    cells(text, samples, row, measure);
    for (ours, theirs) in PAIRS {
        let _ = write!(text, " {} |", cell(samples.ratio(row, measure, ours, theirs)));
    }
    text.push('\n');
}

/// What each system has of a measure.
fn cells(text: &mut String, samples: &Samples, row: &str, measure: Measure) {
    for system in SYSTEMS {
        let _ = write!(text, " {} |", cell(samples.spread(row, measure, system)));
    }
}

/// The rows of the raw generator: throughput, cost, and what ran beside.
fn throughput(text: &mut String, samples: &Samples) {
    let rows: Vec<String> = produce_rows(samples);
    for measure in
        [Measure::MegabytesPerSecond, Measure::RecordsPerSecond, Measure::CpuSecondsPerGibibyte]
    {
        let _ = write!(text, "\n## Produce, {}\n\n", measure.title());
        table_head(text, "batches");
        for row in &rows {
            line(text, samples, row, row, measure);
        }
    }
    let _ = write!(text, "\n## Produce, what else to know\n\n");
    let titles = SYSTEMS.map(System::title).join(" | ");
    let _ = writeln!(text, "| | batches | {titles} |\n|---|---|---|---|---|");
    for measure in [Measure::RefusedPercent, Measure::GeneratorCores, Measure::OthersCores] {
        for row in &rows {
            let _ = write!(text, "| {} | {row} |", measure.title());
            cells(text, samples, row, measure);
            text.push('\n');
        }
    }
    note(
        text,
        "A refused request (no room at that moment) is tried again after 100 ms, as clients do. \
        Where generator, server and other work together use all cores, the throughput says how they \
        share them: the CPU of the server per GiB is then the figure to compare. The loads are \
        short: Millstream's journal (1 GiB) takes up what segments can't at that rate, as the page \
        cache does for Apache Kafka. What is written later counts as CPU, not as time.",
    );
}

fn produce_rows(samples: &Samples) -> Vec<String> {
    let rows = samples.rows(Measure::GeneratorCores).into_iter();
    rows.filter(|row| row != CONSUME).collect()
}

fn goals(text: &mut String, samples: &Samples) {
    text.push_str("\n## Goals\n\n| goal | row | measured | |\n|---|---|---|---|\n");
    for goal in GOALS {
        let rows = match goal.row {
            Some(row) => vec![row.to_owned()],
            None => produce_rows(samples),
        };
        for row in rows {
            let measured = match goal.against {
                Some(other) => samples.ratio(&row, goal.measure, System::Millstream, other),
                None => samples.spread(&row, goal.measure, System::Millstream),
            };
            let Some(measured) = measured else { continue };
            let more = goal.measure.more_is_better();
            let met =
                if more { measured.median >= goal.bound } else { measured.median <= goal.bound };
            let _ = writeln!(
                text,
                "| {} {} {}{} | {row} | {} | {} |",
                goal.measure.title(),
                if more { "≥" } else { "≤" },
                number(goal.bound),
                goal.against.map_or(String::new(), |other| format!(" × {}", other.title())),
                cell(Some(measured)),
                if met { "met" } else { "**missed**" },
            );
        }
    }
}

/// Every figure in which we are behind, whoever has flushed.
fn losses(text: &mut String, samples: &Samples) {
    text.push_str("\n## Where we lose\n\n");
    let mut found = false;
    for measure in [
        Measure::ReadyMs,
        Measure::IdleMebibytes,
        Measure::LoadedMebibytes,
        Measure::MegabytesPerSecond,
        Measure::CpuSecondsPerGibibyte,
        Measure::P50Us,
        Measure::P99Us,
    ] {
        for row in samples.rows(measure) {
            for (ours, theirs) in PAIRS {
                let Some(ratio) = samples.ratio(&row, measure, ours, theirs) else { continue };
                let behind = (ratio.median < 1.0) == measure.more_is_better();
                if behind && ratio.median != 1.0 {
                    found = true;
                    let (title, theirs, ratio) =
                        (measure.title(), theirs.title(), cell(Some(ratio)));
                    let _ = writeln!(text, "- {row}, {title}: {ratio} times that of {theirs}");
                }
            }
        }
    }
    for row in samples.rows(Measure::RefusedPercent) {
        let refused = |system| samples.spread(&row, Measure::RefusedPercent, system);
        let (ours, theirs) = (refused(System::Millstream), refused(System::Kafka));
        let Some((ours, theirs)) = ours.zip(theirs) else { continue };
        if ours.median > theirs.median {
            found = true;
            let (ours, theirs) = (cell(Some(ours)), cell(Some(theirs)));
            let _ = writeln!(text, "- {row}: {ours} % of requests refused, Kafka's {theirs} %");
        }
    }
    if !found {
        text.push_str("In none of the rows above.\n");
    }
}

fn cell(spread: Option<Spread>) -> String {
    match spread {
        Some(Spread { median, min, max }) => {
            format!("{} ({}–{})", number(median), number(min), number(max))
        }
        None => String::new(),
    }
}

/// Three significant digits, and no more than there is reason for.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e6 => format!("{:.2}M", value / 1e6),
        size if size >= 1e4 => format!("{:.1}k", value / 1e3),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        let disks = vec![Disk { flush_us: 400.0, flushed_megabytes: 900.0 }];
        Facts { machine: "2 cores, 8 GiB of memory".to_owned(), disks, quick: true }
    }

    #[test]
    fn numbers_have_three_digits() {
        for (value, text) in [
            (0.333_3, "0.33"),
            (12.34, "12.3"),
            (123.4, "123"),
            (12_345.0, "12.3k"),
            (1_234_567.0, "1.23M"),
        ] {
            assert_eq!(number(value), text);
        }
    }

    #[test]
    fn a_loss_is_said_and_a_win_is_not() {
        let mut samples = Samples::default();
        for (system, rate, p99) in [(System::Millstream, 50.0, 10.0), (System::Kafka, 100.0, 20.0)]
        {
            samples
                .cell("row", system, 0)
                .put(Measure::MegabytesPerSecond, rate)
                .put(Measure::P99Us, p99);
        }
        let text = write(&samples, &facts(), 1);
        let (_, losses) = text.split_once("## Where we lose").unwrap();
        assert!(losses.contains("row, MB/s: 0.50 (0.50–0.50) times that of Kafka (not flushed)"));
        assert!(!losses.contains("p99"));
    }
}
