//! The client suite: every scenario with every client, then all clients on each other's records.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use serde_json::Value;

use super::clients::{CLIENTS, Client, Places};
use super::matrix::{Job, Needs, Outcome, Runner, Scenario, Verdict};
use super::options::Options;
use super::{process, records};

/// The tables of nycflights13, the largest first: it goes to the fastest client.
const TABLES: [&str; 5] = ["flights", "weather", "planes", "airports", "airlines"];

/// # Errors
///
/// When `tests/clients/scenarios.json` can't be read or understood.
pub(crate) fn scenarios(places: &Places) -> anyhow::Result<Vec<Scenario>> {
    let path = places.sources.join("scenarios.json");
    let text = std::fs::read(&path).with_context(|| path.display().to_string())?;
    serde_json::from_slice(&text).with_context(|| path.display().to_string())
}

/// The suite of one run.
pub(crate) struct Suite<'a> {
    pub options: &'a Options,
    pub runner: &'a Runner,
    pub scenarios: &'a [Scenario],
    /// The clients that are set up.
    pub clients: &'a [Client],
}

impl Suite<'_> {
    /// Runs what is asked for.
    ///
    /// # Errors
    ///
    /// When files of the run can't be written; what a client does wrong is in the outcomes.
    pub(crate) fn run(&self) -> anyhow::Result<Vec<Outcome>> {
        self.write_records()?;
        let mut outcomes = self.runner.run_all(&self.jobs_alone());
        let others = self.jobs_on_others(&outcomes);
        let produce = self.jobs_for_tables();
        let mut produced = self.runner.run_all(&produce);
        let expected = expected_tables(&produced);
        outcomes.append(&mut produced);
        outcomes.append(&mut self.runner.run_all(&others));
        let mut read = self.runner.run_all(&self.jobs_reading_tables(&expected));
        for outcome in &mut read {
            compare_tables(outcome, &expected);
        }
        outcomes.append(&mut read);
        Ok(outcomes)
    }

    /// Runs what looks at the data directory that the server has left.
    ///
    /// # Errors
    ///
    /// When the directory can't be exported.
    pub(crate) fn run_on_data(&self) -> anyhow::Result<Vec<Outcome>> {
        if !self.wants_any(Needs::Export) {
            return Ok(Vec::new());
        }
        let places = &self.runner.places;
        let (folder, said) = (places.run.join("export"), places.run.join("export.json"));
        let mut export = Command::new(places.root.join("target/release/millstream"));
        export.args(["log", "export", "--internal", "--json", "--data-dir"]);
        export.arg(places.run.join("data")).arg("--out").arg(&folder);
        process::run("millstream log export", export, &said)?;
        let mut jobs = Vec::new();
        for scenario in self.scenarios.iter().filter(|scenario| scenario.needs == Needs::Export) {
            for client in self.clients.iter().filter(|client| self.wants(client, scenario)) {
                jobs.push(self.job(client, scenario, vec![said.display().to_string()]));
            }
        }
        let outcomes = self.runner.run_all(&jobs);
        if outcomes.iter().all(|outcome| outcome.verdict != Verdict::Fail) {
            std::fs::remove_dir_all(folder)?;
        }
        Ok(outcomes)
    }

    fn job(&self, client: &Client, scenario: &Scenario, arguments: Vec<String>) -> Job {
        let limit = Duration::from_secs(scenario.seconds);
        let label = format!("{}-{}", client.name, scenario.name);
        let scenario = scenario.name.clone();
        Job { client: *client, scenario, arguments, label, limit, entry: None }
    }

    fn wants(&self, client: &Client, scenario: &Scenario) -> bool {
        scenario.is_for(client) && self.options.wants(&format!("{}/{}", client.name, scenario.name))
    }

    /// Whether some client is to run a scenario with these needs.
    fn wants_any(&self, needs: Needs) -> bool {
        let mut scenarios = self.scenarios.iter().filter(|scenario| scenario.needs == needs);
        scenarios.any(|scenario| self.clients.iter().any(|client| self.wants(client, scenario)))
    }

    fn records_file(&self, client: &Client) -> String {
        records_file(&self.runner.places, client)
    }

    fn write_records(&self) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
        for client in self.clients {
            let records = records::records(client.cannot, u64::try_from(now)?);
            std::fs::write(self.records_file(client), records.to_string())?;
        }
        Ok(())
    }

    /// Scenarios that need no other client. Each client's in a row; clients side by side would only
    /// fight for the machine's cores.
    fn jobs_alone(&self) -> Vec<Job> {
        let mut jobs = Vec::new();
        for client in self.clients {
            for scenario in self.scenarios {
                let arguments = match scenario.needs {
                    Needs::Nothing => Vec::new(),
                    Needs::Records => vec![self.records_file(client)],
                    Needs::Table | Needs::Others | Needs::Tables | Needs::Export => continue,
                    Needs::Door | Needs::Admin | Needs::Tokens => continue,
                };
                // `read-others` needs what the produce scenarios leave.
                let for_others =
                    scenario.needs == Needs::Records && self.options.wants("read-others");
                if self.wants(client, scenario) || for_others {
                    jobs.push(self.job(client, scenario, arguments));
                }
            }
        }
        jobs
    }

    fn jobs_on_others(&self, outcomes: &[Outcome]) -> Vec<Job> {
        let mut jobs = Vec::new();
        for scenario in self.scenarios.iter().filter(|scenario| scenario.needs == Needs::Others) {
            for client in self.clients.iter().filter(|client| self.wants(client, scenario)) {
                let pairs = self.clients.iter().filter(|other| other.name != client.name);
                let pairs = pairs.flat_map(|other| self.produced_by(other, outcomes)).collect();
                jobs.push(self.job(client, scenario, pairs));
            }
        }
        jobs
    }

    /// `TOPIC=FILE` for each compression that the client has produced with.
    fn produced_by(&self, client: &Client, outcomes: &[Outcome]) -> Vec<String> {
        let records = |outcome: &&Outcome| {
            outcome.client == client.name
                && outcome.verdict == Verdict::Pass
                && self
                    .scenarios
                    .iter()
                    .any(|s| s.name == outcome.scenario && s.needs == Needs::Records)
        };
        let topic =
            |outcome: &Outcome| format!("{}-{}-{}", self.runner.run, client.name, outcome.scenario);
        outcomes
            .iter()
            .filter(records)
            .map(|outcome| format!("{}={}", topic(outcome), self.records_file(client)))
            .collect()
    }

    /// Deals the tables out to the clients.
    fn jobs_for_tables(&self) -> Vec<Job> {
        let Some(scenario) = self.scenarios.iter().find(|scenario| scenario.needs == Needs::Table)
        else {
            return Vec::new();
        };
        if !self.wants_any(Needs::Table) && !self.wants_any(Needs::Tables) {
            return Vec::new();
        }
        let able: Vec<&Client> =
            self.clients.iter().filter(|client| !client.cannot.contains(&"timestamps")).collect();
        TABLES
            .iter()
            .zip(able.iter().cycle())
            .map(|(table, client)| {
                let topic = format!("{}-nyc-{table}", self.runner.run);
                let file = self.runner.places.tables().join(format!("{table}.tsv"));
                let job = self.job(client, scenario, vec![topic, file.display().to_string()]);
                Job { label: format!("{}-{table}", job.label), ..job }
            })
            .collect()
    }

    fn jobs_reading_tables(&self, expected: &BTreeMap<String, Value>) -> Vec<Job> {
        let topics: Vec<String> = expected.keys().cloned().collect();
        let mut jobs = Vec::new();
        for scenario in self.scenarios.iter().filter(|scenario| scenario.needs == Needs::Tables) {
            for client in self.clients.iter().filter(|client| self.wants(client, scenario)) {
                jobs.push(self.job(client, scenario, topics.clone()));
            }
        }
        jobs
    }
}

/// Topic to (partition to [number of records, digest]), as the producers have reported.
fn expected_tables(produced: &[Outcome]) -> BTreeMap<String, Value> {
    let reports = produced.iter().filter_map(|outcome| outcome.data.as_object());
    reports.flatten().map(|(topic, digests)| (topic.clone(), digests.clone())).collect()
}

fn compare_tables(outcome: &mut Outcome, expected: &BTreeMap<String, Value>) {
    if outcome.verdict != Verdict::Pass {
        return;
    }
    for (topic, digests) in expected {
        if outcome.data[topic] != *digests {
            outcome.verdict = Verdict::Fail;
            outcome.reason = format!("{topic}: {} instead of {digests}", outcome.data[topic]);
            outcome.print();
            return;
        }
    }
}

/// Whether a client has something to do on the plain server.
pub(crate) fn wants(options: &Options, client: &Client, scenarios: &[Scenario]) -> bool {
    let names = names_of(client, scenarios);
    names.into_iter().any(|name| options.wants(&name))
}

/// The records of every shape that a client can produce.
pub(crate) fn records_file(places: &Places, client: &Client) -> String {
    places.run.join(format!("records-{}.json", client.name)).display().to_string()
}

/// The names of all steps of the suite, as `--only` sees them.
pub(crate) fn names(scenarios: &[Scenario]) -> Vec<String> {
    CLIENTS.iter().flat_map(|client| names_of(client, scenarios)).collect()
}

fn names_of(client: &Client, scenarios: &[Scenario]) -> Vec<String> {
    let is_its = |scenario: &&Scenario| {
        let by_a_door = matches!(scenario.needs, Needs::Door | Needs::Admin | Needs::Tokens);
        scenario.is_for(client) && !by_a_door
    };
    let its = scenarios.iter().filter(is_its);
    its.map(|scenario| format!("{}/{}", client.name, scenario.name)).collect()
}
