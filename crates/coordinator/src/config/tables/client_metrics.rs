//! Configs of a subscription to client metrics (resource type 16, KIP-714).

use super::super::Section;
use super::super::entry::Allowed::{Any, Between, ClientMatch};
use super::super::entry::{Entry, int, list};

pub(crate) static SECTIONS: &[Section] = &[Section { title: "Subscriptions", entries: ALL }];

static ALL: &[Entry] = &[
    list("metrics", "")
        .allow(Any)
        .doc("Prefixes of the names of the metrics that clients push, such as `org.apache.kafka.producer.`; \
         `*` asks for all."),
    int("interval.ms", "300000")
        .allow(Between(100, 3_600_000))
        .doc("How often clients push, in milliseconds. Of several subscriptions that fit a client the \
             shortest counts."),
    list("match", "").allow(ClientMatch).doc(
        "Which clients are meant, as `name=pattern` with a regular expression that has to match all of the \
         value, where the name is one of \
         `client_instance_id`, `client_id`, `client_software_name`, \
         `client_software_version`, `client_source_address` and `client_source_port`; all \
         if empty.",
    ),
];
