//! `millstream token ...`: delegation tokens, by which others act as a user for a while.

mod create;
mod expire;
mod list;
mod renew;

use anyhow::anyhow;
use clap::Subcommand;
use millstream_client::{Admin, DelegationToken};
use millstream_types::Timestamp;
use serde::Serialize;

use crate::output::{Table, time};

/// What can be done with delegation tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token
    Create(create::CreateArgs),
    /// List tokens
    List(list::ListArgs),
    /// Make a token last longer
    Renew(renew::RenewArgs),
    /// End a token, now or soon
    Expire(expire::ExpireArgs),
}

pub(super) async fn run(command: TokenCommand) -> anyhow::Result<()> {
    match command {
        TokenCommand::Create(args) => create::run(args).await,
        TokenCommand::List(args) => list::run(args).await,
        TokenCommand::Renew(args) => renew::run(args).await,
        TokenCommand::Expire(args) => expire::run(args).await,
    }
}

/// A token, for programs.
#[derive(Serialize)]
struct Shown {
    token: String,
    /// Left out where nobody has asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    hmac: Option<String>,
    owner: String,
    renewers: Vec<String>,
    /// In milliseconds since 1970, like the others.
    issued: i64,
    expires: i64,
    ends: i64,
}

impl Shown {
    fn of(token: &DelegationToken, with_hmac: bool) -> Self {
        Self {
            token: token.id.clone(),
            hmac: with_hmac.then(|| token.hmac.password()),
            owner: token.owner.clone(),
            renewers: token.renewers.clone(),
            issued: token.issued.0,
            expires: token.expires.0,
            ends: token.ends.0,
        }
    }
}

/// The same for people.
fn table(tokens: &[Shown]) -> String {
    let mut table = Table::new(["TOKEN", "OWNER", "RENEWERS", "EXPIRES", "AT THE LATEST"]);
    for token in tokens {
        let renewers = match token.renewers.as_slice() {
            [] => "-".to_owned(),
            some => some.join(", "),
        };
        let [expires, ends] = [token.expires, token.ends].map(|at| time::display(Timestamp(at)));
        table.row([token.token.clone(), token.owner.clone(), renewers, expires, ends]);
    }
    let mut text = table.to_string();
    for token in tokens {
        if let Some(hmac) = &token.hmac {
            text.push_str(&format!("HMAC of {}: {hmac}\n", token.token));
        }
    }
    text
}

/// The token of that id. So nobody has to type its HMAC, which others would see in the list of processes.
async fn find(admin: &Admin, id: &str) -> anyhow::Result<DelegationToken> {
    let found = admin.tokens(&[]).await?.into_iter().find(|token| token.id == id);
    found.ok_or_else(|| {
        anyhow!(
            "there is no token `{id}`, or none that you may be told of; `millstream token list` lists them"
        )
    })
}

/// When a token expires now.
#[derive(Serialize)]
struct Changed {
    token: String,
    expires: i64,
}
