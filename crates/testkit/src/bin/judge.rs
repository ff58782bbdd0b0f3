//! Judges a recorded history: `judge FOLDER` reads the files `*.jsonl` that clients have written, and
//! prints each violation with where it is in them. It fails when there are any.

// The ban on files is for the product; this is a chore.
#![expect(clippy::disallowed_methods, reason = "a chore, not the product")]

use std::mem::discriminant;
use std::path::Path;
use std::process::ExitCode;

use millstream_testkit::history::recorded::{self, Recorded};
use millstream_testkit::history::{Expected, Outcome, Violation, check};

/// As many violations of each rule are told.
const VIOLATIONS_MAX: usize = 5;

fn main() -> ExitCode {
    let Some(folder) = std::env::args().nth(1) else {
        eprintln!("usage: judge FOLDER, in which there are files *.jsonl");
        return ExitCode::FAILURE;
    };
    match judge(Path::new(&folder)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Whether nothing is wrong.
fn judge(folder: &Path) -> Result<bool, Box<dyn std::error::Error>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "jsonl") {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.push((name, String::from_utf8_lossy(&std::fs::read(&path)?).into_owned()));
        }
    }
    files.sort();
    let recorded = recorded::read(&files)?;
    if recorded.operations.is_empty() {
        return Err(format!("there are no operations in {}", folder.display()).into());
    }
    let report = check(&recorded.operations, Expected { idempotent: true, drained: true });
    tell(&recorded, "violations", &report.violations);
    tell(&recorded, "inherent in transactions of the first protocol", &report.inherent);
    let count = |outcome| recorded.operations.iter().filter(|it| it.outcome == outcome).count();
    println!(
        "{} operations: {} ok, {} failed, {} unknown; {} violations, {} inherent",
        recorded.operations.len(),
        count(Outcome::Succeeded),
        count(Outcome::Failed),
        count(Outcome::Unknown),
        report.violations.len(),
        report.inherent.len(),
    );
    Ok(report.violations.is_empty())
}

fn tell(recorded: &Recorded, what: &str, violations: &[Violation]) {
    // Sorted, so that those of one rule are beside each other.
    for rule in violations.chunk_by(|one, other| discriminant(one) == discriminant(other)) {
        println!("{} of one rule, {what}:", rule.len());
        for violation in rule.iter().take(VIOLATIONS_MAX) {
            println!("{}", recorded.explain(violation));
        }
    }
}
