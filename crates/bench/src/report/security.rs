//! `docs/benchmarks/security.md`: what TLS and access rules cost.

use std::fmt::Write as _;

use super::{Facts, cell, machine};
use crate::samples::{Measure, Samples};
use crate::server::System;
use crate::suite::{IN_FLIGHT, READ, READERS, security_rows};

const MEASURES: [Measure; 4] = [
    Measure::KeptPercent,
    Measure::CpuTimes,
    Measure::MegabytesPerSecond,
    Measure::CpuSecondsPerGibibyte,
];

const HEAD: &str = "|  | Millstream (flushed) | Kafka (not flushed) | ÷ Kafka |";

/// The page.
pub(crate) fn write(samples: &Samples, facts: &Facts, repetitions: usize) -> String {
    let option = if facts.quick { " --quick" } else { "" };
    let mut text = format!(
        "# What security costs\n\n\
        Written by `cargo xtask bench --security{option}`; don't edit. All samples: \
        `target/bench/security.json`.\n\n\
        {machine}\n\n\
        **Durability**: both as they ship. *Millstream* answers when the batch is on stable storage, *Kafka* (one \
        KRaft node, 1 GiB heap) when the page cache has it.\n\n\
        **Method**: {repetitions} repetitions; in each, two servers of one program and then two of the other \
        start on empty directories. The load is \"{load}\", for some seconds, with {IN_FLIGHT} requests in flight \
        on each connection and `acks=all`; then {READERS} connections read it back from the start. In plain text \
        and without rules; over TLS, with the newest version and the cipher that both sides like best, at another \
        port of the same server; with an authorizer and 1,000 rules, of which one lets the generator in, on the \
        second server. All of it twice before it counts, since a virtual machine compiles what it sees \
        often; then once in this order and once in the other. Kept is the throughput in percent of that in plain \
        text and without rules, half of it before and half after. The generator pays for its half of TLS on the \
        same machine, and CPU is what the server alone uses. A cell is the median (least–most); the last column \
        divides ours by Kafka's of the same \
        repetition.\n",
        machine = machine(facts),
        load = READ.label(),
    );
    for row in &security_rows() {
        let title = row.trim_start_matches("security: ");
        let _ = write!(text, "\n## {title}\n\n{HEAD}\n|---|---|---|---|\n");
        for measure in MEASURES {
            let [ours, theirs] = [System::Millstream, System::Kafka]
                .map(|system| cell(samples.spread(row, measure, system)));
            let ratio = samples.ratio(row, measure, System::Millstream, System::Kafka);
            let _ = writeln!(text, "| {} | {ours} | {theirs} | {} |", measure.title(), cell(ratio));
        }
    }
    text
}
