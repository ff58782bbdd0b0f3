//! States, commands and answers as short texts, so that tests read as tables.
//!
//! ```text
//! state    STATE ID:EPOCH [prev=ID] [next=ID] [v2] [TOPIC/PARTITION...]
//! command  init [ID:EPOCH] | add ID:EPOCH PARTITION... [v2] | verify ID:EPOCH PARTITION...
//!          | commit ID:EPOCH [v2] | abort ID:EPOCH [v2] | marked ID:EPOCH
//!          and, where a new producer id is at hand, fresh=ID
//! answer   ok [ID:EPOCH | PARTITION...] | the error's name
//! ```

use std::fmt::Write;
use std::sync::Arc;

use millstream_types::{Monotonic, ProducerEpoch, ProducerId, Timestamp};

use super::super::record::{Fact, Partitions, Stored};
use super::super::*;

pub(super) const ID: &str = "tx";
pub(super) const TIMEOUT_MS: i32 = 60_000;
pub(super) const WALL: Timestamp = Timestamp(1_700_000_000_000);

/// Words of a command or a state.
#[derive(Debug, Default)]
struct Words {
    producer: Option<Producer>,
    previous: Option<ProducerId>,
    next: Option<ProducerId>,
    fresh: Option<ProducerId>,
    v2: bool,
    partitions: Vec<(Arc<str>, i32)>,
}

fn words(text: &str) -> Words {
    let mut words = Words::default();
    let id = |text: &str| ProducerId(text.parse().expect("a producer id"));
    for word in text.split_whitespace().skip(1) {
        if let Some((name, value)) = word.split_once('=') {
            match name {
                "prev" => words.previous = Some(id(value)),
                "next" => words.next = Some(id(value)),
                "fresh" => words.fresh = Some(id(value)),
                _ => panic!("{word}"),
            }
        } else if let Some((topic, partition)) = word.split_once('/') {
            words.partitions.push((Arc::from(topic), partition.parse().expect("a partition")));
        } else if let Some((producer, epoch)) = word.split_once(':') {
            let epoch = ProducerEpoch(epoch.parse().expect("an epoch"));
            words.producer = Some(Producer { id: id(producer), epoch });
        } else if word == "v2" {
            words.v2 = true;
        } else {
            panic!("{word}");
        }
    }
    words
}

pub(super) fn state(text: &str) -> Stored {
    let words = words(text);
    let name = text.split_whitespace().next().expect("a state");
    let state = TransactionState::ALL.into_iter().find(|it| it.name() == name).expect("a state");
    let mut partitions = Partitions::new();
    for (topic, partition) in words.partitions {
        partitions.entry(topic).or_default().insert(partition);
    }
    Stored {
        producer: words.producer.expect("a producer"),
        previous: words.previous,
        next: words.next,
        timeout_ms: TIMEOUT_MS,
        state,
        partitions,
        started: (state != TransactionState::Empty).then_some(WALL),
        updated: WALL,
        v2: words.v2,
    }
}

pub(super) fn show(stored: &Stored) -> String {
    let mut text =
        format!("{} {}:{}", stored.state.name(), stored.producer.id, stored.producer.epoch);
    for (name, id) in [("prev", stored.previous), ("next", stored.next)] {
        if let Some(id) = id {
            write!(text, " {name}={id}").expect("a text takes it");
        }
    }
    if stored.v2 {
        text.push_str(" v2");
    }
    for (topic, partition) in stored.flat() {
        write!(text, " {topic}/{partition}").expect("a text takes it");
    }
    text
}

pub(super) fn command(text: &str) -> Command {
    let Words { producer, fresh, v2, partitions, .. } = words(text);
    let id = Arc::from(ID);
    let kind = text.split_whitespace().next().expect("a command");
    if kind == "init" {
        let expected = producer.map(|it| (it.id, it.epoch));
        return Command::Init(Init { id, timeout_ms: TIMEOUT_MS, expected, fresh });
    }
    let Producer { id: producer, epoch } = producer.expect("a producer");
    match kind {
        "add" | "verify" => {
            let verify_only = kind == "verify";
            Command::AddPartitions(AddPartitions {
                id,
                producer,
                epoch,
                partitions,
                verify_only,
                v2,
            })
        }
        "commit" | "abort" => {
            Command::End(End { id, producer, epoch, commit: kind == "commit", v2, fresh })
        }
        "marked" => Command::Marked { id, producer, epoch },
        _ => panic!("{text}"),
    }
}

pub(super) fn answer(reply: &Reply) -> String {
    fn name(error: &dyn std::fmt::Debug) -> String {
        format!("{error:?}")
    }
    match reply {
        Reply::NeedsProducerId => String::from("NeedsProducerId"),
        Reply::Init(Ok(it)) | Reply::End(Ok(it)) => format!("ok {}:{}", it.id, it.epoch),
        Reply::AddPartitions(Ok(missing)) => missing
            .iter()
            .fold(String::from("ok"), |text, (topic, at)| format!("{text} {topic}/{at}")),
        Reply::Marked(Ok(())) => String::from("ok"),
        Reply::Init(Err(error)) => name(error),
        Reply::AddPartitions(Err(error)) => name(error),
        Reply::End(Err(error)) => name(error),
        Reply::Marked(Err(error)) => name(error),
    }
}

/// A coordinator, and the records that it has appended.
#[derive(Clone, Debug)]
pub(super) struct Host {
    pub(super) txns: Transactions,
    pub(super) log: Vec<StoredRecord>,
    pub(super) now: Monotonic,
    pub(super) wall: Timestamp,
}

impl Host {
    pub(super) fn new() -> Self {
        let now = Monotonic(1_000_000_000);
        let txns = Transactions::new(TxnSettings::default(), now);
        Self { txns, log: Vec::new(), now, wall: WALL }
    }

    /// A coordinator that knows one id.
    pub(super) fn with(stored: &str) -> Self {
        let mut host = Self::new();
        if !stored.is_empty() {
            let mut records = Vec::new();
            Fact { id: Arc::from(ID), value: Some(state(stored)) }.put(&mut records);
            host.append(&records);
        }
        host
    }

    pub(super) fn append(&mut self, records: &[StoredRecord]) {
        for record in records {
            self.txns.replay(record).expect("it was written by the coordinator");
            self.log.push(record.clone());
        }
    }

    /// Gives a command and appends what follows.
    pub(super) fn ask(&mut self, asked: Command) -> Reply {
        let effects = self.txns.handle(self.now, self.wall, asked);
        self.append(&effects.records);
        effects.reply.expect("each command is answered")
    }

    pub(super) fn tick(&mut self) -> usize {
        let effects = self.txns.tick(self.now, self.wall);
        assert_eq!(effects.reply, None);
        self.append(&effects.records);
        effects.records.len()
    }

    pub(super) fn pass(&mut self, by: std::time::Duration) {
        self.now = self.now.plus(by);
        self.wall = self.wall.plus(by);
    }

    /// The coordinator as a restart finds it.
    pub(super) fn reload(&self, log: &[StoredRecord]) -> Transactions {
        let mut loading = Loading::new();
        for record in log {
            loading.replay(record).expect("it was written by the coordinator");
        }
        loading.finish(TxnSettings::default(), self.now, self.wall)
    }

    /// The id's state as text; empty when it is not known.
    pub(super) fn shown(&self) -> String {
        self.txns.ids.get(ID).map(|entry| show(&entry.stored)).unwrap_or_default()
    }
}
