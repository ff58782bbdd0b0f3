//! Fuzzing: each target for minutes, guided by coverage.
//!
//! The targets are tests (`fuzz.rs` beside others): `cargo test` runs them briefly on random inputs. Here
//! they are built once more with the counters that LLVM's libFuzzer follows, which `bolero` brings along
//! and which needs neither a nightly compiler nor anything installed but a C++ compiler. What has
//! reached new code is kept in `target/fuzz/corpus`, so that the next run begins where this one ends.

use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use anyhow::{Context as _, ensure};

use super::clients::Places;
use super::matrix::Outcome;
use super::options::Options;
use super::process;

/// A test that is a fuzz target.
#[derive(Clone, Copy, Debug)]
struct Target {
    package: &'static str,
    /// Whether it is in the library, not in `tests/fuzz.rs`.
    in_library: bool,
    /// The whole name of the test.
    test: &'static str,
}

const fn target(package: &'static str, in_library: bool, test: &'static str) -> Target {
    Target { package, in_library, test }
}

/// What faces a socket or a disk. Few: each takes its minutes of every long run.
const TARGETS: [Target; 11] = [
    target("millstream-wire", false, "requests"),
    target("millstream-kafka", true, "frames::tests::fuzz_frames"),
    target("millstream-record", false, "batches"),
    target("millstream-record", false, "stored_formats"),
    target("millstream-record", false, "checkpoints"),
    target("millstream-env", false, "journals"),
    target("millstream-auth", false, "connections_before_their_login"),
    target("millstream-auth", false, "tokens_and_keys_before_they_are_trusted"),
    target("millstream-coordinator", false, "metadata_entries"),
    target("millstream-coordinator", true, "group::tests::fuzz::groups"),
    target("millstream-coordinator", true, "telemetry::tests::decoding::no_bytes_make_it_fall"),
];

/// What has the compiler count which code is reached, and tells `bolero` who drives.
const FLAGS: &str = "--cfg fuzzing --cfg fuzzing_libfuzzer -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares";

/// The most memory that a target may take, in MiB, and the longest that one input may take, in seconds.
const MEMORY_MAX: u32 = 1_024;
const INPUT_SECONDS_MAX: u32 = 20;

/// An input that takes so long, in seconds, is a finding, too: 4 KiB should take milliseconds, on a busy
/// machine as well.
const SLOW_SECONDS: u32 = 2;

/// Targets that run at a time: one to a core.
fn lanes() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The names of the steps.
pub(crate) fn names() -> impl Iterator<Item = String> {
    TARGETS.iter().map(Target::name)
}

/// Runs the targets that are asked for, each for as long as the options say.
pub(crate) fn run(options: &Options, places: &Places) -> Vec<Outcome> {
    let wanted: Vec<Target> =
        TARGETS.into_iter().filter(|target| options.wants(&target.name())).collect();
    if wanted.is_empty() {
        return Vec::new();
    }
    println!("fuzzing {} targets, {} minutes each", wanted.len(), options.fuzz_minutes);
    let built = host().and_then(|host| build(&wanted, &host, places).map(|()| host));
    let host = match built {
        Ok(host) => host,
        Err(error) => return vec![Outcome::of("fuzz", "build", Err(error))],
    };
    let left = Mutex::new(wanted);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..lanes() {
            scope.spawn(|| {
                while let Some(target) = take(&left) {
                    let started = Instant::now();
                    let result = target.fuzz(options.fuzz_minutes, &host, places);
                    let mut outcome = Outcome::of("fuzz", target.short(), result);
                    outcome.seconds = started.elapsed().as_secs_f64();
                    outcome.print();
                    outcomes
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner)
                        .push(outcome);
                }
            });
        }
    });
    outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn take(left: &Mutex<Vec<Target>>) -> Option<Target> {
    left.lock().unwrap_or_else(std::sync::PoisonError::into_inner).pop()
}

/// The platform that the compiler is for. Named, the flags are for the targets alone, and not for what
/// builds them.
fn host() -> anyhow::Result<String> {
    let out = Command::new("rustc").arg("-vV").output().context("running rustc")?;
    let text = String::from_utf8(out.stdout)?;
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc does not say for which platform it is")?.to_owned())
}

/// Builds all of them first, since one build holds up another.
fn build(targets: &[Target], host: &str, places: &Places) -> anyhow::Result<()> {
    for target in targets {
        let mut command = target.cargo(host, places);
        command.arg("--no-run");
        process::run("cargo test --no-run", command, &places.run.join("fuzz-build.log"))?;
    }
    Ok(())
}

impl Target {
    fn short(&self) -> &'static str {
        self.test.rsplit("::").next().unwrap_or(self.test)
    }

    fn name(&self) -> String {
        format!("fuzz/{}", self.short())
    }

    fn cargo(&self, host: &str, places: &Places) -> Command {
        let mut command = super::cargo();
        command.args(["test", "--profile", "fuzz", "--target", host, "--package", self.package]);
        if self.in_library {
            command.arg("--lib")
        } else {
            command.args(["--test", "fuzz"])
        };
        command.env("RUSTFLAGS", FLAGS).env("CARGO_TARGET_DIR", places.root.join("target/fuzz"));
        command.current_dir(&places.root);
        command
    }

    fn fuzz(&self, minutes: u64, host: &str, places: &Places) -> anyhow::Result<()> {
        let corpus = places.root.join("target/fuzz/corpus").join(self.short());
        let crashes = places.root.join("target/fuzz/crashes").join(self.short());
        for folder in [&corpus, &crashes] {
            std::fs::create_dir_all(folder)?;
        }
        let mut command = self.cargo(host, places);
        command.args(["--", "--exact", self.test, "--nocapture", "--test-threads=1"]);
        command.env("BOLERO_LIBFUZZER_ARGS", arguments(&corpus, &crashes, minutes));
        let log = places.run.join(format!("fuzz-{}.log", self.short()));
        process::run(self.short(), command, &log)?;
        let done = std::fs::read_to_string(&log)?;
        let runs = done.lines().find(|line| line.starts_with("Done "));
        println!("  {}: {}", self.short(), runs.context("libFuzzer did not say what it has done")?);
        ensure!(is_empty(&crashes)?, "findings are in {}", crashes.display());
        Ok(())
    }
}

/// What libFuzzer is told, with spaces between.
fn arguments(corpus: &Path, crashes: &Path, minutes: u64) -> String {
    format!(
        "{} -artifact_prefix={}/ -max_total_time={} -timeout={INPUT_SECONDS_MAX} \
         -report_slow_units={SLOW_SECONDS} -rss_limit_mb={MEMORY_MAX} -max_len=4096 -print_final_stats=1",
        corpus.display(),
        crashes.display(),
        minutes * 60
    )
}

fn is_empty(folder: &Path) -> anyhow::Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        let names: std::collections::BTreeSet<_> = names().collect();
        assert_eq!(names.len(), TARGETS.len());
        assert!(names.contains("fuzz/groups") && names.contains("fuzz/fuzz_frames"));
    }
}
