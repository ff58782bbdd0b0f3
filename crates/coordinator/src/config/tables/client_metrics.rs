//! Configs of a subscription to client metrics (resource type 16, KIP-714).

use super::super::Section;
use super::super::entry::Allowed::{Any, Between, ClientMatch};
use super::super::entry::Effect::Later;
use super::super::entry::{Entry, int, list};

pub(crate) static SECTIONS: &[Section] = &[Section { title: "Subscriptions", entries: ALL }];

static ALL: &[Entry] = &[
    list("metrics", "")
        .allow(Any)
        .effect(Later)
        .doc("Prefixes of the names of the metrics that clients push; `*` asks for all."),
    int("interval.ms", "300000")
        .allow(Between(100, 3_600_000))
        .effect(Later)
        .doc("How often clients push, in milliseconds."),
    list("match", "").allow(ClientMatch).effect(Later).doc(
        "Which clients are meant, as `name=pattern`, where the name is one of \
         `client_instance_id`, `client_id`, `client_software_name`, \
         `client_software_version`, `client_source_address` and `client_source_port`; all \
         if empty.",
    ),
];
