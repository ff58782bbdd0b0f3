//! The project's own chores: `cargo xtask test`, `bench`, `codegen`, `tidy`, `advisories`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod advisories;
mod bench;
mod codegen;
mod test;
mod tidy;

const USAGE: &str = "usage: cargo xtask <command>

  test [OPTION]...    run all tests, real Kafka clients and kill rounds among them (test --help)
  bench [--quick] [--only ROW,ROW...] [--repetitions N] [--without-kafka]
                      measure Millstream beside Apache Kafka; writes docs/benchmarks.md (with
                      --quick, or only rows such as transactions,compaction: target/bench/part.md)
  bench --hostile [--quota MB/S] [--rounds N] [--seconds N] [--idle N] [--kinds flood,deaf,garbage,idle]
                      measure a well-behaved client beside hostile ones
  bench --scale       measure what 10,000 partitions cost; writes docs/scale.md
  bench --security    measure what TLS and access rules cost; writes docs/benchmarks/security.md
  codegen [--check]   write crates/wire/src/generated, or fail when it is not up to date
  tidy                check the house: arrows between crates, sizes, banned words, purity
  advisories          ask `cargo audit`, where there is one, what is known against the dependencies";

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> anyhow::Result<ExitCode> {
    match words {
        ["test", options @ ..] => return test::run(options),
        ["bench", options @ ..] => bench::run(&root(), options),
        ["codegen"] => codegen::write(),
        ["codegen", "--check"] => codegen::check(),
        ["tidy"] => tidy::run(&root()),
        ["advisories"] => advisories::run(&root()),
        _ => anyhow::bail!(USAGE),
    }?;
    Ok(ExitCode::SUCCESS)
}

/// The folder that holds the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    /// README's first command is refused by cargo where `cargo run` could mean two programs.
    #[test]
    fn cargo_run_can_only_mean_one_program() {
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["metadata", "--no-deps", "--format-version", "1"]).current_dir(root());
        let told = cargo.output().expect("cargo runs").stdout;
        let told: Value = serde_json::from_slice(&told).expect("JSON");
        let list = |of: &Value, what: &str| of[what].as_array().expect("a list").clone();
        let members = list(&told, "workspace_default_members");
        let packages = list(&told, "packages").into_iter().filter(|it| members.contains(&it["id"]));
        let targets = packages.flat_map(|package| list(&package, "targets"));
        let programs = targets.filter(|target| list(target, "kind").contains(&"bin".into()));
        let names: Vec<_> = programs.map(|program| program["name"].clone()).collect();
        assert_eq!(names, ["millstream"]);
    }
}
