//! The reference page.

use std::fmt::Write as _;

use super::Kind;
use super::entry::{Effect, Entry, Update};

const INTRODUCTION: &str = "\
# Configuration

This page is generated from the tables in `crates/coordinator/src/config/tables`; the program that
it describes reads the same tables.

Names, types, defaults and ranges are those of Apache Kafka 4.4, but for what tells of this broker.
Topics, groups and client metrics have all of Kafka's configs; brokers have those that clients and
tools read or that mean something here, and our own. Every name here is accepted, checked, stored and
returned; a name that is not here is refused, with the nearest one as a hint.

What a config does here:

- **honoured**: what its description says;
- **in part**: some of its values; the description says which;
- **later**: nothing yet; it belongs to something that is not built;
- **accepted**: nothing; it tunes a mechanism that does not exist here; the description says which;
- **reported**: tells tools about the broker; something else decides it.

A value is looked for in this order: on the topic or group itself; on the one broker, set at run
time; on all brokers, set at run time; at the start of the broker (`--set NAME=VALUE` before
`--config FILE.toml`); the default. Where several broker configs give the default of one topic
config, they are asked in the order in which they are listed.

Those of which the column \"changed\" says `start, listener` can also be set for one listener, whose
name is written in small letters: `listener.name.<listener>.<name>`, which comes before `<name>`
there.

Configs of topics, groups and client metrics can be changed at any time. Those of a broker can where
the column \"changed\" says `run time`; the others need `start`.
";

/// The reference page as Markdown: every entry of every table but for the hidden ones.
#[must_use]
pub fn markdown() -> String {
    let mut page = INTRODUCTION.to_owned();
    for kind in Kind::ALL {
        push_kind(&mut page, kind);
    }
    page
}

fn push_kind(page: &mut String, kind: Kind) {
    let (title, third) = match kind {
        Kind::Topic => ("Topics", "default from"),
        Kind::Broker => ("Brokers", "changed"),
        Kind::Group => ("Groups", "default from"),
        Kind::ClientMetrics => ("Client metrics", "changed"),
    };
    push(page, format_args!("\n## {title}\n"));
    for section in kind.sections() {
        push(page, format_args!("\n### {}\n\n", section.title));
        push(page, format_args!("| name | type, default | {third} | effect | meaning |\n"));
        push(page, format_args!("|---|---|---|---|---|\n"));
        for entry in section.entries.iter().filter(|entry| !entry.hidden) {
            let third = if third == "changed" { changed(entry) } else { default_from(entry) };
            push(page, format_args!("| `{}` | {} | {third} ", entry.name, type_and_default(entry)));
            push(
                page,
                format_args!("| {} | {} Takes {}. |\n", effect(entry), entry.doc, entry.expects()),
            );
        }
    }
}

fn push(page: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a String can't fail.
    let _ = page.write_fmt(text);
}

fn type_and_default(entry: &Entry) -> String {
    let word = entry.config_type.word();
    match entry.default {
        None => format!("{word}, none"),
        Some("") => format!("{word}, empty"),
        Some(default) => format!("{word}, `{default}`"),
    }
}

fn default_from(entry: &Entry) -> String {
    let names: Vec<_> = entry.synonyms.iter().map(|one| format!("`{}`", one.name)).collect();
    names.join(", ")
}

fn changed(entry: &Entry) -> String {
    match entry.update {
        Update::ReadOnly if entry.of_listeners => "start, listener".to_owned(),
        Update::ReadOnly => "start".to_owned(),
        Update::Dynamic => "run time".to_owned(),
    }
}

fn effect(entry: &Entry) -> String {
    match entry.effect {
        Effect::Honoured => "honoured".to_owned(),
        Effect::Partly => "in part".to_owned(),
        Effect::Later => "later".to_owned(),
        Effect::AcceptedOnly => "accepted".to_owned(),
        Effect::Reported(by) => format!("reported: {by} decides"),
    }
}
