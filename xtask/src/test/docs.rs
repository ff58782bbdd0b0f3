//! `docs/clients.md`, from the outcomes of a run.

use std::collections::BTreeMap;

use anyhow::Context;

use super::clients::{CLIENTS, Places};
use super::matrix::{self, Outcome, Scenario, Verdict};
use super::secure;

/// Writes the page.
///
/// # Errors
///
/// When the run was not of the whole suite, or the file can't be written.
pub(crate) fn write(
    places: &Places,
    scenarios: &[Scenario],
    versions: &[(String, String)],
    outcomes: &[Outcome],
) -> anyhow::Result<()> {
    anyhow::ensure!(versions.len() == CLIENTS.len(), "not all clients have run: no page written");
    let path = places.root.join("docs/clients.md");
    std::fs::create_dir_all(places.root.join("docs"))?;
    std::fs::write(&path, page(scenarios, versions, outcomes)).context("writing docs/clients.md")
}

fn page(scenarios: &[Scenario], versions: &[(String, String)], outcomes: &[Outcome]) -> String {
    let clients: Vec<&str> = CLIENTS.iter().map(|client| client.name).collect();
    let mut text = String::from(
        "# Clients\n\nUnmodified Kafka clients that are run against Millstream, and what they do there.\n\
         Written by `cargo xtask test --write-docs`: change `tests/clients` and run it again.\n\
         What others build on such clients is on [another page](stacks.md).\n\n\
         | client | version |\n| --- | --- |\n",
    );
    for (name, version) in versions {
        text += &format!("| {name} | {version} |\n");
    }
    text += "\n## What passes\n\n`–`: the client can't do it; the notes say what it lacks. \
             Nothing: it isn't asked.\n\n";
    text += &matrix::table(scenarios, &clients, outcomes);
    text += "\n## Where one has to log in\n\n\
             Through each door of a server where requests need rights, over TLS: round-trip and bad-credentials (with\n\
             `--long` or `--only secure` also what the table above has, but for what is about the whole cluster).\n\
             acls-tool, users-tool and tokens-tool are run by one of the doors, token-renewal and token-expiry by\n\
             the one that takes tokens.\n\n";
    text += &secure::table(outcomes);
    text += "\n## What is exercised\n\n";
    for scenario in scenarios {
        text += &format!("* **{}**: {}.\n", scenario.name, scenario.what);
    }
    text += "\n\"Records of every shape\": with and without a key, null, empty, UTF-8 and binary values,\n\
             headers (repeated, empty, null), 900 KiB of compressible and of incompressible bytes.\n";
    text += &notes(outcomes);
    text += &kill_rounds(outcomes);
    text
}

fn notes(outcomes: &[Outcome]) -> String {
    let mut text = String::from("\n## Notes\n\n");
    for client in CLIENTS {
        let mut reasons: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let skipped = |o: &&Outcome| o.client == client.name && o.verdict == Verdict::Skip;
        for outcome in outcomes.iter().filter(skipped) {
            reasons.entry(&outcome.reason).or_default().push(&outcome.scenario);
        }
        for (reason, scenarios) in reasons {
            text += &format!("* {}: {reason} ({}).\n", client.name, scenarios.join(", "));
        }
        if !client.cannot.is_empty() {
            let what = client.cannot.join(", ");
            text +=
                &format!("* {}: can't produce, so its records leave out: {what}.\n", client.name);
        }
        for note in client.notes {
            text += &format!("* {}: {note}.\n", client.name);
        }
    }
    text
}

fn kill_rounds(outcomes: &[Outcome]) -> String {
    let passed =
        |client| outcomes.iter().filter(move |o| o.client == client && o.verdict == Verdict::Pass);
    let plain = passed("kill").map(|outcome| {
        format!(
            "\n## Killed\n\n{} of `kill -9` at random moments under idempotent and plain producers: no\n\
             acknowledged record lost or out of order, none of the idempotent ones doubled.\n",
            outcome.scenario
        )
    });
    let exactly_once = passed("kill-exactly-once").map(|outcome| {
        format!(
            "\n{} more under two processors that copy a topic to two others in transactions, with their\n\
             offsets, some of which abort or begin anew: every record once and in order in both.\n",
            outcome.scenario
        )
    });
    plain.chain(exactly_once).collect()
}
