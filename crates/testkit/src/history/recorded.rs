//! Histories that real clients have written down: a folder of files `*.jsonl`, one event a line.
//!
//! Every line is an object, and written whole, so that a client may be killed at any moment; a last
//! line without an end is passed over. Whatever a client does is an operation (`op`, a number; no
//! two of a client have the same), between whose `begin` and `end` are its other events. Clients
//! are names; one that is started anew takes another. Several operations of a client may be under
//! way: their order is that of their beginnings.
//!
//! ```text
//! {"at": NANOSECONDS, "client": NAME, "op": NUMBER, "event": EVENT, ...}
//!
//! begin       kind: "plain" | "transaction"; of the latter, protocol: 1 | 2
//! send        to: [TOPIC, PARTITION], value: NUMBER       it is about to be sent
//! sent        value, offset                               it was acknowledged; may come after the end
//! unsent      value                                       it was certainly not sent
//! polled      committed: BOOL, records: [[TOPIC, PARTITION, OFFSET, VALUE], ...]
//! assign                                                  what is polled next may come from anywhere
//! holds       group, epoch, partitions: [[TOPIC, PARTITION], ...]
//! commit      group, offsets: [[TOPIC, PARTITION, OFFSET], ...]     of what is read next; to be committed
//! fetched     group, offsets: [[TOPIC, PARTITION, OFFSET or null], ...]
//! committing                                              of a transaction: about to ask for it
//! end         outcome: "ok" | "failed" | "unknown"; why
//! ```
//!
//! Times are of the machine's monotonic clock, so that those of several processes compare. Beginnings
//! are written down before, ends after what they stand for. An operation without an end is unknown; a
//! transaction that nobody has asked to commit has failed, whatever its end.
//!
//! Faults, which are not judged, but told beside what is: `{"at": ..., "event": "fault", "what": TEXT}`.

use std::collections::BTreeMap;

use millstream_types::Offset;
use serde::Deserialize;

use super::{
    Client, Epoch, Group, Kind, Moment, Operation, Outcome, Partition, Place, Step, Value,
};

/// What is wrong with what was written down; says in which file and line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(String);

impl std::fmt::Display for Unreadable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

/// Where an operation was written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) file: String,
    /// First and last line.
    pub(super) lines: (usize, usize),
    /// When, in nanoseconds; without an end for one that has none.
    pub(super) times: (u64, Option<u64>),
    pub(super) why: String,
}

/// A history, and what its numbers stand for.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// For [`super::check`].
    pub operations: Vec<Operation>,
    /// One for each operation.
    pub(super) sources: Vec<Source>,
    /// When, in nanoseconds, and what.
    pub(super) faults: Vec<(u64, String)>,
    pub(super) partitions: Names<(String, u32)>,
    pub(super) clients: Names<String>,
    pub(super) groups: Names<String>,
}

/// Numbers for things, in the order in which they were met.
#[derive(Clone, Debug)]
pub(super) struct Names<T> {
    numbers: BTreeMap<T, u32>,
    names: Vec<T>,
}

impl<T> Default for Names<T> {
    fn default() -> Self {
        Self { numbers: BTreeMap::new(), names: Vec::new() }
    }
}

impl<T: Ord + Clone> Names<T> {
    fn number(&mut self, name: T) -> u32 {
        let next = u32::try_from(self.names.len()).expect("fewer than four billion names");
        let names = &mut self.names;
        *self.numbers.entry(name).or_insert_with_key(|name| {
            names.push(name.clone());
            next
        })
    }

    pub(super) fn name(&self, number: u32) -> Option<&T> {
        self.names.get(number as usize)
    }
}

type At = (String, u32);

#[derive(Debug, Deserialize)]
struct Line {
    at: u64,
    #[serde(default)]
    client: String,
    #[serde(default)]
    op: u64,
    #[serde(flatten)]
    event: Event,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum Event {
    Begin {
        kind: KindName,
        #[serde(default)]
        protocol: u8,
    },
    Send {
        to: At,
        value: u64,
    },
    Sent {
        value: u64,
        offset: i64,
    },
    Unsent {
        value: u64,
    },
    Polled {
        committed: bool,
        records: Vec<(String, u32, i64, u64)>,
    },
    Assign,
    Holds {
        group: String,
        epoch: u32,
        partitions: Vec<At>,
    },
    Commit {
        group: String,
        offsets: Vec<(String, u32, i64)>,
    },
    Fetched {
        group: String,
        offsets: Vec<(String, u32, Option<i64>)>,
    },
    Committing,
    End {
        outcome: OutcomeName,
        #[serde(default)]
        why: String,
    },
    Fault {
        what: String,
    },
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum KindName {
    Plain,
    Transaction,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum OutcomeName {
    Ok,
    Failed,
    Unknown,
}

/// Reads files: names and contents.
///
/// # Errors
///
/// When a line is not an event, or one of an operation that has not begun or has ended.
pub fn read(files: &[(String, String)]) -> Result<Recorded, Unreadable> {
    let mut lines = Vec::new();
    for (file, (_, text)) in files.iter().enumerate() {
        for (number, text) in text.split_inclusive('\n').enumerate() {
            let Some(text) = text.strip_suffix('\n') else { continue };
            let line: Line = serde_json::from_str(text).map_err(|error| {
                Unreadable(format!("{}:{}: not an event: {error}", files[file].0, number + 1))
            })?;
            lines.push((file, number + 1, line));
        }
    }
    // At the same moment, ends come last: what can't be told apart is taken to overlap.
    lines.sort_by_key(|(_, _, line)| (line.at, matches!(line.event, Event::End { .. })));
    let mut reader = Reader::default();
    for (moment, (file, number, line)) in lines.into_iter().enumerate() {
        let name = &files[file].0;
        let moment = Moment(moment as u64 + 1);
        reader
            .take(name, number, moment, line)
            .map_err(|what| Unreadable(format!("{name}:{number}: {what}")))?;
    }
    Ok(reader.finish())
}

/// What is known, and which operation is which.
#[derive(Default)]
struct Reader {
    known: Recorded,
    begun: BTreeMap<(String, u64), usize>,
}

impl Reader {
    fn take(
        &mut self,
        file: &str,
        number: usize,
        moment: Moment,
        line: Line,
    ) -> Result<(), &'static str> {
        let Line { at, client, op, event } = line;
        match event {
            Event::Fault { what } => {
                self.known.faults.push((at, what));
                return Ok(());
            }
            Event::Begin { kind, protocol } => {
                let client_number = Client(self.known.clients.number(client.clone()));
                if self.begun.insert((client, op), self.known.operations.len()).is_some() {
                    return Err("an operation that has begun already");
                }
                self.known.operations.push(Operation {
                    client: client_number,
                    begun: moment,
                    ended: Moment(u64::MAX),
                    kind: match kind {
                        KindName::Plain => Kind::Plain,
                        KindName::Transaction => {
                            Kind::Transaction { first_protocol: protocol == 1, committing: None }
                        }
                    },
                    outcome: Outcome::Unknown,
                    steps: Vec::new(),
                });
                self.known.sources.push(Source {
                    file: file.to_owned(),
                    lines: (number, number),
                    times: (at, None),
                    why: "it has no end".to_owned(),
                });
                return Ok(());
            }
            _ => {}
        }
        let key = (client, op);
        let index = *self.begun.get(&key).ok_or("an operation that has not begun")?;
        let source = &mut self.known.sources[index];
        if source.times.1.is_some() && !matches!(event, Event::Sent { .. }) {
            return Err("an operation that has ended");
        }
        if matches!(event, Event::End { .. }) {
            source.times.1 = Some(at);
        }
        source.lines.1 = number;
        self.happen(index, moment, event)
    }

    /// An event of an operation that is under way.
    fn happen(&mut self, index: usize, moment: Moment, event: Event) -> Result<(), &'static str> {
        let known = &mut self.known;
        let operation = &mut known.operations[index];
        let mut partition = |at: At| Partition(known.partitions.number(at));
        match event {
            Event::Send { to, value } => {
                let (partition, value) = (partition(to), Value(value));
                operation.steps.push(Step::Send { partition, value, offset: None });
            }
            Event::Sent { value, offset: place } => {
                let sent = operation.steps.iter_mut().rev().find_map(|step| match step {
                    Step::Send { value: it, offset, .. } if it.0 == value => Some(offset),
                    _ => None,
                });
                *sent.ok_or("a value that is not of this operation")? = Some(Offset(place));
            }
            Event::Unsent { value } => operation
                .steps
                .retain(|step| !matches!(step, Step::Send { value: it, .. } if it.0 == value)),
            Event::Polled { committed, records } => {
                let record = |(topic, number, offset, value)| {
                    let partition = partition((topic, number));
                    (Place { partition, offset: Offset(offset) }, Value(value))
                };
                let records = records.into_iter().map(record).collect();
                operation.steps.push(Step::Poll { committed, records });
            }
            Event::Assign => operation.steps.push(Step::Assign),
            Event::Holds { group, epoch, partitions } => {
                let (group, epoch) = (Group(known.groups.number(group)), Epoch(epoch));
                let hold = |at| Step::Hold { group, epoch, partition: partition(at) };
                operation.steps.extend(partitions.into_iter().map(hold));
            }
            Event::Commit { group, offsets } => {
                let group = Group(known.groups.number(group));
                operation.steps.extend(offsets.into_iter().map(|(topic, number, offset)| {
                    let partition = partition((topic, number));
                    Step::Commit { group, place: Place { partition, offset: Offset(offset) } }
                }));
            }
            Event::Fetched { group, offsets } => {
                let group = Group(known.groups.number(group));
                operation.steps.extend(offsets.into_iter().map(|(topic, number, offset)| {
                    let partition = partition((topic, number));
                    Step::Fetch { group, partition, offset: offset.map(Offset) }
                }));
            }
            Event::Committing => match &mut operation.kind {
                Kind::Transaction { committing, .. } => *committing = Some(moment),
                Kind::Plain => return Err("only a transaction is committed"),
            },
            Event::End { outcome, why } => {
                operation.ended = moment;
                operation.outcome = match outcome {
                    OutcomeName::Ok => Outcome::Succeeded,
                    OutcomeName::Failed => Outcome::Failed,
                    OutcomeName::Unknown => Outcome::Unknown,
                };
                known.sources[index].why = why;
            }
            Event::Begin { .. } | Event::Fault { .. } => {}
        }
        Ok(())
    }

    fn finish(mut self) -> Recorded {
        for operation in &mut self.known.operations {
            let is_asked = !matches!(operation.kind, Kind::Transaction { committing: None, .. });
            if operation.outcome == Outcome::Unknown && !is_asked {
                operation.outcome = Outcome::Failed;
            }
        }
        self.known
    }
}

#[cfg(test)]
mod tests;
