//! librdkafka's own tests: `tests/clients/librdkafka/suite.py` with the server's command.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::clients::{Places, Runtime};
use super::matrix::{Outcome, Verdict};
use super::options::Options;
use super::{kill, process};

/// The name of the step.
pub(crate) const NAME: &str = "librdkafka";

/// Both protocols, one after the other, on a busy machine.
const LIMIT: Duration = Duration::from_secs(3_600);

/// Tests at a time, of those that run each time.
const QUICK_JOBS: usize = 8;

/// What the tests are built with, beside a C library with headers of zlib and OpenSSL.
const PROGRAMS: [&str; 4] = ["python3", "cc", "make", "java"];

/// Builds the tests, runs them, all or those that say most in a few minutes, and prints the outcome.
pub(crate) fn run(options: &Options, places: &Places, all: bool) -> Outcome {
    println!("librdkafka's own tests, in both group protocols");
    if !process::present("g++") {
        println!("  without those in C++: `g++` is not on this machine");
    }
    let started = std::time::Instant::now();
    let mut outcome = match PROGRAMS.into_iter().find(|program| !process::present(program)) {
        Some(program) => {
            let verdict = if options.strict { Verdict::Fail } else { Verdict::Skip };
            Outcome::new(NAME, "set-up", verdict, format!("`{program}` is not on this machine"))
        }
        None => {
            let attempted = attempt(options, places, all);
            attempted.unwrap_or_else(|error| Outcome::of(NAME, "set-up", Err(error)))
        }
    };
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.print();
    outcome
}

fn attempt(options: &Options, places: &Places, all: bool) -> anyhow::Result<Outcome> {
    // They call kafka-topics.
    Runtime::JavaTools.set_up(places)?;
    let folder = places.run.join(NAME);
    fs::create_dir_all(&folder)?;
    let mut driver = Command::new("python3");
    driver.arg(places.sources.join("librdkafka/suite.py")).arg("--folder").arg(&folder);
    driver.arg("--cache").arg(places.cache.join(NAME));
    driver.arg("--classpath").arg(places.cache.join("java-tools/lib/*"));
    if all {
        driver.args(["--jobs", &options.jobs.to_string()]);
    } else {
        // Most of the time they wait for something.
        driver.args(["--quick", "--jobs", &QUICK_JOBS.to_string()]);
    }
    driver.arg(&options.server).current_dir(&places.root);
    kill::outcome(driver, &folder, (NAME, "both protocols"), LIMIT)
}
