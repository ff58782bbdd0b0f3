//! `docs/benchmarks.md`: what was measured, in tables, and where we lose.

mod security;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::chart::{Chart, Group};
use crate::samples::{Measure, Samples, Spread};
use crate::server::System;
use crate::suite::{
    COLD, COMPACTION_CONSUME, COMPACTION_PRODUCE, IN_FLIGHT, JAVA, KCAT, PACES, PRODUCERS, RATE,
    READ, READERS, START, TAIL, WARM, transactions_row,
};
use crate::watch::Disk;

pub(crate) use security::write as write_security;

/// What the figures depend on.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    pub(crate) machine: String,
    /// Measured in each repetition.
    pub(crate) disks: Vec<Disk>,
    pub(crate) quick: bool,
    pub(crate) journal_mebibytes: u64,
    /// What each throughput run writes, unless its time is up before.
    pub(crate) run_mebibytes: u64,
}

/// The columns of the tables.
const SYSTEMS: [System; 4] =
    [System::Millstream, System::Kafka, System::KafkaFlushed, System::Null];

/// What we are compared with, and the heads of those columns.
const OTHERS: [(System, &str); 3] =
    [(System::Kafka, "÷ Kafka"), (System::KafkaFlushed, "÷ flushed"), (System::Null, "÷ null")];

/// Which rows a goal is about.
enum Rows {
    One(&'static str),
    Latency,
    Produce,
    /// Those with batches of 1 MB.
    Large,
    Transactions,
}

/// A goal: a ratio to another, or a figure of our own.
struct Goal {
    rows: Rows,
    measure: Measure,
    against: Option<System>,
    bound: f64,
}

const fn goal(rows: Rows, measure: Measure, against: Option<System>, bound: f64) -> Goal {
    Goal { rows, measure, against, bound }
}

const GOALS: &[Goal] = &[
    goal(Rows::One(START), Measure::ReadyMs, None, 100.0),
    goal(Rows::One(START), Measure::IdleMebibytes, None, 32.0),
    goal(Rows::Produce, Measure::MegabytesPerSecond, Some(System::Kafka), 1.5),
    goal(Rows::Produce, Measure::MegabytesPerSecond, Some(System::KafkaFlushed), 10.0),
    goal(Rows::Large, Measure::MegabytesPerSecond, Some(System::Null), 0.35),
    goal(Rows::One(KCAT), Measure::MegabytesPerSecond, Some(System::Null), 0.75),
    goal(Rows::Produce, Measure::CpuSecondsPerGibibyte, Some(System::Kafka), 0.33),
    goal(Rows::Produce, Measure::CpuSecondsPerGibibyte, None, 0.5),
    goal(Rows::Latency, Measure::P99Us, Some(System::Kafka), 0.5),
    goal(Rows::One(PACES[0].label), Measure::P99Us, None, 1_000.0),
    goal(Rows::One(PACES[1].label), Measure::P99Us, None, 2_000.0),
    goal(Rows::Transactions, Measure::KeptPercent, None, 80.0),
    goal(Rows::One(COMPACTION_PRODUCE), Measure::KeptPercent, None, 90.0),
    goal(Rows::One(COMPACTION_CONSUME), Measure::KeptPercent, None, 90.0),
];

/// The whole report.
pub(crate) fn write(samples: &Samples, facts: &Facts, repetitions: usize) -> String {
    let mut text = head(samples, facts, repetitions);
    if !facts.quick {
        for Picture { name, title, .. } in CHARTS {
            let _ = writeln!(text, "\n![{title}](benchmarks/{name}.svg)");
        }
    }
    start(&mut text, samples);
    throughput(&mut text, samples);
    latency(&mut text, samples);
    reading(&mut text, samples);
    transactions(&mut text, samples);
    compaction(&mut text, samples);
    tools(&mut text, samples);
    goals(&mut text, samples);
    losses(&mut text, samples);
    text
}

/// A chart of the report.
struct Picture {
    /// The name of its file.
    name: &'static str,
    title: &'static str,
    measure: Measure,
    rows: fn(&Samples) -> Vec<String>,
    with_null: bool,
}

const CHARTS: [Picture; 3] = [
    Picture {
        name: "throughput",
        title: "Produce, MB/s (more is better)",
        measure: Measure::MegabytesPerSecond,
        rows: produce_rows,
        with_null: true,
    },
    Picture {
        name: "cpu",
        title: "Produce, server CPU-seconds per GiB (less is better)",
        measure: Measure::CpuSecondsPerGibibyte,
        rows: produce_rows,
        with_null: false,
    },
    Picture {
        name: "latency",
        title: "Latency at a fixed rate, p99 in µs (less is better)",
        measure: Measure::P99Us,
        rows: latency_rows,
        with_null: false,
    },
];

fn latency_rows(_samples: &Samples) -> Vec<String> {
    PACES.iter().map(|pace| pace.label).chain([TAIL]).map(str::to_owned).collect()
}

/// Writes the charts beside the report.
///
/// # Errors
///
/// When a file can't be written.
pub(crate) fn charts(samples: &Samples, report: &Path) -> anyhow::Result<()> {
    let folder = report.with_file_name("benchmarks");
    fs::create_dir_all(&folder)?;
    for Picture { name, title, measure, rows, with_null } in CHARTS {
        let columns: Vec<System> = SYSTEMS
            .into_iter()
            .filter(|system| {
                (with_null || *system != System::Null) && !is_off_scale(measure, *system)
            })
            .collect();
        let group = |row: String| {
            let value = |system: &System| samples.spread(&row, measure, *system).map(|s| s.median);
            Group { values: columns.iter().map(value).collect(), label: row }
        };
        let chart = Chart {
            title: title.to_owned(),
            series: columns.iter().map(|each| (each.title().to_owned(), each.colour())).collect(),
            groups: rows(samples).into_iter().map(group).collect(),
        };
        let path = folder.join(format!("{name}.svg"));
        fs::write(&path, chart.svg(number)).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Flushed, Apache Kafka does not reach the fixed rate: its waits only grow with the length of the run.
fn is_off_scale(measure: Measure, system: System) -> bool {
    measure == Measure::P99Us && system == System::KafkaFlushed
}

fn start(text: &mut String, samples: &Samples) {
    section(
        text,
        samples,
        "Start",
        START,
        &[Measure::ReadyMs, Measure::IdleMebibytes, Measure::LoadedMebibytes],
    );
    note(
        text,
        "From exec to the first answered Metadata request, on an empty directory; Apache \
        Kafka's directory is formatted before, which is not counted.",
    );
}

fn latency(text: &mut String, samples: &Samples) {
    const MEASURES: [Measure; 4] =
        [Measure::P50Us, Measure::P99Us, Measure::P999Us, Measure::AnswersPerSecond];
    for pace in &PACES {
        let title = format!("Produce latency at {RATE} records/s of 1 KiB: {}", pace.label);
        section(text, samples, &title, pace.label, &MEASURES);
    }
    note(
        text,
        &format!(
            "As a client with `linger.ms=0`: a record goes out at once while fewer than {IN_FLIGHT} \
        requests (or one) are in flight on its connection, and otherwise with all that have come \
        meanwhile when an answer makes room. Its time runs from the moment at which it was due. Where \
        fewer than {RATE} records/s are answered, the server can't do the rate, and its times only \
        say so."
        ),
    );
    let title = format!("End to end at {RATE} records/s of 1 KiB");
    section(text, samples, &title, TAIL, &MEASURES);
    note(
        text,
        "100 partitions, 4 producers as above, one consumer with an incremental fetch session: from the \
        moment at which a record was due to the one at which its batch was read.",
    );
}

fn reading(text: &mut String, samples: &Samples) {
    let measures =
        [Measure::MegabytesPerSecond, Measure::RecordsPerSecond, Measure::CpuSecondsPerGibibyte];
    for (title, row) in [("Catching up, warm", WARM), ("Catching up, cold", COLD)] {
        section(text, samples, title, row, &measures);
    }
    note(
        text,
        &format!(
            "{READERS} connections read what the row \"{}\" has written, from the start, with the \
        default sizes of clients: right after, and again at the end with an empty page cache. Warm, \
        Apache Kafka reads its page cache; Millstream keeps the end of the log in memory (64 MiB) and \
        reads what is older from the disk either way.",
            READ.label()
        ),
    );
}

fn transactions(text: &mut String, samples: &Samples) {
    let measures = [
        Measure::MegabytesPerSecond,
        Measure::RecordsPerSecond,
        Measure::CpuSecondsPerGibibyte,
        Measure::KeptPercent,
    ];
    if samples
        .spread(&transactions_row(1, true), Measure::KeptPercent, System::Millstream)
        .is_none()
    {
        return;
    }
    text.push_str("\n## Transactions\n\n");
    table_head(text, "load");
    for producers in PRODUCERS {
        for is_transactional in [false, true] {
            let row = transactions_row(producers, is_transactional);
            for measure in measures {
                if measure != Measure::KeptPercent || is_transactional {
                    let what = row.trim_start_matches("transactions: ");
                    line(text, samples, &format!("{what}: {}", measure.title()), &row, measure);
                }
            }
        }
    }
    note(
        text,
        "1 KiB records, 16 KiB batches, 10 partitions; each producer has a transactional id of its own, \
        writes to all partitions, and commits every 100 ms by the second protocol (KIP-890): it waits for \
        all answers, and for that to the commit. Kept is its throughput in percent of that of idempotent \
        producers, half of it measured before and half after.",
    );
}

fn compaction(text: &mut String, samples: &Samples) {
    let measures = [
        Measure::MegabytesPerSecond,
        Measure::KeptPercent,
        Measure::CompactionSeconds,
        Measure::CompactionCores,
    ];
    section(text, samples, "Compaction beside producers", COMPACTION_PRODUCE, &measures);
    section(text, samples, "Compaction beside consumers", COMPACTION_CONSUME, &measures[..2]);
    note(
        text,
        &format!(
            "Another topic of 384 MiB (records of 100 B, 24 values of each of 600,000 keys) is compacted \
            meanwhile. The load is that of \"{}\", then {READERS} connections that read it back from the \
            start. Kept is its throughput in percent of the same load's without compaction, half of it before \
            and half after. Millstream takes 32 MiB/s for compaction at most; Apache Kafka, as it ships, as much as \
            it gets: where it is done early, the rest of the load had nothing beside it.",
            READ.label()
        ),
    );
}

fn tools(text: &mut String, samples: &Samples) {
    section(
        text,
        samples,
        "Cross-check: `kafka-producer-perf-test`",
        JAVA,
        &[
            Measure::MegabytesPerSecond,
            Measure::RecordsPerSecond,
            Measure::P50Us,
            Measure::P99Us,
            Measure::CpuSecondsPerGibibyte,
        ],
    );
    section(
        text,
        samples,
        "Cross-check: librdkafka",
        KCAT,
        &[Measure::MegabytesPerSecond, Measure::RecordsPerSecond, Measure::CpuSecondsPerGibibyte],
    );
    note(
        text,
        "Apache Kafka's own generator with the Java client's defaults, and `kcat -P -l`, with \
        `acks=all`, 1 KiB records, 100 partitions. Both run as fast as they can, so times are those of a \
        full queue; with two cores they are the bottleneck themselves.",
    );
}

/// What was measured on.
fn machine(facts: &Facts) -> String {
    let flush = Spread::of(facts.disks.iter().map(|disk| disk.flush_us));
    let rewritten = Spread::of(facts.disks.iter().map(|disk| disk.rewritten));
    let fresh = Spread::of(facts.disks.iter().map(|disk| disk.fresh));
    let twice = Spread::of(facts.disks.iter().map(|disk| disk.twice()));
    let (flush, rewritten) = (cell(flush), cell(rewritten));
    let (fresh, twice) = (cell(fresh), cell(twice));
    format!(
        "**Machine**: {}. Its disk, asked after each repetition by one writer that goes around the page cache: \
        {flush} µs for a write of 4 KiB and a flush; {rewritten} MB/s in place, flushed every 4 MiB; {fresh} MB/s \
        into new files. So bytes that are written to a journal and then to a segment can't go faster than {twice} \
        MB/s here.",
        facts.machine
    )
}

fn head(samples: &Samples, facts: &Facts, repetitions: usize) -> String {
    let option = if facts.quick { " --quick" } else { "" };
    let others = samples.overall(Measure::OthersCores).map_or(0.0, |spread| spread.median);
    let others_max = samples.overall(Measure::OthersCores).map_or(0.0, |spread| spread.max);
    format!(
        "# Benchmarks\n\n\
        Written by `cargo xtask bench{option}`; don't edit. All samples: `target/bench/samples.json`.\n\n\
        {machine} \
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
        {IN_FLIGHT} requests in flight on each connection, up to 1 MiB in each, `acks=all`. Each \
        throughput run writes {run} MiB (or ends after some seconds), with Millstream's journal at \
        {journal} MiB, so that laying out into segments is part of it. CPU is read from \
        `/proc` until the server rests again (3 s at most), so that work put off is counted. MB are \
        10^6 bytes, GiB 2^30. The *null broker* checks and answers, and keeps nothing: the ceiling.\n\n\
        What TLS and access rules cost is measured in [a run of its own](benchmarks/security.md).\n",
        machine = machine(facts),
        run = facts.run_mebibytes,
        journal = facts.journal_mebibytes,
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
    let ratios = OTHERS.map(|(_, head)| head).join(" | ");
    let _ = writeln!(text, "| {first} | {titles} | {ratios} |");
    let columns = 1 + SYSTEMS.len() + OTHERS.len();
    let _ = writeln!(text, "|{}", "---|".repeat(columns));
}

fn line(text: &mut String, samples: &Samples, name: &str, row: &str, measure: Measure) {
    let _ = write!(text, "| {name} |");
    cells(text, samples, row, measure);
    for (theirs, _) in OTHERS {
        let ratio = samples.ratio(row, measure, System::Millstream, theirs);
        let _ = write!(text, " {} |", cell(ratio));
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
        table_head(text, "load");
        for row in &rows {
            line(text, samples, row, row, measure);
        }
    }
    let _ = write!(text, "\n## Produce, what else to know\n\n");
    let titles = SYSTEMS.map(System::title).join(" | ");
    let _ = writeln!(text, "| | load | {titles} |\n|---|---|---|---|---|---|");
    for measure in [
        Measure::RefusedPercent,
        Measure::ServerCores,
        Measure::GeneratorCores,
        Measure::OthersCores,
    ] {
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
        share them: the CPU of the server per GiB is then the figure to compare. What \
        Apache Kafka leaves to the page cache is written later: that counts as CPU, not as time.",
    );
}

fn produce_rows(samples: &Samples) -> Vec<String> {
    samples.rows(Measure::ServerCores)
}

fn goals(text: &mut String, samples: &Samples) {
    text.push_str("\n## Goals\n\n| goal | row | measured | |\n|---|---|---|---|\n");
    for goal in GOALS {
        let rows = match goal.rows {
            Rows::One(row) => vec![row.to_owned()],
            Rows::Latency => PACES.iter().map(|pace| pace.label.to_owned()).collect(),
            Rows::Produce => produce_rows(samples),
            Rows::Large => {
                let rows = produce_rows(samples).into_iter();
                rows.filter(|row| row.contains("MB batches")).collect()
            }
            Rows::Transactions => PRODUCERS.map(|count| transactions_row(count, true)).to_vec(),
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
        Measure::P999Us,
    ] {
        for row in samples.rows(measure) {
            for theirs in [System::Kafka, System::KafkaFlushed] {
                let ratio = samples.ratio(&row, measure, System::Millstream, theirs);
                let Some(ratio) = ratio else { continue };
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
        let disks = vec![Disk { flush_us: 400.0, rewritten: 900.0, fresh: 450.0 }];
        let machine = "2 cores, 8 GiB of memory".to_owned();
        Facts { machine, disks, quick: true, journal_mebibytes: 256, run_mebibytes: 1280 }
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
