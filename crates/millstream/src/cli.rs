//! The command line: what can be typed. What it does is in [`crate::commands`], one file each.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use millstream_auth::Mechanism;
use millstream_client::Address;

use crate::commands::acl::AclCommand;
use crate::commands::backup::BackupArgs;
use crate::commands::cert::CertCommand;
use crate::commands::completions::CompletionsArgs;
use crate::commands::consume::ConsumeArgs;
use crate::commands::group::GroupCommand;
use crate::commands::log::LogCommand;
use crate::commands::produce::ProduceArgs;
use crate::commands::quota::QuotaCommand;
use crate::commands::restore::RestoreArgs;
use crate::commands::serve::ServeArgs;
use crate::commands::token::TokenCommand;
use crate::commands::topic::TopicCommand;
use crate::commands::user::UserCommand;

/// A durable, partitioned, replayable log that speaks the Kafka protocol.
#[derive(Debug, Parser)]
#[command(
    name = "millstream",
    version,
    arg_required_else_help = true,
    max_term_width = 100,
    after_help = "\
Start here:
  millstream serve                       a broker on 127.0.0.1:9092, data in ./millstream-data
  echo hello | millstream produce news   write a record (the topic is created)
  millstream consume news                read it
  millstream COMMAND --help              options and examples of a command

`topic`, `produce`, `consume`, `group`, `user`, `token`, `acl` and `quota` work with any Kafka-compatible
cluster: name it with --bootstrap HOST:PORT or the environment variable MILLSTREAM_BOOTSTRAP; --ca FILE.pem
for TLS, --login USER where one has to log in."
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What the program can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a broker
    Serve(ServeArgs),
    /// Create, list, describe, alter and delete topics
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Write records to a topic
    Produce(ProduceArgs),
    /// Read records from a topic
    Consume(ConsumeArgs),
    /// List and describe consumer groups, and change their offsets
    #[command(subcommand)]
    Group(GroupCommand),
    /// Say who may do what
    #[command(subcommand)]
    Acl(AclCommand),
    /// Say how much clients may use
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Add, list and delete users that log in
    #[command(subcommand)]
    User(UserCommand),
    /// Make, list, renew and end tokens by which others act as a user for a while
    #[command(subcommand)]
    Token(TokenCommand),
    /// Look into a data directory that no server uses
    #[command(subcommand)]
    Log(LogCommand),
    /// Copy a data directory, also while a server uses it
    Backup(BackupArgs),
    /// Make a data directory of a backup
    Restore(RestoreArgs),
    /// Make certificates to develop and test with, and look at any
    #[command(subcommand)]
    Cert(CertCommand),
    /// Write a shell's completions to standard output
    Completions(CompletionsArgs),
}

/// Which cluster, and how to show what it says.
#[derive(Clone, Debug, Args)]
pub struct ClusterArgs {
    /// Where to find the cluster; several addresses with commas between them
    #[arg(
        long,
        value_name = "HOST:PORT",
        env = "MILLSTREAM_BOOTSTRAP",
        default_value = "127.0.0.1:9092",
        value_delimiter = ',',
        help_heading = "Cluster"
    )]
    pub bootstrap: Vec<Address>,
    /// Use TLS, and trust the authorities in this PEM file
    #[arg(long, value_name = "FILE.pem", env = "MILLSTREAM_CA", help_heading = "Cluster")]
    pub ca: Option<PathBuf>,
    /// A PEM file with a key and a certificate to show, where the cluster asks for one
    #[arg(
        long,
        value_name = "FILE.pem",
        env = "MILLSTREAM_CERT",
        requires = "ca",
        help_heading = "Cluster"
    )]
    pub cert: Option<PathBuf>,
    /// Log in as this user
    #[arg(long, value_name = "USER", env = "MILLSTREAM_LOGIN", help_heading = "Cluster")]
    pub login: Option<String>,
    /// Read that user's password from the first line of this file [default: asked for]
    #[arg(
        long,
        value_name = "FILE",
        env = "MILLSTREAM_LOGIN_PASSWORD_FILE",
        requires = "login",
        help_heading = "Cluster"
    )]
    pub login_password_file: Option<PathBuf>,
    /// How to log in: SCRAM-SHA-256, SCRAM-SHA-512; PLAIN, which shows the password to the broker; or
    /// OAUTHBEARER, which shows it a token that is read in its place
    #[arg(
        long,
        value_name = "NAME",
        env = "MILLSTREAM_LOGIN_MECHANISM",
        default_value = "SCRAM-SHA-256",
        value_parser = mechanism,
        help_heading = "Cluster"
    )]
    pub login_mechanism: Mechanism,
    /// USER is the id of a delegation token (`millstream token`), and the password its HMAC
    #[arg(long, requires = "login", help_heading = "Cluster")]
    pub login_by_token: bool,
    /// Show the result as JSON, for programs
    #[arg(long)]
    pub json: bool,
}

/// Reads the name of a mechanism.
fn mechanism(text: &str) -> Result<Mechanism, String> {
    Mechanism::named(&text.to_ascii_uppercase()).ok_or_else(|| {
        let known = Mechanism::ALL.map(Mechanism::name).join(", ");
        format!("`{text}` is none of {known}")
    })
}

/// A setting as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameValue {
    /// Before the first `=`.
    pub name: String,
    /// After it.
    pub value: String,
}

impl std::str::FromStr for NameValue {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((name, value)) if !name.trim().is_empty() => {
                Ok(Self { name: name.trim().to_owned(), value: value.to_owned() })
            }
            _ => Err(format!("`{text}` is not NAME=VALUE")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    /// The first line of what the program says to a wrong command line, or nothing.
    fn complaint(line: &str) -> String {
        let words = std::iter::once("millstream").chain(line.split_whitespace());
        match Cli::try_parse_from(words) {
            Ok(_) => String::new(),
            Err(error) => {
                assert_eq!(error.exit_code(), 2, "{line}");
                error.to_string().lines().next().unwrap_or_default().to_owned()
            }
        }
    }

    #[test]
    fn what_is_typed_wrongly_is_explained() {
        for (line, expected) in [
            ("consume t --from soon", "error: invalid value 'soon' for '--from <WHERE>': "),
            ("consume t --count many", "error: invalid value 'many' for '--count <N>': "),
            ("consume", "error: the following required arguments were not provided:"),
            ("consume t --partition 1 --group g", "error: the argument '--partition <N>' "),
            ("produce t --acks 2", "error: invalid value '2' for '--acks <WHO>'"),
            ("produce t --compression zip", "error: invalid value 'zip' for '--compression"),
            ("produce t --header x", "error: invalid value 'x' for '--header <NAME=VALUE>': `x` "),
            ("topic create", "error: the following required arguments were not provided:"),
            ("topic create t --partitions 0", "error: invalid value '0' for '--partitions <N>': "),
            ("topic create t --config x", "error: invalid value 'x' for '--set <NAME=VALUE>'"),
            ("topic list --bootstrap ::1:1", "error: invalid value '::1:1' for '--bootstrap "),
            ("group reset g --topic t", "error: the following required arguments were not provid"),
            ("group reset g --to x", "error: invalid value 'x' for '--to <WHERE>': "),
            ("user add", "error: the following required arguments were not provided:"),
            (
                "user add u --mechanism plain",
                "error: invalid value 'plain' for '--mechanism <NAME>'",
            ),
            ("user add u --iterations 1", "error: invalid value '1' for '--iterations <N>': "),
            ("user list --login-password-file f", "error: the following required arguments were"),
            (
                "user list --login-mechanism x",
                "error: invalid value 'x' for '--login-mechanism <NA",
            ),
            (
                "token create --lifetime soon",
                "error: invalid value 'soon' for '--lifetime <SPAN>': ",
            ),
            ("token renew", "error: the following required arguments were not provided:"),
            (
                "token list --login-by-token",
                "error: the following required arguments were not prov",
            ),
            ("serve --kafka-listen here", "error: invalid value 'here' for '--kafka-listen "),
            ("serve --set x", "error: invalid value 'x' for '--set <NAME=VALUE>': `x` is not NAME"),
            ("serve --log-format xml", "error: invalid value 'xml' for '--log-format <FORMAT>'"),
            (
                "acl add --allow User:a",
                "error: the following required arguments were not provided:",
            ),
            ("acl add --allow User:a --operation read", "error: the following required arguments"),
            ("acl add --allow User:a --operation fly --cluster", "error: invalid value 'fly' for "),
            ("acl remove", "error: the following required arguments were not provided:"),
            ("quota set --user a", "error: the following required arguments were not provided:"),
            ("quota set --bytes-in 1MB/s", "error: the following required arguments were not pro"),
            ("quota set --user a --bytes-in 1Mb", "error: invalid value '1Mb' for '--bytes-in <RA"),
            ("quota set --user a --requests half", "error: invalid value 'half' for '--requests "),
            ("quota set --ip host --connections 1", "error: invalid value 'host' for '--ip <ADDR"),
            (
                "quota set --ip ::1 --user a --connections 1",
                "error: the argument '--ip <ADDRESS>' cannot be used with",
            ),
            ("quota remove", "error: the following required arguments were not provided:"),
            ("backup", "error: the following required arguments were not provided:"),
            ("restore", "error: the following required arguments were not provided:"),
            ("cert client", "error: the following required arguments were not provided:"),
            ("cert server --days 0", "error: invalid value '0' for '--days <N>': "),
            ("completions tcsh", "error: invalid value 'tcsh' for '<SHELL>'"),
            ("frobnicate", "error: unrecognized subcommand 'frobnicate'"),
        ] {
            let complaint = complaint(line);
            assert!(complaint.starts_with(expected), "{line}: {complaint}");
        }
    }

    #[test]
    fn what_is_typed_rightly_is_taken() {
        for line in [
            "serve",
            "serve --kafka-listen [::]:9092 --advertise kafka.example.org:9092 --in-memory",
            "serve --set num.partitions=4 --set auto.create.topics.enable=false --config x.toml",
            "topic create t --partitions 3 --set retention.ms=1000 --config cleanup.policy=",
            "topic alter t --set retention.ms=-1 --unset segment.bytes --partitions 12",
            "topic list --json --bootstrap a:1,b:2 --ca ca.pem --cert me.pem",
            "produce t --key-separator : --header a=b --header a= --acks all --compression zstd",
            "produce t --json --idempotent false --partition 3",
            "consume t --from -1h --follow",
            "consume t --from 2026-01-31T00:00:00Z --count 3 --format key-value",
            "consume t --from 17 --partition 0 --partition 1 --json",
            "group reset g --topic t --to -10 --dry-run",
            "group reset g --topic t --to +10",
            "group reset g --topic t --to -1h",
            "group describe g --json",
            "acl add --allow User:a --operation read --operation Describe --topic t --prefixed",
            "acl add --deny User:* --operation all --group g --transactional-id x --host 10.0.0.0/8",
            "acl list --principal User:a --topic t --matching --json",
            "acl remove --operation ALTER_CONFIGS --cluster",
            "acl remove --all",
            "quota set --user a --client-id-default --bytes-in 10MB/s --requests 50%",
            "quota set --ip-default --connections 10/s --json",
            "quota list",
            "quota list --client-id c",
            "quota remove --user-default --bytes-out --if-exists",
            "user add u --password-file p --mechanism scram-sha-512 --iterations 8192",
            "user add u --data-dir d",
            "user list --login admin --login-password-file p --login-mechanism plain",
            "user delete u --if-exists --json",
            "token create --owner u --renewer a --renewer b --lifetime 1h30m --hmac-file f --json",
            "token list --owner u --show-hmac --login x --login-by-token",
            "token renew id --for 2d",
            "token expire id --in 10m",
            "backup /backup/one --data-dir data --json",
            "restore /backup/one --data-dir data --json",
            "cert server --host a --host 127.0.0.1,::1 --days 30 --force --dir x --json",
            "cert client alice",
            "cert show a.pem b.pem --json",
            "completions zsh",
        ] {
            assert_eq!(complaint(line), "", "{line}");
        }
    }
}
