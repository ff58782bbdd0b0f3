//! One file per kind of client. Each is a state machine over the wire protocol that does what real clients
//! do when answers do not come, and writes down what it saw.

pub(crate) mod batches;
pub(crate) mod producer;
pub(crate) mod reader;
