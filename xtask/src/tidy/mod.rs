//! Conventions as tests: what a reviewer would have to repeat is checked here.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

mod arrows;
mod choices;
mod pitfalls;
mod sizes;
mod words;

/// One broken convention: where, and what to do.
pub(crate) struct Finding {
    pub(crate) place: String,
    pub(crate) what: String,
}

/// A source file of ours, read once.
pub(crate) struct Source {
    /// Relative to the workspace.
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    /// Generated code answers to its generator, not to these rules.
    fn is_generated(&self) -> bool {
        self.path.components().any(|part| part.as_os_str() == "generated")
    }
}

/// Runs every check and prints what it finds.
///
/// # Errors
///
/// When anything was found, or the tree can't be read.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let sources = sources(root)?;
    let mut findings = Vec::new();
    findings.extend(arrows::check(root)?);
    findings.extend(pitfalls::check(root, &sources)?);
    findings.extend(sizes::check(&sources)?);
    findings.extend(words::check(&sources));
    findings.extend(choices::check(&sources));
    for finding in &findings {
        eprintln!("{}: {}", finding.place, finding.what);
    }
    if findings.is_empty() {
        println!("tidy: {} files, nothing to mend", sources.len());
        return Ok(());
    }
    bail!("tidy: {} to mend", findings.len())
}

fn sources(root: &Path) -> anyhow::Result<Vec<Source>> {
    let mut found = Vec::new();
    for folder in ["crates", "xtask"] {
        walk(root, &root.join(folder), &mut found)?;
    }
    found.retain(|source: &Source| !source.is_generated());
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) -> anyhow::Result<()> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                walk(root, &path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)?;
            found.push(Source { path: path.strip_prefix(root)?.to_path_buf(), text });
        }
    }
    Ok(())
}
