//! Which crate may use which: ARCHITECTURE.md says, `cargo metadata` knows.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde_json::Value;

use super::Finding;

/// Crates that reach the world. No pure crate may have one anywhere below it.
const WORLDLY: &[&str] =
    &["tokio", "mio", "socket2", "rand", "rand_core", "fastrand", "rustix", "async-io", "chrono"];

type Graph = BTreeMap<String, BTreeSet<String>>;

/// The table in ARCHITECTURE.md and the manifests must say the same, in both directions.
pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let text = std::fs::read_to_string(root.join("ARCHITECTURE.md")).context("ARCHITECTURE.md")?;
    let allowed = allowed(&text);
    let metadata = metadata(root)?;
    let ours = ours(&metadata);
    let mut findings = Vec::new();
    for (name, uses) in &ours {
        let Some(may) = allowed.get(name) else {
            findings.push(finding(name, "has no line in the arrow table of ARCHITECTURE.md"));
            continue;
        };
        for used in uses.difference(may) {
            findings.push(finding(name, &format!("must not depend on `{used}`")));
        }
        for unused in may.difference(uses) {
            findings
                .push(finding(name, &format!("may use `{unused}` but doesn't: drop the arrow")));
        }
    }
    for gone in allowed.keys().filter(|name| !ours.contains_key(*name)) {
        findings.push(finding(gone, "is in the arrow table but not in the workspace"));
    }
    findings.extend(impure(&text, &metadata)?);
    Ok(findings)
}

fn finding(crate_name: &str, what: &str) -> Finding {
    Finding { place: format!("crate `{crate_name}`"), what: what.to_owned() }
}

/// Lines such as `log -> env, record, types` inside the block fenced as `arrows`.
fn allowed(architecture: &str) -> Graph {
    fenced(architecture, "```arrows")
        .filter_map(|line| line.split_once("->"))
        .map(|(from, to)| {
            let uses = to.split(',').map(|name| name.trim().to_owned());
            (from.trim().to_owned(), uses.filter(|name| !name.is_empty()).collect())
        })
        .collect()
}

fn fenced<'a>(text: &'a str, fence: &'a str) -> impl Iterator<Item = &'a str> {
    text.lines().skip_while(move |line| *line != fence).skip(1).take_while(|line| *line != "```")
}

fn metadata(root: &Path) -> anyhow::Result<Value> {
    let output = Command::new("cargo")
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(root)
        .output()
        .context("cargo metadata")?;
    anyhow::ensure!(output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned());
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// Our crates by folder name, each with those of ours that it uses outside its tests.
fn ours(metadata: &Value) -> Graph {
    let members: BTreeMap<&str, &Value> = array(metadata, "packages")
        .filter(|package| package["source"].is_null() && package["name"] != "xtask")
        .filter_map(|package| Some((package["name"].as_str()?, package)))
        .collect();
    let short = |name: &str| name.strip_prefix("millstream-").unwrap_or(name).to_owned();
    members
        .iter()
        .map(|(name, package)| {
            let uses = array(package, "dependencies")
                .filter(|dependency| dependency["kind"].is_null())
                .filter_map(|dependency| dependency["name"].as_str())
                .filter(|used| members.contains_key(used))
                .map(short);
            (short(name), uses.collect())
        })
        .collect()
}

/// Pure crates (fenced as `pure`) must not reach the world through anything they use.
fn impure(architecture: &str, metadata: &Value) -> anyhow::Result<Vec<Finding>> {
    let names: BTreeMap<&str, &str> = array(metadata, "packages")
        .filter_map(|package| Some((package["id"].as_str()?, package["name"].as_str()?)))
        .collect();
    let edges = normal_edges(&metadata["resolve"]);
    let mut findings = Vec::new();
    for pure in fenced(architecture, "```pure").flat_map(|line| line.split(',')).map(str::trim) {
        let package = format!("millstream-{pure}");
        let id = names.iter().find(|(_, name)| **name == package).map(|(id, _)| *id);
        let id = id.with_context(|| format!("pure crate `{pure}` is not in the workspace"))?;
        for reached in reachable(id, &edges) {
            let name = names.get(reached).copied().unwrap_or_default();
            if WORLDLY.contains(&name) {
                findings.push(finding(pure, &format!("is pure but reaches `{name}`")));
            }
        }
    }
    Ok(findings)
}

fn normal_edges(resolve: &Value) -> BTreeMap<&str, Vec<&str>> {
    array(resolve, "nodes")
        .filter_map(|node| {
            let normal = array(node, "deps")
                .filter(|dep| array(dep, "dep_kinds").any(|kind| kind["kind"].is_null()))
                .filter_map(|dep| dep["pkg"].as_str());
            Some((node["id"].as_str()?, normal.collect()))
        })
        .collect()
}

fn reachable<'a>(from: &'a str, edges: &BTreeMap<&'a str, Vec<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut next = vec![from];
    while let Some(id) = next.pop() {
        if seen.insert(id) {
            next.extend(edges.get(id).into_iter().flatten());
        }
    }
    seen
}

fn array<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value[key].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_from_its_fence_only() {
        let text = "x -> y\n```arrows\nlog -> env, types\ntypes ->\n```\nz -> q\n";
        let expected = Graph::from([
            ("log".to_owned(), BTreeSet::from(["env".to_owned(), "types".to_owned()])),
            ("types".to_owned(), BTreeSet::new()),
        ]);
        assert_eq!(allowed(text), expected);
    }
}
