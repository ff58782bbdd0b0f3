//! `millstream cert show`.

use std::path::PathBuf;

use clap::Args;
use millstream_tls::{Summary, summaries};
use millstream_types::Timestamp;
use serde::Serialize;

use super::DAY_MS;
use crate::output::{show, time};

/// What `cert show` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream cert show certs/server.pem
  millstream cert show certs/*.pem --json

The subject is written as mapping rules and ACLs see it. Keys in the files are not shown.")]
pub struct ShowArgs {
    /// PEM files
    #[arg(value_name = "FILE.pem", required = true)]
    files: Vec<PathBuf>,
    /// Show it as JSON, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document {
    file: String,
    subject: String,
    issuer: String,
    hosts: Vec<String>,
    is_authority: bool,
    valid_from: String,
    valid_until: String,
    has_expired: bool,
}

pub(super) fn run(args: ShowArgs, now: Timestamp) -> anyhow::Result<()> {
    let mut documents = Vec::new();
    let mut text = String::new();
    for path in args.files {
        for found in summaries(&path)? {
            let document = document(path.display().to_string(), found, now);
            text.push_str(&document.1);
            documents.push(document.0);
        }
    }
    show(args.json, &documents, || text)
}

fn document(file: String, found: Summary, now: Timestamp) -> (Document, String) {
    let has_expired = found.not_after < now;
    let document = Document {
        file,
        subject: found.subject,
        issuer: found.issuer,
        hosts: found.hosts,
        is_authority: found.is_authority,
        valid_from: time::display(found.not_before),
        valid_until: time::display(found.not_after),
        has_expired,
    };
    let left = match (found.not_after.0 - now.0) / DAY_MS {
        _ if has_expired => "expired".to_owned(),
        1 => "1 day left".to_owned(),
        days => format!("{days} days left"),
    };
    let mut text = format!("{}\n  subject  {}\n", document.file, document.subject);
    if document.is_authority {
        text.push_str("  an authority: it signs others\n");
    } else {
        text.push_str(&format!("  issuer   {}\n", document.issuer));
    }
    if !document.hosts.is_empty() {
        text.push_str(&format!("  hosts    {}\n", document.hosts.join(", ")));
    }
    text.push_str(&format!("  valid    until {} ({left})\n", document.valid_until));
    (document, text)
}
