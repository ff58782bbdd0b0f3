//! `cargo xtask advisories`: whether the RustSec database knows of something bad in our dependencies.
//!
//! It is asked by `cargo audit`, where that is installed and reaches the database. Where it is not, nothing is known:
//! that is said, and is no failure, so that the chore can be among those that run everywhere.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;

/// What came of asking.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// So many packages were looked up, and nothing is known against them.
    Clean(u64),
    /// What is known, a line each.
    Found(Vec<String>),
    /// There is no answer, for want of the database.
    Unknown,
}

/// Runs the chore.
///
/// # Errors
///
/// When there is an advisory about a dependency; they are in the error.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut audit = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    audit.args(["audit", "--json"]).current_dir(root);
    let asked = audit.output().context("running cargo")?;
    match answer(&asked.stdout) {
        Answer::Clean(packages) => println!("no advisory about any of {packages} packages"),
        Answer::Found(found) => bail!("advisories:\n{}", found.join("\n")),
        Answer::Unknown => {
            let said = String::from_utf8_lossy(&asked.stderr);
            let why =
                said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            println!(
                "not known whether there are advisories: `cargo audit` has no answer ({})",
                why.trim()
            );
        }
    }
    Ok(())
}

/// What `cargo audit --json` has printed says.
fn answer(printed: &[u8]) -> Answer {
    let Ok(report) = serde_json::from_slice::<Value>(printed) else { return Answer::Unknown };
    let Some(list) = report["vulnerabilities"]["list"].as_array() else { return Answer::Unknown };
    let text = |of: &Value| of.as_str().unwrap_or("?").to_owned();
    let found: Vec<_> = list
        .iter()
        .map(|one| {
            let (advisory, package) = (&one["advisory"], &one["package"]);
            let [id, title] = ["id", "title"].map(|part| text(&advisory[part]));
            let [name, version] = ["name", "version"].map(|part| text(&package[part]));
            format!("{id}: {name} {version}: {title}")
        })
        .collect();
    if found.is_empty() {
        Answer::Clean(report["lockfile"]["dependency-count"].as_u64().unwrap_or_default())
    } else {
        Answer::Found(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_database_knows_is_told_from_not_knowing() {
        let known = r#"{"lockfile":{"dependency-count":3},"vulnerabilities":{"found":true,"count":1,"list":[
            {"advisory":{"id":"RUSTSEC-2020-0071","title":"Potential segfault"},
             "package":{"name":"time","version":"0.1.0"}}]}}"#;
        let clean = r#"{"lockfile":{"dependency-count":3},"vulnerabilities":{"found":false,"count":0,"list":[]}}"#;
        let found = vec!["RUSTSEC-2020-0071: time 0.1.0: Potential segfault".to_owned()];
        for (printed, expected) in [
            (known, Answer::Found(found)),
            (clean, Answer::Clean(3)),
            ("", Answer::Unknown),
            ("error: couldn't fetch advisory database", Answer::Unknown),
            ("{}", Answer::Unknown),
        ] {
            assert_eq!(answer(printed.as_bytes()), expected, "{printed}");
        }
    }
}
