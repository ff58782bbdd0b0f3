//! `millstream-bench`: Millstream and Apache Kafka side by side on one machine, in one run.
//!
//! `cargo xtask bench` builds this program and the server and starts the suite. Files:
//!
//! * `suite.rs` the plan: which rows, in which order, how often;
//! * `shape.rs` what a load sends, encoded before the clock starts;
//! * `load/` the generators: throughput, latency at a fixed rate, reading;
//! * `server.rs` the servers as child processes; `watch.rs` their cost, read from `/proc`;
//! * `tools.rs` Apache Kafka's own load generator, the cross-check;
//! * `hostile.rs` a well-behaved client beside hostile ones;
//! * `samples.rs` what was measured; `report.rs` what is said about it.
//!
//! To add a row: a step in `suite.rs` that records samples, and a table in `report.rs`.

mod hostile;
mod load;
mod options;
mod peer;
mod report;
mod samples;
mod server;
mod shape;
mod suite;
mod tools;
mod watch;

use clap::Parser as _;

use crate::options::{Command, Options};

fn main() -> anyhow::Result<()> {
    match Options::parse().command {
        Command::Suite(plan) => suite::run(&plan),
        Command::Load(load) => suite::load_once(&load),
        Command::Hostile(plan) => hostile::run(&plan),
    }
}
