//! `millstream produce`.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal as _, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, anyhow, bail};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use millstream_client::{
    Acks, Admin, Cluster, Delivery, Error, Isolation, OffsetSpec, Producer, ProducerRecord,
    ProducerSettings, Topic, TopicPartition,
};
use millstream_env::Env;
use millstream_record::Compression;
use millstream_types::Timestamp;
use serde::Serialize;
use tokio::sync::mpsc;

use crate::cli::{ClusterArgs, NameValue};
use crate::commands::{connect, interrupted};
use crate::output::record::{RecordIn, When};
use crate::output::time::Moment;
use crate::output::{Progress, human, remark, show};

/// What `produce` takes.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  echo hello | millstream produce news
  millstream produce flights --file flights.jsonl --compression zstd
  millstream produce users --key-separator : < users.txt          (lines like `42:Ada`)
  echo '{\"key\":\"42\",\"value\":\"Ada\",\"headers\":{\"source\":\"cli\"}}' | millstream produce users --json
  millstream consume flights --json | millstream produce copy --json --bootstrap other:9092

With --format json, each line is an object with any of: key, value, headers (an object, or a list of
{\"key\",\"value\"}), partition, timestamp (milliseconds since 1970, or a time). Bytes that are not
text are {\"base64\":\"...\"}. Ctrl-D ends what is typed.")]
pub struct ProduceArgs {
    /// The topic's name; brokers create topics that are not there, unless told not to
    topic: String,
    /// Read this file rather than standard input
    #[arg(long, short, value_name = "PATH")]
    file: Option<PathBuf>,
    /// What a line is: a value, or a JSON object [default: lines; json with --json]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Input>,
    /// What stands between key and value in a line; lines without it have no key
    #[arg(long, value_name = "TEXT", conflicts_with = "key")]
    key_separator: Option<String>,
    /// The key of all records that have none of their own
    #[arg(long, short, value_name = "KEY")]
    key: Option<String>,
    /// A header of all records; may be repeated
    #[arg(long, short = 'H', value_name = "NAME=VALUE")]
    header: Vec<NameValue>,
    /// The partition of all records that have none of their own [default: by key]
    #[arg(long, short, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    partition: Option<i32>,
    /// How batches are compressed
    #[arg(long, value_name = "CODEC", default_value = "none")]
    compression: Codec,
    /// Whose acknowledgement is awaited: none (0), the leader's (1), all replicas' (all)
    #[arg(long, value_name = "WHO", default_value = "all")]
    acks: Who,
    /// Whether the broker recognises what is sent twice [default: with --acks all]
    #[arg(
        long,
        value_name = "true|false",
        num_args = 0..=1,
        require_equals = false,
        default_missing_value = "true"
    )]
    idempotent: Option<bool>,
    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What a line of input is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Input {
    Lines,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Who {
    #[value(name = "0")]
    Nobody,
    #[value(name = "1")]
    Leader,
    #[value(name = "all", alias = "-1")]
    All,
}

#[derive(Debug, Serialize)]
struct Produced {
    topic: String,
    records: u64,
    bytes: u64,
    seconds: f64,
    records_per_second: u64,
    bytes_per_second: u64,
}

pub(super) async fn run(args: ProduceArgs) -> anyhow::Result<()> {
    let cluster = connect(&args.cluster).await?;
    let env = cluster.env().clone();
    let settings = args.settings();
    let reader = open(args.file.as_deref())?;
    // Before anything is read: a name that is refused is an error even where nothing is written,
    // and a broker that can't be reached is named before the patience of a delivery is over.
    let topic = cluster.topic_or_created(&args.topic, settings.topic_patience).await?;
    reach_leaders(&cluster, &topic).await?;
    let producer = Producer::new(cluster, settings).await?;
    if args.file.is_none() && std::io::stdin().is_terminal() && std::io::stderr().is_terminal() {
        remark(&"each line is a record; Ctrl-D ends");
    }
    let chunks = read_lines(reader)?;
    let mut sent = Sent::new(&env);
    let stopped = tokio::select! {
        done = produce_all(&producer, &args, chunks, &mut sent) => done.err(),
        () = interrupted() => Some(anyhow!("interrupted")),
    };
    let outcome = tokio::select! {
        outcome = sent.finish(&producer) => outcome,
        () = interrupted() => bail!("interrupted: the last records may have been stored, or not"),
    };
    let produced = sent.report(args.topic);
    let done = match (outcome, stopped) {
        (Err(error), _) => Err(anyhow::Error::new(error)),
        (Ok(()), Some(error)) => Err(error),
        (Ok(()), None) => return show(args.cluster.json, &produced, || produced.sentence()),
    };
    match produced.records {
        0 => done,
        some => done.with_context(|| format!("stopped after {}", human::counted(some, "record"))),
    }
}

/// Asks the leaders something simple: the producer itself would try for minutes.
async fn reach_leaders(cluster: &Cluster, topic: &Topic) -> Result<(), Error> {
    let led = topic.partitions.iter().filter(|partition| partition.leader.is_some());
    let partitions = led.map(|p| TopicPartition::new(Arc::clone(&topic.name), p.index));
    let wanted: Vec<_> = partitions.map(|of| (of, OffsetSpec::Latest)).collect();
    Admin::new(cluster.clone()).list_offsets(&wanted, Isolation::ReadUncommitted).await?;
    Ok(())
}

/// Sends all lines.
async fn produce_all(
    producer: &Producer,
    args: &ProduceArgs,
    mut chunks: mpsc::Receiver<Chunk>,
    sent: &mut Sent,
) -> anyhow::Result<()> {
    let reader = args.reader();
    let mut number = 0_u64;
    while let Some(chunk) = chunks.recv().await {
        for line in chunk? {
            number += 1;
            let record = reader.read(line).with_context(|| format!("line {number}"))?;
            let Some(record) = record else { continue };
            let bytes = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
            let size = bytes(&record.key) + bytes(&record.value);
            let delivery = producer.send(&args.topic, record).await?;
            sent.add(delivery, size).await?;
        }
    }
    Ok(())
}

/// What has been sent, and whether it has arrived.
struct Sent {
    progress: Progress,
    /// One delivery of each batch under way, and how many records and bytes it stands for.
    under_way: VecDeque<(Delivery, u64, u64)>,
    records: u64,
    bytes: u64,
}

/// How many batches are looked after at once; more wait for the first of them.
const BATCHES_MAX: usize = 1_000;

impl Sent {
    fn new(env: &Env) -> Self {
        let progress = Progress::new(env, true);
        Self { progress, under_way: VecDeque::new(), records: 0, bytes: 0 }
    }

    async fn add(&mut self, delivery: Delivery, size: usize) -> Result<(), Error> {
        let size = size as u64;
        match self.under_way.back_mut() {
            Some((last, records, bytes)) if last.is_with(&delivery) => {
                *records += 1;
                *bytes += size;
            }
            _ => {
                self.under_way.push_back((delivery, 1, size));
                while self.under_way.front().is_some_and(|(first, ..)| first.is_done())
                    || self.under_way.len() > BATCHES_MAX
                {
                    self.settle_first().await?;
                }
                self.progress.update(self.records, self.bytes);
            }
        }
        Ok(())
    }

    async fn settle_first(&mut self) -> Result<(), Error> {
        if let Some((delivery, records, bytes)) = self.under_way.pop_front() {
            delivery.delivered().await?;
            self.records += records;
            self.bytes += bytes;
        }
        Ok(())
    }

    async fn finish(&mut self, producer: &Producer) -> Result<(), Error> {
        let flushed = producer.flush().await;
        let mut settled = Ok(());
        while !self.under_way.is_empty() {
            settled = settled.and(self.settle_first().await);
        }
        self.progress.clear();
        flushed.and(settled)
    }

    fn report(&self, topic: String) -> Produced {
        let time = self.progress.elapsed();
        Produced {
            topic,
            records: self.records,
            bytes: self.bytes,
            seconds: (time.as_secs_f64() * 1000.0).round() / 1000.0,
            records_per_second: human::per_second(self.records, time),
            bytes_per_second: human::per_second(self.bytes, time),
        }
    }
}

impl Produced {
    fn sentence(&self) -> String {
        format!(
            "produced {} ({}) to {} in {}: {}/s, {}/s",
            human::counted(self.records, "record"),
            human::bytes(self.bytes),
            self.topic,
            human::duration(std::time::Duration::from_secs_f64(self.seconds)),
            human::counted(self.records_per_second, "record"),
            human::bytes(self.bytes_per_second),
        )
    }
}

impl ProduceArgs {
    fn settings(&self) -> ProducerSettings {
        ProducerSettings {
            acks: match self.acks {
                Who::Nobody => Acks::None,
                Who::Leader => Acks::Leader,
                Who::All => Acks::All,
            },
            compression: match self.compression {
                Codec::None => Compression::None,
                Codec::Gzip => Compression::Gzip,
                Codec::Snappy => Compression::Snappy,
                Codec::Lz4 => Compression::Lz4,
                Codec::Zstd => Compression::Zstd,
            },
            idempotent: self.idempotent.unwrap_or(self.acks == Who::All),
            ..ProducerSettings::default()
        }
    }

    fn reader(&self) -> LineReader {
        let default = if self.cluster.json { Input::Json } else { Input::Lines };
        let header = |NameValue { name, value }: &NameValue| {
            (Bytes::from(name.clone()), Some(Bytes::from(value.clone())))
        };
        LineReader {
            format: self.format.unwrap_or(default),
            key_separator: self.key_separator.clone().filter(|text| !text.is_empty()),
            key: self.key.clone().map(Bytes::from),
            headers: self.header.iter().map(header).collect(),
            partition: self.partition,
        }
    }
}

/// Makes records of lines.
#[derive(Debug)]
struct LineReader {
    format: Input,
    key_separator: Option<String>,
    key: Option<Bytes>,
    headers: Vec<(Bytes, Option<Bytes>)>,
    partition: Option<i32>,
}

impl LineReader {
    /// The record in a line; none in an empty line of JSON.
    fn read(&self, line: Bytes) -> anyhow::Result<Option<ProducerRecord>> {
        let mut record = match self.format {
            Input::Lines => self.read_text(&line),
            Input::Json if line.trim_ascii().is_empty() => return Ok(None),
            Input::Json => read_json(&line)?,
        };
        record.key = record.key.or_else(|| self.key.clone());
        record.partition = record.partition.or(self.partition);
        record.headers.extend(self.headers.iter().cloned());
        Ok(Some(record))
    }

    fn read_text(&self, line: &Bytes) -> ProducerRecord {
        let at = self.key_separator.as_ref().and_then(|separator| {
            let separator = separator.as_bytes();
            let at = line.windows(separator.len()).position(|window| window == separator)?;
            Some((at, at + separator.len()))
        });
        let (key, value) = match at {
            Some((key_end, value_start)) => {
                (Some(line.slice(..key_end)), line.slice(value_start..))
            }
            None => (None, line.clone()),
        };
        ProducerRecord { key, value: Some(value), ..ProducerRecord::default() }
    }
}

fn read_json(line: &[u8]) -> anyhow::Result<ProducerRecord> {
    let record: RecordIn = serde_json::from_slice(line).map_err(|error| not_a_record(&error))?;
    let bytes = |blob: Option<crate::output::record::Blob>| match blob {
        None => Ok(None),
        Some(blob) => match blob.into_bytes() {
            Some(bytes) => Ok(Some(bytes)),
            None => bail!("what is said to be base64 is not"),
        },
    };
    let headers = record.headers.into_list().into_iter();
    let headers = headers.map(|header| Ok((header.key.into(), bytes(header.value)?)));
    let timestamp = match record.timestamp {
        None => None,
        Some(When::Milliseconds(at)) => Some(Timestamp(at)),
        Some(When::Text(text)) => match text.parse::<Moment>()? {
            Moment::At(at) => Some(Timestamp(at)),
            Moment::Ago(_) => bail!("`{text}`: a record's time is a date"),
        },
    };
    Ok(ProducerRecord {
        partition: record.partition,
        timestamp,
        headers: headers.collect::<anyhow::Result<_>>()?,
        key: bytes(record.key)?,
        value: bytes(record.value)?,
    })
}

/// What is wrong with a line of JSON. Which line it is, the caller knows.
fn not_a_record(error: &serde_json::Error) -> anyhow::Error {
    let text = error.to_string();
    let what = text.rsplit_once(" at line ").map_or(&*text, |(what, _)| what);
    let column = error.column();
    if error.is_data() {
        return anyhow!("{what} (column {column})");
    }
    anyhow!(
        "{what} (column {column}); each line is an object such as \
         {{\"key\":\"42\",\"value\":\"Ada\"}}, or plain text with --format lines"
    )
}

type Chunk = anyhow::Result<Vec<Bytes>>;

/// A chunk has at most so many lines, and not many more bytes than so many.
const CHUNK_LINES_MAX: usize = 1_000;
const CHUNK_BYTES: usize = 256 << 10;

fn open(file: Option<&Path>) -> anyhow::Result<Box<dyn Read + Send>> {
    match file {
        None => Ok(Box::new(std::io::stdin())),
        Some(path) => {
            #[expect(clippy::disallowed_methods, reason = "the user's own file")]
            let file = std::fs::File::open(path);
            Ok(Box::new(file.with_context(|| format!("can't read {}", path.display()))?))
        }
    }
}

/// Reads lines in a thread of its own, which reading may block for as long as it likes: at the end
/// of the program nobody waits for it.
fn read_lines(reader: Box<dyn Read + Send>) -> anyhow::Result<mpsc::Receiver<Chunk>> {
    let (sender, receiver) = mpsc::channel(4);
    let mut reader = BufReader::with_capacity(CHUNK_BYTES, reader);
    std::thread::Builder::new()
        .name("input".to_owned())
        .spawn(move || {
            loop {
                let chunk = read_chunk(&mut reader);
                let last = chunk.as_ref().map_or(true, Vec::is_empty);
                let ended = matches!(&chunk, Ok(lines) if lines.is_empty());
                if ended || sender.blocking_send(chunk).is_err() || last {
                    return;
                }
            }
        })
        .context("can't start a thread to read the input")?;
    Ok(receiver)
}

/// The next lines, without their ends; none at the end. Does not wait for more when there are some.
fn read_chunk(reader: &mut BufReader<impl Read>) -> Chunk {
    let mut lines = Vec::new();
    let mut bytes = 0;
    while lines.len() < CHUNK_LINES_MAX && bytes < CHUNK_BYTES {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).context("can't read the input")? == 0 {
            break;
        }
        bytes += line.len();
        if line.ends_with(b"\n") {
            line.pop();
            if line.ends_with(b"\r") {
                line.pop();
            }
        }
        lines.push(Bytes::from(line));
        // What is typed is sent line by line.
        if !reader.buffer().contains(&b'\n') {
            break;
        }
    }
    Ok(lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(format: Input, separator: Option<&str>) -> LineReader {
        LineReader {
            format,
            key_separator: separator.map(str::to_owned),
            key: Some("default".into()),
            headers: vec![("h".into(), Some("1".into()))],
            partition: Some(7),
        }
    }

    #[track_caller]
    fn check(
        reader: &LineReader,
        line: &'static str,
        key: &'static str,
        value: Option<&'static str>,
    ) {
        let record = reader.read(Bytes::from_static(line.as_bytes())).unwrap().unwrap();
        assert_eq!(record.key, Some(Bytes::from(key)), "{line}");
        assert_eq!(record.value, value.map(Bytes::from), "{line}");
    }

    #[test]
    fn lines() {
        check(&reader(Input::Lines, None), "a:b", "default", Some("a:b"));
        let keyed = reader(Input::Lines, Some("::"));
        check(&keyed, "a::b", "a", Some("b"));
        check(&keyed, "a::b::c", "a", Some("b::c"));
        check(&keyed, "::", "", Some(""));
        check(&keyed, "a:b", "default", Some("a:b"));
        check(&keyed, "", "default", Some(""));
    }

    #[test]
    fn json() {
        let reader = reader(Input::Json, None);
        check(&reader, r#"{"key":"k","value":"v"}"#, "k", Some("v"));
        check(&reader, r#" {"value":null} "#, "default", None);
        assert_eq!(reader.read(Bytes::from_static(b" ")).unwrap(), None);
        let line = br#"{"partition":2,"timestamp":"1970-01-01T00:00:01Z","headers":{"x":"y"}}"#;
        let record = reader.read(Bytes::from_static(line)).unwrap().unwrap();
        assert_eq!((record.partition, record.timestamp), (Some(2), Some(Timestamp(1_000))));
        let header = |name: &'static str, value: &'static str| (name.into(), Some(value.into()));
        assert_eq!(record.headers, [header("x", "y"), header("h", "1")]);
    }

    #[test]
    fn json_that_is_wrong_is_explained() {
        let reader = reader(Input::Json, None);
        for (line, expected) in [
            (&b"hello"[..], "expected value (column 1); each line is an object"),
            (br#"{"value":{"base64":"?"}}"#, "what is said to be base64 is not"),
            (br#"{"timestamp":"noon"}"#, "`noon` is no time; write "),
            (br#"{"timestamp":"-1h"}"#, "`-1h`: a record's time is a date"),
            (br#"{"partion":1}"#, "unknown field `partion`"),
        ] {
            let error = reader.read(Bytes::from_static(line)).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn chunks_hold_whole_lines() {
        let text = "one\r\n\ntwo\nthree";
        let mut reader = BufReader::with_capacity(6, text.as_bytes());
        let mut lines = Vec::new();
        loop {
            match read_chunk(&mut reader).unwrap() {
                chunk if chunk.is_empty() => break,
                chunk => lines.extend(chunk),
            }
        }
        assert_eq!(lines, ["one", "", "two", "three"]);
    }
}
