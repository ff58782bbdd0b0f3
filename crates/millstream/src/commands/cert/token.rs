//! `millstream cert token`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Args;
use millstream_env::Env;
use millstream_oauth::Signer;
use rcgen::KeyPair;
use serde::Serialize;

use crate::commands::private;
use crate::output::{remark, show, time};

const KEY: &str = "issuer.pem";
const KEY_SET: &str = "jwks.json";

/// What `cert token` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream cert token alice > token
  millstream cert token orders-service --seconds 60 --audience kafka --dir /etc/millstream/certs

For brokers that take tokens (sasl.enabled.mechanisms=OAUTHBEARER), where there is no issuer yet: the
first time, it makes one, a key and a key set in the directory. Whoever has the key can log in as
anybody; real issuers keep theirs to themselves.")]
pub struct TokenArgs {
    /// The user whom it stands for (its claim `sub`)
    #[arg(value_name = "USER")]
    user: String,
    /// For how many seconds it is valid
    #[arg(long, value_name = "N", default_value_t = 3_600, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// For whom it is (its claim `aud`)
    #[arg(long, value_name = "TEXT", default_value = "millstream")]
    audience: String,
    /// Who says that he has made it (its claim `iss`)
    #[arg(long, value_name = "TEXT", default_value = "https://millstream.invalid")]
    issuer: String,
    /// The directory of the issuer; made if need be
    #[arg(long, value_name = "DIR", default_value = "./certs")]
    dir: PathBuf,
    /// Show what was made as JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    iat: i64,
    exp: i64,
}

#[derive(Serialize)]
struct Document {
    token: String,
    key_set: String,
    valid_until: String,
}

pub(super) fn run(args: TokenArgs, env: &Env) -> anyhow::Result<()> {
    let TokenArgs { user, seconds, audience, issuer, dir, json } = args;
    if user.is_empty() {
        bail!("a token stands for somebody: name a user");
    }
    let signer = open(&dir)?;
    let now = env.clock.wall();
    let until = now.plus(Duration::from_secs(u64::from(seconds)));
    let (iat, exp) = (now.0 / 1_000, until.0 / 1_000);
    let claims = Claims { iss: &issuer, aud: &audience, sub: &user, iat, exp };
    let document = Document {
        token: signer.token(&serde_json::to_string(&claims)?)?,
        key_set: std::path::absolute(dir.join(KEY_SET))?.display().to_string(),
        valid_until: time::display(until),
    };
    if !json {
        // The token alone goes where it is to be used.
        remark(&next_steps(&document, &user, &audience));
    }
    show(json, &document, || format!("{}\n", document.token))
}

/// The issuer in `dir`; a new one where there is none.
fn open(dir: &Path) -> anyhow::Result<Signer> {
    std::fs::create_dir_all(dir).with_context(|| format!("can't make {}", dir.display()))?;
    let path = dir.join(KEY);
    if !path.exists() {
        private::write(&path, &KeyPair::generate()?.serialize_pem(), false)?;
    }
    #[expect(clippy::disallowed_methods, reason = "the user's own file")]
    let bytes = std::fs::read(&path).with_context(|| format!("can't read {}", path.display()))?;
    let what =
        || format!("{} is no private key in PEM; without it a new one is made", path.display());
    let key =
        KeyPair::from_pem(&String::from_utf8(bytes).with_context(what)?).with_context(what)?;
    let signer = Signer::from_pkcs8(&key.serialize_der()).with_context(what)?;
    write_key_set(&dir.join(KEY_SET), &signer.key_set())?;
    Ok(signer)
}

/// Writes the key set, unless it is there: tokens may be made side by side, and a broker looks at the file.
fn write_key_set(path: &Path, keys: &str) -> anyhow::Result<()> {
    #[expect(clippy::disallowed_methods, reason = "the user's own file")]
    if std::fs::read(path).is_ok_and(|there| there == keys.as_bytes()) {
        return Ok(());
    }
    private::write(path, keys, true)
}

fn next_steps(made: &Document, user: &str, audience: &str) -> String {
    let Document { key_set, valid_until, .. } = made;
    format!(
        "a token of {user}, until {valid_until}; {key_set} verifies it\n\
         \n\
         Let a broker take it:\n  \
         millstream serve --set listeners=SASL_PLAINTEXT://127.0.0.1:9092 \
         --set sasl.enabled.mechanisms=OAUTHBEARER \
         --set sasl.oauthbearer.jwks.endpoint.url=file://{key_set} \
         --set sasl.oauthbearer.expected.audience={audience}\n\
         \n\
         Log in with it, once it is in a file:\n  \
         millstream topic list --login {user} --login-mechanism OAUTHBEARER --login-password-file FILE\n"
    )
}
