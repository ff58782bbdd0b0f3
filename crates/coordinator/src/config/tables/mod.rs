//! The tables: one entry after the other, a file for each kind of resource.

pub(super) mod broker;
pub(super) mod client_metrics;
pub(super) mod group;
mod groups;
mod log;
mod oauth;
pub(super) mod topic;
mod transport;
mod words;
