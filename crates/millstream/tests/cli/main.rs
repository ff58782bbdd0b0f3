//! The program as people and scripts use it: the built binary, driven from outside.

#![expect(clippy::disallowed_methods, reason = "the tests write input files and look at data")]
#![expect(clippy::panic, clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod acl;
mod backup;
mod cert;
mod errors;
mod group;
mod harness;
mod log;
mod quota;
mod records;
mod serve;
mod start;
mod token;
mod topic;
mod user;
