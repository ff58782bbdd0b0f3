//! `millstream cert server`.

use anyhow::bail;
use clap::Args;
use millstream_env::Env;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose};
use serde::Serialize;

use super::IssueArgs;
use super::authority::Authority;
use crate::commands::private;
use crate::output::{show, time};

/// What `cert server` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream cert server
  millstream cert server --host kafka.example.org --host 192.0.2.10 --dir /etc/millstream/certs
  millstream cert server --force                         (a new one; a running broker takes it)

The authority is made with the first certificate: DIR/ca.pem, which clients trust, and DIR/ca.key,
which signs; keep the second to yourself. Both are for development: where others have to trust a
broker, let the authority that they trust already sign its certificate.")]
pub struct ServerArgs {
    /// A name or an IP address under which clients connect; may be repeated
    #[arg(long, value_name = "HOST", default_values = ["localhost", "127.0.0.1"], value_delimiter = ',')]
    host: Vec<String>,
    #[command(flatten)]
    issue: IssueArgs,
}

#[derive(Serialize)]
struct Document {
    key_store: String,
    trust_store: String,
    hosts: Vec<String>,
    valid_until: String,
    authority_is_new: bool,
}

pub(super) fn run(args: ServerArgs, env: &Env) -> anyhow::Result<()> {
    let ServerArgs { host: hosts, issue } = args;
    let Some(first) = hosts.first() else { bail!("a certificate needs a --host") };
    let path = issue.dir.join("server.pem");
    let authority = Authority::open(&issue.dir, env)?;
    let mut params = CertificateParams::new(hosts.clone())?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, first.as_str());
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let issued = authority.issue(params, env.clock.wall(), issue.days)?;
    private::write(&path, &issued.pem, issue.force)?;
    let document = Document {
        key_store: path.display().to_string(),
        trust_store: authority.path.display().to_string(),
        hosts,
        valid_until: time::display(issued.until),
        authority_is_new: authority.is_new,
    };
    show(issue.json, &document, || next_steps(&document))
}

fn next_steps(made: &Document) -> String {
    let Document { key_store, trust_store, hosts, valid_until, authority_is_new } = made;
    let hosts = hosts.join(", ");
    let is_new = if *authority_is_new { " (new)" } else { "" };
    format!(
        "{key_store}  key and certificate for {hosts}, until {valid_until}\n\
         {trust_store}  the authority that signed it{is_new}: what clients trust\n\
         \n\
         Start a broker with it:\n  \
         millstream serve --set listeners=SSL://127.0.0.1:9093 --set ssl.keystore.location={key_store}\n\
         \n\
         What clients need:\n  \
         librdkafka, kcat  security.protocol=ssl ssl.ca.location={trust_store}\n  \
         Java              security.protocol=SSL ssl.truststore.type=PEM \
         ssl.truststore.location={trust_store}\n\
         \n\
         `millstream cert client NAME` makes certificates for clients; docs/security.md has the rest.\n"
    )
}
