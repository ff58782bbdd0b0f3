//! The Kafka door: frames, sessions, and one file per API.
//!
//! socket → [`door`] → [`frames`] → [`connection`] → [`dispatch`] → a handler in [`api`] → the broker, and back.
//!
//! The only crate that knows API versions and error codes. A handler sees a decoded request and
//! returns a response; bytes and sockets are not its business. To add an API: a file in `api`, a
//! line in `dispatch`'s table.

mod api;
mod audit;
mod connection;
mod dispatch;
mod door;
mod errors;
mod features;
mod frames;
mod intake;
mod listener;
mod login;
mod metrics;
mod pace;
mod places;
mod throttle;
mod timer;
mod volume;

pub use api::authorize::{NEEDS, Needs, Right};
pub use dispatch::{SERVED, Served};
pub use door::Door;
pub use listener::Listener;
