//! Commands on topics: each looks at the state and yields the entry that would carry it out.

use std::fmt;
use std::sync::Arc;

use millstream_types::TopicId;

use super::{ClusterState, Entry, NameError, Overrides, TopicState, check_name};

/// The most partitions of one topic: what a single request may make the node do.
const PARTITIONS_MAX: i32 = 100_000;

/// How a topic is spread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replication {
    /// This many partitions and replicas. Any number of replicas is accepted: the store below
    /// provides durability.
    Counts {
        /// Partitions, at least one.
        partitions: i32,
        /// Replicas, at least one.
        replicas: i16,
    },
    /// Partitions with their replicas, by hand.
    Assigned(Vec<(i32, Vec<i32>)>),
}

/// A topic to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTopic {
    /// Its name.
    pub name: Arc<str>,
    /// A fresh identity.
    pub id: TopicId,
    /// How it is spread.
    pub replication: Replication,
    /// Its overrides, already validated.
    pub overrides: Overrides,
}

/// Why a topic can't be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// It can't be called that.
    Name(NameError),
    /// There is one of that name.
    Exists,
    /// There is one whose name differs only in `.` and `_`; says which.
    Collides(Arc<str>),
    /// No such number of partitions.
    Partitions(i32),
    /// No such number of replicas.
    Replicas(i16),
    /// The assignment by hand is not one; says why.
    Assignment(&'static str),
}

/// Why partitions can't be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartitionsError {
    /// There is no such topic.
    NoTopic,
    /// The new count is not above the present one.
    NotMore {
        /// How many there are.
        present: i32,
    },
    /// More than are allowed.
    TooMany,
    /// The assignment by hand does not name the new partitions one by one.
    Assignment,
}

impl ClusterState {
    /// Whether a topic of this name could be created: what a client is told before anything else
    /// that may be wrong with its topic.
    ///
    /// # Errors
    ///
    /// [`CreateError::Name`], [`CreateError::Exists`] or [`CreateError::Collides`].
    pub fn check_new_name(&self, name: &str) -> Result<(), CreateError> {
        check_name(name).map_err(CreateError::Name)?;
        if self.named(name).is_some() {
            return Err(CreateError::Exists);
        }
        match self.colliding(name) {
            Some(other) => Err(CreateError::Collides(Arc::clone(other))),
            None => Ok(()),
        }
    }

    /// Creates a topic.
    ///
    /// # Errors
    ///
    /// Nothing is created then.
    pub fn create_topic(&self, new: NewTopic) -> Result<Entry, CreateError> {
        self.check_new_name(&new.name)?;
        let (partitions, replication) = counts(&new.replication)?;
        Ok(Entry::TopicCreated(TopicState {
            name: new.name,
            id: new.id,
            partitions,
            replication,
            created: self.session(),
            overrides: new.overrides,
        }))
    }

    /// Raises the number of partitions to `total`; `assigned` is the number of partitions that an
    /// assignment by hand names, if there is one.
    ///
    /// # Errors
    ///
    /// Nothing changes then.
    pub fn add_partitions(
        &self,
        name: &str,
        total: i32,
        assigned: Option<usize>,
    ) -> Result<Entry, PartitionsError> {
        let topic = self.named(name).ok_or(PartitionsError::NoTopic)?;
        if total <= topic.partitions {
            return Err(PartitionsError::NotMore { present: topic.partitions });
        }
        if total > PARTITIONS_MAX {
            return Err(PartitionsError::TooMany);
        }
        let added = usize::try_from(total - topic.partitions).unwrap_or_default();
        if assigned.is_some_and(|assigned| assigned != added) {
            return Err(PartitionsError::Assignment);
        }
        Ok(Entry::PartitionsSet { id: topic.id, partitions: total })
    }
}

fn counts(replication: &Replication) -> Result<(i32, i16), CreateError> {
    match replication {
        Replication::Counts { partitions, .. } if !(1..=PARTITIONS_MAX).contains(partitions) => {
            Err(CreateError::Partitions(*partitions))
        }
        Replication::Counts { replicas, .. } if *replicas < 1 => {
            Err(CreateError::Replicas(*replicas))
        }
        Replication::Counts { partitions, replicas } => Ok((*partitions, *replicas)),
        Replication::Assigned(partitions) => assigned(partitions),
    }
}

fn assigned(partitions: &[(i32, Vec<i32>)]) -> Result<(i32, i16), CreateError> {
    let mut numbers: Vec<i32> = partitions.iter().map(|(number, _)| *number).collect();
    numbers.sort_unstable();
    let count = i32::try_from(numbers.len()).unwrap_or(i32::MAX);
    if !(1..=PARTITIONS_MAX).contains(&count) {
        return Err(CreateError::Partitions(count));
    }
    if !numbers.iter().copied().eq(0..count) {
        return Err(CreateError::Assignment("the partitions must be numbered from 0 without gaps"));
    }
    let replicas = partitions.first().map_or(0, |(_, replicas)| replicas.len());
    for (_, named) in partitions {
        let mut distinct = named.clone();
        distinct.sort_unstable();
        distinct.dedup();
        if named.is_empty() || distinct.len() != named.len() {
            return Err(CreateError::Assignment("a partition names no replica, or one twice"));
        }
        if named.len() != replicas {
            return Err(CreateError::Assignment(
                "the partitions differ in their number of replicas",
            ));
        }
    }
    Ok((count, i16::try_from(replicas).unwrap_or(i16::MAX)))
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(error) => error.fmt(f),
            Self::Exists => f.write_str("the topic already exists"),
            Self::Collides(other) => {
                write!(f, "the name differs from that of `{other}` only in `.` and `_`")
            }
            Self::Partitions(count) => {
                write!(f, "a topic has 1 to {PARTITIONS_MAX} partitions, not {count}")
            }
            Self::Replicas(count) => write!(f, "a topic has at least 1 replica, not {count}"),
            Self::Assignment(why) => f.write_str(why),
        }
    }
}

impl fmt::Display for PartitionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTopic => f.write_str("there is no topic of that name"),
            Self::NotMore { present } => {
                write!(f, "the topic has {present} partitions; there can only be more")
            }
            Self::TooMany => write!(f, "a topic has at most {PARTITIONS_MAX} partitions"),
            Self::Assignment => f.write_str("the assignment must name each new partition once"),
        }
    }
}

impl std::error::Error for CreateError {}
impl std::error::Error for PartitionsError {}
