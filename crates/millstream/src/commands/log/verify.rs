//! `millstream log verify`.

use std::collections::BTreeMap;
use std::io::Write;

use anyhow::bail;
use clap::Args;
use millstream_log::offline::Finding;
use millstream_types::Offset;
use serde::Serialize;

use super::DataArgs;
use super::directory::{Directory, Named, Told};
use crate::output::{Progress, Table, human};

/// What `log verify` takes.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  millstream log verify
  millstream log verify --data-dir /backup/millstream-data --json | jq .findings

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
    /// Bytes of batches that there are, and that have been checked.
    total: u64,
    checked: u64,
}

pub(super) async fn run(args: VerifyArgs, out: &mut (dyn Write + Send)) -> anyhow::Result<()> {
    let directory = Directory::open(&args.data).await?;
    let mut verify = Verify {
        directory: &directory,
        out,
        gathered: args.json.then(Vec::new),
        topics: BTreeMap::new(),
        damages: 0,
        progress: Progress::new(&directory.env, true),
        total: directory.bytes(&directory.partitions),
        checked: 0,
    };
    verify.all().await?;
    verify.progress.clear();
    let damages = verify.damages;
    verify.conclude()?;
    match damages {
        0 => Ok(()),
        1 => bail!("1 thing is damaged; `millstream log repair` says what can be done"),
        more => bail!(
            "{} things are damaged; `millstream log repair` says what can be done",
            human::count(more)
        ),
    }
}

impl Verify<'_> {
    async fn all(&mut self) -> anyhow::Result<()> {
        let directory = self.directory;
        for finding in directory.findings.iter().chain(directory.offline.findings()) {
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
                    self.checked += size;
                    self.progress.update_of(self.checked, self.total, named);
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
                self.progress.clear();
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
        let journals: Vec<_> = journals.collect();
        if let Some(findings) = self.gathered {
            let intact = damages == 0;
            let document = Document { intact, damages, topics, journals, findings };
            serde_json::to_writer(&mut *self.out, &document)?;
            writeln!(self.out)?;
            return Ok(());
        }
        if !topics.is_empty() {
            writeln!(self.out, "{}", topic_table(&topics))?;
        }
        write!(self.out, "{}", journal_table(&journals))?;
        if damages == 0 {
            writeln!(self.out, "\neverything is intact")?;
        }
        Ok(())
    }
}

fn topic_table(topics: &BTreeMap<String, TopicSum>) -> Table {
    let titles = ["TOPIC", "#PARTITIONS", "#RECORDS", "#BATCHES", "#SIZE", "#SEGMENTS", "STATE"];
    let mut table = Table::new(titles);
    for (topic, sum) in topics {
        table.row([
            topic.clone(),
            human::count(sum.partitions),
            human::count(sum.records),
            human::count(sum.batches),
            human::bytes(sum.bytes),
            human::count(sum.segments),
            match sum.damages {
                0 => "intact".to_owned(),
                some => human::counted(some, "damage"),
            },
        ]);
    }
    table
}

/// The journal has one part for each time that a server ran, as far as it is still needed.
fn journal_table(journals: &[JournalSum]) -> Table {
    let mut table = Table::new(["#JOURNAL", "#FRAMES", "#FROM", "#TO", "STATE"]);
    for part in journals {
        table.row([
            part.session.to_string(),
            human::count(part.frames),
            human::count(part.start),
            human::count(part.end),
            if part.sealed { "sealed" } else { "not sealed" }.to_owned(),
        ]);
    }
    table
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
