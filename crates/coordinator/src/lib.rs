//! Coordinators as pure state machines: groups, transactions, access rules, quotas, credentials, metrics of
//! clients and cluster metadata.
//!
//! No clock, no randomness, no IO: times and random ids are arguments, and what is to be written
//! comes back as a value. `command(state, now, input) -> (records, replies, deadline)`, and only
//! `replay(record)` changes what must survive a restart.

pub mod acl;
pub mod audit;
pub mod cluster;
pub mod config;
pub mod credentials;
pub mod delegation;
pub mod group;
mod host;
pub mod quota;
pub mod telemetry;
pub mod txn;
