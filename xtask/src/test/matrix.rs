//! Clients times scenarios: run, collect, and print as a table.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde_json::Value;

use super::clients::{Client, Places};
use super::process;

/// A scenario, as `tests/clients/scenarios.json` lists it.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Scenario {
    pub name: String,
    pub what: String,
    /// What it is given beside the server's address.
    #[serde(default)]
    pub needs: Needs,
    /// The clients it is for; all when empty.
    #[serde(default)]
    pub only: Vec<String>,
    /// How long it may take.
    #[serde(default = "default_seconds")]
    pub seconds: u64,
}

impl Scenario {
    /// Whether a client is to run it.
    pub(crate) fn is_for(&self, client: &Client) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == client.name)
    }
}

fn default_seconds() -> u64 {
    90
}

/// The further arguments of a scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Needs {
    #[default]
    Nothing,
    /// A file with the records to produce.
    Records,
    /// A topic and a file with a table to produce.
    Table,
    /// `TOPIC=FILE` for every topic that another client has produced to.
    Others,
    /// The topics of all tables.
    Tables,
    /// A listener where one has to log in: see `secure.rs`.
    Door,
    /// The same, as somebody who may do everything.
    Admin,
    /// The same by tokens, and what makes some that expire soon.
    Tokens,
    /// What `log export --json` said of the data directory, after the server had stopped.
    Export,
}

/// How a step has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
    Skip,
}

/// A step and its end.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub client: String,
    pub scenario: String,
    pub verdict: Verdict,
    pub reason: String,
    pub data: Value,
    pub seconds: f64,
}

impl Outcome {
    pub(crate) fn new(client: &str, scenario: &str, verdict: Verdict, reason: String) -> Self {
        let (client, scenario) = (client.to_owned(), scenario.to_owned());
        Self { client, scenario, verdict, reason, data: Value::Null, seconds: 0.0 }
    }

    pub(crate) fn of(client: &str, scenario: &str, result: anyhow::Result<()>) -> Self {
        match result {
            Ok(()) => Self::new(client, scenario, Verdict::Pass, String::new()),
            Err(error) => Self::new(client, scenario, Verdict::Fail, format!("{error:#}")),
        }
    }

    /// One line of progress; a failure's reason below it.
    pub(crate) fn print(&self) {
        let word = match self.verdict {
            Verdict::Pass => "ok  ",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "skip",
        };
        println!("  {word} {:<16} {:<18} {:5.1} s", self.client, self.scenario, self.seconds);
        if self.verdict == Verdict::Fail {
            for line in self.reason.lines() {
                println!("         {line}");
            }
        }
    }
}

/// One run of one scenario by one client.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub client: Client,
    pub scenario: String,
    pub arguments: Vec<String>,
    /// Names its logs.
    pub label: String,
    pub limit: Duration,
    /// How it logs in, where it has to.
    pub entry: Option<Entry>,
}

/// How a client comes in where it has to log in.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub door: &'static str,
    pub bootstrap: String,
    /// The name of the run at this door: topics of several doors have nothing to do with each other.
    pub run: String,
    /// What the client needs, as JSON.
    pub file: PathBuf,
    /// The same as the Java client takes it.
    pub java: PathBuf,
    /// What its virtual machine is told.
    pub java_options: String,
}

impl Job {
    /// What its outcome is called.
    fn name(&self) -> String {
        let scenario = &self.scenario;
        self.entry
            .as_ref()
            .map_or_else(|| scenario.clone(), |entry| format!("{}/{scenario}", entry.door))
    }
}

/// What all jobs of a run share.
#[derive(Debug)]
pub(crate) struct Runner {
    pub places: Places,
    pub bootstrap: String,
    pub run: String,
    pub jobs: usize,
}

impl Runner {
    /// Runs all jobs, several at a time, and prints each as it ends; outcomes in the order of jobs.
    pub(crate) fn run_all(&self, jobs: &[Job]) -> Vec<Outcome> {
        let next = AtomicUsize::new(0);
        let done: Mutex<BTreeMap<usize, Outcome>> = Mutex::new(BTreeMap::new());
        std::thread::scope(|scope| {
            for _ in 0..self.jobs {
                scope.spawn(|| {
                    loop {
                        let at = next.fetch_add(1, Ordering::Relaxed);
                        let Some(job) = jobs.get(at) else { break };
                        let outcome = self.run(job);
                        outcome.print();
                        if let Ok(mut done) = done.lock() {
                            done.insert(at, outcome);
                        }
                    }
                });
            }
        });
        done.into_inner().map(|done| done.into_values().collect()).unwrap_or_default()
    }

    /// Runs one job to its end, or kills it when its time is over.
    pub(crate) fn run(&self, job: &Job) -> Outcome {
        let started = Instant::now();
        let mut outcome = self.attempt(job).unwrap_or_else(|error| {
            Outcome::new(job.client.name, &job.name(), Verdict::Fail, format!("{error:#}"))
        });
        outcome.seconds = started.elapsed().as_secs_f64();
        outcome
    }

    fn attempt(&self, job: &Job) -> anyhow::Result<Outcome> {
        let mut command = job.client.command(&self.places);
        let (bootstrap, run) = match &job.entry {
            None => (&self.bootstrap, &self.run),
            Some(entry) => {
                command.env("DOOR", &entry.file).env("DOOR_PROPERTIES", &entry.java);
                command.env("JAVA_TOOL_OPTIONS", &entry.java_options);
                (&entry.bootstrap, &entry.run)
            }
        };
        command.args([bootstrap, &job.scenario, run]).args(&job.arguments);
        let (out, err) = (self.log(job, "out"), self.log(job, "err"));
        let mut child = process::start(command, &out, &err)?;
        let ended = process::wait(&mut child, job.limit)?;
        process::kill(&mut child);
        let Some(status) = ended else {
            anyhow::bail!("not done after {:?}\n{}", job.limit, process::tail(&err, 10));
        };
        let printed = std::fs::read_to_string(&out)?;
        let result: Value =
            printed.lines().last().and_then(|line| serde_json::from_str(line).ok()).with_context(
                || format!("ended ({status}) without a result\n{}", process::tail(&err, 10)),
            )?;
        let mut reason = result["reason"].as_str().unwrap_or_default().to_owned();
        let verdict = match result["result"].as_str() {
            Some("pass") => Verdict::Pass,
            Some("skip") => Verdict::Skip,
            _ => Verdict::Fail,
        };
        if verdict == Verdict::Fail {
            reason =
                format!("{reason}\n{}\n(whole output: {})", process::tail(&err, 6), err.display());
        }
        let mut outcome = Outcome::new(job.client.name, &job.name(), verdict, reason);
        outcome.data = result["data"].clone();
        Ok(outcome)
    }

    fn log(&self, job: &Job, end: &str) -> PathBuf {
        self.places.run.join(format!("{}.{end}", job.label))
    }
}

/// The outcomes as a table in Markdown: a row per scenario, a column per client.
pub(crate) fn table(scenarios: &[Scenario], clients: &[&str], outcomes: &[Outcome]) -> String {
    let mut cells = BTreeMap::new();
    for outcome in outcomes {
        let word = match outcome.verdict {
            Verdict::Pass => "yes",
            Verdict::Fail => "FAIL",
            Verdict::Skip => "–",
        };
        cells.insert((outcome.scenario.as_str(), outcome.client.as_str()), word);
    }
    let mut text = format!("| {:<18} |", "scenario");
    let mut rule = format!("| {:-<18} |", "");
    for client in clients {
        text += &format!(" {client:<9} |");
        rule += &format!(" {:-<1$} |", "", client.len().max(9));
    }
    text += &format!("\n{rule}\n");
    for scenario in scenarios {
        if !outcomes.iter().any(|outcome| outcome.scenario == scenario.name) {
            continue;
        }
        text += &format!("| {:<18} |", scenario.name);
        for client in clients {
            let word = cells.get(&(scenario.name.as_str(), *client)).copied().unwrap_or("");
            text += &format!(" {word:<0$} |", client.len().max(9));
        }
        text.push('\n');
    }
    text
}
