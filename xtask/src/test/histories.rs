//! Histories: many real clients do random things while the server is killed, stopped and left without
//! disk space (`tests/clients/kill/histories.py`); what they wrote down is judged by the checker of
//! `millstream_testkit::history`, through its program `judge`.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::clients::{CLIENTS, Places, Runtime};
use super::full::Mounted;
use super::matrix::{Outcome, Verdict};
use super::options::Options;
use super::{kill, process, server};

/// The name of the step.
pub(crate) const NAME: &str = "histories";

/// How long one history is, in a normal and at most in a long run, in seconds. A long run has one after
/// the other, each of its own seed: each begins with a new server.
const SECONDS_FAST: u64 = 60;
const SECONDS_LONG: u64 = 300;

/// The server's disk, in bytes: a journal of twice the least size, the reserve, and what is sent.
const DISK_BYTES: u64 = 1024 * 1024 * 1024;

/// Millstream's journal is kept small, so that segments and checkpoints are written meanwhile.
const SMALL_JOURNAL: &str = "--set millstream.journal.bytes=134217728";

/// For clients to end and everything to be read, on a busy machine.
const LIMIT_AT_THE_END: Duration = Duration::from_secs(900);

/// Records and judges as many histories as fit in the time that is asked for, and prints the outcomes.
pub(crate) fn run(options: &Options, places: &Places, seconds: u64) -> Vec<Outcome> {
    let total = options.history_seconds();
    let seed = options.seed.unwrap_or(seconds);
    let lengths = lengths(total);
    println!("{NAME}: {total} s in {} histories, from seed {seed}", lengths.len());
    let java = match Runtime::Java.missing() {
        Some(program) => {
            println!("  without the Java clients: `{program}` is not on this machine");
            Ok(())
        }
        None => Runtime::Java.set_up(places),
    };
    if let Err(error) = build(places).and(java) {
        return vec![Outcome::of(NAME, "build", Err(error))];
    }
    let one = |(at, length): (u64, &u64)| {
        let started = std::time::Instant::now();
        let seed = seed + at;
        let name = format!("{length} s, seed {seed}");
        let mut outcome = attempt(options, places, (*length, seed), &name)
            .unwrap_or_else(|error| Outcome::of(NAME, &name, Err(error)));
        outcome.seconds = started.elapsed().as_secs_f64();
        outcome.print();
        outcome
    };
    (0..).zip(&lengths).map(one).collect()
}

/// The lengths of histories that make up so many seconds.
fn lengths(total: u64) -> Vec<u64> {
    let mut lengths =
        vec![SECONDS_LONG; usize::try_from(total / SECONDS_LONG).unwrap_or(usize::MAX)];
    lengths.extend(Some(total % SECONDS_LONG).filter(|rest| *rest > 0));
    lengths
}

/// The seconds of a run in which nobody says how many.
pub(crate) fn seconds_by_default(long: bool) -> u64 {
    if long { 3_600 } else { SECONDS_FAST }
}

fn build(places: &Places) -> anyhow::Result<()> {
    let mut command = super::cargo();
    command.args(["build", "--package", "millstream-testkit", "--bin", "judge"]);
    command.current_dir(&places.root);
    process::run("cargo build", command, &places.run.join("judge-build.log"))
}

fn attempt(
    options: &Options,
    places: &Places,
    (length, seed): (u64, u64),
    name: &str,
) -> anyhow::Result<Outcome> {
    let folder = places.run.join(format!("{NAME}-{seed}"));
    fs::create_dir_all(folder.join("disk"))?;
    // Where nothing can be mounted, the disk is not filled up.
    let disk = Mounted::new(&folder, DISK_BYTES).inspect_err(|why| {
        println!("  no small file system can be mounted here, so that no disk is filled up: {why}");
    });
    let data = disk.as_ref().map_or(&folder, |disk| &disk.folder).join("data");
    let (port, http) = (server::free_port()?, server::free_port()?);
    let mut command = server::fill(&options.server, port, http, &data);
    if options.own_server {
        command = format!("{command} {SMALL_JOURNAL}");
    }
    let recorded = folder.join("history");
    let mut driver = Command::new(places.python());
    driver.arg(places.sources.join("kill/histories.py"));
    driver.args(["--bootstrap", &format!("127.0.0.1:{port}")]).arg("--folder").arg(&recorded);
    driver.args(["--seconds", &length.to_string(), "--seed", &seed.to_string()]);
    if let Some(java) = java(places) {
        driver.arg("--java").arg(java);
    }
    if let Ok(disk) = &disk {
        driver.arg("--disk").arg(&disk.folder);
    }
    let limit = Duration::from_secs(length) + LIMIT_AT_THE_END;
    let mut outcome = kill::drive(driver, &command, places, &folder, (NAME, name), limit)?;
    // What was recorded is judged even if the driver has failed: it may say why.
    match judge(places, &folder, &recorded) {
        Ok(counts) => println!("  {counts}"),
        Err(error) => {
            outcome.verdict = Verdict::Fail;
            outcome.reason = format!("{error:#}\n{}", outcome.reason);
        }
    }
    drop(disk);
    if outcome.verdict == Verdict::Pass {
        fs::remove_dir_all(&folder).context("deleting what the clients have left")?;
    }
    Ok(outcome)
}

/// The command of the Java clients, where they could be set up.
fn java(places: &Places) -> Option<String> {
    let client = CLIENTS.iter().find(|client| client.runtime == Runtime::Java)?;
    let command = client.command(places);
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    Some(words.join(" ")).filter(|_| client.runtime.missing().is_none())
}

/// Counts of operations, when there is no violation.
fn judge(places: &Places, folder: &Path, recorded: &Path) -> anyhow::Result<String> {
    let log = folder.join("judged.log");
    let mut command = Command::new(places.root.join("target/debug/judge"));
    command.arg(recorded);
    process::run("judging what the clients have recorded", command, &log)?;
    let judged = fs::read_to_string(&log)?;
    let counts = judged.lines().last().unwrap_or_default();
    ensure!(!counts.is_empty(), "the checker has said nothing");
    Ok(counts.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histories_make_up_the_time_that_is_asked_for() {
        for (total, expected) in [(60, &[60][..]), (300, &[300]), (700, &[300, 300, 100]), (0, &[])]
        {
            assert_eq!(lengths(total), expected, "{total}");
        }
    }
}
