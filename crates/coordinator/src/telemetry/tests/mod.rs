//! What clients are asked for, what they push, and what is shown of it.

mod decoding;
mod pushing;
mod showing;
