//! `millstream cert client`.

use anyhow::bail;
use clap::Args;
use millstream_env::Env;
use rcgen::{CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose};
use serde::Serialize;

use super::IssueArgs;
use super::authority::Authority;
use crate::commands::private;
use crate::output::{show, time};

/// The longest name of a user, in bytes: as much as the common name of a certificate takes (RFC 5280).
const NAME_LEN_MAX: usize = 64;

/// What `cert client` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream cert client alice
  millstream cert client orders-service --days 30 --dir /etc/millstream/certs

It is signed by the authority of `millstream cert server`, in the same directory. A broker asks for
it with --set ssl.client.auth=required --set ssl.truststore.location=DIR/ca.pem.")]
pub struct ClientArgs {
    /// The user whom it speaks for
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    issue: IssueArgs,
}

#[derive(Serialize)]
struct Document {
    key_store: String,
    trust_store: String,
    subject: String,
    valid_until: String,
    authority_is_new: bool,
}

pub(super) fn run(args: ClientArgs, env: &Env) -> anyhow::Result<()> {
    let ClientArgs { name, issue } = args;
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    if name.is_empty() || name.len() > NAME_LEN_MAX || !name.chars().all(legal) {
        bail!(
            "`{name}` can't be the name of a certificate: at most {NAME_LEN_MAX} letters, digits, and . _ - @"
        );
    }
    let path = issue.dir.join(format!("client-{name}.pem"));
    let authority = Authority::open(&issue.dir, env)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name.as_str());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let issued = authority.issue(params, env.clock.wall(), issue.days)?;
    private::write(&path, &issued.pem, issue.force)?;
    let document = Document {
        key_store: path.display().to_string(),
        trust_store: authority.path.display().to_string(),
        subject: format!("CN={name}"),
        valid_until: time::display(issued.until),
        authority_is_new: authority.is_new,
    };
    show(issue.json, &document, || next_steps(&document, &name))
}

fn next_steps(made: &Document, name: &str) -> String {
    let Document { key_store, trust_store, subject, valid_until, authority_is_new } = made;
    let is_new = if *authority_is_new { " (new)" } else { "" };
    format!(
        "{key_store}  key and certificate of {name}, until {valid_until}\n\
         {trust_store}  the authority that signed it{is_new}: what the broker trusts\n\
         \n\
         Let a broker ask for it:\n  \
         millstream serve ... --set ssl.client.auth=required --set ssl.truststore.location={trust_store}\n\
         \n\
         What the client needs, beside what it needs for TLS:\n  \
         librdkafka, kcat  ssl.certificate.location={key_store} ssl.key.location={key_store}\n  \
         Java              ssl.keystore.type=PEM ssl.keystore.location={key_store}\n\
         \n\
         The broker knows it as User:{subject}; as User:{name} with\n  \
         --set 'ssl.principal.mapping.rules=RULE:^CN=([^,\\\\]+)$/$1/'\n"
    )
}
