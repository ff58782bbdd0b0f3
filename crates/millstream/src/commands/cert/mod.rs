//! `millstream cert`: certificates and tokens to develop and test with, and a look at any certificate.

mod authority;
mod client;
mod server;
mod show;
mod token;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use millstream_env::Env;
use millstream_types::Timestamp;
use rcgen::CertificateParams;
use tokio::runtime::Handle;

use crate::output::time::date;

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub enum CertCommand {
    /// Make a certificate for a broker, signed by an authority of your own
    Server(server::ServerArgs),
    /// Make a certificate for a client, signed by the same authority
    Client(client::ClientArgs),
    /// Make a token to log in with, signed by an issuer of your own
    Token(token::TokenArgs),
    /// Show what certificates say, and until when
    Show(show::ShowArgs),
}

/// Where certificates go, and how long they last.
#[derive(Clone, Debug, Args)]
struct IssueArgs {
    /// The directory of the authority and of what it signs; made if need be
    #[arg(long, value_name = "DIR", default_value = "./certs")]
    dir: PathBuf,
    /// For how many days it is valid
    #[arg(long, value_name = "N", default_value_t = 397, value_parser = clap::value_parser!(u16).range(1..=3_650))]
    days: u16,
    /// Replace one that is there; a running broker takes the new one by itself
    #[arg(long)]
    force: bool,
    /// Show what was made as JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Carries the command out.
///
/// # Errors
///
/// What stood in the way.
pub(super) fn run(command: CertCommand) -> anyhow::Result<()> {
    let env = Env::real(Handle::current());
    match command {
        CertCommand::Server(args) => server::run(args, &env),
        CertCommand::Client(args) => client::run(args, &env),
        CertCommand::Token(args) => token::run(args, &env),
        CertCommand::Show(args) => show::run(args, env.clock.wall()),
    }
}

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// From when to when a certificate is valid that is made at `now`: from the day before on, since clocks differ,
/// to the end of the day so many days later.
fn validity(now: Timestamp, days: u16) -> (Timestamp, Timestamp) {
    let today = now.0 - now.0.rem_euclid(DAY_MS);
    (Timestamp(today - DAY_MS), Timestamp(today + (i64::from(days) + 1) * DAY_MS))
}

/// Makes a certificate valid for so many days.
fn limit(params: &mut CertificateParams, now: Timestamp, days: u16) -> Timestamp {
    let (from, until) = validity(now, days);
    let midnight = |at| {
        let (year, month, day) = date(at);
        rcgen::date_time_ymd(year, month, day)
    };
    params.not_before = midnight(from);
    params.not_after = midnight(until);
    until
}
