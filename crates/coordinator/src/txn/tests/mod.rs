//! Tests of the transaction coordinator.

mod laws;
mod model;
mod script;
mod table;
mod time;
