//! Scenarios as scripts, small cases exhaustively, laws on random histories.

mod consumers;
mod exhaustive;
mod fuzz;
mod host;
mod laws;
mod limits;
mod scenarios;
mod script;
mod streams;
