//! A long history of a million keys, compacted while clients write and read it:
//! `tests/clients/kill/compaction.py` with the clients of `tests/clients/java/ManyKeys.java`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use super::clients::{Places, Runtime};
use super::matrix::{Outcome, Verdict};
use super::options::Options;
use super::{kill, server};

/// The name of the step.
pub(crate) const NAME: &str = "compaction";

const KEYS: u64 = 1_000_000;
/// How many records each key gets on average: in a long run, and when somebody asks for just this step.
const FACTOR_LONG: u64 = 1_000;
const FACTOR: u64 = 30;

/// A client writes some hundred thousand records in a second, and on a busy machine fewer.
const RECORDS_PER_SECOND: u64 = 100_000;

/// Compaction is looked at after a second instead of a quarter of a minute, so that there is more of it.
const SETTINGS: &str = " --set log.cleaner.backoff.ms=1000";

/// Writes, reads and compares, and prints the outcome.
pub(crate) fn run(options: &Options, places: &Places) -> Outcome {
    let factor = if options.long { FACTOR_LONG } else { FACTOR };
    println!("{KEYS} keys and {factor} records of each, compacted while clients write and read");
    let started = std::time::Instant::now();
    let mut outcome = match Runtime::JavaTools.missing() {
        Some(program) => {
            let verdict = if options.strict { Verdict::Fail } else { Verdict::Skip };
            Outcome::new(NAME, "set-up", verdict, format!("`{program}` is not on this machine"))
        }
        None => attempt(options, places, factor)
            .unwrap_or_else(|error| Outcome::of(NAME, "set-up", Err(error))),
    };
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.print();
    outcome
}

fn attempt(options: &Options, places: &Places, factor: u64) -> anyhow::Result<Outcome> {
    Runtime::JavaTools.set_up(places)?;
    let folder = places.run.join(NAME);
    fs::create_dir_all(&folder)?;
    let (port, http) = (server::free_port()?, server::free_port()?);
    let data = folder.join("data");
    let command = server::fill(&options.server, port, http, &data) + SETTINGS;
    let jars = places.cache.join("java-tools/lib/*");
    let history = places.sources.join("java/ManyKeys.java");
    let mut driver = Command::new(places.python());
    driver.arg(places.sources.join("kill/compaction.py"));
    driver.args(["--bootstrap", &format!("127.0.0.1:{port}")]);
    driver.args(["--http", &format!("127.0.0.1:{http}")]).arg("--data").arg(&data);
    driver.args(["--keys", &KEYS.to_string(), "--factor", &factor.to_string()]);
    driver.arg("--history").arg(format!(
        "java -Xmx512m -cp '{}' '{}'",
        jars.display(),
        history.display()
    ));
    let limit = Duration::from_secs(900 + KEYS * factor / RECORDS_PER_SECOND);
    let name = format!("{factor} records of each of {KEYS} keys");
    let outcome = kill::drive(driver, &command, places, &folder, (NAME, name.as_str()), limit)?;
    if outcome.verdict == Verdict::Pass {
        fs::remove_dir_all(data)?;
    }
    Ok(outcome)
}
