//! Millstream as a library: a broker inside another program.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! use millstream::{Server, ServerConfig};
//!
//! let server = Server::start(ServerConfig::in_memory()).await?;
//! let bootstrap = server.kafka_address().expect("in the network").to_string();
//! // Point any Kafka client at `bootstrap`.
//! server.stop().await;
//! # Ok(())
//! # }
//! ```

pub mod cli;
pub mod commands;

mod client_metrics;
mod issuer;
mod listeners;
mod metrics;
mod output;
mod pages;
mod server;

pub use server::{Place, Server, ServerConfig, Settings};

/// Every API of the Kafka protocol that is served, with its versions.
#[must_use]
pub fn served() -> &'static [millstream_kafka::Served] {
    millstream_kafka::SERVED
}

/// Which rights each API needs that is served.
#[must_use]
pub fn needs() -> &'static [millstream_kafka::Needs] {
    millstream_kafka::NEEDS
}
