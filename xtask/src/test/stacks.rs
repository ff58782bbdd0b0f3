//! Other people's stacks, as their users run them: the drivers in `tests/stacks` with the server's command.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context;

use super::clients::{self, Places, Runtime};
use super::matrix::{Outcome, Verdict};
use super::options::Options;
use super::{kill, server};

/// A scenario with one of the stacks.
#[derive(Debug)]
pub(crate) struct Stack {
    /// Its step is `stacks/NAME`.
    name: &'static str,
    /// Below `tests/stacks`: the folder with its `pom.xml`.
    project: &'static str,
    /// What is compiled in that folder.
    source: Option<&'static str>,
    /// Below `tests/stacks`: what drives it.
    driver: &'static str,
    arguments: &'static [&'static str],
    /// Whether Apache Kafka runs beside it.
    peer: bool,
    /// Whether every run has time for it; the others are for `--long`, or for who asks for them.
    quick: bool,
}

const STACKS: &[Stack] = &[
    Stack {
        name: "kafka-streams",
        project: "kafka-streams",
        source: Some("WordCount.java"),
        driver: "kafka_streams.py",
        arguments: &["--protocol", "classic"],
        peer: false,
        quick: true,
    },
    Stack {
        name: "kafka-streams-groups",
        project: "kafka-streams",
        source: Some("WordCount.java"),
        driver: "kafka_streams.py",
        arguments: &["--protocol", "streams"],
        peer: false,
        quick: true,
    },
    Stack {
        name: "connect",
        project: "connect",
        source: None,
        driver: "connect.py",
        arguments: &["--source", "at-least-once"],
        peer: false,
        quick: false,
    },
    Stack {
        name: "connect-exactly-once",
        project: "connect",
        source: None,
        driver: "connect.py",
        arguments: &["--source", "exactly-once"],
        peer: false,
        quick: false,
    },
    Stack {
        name: "mirror-maker",
        project: "connect",
        source: None,
        driver: "mirror_maker.py",
        arguments: &[],
        peer: true,
        quick: false,
    },
    Stack {
        name: "flink",
        project: "flink",
        source: Some("WordCount.java"),
        driver: "flink.py",
        arguments: &["--naming", "incrementing"],
        peer: false,
        quick: true,
    },
    Stack {
        name: "flink-pooling",
        project: "flink",
        source: Some("WordCount.java"),
        driver: "flink.py",
        arguments: &["--naming", "pooling"],
        peer: false,
        quick: false,
    },
    Stack {
        name: "spark",
        project: "spark",
        source: Some("WordCount.java"),
        driver: "spark.py",
        arguments: &[],
        peer: false,
        quick: false,
    },
];

/// More than a scenario takes on a busy machine.
const LIMIT: Duration = Duration::from_secs(1_800);

/// The names of all steps, as `--only` sees them, and whether every run takes them.
pub(crate) fn names() -> impl Iterator<Item = (String, bool)> {
    STACKS.iter().map(|stack| (stack.step(), stack.quick))
}

/// Whether something that is asked for needs Python.
pub(crate) fn any(options: &Options) -> bool {
    STACKS.iter().any(|stack| stack.is_wanted(options))
}

/// Runs what is asked for and prints the outcomes.
pub(crate) fn run(options: &Options, places: &Places) -> Vec<Outcome> {
    let wanted = STACKS.iter().filter(|stack| stack.is_wanted(options));
    wanted.map(|stack| stack.run(options, places)).collect()
}

impl Stack {
    fn step(&self) -> String {
        format!("stacks/{}", self.name)
    }

    fn is_wanted(&self, options: &Options) -> bool {
        let in_time = self.quick || options.long || !options.only.is_empty();
        options.against.is_none() && in_time && options.wants(&self.step())
    }

    fn run(&self, options: &Options, places: &Places) -> Outcome {
        println!("{}", self.step());
        let started = Instant::now();
        let missing = Runtime::Java.missing().or_else(|| Runtime::Python.missing());
        let mut outcome = match missing {
            Some(program) => {
                let verdict = if options.strict { Verdict::Fail } else { Verdict::Skip };
                let reason = format!("`{program}` is not on this machine");
                Outcome::new("stacks", self.name, verdict, reason)
            }
            None => self
                .attempt(options, places)
                .unwrap_or_else(|error| Outcome::of("stacks", self.name, Err(error))),
        };
        outcome.seconds = started.elapsed().as_secs_f64();
        outcome.print();
        outcome
    }

    fn attempt(&self, options: &Options, places: &Places) -> anyhow::Result<Outcome> {
        let jars = self.set_up(places)?;
        if self.peer {
            Runtime::JavaTools.set_up(places)?;
        }
        let folder = places.run.join(self.step());
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let (port, http) = (server::free_port()?, server::free_port()?);
        let command = server::fill(&options.server, port, http, &folder.join("data"));
        let mut driver = Command::new(places.python());
        driver.arg(places.root.join("tests/stacks").join(self.driver)).args(self.arguments);
        driver.args(["--bootstrap", &format!("127.0.0.1:{port}")]);
        driver.arg("--jars").arg(jars).arg("--folder").arg(&folder);
        if options.long {
            driver.args(["--rounds", "12"]);
        }
        let outcome = kill::drive(driver, &command, places, &folder, ("stacks", self.name), LIMIT)?;
        if outcome.verdict == Verdict::Pass {
            for left in ["data", "state"] {
                fs::remove_dir_all(folder.join(left)).context("deleting what the run has left")?;
            }
        }
        Ok(outcome)
    }

    /// Gathers its jars; the folder with `classes` and `lib`.
    fn set_up(&self, places: &Places) -> anyhow::Result<PathBuf> {
        let sources = places.root.join("tests/stacks").join(self.project);
        let folder = places.cache.join("stacks").join(self.project);
        let mut inputs = vec![sources.join("pom.xml")];
        inputs.extend(self.source.map(|source| sources.join(source)));
        clients::install(places, &format!("stacks-{}", self.project), &inputs, || {
            Ok(clients::java_steps(&sources, &folder, self.source))
        })?;
        Ok(folder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of the stacks a command line runs.
    fn check(line: &str, expected: &[&str]) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let options = Options::parse(&words).expect("valid");
        let wanted: Vec<&str> = STACKS
            .iter()
            .filter(|stack| stack.is_wanted(&options))
            .map(|stack| stack.name)
            .collect();
        assert_eq!(wanted, expected, "{line}");
    }

    #[test]
    fn the_long_ones_run_in_a_long_run_or_when_somebody_asks_for_them() {
        let all: Vec<&str> = STACKS.iter().map(|stack| stack.name).collect();
        check("", &["kafka-streams", "kafka-streams-groups", "flink"]);
        check("--long", &all);
        check("--only stacks", &all);
        check("--only kafka-streams", &["kafka-streams", "kafka-streams-groups"]);
        check("--only spark", &["spark"]);
        check("--long --only kill", &[]);
        check("--against 127.0.0.1:1", &[]);
    }

    #[test]
    fn what_every_stack_names_is_there() {
        let folder = crate::root().join("tests/stacks");
        for stack in STACKS {
            let project = folder.join(stack.project);
            for file in [Some("pom.xml"), stack.source].into_iter().flatten() {
                assert!(project.join(file).is_file(), "{}: {file}", stack.name);
            }
            assert!(folder.join(stack.driver).is_file(), "{}: {}", stack.name, stack.driver);
        }
    }

    #[test]
    fn the_page_names_the_versions_that_run() {
        let page = include_str!("../../../docs/stacks.md");
        for stack in STACKS {
            let pom = crate::root().join("tests/stacks").join(stack.project).join("pom.xml");
            let pom = fs::read_to_string(pom).expect("a project");
            let (_, dependencies) = pom.split_once("<dependencies>").expect("dependencies");
            let of_others = |dependency: &&str| !dependency.contains("org.slf4j");
            for dependency in dependencies.split("<dependency>").skip(1).filter(of_others) {
                let (_, version) = dependency.split_once("<version>").expect("a version");
                let (version, _) = version.split_once('<').expect("a version");
                assert!(page.contains(version), "{} {version}", stack.name);
            }
        }
    }
}
