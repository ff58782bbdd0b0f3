//! Tests of the transaction coordinator.

mod laws;
mod script;
mod table;
mod time;
