//! The options of `cargo xtask test`.

use anyhow::{Context, bail, ensure};

/// How the suite starts Millstream; `{port}`, `{http}` and `{data}` are put in.
pub(crate) const MILLSTREAM: &str = "target/release/millstream serve --kafka-listen 127.0.0.1:{port} \
    --http-listen 127.0.0.1:{http} --data-dir {data} --set num.partitions=4 \
    --set auto.create.topics.enable=true --set group.initial.rebalance.delay.ms=0 \
    --set group.consumer.min.heartbeat.interval.ms=300 --set group.consumer.heartbeat.interval.ms=300 \
    --set group.consumer.min.session.timeout.ms=6000 --set group.consumer.session.timeout.ms=10000 \
    --set group.streams.min.session.timeout.ms=6000 --set group.streams.session.timeout.ms=10000";

/// What of it says where clients come in, in plain text.
pub(crate) const KAFKA_LISTEN: &str = "--kafka-listen 127.0.0.1:{port}";

pub(crate) const USAGE: &str = "\
cargo xtask test [OPTION]...

  --long              200 kill rounds instead of 20, 10,000 seeds of power cuts and other faults, a
                      disk that is filled up, an hour of histories, all of librdkafka's
                      own tests, all stacks, a billion records of a million keys compacted,
                      100,000 simulated seeds, fuzzing, and all scenarios of the clients through
                      every door of a server where one has to log in
  --history-minutes N how long histories are recorded in all (default 1; with --long 60)
  --fuzz-minutes N    for how long each fuzz target runs (default 10)
  --only PATTERN      only the steps whose name contains PATTERN: `workspace`, `kill`, `histories`,
                      `full-disk`, `librdkafka`, `compaction`, `sim`, `stacks`, `kafka-streams`, `kafkajs`, `group`,
                      `secure`, `secure/kafkajs/plain`, `confluent-kafka/produce-gzip`, ... (may be repeated)
  --against HOST:PORT run the clients against a server that is already there
  --server COMMAND    run everything against this server command, with {port}, {http} and
                      {data} put in, e.g. 'tests/clients/peer/apache-kafka.sh {port} {data}'; where one
                      has to log in, if `--only secure` asks for that, it is told more (see that script)
  --jobs N            scenarios at a time (default 3)
  --seed N            of the kill rounds and histories (default: from the clock, and printed)
  --write-docs        write docs/clients.md from the outcome
  --list              print the names of all steps
";

/// What to test, and against what.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub long: bool,
    pub fuzz_minutes: u64,
    pub history_minutes: Option<u64>,
    pub only: Vec<String>,
    pub against: Option<String>,
    pub server: String,
    /// Whether the server is this repository's own, to be built first.
    pub own_server: bool,
    pub jobs: usize,
    pub seed: Option<u64>,
    pub write_docs: bool,
    pub list: bool,
    /// Whether a client that can't be set up is a failure rather than a remark.
    pub strict: bool,
}

impl Options {
    /// # Errors
    ///
    /// On an unknown option, or one without its value.
    pub(crate) fn parse(arguments: &[&str]) -> anyhow::Result<Self> {
        let mut options = Self {
            long: false,
            fuzz_minutes: 10,
            history_minutes: None,
            only: Vec::new(),
            against: None,
            server: MILLSTREAM.to_owned(),
            own_server: true,
            jobs: 3,
            seed: None,
            write_docs: false,
            list: false,
            strict: std::env::var("CI").is_ok_and(|ci| ci == "true"),
        };
        let mut rest = arguments.iter();
        while let Some(option) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{option} needs a value"));
            match *option {
                "--long" => options.long = true,
                "--fuzz-minutes" => {
                    options.fuzz_minutes = value()?.parse().context("--fuzz-minutes")?;
                    // For libFuzzer, no time is any time.
                    ensure!(options.fuzz_minutes > 0, "--fuzz-minutes: at least one");
                }
                "--history-minutes" => {
                    let minutes = value()?.parse().context("--history-minutes")?;
                    ensure!(minutes > 0, "--history-minutes: at least one");
                    options.history_minutes = Some(minutes);
                }
                "--only" => options.only.push((*value()?).to_owned()),
                "--against" => options.against = Some((*value()?).to_owned()),
                "--server" => {
                    options.server = (*value()?).to_owned();
                    options.own_server = false;
                }
                "--jobs" => options.jobs = value()?.parse().context("--jobs")?,
                "--seed" => options.seed = Some(value()?.parse().context("--seed")?),
                "--write-docs" => options.write_docs = true,
                "--list" => options.list = true,
                _ => bail!("unknown option {option}\n\n{USAGE}"),
            }
        }
        Ok(options)
    }

    /// Whether nothing is asked for that needs the program.
    pub(crate) fn only_fuzzes(&self) -> bool {
        !self.only.is_empty()
            && self.only.iter().all(|it| it.starts_with("fuzz") || it == super::sim::NAME)
    }

    /// Whether a disk is to be filled up: in a long run, or when somebody asks for just that.
    pub(crate) fn fills(&self) -> bool {
        let is_asked = self.only.iter().any(|pattern| super::full::NAME.contains(pattern.as_str()));
        let own = self.own_server && self.against.is_none();
        own && (self.long && self.only.is_empty() || is_asked)
    }

    /// For how many seconds histories are recorded.
    pub(crate) fn history_seconds(&self) -> u64 {
        let by_default = super::histories::seconds_by_default(self.long);
        self.history_minutes.map_or(by_default, |minutes| minutes.saturating_mul(60))
    }

    /// Whether histories are recorded.
    pub(crate) fn records_histories(&self) -> bool {
        self.against.is_none() && self.wants(super::histories::NAME)
    }

    /// Whether a long history is to be compacted: in a long run, or when somebody asks for just that.
    pub(crate) fn compacts(&self) -> bool {
        let is_asked = self.only.iter().any(|pattern| pattern == super::compaction::NAME);
        let own = self.own_server && self.against.is_none();
        own && (self.long && self.only.is_empty() || is_asked)
    }

    /// Whether librdkafka's own tests are to be run: all of them in a long run or when somebody asks for just
    /// them (`Some(true)`), otherwise those that say most in a few minutes.
    pub(crate) fn runs_librdkafka(&self) -> Option<bool> {
        let is_asked = self.only.iter().any(|pattern| pattern == super::librdkafka::NAME);
        let runs = self.against.is_none() && (self.only.is_empty() || is_asked);
        runs.then_some(self.long || is_asked)
    }

    /// Whether the simulator is to run many seeds: in a long run, or when somebody asks for just that.
    pub(crate) fn simulates(&self) -> bool {
        let is_asked = self.only.iter().any(|pattern| pattern == super::sim::NAME);
        self.against.is_none() && (self.long && self.only.is_empty() || is_asked)
    }

    /// Whether the step of this name is asked for.
    pub(crate) fn wants(&self, step: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|pattern| step.contains(pattern.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> anyhow::Result<Options> {
        let words: Vec<&str> = line.split_whitespace().collect();
        Options::parse(&words)
    }

    #[test]
    fn only_picks_steps_by_any_of_its_patterns() {
        let options = parse("--only kafkajs/ --only kill").expect("valid");
        for (step, wanted) in [
            ("kafkajs/group", true),
            ("kill", true),
            ("aiokafka/group", false),
            ("workspace", false),
        ] {
            assert_eq!(options.wants(step), wanted, "{step}");
        }
        assert!(parse("").expect("valid").wants("anything"));
    }

    #[test]
    fn what_it_does_not_know_is_refused() {
        for line in ["--fast", "--only", "--jobs many", "group"] {
            assert!(parse(line).is_err(), "{line}");
        }
    }

    #[test]
    fn fuzzing_needs_no_program() {
        for (line, expected) in [
            ("--long --only fuzz", true),
            ("--long --only fuzz/batches --only fuzz/groups", true),
            ("--long --only fuzz --only kill", false),
            ("--only sim", true),
            ("--long", false),
        ] {
            assert_eq!(parse(line).expect("valid").only_fuzzes(), expected, "{line}");
        }
        assert!(parse("--fuzz-minutes 0").is_err());
    }

    #[test]
    fn a_disk_is_filled_up_when_somebody_asks_for_it() {
        for (line, expected) in [
            ("--long", true),
            ("--only full-disk", true),
            ("--long --only kill", false),
            ("", false),
            ("--only full-disk --server cat", false),
        ] {
            assert_eq!(parse(line).expect("valid").fills(), expected, "{line}");
        }
    }

    #[test]
    fn a_long_history_is_compacted_when_somebody_asks_for_it() {
        for (line, expected) in [
            ("--long", true),
            ("--only compaction", true),
            ("--long --only kill", false),
            ("", false),
            ("--only compaction --server cat", false),
        ] {
            assert_eq!(parse(line).expect("valid").compacts(), expected, "{line}");
        }
    }

    #[test]
    fn librdkafkas_own_tests_all_run_when_somebody_asks_for_them() {
        for (line, expected) in [
            ("--long", Some(true)),
            ("--only librdkafka", Some(true)),
            ("--long --only kill", None),
            ("", Some(false)),
            ("--long --against 127.0.0.1:1", None),
        ] {
            assert_eq!(parse(line).expect("valid").runs_librdkafka(), expected, "{line}");
        }
    }

    #[test]
    fn histories_are_as_long_as_somebody_asks_for() {
        for (line, expected) in [
            ("", Some(60)),
            ("--long", Some(3_600)),
            ("--long --history-minutes 7", Some(420)),
            ("--only histories", Some(60)),
            ("--only kill", None),
            ("--against 127.0.0.1:1", None),
        ] {
            let options = parse(line).expect("valid");
            let seconds = options.records_histories().then(|| options.history_seconds());
            assert_eq!(seconds, expected, "{line}");
        }
        assert!(parse("--history-minutes 0").is_err());
    }

    #[test]
    fn many_seeds_are_simulated_when_somebody_asks_for_it() {
        for (line, expected) in [
            ("--long", true),
            ("--only sim", true),
            ("--long --only kill", false),
            ("", false),
            ("--long --against 127.0.0.1:1", false),
        ] {
            assert_eq!(parse(line).expect("valid").simulates(), expected, "{line}");
        }
    }

    #[test]
    fn another_server_is_not_built() {
        assert!(parse("--long").expect("valid").own_server);
        assert!(!parse("--server cat").expect("valid").own_server);
    }
}
