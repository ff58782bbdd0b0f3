//! Scenarios as scripts, small cases exhaustively, laws on random histories.

mod exhaustive;
mod host;
mod laws;
mod scenarios;
mod script;
