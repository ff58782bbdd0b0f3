//! Configurations of topics and brokers.

use millstream_wire::describe_configs_request::DescribeConfigsResource;
use millstream_wire::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use millstream_wire::{DescribeConfigsRequest, IncrementalAlterConfigsRequest, StrBytes};

use super::Admin;
use super::topics::missing;
use crate::cluster::Target;
use crate::error::Error;

/// What has a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// A topic.
    Topic(String),
    /// A broker.
    Broker(i32),
    /// All brokers' defaults.
    Brokers,
    /// A group.
    Group(String),
}

/// Where a value comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on the broker while it runs.
    Broker,
    /// Set for all brokers while they run.
    Brokers,
    /// Set when the broker was started.
    Start,
    /// Nobody has set it.
    Default,
    /// Set on the group.
    Group,
    /// Something that this client doesn't know, by its number.
    Other(i8),
}

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The name.
    pub name: String,
    /// The value; `None` when it is null or secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can't be changed.
    pub read_only: bool,
    /// Whether the value is kept secret.
    pub sensitive: bool,
}

/// One change of a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigChange {
    /// Sets the value.
    Set(String, String),
    /// Goes back to the default.
    Delete(String),
    /// Adds to a list.
    Append(String, String),
    /// Takes from a list.
    Subtract(String, String),
}

impl Resource {
    const fn kind(&self) -> i8 {
        match self {
            Self::Topic(_) => 2,
            Self::Broker(_) | Self::Brokers => 4,
            Self::Group(_) => 32,
        }
    }

    fn name(&self) -> StrBytes {
        match self {
            Self::Topic(name) | Self::Group(name) => name.clone().into(),
            Self::Broker(id) => id.to_string().into(),
            Self::Brokers => StrBytes::new(),
        }
    }

    /// Who knows it: brokers know themselves only.
    const fn target(&self) -> Target {
        match self {
            Self::Broker(id) => Target::Broker(*id),
            Self::Topic(_) | Self::Brokers | Self::Group(_) => Target::Any,
        }
    }
}

impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Topic(name) => write!(f, "topic {name}"),
            Self::Broker(id) => write!(f, "broker {id}"),
            Self::Brokers => f.write_str("all brokers"),
            Self::Group(name) => write!(f, "group {name}"),
        }
    }
}

impl ConfigSource {
    const fn from_number(number: i8) -> Self {
        match number {
            1 => Self::Topic,
            2 => Self::Broker,
            3 => Self::Brokers,
            4 => Self::Start,
            5 => Self::Default,
            8 => Self::Group,
            other => Self::Other(other),
        }
    }
}

impl ConfigChange {
    fn encode(&self) -> AlterableConfig {
        let (config_operation, name, value) = match self {
            Self::Set(name, value) => (0, name, Some(value)),
            Self::Delete(name) => (1, name, None),
            Self::Append(name, value) => (2, name, Some(value)),
            Self::Subtract(name, value) => (3, name, Some(value)),
        };
        let value = value.map(|value| value.clone().into());
        AlterableConfig { name: name.clone().into(), config_operation, value }
    }
}

impl Admin {
    /// All settings of a resource, by name.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `UNKNOWN_TOPIC_OR_PARTITION`.
    pub async fn describe_configs(&self, of: &Resource) -> Result<Vec<ConfigEntry>, Error> {
        let request = DescribeConfigsRequest {
            resources: vec![DescribeConfigsResource {
                resource_type: of.kind(),
                resource_name: of.name(),
                configuration_keys: None,
            }],
            ..Default::default()
        };
        self.at(of.target(), &request, |answer| {
            let found = answer.results.first().ok_or_else(|| missing(&of.to_string()))?;
            Error::check(found.error_code, found.error_message.as_deref(), || of.to_string())?;
            let entries = found.configs.iter().map(|entry| ConfigEntry {
                name: entry.name.as_str().to_owned(),
                value: entry.value.as_deref().map(str::to_owned),
                source: ConfigSource::from_number(entry.config_source),
                read_only: entry.read_only,
                sensitive: entry.is_sensitive,
            });
            let mut entries: Vec<_> = entries.collect();
            entries.sort_by(|a, b| a.name.cmp(&b.name));
            Ok(entries)
        })
        .await
    }

    /// Changes settings of a resource, all or none, or with `validate_only` checks whether that
    /// could be done.
    ///
    /// # Errors
    ///
    /// [`Error::Refused`], for example with `INVALID_CONFIG`.
    pub async fn alter_configs(
        &self,
        of: &Resource,
        changes: &[ConfigChange],
        validate_only: bool,
    ) -> Result<(), Error> {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![AlterConfigsResource {
                resource_type: of.kind(),
                resource_name: of.name(),
                configs: changes.iter().map(ConfigChange::encode).collect(),
            }],
            validate_only,
        };
        let target = match of {
            Resource::Broker(_) => of.target(),
            Resource::Topic(_) | Resource::Brokers | Resource::Group(_) => Target::Controller,
        };
        self.at(target, &request, |answer| {
            let found = answer.responses.first().ok_or_else(|| missing(&of.to_string()))?;
            Error::check(found.error_code, found.error_message.as_deref(), || of.to_string())
        })
        .await
    }
}
