//! Kill rounds: the drivers in `tests/clients/kill` with the server's command.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;
use serde_json::Value;

use super::clients::Places;
use super::matrix::{Outcome, Verdict};
use super::options::Options;
use super::{process, server};

/// What is driven, in how many rounds, and in how many with `--long`.
const DRIVERS: [Driver; 2] = [
    Driver { client: "kill", script: "kill.py", fast: 20, long: 200 },
    Driver { client: "kill-exactly-once", script: "exactly_once.py", fast: 6, long: 100 },
];

struct Driver {
    client: &'static str,
    script: &'static str,
    fast: u64,
    long: u64,
}

/// More than a round takes with the slowest server (a JVM that starts).
const SECONDS_PER_ROUND: u64 = 30;

/// Runs the rounds of each driver and prints the outcomes.
pub(crate) fn rounds(options: &Options, places: &Places, seconds: u64) -> Vec<Outcome> {
    DRIVERS.iter().map(|driver| rounds_of(driver, options, places, seconds)).collect()
}

fn rounds_of(driver: &Driver, options: &Options, places: &Places, seconds: u64) -> Outcome {
    let rounds = if options.long { driver.long } else { driver.fast };
    let seed = options.seed.unwrap_or(seconds);
    println!("{}: {rounds} rounds, seed {seed}", driver.client);
    let started = std::time::Instant::now();
    let name = format!("{rounds} rounds");
    let mut outcome = attempt(driver, options, places, (rounds, seed), &name)
        .unwrap_or_else(|error| Outcome::of(driver.client, &name, Err(error)));
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.print();
    outcome
}

fn attempt(
    Driver { client, script, .. }: &Driver,
    options: &Options,
    places: &Places,
    (rounds, seed): (u64, u64),
    name: &str,
) -> anyhow::Result<Outcome> {
    let folder = places.run.join(client);
    fs::create_dir_all(&folder)?;
    let (port, http) = (server::free_port()?, server::free_port()?);
    let command = server::fill(&options.server, port, http, &folder.join("data"));
    let mut driver = Command::new(places.python());
    driver.arg(places.sources.join("kill").join(script));
    driver.args(["--bootstrap", &format!("127.0.0.1:{port}")]);
    driver.args(["--rounds", &rounds.to_string(), "--seed", &seed.to_string()]);
    let limit = Duration::from_secs(60 + rounds * SECONDS_PER_ROUND);
    let outcome = drive(driver, &command, places, &folder, (client, name), limit)?;
    if outcome.verdict == Verdict::Pass {
        fs::remove_dir_all(folder.join("data")).context("deleting what the server has left")?;
    }
    Ok(outcome)
}

/// Has `driver` test the server that `command` starts; its last line is the result. Logs are in `folder`.
///
/// # Errors
///
/// When there is no result, or none in time.
pub(crate) fn drive(
    mut driver: Command,
    command: &str,
    places: &Places,
    folder: &Path,
    (client, scenario): (&str, &str),
    limit: Duration,
) -> anyhow::Result<Outcome> {
    driver.arg("--log").arg(folder.join("server.log")).args(["--", "sh", "-c"]);
    driver.arg(format!("exec {command}")).current_dir(&places.root);
    outcome(driver, folder, (client, scenario), limit)
}

/// Runs a driver to its end; its last line is the result.
///
/// # Errors
///
/// When there is no result, or none in time.
pub(crate) fn outcome(
    driver: Command,
    folder: &Path,
    (client, scenario): (&str, &str),
    limit: Duration,
) -> anyhow::Result<Outcome> {
    let (out, err) = (folder.join("driver.out"), folder.join("driver.err"));
    let mut child = process::start(driver, &out, &err)?;
    let ended = process::wait(&mut child, limit)?;
    process::kill(&mut child);
    ended.with_context(|| format!("not done in time\n{}", process::tail(&err, 20)))?;
    let printed = fs::read_to_string(&out)?;
    let result: Value = printed
        .lines()
        .last()
        .and_then(|line| serde_json::from_str(line).ok())
        .with_context(|| format!("no result\n{}", process::tail(&err, 20)))?;
    let verdict = if result["result"] == "pass" { Verdict::Pass } else { Verdict::Fail };
    let reason = if verdict == Verdict::Pass {
        println!("  {}", result["data"]);
        String::new()
    } else {
        format!(
            "{}\nserver's log:\n{}",
            result["reason"].as_str().unwrap_or_default(),
            process::tail(&folder.join("server.log"), 20)
        )
    };
    let mut outcome = Outcome::new(client, scenario, verdict, reason);
    outcome.data = result["data"].clone();
    Ok(outcome)
}
