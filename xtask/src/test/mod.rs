//! `cargo xtask test`: the workspace's own tests, then unmodified Kafka clients and kill rounds
//! against the program.
//!
//! 1. `options.rs`: what is asked for.
//! 2. `clients.rs`: sets the clients up, below `.cache/clients`.
//! 3. `server.rs`: starts the server on free ports.
//! 4. `suite.rs` and `matrix.rs`: run the scenarios of `tests/clients/scenarios.json`.
//!    `secure.rs`: the same where one has to log in, and our own commands there.
//! 5. `kill.rs`: kills the server again and again while it is used.
//! 6. `histories.rs`: records what many clients do while it is killed and stopped, and has that judged.
//! 7. `stacks.rs`: other people's stacks, some of them with `--long` only.
//! 8. `full.rs`, with `--long`: has it fill up a disk.
//! 9. `librdkafka.rs`: librdkafka's own tests, with `--long` all of them; then `sim.rs`, the simulator.
//! 10. `compaction.rs`, with `--long`: a long history, compacted while clients write and read it.
//! 11. `docs.rs`: writes `docs/clients.md`.

// The ban on clocks, sleeping and files is for the product; chores do these things.
#![expect(clippy::disallowed_methods, reason = "a chore, not the product")]

use std::process::{Command, ExitCode};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use clients::{CLIENTS, Client, Places, Runtime};
use matrix::{Outcome, Runner, Scenario, Verdict};
use options::Options;
use server::Server;
use suite::Suite;

mod clients;
mod compaction;
mod docs;
mod full;
mod fuzz;
mod histories;
mod kill;
mod librdkafka;
mod matrix;
mod options;
mod process;
mod records;
mod secure;
mod server;
mod sim;
mod stacks;
mod suite;

/// Runs the chore.
///
/// # Errors
///
/// When it can't even begin: unknown options, no place for its files, the program doesn't build.
pub(crate) fn run(arguments: &[&str]) -> anyhow::Result<ExitCode> {
    if let ["--help" | "-h"] = arguments {
        print!("{}", options::USAGE);
        return Ok(ExitCode::SUCCESS);
    }
    let options = Options::parse(arguments)?;
    let started = Instant::now();
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let places = Places::new(&format!("r{seconds}"))?;
    let scenarios = suite::scenarios(&places)?;
    if options.list {
        let steps = ["workspace", "kill", histories::NAME, librdkafka::NAME].join("\n");
        println!("{steps}\n{}", suite::names(&scenarios).join("\n"));
        println!("{}", secure::names(&scenarios).join("\n"));
        let long = [full::NAME, compaction::NAME, sim::NAME].map(str::to_owned).into_iter();
        let long = long.chain(fuzz::names());
        let stacks = stacks::names().collect::<Vec<_>>();
        stacks.iter().filter(|(_, quick)| *quick).for_each(|(name, _)| println!("{name}"));
        let long = long.chain(stacks.into_iter().filter(|(_, quick)| !quick).map(|(name, _)| name));
        long.for_each(|name| println!("{name}    (with --long)"));
        return Ok(ExitCode::SUCCESS);
    }

    let mut outcomes = Vec::new();
    let mut passed_in_rust = 0;
    let is_about_own = options.own_server && options.against.is_none() && !options.only_fuzzes();
    // It makes certificates for another server as well.
    if is_about_own || secure::any(&options, &scenarios) {
        build(&places)?;
    }
    if is_about_own && options.wants("workspace") {
        passed_in_rust = workspace_tests(&places, options.long, &mut outcomes);
    }
    let (clients, mut absent) = set_up(&options, &places, &scenarios);
    outcomes.append(&mut absent);
    let run = format!("r{seconds}");
    let versions = client_suite(&options, &places, &run, &clients, &scenarios, &mut outcomes)?;
    outcomes.append(&mut secure::run(&options, &places, &run, &clients, &scenarios));
    if options.wants("kill") && options.against.is_none() {
        outcomes.append(&mut kill::rounds(&options, &places, seconds));
    }
    if options.records_histories() {
        outcomes.append(&mut histories::run(&options, &places, seconds));
    }
    outcomes.append(&mut stacks::run(&options, &places));
    if options.fills() {
        outcomes.push(full::run(&options, &places));
    }
    if let Some(all) = options.runs_librdkafka() {
        outcomes.push(librdkafka::run(&options, &places, all));
    }
    if options.compacts() {
        outcomes.push(compaction::run(&options, &places));
    }
    if options.simulates() {
        outcomes.push(sim::run(&places));
    }
    if options.long && options.own_server && options.against.is_none() {
        outcomes.append(&mut fuzz::run(&options, &places));
    }
    if options.write_docs {
        anyhow::ensure!(
            options.own_server,
            "docs/clients.md is about Millstream, not another server"
        );
        docs::write(&places, &scenarios, &versions, &outcomes)?;
    }
    println!("\nafter {} s; logs in {}", started.elapsed().as_secs(), places.run.display());
    Ok(summary(&scenarios, &outcomes, passed_in_rust))
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

fn build(places: &Places) -> anyhow::Result<()> {
    println!("building the program");
    let mut command = cargo();
    command.args(["build", "--release", "--package", "millstream"]).current_dir(&places.root);
    process::run("cargo build", command, &places.run.join("build.log"))
}

/// Runs `cargo test`; how many tests have passed.
fn workspace_tests(places: &Places, long: bool, outcomes: &mut Vec<Outcome>) -> u64 {
    let started = Instant::now();
    println!("cargo test --workspace");
    let log = places.run.join("workspace.log");
    let mut command = cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]).current_dir(&places.root);
    if long {
        // Power cuts and histories of the log: as many seeds as are worth an evening.
        command.env("MILLSTREAM_SEEDS", "10000");
    }
    let result = process::run("cargo test", command, &log);
    let text = std::fs::read_to_string(&log).unwrap_or_default();
    let passed = text.lines().filter_map(passed_in_line).sum();
    let failed = text.lines().filter(|line| line.starts_with("test ") && line.ends_with("FAILED"));
    let failed: Vec<&str> = failed.collect();
    let result = match result {
        Err(error) if !failed.is_empty() => Err(error.context(failed.join("\n"))),
        other => other,
    };
    let mut outcome = Outcome::of("workspace", "cargo test", result);
    outcome.seconds = started.elapsed().as_secs_f64();
    outcome.print();
    println!("  {passed} tests passed");
    outcomes.push(outcome);
    passed
}

/// From `test result: ok. 12 passed; ...`: 12.
fn passed_in_line(line: &str) -> Option<u64> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    counts.split_once(" passed")?.0.parse().ok()
}

/// Sets up the clients that are asked for. The others' outcomes say what is wrong with them.
fn set_up(
    options: &Options,
    places: &Places,
    scenarios: &[Scenario],
) -> (Vec<Client>, Vec<Outcome>) {
    let wanted = |client: &&Client| {
        suite::wants(options, client, scenarios) || secure::wants(options, client, scenarios)
    };
    let clients: Vec<Client> = CLIENTS.iter().filter(wanted).copied().collect();
    let kills = options.wants("kill") && options.against.is_none();
    let needs_python = kills
        || options.records_histories()
        || options.fills()
        || options.compacts()
        || stacks::any(options);
    let mut runtimes: Vec<Runtime> = clients.iter().map(|client| client.runtime).collect();
    if needs_python || !runtimes.is_empty() {
        runtimes.push(Runtime::Python);
    }
    let runtimes: Vec<Runtime> =
        Runtime::ALL.into_iter().filter(|r| runtimes.contains(r)).collect();
    println!("setting up {runtimes:?}");
    let problems: Vec<(Runtime, String)> = std::thread::scope(|scope| {
        let set_up = |runtime: Runtime| match runtime.missing() {
            Some(program) => Some((runtime, format!("`{program}` is not on this machine"))),
            None => runtime.set_up(places).err().map(|error| (runtime, format!("{error:#}"))),
        };
        let threads: Vec<_> =
            runtimes.iter().map(|runtime| scope.spawn(move || set_up(*runtime))).collect();
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    });
    let problem = |client: &Client| problems.iter().find(|(runtime, _)| *runtime == client.runtime);
    let absent = clients.iter().filter_map(|client| {
        let (runtime, reason) = problem(client)?;
        let absent = runtime.missing().is_some() && !options.strict;
        let verdict = if absent { Verdict::Skip } else { Verdict::Fail };
        let outcome = Outcome::new(client.name, "set-up", verdict, reason.clone());
        outcome.print();
        Some(outcome)
    });
    let absent = absent.collect();
    (clients.into_iter().filter(|client| problem(client).is_none()).collect(), absent)
}

/// Runs the client suite; the versions of the clients, by name.
fn client_suite(
    options: &Options,
    places: &Places,
    run: &str,
    clients: &[Client],
    scenarios: &[Scenario],
    outcomes: &mut Vec<Outcome>,
) -> anyhow::Result<Vec<(String, String)>> {
    if clients.is_empty() {
        return Ok(Vec::new());
    }
    let (server, bootstrap) = match &options.against {
        Some(address) => (None, address.clone()),
        None => match Server::start(&options.server, &places.root, &places.run) {
            Ok(server) => {
                let bootstrap = server.bootstrap.clone();
                (Some(server), bootstrap)
            }
            Err(error) => {
                outcomes.push(Outcome::of("server", "start", Err(error)));
                return Ok(Vec::new());
            }
        },
    };
    println!("{} clients against {bootstrap}", clients.len());
    let runner =
        Runner { places: places.clone(), bootstrap, run: run.to_owned(), jobs: options.jobs };
    let versions = versions(&runner, clients);
    let suite = Suite { options, runner: &runner, scenarios, clients };
    outcomes.append(&mut suite.run()?);
    if let Some(server) = server {
        let stopped = Outcome::of("server", "stop", server.stop());
        stopped.print();
        outcomes.push(stopped);
        if options.own_server {
            outcomes.append(&mut suite.run_on_data()?);
        }
        if outcomes.iter().all(|outcome| outcome.verdict != Verdict::Fail) {
            std::fs::remove_dir_all(places.run.join("data"))?;
        }
    }
    Ok(versions)
}

fn versions(runner: &Runner, clients: &[Client]) -> Vec<(String, String)> {
    let limit = std::time::Duration::from_secs(30);
    let job = |client: &Client| matrix::Job {
        client: *client,
        scenario: "version".to_owned(),
        arguments: Vec::new(),
        label: format!("{}-version", client.name),
        limit,
        entry: None,
    };
    let version = |client: &Client| {
        let outcome = runner.run(&job(client));
        let version = outcome.data.as_str().unwrap_or("unknown").to_owned();
        println!("  {:<16} {version}", client.name);
        (client.name.to_owned(), version)
    };
    clients.iter().map(version).collect()
}

/// Prints the table, what failed, what was absent, and the counts.
fn summary(scenarios: &[Scenario], outcomes: &[Outcome], passed_in_rust: u64) -> ExitCode {
    let clients: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    if outcomes.iter().any(|outcome| clients.contains(&outcome.client.as_str())) {
        println!("\n{}", matrix::table(scenarios, &clients, outcomes));
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Skip) {
        println!("skipped: {} {}: {}", outcome.client, outcome.scenario, outcome.reason);
    }
    for outcome in outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Fail) {
        println!("FAILED: {} {}: {}", outcome.client, outcome.scenario, outcome.reason);
    }
    let count = |verdict| outcomes.iter().filter(|outcome| outcome.verdict == verdict).count();
    let passed = u64::try_from(count(Verdict::Pass)).unwrap_or_default() + passed_in_rust;
    let failed = count(Verdict::Fail);
    println!("\n{passed} passed, {failed} failed, {} skipped", count(Verdict::Skip));
    if failed == 0 && passed > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passed_tests_are_counted_from_cargos_summary() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; finished in 0.1s";
        assert_eq!(passed_in_line(line), Some(12));
        assert_eq!(passed_in_line("test result: FAILED. 3 passed; 1 failed;"), Some(3));
        assert_eq!(passed_in_line("test a::b ... ok"), None);
    }

    #[test]
    fn the_list_of_scenarios_is_understood() {
        let text = include_str!("../../../tests/clients/scenarios.json");
        let scenarios: Vec<Scenario> = serde_json::from_str(text).expect("valid");
        let names = suite::names(&scenarios);
        assert!(names.contains(&"java-tools/performance".to_owned()));
        assert!(!names.contains(&"kcat/performance".to_owned()));
    }
}
