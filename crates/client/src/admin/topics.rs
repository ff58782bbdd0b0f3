//! Topics and their number of partitions.

use millstream_types::Uuid;
use millstream_wire::create_partitions_request::CreatePartitionsTopic;
use millstream_wire::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use millstream_wire::delete_topics_request::DeleteTopicState;
use millstream_wire::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, Request, StrBytes,
};

use super::{Admin, CHANGE_TIMEOUT_MS};
use crate::cluster::{Lane, Target};
use crate::error::Error;

/// A topic to be created.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewTopic {
    /// The name.
    pub name: String,
    /// How many partitions; the broker's default for `None`.
    pub partitions: Option<i32>,
    /// How many replicas of each; the broker's default for `None`.
    pub replicas: Option<i16>,
    /// Settings by name.
    pub configs: Vec<(String, String)>,
}

/// A topic that was created.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its identity; [`Uuid::NIL`] where the broker is too old to say.
    pub id: Uuid,
    /// How many partitions it has, if the broker says.
    pub partitions: Option<i32>,
    /// How many replicas each has, if the broker says.
    pub replicas: Option<i16>,
}

impl Admin {
    /// Creates a topic, or with `validate_only` checks whether it could be.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `TOPIC_ALREADY_EXISTS` or `INVALID_CONFIG`.
    pub async fn create_topic(
        &self,
        topic: &NewTopic,
        validate_only: bool,
    ) -> Result<CreatedTopic, Error> {
        let configs = topic.configs.iter().map(|(name, value)| CreatableTopicConfig {
            name: name.clone().into(),
            value: Some(value.clone().into()),
        });
        let request = CreateTopicsRequest {
            topics: vec![CreatableTopic {
                name: topic.name.clone().into(),
                num_partitions: topic.partitions.unwrap_or(-1),
                replication_factor: topic.replicas.unwrap_or(-1),
                configs: configs.collect(),
                ..Default::default()
            }],
            timeout_ms: CHANGE_TIMEOUT_MS,
            validate_only,
        };
        let what = format!("topic {}", topic.name);
        self.at_controller(&request, |answer| {
            let found = answer.topics.iter().find(|found| found.name == topic.name);
            let found = found.ok_or_else(|| missing(&what))?;
            Error::check(found.error_code, found.error_message.as_deref(), || what.clone())?;
            Ok(CreatedTopic {
                id: found.topic_id,
                partitions: (found.num_partitions >= 0).then_some(found.num_partitions),
                replicas: (found.replication_factor >= 0).then_some(found.replication_factor),
            })
        })
        .await
    }

    /// Deletes a topic with all its records.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        // Versions from 6 on use the first field, versions below it the second.
        let text = StrBytes::from(name.to_owned());
        let request = DeleteTopicsRequest {
            topics: vec![DeleteTopicState { name: Some(text.clone()), ..Default::default() }],
            topic_names: vec![text],
            timeout_ms: CHANGE_TIMEOUT_MS,
        };
        let what = format!("topic {name}");
        self.delete_request(&request, &what).await?;
        self.cluster.forget(&Target::Controller);
        Ok(())
    }

    async fn delete_request(&self, request: &DeleteTopicsRequest, what: &str) -> Result<(), Error> {
        let mut retry = self.cluster.retry(Target::Controller);
        loop {
            let attempt = async {
                let connection =
                    self.cluster.connection(&Target::Controller, Lane::Control).await?;
                let version = connection.version::<DeleteTopicsRequest>()?;
                let mut request = request.clone();
                if version < 6 {
                    request.topics.clear();
                }
                let answer = connection.call(&request, version).await?;
                let found = answer.responses.first().ok_or_else(|| missing(what))?;
                Error::check(found.error_code, found.error_message.as_deref(), || what.to_owned())
            };
            match attempt.await {
                Err(error) => retry.after(error).await?,
                done => return done,
            }
        }
    }

    /// Adds partitions to a topic until it has `count`.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `INVALID_PARTITIONS` when it has as many or more.
    pub async fn create_partitions(
        &self,
        name: &str,
        count: i32,
        validate_only: bool,
    ) -> Result<(), Error> {
        let topic =
            CreatePartitionsTopic { name: name.to_owned().into(), count, assignments: None };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            timeout_ms: CHANGE_TIMEOUT_MS,
            validate_only,
        };
        let what = format!("topic {name}");
        self.at_controller(&request, |answer| {
            let found = answer.results.first().ok_or_else(|| missing(&what))?;
            Error::check(found.error_code, found.error_message.as_deref(), || what.clone())
        })
        .await?;
        self.cluster.forget(&Target::Controller);
        Ok(())
    }

    /// Sends `request` to the controller until `read` finds no error that may go away.
    pub(super) async fn at_controller<R: Request, T>(
        &self,
        request: &R,
        read: impl Fn(&R::Response) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.at(Target::Controller, request, read).await
    }

    /// Sends `request` to `target` until `read` finds no error that may go away.
    pub(super) async fn at<R: Request, T>(
        &self,
        target: Target,
        request: &R,
        read: impl Fn(&R::Response) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut retry = self.cluster.retry(target.clone());
        loop {
            let answer = self.cluster.call(&target, Lane::Control, request).await;
            match answer.and_then(|answer| read(&answer)) {
                Err(error) => retry.after(error).await?,
                done => return done,
            }
        }
    }
}

/// The error for an answer that does not speak of what was asked about.
pub(super) fn missing(what: &str) -> Error {
    Error::Invalid(format!("{what}: the broker's answer does not mention it"))
}
