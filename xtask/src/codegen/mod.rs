//! `cargo xtask codegen`: writes `crates/wire/src/generated` from `crates/wire/definitions`.
//!
//! The language of the definitions is described in their `README.md`. [`parse`] reads them into the
//! [`model`]; `emit_*` turn it into plain Rust, which rustfmt then formats.

mod emit;
mod emit_arbitrary;
mod emit_decode;
mod emit_encode;
mod emit_tables;
mod errors;
mod model;
mod names;
mod parse;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

/// File name in the `generated` folder, and its text.
type Files = BTreeMap<String, String>;

/// Writes the generated files, and removes those that no definition stands for any more.
pub(crate) fn write() -> Result<()> {
    let fresh = generate()?;
    let folder = root().join(GENERATED);
    for name in read_folder(&folder)?.keys().filter(|name| !fresh.contains_key(*name)) {
        remove(&folder.join(name))?;
    }
    write_folder(&folder, &fresh)?;
    println!("wrote {} files to {GENERATED}", fresh.len());
    Ok(())
}

/// Fails when the committed files differ from a fresh generation.
pub(crate) fn check() -> Result<()> {
    let fresh = generate()?;
    let committed = read_folder(&root().join(GENERATED))?;
    let names = fresh.keys().chain(committed.keys());
    let mut different: Vec<&str> =
        names.filter(|name| fresh.get(*name) != committed.get(*name)).map(String::as_str).collect();
    different.dedup();
    if !different.is_empty() {
        bail!(
            "{GENERATED} differs from what the definitions give ({}): run `cargo xtask codegen`",
            different.join(", ")
        );
    }
    Ok(())
}

const DEFINITIONS: &str = "crates/wire/definitions";
const GENERATED: &str = "crates/wire/src/generated";
const ERRORS: &str = "errors.txt";

fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

fn generate() -> Result<Files> {
    let mut definitions = Vec::new();
    let mut errors = Vec::new();
    for (name, text) in read_folder(&root().join(DEFINITIONS))? {
        let Some(stem) = name.strip_suffix(".txt") else { continue };
        if name == ERRORS {
            errors = errors::parse(&text).with_context(|| name.clone())?;
        } else {
            definitions.push(parse::definition(stem, &text).with_context(|| name.clone())?);
        }
    }
    format(&emit::files(&definitions, &errors)?)
}

/// Formats all files by one call of rustfmt, which follows `mod.rs`.
fn format(files: &Files) -> Result<Files> {
    // A folder of this process alone: tests and a person may generate at the same time.
    let folder = root().join(format!("target/codegen-{}", std::process::id()));
    std::fs::create_dir_all(&folder).context("making the scratch folder")?;
    write_folder(&folder, files)?;
    let status = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root())
        .arg(folder.join("mod.rs"))
        .status()
        .context("running rustfmt")?;
    ensure!(status.success(), "rustfmt does not take the generated code in {}", folder.display());
    let formatted = read_folder(&folder);
    std::fs::remove_dir_all(&folder).context("removing the scratch folder")?;
    formatted
}

fn read_folder(folder: &Path) -> Result<Files> {
    if !folder.exists() {
        return Ok(Files::new());
    }
    let mut files = Files::new();
    for entry in std::fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let entry = entry?;
        let text = std::fs::read_to_string(entry.path());
        let text = text.with_context(|| entry.path().display().to_string())?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), text);
    }
    Ok(files)
}

#[allow(clippy::disallowed_methods, reason = "a chore, not the product: no seam to go through")]
fn write_folder(folder: &Path, files: &Files) -> Result<()> {
    std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    for (name, text) in files {
        let path = folder.join(name);
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "a chore, not the product: no seam to go through")]
fn remove(path: &Path) -> Result<()> {
    std::fs::remove_file(path).with_context(|| path.display().to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn committed_code_is_what_the_definitions_give() {
        super::check().unwrap();
    }
}
