//! The simulator, on many more seeds than `cargo test` has time for: built with optimisations and with the
//! checks of a debug build.

use super::clients::Places;
use super::matrix::Outcome;
use super::{cargo, process};

/// The name of the step.
pub(crate) const NAME: &str = "sim";

/// How many seeds are run where `MILLSTREAM_SEEDS` says nothing else.
const SEEDS: &str = "100000";

/// Runs the seeds and prints the outcome.
pub(crate) fn run(places: &Places) -> Outcome {
    let seeds = std::env::var("MILLSTREAM_SEEDS").unwrap_or_else(|_| SEEDS.to_owned());
    println!("simulating {seeds} seeds");
    let started = std::time::Instant::now();
    let mut command = cargo();
    command.args(["test", "--profile", "fuzz", "--package", "millstream-sim", "--test", "seeds"]);
    command.args(["--", "--nocapture"]).env("MILLSTREAM_SEEDS", &seeds).current_dir(&places.root);
    let result = process::run("cargo test", command, &places.run.join("sim.log"));
    let mut outcome = Outcome::of(NAME, &format!("{seeds} seeds"), result);
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.print();
    outcome
}
