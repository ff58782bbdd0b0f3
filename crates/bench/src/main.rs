//! `millstream-bench`: Millstream and Apache Kafka side by side on one machine, in one run.
//!
//! `cargo xtask bench` builds this program and the server and starts the suite. Files:
//!
//! * `suite.rs` the plan: which rows, in which order, how often;
//! * `shape.rs` what a load sends, encoded before the clock starts;
//! * `load/` the generators: throughput, latency at a fixed rate, reading, tailing;
//! * `null.rs` a broker that only checks and answers: the ceiling;
//! * `server.rs` the servers as child processes; `watch.rs` their cost, read from `/proc`;
//! * `scale.rs` what thousands of partitions cost, in a run of its own;
//! * `tools.rs` other people's load generators, the cross-check;
//! * `hostile.rs` a well-behaved client beside hostile ones;
//! * `samples.rs` what was measured; `report.rs` what is said about it; `chart.rs` what is shown.
//!
//! To add a row: a step in `suite.rs` that records samples, and a table in `report.rs`.

mod chart;
mod hostile;
mod load;
mod null;
mod options;
mod peer;
mod report;
mod samples;
mod scale;
mod server;
mod shape;
mod suite;
mod tools;
mod watch;

use clap::Parser as _;

use crate::options::{Command, Options};
use crate::suite::Part;

fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Suite(plan) => suite::run(&plan, Part::Rows),
        Command::Security(plan) => suite::run(&plan, Part::Security),
        Command::Load(load) => suite::load_once(&load),
        Command::Hostile(plan) => hostile::run(&plan),
        Command::Null { at } => suite::runtime()?.block_on(null::serve(at)),
        Command::Scale(plan) => scale::run(&plan),
    }
}
