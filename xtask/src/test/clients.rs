//! The clients: what each needs on the machine, how it is set up, how its program is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use super::process;

/// What a client's program runs on. Several clients may share one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Python,
    Node,
    Java,
    JavaTools,
    Go,
    Kcat,
}

/// One client of the suite.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client {
    pub name: &'static str,
    pub runtime: Runtime,
    /// Below `tests/clients`, or the class to run.
    pub program: &'static str,
    /// Kinds of records it can't produce: see `records.rs`.
    pub cannot: &'static [&'static str],
    /// What a reader of the matrix should know about it.
    pub notes: &'static [&'static str],
}

/// In this order in every table; the tables of nycflights13 are dealt out in this order too.
pub(crate) const CLIENTS: &[Client] = &[
    Client {
        name: "confluent-kafka",
        runtime: Runtime::Python,
        program: "python/confluent_client.py",
        cannot: &[],
        notes: &[],
    },
    Client { name: "java", runtime: Runtime::Java, program: "Client", cannot: &[], notes: &[] },
    Client { name: "franz-go", runtime: Runtime::Go, program: "client", cannot: &[], notes: &[] },
    Client {
        name: "kafkajs",
        runtime: Runtime::Node,
        program: "javascript/kafkajs_client.js",
        cannot: &["null-header"],
        notes: &[
            "alters configs by AlterConfigs, the form that replaces all of them",
            "with a bad token it finds the connection closed",
            "lz4 and zstd by the packages lz4-napi and @bokuweb/zstd-wasm",
        ],
    },
    Client {
        name: "aiokafka",
        runtime: Runtime::Python,
        program: "python/aiokafka_client.py",
        cannot: &[],
        notes: &[
            "alters configs by AlterConfigs, the form that replaces all of them",
            "with a bad certificate or token it says that the connection was closed",
            "does not log in again on an open connection (KIP-368): it comes anew when it finds it closed",
        ],
    },
    Client {
        name: "kafka-python",
        runtime: Runtime::Python,
        program: "python/kafka_python_client.py",
        cannot: &["null-header"],
        notes: &[
            "group members poll for two seconds: a poll that times out during a join hangs",
            "says that it can't log in, but not why, where that comes together with the connection's end",
        ],
    },
    Client {
        name: "kcat",
        runtime: Runtime::Kcat,
        program: "python/kcat_client.py",
        cannot: &["timestamps", "binary-header", "empty-key", "empty-value"],
        notes: &[
            "a member joins under load but leaves in a pause: told to end, it drops a record",
            "prints the value of a header up to its first zero byte",
        ],
    },
    Client {
        name: "java-tools",
        runtime: Runtime::JavaTools,
        program: "Tools",
        cannot: &["timestamps", "binary", "binary-header", "empty-key"],
        notes: &[
            "kafka-topics, -configs, -consumer-groups, -streams-groups, -get-offsets, -delete-records, \
             -log-dirs, -transactions, -client-metrics, -leader-election, -reassign-partitions, \
             -metadata-quorum, -features, -console-producer, -console-consumer, \
             -producer-perf-test and -dump-log",
        ],
    },
];

/// How many runs' logs and data are kept beside the current one.
const RUNS_KEPT: usize = 5;

/// Where things are: the repository, and the folders that hold what setting up and running leave.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    pub root: PathBuf,
    pub sources: PathBuf,
    pub cache: PathBuf,
    /// Logs and files of this run.
    pub run: PathBuf,
}

impl Places {
    pub(crate) fn new(run: &str) -> anyhow::Result<Self> {
        let root = crate::root();
        let cache = root.join(".cache/clients");
        let runs = cache.join("runs");
        forget_old_runs(&runs);
        let run = runs.join(run);
        std::fs::create_dir_all(&run).with_context(|| format!("creating {}", run.display()))?;
        Ok(Self { sources: root.join("tests/clients"), root, cache, run })
    }

    pub(crate) fn python(&self) -> PathBuf {
        self.cache.join("python/bin/python")
    }

    pub(crate) fn tables(&self) -> PathBuf {
        self.cache.join("tables")
    }
}

/// Deletes what all but the newest runs have left. Runs are named by their time.
fn forget_old_runs(runs: &Path) {
    let Ok(entries) = std::fs::read_dir(runs) else { return };
    let mut folders: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    folders.sort();
    folders.truncate(folders.len().saturating_sub(RUNS_KEPT));
    for folder in folders {
        // What can't be deleted now is tried again by the next run.
        let _ = std::fs::remove_dir_all(folder);
    }
}

impl Client {
    /// The command that runs its program, without arguments.
    pub(crate) fn command(&self, places: &Places) -> Command {
        let source = places.sources.join(self.program);
        match self.runtime {
            Runtime::Python | Runtime::Kcat => with_argument(Command::new(places.python()), source),
            Runtime::Node => {
                let mut command = with_argument(Command::new("node"), source);
                command.env("NODE_PATH", places.cache.join("node/node_modules"));
                command.env("KAFKAJS_NO_PARTITIONER_WARNING", "1");
                command
            }
            Runtime::Java => java(&places.cache.join("java"), self.program),
            Runtime::JavaTools => java(&places.cache.join("java-tools"), self.program),
            Runtime::Go => Command::new(places.cache.join("go").join(self.program)),
        }
    }
}

fn with_argument(mut command: Command, argument: PathBuf) -> Command {
    command.arg(argument);
    command
}

fn java(folder: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    // Short programs: compile quickly rather than well.
    command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-cp"]);
    command.arg(format!("{}/classes:{}/lib/*", folder.display(), folder.display())).arg(class);
    command
}

impl Runtime {
    pub(crate) const ALL: [Self; 6] =
        [Self::Python, Self::Node, Self::Java, Self::JavaTools, Self::Go, Self::Kcat];

    /// The programs that have to be on the machine.
    pub(crate) fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["python3"],
            Self::Node => &["node", "npm"],
            Self::Java | Self::JavaTools => &["java", "javac", "mvn"],
            Self::Go => &["go"],
            Self::Kcat => &["kcat", "python3"],
        }
    }

    /// The first program that is not on the machine.
    pub(crate) fn missing(self) -> Option<&'static str> {
        self.programs().iter().copied().find(|program| !process::present(program))
    }

    /// Files below `tests/clients` that decide what is installed or compiled.
    fn inputs(self) -> &'static [&'static str] {
        match self {
            Self::Python => &["python/requirements.txt", "python/tables.py"],
            Self::Node => &["javascript/package.json", "javascript/package-lock.json"],
            Self::Java => {
                const FILES: &[&str] = &[
                    "java/pom.xml",
                    "java/Client.java",
                    "java/History.java",
                    "java/Tokens.java",
                    "java/Transactions.java",
                ];
                FILES
            }
            Self::JavaTools => {
                const FILES: &[&str] = &[
                    "java-tools/pom.xml",
                    "java-tools/Tools.java",
                    "java-tools/Programs.java",
                    "java-tools/Secure.java",
                    "java-tools/Streams.java",
                ];
                FILES
            }
            Self::Go => {
                const FILES: &[&str] = &[
                    "go/go.mod",
                    "go/go.sum",
                    "go/main.go",
                    "go/client.go",
                    "go/door.go",
                    "go/transactions.go",
                ];
                FILES
            }
            Self::Kcat => &[],
        }
    }

    /// Installs and compiles what the clients of this runtime need, unless that is done already.
    ///
    /// # Errors
    ///
    /// When a package manager or a compiler fails; the end of its output is in the error.
    pub(crate) fn set_up(self, places: &Places) -> anyhow::Result<()> {
        let inputs =
            self.inputs().iter().map(|input| places.sources.join(input)).collect::<Vec<_>>();
        install(places, &format!("{self:?}"), &inputs, || self.steps(places))
    }

    fn steps(self, places: &Places) -> anyhow::Result<Vec<Command>> {
        Ok(match self {
            Self::Python => python_steps(places),
            Self::Node => node_steps(places)?,
            Self::Java => client_steps(places, "java", "Client.java"),
            Self::JavaTools => client_steps(places, "java-tools", "Tools.java"),
            Self::Go => {
                let mut build = Command::new("go");
                build.args(["build", "-o"]).arg(places.cache.join("go/client")).arg(".");
                build.current_dir(places.sources.join("go"));
                vec![build]
            }
            Self::Kcat => Vec::new(),
        })
    }
}

/// Takes the steps that install `name`, unless that is done already with the same `inputs`.
///
/// # Errors
///
/// When an input can't be read or a step fails; the end of its output is in the error.
pub(crate) fn install(
    places: &Places,
    name: &str,
    inputs: &[PathBuf],
    steps: impl FnOnce() -> anyhow::Result<Vec<Command>>,
) -> anyhow::Result<()> {
    let mut stamp = Vec::new();
    for path in inputs {
        stamp.extend(std::fs::read(path).with_context(|| path.display().to_string())?);
    }
    let done = places.cache.join(format!("{name}.done"));
    if std::fs::read(&done).is_ok_and(|before| before == stamp) {
        return Ok(());
    }
    for (at, step) in steps()?.into_iter().enumerate() {
        let what = format!("setting up {name}, step {}", at + 1);
        process::run(&what, step, &places.run.join(format!("setup-{name}-{at}.log")))?;
    }
    std::fs::write(&done, stamp).context("noting that the set-up is done")
}

fn python_steps(places: &Places) -> Vec<Command> {
    let mut venv = Command::new("python3");
    venv.args(["-m", "venv", "--clear"]).arg(places.cache.join("python"));
    let mut install = Command::new(places.python());
    install.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--disable-pip-version-check",
        "-r",
    ]);
    install.arg(places.sources.join("python/requirements.txt"));
    let mut tables = Command::new(places.python());
    tables.arg(places.sources.join("python/tables.py")).arg(places.tables());
    vec![venv, install, tables]
}

fn node_steps(places: &Places) -> anyhow::Result<Vec<Command>> {
    let folder = places.cache.join("node");
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "package-lock.json"] {
        std::fs::copy(places.sources.join("javascript").join(file), folder.join(file))?;
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--no-audit", "--no-fund"]).current_dir(folder);
    Ok(vec![install])
}

fn client_steps(places: &Places, name: &str, source: &str) -> Vec<Command> {
    java_steps(&places.sources.join(name), &places.cache.join(name), Some(source))
}

/// Gathers the jars that `pom.xml` in `sources` names in `lib` of `folder`, and compiles `source` to `classes`.
pub(crate) fn java_steps(sources: &Path, folder: &Path, source: Option<&str>) -> Vec<Command> {
    let lib = folder.join("lib");
    // Jars of a release that was pinned before must not stay on the class path.
    let mut clean = Command::new("rm");
    clean.arg("-rf").arg(folder);
    let mut gather = Command::new("mvn");
    gather.args(["--quiet", "--batch-mode", "dependency:copy-dependencies"]);
    gather.arg(format!("-DoutputDirectory={}", lib.display())).current_dir(sources);
    let compile = source.map(|source| {
        let mut compile = Command::new("javac");
        compile
            .arg("-d")
            .arg(folder.join("classes"))
            .arg("-cp")
            .arg(format!("{}/*", lib.display()));
        // The class that is named brings the others of its folder along.
        compile.arg("-sourcepath").arg(sources).arg(sources.join(source));
        compile
    });
    [clean, gather].into_iter().chain(compile).collect()
}
