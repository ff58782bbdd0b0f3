//! `cargo xtask bench`: builds what is measured and what measures, gathers Apache Kafka, and starts
//! the suite of `crates/bench`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// Builds, gathers and runs. `words` go to the suite: `--quick`, `--repetitions N`,
/// `--only transactions,compaction`, `--without-kafka`. With `--security` it is what TLS and access rules cost, with
/// `--scale` and `--hostile` others of Millstream alone.
///
/// # Errors
///
/// When a build, Maven or the suite fails.
pub(crate) fn run(root: &Path, words: &[&str]) -> anyhow::Result<()> {
    let mut build = Command::new("cargo");
    build.args(["build", "--release", "--package", "millstream", "--package", "millstream-bench"]);
    succeed(build.current_dir(root))?;
    let target = root.join("target");
    let scratch = target.join("bench");
    std::fs::create_dir_all(&scratch)?;
    if let ["--hostile", rest @ ..] = words {
        let mut hostile = Command::new(target.join("release/millstream-bench"));
        hostile.arg("hostile").arg("--server").arg(target.join("release/millstream"));
        hostile.arg("--scratch").arg(&scratch).args(rest);
        return succeed(hostile.current_dir(root));
    }
    if words.contains(&"--scale") {
        return scale(root, &scratch, words);
    }
    let kafka = root.join("tests/clients/peer/apache-kafka.sh");
    let jars = if words.contains(&"--without-kafka") { PathBuf::new() } else { jars(root)? };
    // A short run, or some of the rows, say something about a change, not about the product.
    let is_part = |word: &&str| ["--quick", "--only", "--rows"].iter().any(|o| word.starts_with(o));
    let security = words.contains(&"--security");
    let (what, page) = match security {
        true => ("security", "docs/benchmarks/security.md"),
        false => ("suite", "docs/benchmarks.md"),
    };
    let report = match words.iter().any(is_part) {
        true => scratch.join("part.md"),
        false => root.join(page),
    };
    let samples = if security { "security.json" } else { "samples.json" };
    let mut suite = Command::new(target.join("release/millstream-bench"));
    suite.arg(what).args(words.iter().filter(|word| **word != "--security"));
    suite.arg("--server").arg(target.join("release/millstream"));
    suite.arg("--kafka").arg(kafka).arg("--jars").arg(jars);
    suite.arg("--scratch").arg(&scratch).arg("--samples").arg(scratch.join(samples));
    suite.arg("--report").arg(report);
    succeed(suite.current_dir(root))
}

/// What thousands of partitions cost: a run of its own, of Millstream alone.
fn scale(root: &Path, scratch: &Path, words: &[&str]) -> anyhow::Result<()> {
    std::fs::create_dir_all(scratch)?;
    let release = root.join("target/release");
    let mut run = Command::new(release.join("millstream-bench"));
    run.arg("scale").args(words.iter().filter(|word| **word != "--scale"));
    run.arg("--server").arg(release.join("millstream")).arg("--scratch").arg(scratch);
    succeed(run.arg("--report").arg(root.join("docs/scale.md")).current_dir(root))
}

/// The jars of Apache Kafka: those in `KAFKA_LIB`, those that the client tests have gathered, or
/// new ones from Maven.
fn jars(root: &Path) -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os("KAFKA_LIB") {
        return Ok(PathBuf::from(folder));
    }
    let folder = root.join(".cache/clients/java-tools/lib");
    let manifest = root.join("tests/clients/java-tools/pom.xml");
    if !folder.is_dir() {
        if !manifest.is_file() {
            bail!("{} is missing: run with --without-kafka", manifest.display());
        }
        let mut gather = Command::new("mvn");
        gather.args(["--quiet", "--batch-mode", "dependency:copy-dependencies", "--file"]);
        gather.arg(manifest).arg(format!("-DoutputDirectory={}", folder.display()));
        succeed(&mut gather).context("gathering Apache Kafka; or run with --without-kafka")?;
    }
    Ok(folder)
}

fn succeed(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    ensure!(status.success(), "{command:?} has failed ({status})");
    Ok(())
}
