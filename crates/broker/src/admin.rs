//! Making, growing and deleting topics.

use std::sync::Arc;

use millstream_coordinator::cluster::{
    ClusterState, CreateError, Entry, NameError, NewTopic, Overrides, PartitionsError, Replication,
    check_name,
};
use millstream_coordinator::config::{ConfigError, Kind, validate_all};
use millstream_log::DeleteError as LogDeleteError;
use millstream_types::Offset;

use crate::host::LoadError;
use crate::metadata::{ChangeError, MetadataError};
use crate::topics::{OFFSETS_TOPIC, Topic, TopicRef, is_internal};
use crate::{Broker, Newest};

/// How a topic is set up that holds the newest state of things.
pub(crate) const COMPACTED: [(&str, &str); 1] = [("cleanup.policy", "compact")];

/// A topic that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TopicRequest {
    /// Its name.
    pub name: String,
    /// How many partitions; `None` for the broker's default.
    pub partitions: Option<i32>,
    /// How many replicas; `None` for the broker's default.
    pub replicas: Option<i16>,
    /// Partitions and replicas by hand, instead of the counts.
    pub assigned: Vec<(i32, Vec<i32>)>,
    /// Configuration; `None` is refused.
    pub configs: Vec<(String, Option<String>)>,
}

/// A topic as it is, or would be when only validated.
#[derive(Clone, Debug)]
pub struct DescribedTopic {
    /// The topic's identity; nil when it was only validated.
    pub id: millstream_types::TopicId,
    /// How many partitions.
    pub partitions: i32,
    /// How many replicas were asked for.
    pub replicas: i16,
    /// What differs from the defaults.
    pub overrides: Overrides,
}

/// Why a topic could not be made, grown or deleted.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// There is no such topic.
    #[error("there is no such topic")]
    NoTopic,
    /// It can't be made like that.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// Counts and an assignment by hand exclude each other.
    #[error("give either the numbers of partitions and replicas or an assignment, not both")]
    CountsAndAssignment,
    /// A configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Partitions can't be added like that.
    #[error(transparent)]
    Partitions(#[from] PartitionsError),
    /// There would be more partitions than `millstream.partitions.max`.
    #[error("there may be {most} partitions of all topics: see `millstream.partitions.max`")]
    TooManyPartitions {
        /// The most that there may be.
        most: usize,
    },
    /// `delete.topic.enable` is false.
    #[error("deleting topics is switched off by `delete.topic.enable`")]
    DeletionDisabled,
    /// The broker needs it itself.
    #[error("the topic is internal")]
    Internal,
    /// The metadata can't be written.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The groups can't be loaded.
    #[error(transparent)]
    Groups(LoadError),
}

/// Why records could not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// There is no such partition.
    #[error("there is no such partition")]
    NoPartition,
    /// The broker needs them itself.
    #[error("the topic is internal")]
    Internal,
    /// `cleanup.policy` has no `delete`.
    #[error("records can be deleted only from topics whose cleanup.policy has `delete`")]
    Policy,
    /// The log refused.
    #[error(transparent)]
    Log(#[from] LogDeleteError),
}

impl Broker {
    /// Whether a topic could have this name.
    ///
    /// # Errors
    ///
    /// Says why not.
    pub fn check_topic_name(&self, name: &str) -> Result<(), NameError> {
        check_name(name)
    }

    /// Makes a topic; when this returns it can be written and read. With `only_validate` nothing
    /// happens but the checks.
    ///
    /// # Errors
    ///
    /// Nothing was made then.
    pub async fn create_topic(
        &self,
        request: TopicRequest,
        only_validate: bool,
    ) -> Result<DescribedTopic, TopicError> {
        // First, as in Kafka: who makes sure that its topic is there takes "exists" for success,
        // whatever else it asks for would be refused.
        self.0.metadata.read(|state| state.check_new_name(&request.name))?;
        let new = self.new_topic(request)?;
        let most = self.config().partitions_max;
        if only_validate {
            let entry = self.0.metadata.read(|state| state.create_topic(new))?;
            self.0
                .metadata
                .read(|state| check_partitions(state, described(&entry).partitions, most))?;
            return Ok(DescribedTopic { id: millstream_types::Uuid::NIL, ..described(&entry) });
        }
        let command = move |state: &ClusterState| {
            let entry = state.create_topic(new)?;
            let described = described(&entry);
            check_partitions(state, described.partitions, most)?;
            Ok::<_, TopicError>((vec![entry], described))
        };
        Ok(self.change(command).await?)
    }

    /// Makes a topic that a client asked about, with the broker's defaults.
    ///
    /// # Errors
    ///
    /// As [`Broker::create_topic`].
    pub async fn auto_create(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        if name == OFFSETS_TOPIC {
            self.set_up_groups().await?;
        } else if is_internal(name) {
            return Err(TopicError::Internal);
        } else {
            let request = TopicRequest { name: name.to_owned(), ..TopicRequest::default() };
            match self.create_topic(request, false).await {
                // Somebody else was faster: that is what was wanted.
                Ok(_) | Err(TopicError::Create(CreateError::Exists)) => {}
                Err(error) => return Err(error),
            }
        }
        self.topic(TopicRef::Name(name)).ok_or(TopicError::NoTopic)
    }

    /// Deletes a topic with everything in it, and what groups have committed on it.
    ///
    /// # Errors
    ///
    /// Nothing was deleted then.
    pub async fn delete_topic(&self, topic: TopicRef<'_>) -> Result<Arc<Topic>, TopicError> {
        if !self.config().delete_topics {
            return Err(TopicError::DeletionDisabled);
        }
        let found = self.topic(topic).ok_or(TopicError::NoTopic)?;
        if found.internal {
            return Err(TopicError::Internal);
        }
        let id = found.id;
        let command = move |state: &ClusterState| match state.topic(id) {
            Some(_) => Ok((vec![Entry::TopicDeleted { id }], ())),
            None => Err(TopicError::NoTopic),
        };
        self.change(command).await?;
        // A topic that somebody makes anew must not find offsets of this one after a crash.
        self.0.life().groups.settle().await;
        Ok(found)
    }

    /// Raises the number of partitions of `name` to `total`.
    ///
    /// # Errors
    ///
    /// Nothing has changed then.
    pub async fn add_partitions(
        &self,
        name: &str,
        total: i32,
        assigned: Option<usize>,
        only_validate: bool,
    ) -> Result<(), TopicError> {
        if is_internal(name) {
            return Err(TopicError::Internal);
        }
        let (name, most) = (name.to_owned(), self.config().partitions_max);
        let command = move |state: &ClusterState| {
            let entry = state.add_partitions(&name, total, assigned)?;
            let present = state.named(&name).map_or(0, |topic| topic.partitions);
            check_partitions(state, total - present, most)?;
            Ok::<_, TopicError>((vec![entry], ()))
        };
        if only_validate {
            return self.0.metadata.read(command).map(|_| ());
        }
        Ok(self.change(command).await?)
    }

    /// Deletes the records of a partition before `before`; `None` for all that are visible.
    /// Returns the new log start, and what must be durable for it to stay.
    ///
    /// # Errors
    ///
    /// Nothing was deleted then.
    pub fn delete_records(
        &self,
        topic: &Topic,
        index: i32,
        before: Option<Offset>,
    ) -> Result<(Offset, Newest), DeleteError> {
        let partition = topic.partition(index).ok_or(DeleteError::NoPartition)?;
        if topic.internal {
            return Err(DeleteError::Internal);
        }
        if !topic.config.deletes {
            return Err(DeleteError::Policy);
        }
        let before = before.unwrap_or_else(|| partition.ends().high_watermark);
        let (log_start, end) = partition.delete_records(before)?;
        Ok((log_start, Newest::At(partition.session(), end)))
    }

    /// Makes an internal topic, unless it is there.
    pub(crate) async fn create_internal(
        &self,
        name: &str,
        partitions: i32,
        configs: &[(&str, &str)],
    ) -> Result<(), TopicError> {
        let configs = configs.iter();
        let configs = configs.map(|(name, value)| ((*name).to_owned(), Some((*value).to_owned())));
        let request = TopicRequest {
            name: name.to_owned(),
            partitions: Some(partitions),
            replicas: Some(1),
            configs: configs.collect(),
            ..TopicRequest::default()
        };
        match self.create_topic(request, false).await {
            Ok(_) | Err(TopicError::Create(CreateError::Exists)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn new_topic(&self, request: TopicRequest) -> Result<NewTopic, TopicError> {
        let overrides = overrides(request.configs)?;
        let config = self.config();
        let replication = if request.assigned.is_empty() {
            Replication::Counts {
                partitions: request.partitions.unwrap_or(config.num_partitions),
                replicas: request.replicas.unwrap_or(config.default_replication_factor),
            }
        } else if request.partitions.is_some() || request.replicas.is_some() {
            return Err(TopicError::CountsAndAssignment);
        } else {
            Replication::Assigned(request.assigned)
        };
        let id = self.env().uuid();
        Ok(NewTopic { name: request.name.into(), id, replication, overrides })
    }

    /// Changes the metadata and lets topics and log follow.
    pub(crate) async fn change<T, E>(
        &self,
        command: impl FnOnce(&ClusterState) -> Result<(Vec<Entry>, T), E> + Send + 'static,
    ) -> Result<T, ChangeError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        self.0.metadata.change(command).await
    }
}

fn overrides(configs: Vec<(String, Option<String>)>) -> Result<Overrides, ConfigError> {
    let mut overrides = Overrides::new();
    for (name, value) in configs {
        let value = value.ok_or_else(|| ConfigError::null(&name))?;
        overrides.insert(name, value);
    }
    validate_all(Kind::Topic, &overrides)?;
    Ok(overrides)
}

/// Whether so many partitions may be added.
fn check_partitions(state: &ClusterState, added: i32, most: usize) -> Result<(), TopicError> {
    let present: i64 = state.topics().map(|topic| i64::from(topic.partitions)).sum();
    let total = usize::try_from(present.saturating_add(i64::from(added))).unwrap_or(0);
    if total > most { Err(TopicError::TooManyPartitions { most }) } else { Ok(()) }
}

fn described(entry: &Entry) -> DescribedTopic {
    match entry {
        Entry::TopicCreated(topic) => DescribedTopic {
            id: topic.id,
            partitions: topic.partitions,
            replicas: topic.replication,
            overrides: topic.overrides.clone(),
        },
        _ => DescribedTopic {
            id: millstream_types::Uuid::NIL,
            partitions: 0,
            replicas: 0,
            overrides: Overrides::new(),
        },
    }
}

impl<E> From<ChangeError<E>> for TopicError
where
    Self: From<E>,
{
    fn from(error: ChangeError<E>) -> Self {
        match error {
            ChangeError::Refused(error) => error.into(),
            ChangeError::Metadata(error) => Self::Metadata(error),
        }
    }
}
