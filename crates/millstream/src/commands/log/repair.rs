//! `millstream log repair`.

use std::io::{IsTerminal as _, Write};

use anyhow::{Context as _, bail};
use clap::Args;
use millstream_broker::Repair;
use millstream_env::{DataDir, Env};
use millstream_log::offline::{Finding, PlannedLoss};
use serde::Serialize;
use tokio::runtime::Handle;

use super::DataArgs;
use super::directory::{Directory, Told};
use super::text::range;
use crate::output::human;

/// What `log repair` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream log repair                 (says what it would do, and changes nothing)
  millstream log repair --yes
  millstream log repair --data-dir /var/lib/millstream --json | jq .losses

What can be read is kept, what can't is given up, and each loss is named before anything is done. Files
that are replaced are moved below the folder `quarantine` in the data directory: remove it when
everything is as it should be. A copy of the damaged files from a backup is always better than this.
On a terminal it asks; elsewhere nothing is changed without --yes.")]
pub struct RepairArgs {
    #[command(flatten)]
    data: DataArgs,
    /// Do it
    #[arg(long)]
    yes: bool,
    /// One JSON document, for programs
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Loss {
    topic: String,
    partition: i32,
    first_offset: i64,
    last_offset: i64,
    why: String,
}

#[derive(Serialize)]
struct Document {
    needed: bool,
    done: bool,
    quarantine: Option<String>,
    losses: Vec<Loss>,
    findings: Vec<Told>,
    kept_segments: u64,
    rewritten_bytes: u64,
}

pub(super) async fn run(args: RepairArgs, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let env = Env::real(Handle::current());
    let mut document = {
        let data = DataDir::open_damaged(&args.data.data_dir, env.clone())?;
        describe(Repair::plan(&data).await.context(NO_HELP)?, &env)
    };
    if !args.json {
        write!(out, "{}", text(&document))?;
    }
    let wanted = document.needed && (args.yes || (!args.json && confirmed(out)?));
    if wanted {
        let data = DataDir::open_to_repair(&args.data.data_dir, env.clone())?;
        let repair = Repair::plan(&data).await.context(NO_HELP)?;
        let quarantine = repair.carry_out(&data, &env).await.context(
            "the repair did not come to its end; run it again, it goes on with what there is",
        )?;
        document.done = true;
        if !args.json {
            let folder = args.data.data_dir.join(&quarantine);
            writeln!(out, "repaired; what was replaced is in {}", folder.display())?;
        }
        document.quarantine = Some(quarantine);
    }
    if args.json {
        serde_json::to_writer(&mut *out, &document)?;
        writeln!(out)?;
    }
    if document.needed && !document.done {
        bail!("nothing was changed; say --yes to have it done");
    }
    Ok(())
}

const NO_HELP: &str = "no repair can help here; restore a backup";

fn describe(repair: Repair, env: &Env) -> Document {
    let needed = !repair.is_needless();
    let Repair { stored, plan } = repair;
    let directory = Directory::of(stored, env.clone());
    let findings: Vec<&Finding> = directory.findings.iter().chain(&plan.findings).collect();
    let findings = findings.into_iter().map(|finding| directory.told(finding)).collect();
    let loss = |loss: &PlannedLoss| {
        let named = directory.partitions.iter().find(|named| named.id == loss.partition);
        Loss {
            topic: named.map_or_else(String::new, |named| named.topic.to_string()),
            partition: loss.partition.index,
            first_offset: loss.offsets.start.0,
            last_offset: loss.offsets.end.0 - 1,
            why: loss.why.clone(),
        }
    };
    Document {
        needed,
        done: false,
        quarantine: None,
        losses: plan.losses.iter().map(loss).collect(),
        findings,
        kept_segments: plan.kept,
        rewritten_bytes: plan.rewritten_bytes,
    }
}

fn text(document: &Document) -> String {
    if !document.needed {
        return "nothing is damaged: there is nothing to repair\n".to_owned();
    }
    let mut text = String::new();
    for told in &document.findings {
        text.push_str(&format!("{told}\n"));
    }
    text.push_str("\nA repair would\n");
    let kept = human::counted(document.kept_segments, "segment");
    text.push_str(&format!("  keep {kept} as they are\n"));
    let bytes = human::bytes(document.rewritten_bytes);
    text.push_str(&format!(
        "  write {bytes} of batches to new segments, as far as they can be read\n"
    ));
    text.push_str(
        "  move the journals and the files that it replaces to the folder `quarantine`\n",
    );
    if document.losses.is_empty() {
        text.push_str("  lose no record that can be named\n");
    }
    for loss in &document.losses {
        let (topic, index) = (&loss.topic, loss.partition);
        let offsets = range(loss.first_offset, loss.last_offset);
        let count = loss.last_offset - loss.first_offset + 1;
        let records = human::counted(u64::try_from(count).unwrap_or(0), "offset");
        text.push_str(&format!(
            "  LOSE {topic}-{index}, offsets {offsets} ({records}): {}\n",
            loss.why
        ));
    }
    let unnamed = document.findings.iter().filter(|told| told.kind == "damaged-journal");
    if unnamed.clone().any(|told| told.topic.is_none()) {
        text.push_str(
            "  A part of the journal can't be read at all. What it held is lost, too: records show above\n  \
             as missing offsets where others follow them, and not where they were the last ones.\n",
        );
    }
    text
}

/// Asks, where there is somebody to be asked.
fn confirmed(out: &mut (dyn Write + Send)) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        return Ok(false);
    }
    write!(out, "\nDo it? Only `yes` is a yes: ")?;
    out.flush()?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
