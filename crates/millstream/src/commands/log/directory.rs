//! A data directory, opened to be read.

use std::fmt;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use millstream_broker::{StoredLog, is_internal};
use millstream_env::{DataDir, Env, FileJournalStore};
use millstream_log::offline::{Finding, Offline, Place, Stored};
use millstream_types::PartitionId;
use serde::Serialize;
use tokio::runtime::Handle;

use super::text::range;
use super::{ChoiceArgs, DataArgs};

/// A data directory that is locked, and loaded as a server would load it.
pub(super) struct Directory {
    pub(super) offline: Offline,
    /// By topic and number.
    pub(super) partitions: Vec<Named>,
    pub(super) env: Env,
    journals: Arc<FileJournalStore>,
    /// What is wrong beside the log.
    pub(super) findings: Vec<Finding>,
}

/// A partition by its name.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) id: PartitionId,
    pub(super) topic: Arc<str>,
}

/// A file below the data directory, and a byte in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct At {
    pub(super) file: String,
    pub(super) position: u64,
}

/// A finding as it is told.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Told {
    pub(super) harmless: bool,
    pub(super) kind: &'static str,
    pub(super) topic: Option<String>,
    pub(super) partition: Option<i32>,
    pub(super) first_offset: Option<i64>,
    pub(super) last_offset: Option<i64>,
    #[serde(flatten)]
    pub(super) at: Option<At>,
    pub(super) found: String,
    pub(super) meaning: &'static str,
}

impl Directory {
    pub(super) async fn open(args: &DataArgs) -> anyhow::Result<Self> {
        let env = Env::real(Handle::current());
        let data = DataDir::open_damaged(&args.data_dir, env.clone())?;
        let stored = StoredLog::read(&data)
            .await
            .context("what is stored can't be read, and a server would refuse to start")?;
        Ok(Self::of(stored, env))
    }

    /// The same of what has been read already.
    pub(super) fn of(stored: StoredLog, env: Env) -> Self {
        let StoredLog { metadata, offline, journals, findings, .. } = stored;
        let partitions =
            metadata.partitions().into_iter().map(|(id, topic)| Named { id, topic }).collect();
        Self { offline, partitions, env, journals, findings }
    }

    /// The partitions that the command line asks for.
    pub(super) fn chosen(&self, args: &ChoiceArgs) -> anyhow::Result<Vec<Named>> {
        let is_topic = |named: &&Named| match &args.topic {
            Some(topic) => *named.topic == **topic,
            None => args.internal || !is_internal(&named.topic),
        };
        let of_topics: Vec<_> = self.partitions.iter().filter(is_topic).collect();
        let is_asked = |named: &&Named| args.partition.is_none_or(|index| named.id.index == index);
        let chosen: Vec<_> = of_topics.iter().copied().filter(is_asked).cloned().collect();
        match (&args.topic, args.partition) {
            _ if !chosen.is_empty() => Ok(chosen),
            (Some(topic), _) if of_topics.is_empty() => {
                bail!("there is no topic {topic}; {}", self.known())
            }
            (Some(topic), Some(index)) => {
                let count = of_topics.len();
                bail!("topic {topic} has no partition {index}: it has {count}, from 0 on")
            }
            (None, Some(index)) => bail!("no topic has a partition {index}; {}", self.known()),
            (_, None) => Ok(chosen),
        }
    }

    /// How many bytes of batches partitions have, about.
    pub(super) fn bytes(&self, partitions: &[Named]) -> u64 {
        let stored = partitions.iter().filter_map(|named| self.offline.partition(named.id));
        stored.map(Stored::bytes).fold(0, u64::saturating_add)
    }

    fn known(&self) -> String {
        let mut topics: Vec<&str> = self.partitions.iter().map(|named| &*named.topic).collect();
        topics.dedup();
        match topics.as_slice() {
            [] => "there are no topics".to_owned(),
            topics => format!("there are: {}", topics.join(", ")),
        }
    }

    /// The file in which something lies.
    pub(super) fn at(&self, place: &Place) -> At {
        match place {
            Place::File { path } => At { file: path.clone(), position: 0 },
            Place::Blob { name, position } => {
                At { file: format!("blobs/{name}.blob"), position: *position }
            }
            Place::Journal { session, position } => {
                match self.journals.file_of(*session, *position) {
                    Some((file, position)) => At { file, position },
                    None => At {
                        file: format!("journal of session {session} (no such file any more)"),
                        position: position.0,
                    },
                }
            }
        }
    }

    pub(super) fn told(&self, finding: &Finding) -> Told {
        let topic = finding.partition.and_then(|id| {
            let named = self.partitions.iter().find(|named| named.id == id);
            named.map(|named| named.topic.to_string())
        });
        Told {
            harmless: finding.kind.is_harmless(),
            kind: finding.kind.name(),
            topic,
            partition: finding.partition.map(|id| id.index),
            first_offset: finding.offsets.as_ref().map(|offsets| offsets.start.0),
            last_offset: finding.offsets.as_ref().map(|offsets| offsets.end.0 - 1),
            at: finding.place.as_ref().map(|place| self.at(place)),
            found: finding.why.clone(),
            meaning: finding.kind.meaning(),
        }
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.id.index)
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.position)
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grade = if self.harmless { "note" } else { "damage" };
        write!(f, "{grade} {}", self.kind)?;
        if let (Some(topic), Some(index)) = (&self.topic, self.partition) {
            write!(f, ": {topic}-{index}")?;
        }
        if let (Some(first), Some(last)) = (self.first_offset, self.last_offset) {
            write!(f, ", offsets {}", range(first, last))?;
        }
        if let Some(at) = &self.at {
            write!(f, ", in {at}")?;
        }
        write!(f, "\n  found: {}\n  meaning: {}", self.found, self.meaning)
    }
}
