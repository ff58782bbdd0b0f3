//! `millstream quota ...`: how much of a cluster clients may use.

mod list;
mod rate;
mod remove;
mod set;

use std::net::IpAddr;

use anyhow::bail;
use clap::{Args, Subcommand};
use millstream_client::{QuotaEntity, QuotaLimits, QuotaPart};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::output::Table;

/// What can be done with quotas.
#[derive(Debug, Subcommand)]
pub enum QuotaCommand {
    /// Limit what somebody may use
    Set(set::SetArgs),
    /// List quotas
    List(list::ListArgs),
    /// Remove limits
    Remove(remove::RemoveArgs),
}

pub(super) async fn run(command: QuotaCommand) -> anyhow::Result<()> {
    match command {
        QuotaCommand::Set(args) => set::run(args).await,
        QuotaCommand::List(args) => list::run(args).await,
        QuotaCommand::Remove(args) => remove::run(args).await,
    }
}

/// What can be limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    BytesIn,
    BytesOut,
    Requests,
    Mutations,
    Connections,
}

impl Use {
    const ALL: [Self; 5] =
        [Self::BytesIn, Self::BytesOut, Self::Requests, Self::Mutations, Self::Connections];

    /// What the protocol calls it.
    const fn key(self) -> &'static str {
        match self {
            Self::BytesIn => "producer_byte_rate",
            Self::BytesOut => "consumer_byte_rate",
            Self::Requests => "request_percentage",
            Self::Mutations => "controller_mutation_rate",
            Self::Connections => "connection_creation_rate",
        }
    }

    /// What people call it: the name of its option, too.
    const fn name(self) -> &'static str {
        match self {
            Self::BytesIn => "bytes in",
            Self::BytesOut => "bytes out",
            Self::Requests => "requests",
            Self::Mutations => "mutations",
            Self::Connections => "connections",
        }
    }

    fn option(self) -> String {
        format!("--{}", self.name().replace(' ', "-"))
    }

    fn show(self, limit: f64) -> String {
        match self {
            Self::BytesIn | Self::BytesOut => rate::show_bytes(limit),
            Self::Requests => format!("{limit} %"),
            Self::Mutations | Self::Connections => format!("{limit}/s"),
        }
    }
}

/// For whom.
#[derive(Clone, Debug, Default, Args)]
#[group(id = "whom", multiple = true)]
struct WhomArgs {
    /// A user
    #[arg(long, value_name = "NAME", conflicts_with = "user_default")]
    user: Option<String>,
    /// Each user that has no quota by name
    #[arg(long)]
    user_default: bool,
    /// A client id; together with a user, that of this user
    #[arg(long, value_name = "ID", conflicts_with = "client_id_default")]
    client_id: Option<String>,
    /// Each client id that has no quota by name
    #[arg(long)]
    client_id_default: bool,
    /// An address
    #[arg(
        long,
        value_name = "ADDRESS",
        value_parser = address,
        conflicts_with_all = ["ip_default", "user", "user_default", "client_id", "client_id_default"]
    )]
    ip: Option<IpAddr>,
    /// Each address that has no quota of its own
    #[arg(
        long,
        conflicts_with_all = ["user", "user_default", "client_id", "client_id_default"]
    )]
    ip_default: bool,
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no IP address; names are not looked up"))
}

impl WhomArgs {
    fn entity(&self) -> QuotaEntity {
        let part = |name: Option<String>, default: bool| match name {
            Some(name) => Some(QuotaPart::Named(name)),
            None => default.then_some(QuotaPart::Default),
        };
        QuotaEntity {
            user: part(self.user.clone(), self.user_default),
            client_id: part(self.client_id.clone(), self.client_id_default),
            ip: part(self.ip.map(|ip| ip.to_string()), self.ip_default),
        }
    }
}

/// Whether each of `uses` can be limited for `entity`.
fn check(entity: &QuotaEntity, uses: impl IntoIterator<Item = Use>) -> anyhow::Result<()> {
    for of in uses {
        match (entity.ip.is_some(), of) {
            (true, Use::Connections) => {}
            (true, _) => bail!(
                "addresses are limited in their --connections; {} is of a user or a client id",
                of.option()
            ),
            (false, Use::Connections) => bail!(
                "--connections is of addresses, since nobody knows who connects: say which with --ip or \
                 --ip-default"
            ),
            (false, _) => {}
        }
    }
    Ok(())
}

/// The limits of somebody, for programs: what the protocol calls them; a name that is `null` is the default.
#[derive(Serialize)]
struct Shown {
    entity: Map<String, Value>,
    limits: QuotaLimits,
}

fn shown<'a>(quotas: impl IntoIterator<Item = (&'a QuotaEntity, &'a QuotaLimits)>) -> Vec<Shown> {
    let of = |(entity, limits): (&QuotaEntity, &QuotaLimits)| Shown {
        entity: entity
            .parts()
            .map(|(kind, part)| (kind.to_owned(), part.name().map(str::to_owned).into()))
            .collect(),
        limits: limits.clone(),
    };
    quotas.into_iter().map(of).collect()
}

/// The same for people.
fn table<'a>(quotas: impl IntoIterator<Item = (&'a QuotaEntity, &'a QuotaLimits)>) -> String {
    let mut table = Table::new(["WHOM", "WHAT", "AT MOST"]);
    for (entity, limits) in quotas {
        for (key, limit) in limits {
            let of = Use::ALL.into_iter().find(|of| of.key() == key);
            // A broker may be newer than this program.
            let what = of.map_or(key.as_str(), |of| of.name());
            let most = of.map_or_else(|| limit.to_string(), |of| of.show(*limit));
            table.row([entity.to_string(), what.to_owned(), most]);
        }
    }
    table.to_string()
}

/// What is said where there is nothing.
fn none() -> String {
    "there are no such quotas; `millstream quota set` makes one".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_limited_in_their_connections_and_all_else_in_the_rest() {
        let someone = WhomArgs { user: Some("ann".to_owned()), ..WhomArgs::default() }.entity();
        let address = WhomArgs { ip_default: true, ..WhomArgs::default() }.entity();
        for of in Use::ALL {
            let is_of_addresses = of == Use::Connections;
            assert_eq!(check(&someone, [of]).is_ok(), !is_of_addresses, "{of:?}");
            assert_eq!(check(&address, [of]).is_ok(), is_of_addresses, "{of:?}");
        }
        let why = check(&address, [Use::BytesIn]).map_err(|error| error.to_string());
        assert!(why.is_err_and(|why| why.contains("--bytes-in is of a user")));
    }

    #[test]
    fn limits_are_shown_in_their_units() {
        let entity = WhomArgs { client_id_default: true, ..WhomArgs::default() }.entity();
        let limits = [
            (Use::BytesOut.key(), 1e6),
            (Use::Mutations.key(), 0.5),
            (Use::Requests.key(), 50.0),
            ("something_new", 7.5),
        ];
        let limits = limits.map(|(key, limit)| (key.to_owned(), limit)).into();
        let shown = table([(&entity, &limits)]);
        for line in ["bytes out", "1 MB/s", "0.5/s", "50 %", "something_new", "7.5"] {
            assert!(shown.contains(line), "no {line} in: {shown}");
        }
        assert_eq!(shown.matches("client id (default)").count(), 4, "{shown}");
    }
}
