//! One file per kind of client. Each is a state machine over the wire protocol that does what real clients
//! do when answers do not come, and writes down what it saw.

pub(crate) mod admin;
pub(crate) mod batches;
pub(crate) mod classic;
pub(crate) mod consumer;
pub(crate) mod keyed;
pub(crate) mod member;
pub(crate) mod offsets;
pub(crate) mod processor;
pub(crate) mod producer;
pub(crate) mod reader;
pub(crate) mod transaction;
