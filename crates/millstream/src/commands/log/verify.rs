//! `millstream log verify`.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal as _, Write};

use anyhow::bail;
use clap::Args;
use millstream_log::offline::Finding;
use millstream_types::Offset;
use serde::Serialize;

use super::DataArgs;
use super::directory::{Directory, Named, Told};
use super::text::count;

/// Bytes between two signs of life.
const PROGRESS_BYTES: u64 = 16 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// What `log verify` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Reads every journal file, segment, index and checkpoint, and checks each batch. Ends with 1 when
something is damaged. What is only noted (files that a crash left behind) is harmless.")]
pub struct VerifyArgs {
    #[command(flatten)]
    data: DataArgs,
    /// One JSON document, for programs
    #[arg(long)]
    json: bool,
}

/// What was found in a topic.
#[derive(Clone, Debug, Default, Serialize)]
struct TopicSum {
    partitions: u64,
    segments: u64,
    batches: u64,
    records: u64,
    bytes: u64,
    damages: u64,
}

#[derive(Serialize)]
struct JournalSum {
    session: u64,
    start: u64,
    end: u64,
    sealed: bool,
    frames: u64,
}

#[derive(Serialize)]
struct Document {
    intact: bool,
    damages: u64,
    topics: BTreeMap<String, TopicSum>,
    journals: Vec<JournalSum>,
    findings: Vec<Told>,
}

/// A verification under way.
struct Verify<'a> {
    directory: &'a Directory,
    out: &'a mut (dyn Write + Send),
    /// Findings are shown as they come, unless they are gathered for one document.
    gathered: Option<Vec<Told>>,
    topics: BTreeMap<String, TopicSum>,
    damages: u64,
    progress: Progress,
}

/// Signs of life on a terminal.
struct Progress {
    is_shown: bool,
    total: u64,
    done: u64,
    told: u64,
}

pub(super) async fn run(args: VerifyArgs, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let directory = Directory::open(&args.data).await?;
    let stored = directory.partitions.iter().filter_map(|of| directory.offline.partition(of.id));
    let total = stored.map(millstream_log::offline::Stored::bytes).fold(0, u64::saturating_add);
    let is_shown = io::stderr().is_terminal();
    let mut verify = Verify {
        directory: &directory,
        out,
        gathered: args.json.then(Vec::new),
        topics: BTreeMap::new(),
        damages: 0,
        progress: Progress { is_shown, total, done: 0, told: 0 },
    };
    verify.all().await?;
    verify.progress.end();
    let damages = verify.damages;
    verify.conclude()?;
    match damages {
        0 => Ok(()),
        1 => bail!("1 thing is damaged"),
        more => bail!("{more} things are damaged"),
    }
}

impl Verify<'_> {
    async fn all(&mut self) -> anyhow::Result<()> {
        let directory = self.directory;
        for finding in directory.offline.findings() {
            self.tell(finding)?;
        }
        for finding in directory.offline.check_blobs().await {
            self.tell(&finding)?;
        }
        for named in &directory.partitions {
            self.partition(named).await?;
        }
        Ok(())
    }

    async fn partition(&mut self, named: &Named) -> anyhow::Result<()> {
        let offline = &self.directory.offline;
        let stored = offline.partition(named.id);
        let segments = stored.map_or(0, |stored| stored.segments() as u64);
        let mut sum = TopicSum { partitions: 1, segments, ..TopicSum::default() };
        let mut reader = offline.read(named.id, Offset::ZERO);
        while let Some(reader) = &mut reader
            && let Some(next) = reader.next().await
        {
            match next {
                Ok(found) => {
                    let size = found.batch.size() as u64;
                    sum.batches += 1;
                    sum.records += u64::try_from(found.header.records_count).unwrap_or(0);
                    sum.bytes += size;
                    self.progress.advance(size, named);
                }
                Err(finding) => self.tell(&finding)?,
            }
        }
        self.topics.entry(named.topic.to_string()).or_default().add(&sum);
        Ok(())
    }

    fn tell(&mut self, finding: &Finding) -> anyhow::Result<()> {
        let told = self.directory.told(finding);
        if !told.harmless {
            self.damages += 1;
            if let Some(topic) = &told.topic {
                self.topics.entry(topic.clone()).or_default().damages += 1;
            }
        }
        match &mut self.gathered {
            Some(gathered) => gathered.push(told),
            None => {
                self.progress.end();
                writeln!(self.out, "{told}")?;
            }
        }
        Ok(())
    }

    fn conclude(self) -> anyhow::Result<()> {
        let sessions = self.directory.offline.sessions().iter();
        let journals = sessions.map(|part| JournalSum {
            session: part.session.0,
            start: part.start.0,
            end: part.end.0,
            sealed: part.sealed,
            frames: part.frames,
        });
        let (damages, topics) = (self.damages, self.topics);
        if let Some(findings) = self.gathered {
            let journals = journals.collect();
            let intact = damages == 0;
            let document = Document { intact, damages, topics, journals, findings };
            serde_json::to_writer_pretty(&mut *self.out, &document)?;
            writeln!(self.out)?;
            return Ok(());
        }
        for (topic, sum) in &topics {
            let state = match sum.damages {
                0 => "intact".to_owned(),
                1 => "1 DAMAGE".to_owned(),
                more => format!("{} DAMAGES", count(more)),
            };
            writeln!(
                self.out,
                "{topic}: {} records in {} batches, {} bytes, {} partitions, {} segments: {state}",
                count(sum.records),
                count(sum.batches),
                count(sum.bytes),
                count(sum.partitions),
                count(sum.segments),
            )?;
        }
        for part in journals {
            writeln!(
                self.out,
                "journal of session {}: {} frames from {} to {}, {}",
                part.session,
                count(part.frames),
                part.start,
                part.end,
                if part.sealed { "sealed" } else { "not sealed" },
            )?;
        }
        if damages == 0 {
            writeln!(self.out, "everything is intact")?;
        }
        Ok(())
    }
}

impl TopicSum {
    const fn add(&mut self, other: &Self) {
        self.partitions += other.partitions;
        self.segments += other.segments;
        self.batches += other.batches;
        self.records += other.records;
        self.bytes += other.bytes;
        self.damages += other.damages;
    }
}

impl Progress {
    fn advance(&mut self, bytes: u64, named: &Named) {
        self.done = self.done.saturating_add(bytes);
        if !self.is_shown || self.done.saturating_sub(self.told) < PROGRESS_BYTES {
            return;
        }
        self.told = self.done;
        let (done, total) = (count(self.done / MIB), count(self.total / MIB));
        eprint!("\r\x1b[Kchecked {done} of {total} MiB, at {named}");
    }

    /// Leaves the line to others.
    fn end(&mut self) {
        if self.is_shown && self.told > 0 {
            eprint!("\r\x1b[K");
        }
    }
}
